"""Schedules where they end, where steps are many, and where shares meet whole steps."""

from anneal_utils import problems, schedules, training

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_schedules import by_rule, few, three_ways

K = keras.optimizers.schedules
S = schedules

NAMES = S.names()

many = settings(few, max_examples=25)


# ------------------------------------------------------------------------- the horizon

KNOBS = {
    "step": dict(factor=st.floats(0.1, 1), drops=st.integers(1, 3)),
    "exponential": dict(end=st.floats(1e-4, 1), floor=st.sampled_from([0.0, 0.2])),
    "inverse_time": dict(end=st.floats(1e-4, 1)),
    "inverse_sqrt": dict(timescale=st.floats(0.01, 2)),
    "polynomial": dict(power=st.floats(0.1, 4), end=st.floats(0, 1)),
    "linear": dict(end=st.floats(0, 1)),
    "cosine": dict(end=st.floats(0, 1)),
    "sigmoid": dict(steepness=st.floats(0.5, 40), middle=st.floats(0, 1), end=st.floats(0, 1)),
    "wsd": dict(
        cooldown=st.floats(0.05, 1),
        end=st.floats(0.01, 1),
        shape=st.sampled_from(["linear", "sqrt", "cosine", "exponential"]),
    ),
    "power": dict(
        exponent=st.floats(0, 0.6),
        hold=st.floats(0.05, 1),
        end=st.floats(0.001, 0.05),
        shape=st.sampled_from(["linear", "sqrt", "cosine", "exponential"]),
    ),
    **{
        name: dict(cycles=st.integers(1, 3), low=st.floats(0, 1), rise=st.floats(0.05, 0.95))
        for name in ("triangular", "triangular2", "exp_range")
    },
    "cosine_restarts": dict(
        cycles=st.integers(1, 3), end=st.floats(0, 0.2), decay=st.floats(0.5, 1)
    ),
    "one_cycle": dict(
        shape=st.sampled_from(["cosine", "linear"]), tail=st.sampled_from([0.0, 0.1])
    ),
}
KNOBS["exp_range"] |= dict(end=st.floats(1e-3, 1))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_reaches_its_peak_and_holds_its_last_value(name):
    @many
    @given(
        knobs=st.fixed_dictionaries(KNOBS.get(name, {})),
        peak=st.floats(1e-4, 10),
        steps=st.integers(12, 400),
        warmup=st.sampled_from([None, 0.0, 0.1, 0.37, 3]),
    )
    def check(knobs, peak, steps, warmup):
        schedule = S.build(name, peak, steps, warmup=warmup, **knobs)
        rates = S.values(schedule, steps + 50)
        assert rates[:steps].max() == pytest.approx(peak, rel=2e-6)
        assert np.isfinite(rates).all() and rates.min() >= 0
        assert (rates[steps:] == rates[steps]).all()
        assert S.planned(schedule) == steps

    check()


@pytest.mark.parametrize("steps", [7, 10, 41, 83, 100, 1000])
@pytest.mark.parametrize("name", NAMES)
def test_what_build_returns_holds_eagerly_in_a_graph_and_under_xla(name, steps):
    # Before: polynomial NaN under XLA, cycles climbing again, exponential falling on.
    knobs = dict(power=0.9) if name == "polynomial" else {}
    schedule = S.build(name, 0.7, steps, **knobs)
    last = three_ways(schedule, [steps, steps + 1, 2 * steps, 10 * steps + 3, 2**31 - 1])
    assert np.isfinite(last).all() and (last >= 0).all() and (last <= 0.7 * (1 + 1e-6)).all()
    assert (last == last[0, 0]).all()
    before = three_ways(schedule, [steps - 1])
    assert np.isfinite(before).all()


def test_weights_survive_training_past_the_horizon_of_a_fractional_power():
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    rate = S.build("polynomial", 0.1, 7, power=0.9)
    model.compile(keras.optimizers.SGD(rate), "mse", jit_compile=True)
    model.fit(np.ones([20, 1]), np.ones([20, 1]), batch_size=1, verbose=0)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


def test_a_class_alone_goes_on_as_its_peers_do():
    t = [100, 120, 150]
    with_end = np.asarray(K.ExponentialDecay(1.0, 100, 0.01)(tf.constant(t, tf.int64)))
    np.testing.assert_allclose(with_end, 0.01 ** (np.array(t) / 100), rtol=1e-5)
    climbing = np.asarray(S.Cyclical(0.0, 1.0, 100)(tf.constant(t, tf.int64)))
    np.testing.assert_allclose(climbing, [0, 0.4, 1], atol=1e-6)


@pytest.mark.parametrize(
    "schedule, steps",
    [
        (S.build("cosine", 0.1, 100, warmup=0.1), 100),
        (K.CosineDecay(0.1, 90), 90),
        (K.CosineDecay(0.0, 90, warmup_target=0.1, warmup_steps=10), 100),
        (K.PolynomialDecay(0.1, 50), 50),
        (K.PolynomialDecay(0.1, 50, cycle=True), None),
        (K.ExponentialDecay(0.1, 50, 0.5), None),
        (S.Cyclical(0.1, 0.2, 10), None),
        (S.Warmup(S.Rex(0.1, 40), 7), 47),
        (S.Warmup(S.InverseSquareRoot(0.1, 40), 7), None),
        (S.Sequential([S.Rex(0.1, 40), S.OneCycle(0.2, 30)], [25]), 55),
        (S.Sequential([S.Rex(0.1, 40)], []), 40),
        (S.Rex(0.1, 40) * S.Sigmoid(1.0, 60), 60),
        (S.Rex(0.1, 40) * 0.5, 40),
        (S.Rex(0.1, 40) * K.ExponentialDecay(0.1, 50, 0.5), None),
        (S.Floor(S.Rex(0.1, 40), 0.01), 40),
        (S.Knots([0, 9, 33], [0.1, 0.2, 0.0]), 33),
        (S.Knots([0], [0.1]), None),
        (S.Hold(S.Cyclical(0.1, 0.2, 10), 25), 25),
    ],
)
def test_the_step_at_which_a_schedule_is_through(schedule, steps):
    assert S.planned(schedule) == steps


# ------------------------------------------------------------------------ whole numbers


@pytest.mark.parametrize(
    "schedule, step, right",
    [
        (S.Cyclical(0.0, 1.0, 510), 4_244_219, None),
        (S.Cyclical(0.0, 1.0, 10, "cosine"), 2**23 + 9, None),
        (S.Cyclical(0.5, 1.0, 7, "step"), 2**24 + 3, None),
        (S.Cyclical(0.5, 1.0, 7, "exponential"), 2**31 - 1, None),
        (S.Cyclical(0.5, 1.0, 10, up=4), 2**31 - 8, None),
        (S.Warmup(S.Cyclical(0.0, 1.0, 4), 2**24 + 1), 2**24 + 4, 0.5),
        (S.Sequential([S.Rex(1.0, 5), S.Cyclical(0.0, 1.0, 4)], [2**30 + 1]), 2**30 + 2, 0.5),
        (S.WarmupStableDecay(1.0, 2**30 + 4, cooldown=4 / 2**30), 2**30 + 3, 0.25),
        (S.OneCycle(1.0, 2**30, 2**30 - 4, "linear"), 2**30 - 1, 0.25),
        (S.OneCycle(1.0, 2**31, 0.25, "linear", convention="pytorch"), 2**29 - 1, 1.0),
        (S.Knots([0, 2**30, 2**30 + 4], [0.0, 1.0, 0.0]), 2**30 + 1, 0.75),
        (S.Hold(S.Cyclical(0.0, 1.0, 4), 2**30 + 1), 2**30 + 7, 0.5),
        (S.Rex(1.0, 4) * S.Cyclical(0.0, 1.0, 4), 2**31 - 1, 0.0),
    ],
)
def test_a_step_beyond_the_whole_numbers_of_float32_is_the_step_that_it_is(schedule, step, right):
    if right is None:  # the same place in the first cycle
        right = float(schedule(step % schedule.period))
    for kind in (np.int32, np.int64):
        assert float(schedule(kind(step))) == pytest.approx(right, abs=1e-5)
    np.testing.assert_allclose(three_ways(schedule, [step]), right, atol=1e-5)


@many
@given(
    low=st.floats(0, 1),
    high=st.floats(1, 10),
    period=st.integers(2, 5000),
    shape=st.sampled_from(["triangle", "step", "exponential", "cosine"]),
    amplitude=st.sampled_from(["constant", "halved"]),
    stairs=st.integers(2, 7),
    cycle=st.integers(0, 2**31 // 5001),
    done=st.floats(0, 1),
)
def test_cycles_repeat_to_the_end_and_stay_between_low_and_high(
    low, high, period, shape, amplitude, stairs, cycle, done
):
    assume(low > 0 or shape != "exponential")
    done = int(done * (period - 1))
    schedule = S.Cyclical(low, high, period, shape, stairs=stairs)
    step = cycle * period + done
    rates = three_ways(schedule, [step])
    np.testing.assert_allclose(rates, float(schedule(done)), atol=2e-6 * high)
    shrunk = three_ways(S.Cyclical(low, high, period, shape, amplitude), [step])
    for rate in (rates, shrunk):
        assert (rate >= np.float32(low)).all() and (rate <= np.float32(high)).all()


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"])
@pytest.mark.parametrize("name", NAMES)
def test_a_step_of_any_whole_kind_is_the_step_that_it_is(name, kind):
    # Before: a horizon of 300 wrapped round in 8 bits.
    for steps in (300, 40000):
        schedule = S.build(name, 0.7, steps, warmup=0.2)
        right = [float(schedule(step)) for step in (0, 3, 100)]
        for made in (np.dtype(kind).type, lambda step: tf.constant(step, kind)):
            assert [float(schedule(made(step))) for step in (0, 3, 100)] == right


@pytest.mark.parametrize("name", ["polynomial", "linear", "constant", "cosine", "one_cycle"])
def test_horizons_of_billions_of_steps_stay_finite_and_not_negative(name):
    # Before: linear -1.65e-09 and a fractional power NaN under XLA, one step before the end.
    knobs = dict(power=0.9) if name == "polynomial" else {}
    for steps in (1_373_955_578, 2**31):
        schedule = S.build(name, 0.1, steps, **knobs)
        rates = three_ways(schedule, [0, steps // 2, steps - 1])
        assert np.isfinite(rates).all() and (rates >= 0).all()
        assert float(schedule(0)) > 0
    with pytest.raises(ValueError, match=r"^steps = 2147483649: must be <= 2 \*\* 31"):
        S.build(name, 0.1, 2**31 + 1)


@pytest.mark.parametrize("power", [0.9, 1.0])
def test_a_polynomial_that_ends_before_the_horizon_stays_at_its_end(power):
    # Before: NaN for 79 of the 118 lengths under XLA.
    for length in (3, 5, 6, 7, 9, 12):
        inner = S.Warmup(K.PolynomialDecay(0.1, length, 0.02, power), 5)
        rates = three_ways(S.Hold(inner, length + 15), [length + 5, length + 8])
        np.testing.assert_allclose(rates, 0.02, rtol=1e-4)


def test_a_schedule_can_be_built_while_a_step_is_traced():
    for autograph in (True, False):

        @tf.function(autograph=autograph)
        def rate(step):
            return S.build("cosine", 0.1, 10, warmup=2)(step)

        assert float(rate(tf.constant(1, tf.int64))) == pytest.approx(0.2 / 3)


def test_long_knots_are_found_in_every_mode():
    knots = list(range(0, 6000, 2))
    rates = np.random.default_rng(0).uniform(0.1, 1, len(knots)).tolist()
    steps = [0, 1, 2, 3001, 5997, 5998, 9999]
    right = np.interp(steps, knots, rates)
    np.testing.assert_allclose(three_ways(S.Knots(knots, rates), steps), [right] * 3, rtol=1e-5)


class Particular(K.LearningRateSchedule):
    """A user's: compares the step with an int64 constant, which no other kind can be."""

    def __call__(self, step):
        assert step.dtype == tf.int64
        return tf.where(step < tf.constant(10, tf.int64), 0.1, 0.05)


@pytest.mark.parametrize(
    "around",
    [
        lambda inner: S.Warmup(inner, 4),
        lambda inner: S.Sequential([inner, inner], [20]),
        lambda inner: S.Scale(inner, 2.0),
        lambda inner: S.Scale(inner, inner),
        lambda inner: S.Rex(1.0, 40) * inner,
        lambda inner: inner * S.Rex(1.0, 40),
        lambda inner: S.Floor(inner, 0.01),
        lambda inner: S.Hold(inner, 30),
        lambda inner: S.Hold(S.Warmup(S.Sequential([inner, S.Floor(inner, 0.1)], [5]), 4), 30),
    ],
)
def test_the_step_is_handed_on_in_its_own_kind(around):
    schedule = around(Particular())
    rates = three_ways(schedule, [0, 3, 4, 13, 14, 25, 31])
    assert np.isfinite(rates).all()
    np.testing.assert_allclose(rates[0], rates[1], rtol=1e-6)
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedule), "mse")
    model.fit(np.ones([6, 1]), np.ones([6, 1]), batch_size=1, verbose=0)


# ------------------------------------------------------------------------------- shares


@many
@given(steps=st.integers(2, 500), share=st.floats(0, 0.9), whole=st.integers(0, 30))
def test_one_rule_for_every_share(steps, share, whole):
    rise, other = by_rule(share, steps), min(whole, steps - 1)
    assume(rise < steps - 1)
    for name in ("constant", "cosine", "wsd"):
        if name == "wsd" and rise + by_rule(0.2, steps - rise) > steps:
            continue
        up = S.values(S.build(name, 1.0, steps, warmup=share), steps)
        assert (np.diff(up[: rise + 1]) > 0).all() and up[rise] == pytest.approx(1)
    assert S.values(S.build("one_cycle", 1.0, steps, warmup=share), steps).argmax() == rise
    assert S.values(S.OneCycle(1.0, steps, share), steps).argmax() == rise
    assert S.values(S.build("one_cycle", 1.0, steps, warmup=other), steps).argmax() == other
    given_ = S.values(S.build("linear", 1.0, steps, warmup=other), steps)
    assert given_.argmax() == other
    cooldown = S.values(S.WarmupStableDecay(1.0, steps, cooldown=max(share, 0.01)), steps + 1)
    assert (cooldown < 1).sum() == by_rule(max(share, 0.01), steps)
    level = S.Power(1.0, steps, steps, cooldown=share)
    assert (S.values(level, steps + 1) < 1).sum() == rise


def test_a_recipe_may_have_a_warmup_of_its_own():
    # Before: taken by grid, then a TypeError in every run.
    digits = problems.load("digits")
    mixed = {"own": ("cosine", {"warmup": 0.5}), "milestones": ("step", {"milestones": [0.3]})}
    own, other = training.grid(mixed, [0.1])
    assert training.rates(digits, own).argmax() == digits.epochs * digits.steps_per_epoch // 2
    again = training.grid({"m": ("step", {"milestones": np.array([0.3])})}, [0.1])[0]
    np.testing.assert_array_equal(training.rates(digits, other), training.rates(digits, again))
    assert hash(again)
    with pytest.raises(ValueError, match=r"^warmup = 1.5: must be a share"):
        training.grid(["cosine"], [0.1], warmup=1.5)


def test_a_share_too_small_for_a_step_is_one_step():
    # Before: no warmup at all, without a word.
    rates = S.values(S.build("constant", 1.0, 30, warmup=0.01), 30)
    np.testing.assert_allclose(rates[:3], [0.5, 1, 1])


@pytest.mark.parametrize(
    "recipe",
    [
        {"number": 0.1},
        {"schedule": K.CosineDecay(0.1, 10)},
        {"function": lambda epoch: 0.1},
        {"plateau": training.Plateau(patience=2)},
        {"good": "cosine", "number": 0.1},
    ],
    ids=lambda recipe: list(recipe)[-1],
)
def test_a_warmup_that_a_recipe_cannot_have_is_refused(recipe):
    with pytest.raises(ValueError, match=rf"^warmup = 0.1: .*{list(recipe)[-1]}"):
        training.grid(recipe, [0.1], warmup=0.1)
    assert training.grid(recipe, [0.1], warmup=0) and training.grid(recipe, [0.1])
