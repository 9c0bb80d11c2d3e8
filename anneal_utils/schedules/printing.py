"""A schedule as text: the call that makes it, and a plain function of the step."""

import inspect
import math
import re

from anneal_utils import _checks
from anneal_utils.schedules import _parts, plain, shapes
from anneal_utils.schedules import combinators as combined
from anneal_utils.schedules._parts import Configured, Schedule

import numpy as np
from keras.optimizers import schedules as keras_schedules


def code(schedule: Schedule) -> str:
    """Python text that makes ``schedule``, and a function ``rate(step)`` that needs ``math`` alone.

    The first part, a comment, is the call that makes the schedule for Keras. The rest is the
    schedule as plain functions, for whatever takes a function of the step: PyTorch's
    ``LambdaLR(optimizer, rate)`` (give the optimizer the rate 1.0), a loop of your own. What
    compiles the step (optax under ``jit``) takes a table, ``[rate(t) for t in range(T + 1)]``. It
    computes in float64, so it agrees with the schedule to the rounding of float32. Known for
    Keras's schedules and those of this module, in any combination. ``ValueError`` for another
    class, of which only its author knows the formula. (Keras's own restarts and staircases may
    come a step later in a compiled step than in theirs or in this formula.)

    >>> text = code(keras_schedules.PolynomialDecay(0.1, 10, end_learning_rate=0.0))
    >>> space = {}
    >>> exec(text, space)
    >>> space["rate"](5)
    0.05
    >>> print(text.splitlines()[1])
    # keras.optimizers.schedules.PolynomialDecay(0.1, 10, end_learning_rate=0.0)
    """
    _parts.check_schedule("schedule", schedule)
    expression = _expression(schedule, "step")
    sources = [inspect.getsource(function) for function in _functions(expression)]
    lines = ["# The schedule in Keras:", *(f"# {line}" for line in _call(schedule).splitlines())]
    text = "\n".join([*lines, "import math", "", "", ""]) + "\n\n".join(sources)
    return (
        f'{text}\n\ndef rate(step):\n    """The learning rate at a step: 0, 1, 2 ..."""\n'
        f"    return {expression}\n"
    )


# ------------------------------------------------------------------------- the call in Keras


def _call(schedule) -> str:
    """The expression that makes the schedule, without arguments that have their default."""
    kind = type(schedule)
    place = "schedules" if isinstance(schedule, Configured) else "keras.optimizers.schedules"
    given, keras_own = [], {} if isinstance(schedule, Configured) else schedule.get_config()
    for name, parameter in inspect.signature(kind).parameters.items():
        if name == "name":
            continue
        value = keras_own[name] if keras_own else getattr(schedule, name)
        if parameter.default is parameter.empty:
            given.append(_text(value))
        elif value != parameter.default:
            given.append(f"{name}={_text(value)}")
    return f"{place}.{kind.__name__}({', '.join(given)})"


def _text(value) -> str:
    if isinstance(value, Schedule):
        return _call(value)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        _checks.fail("a number of the schedule", value, "must be finite to be printed")
    return repr(value)


# ------------------------------------------------------------------- the function of the step

# For each class: the function of `plain`, and its arguments after the step.
_PLAIN = {
    keras_schedules.ExponentialDecay: lambda s: (
        "exponential",
        [s.initial_learning_rate, s.decay_steps, s.decay_rate, s.staircase],
    ),
    keras_schedules.InverseTimeDecay: lambda s: (
        "inverse_time",
        [s.initial_learning_rate, s.decay_steps, s.decay_rate, s.staircase],
    ),
    keras_schedules.PiecewiseConstantDecay: lambda s: (
        "piecewise_constant",
        [list(s.boundaries), list(s.values)],
    ),
    keras_schedules.PolynomialDecay: lambda s: (
        "endless_polynomial" if s.cycle else "polynomial",
        [s.initial_learning_rate, s.decay_steps, s.end_learning_rate, s.power],
    ),
    keras_schedules.CosineDecayRestarts: lambda s: (
        "cosine_restarts",
        [
            s.initial_learning_rate,
            s.first_decay_steps,
            *map(s.get_config().get, ("t_mul", "m_mul")),
            s.initial_learning_rate * s.alpha,
        ],
    ),
    shapes.Cyclical: lambda s: (
        "cyclical",
        [s.low, s.high, s.period, s.shape, s.amplitude, s.gamma, s.stairs, s.up],
    ),
    shapes.OneCycle: lambda s: ("phases", [s.points(), s.shape]),
    shapes.WarmupStableDecay: lambda s: (
        "warmup_stable_decay",
        [s.peak, s.steps, *s.phases(), s.shape, s.end],
    ),
    shapes.Sigmoid: lambda s: ("sigmoid", [s.peak, s.steps, s.end, s.steepness, s.middle]),
    shapes.InverseSquareRoot: lambda s: ("inverse_square_root", [s.peak, s.timescale]),
    shapes.Power: lambda s: (
        "power_law",
        [
            *(s.peak, s.steps, s.hold, s.exponent),
            *(_parts.steps_of(s.cooldown, s.steps), s.shape, s.end),
        ],
    ),
    shapes.Rex: lambda s: ("rex", [s.peak, s.steps]),
    shapes.Knots: lambda s: ("knots", [s.steps, s.rates, s.shape]),
}


def _expression(schedule, step: str) -> str:
    """The rate at ``step``, an expression, as an expression of functions of ``plain``."""
    kind = type(schedule)
    t_mul = schedule.get_config()["t_mul"] if kind is keras_schedules.CosineDecayRestarts else 1
    if t_mul < 1:
        _checks.fail("t_mul", t_mul, "must be >= 1: shrinking cycles come to an end")
    if kind is keras_schedules.CosineDecay:
        return _cosine(schedule, step)
    if kind in _PLAIN:
        name, arguments = _PLAIN[kind](schedule)
        return f"{name}({', '.join([step, *map(_text, arguments)])})"
    if kind is combined.Warmup:
        rest = [schedule.steps, schedule.shape, schedule.start, schedule.power]
        return f"warmup({step}, {_function(schedule.schedule)}, {', '.join(map(_text, rest))})"
    if kind is combined.Sequential:
        inner = ", ".join(map(_function, schedule.schedules))
        return f"sequential({step}, [{inner}], {schedule.boundaries})"
    if kind is combined.Scale:
        by = schedule.by
        by = _expression(by, step) if isinstance(by, Schedule) else _text(by)
        return f"{_expression(schedule.schedule, step)} * {by}"
    if kind is combined.Floor:
        return f"max({_expression(schedule.schedule, step)}, {schedule.low!r})"
    if kind is combined.Hold:
        return _expression(schedule.schedule, f"min({step}, {schedule.steps})")
    _checks.fail("schedule", schedule, "must be one of Keras's or of this module's")


def _function(schedule) -> str:
    return f"lambda step: {_expression(schedule, 'step')}"


def _cosine(schedule, step: str) -> str:
    """Keras's cosine decay, whose warmup comes before it."""
    peak = schedule.initial_learning_rate
    if schedule.warmup_target is not None:
        peak = schedule.warmup_target
    # alpha is a share of the rate from which the cosine falls.
    arguments = [_text(x) for x in (peak, schedule.decay_steps, peak * schedule.alpha)]
    if schedule.warmup_target is None:
        return f"cosine({', '.join([step, *arguments])})"
    main = f"lambda step: cosine({', '.join(['step', *arguments])})"
    start = _text(schedule.initial_learning_rate)
    return f"warmup({step}, {main}, {schedule.warmup_steps}, 'linear', {start}, 1.0)"


def _functions(expression: str) -> list:
    """The functions of ``plain`` that an expression calls, and those that these call."""
    named = {name: f for name, f in vars(plain).items() if inspect.isfunction(f)}
    found, waiting = set(), [expression]
    while waiting:
        for name in set(re.findall(r"\b(\w+)\(", waiting.pop())) & set(named) - found:
            found.add(name)
            waiting.append(inspect.getsource(named[name]))
    return [function for name, function in named.items() if name in found]
