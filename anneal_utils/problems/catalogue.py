"""Problems by name."""

import dataclasses
import functools
import inspect
from collections.abc import Hashable

from anneal_utils import _checks
from anneal_utils.problems.problem import Problem
from anneal_utils.registry import Registry

import numpy as np

DATA_SEED = 20_240  # fixes every synthetic data set and every split; never a run's seed
# How often train and tune are divided anew where data are real. As many as there are runs with
# seeds in a row, or more: then each seed has a division of its own, and seeds sample them too.
SPLITS = 25
EVERY = ("batch_size", "epochs")  # knobs of every problem
registry = Registry("problem")
unregister = registry.unregister
names = registry.names
origin = registry.origin


def register(name: str, *, overwrite: bool = False):
    """Decorator: add a function that returns a :class:`Problem` under ``name``.

    The function's keyword arguments become knobs of ``load(name, knob=…)``. Run again, as a
    notebook cell, it replaces itself; ``ValueError`` for any other name that is taken, unless
    ``overwrite``.
    """
    return registry.register(name, overwrite=overwrite, depth=2)


def load(name: str, **knobs) -> Problem:
    """The problem called ``name``; the same object again for the same knobs.

    Every problem takes ``batch_size`` and ``epochs`` too. ``ValueError`` for an unknown name or
    knob; ``describe(name)`` tells the knobs.
    """
    make = registry[name]
    allowed = inspect.signature(make).parameters
    for knob in knobs:
        if knob not in [*allowed, *EVERY]:
            known = ", ".join(dict.fromkeys([*allowed, *EVERY]))
            _checks.fail("knob", knob, f"problem {name!r} takes {known}")
    return made(make, tuple((knob, _frozen(knob, knobs[knob])) for knob in sorted(knobs)))


def _frozen(knob: str, value):
    """A knob's value as one by which a problem can be found again."""
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    value = tuple(value) if isinstance(value, list) else value
    if not isinstance(value, Hashable):
        _checks.fail(knob, value, "must be a number, a text, or a list of them")
    return value


@functools.lru_cache(maxsize=64)
def made(make, knobs) -> Problem:
    """What ``make`` returns for the knobs; remembered. The knobs of every problem are set after."""
    allowed, given = inspect.signature(make).parameters, dict(knobs)
    after = {knob: given.pop(knob) for knob in EVERY if knob in given and knob not in allowed}
    problem = make(**given)
    return dataclasses.replace(problem, **after) if after else problem


def describe(name: str) -> str:
    """What the problem is, its knobs and their defaults, as text."""
    make = registry[name]
    return f"{name}{inspect.signature(make)}\n{inspect.cleandoc(make.__doc__ or '')}"
