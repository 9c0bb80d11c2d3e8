"""Self-checks: right, wrong with a reason, unanswered; never an exception."""

from anneal_utils import statistics as st
from anneal_utils.exercises import check, check_function, investigate, references
from anneal_utils.exercises.references import Answer, Function

import numpy as np
import pytest


@pytest.mark.parametrize(
    "answer, expected, word",
    [
        (None, 1.0, "not answered yet"),
        (..., 1.0, "not answered yet"),
        (1.001, 1.0, "right."),
        (1.1, 1.0, "not yet"),
        (5, (4.0, 6.0), "right."),
        (7, (4.0, 6.0), "not yet"),
        ("Cosine ", "cosine", "right."),
        ([1, 2], np.array([1.0, 2.0]), "right."),
        ([1, 2, 3], np.array([1.0, 2.0]), "not yet"),
        (object(), 1.0, "not yet"),
        (100.0, 1.0, "That is in per cent"),
    ],
)
def test_check(capsys, answer, expected, word):
    check("1.1", answer, expected, why=[(100.0, "That is in per cent.")])
    out = capsys.readouterr().out
    assert word in out and out.count("\n") == 1 and out.startswith("Exercise 1.1: ")


@pytest.mark.parametrize(
    "function, word",
    [
        (lambda x: x * x, "right on 3 inputs"),
        (lambda x: 2 * x, "At 3 it gives 6, not 9"),
        (lambda x: None, "not answered yet"),
        (None, "not answered yet"),
        (lambda x: 1 / 0, "At 2 it raises ZeroDivisionError"),
    ],
)
def test_check_function(capsys, function, word):
    check_function("2.1", function, lambda x: x**2, [2, 3, 4])
    assert word in capsys.readouterr().out


def test_a_function_that_changes_its_input_does_not_change_the_question(capsys):
    def spoils(values):
        values[0] = 0.0
        return values

    check_function("2.2", spoils, lambda x: x, [np.array([1.0, 2.0])])
    assert "not yet" in capsys.readouterr().out


# ------------------------------------------------------------------- references in the module

MEASURED = {"1.2": {"sd": 0.03}}  # what a notebook would hand over
ANSWERS = [key for key, entry in references.TABLE.items() if isinstance(entry, Answer)]
FUNCTIONS = [key for key, entry in references.TABLE.items() if isinstance(entry, Function)]


def middle(value):
    """An answer that meets a reference: of a range its middle, of several texts one."""
    if isinstance(value, tuple):
        return sum(value) / 2
    return sorted(value)[0] if isinstance(value, set | frozenset) else value


def told(capsys, how, *arguments, **measured):
    how(*arguments, **measured)
    line = capsys.readouterr().out
    assert line.startswith(f"Exercise {arguments[0]}: ") and line.count("\n") == 1
    return line.removeprefix(f"Exercise {arguments[0]}: ").strip()


@pytest.mark.parametrize("exercise", ANSWERS)
def test_each_wrong_answer_gets_its_own_reason(capsys, exercise):
    measured = MEASURED.get(exercise, {})
    reference = references.answer(exercise, measured)
    assert told(capsys, check, exercise, None, **measured) == "not answered yet."
    assert told(capsys, check, exercise, middle(reference.right), **measured) == "right."
    for wrong, reason in reference.wrong:
        assert told(capsys, check, exercise, middle(wrong), **measured) == f"not yet. {reason}"


@pytest.mark.parametrize("exercise", FUNCTIONS)
def test_each_wrong_function_gets_its_own_reason(capsys, exercise):
    reference = references.function(exercise)
    assert told(capsys, check_function, exercise, lambda x: None) == "not answered yet."
    many = len(reference.inputs)
    right = told(capsys, check_function, exercise, reference.right)
    assert right == f"right on {many} inputs."
    for wrong, reason in reference.wrong:
        assert told(capsys, check_function, exercise, wrong) == f"not yet. {reason}"


def test_a_reference_that_depends_on_a_measurement_is_given_it_by_name(capsys, monkeypatch):
    monkeypatch.setitem(references.TABLE, "0.1", Answer(3))
    for sd in (0.02, 0.2):
        needed = st.seeds_needed(0.01, sd)
        assert told(capsys, check, "1.2", needed, sd=sd) == "right."
        assert told(capsys, check, "1.2", 0.7 * needed, sd=sd).startswith("not yet")
    for given in ({}, {"spread": 0.1}, {"sd": 0.1, "n": 3}):
        with pytest.raises(ValueError, match="exercise 1.2 needs sd"):
            check("1.2", 3, **given)
    with pytest.raises(ValueError, match="exercise 0.1 needs none"):
        check("0.1", 3, sd=0.1)


def test_an_exercise_that_is_not_there_is_told_at_once():
    with pytest.raises(ValueError, match="exercise = '9.9': must be one of '1.2'"):
        check("9.9", None)
    with pytest.raises(ValueError, match="exercise = '1.2': must be one of '1.1'"):
        check_function("1.2", None)


@pytest.mark.parametrize(
    "right, unit, answer, words",
    [
        (300, "steps", 301, "Off by one"),
        (300, "steps", 299, "Off by one"),
        (300, "steps", 302, "Open the hint"),
        (0.25, "", 25, "A factor of 100"),
        (25.0, "per cent", 0.25, "a number of per cent, and per cent are hundredths"),
        ((0.2, 0.3), "", 25, "A factor of 100"),
        (0.25, "steps", "0.25 steps", "a number of steps, without quotes"),
        ("linear", "", 3, "The answer is a word"),
        ({"linear", "straight line"}, "", " Straight Line", "right."),
        ({"linear", "straight line"}, "", "cosine", "Open the hint"),
        (np.array([1.0, 2.0]), "", [100, 200], "Open the hint"),
        (0, "rates", 1, "Off by one"),
        (0.0, "", "none", "without quotes"),
    ],
)
def test_slips_that_happen_in_any_exercise(capsys, monkeypatch, right, unit, answer, words):
    tolerance = 0 if isinstance(right, int) else 0.01
    monkeypatch.setitem(references.TABLE, "0.1", Answer(right, unit, tolerance))
    assert words in told(capsys, check, "0.1", answer)


@pytest.mark.parametrize(
    "effect, words",
    [
        (None, "not answered yet"),
        (..., "not answered yet"),
        (
            st.Effect(-0.2, -0.3, -0.1, 20),
            "better than the tuned step decay, by its whole interval",
        ),
        (st.Effect(0.2, 0.1, 0.3, 20), "worse than the tuned step decay, by its whole interval"),
        (st.Effect(-0.2, -0.5, 0.1, 20), "not told apart: the interval holds zero"),
        (st.Effect(-0.2, -0.5, 0.0, 20), "not told apart"),
        (-0.2, "is no interval"),
    ],
)
def test_an_investigation_is_judged_by_its_interval(capsys, monkeypatch, effect, words):
    def line():
        return told(capsys, investigate, "1.4", effect, reference="the tuned step decay")

    assert words in line() and "Measured" not in line()  # digits that vary are not committed
    for name in ("PYTEST_CURRENT_TEST", "ANNEAL_HEADLESS"):
        monkeypatch.delenv(name, raising=False)
    assert words in line() and ("Measured" in line()) == isinstance(effect, st.Effect)
