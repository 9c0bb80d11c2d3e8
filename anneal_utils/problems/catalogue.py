"""Problems by name."""

import functools
import inspect

from anneal_utils import _checks
from anneal_utils.problems.problem import Problem
from anneal_utils.registry import Registry

DATA_SEED = 20_240  # fixes every synthetic data set and every split; never a run's seed
registry = Registry("problem")


def register(name: str, *, overwrite: bool = False):
    """Decorator: add a function that returns a :class:`Problem` under ``name``.

    The function's keyword arguments become knobs of ``load(name, knob=…)``. Run again, as a
    notebook cell, it replaces itself; ``ValueError`` for any other name that is taken, unless
    ``overwrite``.
    """
    return registry.register(name, overwrite=overwrite, depth=2)


def unregister(name: str) -> None:
    """Undo ``register``: take a user's ``name`` out, or give an overwritten one back its own."""
    registry.unregister(name)


def names() -> list[str]:
    """Names that ``load`` knows, in the order in which the course meets them."""
    return registry.names()


def origin(name: str) -> str:
    """Who registered the problem: a module (``__main__``: a notebook or script) and a line."""
    return registry.origin(name)


def load(name: str, **knobs) -> Problem:
    """The problem called ``name``; the same object again for the same knobs.

    ``ValueError`` for an unknown name or knob; ``describe(name)`` tells the knobs.
    """
    make = registry[name]
    allowed = inspect.signature(make).parameters
    for knob in knobs:
        if knob not in allowed:
            _checks.fail("knob", knob, f"problem {name!r} takes {', '.join(allowed) or 'no knobs'}")
    given = {knob: tuple(v) if isinstance(v, list) else v for knob, v in knobs.items()}
    return made(make, tuple(sorted(given.items())))


@functools.lru_cache(maxsize=64)
def made(make, knobs) -> Problem:
    """What ``make`` returns for the knobs; remembered."""
    return make(**dict(knobs))


def describe(name: str) -> str:
    """What the problem is, its knobs and their defaults, as text."""
    make = registry[name]
    return f"{name}{inspect.signature(make)}\n{inspect.cleandoc(make.__doc__ or '')}"
