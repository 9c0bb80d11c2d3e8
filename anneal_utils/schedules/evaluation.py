"""A schedule as a table of rates, and the step at which it is through."""

import numbers

from anneal_utils import _backend, _checks
from anneal_utils._cache import Recent
from anneal_utils.schedules._parts import Composed, Configured, Schedule, ops, parts
from anneal_utils.schedules.combinators import Hold, Scale, Sequential, Warmup
from anneal_utils.schedules.shapes import Knots

import numpy as np
from keras.optimizers import schedules as keras_schedules


def values(schedule, steps: int, *, exact: bool = False, dtype: str = "float32") -> np.ndarray:
    """The rates of steps 0 .. ``steps`` - 1 as ``dtype`` [steps], for a Keras schedule or a number.

    The schedules that ``build`` makes are called once, with the vector of all steps. The first of
    each kind (the same but for its numbers) is checked against single calls at a few of them, which
    cost as much again. The processor's vector instructions for powers and cosines differ from the
    scalar ones in the last bits; ``exact``, and any schedule that refuses vectors or is not known
    here, takes a compiled loop over the steps instead, whose bits are those that ``fit`` sees
    (without XLA), at 5 to 20 times the time. The backend computes that Keras runs on: under JAX
    ``exact`` is the rate of one compiled step, within the rounding of ``fit``'s own, which XLA
    compiles together with all else; under PyTorch it is ``fit``'s to the last bit, one call for
    each step.

    >>> values(0.1, 3)
    array([0.1, 0.1, 0.1], dtype=float32)
    """
    steps = _checks.count("steps", steps)
    _checks.choice("dtype", dtype, ("float32", "float64"))
    if isinstance(schedule, numbers.Real):
        return np.full(steps, _checks.number("schedule", schedule, low=0), dtype)
    if not isinstance(schedule, Schedule):
        _checks.fail("schedule", schedule, "must be a number or a Keras LearningRateSchedule")
    if not exact and _vectorises(schedule):
        rates = schedule(ops.arange(steps, dtype=_backend.STEP))
        table = ops.convert_to_numpy(rates).astype(dtype)
        kind = (_kind_of(schedule), dtype)
        if _agree.get(kind):
            return table
        probes = sorted({0, steps // 2, steps - 1})
        single = [_backend.at(schedule, i) for i in probes]
        # Relative to the largest rate: a decay to zero ends in the rounding of its cosine.
        if np.allclose(table[probes], single, rtol=1e-5, atol=1e-6 * float(table.max())):
            if len(probes) == 3:  # of fewer steps, little is known of the others of its kind
                _agree.put(kind, True, 1)
            return table

    return _backend.one_by_one(schedule, steps, dtype)


_agree = Recent(1024)  # kinds whose vectors were seen to agree with single calls


def _kind_of(value):
    """What a schedule is but for its numbers: classes, what they call, texts, flags, lengths."""
    if isinstance(value, Schedule):
        told = ((name, _kind_of(part)) for name, part in vars(value).items())
        return type(value), type(value).__call__, *told
    if isinstance(value, list | tuple):
        return tuple(map(_kind_of, value))
    return value if isinstance(value, str | bool | None) else type(value)


def _vectorises(schedule) -> bool:
    """Whether a call on a vector of steps gives the rates that ``fit`` applies, up to rounding.

    Not known of a user's class, and false for what rounds ``step / constant`` down: in a graph,
    as in ``fit``, such a schedule may jump one step later than in eager mode.
    """
    plain = (keras_schedules.PiecewiseConstantDecay, keras_schedules.PolynomialDecay)
    plain = plain[1:] if _backend.NAME == "torch" else plain  # where the first one takes no vector
    stairs = (keras_schedules.ExponentialDecay, keras_schedules.InverseTimeDecay)
    return (
        (type(schedule) in plain and not getattr(schedule, "cycle", False))
        or (type(schedule) in stairs and not schedule.staircase)
        or (type(schedule) is keras_schedules.CosineDecay and schedule.warmup_target is None)
        or (_ours(schedule) and all(map(_vectorises, parts(schedule))))
    )


def _ours(schedule) -> bool:
    """Whether it is of a class of this package itself, not one that a user has derived."""
    return isinstance(schedule, Configured) and type(schedule).__module__.startswith(
        f"{__package__}."
    )


def planned(schedule) -> int | None:
    """The step at which a schedule is through, or None where it has no end of its own.

    From there on the rate stays as it is, or the schedule is beyond what it was made for. Known
    for what :func:`build` returns, the classes of this package that take a number of steps, and
    Keras's ``CosineDecay`` and ``PolynomialDecay``.

    >>> planned(Warmup(keras_schedules.CosineDecay(0.1, 90), 10))
    100
    """
    if isinstance(schedule, Warmup):
        rest = planned(schedule.schedule)
        return None if rest is None else schedule.steps + rest
    if isinstance(schedule, Sequential):
        rest = planned(schedule.schedules[-1])
        return None if rest is None else sum(schedule.boundaries[-1:]) + rest
    if isinstance(schedule, Scale):  # moves for as long as one of the two does
        ends = [planned(part) for part in parts(schedule)]
        return None if None in ends else max(ends)
    if isinstance(schedule, Knots):
        return schedule.steps[-1] or None  # one point at step 0: a constant
    if type(schedule) is keras_schedules.CosineDecay:
        return int(schedule.decay_steps + schedule.warmup_steps)
    if type(schedule) is keras_schedules.PolynomialDecay and not schedule.cycle:
        return int(schedule.decay_steps)
    if _ours(schedule) and isinstance(getattr(schedule, "steps", None), int):
        return schedule.steps
    if isinstance(schedule, Composed) and not isinstance(schedule, Hold):
        return planned(schedule.schedule)  # Floor
    return None
