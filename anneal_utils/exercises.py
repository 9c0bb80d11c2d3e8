"""Self-checks for the exercises: they need no server, and say why an answer is off."""

import copy

import numpy as np


def check(exercise: str, answer, expected, *, tolerance: float = 0.01, why=()) -> None:
    """Print one line about ``answer`` (a number, an array or a text; None or ... = unanswered).

    Right means within ``tolerance`` (relative) of ``expected``, or inside it when ``expected``
    is a pair ``(low, high)``, for instance a measured interval. ``why`` explains wrong answers:
    pairs ``(wrong value, explanation)``. Nothing is raised.
    """
    if answer is None or answer is ...:
        print(f"Exercise {exercise}: not answered yet.")
        return
    if _matches(answer, expected, tolerance):
        print(f"Exercise {exercise}: right.")
        return
    for wrong, explanation in why:
        if _matches(answer, wrong, tolerance):
            print(f"Exercise {exercise}: not yet. {explanation}")
            return
    print(f"Exercise {exercise}: not yet. Open the hint and try again.")


def check_function(exercise: str, function, expected, inputs, *, tolerance=1e-6) -> None:
    """Compare ``function`` with ``expected`` on each of ``inputs``; says where they differ."""
    if function is None or function is ...:
        print(f"Exercise {exercise}: not answered yet.")
        return
    for value in inputs:
        try:
            mine = function(copy.deepcopy(value))  # the learner's code may change its input
        except Exception as error:  # the learner's code may raise anything
            print(f"Exercise {exercise}: not yet. At {value} it raises {error!r}.")
            return
        if mine is None or mine is ...:
            print(f"Exercise {exercise}: not answered yet.")
            return
        if not _matches(mine, expected(value), tolerance):
            print(
                f"Exercise {exercise}: not yet. At {value} it gives {mine}, not {expected(value)}."
            )
            return
    print(f"Exercise {exercise}: right on {len(inputs)} inputs.")


def _matches(answer, expected, tolerance: float) -> bool:
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
