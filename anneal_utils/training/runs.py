"""What decides a run, as plain arrays: its rates and the order of its batches."""

import inspect
import numbers

from anneal_utils import _checks, schedules
from anneal_utils._cache import Recent
from anneal_utils.optimizers import catalogue as optimizers
from anneal_utils.problems import Problem
from anneal_utils.training.recipes import (
    PerStep,
    Plateau,
    Run,
    Schedule,
    number_of,
)

import keras
import numpy as np


def steps_of(problem: Problem, run: Run) -> int:
    """Optimizer steps of the whole run."""
    return (run.epochs or problem.epochs) * problem.steps_per_epoch


def schedule_of(problem: Problem, run: Run):
    """What the run's optimizer follows: a Keras schedule, a number, or a function.

    The function is of the epoch, or in a ``PerStep`` of the step.
    """
    if isinstance(run.recipe, str | tuple):
        name, knobs = (run.recipe, ()) if isinstance(run.recipe, str) else run.recipe
        knobs = {"warmup": run.warmup, **dict(knobs)}  # a recipe's own warmup comes first
        return schedules.build(name, run.peak, steps_of(problem, run), **knobs)
    if isinstance(run.recipe, Plateau):
        return run.peak  # until the plateau callback lowers it
    return run.recipe


def float_kind() -> str:
    """Kind of the rates: Keras's ``floatx``, which optimizers keep their rate in."""
    return _checks.choice("keras.config.floatx()", keras.config.floatx(), ("float32", "float64"))


def rates(problem: Problem, run: Run, *, exact: bool = False) -> np.ndarray:
    """The rate of each step of the run, ``floatx`` [steps]: the table that the training applies.

    A :class:`Plateau` lowers its rates while it trains: the table is where it starts from. A
    function of the epoch is asked anew, so a random one gives each run rates of its own.
    ``exact``: to the last bit as ``fit`` computes them (slower; see ``schedules.values``).
    """
    key = _known_by(problem, run, exact)
    table = key and _tables.get(key)
    if table is None:
        table = _rates(problem, run, exact)
        if key:
            table.flags.writeable = False
            _tables.put(key, table, table.nbytes)
    return table


_tables = Recent(32 << 20)


def _known_by(problem: Problem, run: Run, exact: bool) -> tuple | None:
    """What the table of a run is known by, if nothing but that decides it.

    So it is with the package's own schedules; a user's may mean something else the next time.
    """
    if not isinstance(run.recipe, str | tuple):
        return None
    name, knobs = (run.recipe, ()) if isinstance(run.recipe, str) else run.recipe
    if not schedules.catalogue.registry.is_own(name):
        return None
    make = schedules.catalogue.registry[name]
    return make, knobs, run.peak, run.warmup, steps_of(problem, run), exact, float_kind()


def _rates(problem: Problem, run: Run, exact: bool) -> np.ndarray:
    recipe, steps = schedule_of(problem, run), steps_of(problem, run)
    if isinstance(recipe, Schedule | numbers.Real):
        table = schedules.values(recipe, steps, exact=exact, dtype=float_kind())
    elif isinstance(recipe, PerStep):
        table = np.array([recipe.rate(step) for step in range(steps)], float_kind())
    else:
        table = np.repeat(_epoch_rates(problem, run), problem.steps_per_epoch)
    bad = ~(np.isfinite(table) & (table >= 0))
    if bad.any():
        _checks.fail(
            f"schedule {run.schedule!r} at step {int(bad.argmax())}",
            float(table[bad.argmax()]),
            "every rate must be finite and >= 0",
        )
    return table


def epoch_rate(run: Run, epoch: int, rate: float) -> float:
    """What the run's function of the epoch answers, by the rules of ``LearningRateScheduler``.

    A whole number is taken too, which that callback would refuse.
    """
    try:
        value = run.recipe(epoch, rate)
    except TypeError:
        value = run.recipe(epoch)
    return number_of(f"schedule {run.schedule!r} at epoch {epoch}", value)


def _epoch_rates(problem: Problem, run: Run) -> np.ndarray:
    """Rates per epoch of a function of the epoch."""
    # In ``fit`` a function (epoch, rate) sees the optimizer's rate, a variable of Keras's floatx.
    kind = np.dtype(float_kind()).type
    table = [kind(starting_rate(run))]
    for epoch in range(run.epochs or problem.epochs):
        table.append(kind(epoch_rate(run, epoch, float(table[-1]))))
    return np.array(table[1:])


def starting_rate(run: Run) -> float:
    """The rate before a function of the epoch is first asked: the optimizer's default, or 0.01."""
    maker = optimizers.maker(run.make)
    return float(maker().learning_rate.numpy()) if inspect.isclass(maker) else 0.01


def batches(problem: Problem, seed: int, epochs: int) -> np.ndarray:
    """Rows of the training samples in each batch, int32 [epochs, steps per epoch, batch].

    Rows of ``x_train``; of a problem with several splits, rows of train and val together. A run
    of fewer epochs begins as a longer one of its seed does.
    """
    problem.check_epochs(epochs)
    rng = np.random.default_rng([seed, 1])  # 1: the stream of the data order
    size, steps = problem.samples("train"), problem.steps_per_epoch
    shape = (steps, problem.batch_size)
    if problem.sampling == "replacement":
        order = rng.integers(size, size=(epochs, *shape), dtype=np.int32)
    elif problem.sampling == "once":
        used = epochs * steps * problem.batch_size
        order = rng.permutation(size)[:used].reshape(epochs, *shape)
    else:
        used = steps * problem.batch_size
        drawn = 1 if problem.sampling == "repeat" else epochs
        order = np.stack([rng.permutation(size)[:used].reshape(shape) for _ in range(drawn)])
        order = np.broadcast_to(order, (epochs, *shape))
    rows = problem.rows(seed)
    return order.astype(np.int32) if rows is None else rows[0][order]
