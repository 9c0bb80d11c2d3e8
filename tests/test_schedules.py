"""Schedules against closed forms, optax and Keras."""

import itertools
import math
import os

os.environ["JAX_PLATFORMS"] = "cpu"

from anneal_utils import schedules

import jax
import keras
import numpy as np
import optax
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from small_schedules import PEAKS, SHARES, STEPS, by_rule, few, near, vector

K = keras.optimizers.schedules
S = schedules


# ------------------------------------------------------------------------------ closed forms


def fall(shape, u):
    """Cooldown heights, 1 at u = 0 and 0 at u = 1."""
    if shape == "linear":
        return 1 - u
    return 1 - np.sqrt(u) if shape == "sqrt" else (1 + np.cos(np.pi * u)) / 2


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
