"""Schedules that Keras lacks: cycles, one cycle, plateau and cooldown, power laws, points."""

import itertools
import math
from collections.abc import Iterable

from anneal_utils import _checks
from anneal_utils.schedules import _parts
from anneal_utils.schedules._parts import Configured, ops, real, serializable, step_of, steps_of

import numpy as np


@serializable
class Cyclical(Configured):
    """Cycles between ``low`` and ``high``, ``period`` steps each (Smith, WACV 2017).

    ``shape``: ``"triangle"`` rises for ``up`` steps and falls for the rest (``None``: for half a
    period each; an odd period's apex lies between two steps, ``(high - low) / period`` above
    both); ``"step"``, ``"exponential"`` and ``"cosine"`` jump to ``high`` and decay towards
    ``low`` inside each cycle (``"step"`` on ``stairs`` equal treads, the last one at ``low``;
    ``"exponential"`` needs ``low`` > 0). ``amplitude``: ``"constant"`` (Smith's triangular),
    ``"halved"`` after every cycle (triangular2) or ``"exp_range"`` (times ``gamma ** step``).
    Never outside [``low``, ``high``]; goes on for ever. The rates of PyTorch's ``CyclicLR``.
    Notebook 04.

    >>> [round(float(Cyclical(0.0, 1.0, 4)(step)), 2) for step in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """

    def __init__(
        self,
        low,
        high,
        period,
        shape="triangle",
        amplitude="constant",
        gamma=1.0,
        stairs=4,
        up=None,
    ):
        self.low = _checks.number("low", low, low=0)
        self.high = _checks.positive("high", high)
        if self.low > self.high:
            _checks.fail("low", low, f"must be <= high = {high!r}")
        self.period = _checks.count("period", period, low=2)
        shapes = ("triangle", "step", "exponential", "cosine")
        self.shape = _parts.check_descent(shape, "low", self.low, shapes)
        self.amplitude = _checks.choice("amplitude", amplitude, ("constant", "halved", "exp_range"))
        self.gamma = _checks.number("gamma", gamma, low=0, high=1, open_low=True)
        self.stairs = _checks.count("stairs", stairs, low=2)
        self.up = up if up is None else _checks.count("up", up)
        if up is not None and shape != "triangle":
            _checks.fail("up", up, f"must be None with shape = {shape!r}: only a triangle rises")
        if up is not None and self.up >= self.period:
            _checks.fail("up", up, f"must be < period = {period!r}")

    def __call__(self, step):
        """The rate at ``step``."""
        step = step_of(step)
        cycle, done = _parts.cycle_and_rest(step, self.period)
        height = self._height(done)
        if self.amplitude == "halved":
            height = height * ops.power(0.5, real(cycle))
        elif self.amplitude == "exp_range":
            # Not power(gamma, step): gamma, close to 1, would be rounded to float32 first.
            height = height * ops.exp(math.log(self.gamma) * real(step))
        # The sum may round to just above the largest rate.
        return ops.clip(self.low + (self.high - self.low) * height, self.low, self.high)

    def _height(self, done):
        """Place between low (0) and high (1) after ``done`` steps of a cycle."""
        u = real(done) / self.period
        if self.shape == "step":
            # Counted, so that no product of whole numbers can be too large for them.
            starts = [-(-k * self.period // self.stairs) for k in range(1, self.stairs)]
            # One division of whole numbers: 1 - tread / last may come out below 0 under XLA.
            last = self.stairs - 1
            return (last - sum(real(done >= start) for start in starts)) / last
        if self.shape != "triangle":
            return _parts.descent(self.shape, u, self.low / self.high)
        if self.up is None:
            return 1 - ops.abs(2 * u - 1)
        down = self.period - self.up
        return ops.where(done < self.up, real(done) / self.up, real(self.period - done) / down)


@serializable
class OneCycle(Configured):
    """One rise to ``peak`` and one fall far below the start (Smith & Topin 2018).

    The rise takes ``warmup`` of ``steps`` (a share, or a whole number of steps; 0: no rise), from
    ``peak / start_divisor``; the fall ends at ``peak / start_divisor / final_divisor`` at step
    ``steps``. With ``tail`` > 0 the fall first returns to the start and goes to the end in the
    last ``tail`` of the steps, which is the paper's own cycle. ``shape``: ``"cosine"`` or
    ``"linear"``, of every phase. The divisors are optax's and PyTorch's (fastai's final divisor
    is the product of both).

    ``convention="optax"``: the peak is at step round(``warmup`` x ``steps``), the end at
    ``steps``, one after the last (optax's ``cosine_onecycle_schedule`` and fastai, which round a
    share in other ways). ``"pytorch"``: both one step earlier, as in ``OneCycleLR``, whose peak
    may lie between two steps; its ``three_phase`` is ``tail = 1 - 2 * warmup``. Notebook 04.

    >>> rate = OneCycle(0.5, 10, warmup=0.4, shape="linear", start_divisor=10)
    >>> [round(float(rate(step)), 3) for step in (0, 2, 4, 7, 10)]
    [0.05, 0.275, 0.5, 0.25, 0.0]
    """

    def __init__(
        self,
        peak,
        steps,
        warmup=0.3,
        shape="cosine",
        start_divisor=25.0,
        final_divisor=1e4,
        tail=0.0,
        convention="optax",
    ):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps, low=2)
        rise = _parts.rise_of("warmup", warmup, self.steps)
        self.warmup = _parts.plain(warmup)
        self.shape = _checks.choice("shape", shape, ("cosine", "linear"))
        self.start_divisor = _checks.number("start_divisor", start_divisor, low=1)
        self.final_divisor = _checks.number("final_divisor", final_divisor, low=1)
        self.tail = _parts.share("tail", tail)
        if self.tail and self.steps - steps_of(self.tail, self.steps) <= rise:
            _checks.fail("tail", tail, f"must leave steps between it and warmup = {warmup!r}")
        self.convention = _checks.choice("convention", convention, ("optax", "pytorch"))
        if convention == "pytorch" and not 1 <= self._share() * self.steps:
            _checks.fail("warmup", warmup, "must be at least one step in PyTorch's convention")
        places = [place for place, _ in self.points()[1:]]
        if places != sorted(set(places)):
            _checks.fail("tail", tail, f"must leave steps between it and warmup = {warmup!r}")

    def _share(self) -> float:
        """The warmup as a share."""
        return self.warmup / self.steps if isinstance(self.warmup, int) else self.warmup

    def points(self) -> list[tuple[float, float]]:
        """Where the phases meet: (step, rate)."""
        start, steps = self.peak / self.start_divisor, self.steps
        tail = [(steps - steps_of(self.tail, steps), start)] if self.tail else []
        top, last = _parts.rise_of("warmup", self.warmup, steps), steps
        if self.convention == "pytorch":  # each phase is a step shorter, and may be a fraction
            top, last = self._share() * steps - 1, steps - 1
            tail = [((1 - self.tail) * steps - 2, start)] if self.tail else []
        return [(0, start), (top, self.peak), *tail, (last, start / self.final_divisor)]

    def __call__(self, step):
        """The rate at ``step``."""
        step = step_of(step)
        rate = self.peak
        for (begin, first), (end, last) in itertools.pairwise(self.points()):
            if begin < end:
                # The whole steps are taken off as whole numbers, which are exact.
                whole = math.floor(begin)
                u = (real(step - whole) - (begin - whole)) / (end - begin)
                fall = _parts.descent(self.shape, ops.clip(u, 0.0, 1.0))
                phase = last + (first - last) * fall
                rate = ops.where(step < math.ceil(begin), rate, phase)
        return rate


@serializable
class WarmupStableDecay(Configured):
    """Linear warmup, a plateau at ``peak``, then a cooldown to ``end`` (Hägele et al. 2024).

    ``cooldown`` is the share of ``steps`` spent going down; ``warmup`` the share, or the whole
    number of steps, going up (the first step has rate ``peak / (W + 1)``). ``shape`` of the
    cooldown: ``"linear"``, ``"sqrt"`` (1 - sqrt(u)), ``"cosine"`` or ``"exponential"`` (``end``
    above 0). ``end`` (a rate) is reached at step ``steps``. Notebook 06.

    >>> [round(float(WarmupStableDecay(1.0, 10, cooldown=0.4)(step)), 2) for step in (0, 6, 8, 10)]
    [1.0, 1.0, 0.5, 0.0]
    """

    def __init__(self, peak, steps, cooldown=0.2, warmup=0.0, shape="linear", end=0.0):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)
        self.cooldown = _checks.number("cooldown", cooldown, low=0, high=1, open_low=True)
        _parts.rise_of("warmup", warmup, self.steps)
        self.warmup = _parts.plain(warmup)
        if sum(self.phases()) > self.steps:
            _checks.fail(
                "warmup", warmup, f"must leave room for cooldown = {cooldown!r} of {steps!r} steps"
            )
        self.end = _checks.number("end", end, low=0, high=self.peak)
        self.shape = _parts.check_descent(shape, "end", self.end)

    def phases(self) -> tuple[int, int]:
        """Steps going up and steps going down."""
        rise = _parts.rise_of("warmup", self.warmup, self.steps)
        return rise, steps_of(self.cooldown, self.steps)

    def __call__(self, step):
        """The rate at ``step``."""
        step = step_of(step)
        rise, fall = self.phases()
        u = ops.clip(real(step - (self.steps - fall)) / fall, 0.0, 1.0)
        height = _parts.descent(self.shape, u, self.end / self.peak)
        rate = self.end + (self.peak - self.end) * height
        if not rise:
            return rate
        return rate * ops.minimum((real(ops.minimum(step, rise)) + 1) / (rise + 1), 1.0)


@serializable
class Sigmoid(Configured):
    """A falling S-curve from exactly ``peak`` at step 0 to exactly ``end`` at ``steps``.

    s(u) = 1 / (1 + exp(steepness (u - middle))), rescaled to its end points. After Nakamura et
    al., Electronics 2021; the parametrisation is this project's. Notebooks 03 and 06.

    >>> [round(float(Sigmoid(1.0, 10)(step)), 2) for step in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """

    def __init__(self, peak, steps, end=0.0, steepness=10.0, middle=0.5):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)
        self.end = _checks.number("end", end, low=0, high=self.peak)
        # Outside this range s(0) - s(1), or s itself, is lost in float32.
        self.steepness = _checks.number("steepness", steepness, low=0.1, high=80)
        self.middle = _checks.number("middle", middle, low=0, high=1)

    def __call__(self, step):
        """The rate at ``step``."""
        u = ops.clip(real(step) / self.steps, 0.0, 1.0)
        first, last = (1 / (1 + math.exp(self.steepness * (x - self.middle))) for x in (0, 1))
        s = ops.sigmoid(self.steepness * (self.middle - u))
        return self.end + (self.peak - self.end) * ops.clip((s - last) / (first - last), 0.0, 1.0)


@serializable
class InverseSquareRoot(Configured):
    """``peak * sqrt(timescale / (timescale + step))``: half the rate after 3 timescales.

    The decay of Vaswani et al. 2017 without its warmup (put ``Warmup`` around it), shifted so
    that it starts at ``peak``; falls for ever. Notebook 03.

    >>> float(InverseSquareRoot(0.8, 10)(30))
    0.4000000059604645
    """

    def __init__(self, peak, timescale):
        self.peak = _checks.positive("peak", peak)
        self.timescale = _checks.positive("timescale", timescale)

    def __call__(self, step):
        """The rate at ``step``."""
        return self.peak * ops.sqrt(self.timescale / (self.timescale + real(step)))


@serializable
class Power(Configured):
    """The power scheduler: a power law in the step, capped at ``peak``, then a cooldown.

    ``min(peak, peak * (step / hold) ** -exponent)``: constant for ``hold`` steps, then falling
    as the power law by which the best constant rate falls with the length of training; over the
    last ``cooldown`` share of ``steps`` it goes on to ``end``, a rate (``cooldown`` 0: it does
    not), with ``shape`` ``"linear"``, ``"sqrt"`` (1 - sqrt(u)), ``"cosine"`` or ``"exponential"``
    (``end`` above 0). After Shen et al. 2024 (arXiv 2408.13359), where ``exponent`` is 0.51 and
    the cooldown, a tenth to a fifth of the run, is exponential; in steps, not tokens. Notebook 06.

    >>> [round(float(Power(1.0, 100, 25, 0.5, cooldown=0)(step)), 2) for step in (0, 25, 100)]
    [1.0, 1.0, 0.5]
    """

    def __init__(self, peak, steps, hold, exponent=0.51, cooldown=0.2, shape="linear", end=0.0):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)
        self.hold = _checks.positive("hold", hold)
        self.exponent = _checks.number("exponent", exponent, low=0)
        self.cooldown = _checks.number("cooldown", cooldown, low=0, high=1)
        lowest = self._trunk_end()
        if _checks.number("end", end, low=0) > lowest:
            _checks.fail("end", end, f"must be <= {lowest:g}, the rate where the cooldown begins")
        self.end = float(end)
        self.shape = _parts.check_descent(shape, "end", self.end)

    def _trunk_end(self) -> float:
        """The rate of the power law where the cooldown begins."""
        begin = self.steps - steps_of(self.cooldown, self.steps)
        rate = self.peak * math.exp(-self.exponent * math.log(max(begin / self.hold, 1.0)))
        if rate < 1e-30:
            _checks.fail("exponent", self.exponent, "must leave a rate above 0 to the cooldown")
        return rate

    def __call__(self, step):
        """The rate at ``step``."""
        step = step_of(step)
        fall = steps_of(self.cooldown, self.steps)
        trunk = real(ops.minimum(step, self.steps - fall) if fall else step)
        rate = self.peak * ops.power(ops.maximum(trunk / self.hold, 1.0), -self.exponent)
        if not fall:
            return rate
        u = ops.clip(real(step - (self.steps - fall)) / fall, 0.0, 1.0)
        height = _parts.descent(self.shape, u, self.end / self._trunk_end())
        return self.end + (rate - self.end) * height if self.end else rate * height


@serializable
class Rex(Configured):
    """``peak * (1 - u) / (1 - u / 2)``, u = step / steps (Chen, Wolfe & Kyrillidis 2021).

    Above the linear decay all the way, zero at step ``steps``. Notebook 03.

    >>> [round(float(Rex(1.0, 10)(step)), 2) for step in (0, 5, 10)]
    [1.0, 0.67, 0.0]
    """

    def __init__(self, peak, steps):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)

    def __call__(self, step):
        """The rate at ``step``."""
        u = ops.clip(real(step) / self.steps, 0.0, 1.0)
        return self.peak * (1 - u) / (1 - 0.5 * u)


@serializable
class Knots(Configured):
    """Through the points (``steps[i]``, ``rates[i]``), straight between them, or geometric.

    ``steps``: whole numbers that increase, from 0 on; ``rates``: as many, >= 0. ``shape``:
    ``"linear"``, or ``"exponential"``: straight on a logarithmic axis (rates > 0). Before the
    first point the rate is the first one, after the last it is the last one. The same as optax's
    ``piecewise_interpolate_schedule("linear", ...)``; the form in which a search gives its result.

    >>> [float(Knots([0, 4, 8], [0.0, 1.0, 0.5])(step)) for step in (0, 1, 4, 6, 9)]
    [0.0, 0.25, 1.0, 0.75, 0.5]
    """

    def __init__(self, steps, rates, shape="linear"):
        for argument, value in (("steps", steps), ("rates", rates)):
            if isinstance(value, str) or not isinstance(value, Iterable):
                _checks.fail(argument, value, "must be a list")
        self.steps = [_checks.count("steps", step, low=0) for step in steps]
        self.rates = [_checks.number("rates", rate, low=0) for rate in rates]
        if not self.steps or self.steps != sorted(set(self.steps)):
            _checks.fail("steps", self.steps, "must hold at least one step, and increase")
        if len(self.rates) != len(self.steps):
            _checks.fail("rates", self.rates, f"must be {len(self.steps)}, one for each step")
        self.shape = _checks.choice("shape", shape, ("linear", "exponential"))
        if shape == "exponential" and min(self.rates) == 0:
            _checks.fail("rates", self.rates, 'must be > 0 with shape="exponential"')

    def __call__(self, step):
        """The rate at ``step``."""
        step = step_of(step)
        # One piece before, between and after the points: where it begins, its length, its rates.
        begins = [self.steps[0], *self.steps]
        ends = [*self.steps, self.steps[-1]]
        lengths = [max(1, end - begin) for begin, end in zip(begins, ends, strict=True)]
        firsts, lasts = [self.rates[0], *self.rates], [*self.rates, self.rates[-1]]
        kind = step.dtype
        knots = ops.cast(ops.convert_to_tensor(np.array(self.steps)), kind)
        piece = ops.searchsorted(knots, ops.reshape(step, (-1,)), side="right")
        piece = ops.reshape(piece, ops.shape(step))
        begin, length, first, last = (
            ops.take(ops.convert_to_tensor(np.array(values)), piece)
            for values in (begins, lengths, firsts, lasts)
        )
        u = ops.clip(real(step - ops.cast(begin, step.dtype)) / real(length), 0.0, 1.0)
        first, last = real(first), real(last)
        if self.shape == "exponential":
            return first * ops.power(last / first, u)
        return first + (last - first) * u
