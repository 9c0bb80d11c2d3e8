"""Schedules made of schedules: before, after, times, not below, not beyond.

Every one hands the step to its parts as it is, in its own kind (``fit`` asks with int64).
"""

import math
from collections.abc import Iterable

from anneal_utils import _checks
from anneal_utils.schedules import _parts
from anneal_utils.schedules._parts import (
    Composed,
    Scale,
    check_schedule,
    ops,
    real,
    serializable,
    step_of,
)

from keras.optimizers import schedules as keras_schedules

__all__ = ["Floor", "Hold", "Scale", "Sequential", "Warmup"]


@serializable
class Warmup(Composed):
    """A rise to ``schedule``'s first rate during ``steps``, then ``schedule``, shifted.

    ``start`` is the rate at step 0, at most the schedule's first one. ``shape`` of the rise g(u):
    ``"linear"`` u, ``"polynomial"`` u ** ``power``, ``"sine"`` sin(pi u / 2), ``"exponential"``
    geometric (``start`` > 0). As in Keras's ``CosineDecay(warmup_target=...)`` the warmup comes
    before the schedule's own steps, which are shifted, not cut. Notebook 06.

    >>> from anneal_utils.schedules import Rex
    >>> [round(float(Warmup(Rex(0.4, 10), 4)(step)), 2) for step in (0, 1, 2, 4, 14)]
    [0.0, 0.1, 0.2, 0.4, 0.0]
    """

    def __init__(self, schedule, steps, shape="linear", start=0.0, power=2.0):
        self.schedule = check_schedule("schedule", schedule)
        self.steps = _checks.count("steps", steps)
        self.shape = _checks.choice("shape", shape, ("linear", "polynomial", "sine", "exponential"))
        self.start = _checks.number("start", start, low=0)
        if shape == "exponential" and self.start == 0:
            _checks.fail("start", start, 'must be > 0 with shape="exponential"')
        self.power = _checks.positive("power", power)
        first = _parts.at(schedule, 0)
        if self.start > first * (1 + 1e-6):
            _checks.fail("start", start, f"must be <= the schedule's first rate {first:g}")

    def __call__(self, step):
        """The rate at ``step``."""
        step = step_of(step)
        target = real(self.schedule(ops.zeros_like(step)))
        u = ops.clip(real(step) / self.steps, 0.0, 1.0)
        if self.shape == "exponential":
            rise = self.start * ops.power(target / self.start, u)
        else:
            if self.shape == "polynomial":
                u = ops.power(u, self.power)
            elif self.shape == "sine":
                u = ops.sin(0.5 * math.pi * u)
            rise = self.start + (target - self.start) * u
        # Both branches are evaluated: the unused one must stay finite, so its step is clamped.
        main = self.schedule(ops.maximum(step, self.steps) - self.steps)
        return ops.where(step < self.steps, rise, real(main))


@serializable
class Sequential(Composed):
    """``schedules`` one after the other; each restarts its own step count at its boundary.

    ``boundaries`` (increasing steps, one fewer than schedules): schedule i + 1 acts from
    ``boundaries[i]`` on, as in optax's ``join_schedules``. Notebook 06.

    >>> from anneal_utils.schedules import Rex
    >>> [round(float(Sequential([Rex(1.0, 9), Rex(0.5, 5)], [3])(step)), 2) for step in (0, 3, 8)]
    [1.0, 0.5, 0.0]
    """

    inner = ("schedules",)

    def __init__(self, schedules, boundaries):
        for argument, value in (("schedules", schedules), ("boundaries", boundaries)):
            if isinstance(value, str) or not isinstance(value, Iterable):
                _checks.fail(argument, value, "must be a list")
        self.schedules = [check_schedule("schedules", schedule) for schedule in schedules]
        self.boundaries = [_checks.count("boundaries", boundary) for boundary in boundaries]
        if not self.schedules:
            _checks.fail("schedules", schedules, "must hold at least one schedule")
        if self.boundaries != sorted(set(self.boundaries)):
            _checks.fail("boundaries", boundaries, "must increase")
        if len(self.boundaries) != len(self.schedules) - 1:
            _checks.fail("boundaries", boundaries, f"must be {len(self.schedules) - 1} steps")

    def __call__(self, step):
        """The rate at ``step``."""
        step = step_of(step)
        rate = real(self.schedules[0](step))
        # Every piece is evaluated at every step: clamped, so that none sees a negative step.
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            later = schedule(ops.maximum(step, boundary) - boundary)
            rate = ops.where(step < boundary, rate, real(later))
        return rate


@serializable
class Floor(Composed):
    """``schedule``, but never below ``low``, a rate: optax's ``end_value`` of a decay.

    >>> from anneal_utils.schedules import Rex
    >>> [round(float(Floor(Rex(1.0, 10), 0.25)(step)), 2) for step in (0, 5, 9, 99)]
    [1.0, 0.67, 0.25, 0.25]
    """

    def __init__(self, schedule, low):
        self.schedule = check_schedule("schedule", schedule)
        self.low = _checks.number("low", low, low=0)

    def __call__(self, step):
        """The rate at ``step``."""
        return ops.maximum(real(self.schedule(step)), self.low)


@serializable
class Hold(Composed):
    """``schedule`` before step ``steps``, and its rate at ``steps`` for ever after.

    The horizon of a schedule: :func:`build` puts it around everything that it returns. Alone, a
    schedule goes on beyond its end as it does elsewhere: a cycle climbs again, an exponential
    falls on, Keras's polynomial may be NaN or below 0 in a compiled step. (Where one is among the
    parts, such a rate is replaced by the one at ``steps``.) ``ValueError`` if the rate at ``steps``
    is not a finite number >= 0.

    >>> from anneal_utils.schedules import Cyclical
    >>> rate = Hold(Cyclical(0.0, 1.0, 4), 2)
    >>> [float(rate(step)) for step in range(5)]
    [0.0, 0.5, 1.0, 1.0, 1.0]
    """

    def __init__(self, schedule, steps):
        self.schedule = check_schedule("schedule", schedule)
        self.steps = _checks.count("steps", steps)
        # Asked once, outside of any compiled step, where 1 - T / T is exactly 0.
        self._last = _parts.at(schedule, self.steps)
        _checks.number(f"schedule's rate at steps = {self.steps}", self._last, low=0)
        self._mended = _has_polynomial(schedule)

    def __call__(self, step):
        """The rate at ``step``."""
        step = step_of(step)
        before = real(self.schedule(ops.minimum(step, self.steps - 1)))
        if self._mended:  # XLA makes 1 - t / T less than 0 where t has come near to T
            before = ops.where(before >= 0, before, self._last)
        return ops.where(step < self.steps, before, self._last)


def _has_polynomial(schedule) -> bool:
    own = isinstance(schedule, keras_schedules.PolynomialDecay)
    return own or any(map(_has_polynomial, _parts.parts(schedule)))
