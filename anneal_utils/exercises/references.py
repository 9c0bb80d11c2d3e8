"""What is right in each exercise, and the reasons of wrong answers that are often given."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace

from anneal_utils import _checks

import numpy as np


@dataclass(frozen=True)
class Answer:
    """A number or a text: what is right, in which unit, and pairs ``(wrong answer, reason)``.

    ``right`` is a number or an array (within ``tolerance``, relative), a range ``(low, high)``, a
    text, or a set of texts that will all do. It, and a wrong answer, may be a function of values
    that the notebook measures; they are handed over by the names of its parameters.
    """

    right: object
    unit: str = ""
    tolerance: float = 0.01
    wrong: tuple[tuple[object, str], ...] = ()


@dataclass(frozen=True)
class Function:
    """A function: what it gives at each of ``inputs``, and pairs ``(wrong function, reason)``."""

    right: Callable
    inputs: tuple
    tolerance: float = 1e-6
    wrong: tuple[tuple[Callable, str], ...] = ()


def answer(exercise: str, measured: dict) -> Answer:
    """The reference of an exercise whose answer is a value, with what was measured filled in.

    ``ValueError`` for an unknown exercise and for measured values other than it needs.
    """
    found = _found(exercise, Answer)
    open_ = [part for part in (found.right, *(w for w, _ in found.wrong)) if callable(part)]
    needed = sorted({name for part in open_ for name in inspect.signature(part).parameters})
    if needed != sorted(measured):
        wanted = ", ".join(needed) or "none"
        _checks.fail("measured values", sorted(measured), f"exercise {exercise} needs {wanted}")

    def filled(part):
        if not callable(part):
            return part
        return part(**{name: measured[name] for name in inspect.signature(part).parameters})

    wrong = tuple((filled(value), reason) for value, reason in found.wrong)
    return replace(found, right=filled(found.right), wrong=wrong)


def function(exercise: str) -> Function:
    """The reference of an exercise whose answer is a function; ``ValueError`` if unknown."""
    return _found(exercise, Function)


def _found(exercise: str, kind: type):
    known = {key: entry for key, entry in TABLE.items() if isinstance(entry, kind)}
    return known[_checks.choice("exercise", exercise, known)]


# ------------------------------------------------------------------------------------- the table


def _seeds_for_a_hundredth(sd):
    from anneal_utils import statistics  # SciPy's power analysis, when it is asked for

    return statistics.seeds_needed(0.01, sd)


def _about(share: float, count: Callable) -> Callable:
    """The range of a fifth around ``share`` of a measured count."""
    return lambda sd: (0.8 * share * count(sd), 1.2 * share * count(sd))


TABLE: dict[str, Answer | Function] = {
    "1.1": Function(
        lambda curvatures: 2 / max(curvatures),
        ([1.0], [1.0, 10.0], [0.3, 0.2]),
        wrong=(
            (
                lambda curvatures: 2 / np.asarray(curvatures),
                "That is an edge for each direction; one rate has to serve them all.",
            ),
            (
                lambda curvatures: 2 / min(curvatures),
                "That is the edge of the flattest direction: a steeper one grows before.",
            ),
            (
                lambda curvatures: 2 / curvatures[0],
                "That is the edge of the first direction, which need not be the steepest.",
            ),
            (
                lambda curvatures: 2 / curvatures[-1],
                "That is the edge of the last direction, which need not be the steepest.",
            ),
            (
                lambda curvatures: 1 / max(curvatures),
                "That rate solves the steepest direction in one step; it shrinks up to twice that.",
            ),
            (
                lambda curvatures: 2 / sum(curvatures),
                "Directions do not add up: each shrinks or grows by its own curvature.",
            ),
        ),
    ),
    "1.2": Answer(
        _about(1, _seeds_for_a_hundredth),
        unit="seeds",
        wrong=(
            (1, "One run each is what the colleague had."),
            (_about(2, _seeds_for_a_hundredth), "That counts runs; each seed has two of them."),
            (
                _about(0.25, _seeds_for_a_hundredth),
                "That finds a gap of two percent; half the gap needs four times the seeds.",
            ),
        ),
    ),
    "2.1": Function(
        lambda step: 0.1 * 0.5 ** (step // 100),
        (0, 99, 100, 250),
        wrong=(
            (
                lambda step: 0.1 * 0.5 ** (step / 100),
                "That falls at every step; a staircase holds its rate between two drops.",
            ),
            (
                lambda step: 0.1 * 0.5 ** (max(step - 1, 0) // 100),
                "Off by one: the first step is step 0, so step 100 is the first after the drop.",
            ),
            (
                lambda step: 0.1 * 0.5 ** ((step + 1) // 100),
                "Off by one: the first step is step 0, so step 99 is the last before the drop.",
            ),
            (
                lambda step: 0.1 * (0.5 if step >= 100 else 1),
                "That drops once; it should go on, every 100 steps.",
            ),
            (
                lambda step: 0.5 ** (step // 100),
                "The drops are right; the peak is 0.1.",
            ),
        ),
    ),
    "2.2": Answer(
        1,
        unit="rates",
        tolerance=0,
        wrong=(
            (3, "The schedule has three pieces, but the run ends at step 880."),
            (2, "The first boundary is at step 31,250, and the run ends at step 880."),
            (
                880,
                "That is the number of steps; the question is how many rates differ among them.",
            ),
        ),
    ),
    "2.3": Answer(
        2 / 11,
        tolerance=0.02,
        wrong=(
            (0.2, "Close: that leaves out the minus in 2 - rate."),
            (0.1 / 1.05, "The half in front of the formula is lost."),
            (2 / 9, "A sign is lost: collect the rates on one side, 1 + 2 * 0.05 of them."),
        ),
    ),
}
