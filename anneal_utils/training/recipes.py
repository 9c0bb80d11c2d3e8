"""What to train: runs, the recipes of their rates, and the grid that makes them."""

import inspect
import numbers
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from anneal_utils import _checks, schedules
from anneal_utils.optimizers import catalogue as optimizers

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


@dataclass(frozen=True)
class PerStep:
    """A function of the optimizer step, counted from 0, as a recipe; see :func:`per_step`."""

    function: Callable

    def rate(self, step: int) -> float:
        """The rate of a step."""
        return number_of(f"step {step}", self.function(step))


def per_step(function: Callable) -> PerStep:
    """Mark a function, an optax schedule for one, as one of the optimizer step.

    A plain function in :func:`grid` is of the epoch, as in Keras's ``LearningRateScheduler``.

    >>> runs = grid({"mine": per_step(lambda step: 0.1 / (1 + step))}, seeds=[0])
    >>> runs[0].recipe.rate(4)
    0.02
    """
    if not callable(function) or isinstance(function, Schedule):
        _checks.fail("function", function, "must be a function of the step that returns a rate")
    return PerStep(function)


def number_of(where: str, value) -> float:
    """What a function of the epoch or step has answered, as a float."""
    if getattr(value, "shape", None) == () and not isinstance(value, numbers.Real):
        value = np.asarray(value)[()]  # of optax, for one
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        _checks.fail(f"the rate of {where}", value, "must be a number")
    return float(value)


def grid(
    schedules: str | Iterable | Mapping,
    peaks: float | Iterable[float] = (),
    seeds: Iterable[int] = (0,),
    optimizer="sgd",
    *,
    epochs: int | None = None,
    warmup: float | int | None = None,
) -> list[Run]:
    """All combinations of schedules, peaks, seeds (and optimizers) as a list of runs.

    ``schedules``: a catalogue name, a list of names and pairs ``(name, {knob: value})``, or
    ``{label: recipe}``. A recipe is a catalogue name, such a pair, a :class:`Plateau`, or something
    that carries its own rates and so takes no peak: a number (constant rate), a Keras
    ``LearningRateSchedule`` (of the optimizer step), a function of the epoch as
    ``LearningRateScheduler`` takes it, or one of the step in :func:`per_step`.

    ``peaks``: largest rates, or one. ``optimizer``: a registered name or one of Keras's
    (``"sgd"``), an optimizer class, a function of the rate that returns an optimizer, or a dict
    ``{label: one of these}``. ``epochs``: the horizon (default: the problem's). ``warmup``: share
    of the horizon or whole number of steps, for catalogue names (see ``schedules.build``); refused
    beside recipes that carry their own rates.

    ``ValueError`` for anything empty, unknown, negative or not finite.
    """
    if isinstance(seeds, numbers.Real):
        rule = f"must be a list of seeds: range({seeds}) for that many, [{seeds}] for this one"
        _checks.fail("seeds", seeds, rule)
    for name, values in (("seeds", seeds), ("peaks", peaks)):
        if not isinstance(values, Iterable | numbers.Real):
            _checks.fail(name, values, "must be a list of numbers")
    peaks = [peaks] if isinstance(peaks, numbers.Real) else peaks
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
        given = [given]
    if not isinstance(given, Mapping):
        if isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping):
            given = [given]  # one name with its knobs
        if not isinstance(given, Iterable):
            _checks.fail("schedules", given, "must be names, or a dict {label: recipe}")
        given = _labelled(given)
    if not given:
        _checks.fail("schedules", given, "must name at least one schedule")
    return {str(label): _recipe(label, recipe) for label, recipe in given.items()}


def _labelled(given: Iterable) -> dict:
    """Names, and names with knobs, as {label: recipe}."""
    found: dict = {}
    for recipe in given:
        if isinstance(recipe, str):
            label = recipe
        elif isinstance(recipe, tuple | list) and len(recipe) == 2:
            name, knobs = recipe
            label = ":".join([str(name), *(f"{k}={v}" for k, v in dict(knobs).items())])
            recipe = (name, knobs)
        elif isinstance(recipe, numbers.Real | Plateau | Schedule):
            label = str(recipe)
        else:
            named = recipe.function if isinstance(recipe, PerStep) else recipe
            label = getattr(named, "__name__", "<lambda>")
            if label == "<lambda>":
                _checks.fail("schedules", recipe, "needs a label: {label: recipe}")
        if label in found:
            _checks.fail("schedules", label, "must not be given twice")
        found[label] = recipe
    return found


def _recipe(label, recipe):
    """A recipe, checked, with knobs that can be hashed."""
    if isinstance(recipe, str):
        _checks.choice("schedules", recipe, schedules.names())
    elif isinstance(recipe, tuple):
        if len(recipe) != 2 or not isinstance(recipe[1], Mapping):
            _checks.fail(f"schedules[{label!r}]", recipe, "must be a pair (name, {knob: value})")
        name, knobs = recipe
        _checks.choice("schedules", name, schedules.names())
        plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in knobs.items()}
        frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        recipe = (name, tuple(sorted(frozen.items())))
    elif isinstance(recipe, numbers.Real):
        recipe = _checks.number(f"schedules[{label!r}]", recipe, low=0)
    elif not (isinstance(recipe, Schedule | Plateau | PerStep) or callable(recipe)):
        _checks.fail(
            f"schedules[{label!r}]",
            recipe,
            "must be a catalogue name, (name, knobs), a Plateau, a number, a Keras schedule, a "
            "function of the epoch, or per_step(function)",
        )
    elif is_of_the_epoch(recipe) and (named := _first_parameter(recipe)):
        _checks.fail(
            f"schedules[{label!r}]",
            f"a function of {named!r}",
            "a plain function is of the epoch, as LearningRateScheduler's; mark one of the step "
            "with training.per_step(function), or call its parameter epoch",
        )
    return recipe


def is_of_the_epoch(recipe) -> bool:
    """Whether a recipe is a function of the epoch."""
    return callable(recipe) and not isinstance(recipe, Schedule)


def _first_parameter(function) -> str | None:
    """The name of a function's first parameter, if by that it counts steps and not epochs."""
    try:
        first = next(iter(inspect.signature(function).parameters), "")
    except (TypeError, ValueError):
        return None
    return first if re.search("step|iter|count|batch", first) else None
