"""What to train: runs, the grid that makes them, and what decides one as plain arrays."""

import inspect
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from anneal_utils import _checks, schedules
from anneal_utils.optimizers import catalogue as optimizers
from anneal_utils.problems import Problem

import keras
import numpy as np

Schedule = keras.optimizers.schedules.LearningRateSchedule


@dataclass(frozen=True)
class Run:
    """One training: a schedule (by catalogue name, or as an object), a peak, an optimizer, a seed.

    Made by :func:`grid`. ``schedule`` and ``optimizer`` are labels; ``recipe`` and ``make`` are
    what they stand for. ``peak`` is None when the recipe carries its own rates.
    """

    schedule: str
    recipe: object
    peak: float | None
    seed: int
    optimizer: str
    make: object
    epochs: int | None = None
    warmup: float | int | None = None


@dataclass(frozen=True)
class Plateau:
    """The rules of ``keras.callbacks.ReduceLROnPlateau`` on the held-out loss, as a recipe.

    The run starts at its peak. After ``patience`` epochs whose held-out loss is not below the
    best by more than ``min_delta``, the rate is multiplied by ``factor``, down to ``min_rate``;
    then ``cooldown`` epochs are not counted. ``ValueError`` for a factor outside (0, 1) and for
    negative or fractional counts. Notebook 02.
    """

    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    cooldown: int = 0
    min_rate: float = 0.0

    def __post_init__(self):
        """Check the knobs."""
        _checks.number("factor", self.factor, low=0, open_low=True)
        if self.factor >= 1:
            _checks.fail("factor", self.factor, "must be < 1")
        _checks.count("patience", self.patience)
        _checks.number("min_delta", self.min_delta, low=0)
        _checks.count("cooldown", self.cooldown, low=0)
        _checks.number("min_rate", self.min_rate, low=0)

    def callback(self) -> keras.callbacks.ReduceLROnPlateau:
        """The same rules as a new Keras callback."""
        return keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            mode="min",
            factor=self.factor,
            patience=self.patience,
            min_delta=self.min_delta,
            cooldown=self.cooldown,
            min_lr=self.min_rate,
        )


def grid(
    schedules: Iterable[str] | Mapping,
    peaks: Iterable[float] = (),
    seeds: Iterable[int] = (0,),
    optimizer="sgd",
    *,
    epochs: int | None = None,
    warmup: float | int | None = None,
) -> list[Run]:
    """All combinations of schedules, peaks, seeds (and optimizers) as a list of runs.

    ``schedules``: catalogue names, or ``{label: recipe}``. A recipe is a catalogue name, a pair
    ``(name, {knob: value})``, a :class:`Plateau`, or something that carries its own rates and so
    takes no peak: a number (constant rate), a Keras ``LearningRateSchedule`` (of the optimizer
    step), or a function of the epoch as ``LearningRateScheduler`` takes it. ``peaks`` are largest
    rates; ``optimizer``: a registered name or one of Keras's (``"sgd"``), an optimizer class, a
    function of the rate that returns an optimizer, or a dict ``{label: one of these}``.
    ``epochs``: the horizon (default: the problem's). ``warmup``: share of the horizon or whole
    number of steps, for catalogue names (see ``schedules.build``); refused beside recipes that
    carry their own rates.

    ``ValueError`` for anything empty, unknown, negative or not finite.
    """
    seeds = [_checks.count("seeds", seed, low=0) for seed in seeds]
    peaks = [_checks.positive("peaks", peak) for peak in peaks]
    if not seeds:
        _checks.fail("seeds", seeds, "must hold at least one seed")
    if len(set(seeds)) < len(seeds):
        _checks.fail("seeds", seeds, "must not repeat a seed")
    if epochs is not None:
        epochs = _checks.count("epochs", epochs)
    if warmup is not None:
        if _checks.number("warmup", warmup, low=0) >= 1 and not isinstance(
            warmup, numbers.Integral
        ):
            rule = "must be a share of the horizon in [0, 1), or a whole number of steps"
            _checks.fail("warmup", warmup, rule)
    makers = optimizer if isinstance(optimizer, Mapping) else {None: optimizer}
    runs = []
    for name, make in makers.items():
        label = name or optimizers.label(make)
        optimizers.maker(make)
        for title, recipe in _recipes(schedules).items():
            own = not isinstance(recipe, str | tuple | Plateau)
            if warmup and not isinstance(recipe, str | tuple):
                _checks.fail(
                    "warmup",
                    warmup,
                    f"does not reach schedule {title!r}, which is no catalogue name",
                )
            if not own and not peaks:
                _checks.fail("peaks", peaks, f"schedule {title!r} needs at least one peak")
            for peak in [None] if own else peaks:
                runs += [
                    Run(title, recipe, peak, seed, label, make, epochs, warmup) for seed in seeds
                ]
    return runs


def _recipes(given) -> dict:
    """``given`` as {label: recipe}, each recipe checked; a knob dict becomes hashable."""
    if isinstance(given, str):
        _checks.fail("schedules", given, "must be a list of names or a dict {label: recipe}")
    given = dict(given) if isinstance(given, Mapping) else {name: name for name in given}
    if not given:
        _checks.fail("schedules", given, "must name at least one schedule")
    checked = {}
    for label, recipe in given.items():
        if isinstance(recipe, str):
            _checks.choice("schedules", recipe, schedules.names())
        elif isinstance(recipe, tuple):
            name, knobs = recipe
            _checks.choice("schedules", name, schedules.names())
            plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in knobs.items()}
            frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
            recipe = (name, tuple(sorted(frozen.items())))
        elif isinstance(recipe, numbers.Real):
            recipe = _checks.number(f"schedules[{label!r}]", recipe, low=0)
        elif not (isinstance(recipe, Schedule | Plateau) or callable(recipe)):
            _checks.fail(
                f"schedules[{label!r}]",
                recipe,
                "must be a catalogue name, (name, knobs), a Plateau, a number, a Keras schedule "
                "or a function of the epoch",
            )
        checked[str(label)] = recipe
    return checked


# ----------------------------------------------------------- what decides a run, as plain arrays


def steps_of(problem: Problem, run: Run) -> int:
    """Optimizer steps of the whole run."""
    return (run.epochs or problem.epochs) * problem.steps_per_epoch


def schedule_of(problem: Problem, run: Run):
    """What the run's optimizer follows: a Keras schedule, a number, or a function of the epoch."""
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
    recipe, steps = schedule_of(problem, run), steps_of(problem, run)
    if isinstance(recipe, Schedule | numbers.Real):
        table = schedules.values(recipe, steps, exact=exact, dtype=float_kind())
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
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        _checks.fail(f"schedule {run.schedule!r} at epoch {epoch}", value, "must be a number")
    return float(value)


def _epoch_rates(problem: Problem, run: Run) -> np.ndarray:
    """Rates per epoch of a function of the epoch."""
    # In ``fit`` a function (epoch, rate) sees the optimizer's rate, a variable of Keras's floatx.
    kind = np.dtype(float_kind()).type
    table = [kind(starting_rate(run))]
    for epoch in range(run.epochs or problem.epochs):
        table.append(kind(epoch_rate(run, epoch, float(table[-1]))))
    return np.array(table[1:])


def is_of_the_epoch(recipe) -> bool:
    """Whether a recipe is a function of the epoch."""
    return callable(recipe) and not isinstance(recipe, Schedule)


def starting_rate(run: Run) -> float:
    """The rate before a function of the epoch is first asked: the optimizer's default, or 0.01."""
    maker = optimizers.maker(run.make)
    return float(maker().learning_rate.numpy()) if inspect.isclass(maker) else 0.01


def batches(problem: Problem, seed: int, epochs: int) -> np.ndarray:
    """Indices of the training samples in each batch, int32 [epochs, steps per epoch, batch]."""
    rng = np.random.default_rng([seed, 1])  # 1: the stream of the data order
    size, steps = len(problem.x_train), problem.steps_per_epoch
    shape = (steps, problem.batch_size)
    if problem.sampling == "replacement":
        return rng.integers(size, size=(epochs, *shape), dtype=np.int32)
    used = steps * problem.batch_size
    return np.stack([rng.permutation(size)[:used].reshape(shape) for _ in range(epochs)]).astype(
        np.int32
    )
