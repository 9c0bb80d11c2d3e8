"""What the schedules share: the step in its own kind, shares of a horizon, configuration."""

import inspect
import math
import numbers

from anneal_utils import _backend, _checks
from anneal_utils._backend import at as at  # at(schedule, step): its rate, as a number

import keras
from keras.optimizers import schedules as keras_schedules

ops = keras.ops
Schedule = keras_schedules.LearningRateSchedule
serializable = keras.saving.register_keras_serializable("anneal_utils")


# ------------------------------------------------------------------------------- the step


def step_of(step):
    """``step``, a number or a tensor of any kind, in a kind that holds every step.

    Numbers, and whole numbers of less than 32 bits, become what ``fit`` asks with (int64; int32
    under JAX); the rest stays.
    """
    if isinstance(step, numbers.Integral):
        return ops.convert_to_tensor(step, _backend.STEP)
    step = ops.convert_to_tensor(step)
    kind = keras.backend.standardize_dtype(step.dtype)
    return (
        ops.cast(step, _backend.STEP) if "int" in kind and kind not in ("int32", "int64") else step
    )


def real(x):
    """``x`` as float32."""
    return ops.cast(x, "float32")


def cycle_and_rest(step, period: int):
    """Which cycle of ``period`` steps it is, and the steps done inside it.

    In whole numbers: float32 knows only the first 16 million of them, and a graph divides by a
    constant by multiplying with its rounded reciprocal, so that 83 / 83 is below 1.
    """
    if "int" in keras.backend.standardize_dtype(step.dtype):
        cycle = ops.floor_divide(step, period)
        return cycle, step - cycle * period
    whole = ops.cast(ops.floor(step), "int32")
    cycle = ops.floor_divide(whole, period)
    return cycle, real(whole - cycle * period) + real(step - ops.floor(step))


# --------------------------------------------------------------------------- shares and shapes


def share(argument: str, value) -> float:
    """``value`` as a share of the horizon in [0, 1)."""
    number = _checks.number(argument, value, low=0)
    if number >= 1:
        _checks.fail(argument, value, "must be a share of the horizon in [0, 1)")
    return number


def fraction(argument: str, value) -> float:
    """``value`` as a share of the peak, [0, 1]."""
    return _checks.number(argument, value, low=0, high=1)


def steps_of(share: float, steps: int) -> int:
    """Steps in a share of ``steps``: the nearest whole number, and at least one unless it is 0.

    The one rule for every share of a horizon or a cycle.
    """
    return max(1, round(share * steps)) if share else 0


def rise_of(argument: str, value, steps: int) -> int:
    """Steps of a warmup given as a share of ``steps`` in [0, 1), or as a whole number of them."""
    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        rise = _checks.count(argument, value, low=0)
    else:
        rule = "must be a share of the horizon in [0, 1), or a whole number of steps"
        if _checks.number(argument, value, low=0) >= 1:
            _checks.fail(argument, value, rule)
        rise = steps_of(float(value), steps)
    if rise >= steps:
        _checks.fail(argument, value, f"must leave at least one of {steps} steps")
    return rise


def plain(value) -> int | float:
    """A number as Python's own int or float, as configurations hold it."""
    return int(value) if isinstance(value, numbers.Integral) else float(value)


DESCENTS = ("linear", "sqrt", "cosine", "exponential")


def descent(shape: str, u, ratio: float = 0.0):
    """A fall from 1 at u = 0 to 0 at u = 1; ``ratio``: last over first rate, if exponential."""
    if shape == "linear":
        return 1 - u
    if shape == "sqrt":
        return 1 - ops.sqrt(u)
    if shape == "exponential":
        return (ops.power(ratio, u) - ratio) / (1 - ratio) if ratio < 1 else 0 * u
    return 0.5 * (1 + ops.cos(math.pi * u))


def check_descent(shape: str, argument: str, end: float, shapes=DESCENTS) -> str:
    """``shape`` if it is one of ``shapes`` and can end at ``end``."""
    _checks.choice("shape", shape, shapes)
    if shape == "exponential" and end == 0:
        _checks.fail(argument, end, 'must be > 0 with shape="exponential"')
    return shape


# ------------------------------------------------------------------------- kinds of schedules


class Configured(Schedule):
    """A schedule whose constructor arguments are its attributes: that is its configuration.

    Schedules of ours multiply: ``a * b``, ``a * 0.5``.
    """

    def get_config(self):
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    def __mul__(self, other):
        return Scale(self, other)  # below: every schedule can be a factor

    __rmul__ = __mul__


class Composed(Configured):
    """A schedule made of schedules: they are serialised with it."""

    inner: tuple[str, ...] = ("schedule",)  # arguments that are schedules, or lists of them

    def get_config(self):
        """Configuration, inner schedules included."""
        config = super().get_config()
        for name in self.inner:
            config[name] = keras.saving.serialize_keras_object(config[name])
        return config

    @classmethod
    def from_config(cls, config):
        """The schedule from its configuration."""
        made = {name: keras.saving.deserialize_keras_object(config[name]) for name in cls.inner}
        return cls(**{**config, **made})


def parts(schedule) -> list[Schedule]:
    """The schedules that a schedule of this package is made of."""
    if not isinstance(schedule, Composed):
        return []
    named = [getattr(schedule, name) for name in schedule.inner]
    flat = [x for value in named for x in (value if isinstance(value, list) else [value])]
    return [part for part in flat if isinstance(part, Schedule)]


def check_schedule(argument: str, value) -> Schedule:
    """``value`` if it is a Keras schedule."""
    if not isinstance(value, Schedule):
        _checks.fail(argument, value, "must be a Keras LearningRateSchedule")
    return value


@serializable
class Scale(Composed):
    """The product ``schedule(step) * by``; ``by``: a number >= 0 or another schedule.

    What PyTorch's ``ChainedScheduler`` does with schedules that are factors. ``a * b`` and
    ``0.5 * a`` are the same where one of the two is a schedule of this module.

    >>> from anneal_utils.schedules import Rex
    >>> [round(float((0.5 * Rex(1.0, 10) * Rex(1.0, 10))(step)), 3) for step in (0, 5, 10)]
    [0.5, 0.222, 0.0]
    """

    inner = ("schedule", "by")

    def __init__(self, schedule, by):
        self.schedule = check_schedule("schedule", schedule)
        if not isinstance(by, Schedule):
            if isinstance(by, bool) or not isinstance(by, numbers.Real):
                _checks.fail("by", by, "must be a number >= 0 or a Keras LearningRateSchedule")
            by = _checks.number("by", by, low=0)
        self.by = by

    def __call__(self, step):
        """The rate at ``step``."""
        by = real(self.by(step)) if isinstance(self.by, Schedule) else self.by
        return real(self.schedule(step)) * by
