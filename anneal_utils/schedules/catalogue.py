"""The catalogue: every schedule by name, normalised to its largest rate and its horizon."""

import inspect
import itertools
import math
from collections.abc import Iterable

from anneal_utils import _backend, _checks
from anneal_utils.registry import Registry
from anneal_utils.schedules import _parts
from anneal_utils.schedules._parts import fraction, steps_of
from anneal_utils.schedules.combinators import Floor, Hold, Sequential, Warmup
from anneal_utils.schedules.shapes import (
    Cyclical,
    InverseSquareRoot,
    OneCycle,
    Power,
    Rex,
    Sigmoid,
    WarmupStableDecay,
)

import numpy as np
from keras.optimizers import schedules as keras_schedules

registry = Registry("schedule")
unregister = registry.unregister
names = registry.names
origin = registry.origin
describe = registry.describe


def register(name: str, *, overwrite: bool = False):
    """Decorator: add ``function(peak, steps, **knobs) -> LearningRateSchedule`` as ``name``.

    It then appears in ``names()``, the grids, the benchmark and the plots, with ``warmup=`` like
    every other. Knobs need defaults. The first line of its docstring is its description. Run
    again, as a notebook cell, it replaces itself; ``ValueError`` for any other name that is taken,
    unless ``overwrite``.
    """
    return registry.register(name, overwrite=overwrite, depth=2)


def build(
    name: str, peak: float, steps: int, *, warmup=None, convention: str | None = None, **knobs
) -> Hold:
    """The schedule ``name`` with largest rate ``peak`` over the horizon of ``steps`` steps.

    ``steps`` counts optimizer steps 0 .. ``steps`` - 1, one for each batch that ``fit`` trains on,
    also under gradient accumulation: take it from :func:`horizon`, which counts as ``fit`` does.
    ``peak`` is applied at one of these steps (by PyTorch's convention it may lie between two). A
    decay reaches its end, zero for most, at step
    ``steps``, one after the last: no step is wasted on a rate of 0. Whatever the schedule, it
    holds its value of step ``steps`` for ever after.

    >>> rate = build("linear", peak=0.1, steps=horizon(63, batch_size=32, epochs=2))
    >>> [round(float(rate(step)), 3) for step in range(6)]
    [0.1, 0.075, 0.05, 0.025, 0.0, 0.0]

    ``warmup``: share of the horizon in [0, 1), or a whole number of steps, that rises linearly
    first, *inside* the horizon: W = round(share x ``steps``), at least one. Step 0 has rate
    peak / (W + 1), and the schedule itself takes steps W .. ``steps``. (The warmup of a triangular
    cycle ends at the cycle's low: the first rate takes the place of the peak.) ``one_cycle`` rises
    by itself: there ``warmup`` is another word for its knob ``rise``, and 0 means none.

    ``convention``: the end points of another library, where they differ. ``"huggingface"`` (also
    timm's and optax's): a warmup from 0, so that the first step has rate 0. ``"pytorch"``: a
    warmup from a third, as ``LinearLR`` has it, and ``one_cycle`` as ``OneCycleLR``, whose peak and
    end are a step earlier. :func:`equivalents` gives the calls.

    ``knobs`` are the keyword arguments of the registered function. ``end`` is always the share
    of the peak left at the horizon, ``low`` the share of the peak between cycles, ``cycles`` how
    many of them. Shares of a horizon become steps by the one rule above; a knob's is one of the
    steps that the warmup leaves. ``ValueError`` names a knob that ``name`` does not take and those
    it takes.
    """
    function = registry[name]
    peak = _checks.number("peak", peak, low=0, high=1e30, open_low=True)  # float32 ends at 3e38
    steps = _checks.count("steps", steps)
    if steps > 2**31:
        _checks.fail("steps", steps, "must be <= 2 ** 31: whole numbers are exact that far")
    if steps == 2**31 and _backend.STEP == "int32":
        _checks.fail("steps", steps, "must be < 2 ** 31 where whole numbers have 32 bits, as here")
    if convention is not None:
        _checks.choice("convention", convention, ("pytorch", "huggingface"))
    parameters = list(inspect.signature(function).parameters.values())[2:]
    known = [p.name for p in parameters if p.name != "convention"]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for knob in knobs:
            if knob not in known:
                allowed = ", ".join(known) or "no knobs"
                _checks.fail("knob", knob, f"schedule {name!r} takes {allowed}")
    if function is _one_cycle:
        if warmup is not None:
            if "rise" in knobs:
                _checks.fail("warmup", warmup, "is one_cycle's rise; give one of the two")
            _parts.rise_of("warmup", warmup, steps)
            knobs["rise"], warmup = warmup, None
        if convention == "pytorch":
            knobs["convention"] = convention
    rise = 0 if warmup is None else _parts.rise_of("warmup", warmup, steps)
    try:
        made = function(peak, steps - rise, **knobs)
    except ValueError as error:
        if not rise:
            raise
        left = f"warmup = {warmup!r} leaves {steps - rise} of {steps} steps"
        raise ValueError(f"{str(error).rstrip('.')} ({left}).") from None
    schedule = _parts.check_schedule(f"schedule {name!r}", made)
    if rise:
        first = _parts.at(schedule, 0)
        start = {None: first / (rise + 1), "pytorch": first / 3, "huggingface": 0.0}[convention]
        schedule = Warmup(schedule, rise, start=start)
    return Hold(schedule, steps)


@register("constant")
def _constant(peak, steps):
    """peak: the same rate at every step (the baseline of every comparison)."""
    return keras_schedules.PolynomialDecay(peak, steps, end_learning_rate=peak)


@register("step")
def _step_decay(peak, steps, drops=4, factor=0.5, milestones=None):
    """peak * factor ** floor((drops + 1) t / T): equally spaced drops (after He et al. 2016)."""
    factor = _checks.number("factor", factor, low=0, high=1, open_low=True)
    if milestones is not None:  # shares of the horizon, in place of equal spaces
        starts = _milestones(milestones, steps)
    else:
        drops = _checks.count("drops", drops)
        if drops >= steps:
            _checks.fail("drops", drops, f"must be < steps = {steps}")
        starts = [-(-steps * k // (drops + 1)) for k in range(1, drops + 1)]
    # Keras changes the rate one step after the boundary: start - 1 drops at start.
    return keras_schedules.PiecewiseConstantDecay(
        [start - 1 for start in starts], [peak * factor**k for k in range(len(starts) + 1)]
    )


def _milestones(milestones, steps: int) -> list[int]:
    """The steps at which to drop, from shares of the horizon."""
    rule = f"must be shares of the horizon that increase, each a step of {steps} of its own"
    if isinstance(milestones, str) or not isinstance(milestones, Iterable):
        _checks.fail("milestones", milestones, rule)
    starts = [steps_of(_parts.share("milestones", share), steps) for share in milestones]
    if not starts or starts != sorted({*starts} - {0, steps}):
        _checks.fail("milestones", milestones, rule)
    return starts


@register("exponential")
def _exponential(peak, steps, end=0.01, floor=0.0):
    """peak * end ** (t / T) (common practice; its staircase: Ge et al. 2019)."""
    end = _checks.number("end", end, low=0, high=1, open_low=True)
    decay = keras_schedules.ExponentialDecay(peak, steps, end)
    return Floor(decay, peak * floor) if fraction("floor", floor) else decay


@register("inverse_time")
def _inverse_time(peak, steps, end=0.01):
    """peak / (1 + (1 / end - 1) t / T) (after Robbins & Monro 1951)."""
    end = _checks.number("end", end, low=1e-30, high=1)
    return keras_schedules.InverseTimeDecay(peak, steps, 1 / end - 1)


@register("inverse_sqrt")
def _inverse_sqrt(peak, steps, timescale=0.05):
    """peak / sqrt(1 + t / (timescale T)) (Vaswani et al. 2017, without their warmup)."""
    return InverseSquareRoot(peak, _checks.positive("timescale", timescale) * steps)


@register("polynomial")
def _polynomial(peak, steps, power=2.0, end=0.0):
    """peak * (end + (1 - end) (1 - t / T) ** power) (Chen et al. 2017: power 0.9)."""
    power = _checks.positive("power", power)
    return keras_schedules.PolynomialDecay(peak, steps, peak * fraction("end", end), power)


@register("linear")
def _linear(peak, steps, end=0.0):
    """peak * (end + (1 - end) (1 - t / T)) (Defazio et al. 2023: optimal in the worst case)."""
    return keras_schedules.PolynomialDecay(peak, steps, peak * fraction("end", end), 1.0)


@register("cosine")
def _cosine(peak, steps, end=0.0):
    """peak * (end + (1 - end) (1 + cos(pi t / T)) / 2) (Loshchilov & Hutter 2017)."""
    return keras_schedules.CosineDecay(peak, steps, alpha=fraction("end", end))


@register("sigmoid")
def _sigmoid(peak, steps, end=0.0, steepness=10.0, middle=0.5):
    """1 / (1 + exp(steepness (t / T - middle))), from peak to end (after Nakamura et al. 2021)."""
    return Sigmoid(peak, steps, peak * fraction("end", end), steepness, middle)


@register("wsd")
def _wsd(peak, steps, cooldown=0.2, shape="linear", end=0.0):
    """peak, then a fall to end over the last share ``cooldown`` of T (Hägele et al. 2024)."""
    return WarmupStableDecay(peak, steps, cooldown, 0.0, shape, peak * fraction("end", end))


@register("power")
def _power(peak, steps, exponent=0.51, hold=0.1, cooldown=0.2, shape="linear", end=0.0):
    """min(peak, peak (t / (hold T)) ** -exponent), then down to end (after Shen et al. 2024)."""
    hold = _checks.number("hold", hold, low=0, high=1, open_low=True)
    return Power(peak, steps, hold * steps, exponent, cooldown, shape, peak * fraction("end", end))


def _cycle(steps, cycles, rise) -> dict:
    """Period and rising steps: the smallest even period of which ``cycles`` fill the horizon.

    Even, so that the apex of equal halves is a step.
    """
    cycles = _checks.count("cycles", cycles)
    if 2 * cycles > steps:
        _checks.fail("cycles", cycles, f"must be <= steps / 2 = {steps // 2}")
    period = 2 * math.ceil(steps / (2 * cycles))
    rise = _checks.number("rise", rise, low=0, open_low=True)
    if rise >= 1:
        _checks.fail("rise", rise, "must be a share of the cycle in (0, 1)")
    # The apex is a step of the horizon, which may end one step before the only cycle does.
    up = min(steps_of(rise, period), period - 1, steps - 1)
    return dict(period=period, up=None if 2 * up == period else up)


@register("triangular")
def _triangular(peak, steps, cycles=3, low=0.1, rise=0.5):
    """low + (1 - low) (1 - |2 u - 1|), times peak; u: place in the cycle, 0 to 1 (Smith 2017)."""
    return Cyclical(fraction("low", low) * peak, peak, **_cycle(steps, cycles, rise))


@register("triangular2")
def _triangular2(peak, steps, cycles=3, low=0.1, rise=0.5):
    """Triangles from low to peak whose height is halved after each cycle (Smith 2017)."""
    cycle = _cycle(steps, cycles, rise)
    return Cyclical(fraction("low", low) * peak, peak, **cycle, amplitude="halved")


@register("exp_range")
def _exp_range(peak, steps, cycles=3, low=0.1, end=0.1, rise=0.5):
    """Triangles over low whose height shrinks as end ** (t / T), the highest at peak (Smith 2017).

    Smith's own begin to shrink at step 0, so that no step has his ``max_lr``: here that rate is
    set above ``peak`` by as much as the highest step has lost.
    """
    end = _checks.number("end", end, low=0, high=1, open_low=True)
    low, cycle, gamma = fraction("low", low) * peak, _cycle(steps, cycles, rise), end ** (1 / steps)
    # The highest step is the apex, or lies before it where the rise is lost again on the way up.
    up = cycle["up"] or cycle["period"] // 2
    turn = min(up, -1 / math.log(gamma)) if gamma < 1 else up
    height = max(max(1, done) / up * gamma ** max(1, done) for done in (int(turn), math.ceil(turn)))
    high = low + (peak - low) / height
    return Cyclical(low, high, **cycle, amplitude="exp_range", gamma=gamma)


@register("cosine_restarts")
def _cosine_restarts(peak, steps, cycles=3, end=0.0, growth=1.0, decay=1.0):
    """The cosine decay ``cycles`` times over, each ``growth`` times longer (SGDR, L&H 2017).

    The peaks shrink by the factor ``decay``, down to end at the least.
    """
    cycles, end = _checks.count("cycles", cycles), fraction("end", end)
    growth = _checks.number("growth", growth, low=1)
    decay = _checks.number("decay", decay, low=0, high=1, open_low=True)
    if cycles * math.log(growth) > 600:
        _checks.fail("growth", growth, f"must leave a step to each of {cycles} cycles")
    lengths = np.cumsum(growth ** np.arange(cycles))
    starts = [0, *(steps_of(float(x / lengths[-1]), steps) for x in lengths)]
    decays = [stop - start for start, stop in itertools.pairwise(starts)]
    if min(decays) < 1:
        _checks.fail("cycles", cycles, f"must leave a step to each cycle of {steps} steps")
    if decay ** (cycles - 1) < max(end * (1 - 1e-9), 1e-30):
        _checks.fail("decay", decay, f"must leave the last of {cycles} peaks above end = {end!r}")
    heights = [decay**cycle for cycle in range(cycles)]
    # Not CosineDecayRestarts, which restarts a step late at some periods (in a graph, see
    # _parts.cycle_and_rest), and which cannot end a last, shorter cycle at the horizon.
    return Sequential(
        [
            keras_schedules.CosineDecay(peak * height, length, alpha=min(end / height, 1.0))
            for height, length in zip(heights, decays, strict=True)
        ],
        starts[1:-1],
    )


@register("one_cycle")
def _one_cycle(
    peak,
    steps,
    rise=0.3,
    shape="cosine",
    start_divisor=25.0,
    final_divisor=1e4,
    tail=0.0,
    convention="optax",
):
    """From peak / start_divisor up to peak at rise T, then almost to 0 (Smith & Topin 2018)."""
    _checks.count("steps", steps, low=2)
    _parts.rise_of("rise", rise, steps)
    return OneCycle(peak, steps, rise, shape, start_divisor, final_divisor, tail, convention)


@register("rex")
def _rex(peak, steps):
    """peak * (1 - t / T) / (1 - t / (2 T)) (Chen, Wolfe & Kyrillidis 2021)."""
    return Rex(peak, steps)
