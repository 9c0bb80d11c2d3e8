"""Predictions: asked as text or in a box, kept, and set beside the measurement."""

from anneal_utils import statistics as st
from anneal_utils.exercises import compare, journal, predict, predictions

import ipywidgets
import pytest


@pytest.fixture
def shown(monkeypatch):
    """An empty journal, and a list of what is displayed."""
    displayed = []
    monkeypatch.setattr(predictions, "_JOURNAL", {})
    monkeypatch.setattr("IPython.display.display", lambda data, **_: displayed.append(data))
    return displayed


@pytest.fixture
def live(shown, monkeypatch):
    """Somebody reads the notebook; no machine executes it."""

    def begin():
        for name in ("PYTEST_CURRENT_TEST", "ANNEAL_HEADLESS"):
            monkeypatch.delenv(name, raising=False)
        return shown

    return begin


def field(box):
    """The field of a displayed box, and the label that answers."""
    inner = box.children[1].children
    return inner[0], inner[2]


def test_a_machine_sees_the_question_as_text_and_no_measurement(shown, capsys):
    predict("1.2", "Which loss?", unit="nats")
    predict("1.3", "Which is best?", ["linear", "cosine"])
    plain = [data["text/plain"] for data in shown]
    assert plain == [
        "Predict: Which loss? A number, in nats.",
        "Predict: Which is best? One of: linear, cosine.",
    ]
    assert shown[0]["text/markdown"] == "**Predict**: Which loss? A number, in nats."
    compare("1.2", 0.3)
    compare("1.3", "cosine")
    assert capsys.readouterr().out == ""
    assert journal().measured.tolist() == [0.3, "cosine"]


@pytest.mark.parametrize(
    "typed, measured, words",
    [
        ("0.6", 0.3, "You predicted 0.6 nats; measured 0.3 nats: too large by a factor of 2.\n"),
        ("0,15", 0.3, "You predicted 0.15 nats; measured 0.3 nats: too small by a factor of 2.\n"),
        ("0.3", 0.31, "You predicted 0.3 nats; measured 0.31 nats: within five per cent.\n"),
        ("-1", 0.3, "You predicted -1 nats; measured 0.3 nats.\n"),
        ("0", 0.3, "You predicted 0 nats; measured 0.3 nats.\n"),
        ("", 0.3, "You predicted nothing; measured 0.3 nats.\n"),
        ("much", 0.3, "You predicted nothing; measured 0.3 nats.\n"),
        ("nan", 0.3, "You predicted nothing; measured 0.3 nats.\n"),
        ("3", st.Effect(0.3, 0.2, 0.4, 9), "measured 0.3 nats: too large by a factor of 10.\n"),
    ],
)
def test_a_number_is_recorded_and_compared(live, capsys, typed, measured, words):
    displayed = live()
    predict("1.2", "Which loss?", unit="nats")
    box, told = field(displayed[0])
    box.value = typed
    assert ("a number, please" in told.value) == (typed in ("much", "nan"))
    compare("1.2", measured)
    assert capsys.readouterr().out.endswith(words)


@pytest.mark.parametrize("picked, word", [("cosine", "right."), ("linear", "another one.")])
def test_a_choice_is_recorded_and_compared(live, capsys, picked, word):
    displayed = live()
    predict("1.3", "Which is best?", ["linear", "cosine"])
    box, _ = field(displayed[0])
    assert isinstance(box, ipywidgets.RadioButtons) and box.value is None  # nothing is suggested
    box.value = picked
    compare("1.3", "cosine")
    assert capsys.readouterr().out == f"You predicted {picked}; measured cosine: {word}\n"


def test_a_cell_that_is_run_again_keeps_its_answer_but_not_another_questions(live):
    displayed = live()
    predict("1.2", "Which loss?", unit="nats")
    field(displayed[0])[0].value = "0.6"
    predict("1.2", "Which loss, then?", unit="nats")
    assert field(displayed[1])[0].value == "0.6"
    predict("1.2", "Which is best?", ["linear", "cosine"])
    assert field(displayed[2])[0].value is None and journal().predicted.tolist() == [None]


def test_the_journal_tells_what_was_predicted_and_measured(live):
    displayed = live()
    predict("1.2", "Which loss?", unit="nats")
    predict("1.3", "Which is best?", ["linear", "cosine"])
    predict("1.4", "How many?")
    field(displayed[0])[0].value = "0.6"
    field(displayed[1])[0].value = "linear"
    compare("1.2", 0.3)
    table = journal()
    assert table.index.tolist() == ["1.2", "1.3", "1.4"]
    assert table.loc["1.2", ["predicted", "measured", "unit", "factor"]].tolist() == [
        0.6,
        0.3,
        "nats",
        2.0,
    ]
    assert table.loc["1.3", "predicted"] == "linear" and table.loc["1.4", "predicted"] is None


def test_an_empty_journal_is_an_empty_table(shown):
    assert len(journal()) == 0 and "factor" in journal()


def test_what_can_not_be_asked_or_compared_is_told(shown):
    for question, given, words in (
        (" ", {}, "must be a sentence"),
        ("Which?", {"choices": ["a"]}, "at least two different texts"),
        ("Which?", {"choices": "ab"}, "at least two different texts"),
        ("Which?", {"choices": ["a", "b"], "unit": "steps"}, "belongs to a number"),
    ):
        with pytest.raises(ValueError, match=words):
            predict("1.2", question, **given)
    predict("1.2", "Which?", ["a", "b"])
    predict("1.3", "How many?")
    for name, measured in (("1.2", "c"), ("1.3", "a"), ("9.9", 1)):
        with pytest.raises(ValueError, match="must be"):
            compare(name, measured)
