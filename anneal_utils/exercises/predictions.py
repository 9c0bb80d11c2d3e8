"""A box for what a reader predicts, and what was measured beside it.

Predictions live in memory, as long as the kernel does; a machine that executes the notebook shows
the question alone.
"""

import math
import numbers
from dataclasses import dataclass

from anneal_utils import _checks, headless

_JOURNAL: dict[str, "_Entry"] = {}


@dataclass
class _Entry:
    question: str
    choices: tuple[str, ...] = ()
    unit: str = ""
    predicted: object = None
    measured: object = None

    def factor(self) -> float | None:
        """How many times too large (or, below 1, too small) a predicted number was."""
        both = (self.predicted, self.measured)
        if any(isinstance(value, bool) or not isinstance(value, numbers.Real) for value in both):
            return None
        predicted, measured = map(float, both)
        if not (predicted * measured > 0 and math.isfinite(predicted) and math.isfinite(measured)):
            return None  # no factor leads over zero
        return predicted / measured


def predict(prediction: str, question: str, choices=None, *, unit: str = "") -> None:
    """Ask for a prediction: one of ``choices``, or else a number (in ``unit``).

    In a live kernel a box records the answer under the name ``prediction``; run again, it keeps
    it. Where a machine executes the notebook the question is displayed as text. ``ValueError`` for
    an empty question, for fewer than two choices, and for choices beside a unit.
    """
    if not str(question).strip():
        _checks.fail("question", question, "must be a sentence")
    if choices is not None and (isinstance(choices, str) or len(set(choices)) < 2):
        _checks.fail("choices", choices, "must be at least two different texts")
    if choices is not None and unit:
        _checks.fail("unit", unit, "belongs to a number; choices have none")
    options = tuple(map(str, choices or ()))
    before = _JOURNAL.get(prediction)
    entry = _JOURNAL[prediction] = _Entry(question, options, unit)
    if before and (before.choices, before.unit) == (options, unit):
        entry.predicted = before.predicted
    _display_text(entry) if headless() else _display_box(entry)


def _display_text(entry: _Entry) -> None:
    from IPython.display import display

    asked = f"One of: {', '.join(entry.choices)}." if entry.choices else "A number"
    if not entry.choices:
        asked += f", in {entry.unit}." if entry.unit else "."
    plain = f"Predict: {entry.question} {asked}"
    markdown = plain.replace("Predict:", "**Predict**:", 1)
    display({"text/plain": plain, "text/markdown": markdown}, raw=True)


def _display_box(entry: _Entry) -> None:
    import ipywidgets
    from IPython.display import display

    if entry.choices:
        field = ipywidgets.RadioButtons(options=entry.choices, value=entry.predicted)
    else:
        # A text field: an empty one is no prediction, where a number field would say 0.
        shown = "" if entry.predicted is None else f"{entry.predicted:g}"
        field = ipywidgets.Text(value=shown, placeholder="a number", continuous_update=False)
    unit = ipywidgets.Label(entry.unit)
    told = ipywidgets.Label("")

    def record(change):
        try:
            entry.predicted = change["new"] if entry.choices else _number(change["new"])
            told.value = "" if entry.predicted is None else "recorded"
        except ValueError:
            told.value = "a number, please, such as 0.3 or 1e-3"

    field.observe(record, names="value")
    question = ipywidgets.HTMLMath(f"<b>Predict</b>: {entry.question}")
    display(ipywidgets.VBox([question, ipywidgets.HBox([field, unit, told])]))


def _number(text: str) -> float | None:
    """The number in a field; None for an empty one, a decimal comma is taken as well."""
    if not text.strip():
        return None
    found = float(text.strip().replace(",", "."))
    if not math.isfinite(found):
        raise ValueError(text)
    return found


def compare(prediction: str, measured) -> None:
    """Set what was ``measured`` beside what was predicted; of numbers, tell the factor between.

    ``measured`` is a number, an ``Effect`` (its estimate), or one of the choices. Nothing is
    printed where a machine executes the notebook. ``ValueError`` for an unknown prediction, and
    for a measurement of another kind than was asked for.
    """
    entry = _JOURNAL[_checks.choice("prediction", prediction, _JOURNAL)]
    measured = getattr(measured, "estimate", measured)
    if entry.choices:
        entry.measured = _checks.choice("measured", measured, entry.choices)
    else:
        entry.measured = _checks.number("measured", measured)
    if headless():
        return
    found = _told(entry, entry.measured)
    if entry.predicted is None:
        print(f"You predicted nothing; measured {found}.")
        return
    print(f"You predicted {_told(entry, entry.predicted)}; measured {found}{_verdict(entry)}")


def _told(entry: _Entry, value) -> str:
    return str(value) if entry.choices else f"{value:.3g} {entry.unit}".strip()


def _verdict(entry: _Entry) -> str:
    if entry.choices:
        return ": right." if entry.predicted == entry.measured else ": another one."
    factor = entry.factor()
    if factor is None:
        return "."
    if 1 / 1.05 <= factor <= 1.05:
        return ": within five per cent."
    way = "large" if factor > 1 else "small"
    return f": too {way} by a factor of {max(factor, 1 / factor):.2g}."


def journal():
    """A table of all predictions of this kernel, with what was measured and the factor between."""
    import pandas as pd

    return pd.DataFrame(
        [
            (name, e.question, e.predicted, e.measured, e.unit, e.factor())
            for name, e in _JOURNAL.items()
        ],
        columns=["prediction", "question", "predicted", "measured", "unit", "factor"],
    ).set_index("prediction")
