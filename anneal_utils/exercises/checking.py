"""Self-checks: one line about an answer, with its reason where it is wrong; nothing is raised."""

import copy
import numbers

from anneal_utils import headless
from anneal_utils.exercises import references
from anneal_utils.exercises.references import Answer, Function

import numpy as np

_LOOKED_UP = object()  # no reference is given: it is in the module's table


def check(
    exercise: str, answer, expected=_LOOKED_UP, *, tolerance: float = 0.01, why=(), **measured
) -> None:
    """Print one line about ``answer`` (a number, an array or a text; None or ... = unanswered).

    What is right is looked up by the exercise's number; where it depends on what the notebook has
    measured, that is handed over by name: ``check("1.3", answer, sd=paired_sd)``. ``ValueError``
    for an unknown exercise and for other names than it needs, never for an answer.

    The first edition gives ``expected`` itself (a pair is a range), with a relative ``tolerance``
    and ``why``: pairs ``(wrong value, explanation)``.
    """
    if expected is _LOOKED_UP:
        reference = references.answer(exercise, measured)
    else:
        reference = Answer(expected, tolerance=tolerance, wrong=tuple(why))
    if _open(answer):
        _say(exercise, "not answered yet.")
    elif _matches(answer, reference.right, reference.tolerance):
        _say(exercise, "right.")
    else:
        reasons = [
            r for wrong, r in reference.wrong if _matches(answer, wrong, reference.tolerance)
        ]
        hint = "Open the hint and try again."
        _say(exercise, f"not yet. {reasons[0] if reasons else _slip(answer, reference) or hint}")


def check_function(
    exercise: str, function, expected=None, inputs=(), *, tolerance: float = 1e-6
) -> None:
    """Compare ``function`` with the exercise's reference on its inputs; says where they differ.

    The first edition gives ``expected``, a function too, and ``inputs`` itself.
    """
    reference = references.function(exercise) if expected is None else None
    reference = reference or Function(expected, tuple(inputs), tolerance)
    if _open(function):
        _say(exercise, "not answered yet.")
        return
    mine = []
    for value in reference.inputs:
        try:
            mine.append(function(copy.deepcopy(value)))  # the learner's code may change its input
        except Exception as error:  # the learner's code may raise anything
            _say(exercise, f"not yet. At {value} it raises {error!r}.")
            return
        if _open(mine[-1]):
            _say(exercise, "not answered yet.")
            return
    right = [reference.right(value) for value in reference.inputs]
    if _all_match(mine, right, reference.tolerance):
        _say(exercise, f"right on {len(right)} inputs.")
        return
    for wrong, reason in reference.wrong:
        if _all_match(mine, [wrong(value) for value in reference.inputs], reference.tolerance):
            _say(exercise, f"not yet. {reason}")
            return
    for value, got, wanted in zip(reference.inputs, mine, right, strict=True):
        if not _matches(got, wanted, reference.tolerance):
            _say(exercise, f"not yet. At {value} it gives {got}, not {wanted}.")
            return


def investigate(exercise: str, effect, *, reference: str = "the reference") -> None:
    """Say how a design of the reader's stands to the reference: better, worse, or not told apart.

    ``effect`` is the paired difference of the losses, the reader's minus the reference's
    (``statistics.paired_effect(reference, mine)``), so lower is better; None or ... = not done
    yet. Its interval decides, not its estimate. The numbers are told in a live kernel only.
    """
    if _open(effect):
        _say(exercise, "not answered yet.")
        return
    missing = [part for part in ("low", "high", "n") if not hasattr(effect, part)]
    if missing:
        _say(
            exercise,
            f"not yet. {effect!r} is no interval: give st.paired_effect(reference, yours).",
        )
        return
    if effect.high < 0:
        found = f"your design is better than {reference}, by its whole interval."
    elif effect.low > 0:
        found = f"your design is worse than {reference}, by its whole interval."
    else:
        found = (
            f"your design and {reference} are not told apart: the interval holds zero. That is no "
            "proof that they are equal; more seeds would narrow it."
        )
    _say(exercise, found if headless() else f"{found} Measured: {effect}.")


def _say(exercise: str, sentence: str) -> None:
    print(f"Exercise {exercise}: {sentence}")


def _open(answer) -> bool:
    return answer is None or answer is ...


def _slip(answer, reference: Answer) -> str:
    """The reason of a slip that can happen in any exercise; empty if it is none of them."""
    right, unit = reference.right, f" of {reference.unit}" if reference.unit else ""
    words = isinstance(right, str | set | frozenset)
    if words or isinstance(answer, str):
        return (
            ""
            if words == isinstance(answer, str)
            else (
                "The answer is a word, in quotes."
                if words
                else f"The answer is a number{unit}, without quotes."
            )
        )
    ends = right if isinstance(right, tuple) else (right,)
    if any(isinstance(end, bool) or not isinstance(end, numbers.Real) for end in ends):
        return ""
    if isinstance(right, numbers.Integral) and any(
        _matches(answer, right + step, 0) for step in (-1, 1)
    ):
        return "Off by one: does the counting begin at 0, and does the last one count?"
    for factor in (100, 0.01):
        scaled = tuple(end * factor for end in ends)
        if _matches(answer, scaled if len(ends) == 2 else scaled[0], reference.tolerance):
            return f"A factor of 100: the answer is a number{unit}, and per cent are hundredths."
    return ""


def _all_match(mine: list, right: list, tolerance: float) -> bool:
    pairs = zip(mine, right, strict=True)
    return all(_matches(got, wanted, tolerance) for got, wanted in pairs)


def _matches(answer, expected, tolerance: float) -> bool:
    if isinstance(expected, set | frozenset):
        return any(_matches(answer, one, tolerance) for one in expected)
    if isinstance(expected, str) or isinstance(answer, str):
        return str(answer).strip().lower() == str(expected).strip().lower()
    try:
        answer = np.asarray(answer, float)
    except (TypeError, ValueError):
        return False
    if isinstance(expected, tuple):
        low, high = expected
        return bool(answer.ndim == 0 and low <= answer <= high)
    expected = np.asarray(expected, float)
    return answer.shape == expected.shape and bool(
        np.allclose(answer, expected, rtol=tolerance, atol=1e-12)
    )
