"""Schedules against other libraries: what they answered, what they answer, and plain functions.

``peers.json`` holds the rates that the libraries' own code gave, step for step: records of
``library, version, call, peak, steps, rates``, with the expression of ours that has the same rates
over ``span``, or the one that a reader might take for it (``unequal``). PyTorch, timm, Hugging
Face's transformers and fastai are not installed here; optax and Keras are, and are asked again.
"""

import json
import math
import os
import re
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"

from anneal_utils import schedules
from tools import pages

import keras
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_schedules import OBJECTS

S = schedules
K = keras.optimizers.schedules
RECORDS = json.loads((Path(__file__).parent / "peers.json").read_text(encoding="utf-8"))
NAMES = {name: getattr(S, name) for name in S.__all__} | {"keras": keras, "optax": optax}


def tabled(text, steps):
    """The rates of an expression, float64 [steps]."""
    made = eval(text, dict(NAMES))
    if isinstance(made, keras.optimizers.schedules.LearningRateSchedule | float):
        return S.values(made, steps).astype(float)
    return np.array([float(made(step)) for step in range(steps)])


@pytest.mark.parametrize(
    "record",
    [r for r in RECORDS if "ours" in r],
    ids=lambda r: f"{r['library']}-{r['steps']}-{r['call'].split('(')[0].split('.')[-1]}",
)
def test_a_schedule_has_the_rates_that_a_peer_gave(record):
    first, stop = record["span"]
    ours = tabled(record["ours"], stop)[first:]
    peer = record["rates"][first:stop]
    np.testing.assert_allclose(ours, peer, rtol=0, atol=1e-6 * record["peak"])


@pytest.mark.parametrize("record", [r for r in RECORDS if "unequal" in r], ids=lambda r: r["call"])
def test_a_look_alike_is_not_the_same(record):
    steps = min(record["steps"], len(record["rates"]))
    gap = np.abs(tabled(record["unequal"], steps) - record["rates"][:steps]).max()
    assert gap > 1e-4 * record["peak"]


# ------------------------------------------------------------------------------ equivalents

SETTINGS = [(0.1, 100), (0.3, 73)]
RECORDED = {(r["library"], r["call"], r["steps"]): r for r in RECORDS}


@pytest.mark.parametrize("peak, steps", SETTINGS)
def test_every_equivalent_has_the_rates_of_its_peer(peak, steps):
    for row in S.equivalents(peak=peak, steps=steps):
        if row["library"] in ("keras", "optax"):
            theirs = tabled(row["call"], steps)
        else:  # recorded, by this very call
            theirs = RECORDED[row["library"], row["call"], steps]["rates"][:steps]
        ours = tabled(row["ours"], len(theirs))
        if row["schedule"] == "cosine_restarts":  # the peers go on to a fifth cycle
            theirs, ours = theirs[: 4 * (steps // 4)], ours[: 4 * (steps // 4)]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6 * peak, err_msg=str(row))


@settings(deadline=None, max_examples=8, database=None, derandomize=True)
@given(peak=st.floats(1e-3, 2), steps=st.integers(12, 200))
def test_the_calls_of_the_libraries_at_hand_hold_for_any_peak_and_horizon(peak, steps):
    for row in S.equivalents(peak=peak, steps=steps):
        if row["library"] in ("keras", "optax") and "Restarts" not in row["call"]:
            until = 4 * (steps // 4) if row["schedule"] == "cosine_restarts" else steps
            gap = np.abs(tabled(row["ours"], until) - tabled(row["call"], until)).max()
            assert gap <= 3e-6 * peak, row


def test_equivalents_are_asked_by_name():
    rows = S.equivalents("one_cycle", 0.2, 50)
    assert [row["library"] for row in rows] == ["pytorch", "optax", "fastai"]
    assert {row["schedule"] for row in rows} == {"one_cycle"}
    everything = S.equivalents()
    without = set(S.names()) - {row["schedule"] for row in everything}
    assert without == {"rex"}  # no peer has it
    assert {row["library"] for row in everything} == {
        "keras", "pytorch", "transformers", "timm", "optax", "fastai"
    }  # fmt: skip
    for bad in (
        dict(name="rex"),
        dict(name="cosin"),
        dict(peak=0),
        dict(steps=11),
        dict(steps=2.5),
    ):
        with pytest.raises(ValueError, match=rf"^{next(iter(bad))} = .*must"):
            S.equivalents(**bad)


def test_the_page_is_written_from_the_table_and_its_snippet_runs(capsys):
    text = pages.EQUIVALENTS.read_text(encoding="utf-8")
    assert text == pages.equivalents(), "write it anew: python -m tools.pages"
    (snippet,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    exec(snippet, {})
    assert function_of(capsys.readouterr().out)(50) == pytest.approx(0.05)


# ------------------------------------------------------------------------- plain functions

KERAS = {
    "exponential": K.ExponentialDecay(0.3, 40, 0.2),
    "staircase": K.ExponentialDecay(0.3, 40, 0.2, staircase=True),
    "inverse time": K.InverseTimeDecay(0.3, 40, 2.0),
    "inverse staircase": K.InverseTimeDecay(0.3, 40, 2.0, staircase=True),
    "piecewise": K.PiecewiseConstantDecay([20, 40], [0.3, 0.2, 0.1]),
    "polynomial": K.PolynomialDecay(0.3, 40, 0.1, power=0.7),
    "polynomial again": K.PolynomialDecay(0.3, 40, 0.1, power=2.0, cycle=True),
    "cosine": K.CosineDecay(0.3, 40, alpha=0.1),
    "cosine with warmup": K.CosineDecay(0.1, 40, alpha=0.1, warmup_target=0.3, warmup_steps=20),
    "restarts": K.CosineDecayRestarts(0.3, 20, t_mul=2.0, m_mul=0.7, alpha=0.1),
}
EVERY = {**OBJECTS, **KERAS, **{name: S.build(name, 0.3, 90, warmup=9) for name in S.names()}}
EVERY["all at once"] = 0.5 * S.Floor(S.build("rex", 1.0, 90), 0.1) * S.build("wsd", 1.0, 80)


def function_of(text):
    """The function that the text defines, which may use nothing but math."""
    space = {"__builtins__": {**vars(__import__("builtins")), "__import__": only_math}}
    exec(text, space)
    return space["rate"]


def only_math(name, *rest):
    assert name == "math"
    return math


@pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY)
def test_code_is_the_schedule_as_a_plain_function(schedule):
    rate = function_of(S.code(schedule))
    right = [float(schedule(np.int64(step))) for step in range(130)]
    np.testing.assert_allclose([rate(step) for step in range(130)], right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("schedule", EVERY.values(), ids=EVERY)
def test_code_tells_the_call_that_makes_the_schedule(schedule):
    call = S.code(schedule).splitlines()[1].removeprefix("# ")
    again = eval(call, {"schedules": S, "keras": keras})
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()


def test_code_fits_optax_as_a_table():
    rate = function_of(S.code(S.build("one_cycle", 0.3, 40)))
    table = np.array([rate(step) for step in range(41)])
    optimizer = optax.sgd(lambda count: table[np.minimum(count, 40)])
    state = optimizer.init(np.zeros(1))
    for step in (0, 1, 2):
        update, state = optimizer.update(np.ones(1), state)
        assert float(update[0]) == pytest.approx(-table[step], rel=1e-6)


def test_code_prints_arrays_and_refuses_what_has_no_end():
    arrays = K.PiecewiseConstantDecay(np.array([2, 4]), np.array([0.3, 0.2, 0.1]))
    assert [function_of(S.code(arrays))(step) for step in (2, 3, 5)] == [0.3, 0.2, 0.1]
    with pytest.raises(ValueError, match=r"^t_mul = 0.5: must be >= 1"):
        S.code(K.CosineDecayRestarts(0.1, 10, t_mul=0.5))
    with pytest.raises(ValueError, match=r"^a number of the schedule = inf: must be finite"):
        S.code(K.PolynomialDecay(float("inf"), 10))


def test_code_refuses_what_only_its_author_knows():
    class Own(K.LearningRateSchedule):
        def __call__(self, step):
            return 0.1

    for bad in (Own(), S.Warmup(Own(), 3), S.Scale(S.Rex(0.1, 9), Own()), 0.1, "cosine"):
        with pytest.raises(ValueError, match=r"^schedule = .*must be"):
            S.code(bad)
