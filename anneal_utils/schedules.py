"""The schedules that Keras lacks, and a catalogue of all of them normalised to peak and horizon.

A schedule is a pure function of the optimizer step: asked twice, in any order, on a number or a
vector of steps, from a plot or inside ``tf.function``, it gives the same rate. What Keras has
(exponential, piecewise constant, inverse time, polynomial, cosine, restarts) is used, not
rewritten. Every class here saves and loads inside a ``.keras`` model.

``build(name, peak, steps)`` gives any schedule of the catalogue; ``names()`` lists them;
``@register("name")`` adds one. Taught in notebooks 02 to 06.
"""

import inspect
import math
import numbers
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules as keras_schedules

from anneal_utils import _checks

ops = keras.ops
Schedule = keras_schedules.LearningRateSchedule
_serializable = keras.saving.register_keras_serializable("anneal_utils")


def _step(step):
    """``step`` (any integer or float, scalar or vector) as float32."""
    return ops.cast(step, "float32")


class _Configured(Schedule):
    """A schedule whose constructor arguments are its attributes: that is its configuration."""

    def get_config(self):
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}


# ----------------------------------------------------------------------------- new schedules


@_serializable
class Cyclical(_Configured):
    """Cycles between ``low`` and ``high``, ``period`` steps each (Smith, WACV 2017).

    ``shape``: ``"triangle"`` rises for half a period and falls for half; ``"step"``,
    ``"exponential"`` and ``"cosine"`` jump to ``high`` and decay to ``low`` inside each cycle
    (``"step"`` in ``stairs`` equal treads). ``amplitude``: ``"constant"`` (triangular),
    ``"halved"`` after every cycle (triangular2) or ``"exp_range"`` (times ``gamma ** step``).
    An exponential decay needs ``low`` > 0. Notebook 04.
    """

    def __init__(
        self, low, high, period, shape="triangle", amplitude="constant", gamma=1.0, stairs=4
    ):
        self.low = _checks.number("low", low, low=0)
        self.high = _checks.positive("high", high)
        if self.low > self.high:
            _checks.fail("low", low, f"must be <= high = {high!r}")
        self.period = _checks.count("period", period, low=2)
        self.shape = _checks.choice("shape", shape, ("triangle", "step", "exponential", "cosine"))
        if shape == "exponential" and self.low == 0:
            _checks.fail("low", low, 'must be > 0 with shape="exponential"')
        self.amplitude = _checks.choice("amplitude", amplitude, ("constant", "halved", "exp_range"))
        self.gamma = _checks.number("gamma", gamma, low=0, high=1, open_low=True)
        self.stairs = _checks.count("stairs", stairs, low=2)

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        cycle = ops.floor(step / self.period)
        u = step / self.period - cycle  # position inside the cycle, [0, 1)
        if self.shape == "triangle":
            height = 1 - ops.abs(2 * u - 1)
        elif self.shape == "step":
            height = 1 - ops.floor(u * self.stairs) / (self.stairs - 1)
        elif self.shape == "exponential":
            ratio = self.low / self.high
            height = (ops.power(ratio, u) - ratio) / (1 - ratio) if ratio < 1 else 0 * u
        else:
            height = 0.5 * (1 + ops.cos(math.pi * u))
        if self.amplitude == "halved":
            height = height * ops.power(0.5, cycle)
        elif self.amplitude == "exp_range":
            height = height * ops.power(self.gamma, step)
        return self.low + (self.high - self.low) * height


@_serializable
class OneCycle(_Configured):
    """One rise to ``peak`` and one fall far below the start (Smith & Topin 2018).

    The rise takes ``warmup`` of ``steps``, from ``peak / start_divisor``; the fall ends at
    ``peak / start_divisor / final_divisor`` at step ``steps``. The peak is reached at step
    ``warmup * steps``: optax's and fastai's convention (PyTorch's is one step earlier).
    ``shape``: ``"cosine"`` or ``"linear"``. Notebook 04.
    """

    def __init__(
        self, peak, steps, warmup=0.3, shape="cosine", start_divisor=25.0, final_divisor=1e4
    ):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps, low=2)
        self.warmup = _share("warmup", warmup)
        self.shape = _checks.choice("shape", shape, ("cosine", "linear"))
        self.start_divisor = _checks.number("start_divisor", start_divisor, low=1)
        self.final_divisor = _checks.number("final_divisor", final_divisor, low=1)

    def __call__(self, step):
        """The rate at ``step``."""
        step = ops.minimum(_step(step), float(self.steps))
        top = int(self.warmup * self.steps)
        start = self.peak / self.start_divisor
        final = start / self.final_divisor
        rise = ops.minimum(step / max(top, 1), 1.0)
        fall = ops.maximum(step - top, 0.0) / (self.steps - top)
        if self.shape == "cosine":
            rise, fall = (0.5 * (1 - ops.cos(math.pi * u)) for u in (rise, fall))
        up = start + (self.peak - start) * rise
        down = self.peak + (final - self.peak) * fall
        return ops.where(step < top, up, down)


@_serializable
class WarmupStableDecay(_Configured):
    """Linear warmup, a plateau at ``peak``, then a cooldown to ``end`` (Hägele et al. 2024).

    ``cooldown`` is the share of ``steps`` spent going down; ``warmup`` the share going up (the
    first step has rate ``peak / (W + 1)``). ``shape`` of the cooldown: ``"linear"``, ``"sqrt"``
    (1 - sqrt(u)) or ``"cosine"``. Notebook 06.
    """

    def __init__(self, peak, steps, cooldown=0.2, warmup=0.0, shape="linear", end=0.0):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)
        self.cooldown = _checks.number("cooldown", cooldown, low=0, high=1, open_low=True)
        self.warmup = _share("warmup", warmup)
        if self.warmup + self.cooldown > 1:
            _checks.fail("warmup", warmup, f"must leave room for cooldown = {cooldown!r}")
        self.shape = _checks.choice("shape", shape, ("linear", "sqrt", "cosine"))
        self.end = _checks.number("end", end, low=0, high=self.peak)

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        rise = round(self.warmup * self.steps)
        fall = max(1, round(self.cooldown * self.steps))
        u = ops.clip((step - (self.steps - fall)) / fall, 0.0, 1.0)
        if self.shape == "linear":
            height = 1 - u
        elif self.shape == "sqrt":
            height = 1 - ops.sqrt(u)
        else:
            height = 0.5 * (1 + ops.cos(math.pi * u))
        rate = self.end + (self.peak - self.end) * height
        return rate * ops.minimum((step + 1) / (rise + 1), 1.0) if rise else rate


@_serializable
class Sigmoid(_Configured):
    """A falling S-curve from exactly ``peak`` at step 0 to exactly ``end`` at ``steps``.

    s(u) = 1 / (1 + exp(steepness (u - middle))), rescaled to its end points. After Nakamura et
    al., Electronics 2021; the parametrisation is this project's. Notebooks 03 and 06.
    """

    def __init__(self, peak, steps, end=0.0, steepness=10.0, middle=0.5):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)
        self.end = _checks.number("end", end, low=0, high=self.peak)
        self.steepness = _checks.number("steepness", steepness, low=0, high=80, open_low=True)
        self.middle = _checks.number("middle", middle, low=0, high=1)

    def __call__(self, step):
        """The rate at ``step``."""
        u = ops.clip(_step(step) / self.steps, 0.0, 1.0)
        first, last = (1 / (1 + math.exp(self.steepness * (x - self.middle))) for x in (0, 1))
        s = ops.sigmoid(self.steepness * (self.middle - u))
        return self.end + (self.peak - self.end) * ops.clip((s - last) / (first - last), 0.0, 1.0)


@_serializable
class InverseSquareRoot(_Configured):
    """``peak * sqrt(timescale / (timescale + step))``: half the rate after 3 timescales.

    The decay of Vaswani et al. 2017 without its warmup (put ``Warmup`` around it). Notebook 03.
    """

    def __init__(self, peak, timescale):
        self.peak = _checks.positive("peak", peak)
        self.timescale = _checks.positive("timescale", timescale)

    def __call__(self, step):
        """The rate at ``step``."""
        return self.peak / ops.sqrt(1 + _step(step) / self.timescale)


@_serializable
class Power(_Configured):
    """``peak * (1 + step / timescale) ** -exponent``: the power law.

    Exponent 1 is inverse time, 1/2 inverse square root. Notebook 03.
    """

    def __init__(self, peak, timescale, exponent=0.75):
        self.peak = _checks.positive("peak", peak)
        self.timescale = _checks.positive("timescale", timescale)
        self.exponent = _checks.number("exponent", exponent, low=0)

    def __call__(self, step):
        """The rate at ``step``."""
        return self.peak * ops.power(1 + _step(step) / self.timescale, -self.exponent)


@_serializable
class Rex(_Configured):
    """``peak * (1 - u) / (1 - u / 2)``, u = step / steps (Chen, Wolfe & Kyrillidis 2021).

    Above the linear decay all the way, zero at the end. Notebook 03.
    """

    def __init__(self, peak, steps):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)

    def __call__(self, step):
        """The rate at ``step``."""
        u = ops.clip(_step(step) / self.steps, 0.0, 1.0)
        return self.peak * (1 - u) / (1 - 0.5 * u)


class _Composed(_Configured):
    """A schedule made of schedules: they are serialised with it."""

    def get_config(self):
        """Configuration, inner schedules included."""
        return {
            name: keras.saving.serialize_keras_object(value)
            if name in ("schedule", "schedules")
            else value
            for name, value in super().get_config().items()
        }

    @classmethod
    def from_config(cls, config):
        """The schedule from its configuration."""
        inner = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("schedule", "schedules")
            if name in config
        }
        return cls(**{**config, **inner})


@_serializable
class Warmup(_Composed):
    """A rise to ``schedule``'s first rate during ``steps``, then ``schedule``, shifted.

    ``start`` is the rate at step 0. ``shape`` of the rise g(u): ``"linear"`` u, ``"polynomial"``
    u ** power, ``"sine"`` sin(pi u / 2), ``"exponential"`` geometric (``start`` > 0). As in
    Keras's ``CosineDecay(warmup_target=...)`` the warmup comes before the schedule's own steps.
    Notebook 06.
    """

    def __init__(self, schedule, steps, shape="linear", start=0.0, power=2.0):
        if not isinstance(schedule, Schedule):
            _checks.fail("schedule", schedule, "must be a Keras LearningRateSchedule")
        self.schedule = schedule
        self.steps = _checks.count("steps", steps)
        self.shape = _checks.choice("shape", shape, ("linear", "polynomial", "sine", "exponential"))
        self.start = _checks.number("start", start, low=0)
        if shape == "exponential" and self.start == 0:
            _checks.fail("start", start, 'must be > 0 with shape="exponential"')
        self.power = _checks.positive("power", power)

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        target = ops.cast(self.schedule(ops.zeros_like(step)), "float32")
        u = ops.clip(step / self.steps, 0.0, 1.0)
        if self.shape == "exponential":
            rise = self.start * ops.power(target / self.start, u)
        else:
            if self.shape == "polynomial":
                u = ops.power(u, self.power)
            elif self.shape == "sine":
                u = ops.sin(0.5 * math.pi * u)
            rise = self.start + (target - self.start) * u
        # Both branches are evaluated: the unused one must stay finite, so its step is clamped.
        main = self.schedule(ops.maximum(step - self.steps, 0.0))
        return ops.where(step < self.steps, rise, ops.cast(main, "float32"))


@_serializable
class Sequential(_Composed):
    """``schedules`` one after the other; each restarts its own step count at its boundary.

    ``boundaries`` (increasing steps, one fewer than schedules): schedule i + 1 acts from
    ``boundaries[i]`` on, as in optax's ``join_schedules``. Notebook 06.
    """

    def __init__(self, schedules, boundaries):
        self.schedules = list(schedules)
        for schedule in self.schedules:
            if not isinstance(schedule, Schedule):
                _checks.fail("schedules", schedule, "every entry must be a LearningRateSchedule")
        self.boundaries = [_checks.count("boundaries", b) for b in boundaries]
        if self.boundaries != sorted(set(self.boundaries)):
            _checks.fail("boundaries", boundaries, "must increase")
        if len(self.boundaries) != len(self.schedules) - 1:
            _checks.fail(
                "boundaries", boundaries, f"must be {max(len(self.schedules) - 1, 0)} steps"
            )

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        rate = ops.cast(self.schedules[0](step), "float32")
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            later = ops.cast(schedule(ops.maximum(step - boundary, 0.0)), "float32")
            rate = ops.where(step < boundary, rate, later)
        return rate


# -------------------------------------------------------------------------------- evaluation


def values(schedule, steps: int, *, exact: bool = False) -> np.ndarray:
    """The rates of steps 0 .. ``steps`` - 1 as float32 [steps], for a Keras schedule or a number.

    One call on the vector of all steps where the schedule takes a vector (checked against single
    calls at a few steps), else one compiled loop over the steps. The processor's vector
    instructions for powers and cosines differ from the scalar ones in the last bit; ``exact``
    always takes the loop, whose bits are those that ``fit`` sees, and some 50 times the time.
    """
    steps = _checks.count("steps", steps)
    if isinstance(schedule, numbers.Real):
        return np.full(steps, _checks.number("schedule", schedule, low=0), "float32")
    if not isinstance(schedule, Schedule):
        _checks.fail("schedule", schedule, "must be a number or a Keras LearningRateSchedule")
    table = None
    try:
        if not exact:
            table = np.asarray(ops.cast(schedule(tf.range(steps, dtype=tf.int64)), "float32"))
    except Exception:  # user code: whatever it raises, it does not take a vector
        pass
    probes = sorted({0, 1 % steps, steps // 3, steps // 2, steps - 1})
    if table is not None and table.shape == (steps,):
        single = [float(schedule(tf.constant(i, tf.int64))) for i in probes]
        if np.allclose(table[probes], single, rtol=1e-5, atol=1e-12, equal_nan=True):
            return table

    @tf.function(autograph=False)
    def loop():
        return tf.map_fn(
            lambda step: tf.cast(schedule(step), tf.float32),
            tf.range(steps, dtype=tf.int64),
            fn_output_signature=tf.float32,
        )

    # A concrete function: TensorFlow warns when many different functions are called like this.
    return loop.get_concrete_function()().numpy()


# ------------------------------------------------------------------------------ the catalogue

_catalogue: dict[str, Callable[..., Schedule]] = {}


def register(name: str):
    """Decorator: add ``function(peak, steps, **knobs) -> LearningRateSchedule`` as ``name``.

    It then appears in the grids, the benchmark and the plots. The first line of its docstring is
    its description. ``ValueError`` if the name is taken.
    """
    if not isinstance(name, str) or not name:
        _checks.fail("name", name, "must be a non-empty text")
    if name in _catalogue:
        _checks.fail("name", name, "is taken; choose another name, or unregister it first")

    def add(function):
        _catalogue[name] = function
        return function

    return add


def unregister(name: str) -> None:
    """Take ``name`` out of the catalogue."""
    _checks.choice("name", name, _catalogue)
    del _catalogue[name]


def names() -> list[str]:
    """The catalogue's names, in the order in which the course meets them."""
    return list(_catalogue)


def describe(name: str) -> str:
    """One line about the schedule: its formula and source."""
    function = _catalogue[_checks.choice("name", name, _catalogue)]
    return (inspect.getdoc(function) or name).splitlines()[0]


def build(name: str, peak: float, steps: int, *, warmup: float = 0.0, **knobs) -> Schedule:
    """The schedule ``name`` with largest rate ``peak`` over the horizon of ``steps`` steps.

    ``warmup``: share of the horizon, [0, 1), that rises linearly first, *inside* the horizon; the
    first step has rate peak / (W + 1), so none is wasted. (A cyclical shape whose apex falls
    between two steps stays a little below ``peak``. ``one_cycle`` rises by itself: there
    ``warmup`` sets the share of its own rise.) Decays to zero are zero at step ``steps``, the
    one after the last. ``knobs``: see ``describe`` and the docstring of the registered function.
    """
    function = _catalogue[_checks.choice("name", name, _catalogue)]
    peak, steps = _checks.positive("peak", peak), _checks.count("steps", steps)
    warmup = _share("warmup", warmup)
    allowed = list(inspect.signature(function).parameters.values())[2:]
    if not any(p.kind is p.VAR_KEYWORD for p in allowed):
        known = [p.name for p in allowed]
        for knob in knobs:
            if knob not in known:
                _checks.fail(
                    "knob", knob, f"schedule {name!r} takes {', '.join(known) or 'no knobs'}"
                )
    if name == "one_cycle" and warmup:
        return function(peak, steps, **{"rise": warmup, **knobs})
    rise = round(warmup * steps)
    if rise >= steps:
        _checks.fail("warmup", warmup, f"must leave at least one of {steps} steps")
    schedule = function(peak, steps - rise, **knobs)
    if not isinstance(schedule, Schedule):
        _checks.fail(f"schedule {name!r}", schedule, "must be a LearningRateSchedule")
    return Warmup(schedule, rise, start=peak / (rise + 1)) if rise else schedule


def _share(argument: str, value) -> float:
    share = _checks.number(argument, value, low=0)
    if share >= 1:
        _checks.fail(argument, value, "must be a share of the horizon in [0, 1)")
    return share


def _floor(end) -> float:
    return _checks.number("end", end, low=0, high=1)


@register("constant")
def _constant(peak, steps):
    """peak: the same rate at every step."""
    return keras_schedules.PolynomialDecay(peak, steps, end_learning_rate=peak)


@register("step")
def _step_decay(peak, steps, drops=4, factor=0.5):
    """peak * factor ** floor((drops + 1) t / T): ``drops`` equally spaced drops, all inside T."""
    drops = _checks.count("drops", drops)
    factor = _checks.number("factor", factor, low=0, high=1, open_low=True)
    if drops >= steps:
        _checks.fail("drops", drops, f"must be < steps = {steps}")
    starts = [math.ceil(steps * k / (drops + 1)) for k in range(1, drops + 1)]
    # Keras changes the rate one step after the boundary: start - 1 drops at start.
    return keras_schedules.PiecewiseConstantDecay(
        [start - 1 for start in starts], [peak * factor**k for k in range(drops + 1)]
    )


@register("exponential")
def _exponential(peak, steps, end=0.01):
    """peak * end ** (t / T): ``end`` is the share of the peak left at the horizon."""
    end = _checks.number("end", end, low=0, high=1, open_low=True)
    return keras_schedules.ExponentialDecay(peak, steps, end)


@register("inverse_time")
def _inverse_time(peak, steps, end=0.01):
    """peak / (1 + k t / T), k so that the share ``end`` of the peak is left (Robbins-Monro 1/t)."""
    end = _checks.number("end", end, low=0, high=1, open_low=True)
    return keras_schedules.InverseTimeDecay(peak, steps, 1 / end - 1)


@register("inverse_sqrt")
def _inverse_sqrt(peak, steps, timescale=0.05):
    """peak / sqrt(1 + t / (timescale T)) (Vaswani et al. 2017, without their warmup)."""
    return InverseSquareRoot(peak, _checks.positive("timescale", timescale) * steps)


@register("polynomial")
def _polynomial(peak, steps, power=2.0, end=0.0):
    """peak * (end + (1 - end) (1 - t / T) ** power)."""
    return keras_schedules.PolynomialDecay(
        peak, steps, peak * _floor(end), _checks.positive("power", power)
    )


@register("linear")
def _linear(peak, steps, end=0.0):
    """peak * (end + (1 - end) (1 - t / T)): to zero by default (Defazio et al. 2023)."""
    return keras_schedules.PolynomialDecay(peak, steps, peak * _floor(end), 1.0)


@register("cosine")
def _cosine(peak, steps, end=0.0):
    """peak * (end + (1 - end) (1 + cos(pi t / T)) / 2) (Loshchilov & Hutter 2017)."""
    return keras_schedules.CosineDecay(peak, steps, alpha=_floor(end))


@register("sigmoid")
def _sigmoid(peak, steps, end=0.0, steepness=10.0, middle=0.5):
    """A falling S-curve from peak to end (after Nakamura et al. 2021)."""
    return Sigmoid(peak, steps, peak * _floor(end), steepness, middle)


@register("wsd")
def _wsd(peak, steps, cooldown=0.2, shape="linear", end=0.0):
    """Constant, then a cooldown over the last share of the horizon (Hägele et al. 2024)."""
    return WarmupStableDecay(peak, steps, cooldown, 0.0, shape, peak * _floor(end))


@register("power")
def _power(peak, steps, exponent=0.75, timescale=0.05):
    """peak * (1 + t / (timescale T)) ** -exponent: the power law, never zero."""
    return Power(peak, _checks.positive("timescale", timescale) * steps, exponent)


def _cycle(steps, cycles) -> int:
    cycles = _checks.count("cycles", cycles)
    if 2 * cycles > steps:
        _checks.fail("cycles", cycles, f"must be <= steps / 2 = {steps // 2}")
    return math.ceil(steps / cycles)


@register("triangular")
def _triangular(peak, steps, cycles=3, low=0.1):
    """Triangles between low * peak and peak (Smith 2017)."""
    return Cyclical(_floor(low) * peak, peak, _cycle(steps, cycles))


@register("triangular2")
def _triangular2(peak, steps, cycles=3, low=0.1):
    """Triangles whose height is halved after each cycle (Smith 2017)."""
    return Cyclical(_floor(low) * peak, peak, _cycle(steps, cycles), amplitude="halved")


@register("exp_range")
def _exp_range(peak, steps, cycles=3, low=0.1, end=0.1):
    """Triangles whose height shrinks to the share ``end`` by gamma ** t (Smith 2017)."""
    end = _checks.number("end", end, low=0, high=1, open_low=True)
    gamma = end ** (1 / steps)
    return Cyclical(
        _floor(low) * peak, peak, _cycle(steps, cycles), amplitude="exp_range", gamma=gamma
    )


@register("cosine_restarts")
def _cosine_restarts(peak, steps, cycles=3, end=0.0):
    """Cosine decay to ``end``, restarted in ``cycles`` cycles (Loshchilov & Hutter 2017)."""
    return keras_schedules.CosineDecayRestarts(
        peak, _cycle(steps, cycles), t_mul=1.0, alpha=_floor(end)
    )


@register("one_cycle")
def _one_cycle(peak, steps, rise=0.3, shape="cosine", start_divisor=25.0, final_divisor=1e4):
    """One rise to the peak and one long fall (Smith & Topin 2018)."""
    return OneCycle(peak, steps, rise, shape, start_divisor, final_divisor)


@register("rex")
def _rex(peak, steps):
    """peak * (1 - t/T) / (1 - t/(2T)) (Chen, Wolfe & Kyrillidis 2021)."""
    return Rex(peak, steps)
