"""The catalogue: names, knobs and what is left out, shapes in the horizon, what is registered."""

from anneal_utils import schedules

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_schedules import OBJECTS, by_rule, few, near, vector

K = keras.optimizers.schedules
S = schedules


CATALOGUE = (
    "constant step exponential inverse_time inverse_sqrt polynomial linear cosine sigmoid wsd "
    "power triangular triangular2 exp_range cosine_restarts one_cycle rex"
).split()
RISING = {"triangular", "triangular2", "exp_range", "cosine_restarts", "one_cycle"}
LAST = dict.fromkeys(["polynomial", "linear", "cosine", "sigmoid", "wsd", "rex"], 0.0)
LAST |= {"constant": 1.0, "step": 0.5**4, "exponential": 0.01, "inverse_time": 0.01}
LAST |= {"inverse_sqrt": 21**-0.5, "power": 0.0, "one_cycle": 4e-6}


def test_the_catalogue_has_its_names_and_descriptions():
    assert S.names() == CATALOGUE
    lines = [S.describe(name) for name in CATALOGUE]
    assert len(set(lines)) == len(lines) and all("\n" not in line and line for line in lines)


DEFAULTS = {
    "constant": {},
    "step": dict(drops=4, factor=0.5, milestones=None),
    "exponential": dict(end=0.01, floor=0.0),
    "inverse_time": dict(end=0.01),
    "inverse_sqrt": dict(timescale=0.05),
    "polynomial": dict(power=2.0, end=0.0),
    "linear": dict(end=0.0),
    "cosine": dict(end=0.0),
    "sigmoid": dict(end=0.0, steepness=10.0, middle=0.5),
    "wsd": dict(cooldown=0.2, shape="linear", end=0.0),
    "power": dict(exponent=0.51, hold=0.1, cooldown=0.2, shape="linear", end=0.0),
    "triangular": dict(cycles=3, low=0.1, rise=0.5),
    "triangular2": dict(cycles=3, low=0.1, rise=0.5),
    "exp_range": dict(cycles=3, low=0.1, end=0.1, rise=0.5),
    "cosine_restarts": dict(cycles=3, end=0.0, growth=1.0, decay=1.0),
    "one_cycle": dict(rise=0.3, shape="cosine", start_divisor=25.0, final_divisor=1e4, tail=0.0),
    "rex": {},
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_knob_that_is_left_out_has_its_published_value(name):
    left_out, spelled_out = S.build(name, 0.7, 61), S.build(name, 0.7, 61, **DEFAULTS[name])
    assert type(left_out) is type(spelled_out) is S.Hold
    assert left_out.get_config() == spelled_out.get_config()


@pytest.mark.parametrize(
    ("short", "full"),
    [
        (S.Cyclical(0.1, 0.3, 9), S.Cyclical(0.1, 0.3, 9, "triangle", "constant", 1.0, 4, None)),
        (S.OneCycle(0.3, 90), S.OneCycle(0.3, 90, 0.3, "cosine", 25.0, 1e4, 0.0, "optax")),
        (S.WarmupStableDecay(0.3, 90), S.WarmupStableDecay(0.3, 90, 0.2, 0.0, "linear", 0.0)),
        (S.Sigmoid(0.3, 90), S.Sigmoid(0.3, 90, 0.0, 10.0, 0.5)),
        (S.Power(0.3, 90, 7), S.Power(0.3, 90, 7, 0.51, 0.2, "linear", 0.0)),
        (S.Warmup(S.Rex(0.3, 90), 9), S.Warmup(S.Rex(0.3, 90), 9, "linear", 0.0, 2.0)),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_an_argument_that_is_left_out_has_its_published_value(short, full):
    assert short.get_config() == full.get_config()


@pytest.mark.parametrize("steps", [20, 100, 123])
@pytest.mark.parametrize("warmup", [None, 0.1])
@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_properties(name, warmup, steps):
    peak, rise = 0.7, by_rule(warmup, steps)
    schedule = S.build(name, peak, steps, warmup=warmup)
    rates = S.values(schedule, 2 * steps)
    assert (rates >= 0).all()
    assert rates.max() <= peak * (1 + 1e-6)
    within = rates[:steps]
    assert within.max() >= peak * (1 - 1e-6)
    assert (rates[steps:] == rates[steps]).all()
    assert (within > 0).all()
    if name not in RISING:
        assert (np.diff(within[rise:]) <= peak * 1e-6).all()
        assert within[rise] == pytest.approx(peak)
    if name in LAST:
        assert rates[steps] == pytest.approx(peak * LAST[name], rel=1e-4, abs=1e-7)
        assert rates[steps - 1] > 0
    if rise and name != "one_cycle":
        first = 0.1 if name.startswith(("tri", "exp_r")) else 1.0
        near(within[: rise + 1], peak * first * np.arange(1, rise + 2) / (rise + 1), peak)
    if name == "one_cycle":
        assert within.argmax() == round((warmup or 0.3) * steps)


@few
@given(steps=st.integers(2, 500), drops=st.integers(1, 12), warmup=st.sampled_from([0, 0.2]))
def test_step_boundaries_lie_inside_the_horizon(steps, drops, warmup):
    main = steps - by_rule(warmup, steps)
    if drops >= main:
        with pytest.raises(ValueError, match=r"^drops = "):
            S.build("step", 1.0, steps, drops=drops, warmup=warmup)
        return
    rates = S.values(S.build("step", 1.0, steps, drops=drops, warmup=warmup), steps)
    levels, lengths = np.unique(rates[steps - main :], return_counts=True)
    np.testing.assert_allclose(levels[::-1], 0.5 ** np.arange(drops + 1), rtol=1e-6)
    assert lengths.max() - lengths.min() <= 1  # equally long treads


@pytest.mark.parametrize("name", ["triangular", "triangular2", "exp_range", "cosine_restarts"])
def test_all_cycles_lie_inside_the_horizon(name):
    rates = S.values(S.build(name, 1.0, 120, cycles=4), 120)
    turns = np.flatnonzero((rates[1:-1] > rates[:-2]) & (rates[1:-1] > rates[2:])) + 1
    apexes = [30, 60, 90] if name == "cosine_restarts" else [15, 45, 75, 105]
    assert turns.tolist() == apexes


def test_cyclical_amplitudes_of_the_catalogue():
    apexes = [15, 45, 75]
    height = {
        name: (S.values(S.build(name, 1.0, 90), 90)[apexes] - 0.1) / 0.9
        for name in ("triangular", "triangular2", "exp_range")
    }
    near(height["triangular"], [1, 1, 1])
    near(height["triangular2"], [1, 0.5, 0.25])
    near(height["exp_range"], 0.1 ** (np.array([0, 30, 60]) / 90))  # from the first apex on


def test_restart_cycles_grow_and_fill_the_horizon():
    rates = S.values(S.build("cosine_restarts", 1.0, 70, growth=2), 71)
    assert np.flatnonzero(np.diff(rates) > 0).tolist() == [9, 29]  # cycles of 10, 20 and 40
    near(rates[[0, 10, 30, 70]], [1, 1, 1, 0])


def test_the_tail_of_one_cycle_goes_from_the_start_to_the_end():
    rates = vector(S.OneCycle(0.3, 100, 0.4, "linear", 10, 100, tail=0.2), [0, 40, 60, 80, 90, 100])
    near(rates, [0.03, 0.3, 0.165, 0.03, 0.01515, 0.0003])


def test_one_cycle_warmup_sets_its_own_rise():
    assert S.values(S.build("one_cycle", 1.0, 50, warmup=0.5), 50).argmax() == 25
    assert isinstance(S.build("one_cycle", 1.0, 50, warmup=0.5).schedule, S.OneCycle)
    assert S.values(S.build("one_cycle", 1.0, 50, warmup=0), 50).argmax() == 0  # none
    assert S.values(S.build("one_cycle", 1.0, 50, warmup=7), 50).argmax() == 7


def test_a_registered_schedule_appears_builds_and_leaves():
    @S.register("mine")
    def mine(peak, steps, share=0.5):
        """Half of the linear decay.

        More words.
        """
        return K.PolynomialDecay(peak, steps, share * peak)

    try:
        assert S.names() == [*CATALOGUE, "mine"]
        assert S.describe("mine") == "Half of the linear decay."
        near(S.values(S.build("mine", 1.0, 10, share=0.2), 11)[[0, 5, 10]], [1, 0.6, 0.2])
        assert isinstance(S.build("mine", 1.0, 10, warmup=0.2).schedule, S.Warmup)
        with pytest.raises(ValueError, match=r"^name = 'mine'"):
            S.register("mine")(lambda peak, steps: peak)
        with pytest.raises(ValueError, match=r"^knob = 'power'.*share"):
            S.build("mine", 1.0, 10, power=2)
    finally:
        S.unregister("mine")
    assert S.names() == CATALOGUE
    with pytest.raises(ValueError, match=r"^name = 'mine'"):
        S.build("mine", 1.0, 10)


def test_overwriting_a_catalogue_name_keeps_its_place_and_can_be_undone():
    @S.register("cosine", overwrite=True)
    def half(peak, steps):
        return K.CosineDecay(peak / 2, steps)

    try:
        assert S.names() == CATALOGUE
        near(S.values(S.build("cosine", 1.0, 10), 1), [0.5])
    finally:
        S.unregister("cosine")
    near(S.values(S.build("cosine", 1.0, 10), 1), [1.0])


def test_a_registered_function_with_open_knobs_takes_them_and_must_return_a_schedule():
    @S.register("wrong")
    def wrong(peak, steps, **knobs):
        return knobs["value"]

    try:
        assert S.describe("wrong") == "wrong"
        with pytest.raises(ValueError, match=r"^schedule 'wrong' = 0.1"):
            S.build("wrong", 1.0, 10, value=0.1)
        assert S.build("wrong", 1.0, 10, value=OBJECTS["rex"]).schedule is OBJECTS["rex"]
    finally:
        S.unregister("wrong")
