"""Self-checks: right, wrong with a reason, unanswered; never an exception."""

from anneal_utils.exercises import check, check_function

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
