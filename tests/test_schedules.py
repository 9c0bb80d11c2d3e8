"""Schedules against closed forms, optax and Keras; purity, saving, the catalogue, bad input."""

import itertools
import json
import math
import os

os.environ["JAX_PLATFORMS"] = "cpu"

from anneal_utils import schedules

import jax
import keras
import numpy as np
import optax
import pytest
import tensorflow as tf
from hypothesis import assume, given, settings
from hypothesis import strategies as st

K = keras.optimizers.schedules
S = schedules

PEAKS = st.floats(1e-4, 10)
STEPS = st.integers(2, 300)
SHARES = st.floats(0, 1)
RELATIVE = 3e-6  # of the largest rate: a few float32 roundings

# One of each class, every shape and amplitude of it, and classes inside classes.
OBJECTS = {
    **{
        f"cyclical {shape} {amplitude}": S.Cyclical(0.01, 0.3, 41, shape, amplitude, 0.99)
        for shape in ("triangle", "step", "exponential", "cosine")
        for amplitude in ("constant", "halved", "exp_range")
    },
    "cyclical uneven": S.Cyclical(0.01, 0.3, 41, up=12),
    "one-cycle cosine": S.OneCycle(0.3, 90),
    "one-cycle pytorch": S.OneCycle(0.3, 90, 0.31, tail=0.2, convention="pytorch"),
    "one-cycle linear": S.OneCycle(0.3, 90, 0.4, "linear", 10, 100),
    "one-cycle tail": S.OneCycle(0.3, 90, 0.4, "cosine", 10, 100, tail=0.2),
    **{
        f"wsd {shape}": S.WarmupStableDecay(0.3, 90, 0.3, 0.1, shape, 0.01)
        for shape in ("linear", "sqrt", "cosine", "exponential")
    },
    "sigmoid": S.Sigmoid(0.3, 90, 0.01, 8, 0.4),
    "inverse square root": S.InverseSquareRoot(0.3, 7),
    **{f"power {shape}": S.Power(0.3, 90, 7, 0.6, 0.3, shape) for shape in ("linear", "sqrt")},
    "power exponential": S.Power(0.3, 90, 7, 0.6, 0.3, "exponential", 0.01),
    "power law": S.Power(0.3, 90, 7, 0.6, cooldown=0),
    "rex": S.Rex(0.3, 90),
    "knots": S.Knots([2, 12, 30, 89], [0.01, 0.3, 0.2, 0.0]),
    "knots exponential": S.Knots([0, 12, 30, 89], [0.01, 0.3, 0.2, 0.001], "exponential"),
    **{
        f"warmup {shape}": S.Warmup(K.CosineDecay(0.3, 60), 30, shape, 0.01, 3)
        for shape in ("linear", "polynomial", "sine", "exponential")
    },
    "sequential": S.Sequential([S.Rex(0.3, 50), K.ExponentialDecay(0.1, 9, 0.5)], [40]),
    "scale": S.Scale(K.CosineDecay(0.3, 90), K.ExponentialDecay(1.0, 30, 0.5)),
    "scaled": 0.5 * S.Rex(0.6, 90),
    "floor": S.Floor(S.Rex(0.3, 90), 0.05),
    "hold": S.Hold(S.Cyclical(0.01, 0.3, 41), 90),
    "nested": S.Warmup(
        S.Sequential(
            [
                S.Cyclical(0.1, 0.3, 10),
                S.Warmup(S.OneCycle(0.2, 30) * S.Hold(S.Rex(1.0, 40), 20), 5),
            ],
            [30],
        ),
        12,
    ),
}
each_object = pytest.mark.parametrize("schedule", OBJECTS.values(), ids=OBJECTS)


def vector(schedule, steps):
    """The rates at the integer vector ``steps``, in one call."""
    return np.asarray(schedule(tf.constant(steps, tf.int64)))


def in_graph(schedule, steps, jit=False):
    """The rates as ``fit`` computes them: a scalar step inside a compiled function."""
    function = tf.function(
        lambda step: tf.cast(schedule(step), tf.float32),
        input_signature=[tf.TensorSpec([], tf.int64)],
        jit_compile=jit,
        autograph=False,
    )
    return np.array([function(tf.constant(int(step), tf.int64)).numpy() for step in steps])


def near(actual, expected, largest=None):
    """Within a few float32 roundings of the largest rate."""
    expected = np.asarray(expected, "float64")
    largest = np.abs(expected).max() if largest is None else largest
    np.testing.assert_allclose(actual, expected, rtol=0, atol=RELATIVE * largest)


# ------------------------------------------------------------------------------ closed forms


def fall(shape, u):
    """Cooldown heights, 1 at u = 0 and 0 at u = 1."""
    if shape == "linear":
        return 1 - u
    return 1 - np.sqrt(u) if shape == "sqrt" else (1 + np.cos(np.pi * u)) / 2


def by_rule(share, steps):
    """Steps in a share: the nearest whole number, at least one unless the share is 0."""
    return max(1, round(share * steps)) if share else 0


few = settings(deadline=None, max_examples=15, database=None, derandomize=True)


@few
@given(
    high=PEAKS,
    ratio=st.floats(0.001, 0.99),
    period=st.integers(2, 120),
    shape=st.sampled_from(["triangle", "step", "exponential", "cosine"]),
    amplitude=st.sampled_from(["constant", "halved", "exp_range"]),
    gamma=st.floats(0.97, 1),
    stairs=st.integers(2, 7),
)
def test_cyclical_is_its_formula(high, ratio, period, shape, amplitude, gamma, stairs):
    low, t = ratio * high, np.arange(4 * period + 1)
    u = (t % period) / period
    height = {
        "triangle": 1 - np.abs(2 * u - 1),
        "step": 1 - ((t % period) * stairs // period) / (stairs - 1),
        "exponential": (ratio**u - ratio) / (1 - ratio),
        "cosine": (1 + np.cos(np.pi * u)) / 2,
    }[shape]
    scale = {"constant": 1.0, "halved": 0.5 ** (t // period), "exp_range": gamma**t}[amplitude]
    schedule = S.Cyclical(low, high, period, shape, amplitude, gamma, stairs)
    near(vector(schedule, t), low + (high - low) * height * scale, 4 * high)


def test_a_gamma_close_to_one_keeps_its_digits():
    # Rounded to float32 before the power, 0.99999 is 0.7 % off at this apex.
    schedule = S.Cyclical(0.0, 1.0, 10, amplitude="exp_range", gamma=0.99999)
    np.testing.assert_allclose(float(schedule(500_005)), 0.99999**500_005, rtol=1e-5)


@few
@given(peak=PEAKS, steps=STEPS, warmup=st.floats(0, 0.99), start=st.floats(1, 100))
def test_one_cycle_is_its_formula(peak, steps, warmup, start):
    t, top = np.arange(steps + 20), by_rule(warmup, steps)
    assume(top < steps)
    final = peak / start / 500
    up = np.clip(t / max(top, 1), 0, 1)
    down = np.clip((t - top) / (steps - top), 0, 1)
    for shape in ("linear", "cosine"):
        low = np.where(t < top, peak / start, final)
        height = np.where(t < top, fall(shape, 1 - up), fall(shape, down))
        schedule = S.OneCycle(peak, steps, warmup, shape, start, 500)
        near(vector(schedule, t), low + (peak - low) * height)
        np.testing.assert_allclose(float(schedule(steps)), final, rtol=1e-6)


@few
@given(
    peak=PEAKS,
    steps=STEPS,
    cooldown=st.floats(0.01, 0.6),
    warmup=st.floats(0, 0.4),
    end=SHARES,
    shape=st.sampled_from(["linear", "sqrt", "cosine"]),
)
def test_warmup_stable_decay_is_its_formula(peak, steps, cooldown, warmup, end, shape):
    t = np.arange(steps + 20)
    rise, drop = by_rule(warmup, steps), by_rule(cooldown, steps)
    assume(rise + drop <= steps)
    height = fall(shape, np.clip((t - steps + drop) / drop, 0, 1))
    expected = peak * (end + (1 - end) * height) * np.minimum((t + 1) / (rise + 1), 1)
    near(vector(S.WarmupStableDecay(peak, steps, cooldown, warmup, shape, end * peak), t), expected)


@few
@given(peak=PEAKS, steps=STEPS, end=SHARES, steepness=st.floats(0.5, 40), middle=SHARES)
def test_sigmoid_is_its_formula(peak, steps, end, steepness, middle):
    t = np.arange(steps + 20)
    s = 1 / (1 + np.exp(steepness * (np.clip(t / steps, 0, 1) - middle)))
    expected = peak * (end + (1 - end) * (s - s[steps]) / (s[0] - s[steps]))
    # A gentle curve is stretched to its end points, and so are its roundings.
    near(vector(S.Sigmoid(peak, steps, end * peak, steepness, middle), t), expected, 20 * peak)


@few
@given(
    peak=PEAKS,
    timescale=st.floats(0.5, 500),
    exponent=st.floats(0, 3),
    cooldown=SHARES,
    shape=st.sampled_from(["linear", "sqrt", "cosine"]),
)
def test_power_law_inverse_sqrt_and_rex_are_their_formulas(
    peak, timescale, exponent, cooldown, shape
):
    t = np.arange(0, 1000, 7)
    drop = by_rule(cooldown, 800)
    law = np.maximum(np.minimum(t, 800 - drop if drop else t) / timescale, 1) ** -exponent
    height = fall(shape, np.clip((t - 800 + drop) / max(drop, 1), 0, 1)) if drop else 1
    ours = S.Power(peak, 800, timescale, exponent, cooldown, shape)
    near(vector(ours, t), peak * law * height, peak)
    near(
        vector(S.InverseSquareRoot(peak, timescale), t), peak * np.sqrt(timescale / (timescale + t))
    )
    u = np.clip(t / 800, 0, 1)
    near(vector(S.Rex(peak, 800), t), peak * (1 - u) / (1 - u / 2))


def test_inverse_square_root_is_halved_after_three_timescales():
    assert float(S.InverseSquareRoot(0.8, 10)(30)) == pytest.approx(0.4)


@few
@given(peak=PEAKS, rise=st.integers(1, 60), start=st.floats(0.01, 0.9), power=st.floats(0.3, 4))
def test_warmup_is_its_formula(peak, rise, start, power):
    t = np.arange(rise + 50)
    u, low = np.clip(t / rise, 0, 1), start * peak
    main = peak * np.maximum(1 - np.maximum(t - rise, 0) / 40, 0)
    heights = {"linear": u, "polynomial": u**power, "sine": np.sin(np.pi * u / 2)}
    rises = {shape: low + (peak - low) * g for shape, g in heights.items()}
    rises["exponential"] = low * start**-u
    inner = K.PolynomialDecay(peak, 40, 0.0)
    for shape, up in rises.items():
        near(vector(S.Warmup(inner, rise, shape, low, power), t), np.where(t < rise, up, main))


# -------------------------------------------------------------------------- optax and Keras


def by_optax(schedule, steps):
    """Optax's rates; always on one length of vector, for which JAX compiles only once."""
    return np.asarray(jax.vmap(schedule)(np.arange(320)))[:steps]


@few
@given(
    peak=PEAKS,
    steps=st.integers(12, 300),
    end=st.floats(0.001, 1),
    power=st.floats(0.5, 3),
    drops=st.integers(1, 9),
    factor=st.floats(0.1, 0.9),
)
def test_catalogue_equals_optax(peak, steps, end, power, drops, factor):
    starts = [math.ceil(steps * k / (drops + 1)) for k in range(1, drops + 1)]
    cooldown, rise, tail = (by_rule(share, steps) for share in (0.2, 0.3, 0.15))
    # Optax rounds its shares down: half a step more is safe from the share's own rounding.
    up, final = (rise + 0.5) / steps, (steps - tail + 0.5) / steps
    starts_of_cycles = [round(steps * k / 3) for k in range(4)]
    cycles = [
        dict(
            init_value=peak,
            peak_value=peak,
            warmup_steps=0,
            decay_steps=stop - start,
            end_value=end * peak,
        )
        for start, stop in itertools.pairwise(starts_of_cycles)
    ]
    pairs = [
        ("constant", {}, optax.constant_schedule(peak)),
        (
            "step",
            dict(drops=drops, factor=factor),
            optax.piecewise_constant_schedule(peak, dict.fromkeys(starts, factor)),
        ),
        ("exponential", dict(end=end), optax.exponential_decay(peak, steps, end)),
        (
            "polynomial",
            dict(end=end, power=power),
            optax.polynomial_schedule(peak, end * peak, power, steps),
        ),
        ("linear", dict(end=end), optax.linear_schedule(peak, end * peak, steps)),
        ("cosine", dict(end=end), optax.cosine_decay_schedule(peak, steps, end)),
        ("cosine_restarts", dict(end=end), optax.sgdr_schedule(cycles)),
        ("one_cycle", {}, optax.cosine_onecycle_schedule(steps, peak, up)),
        (
            "one_cycle",
            dict(shape="linear", tail=0.15),
            optax.linear_onecycle_schedule(steps, peak, up, final),
        ),
        (
            "wsd",
            {},
            optax.join_schedules(
                [optax.constant_schedule(peak), optax.linear_schedule(peak, 0, cooldown)],
                [steps - cooldown],
            ),
        ),
    ]
    for name, knobs, oracle in pairs:
        np.testing.assert_allclose(
            S.values(S.build(name, peak, steps, **knobs), steps),
            by_optax(oracle, steps),
            rtol=0,
            atol=1e-5 * peak,
            err_msg=name,
        )


@few
@given(peak=PEAKS, steps=st.integers(20, 300), warmup=st.floats(0.1, 0.5), end=SHARES)
def test_catalogue_warmup_is_optax_warmup_inside_the_horizon(peak, steps, warmup, end):
    rise = by_rule(warmup, steps)
    oracle = optax.warmup_cosine_decay_schedule(peak / (rise + 1), peak, rise, steps, end * peak)
    ours = S.build("cosine", peak, steps, warmup=warmup, end=end)
    np.testing.assert_allclose(
        S.values(ours, steps + 5), by_optax(oracle, steps + 5), rtol=0, atol=1e-5 * peak
    )


@few
@given(first=st.integers(1, 40), second=st.integers(1, 40), peak=PEAKS)
def test_sequential_equals_optax_join_schedules(first, second, peak):
    ours = S.Sequential(
        [
            K.PolynomialDecay(0.0, first, peak),
            K.CosineDecay(peak, second),
            K.ExponentialDecay(peak, 10, 0.5),
        ],
        [first, first + second],
    )
    oracle = optax.join_schedules(
        [
            optax.linear_schedule(0.0, peak, first),
            optax.cosine_decay_schedule(peak, second),
            optax.exponential_decay(peak, 10, 0.5),
        ],
        [first, first + second],
    )
    near(vector(ours, np.arange(120)), by_optax(oracle, 120), peak)


@few
@given(peak=PEAKS, rise=st.integers(1, 40), decay=st.integers(1, 200), start=st.floats(0, 0.9))
def test_warmup_around_cosine_equals_keras_own_warmup(peak, rise, decay, start):
    ours = S.Warmup(K.CosineDecay(peak, decay, 0.1), rise, start=start * peak)
    keras_own = K.CosineDecay(start * peak, decay, 0.1, warmup_target=peak, warmup_steps=rise)
    steps = range(rise + decay + 5)
    near(vector(ours, list(steps)), [float(keras_own(step)) for step in steps], peak)


def test_power_law_without_cooldown_is_hugging_face_inverse_sqrt_after_its_plateau():
    # transformers' schedule with 10 warmup steps is sqrt(10 / step) from step 10 on.
    t = np.arange(200)
    expected = 0.3 * np.minimum(1, np.sqrt(10 / np.maximum(t, 10)))
    near(vector(S.Power(0.3, 200, 10, 0.5, cooldown=0), t), expected)


def test_restarts_of_the_catalogue_are_those_of_keras_outside_a_graph():
    t = np.arange(150)
    keras_own = K.CosineDecayRestarts(0.3, 50, t_mul=1.0, alpha=0.1)
    near(vector(S.build("cosine_restarts", 0.3, 150, end=0.1), t), vector(keras_own, t))


# ------------------------------------------------------------------- purity, graphs, saving


@each_object
def test_a_schedule_is_a_pure_function_of_the_step(schedule):
    steps = np.random.default_rng(0).permutation(130)[:50]
    first = [float(schedule(int(step))) for step in steps]
    again = [float(schedule(int(step))) for step in steps[::-1]][::-1]
    assert first == again
    near(vector(schedule, steps), first, 0.3)
    kinds = [tf.constant(77, kind) for kind in (tf.int32, tf.int64, tf.float32)]
    rates = {float(schedule(kind)) for kind in [*kinds, np.int64(77), 77, 77.0]}
    assert len(rates) == 1 and schedule(77).dtype == "float32"


@each_object
def test_a_graph_and_xla_agree_with_eager(schedule):
    steps = [0, 1, 11, 12, 29, 30, 31, 40, 41, 82, 89, 90, 123, 1000]
    eager = [float(schedule(step)) for step in steps]
    near(in_graph(schedule, steps), eager, 0.3)
    near(in_graph(schedule, steps, jit=True), eager, 0.3)


@pytest.mark.parametrize("period", [41, 47, 55, 82, 83, 97])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_cycle_starts_on_its_own_step_inside_a_graph(period, jit):
    # period * (1 / period) < 1 in float32 for these, and graphs divide by multiplying.
    starts = period * np.arange(1, 4)
    for shape in ("step", "exponential", "cosine"):
        near(in_graph(S.Cyclical(0.1, 1, period, shape), starts, jit), [1, 1, 1])
    restarts = S.build("cosine_restarts", 1.0, 4 * period, cycles=4)
    near(in_graph(restarts, starts, jit), [1, 1, 1])
    treads = S.Cyclical(0, 1, 4 * period, "step")
    rates = in_graph(treads, [0, *starts, *(starts - 1)], jit)
    near(rates, [1, 2 / 3, 1 / 3, 0, 1, 2 / 3, 1 / 3])
    assert rates.min() >= 0


@each_object
def test_configuration_and_keras_serialisation_round_trip(schedule):
    t = np.arange(130)
    config = schedule.get_config()
    copies = [type(schedule).from_config(config), type(schedule).from_config(config)]
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    assert saved["registered_name"].startswith("anneal_utils>")
    copies.append(keras.saving.deserialize_keras_object(saved))
    copies.append(K.deserialize(K.serialize(schedule)))
    for copy in copies:
        assert type(copy) is type(schedule) and copy is not schedule
        assert copy.get_config() == config
        np.testing.assert_array_equal(vector(copy, t), vector(schedule, t))


def falling(schedule, **compile):
    """A model of one weight whose gradient is 1: each step lowers it by the rate."""
    model = keras.Sequential(
        [keras.Input([1]), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(
        keras.optimizers.SGD(schedule), loss=lambda y, p: keras.ops.mean(p, -1), **compile
    )
    return model


ONES = np.ones([8, 1], "float32")


def applied(model, epochs=1):
    """The rate of each step of a fit of eight steps an epoch, read off the weight."""
    weights = [float(model.layers[0].kernel.numpy().item())]
    record = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: weights.append(
            float(model.layers[0].kernel.numpy().item())
        )
    )
    model.fit(ONES, ONES, batch_size=1, epochs=epochs, verbose=0, callbacks=[record])
    return -np.diff(weights)


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name", ["sequential", "nested", "cyclical step halved"])
def test_fit_applies_the_schedule(name, jit):
    rates = applied(falling(OBJECTS[name], jit_compile=jit), epochs=6)
    np.testing.assert_allclose(rates, S.values(OBJECTS[name], 48), atol=2e-6)


SAVED = ["cyclical exponential exp_range", "one-cycle linear", "wsd sqrt", "sigmoid"]
SAVED += ["inverse square root", "power sqrt", "rex", "warmup polynomial", "sequential", "nested"]


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_model_continues_with_its_schedule(name, tmp_path):
    model = falling(OBJECTS[name], jit_compile=False)
    model.compile(keras.optimizers.SGD(OBJECTS[name], momentum=0.9), loss="mse", jit_compile=False)
    model.fit(ONES, ONES, batch_size=1, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert type(copy.optimizer._learning_rate) is type(OBJECTS[name])
    assert copy.optimizer._learning_rate.get_config() == OBJECTS[name].get_config()
    assert int(copy.optimizer.iterations) == 8
    for continued in (model, copy):
        continued.fit(ONES, ONES, batch_size=1, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], copy.get_weights()[0])


def test_an_inner_schedule_is_never_asked_about_a_step_before_its_own_first():
    asked = []

    class Asked(K.LearningRateSchedule):
        def __call__(self, step):
            asked.append(float(step))
            return 0.1

    S.Sequential([Asked(), Asked(), Asked()], [10, 20])(3)
    assert asked == [3, 0, 0]
    warmup = S.Warmup(Asked(), 10)
    asked.clear()
    warmup(4)
    warmup(12)
    assert sorted(set(asked)) == [0, 2]


# ------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("name", S.names())
def test_values_exact_has_the_bits_of_a_graph(name):
    schedule = S.build(name, 0.3, 123, warmup=0.1)
    exact = S.values(schedule, 123, exact=True)
    assert exact.dtype == np.float32 and exact.shape == (123,)
    np.testing.assert_array_equal(exact, in_graph(schedule, range(123)))
    np.testing.assert_allclose(S.values(schedule, 123), exact, rtol=1e-5, atol=1e-5 * 0.3)


def test_values_of_numbers_and_of_schedules_that_take_no_vector():
    np.testing.assert_array_equal(S.values(0.1, 3), np.full(3, 0.1, "float32"))
    np.testing.assert_array_equal(S.values(np.float32(0), 2), [0, 0])

    class Scalar(K.LearningRateSchedule):
        """Answers a vector, wrongly: only the scalar call is right."""

        def __call__(self, step):
            step = keras.ops.cast(step, "float32")
            return 1 / (1 + step) if len(step.shape) == 0 else 0 * step

    near(S.values(Scalar(), 5), 1 / np.arange(1, 6))
    refuses = K.CosineDecay(0.0, 6, warmup_target=0.3, warmup_steps=4)  # a vector raises
    near(S.values(refuses, 10), [float(refuses(step)) for step in range(10)])
    near(S.values(S.Warmup(refuses, 3), 13)[3:], [float(refuses(step)) for step in range(10)])


@pytest.mark.parametrize(
    "schedule",
    [
        K.CosineDecayRestarts(1.0, 83, t_mul=1.0),
        K.ExponentialDecay(1.0, 83, 0.5, staircase=True),
        K.InverseTimeDecay(1.0, 83, 0.5, staircase=True),
        K.PolynomialDecay(1.0, 83, 0.1, cycle=True),
        S.Warmup(K.ExponentialDecay(1.0, 83, 0.5, staircase=True), 5),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_values_are_those_of_a_graph_where_eager_calls_differ(schedule):
    np.testing.assert_array_equal(S.values(schedule, 200), in_graph(schedule, range(200)))


def test_values_falls_back_when_a_vector_disagrees_with_single_calls(monkeypatch):
    schedule = S.Rex(0.3, 50)
    right = in_graph(schedule, range(50))
    call = S.Rex.__call__
    monkeypatch.setattr(
        S.Rex, "__call__", lambda self, step: call(self, step if step.shape == () else step + 1)
    )
    np.testing.assert_array_equal(S.values(schedule, 50), right)


# ---------------------------------------------------------------------------- the catalogue

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


# -------------------------------------------------------------------------------- bad input

REX = OBJECTS["rex"]
BAD_RATES = [0, -0.1, math.nan, math.inf, "0.1", None, True]
BAD_COUNTS = [0, -3, 2.5, math.nan, "10", None, True]
BAD_SHARES = [-0.1, 1.5, math.nan, "0.1", None]
BAD_RISES = [1.0, -1, 1000, True, *BAD_SHARES]  # a whole number would be one of steps
BAD = [
    *(("peak", lambda v=v: S.build("cosine", v, 10)) for v in BAD_RATES),
    *(("steps", lambda v=v: S.build("cosine", 1.0, v)) for v in BAD_COUNTS),
    *(("warmup", lambda v=v: S.build("cosine", 1.0, 10, warmup=v)) for v in BAD_RISES[:-1]),
    ("warmup", lambda: S.build("cosine", 1.0, 3, warmup=0.9)),
    ("name", lambda: S.build("cosin", 1.0, 10)),
    ("name", lambda: S.describe("cosin")),
    ("name", lambda: S.unregister("cosin")),
    ("name", lambda: S.register("cosine")),
    ("name", lambda: S.unregister("cosine")),
    ("name", lambda: S.register("")),
    ("name", lambda: S.register(len)),
    ("knob", lambda: S.build("cosine", 1.0, 10, drops=2)),
    ("knob", lambda: S.build("constant", 1.0, 10, end=0)),
    *(
        ("end", lambda name=name, v=v: S.build(name, 1.0, 10, end=v))
        for name in ("polynomial", "linear", "cosine", "sigmoid", "wsd", "cosine_restarts")
        for v in BAD_SHARES
    ),
    *(
        ("end", lambda name=name: S.build(name, 1.0, 10, end=0))
        for name in ("exponential", "inverse_time", "exp_range")
    ),
    *(("drops", lambda v=v: S.build("step", 1.0, 10, drops=v)) for v in [*BAD_COUNTS, 10]),
    *(
        ("milestones", lambda v=v: S.build("step", 1.0, 10, milestones=v))
        for v in ["ab", 0.5, [], [0.5, 0.2], [0.0, 0.5], [0.5, 0.51], [0.99], [1.5], [None]]
    ),
    ("floor", lambda: S.build("exponential", 1.0, 10, floor=1.1)),
    ("decay", lambda: S.build("cosine_restarts", 1.0, 10, decay=0)),
    ("decay", lambda: S.build("cosine_restarts", 1.0, 10, decay=0.5, end=0.3)),
    *(("rise", lambda v=v: S.build("triangular", 1.0, 10, rise=v)) for v in [0, 1, *BAD_SHARES]),
    ("end", lambda: S.build("wsd", 1.0, 10, shape="exponential")),
    ("end", lambda: S.build("power", 1.0, 100, end=0.9)),
    ("end", lambda: S.build("power", 1.0, 100, shape="exponential")),
    *(("convention", lambda v=v: S.build("rex", 1.0, 9, convention=v)) for v in ["keras", 1]),
    ("warmup", lambda: S.build("one_cycle", 1.0, 9, rise=0.2, warmup=0)),
    ("warmup", lambda: S.build("one_cycle", 1.0, 9, warmup=0, convention="pytorch")),
    *(("factor", lambda v=v: S.build("step", 1.0, 10, factor=v)) for v in [0, *BAD_SHARES]),
    *(("cycles", lambda v=v: S.build("triangular", 1.0, 10, cycles=v)) for v in [*BAD_COUNTS, 6]),
    *(
        ("low", lambda name=name, v=v: S.build(name, 1.0, 10, low=v))
        for name in ("triangular", "triangular2", "exp_range")
        for v in BAD_SHARES
    ),
    *(("cycles", lambda v=v: S.build("cosine_restarts", 1.0, 9, cycles=v)) for v in [0, 10, 1.5]),
    *(
        ("growth", lambda v=v: S.build("cosine_restarts", 1.0, 9, growth=v))
        for v in [0.5, math.nan]
    ),
    *(("rise", lambda v=v: S.build("one_cycle", 1.0, 9, rise=v)) for v in BAD_RISES),
    ("warmup", lambda: S.build("one_cycle", 1.0, 9, warmup=0.2, rise=0.2)),
    *(("tail", lambda v=v: S.OneCycle(0.3, 10, tail=v)) for v in [1, 0.7, *BAD_SHARES]),
    *(("hold", lambda v=v: S.build("power", 1.0, 9, hold=v)) for v in [0, *BAD_SHARES]),
    ("power", lambda: S.build("polynomial", 1.0, 10, power=0)),
    ("peak", lambda: S.build("constant", 1e31, 10)),
    ("end", lambda: S.build("inverse_time", 1.0, 10, end=1e-40)),
    ("exponent", lambda: S.build("power", 0.1, 100, exponent=1e4)),
    ("decay", lambda: S.build("cosine_restarts", 0.1, 1000, cycles=200, decay=0.01)),
    ("growth", lambda: S.build("cosine_restarts", 0.1, 1000, cycles=40, growth=1e10)),
    ("steps", lambda: S.build("one_cycle", 1.0, 1)),
    ("tail", lambda: S.OneCycle(1.0, 10, 0.5, tail=0.4, convention="pytorch")),
    ("cycles", lambda: S.build("triangular", 0.1, 100, warmup=99)),
    ("dtype", lambda: S.values(REX, 3, dtype="int")),
    ("exponent", lambda: S.build("power", 1.0, 10, exponent=-1)),
    ("timescale", lambda: S.build("inverse_sqrt", 1.0, 10, timescale=-1)),
    *(("low", lambda v=v: S.Cyclical(v, 0.3, 10)) for v in [-0.1, math.nan, "0", None, 0.4]),
    *(("high", lambda v=v: S.Cyclical(0.0, v, 10)) for v in BAD_RATES),
    *(("period", lambda v=v: S.Cyclical(0.1, 0.3, v)) for v in [*BAD_COUNTS, 1]),
    ("shape", lambda: S.Cyclical(0.1, 0.3, 10, "saw")),
    ("low", lambda: S.Cyclical(0.0, 0.3, 10, "exponential")),
    ("amplitude", lambda: S.Cyclical(0.1, 0.3, 10, amplitude="third")),
    *(("gamma", lambda v=v: S.Cyclical(0.1, 0.3, 10, gamma=v)) for v in [0, *BAD_SHARES]),
    *(("stairs", lambda v=v: S.Cyclical(0.1, 0.3, 10, stairs=v)) for v in [*BAD_COUNTS, 1]),
    *(
        ("up", lambda v=v: S.Cyclical(0.1, 0.3, 10, up=v))
        for v in [10, *BAD_COUNTS]
        if v is not None
    ),
    ("up", lambda: S.Cyclical(0.1, 0.3, 10, "cosine", up=4)),
    ("convention", lambda: S.OneCycle(0.3, 10, convention="fastai")),
    *(("peak", lambda v=v: S.OneCycle(v, 10)) for v in BAD_RATES),
    *(("steps", lambda v=v: S.OneCycle(0.3, v)) for v in [*BAD_COUNTS, 1]),
    *(("warmup", lambda v=v: S.OneCycle(0.3, 10, v)) for v in BAD_RISES),
    ("shape", lambda: S.OneCycle(0.3, 10, shape="sqrt")),
    ("start_divisor", lambda: S.OneCycle(0.3, 10, start_divisor=0.5)),
    ("final_divisor", lambda: S.OneCycle(0.3, 10, final_divisor=math.inf)),
    *(("peak", lambda v=v: S.WarmupStableDecay(v, 10)) for v in BAD_RATES),
    *(("steps", lambda v=v: S.WarmupStableDecay(0.3, v)) for v in BAD_COUNTS),
    *(("cooldown", lambda v=v: S.WarmupStableDecay(0.3, 10, v)) for v in [0, *BAD_SHARES]),
    *(("warmup", lambda v=v: S.WarmupStableDecay(0.3, 10, 0.5, v)) for v in [0.6, 6, *BAD_RISES]),
    ("shape", lambda: S.WarmupStableDecay(0.3, 10, shape="cube")),
    *(("end", lambda v=v: S.WarmupStableDecay(0.3, 10, end=v)) for v in [0.4, *BAD_SHARES]),
    *(("peak", lambda v=v: S.Sigmoid(v, 10)) for v in BAD_RATES),
    *(("steps", lambda v=v: S.Sigmoid(0.3, v)) for v in BAD_COUNTS),
    ("end", lambda: S.Sigmoid(0.3, 10, 0.4)),
    *(("steepness", lambda v=v: S.Sigmoid(0.3, 10, steepness=v)) for v in [0.09, -1, 81, math.nan]),
    *(("middle", lambda v=v: S.Sigmoid(0.3, 10, middle=v)) for v in BAD_SHARES),
    *(("peak", lambda v=v: S.InverseSquareRoot(v, 10)) for v in BAD_RATES),
    *(("timescale", lambda v=v: S.InverseSquareRoot(0.3, v)) for v in BAD_RATES),
    *(("peak", lambda v=v: S.Power(v, 10, 2)) for v in BAD_RATES),
    *(("steps", lambda v=v: S.Power(0.3, v, 2)) for v in BAD_COUNTS),
    *(("hold", lambda v=v: S.Power(0.3, 10, v)) for v in BAD_RATES),
    *(("exponent", lambda v=v: S.Power(0.3, 10, 2, v)) for v in [-1, math.nan, "1"]),
    *(("cooldown", lambda v=v: S.Power(0.3, 10, 2, cooldown=v)) for v in BAD_SHARES),
    ("shape", lambda: S.Power(0.3, 10, 2, shape="cube")),
    *(("peak", lambda v=v: S.Rex(v, 10)) for v in BAD_RATES),
    *(("steps", lambda v=v: S.Rex(0.3, v)) for v in BAD_COUNTS),
    *(("schedule", lambda v=v: S.Warmup(v, 10)) for v in [0.3, "cosine", None, S.Rex]),
    *(("steps", lambda v=v: S.Warmup(REX, v)) for v in BAD_COUNTS),
    ("shape", lambda: S.Warmup(REX, 10, "cosine")),
    *(("start", lambda v=v: S.Warmup(REX, 10, start=v)) for v in [-0.1, math.nan, "0", None]),
    ("start", lambda: S.Warmup(REX, 10, "exponential")),
    ("start", lambda: S.Warmup(REX, 10, start=0.31)),  # REX begins at 0.3
    *(("power", lambda v=v: S.Warmup(REX, 10, power=v)) for v in BAD_RATES),
    *(("steps", lambda v=v: S.Knots(v, [0.1])) for v in [[], [-1], [1.5], ["a"], "1", 3]),
    *(("steps", lambda v=v: S.Knots(v, [0.1, 0.2])) for v in [[1, 1], [2, 1]]),
    *(
        ("rates", lambda v=v: S.Knots([0], v))
        for v in [[], [-1], [math.nan], ["a"], "1", 3, [1, 2]]
    ),
    ("rates", lambda: S.Knots([0, 5], [0.1, 0.0], "exponential")),
    ("shape", lambda: S.Knots([0], [0.1], "cubic")),
    *(("schedule", lambda v=v: S.Scale(v, 0.5)) for v in [0.3, "cosine", None, S.Rex]),
    *(("by", lambda v=v: S.Scale(REX, v)) for v in [-1, math.nan, "2", None, True, S.Rex]),
    ("by", lambda: REX * "2"),
    *(("schedule", lambda v=v: S.Floor(v, 0.5)) for v in [0.3, "cosine", None]),
    *(("low", lambda v=v: S.Floor(REX, v)) for v in [-1, math.nan, "2", None]),
    *(("schedule", lambda v=v: S.Hold(v, 5)) for v in [0.3, "cosine", None]),
    *(("steps", lambda v=v: S.Hold(REX, v)) for v in BAD_COUNTS),
    ("schedule's rate at steps", lambda: S.Hold(K.InverseTimeDecay(0.1, 10, -1.0), 20)),
    ("schedule's rate at steps", lambda: S.Hold(K.InverseTimeDecay(0.1, 10, -1.0), 10)),
    ("schedules", lambda: S.Sequential([REX, 0.1], [10])),
    ("schedules", lambda: S.Sequential([], [])),
    ("schedules", lambda: S.Sequential(REX, [10])),
    ("boundaries", lambda: S.Sequential([REX, REX], 10)),
    ("boundaries", lambda: S.Sequential([REX, REX], "10")),
    *(("boundaries", lambda v=v: S.Sequential([REX, REX], [v])) for v in BAD_COUNTS),
    ("boundaries", lambda: S.Sequential([REX, REX], [])),
    ("boundaries", lambda: S.Sequential([REX], [10])),
    ("boundaries", lambda: S.Sequential([REX, REX, REX], [20, 10])),
    ("boundaries", lambda: S.Sequential([REX, REX, REX], [10, 10])),
    *(("schedule", lambda v=v: S.values(v, 10)) for v in [-0.1, math.nan, True, "cosine", None]),
    *(("steps", lambda v=v: S.values(REX, v)) for v in BAD_COUNTS),
]


@pytest.mark.parametrize(
    ("argument", "call"), BAD, ids=[f"{i}-{argument}" for i, (argument, _) in enumerate(BAD)]
)
def test_bad_input_is_refused_by_name(argument, call):
    with pytest.raises(ValueError, match=rf"^{argument} = .+: .*(must|takes|taken|belongs|give)"):
        call()
