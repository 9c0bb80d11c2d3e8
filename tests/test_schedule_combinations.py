"""Floors, knots, milestones, uneven cycles, products and the conventions of others."""

import math
import os

os.environ["JAX_PLATFORMS"] = "cpu"

from anneal_utils import schedules

import keras
import numpy as np
import optax
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from small_schedules import by_rule, few, vector

K = keras.optimizers.schedules
S = schedules

many = settings(few, max_examples=25)


@many
@given(low=st.floats(0.001, 1), steps=st.integers(2, 90), peak=st.floats(0.01, 10))
def test_floor_is_optax_end_value(low, steps, peak):
    ours = S.build("exponential", peak, steps, end=0.01, floor=low)
    oracle = optax.exponential_decay(peak, steps, 0.01, end_value=low * peak)
    np.testing.assert_allclose(
        S.values(ours, steps), [oracle(t) for t in range(steps)], rtol=1e-5, atol=1e-6 * peak
    )


@many
@given(
    steps=st.lists(st.integers(0, 200), min_size=1, max_size=8, unique=True),
    seed=st.integers(0, 99),
)
def test_knots_are_numpy_interp(steps, seed):
    steps, t = sorted(steps), np.arange(250)
    rates = np.random.default_rng(seed).uniform(0.01, 1, len(steps)).tolist()
    np.testing.assert_allclose(
        vector(S.Knots(steps, rates), t), np.interp(t, steps, rates), rtol=1e-5
    )
    np.testing.assert_allclose(
        vector(S.Knots(steps, rates, "exponential"), t),
        np.exp(np.interp(t, steps, np.log(rates))),
        rtol=1e-4,
    )


def test_knots_are_optax_piecewise_interpolation():
    oracle = optax.piecewise_interpolate_schedule("linear", 0.5, {10: 2.0, 40: 0.1})
    ours = S.Knots([0, 10, 40], [0.5, 1.0, 0.1])
    np.testing.assert_allclose(vector(ours, range(60)), [oracle(t) for t in range(60)], rtol=1e-5)


@many
@given(share=st.lists(st.floats(0.05, 0.95), min_size=1, max_size=4), factor=st.floats(0.05, 1))
def test_milestones_are_where_optax_drops(share, factor):
    shares, steps = sorted(share), 90
    starts = [by_rule(x, steps) for x in shares]
    assume(len(set(starts)) == len(starts))
    ours = S.values(S.build("step", 1.0, steps, milestones=shares, factor=factor), steps)
    oracle = optax.piecewise_constant_schedule(1.0, dict.fromkeys(starts, factor))
    np.testing.assert_allclose(ours, [oracle(t) for t in range(steps)], rtol=1e-5)


def test_restarts_whose_peaks_shrink_are_those_of_keras():
    ours = S.build("cosine_restarts", 0.3, 150, cycles=3, decay=0.7)
    keras_own = K.CosineDecayRestarts(0.3, 50, t_mul=1.0, m_mul=0.7)
    np.testing.assert_allclose(S.values(ours, 150), vector(keras_own, range(150)), atol=1e-6)
    with_end = S.values(S.build("cosine_restarts", 0.3, 150, decay=0.7, end=0.1), 151)
    np.testing.assert_allclose(with_end[[0, 50, 100, 150]], [0.3, 0.21, 0.147, 0.03], rtol=1e-5)


def test_uneven_cycles_turn_where_they_should():
    rates = vector(S.Cyclical(0.1, 0.5, 10, up=4), range(21))
    np.testing.assert_allclose(rates[[0, 2, 4, 7, 10, 14, 20]], [0.1, 0.3, 0.5, 0.3, 0.1, 0.5, 0.1])
    rates = S.values(S.build("triangular", 1.0, 60, cycles=3, rise=0.2), 60)
    assert np.flatnonzero(rates == rates.max()).tolist() == [4, 24, 44]


def test_an_exponential_cooldown_is_geometric():
    rates = vector(S.WarmupStableDecay(1.0, 10, 0.4, end=0.0625, shape="exponential"), range(12))
    np.testing.assert_allclose(rates[5:], [1, 1, 0.5, 0.25, 0.125, 0.0625, 0.0625], rtol=1e-5)
    law = S.Power(1.0, 20, 4, 0.5, cooldown=0.2, shape="exponential", end=0.05)
    np.testing.assert_allclose(
        vector(law, [4, 16, 18, 20]), [1, 0.5, (0.5 * 0.05) ** 0.5, 0.05], 1e-5
    )


def test_products_are_products():
    a, b, t = K.ExponentialDecay(0.5, 9, 0.7), S.Cyclical(0.5, 1.0, 6), range(40)
    right = vector(a, t) * vector(b, t)
    for product in (a * b, b * a, S.Scale(a, b)):
        np.testing.assert_allclose(vector(product, t), right, rtol=1e-6)
    for product in (0.5 * b, b * 0.5, S.Scale(b, 0.5)):
        np.testing.assert_allclose(vector(product, t), 0.5 * vector(b, t), rtol=1e-6)


def test_the_conventions_of_others_by_name():
    t, steps, rise = np.arange(50), 50, 10
    from_zero = S.values(S.build("linear", 0.4, steps, warmup=rise, convention="huggingface"), 50)
    right = 0.4 * np.where(t < rise, t / rise, (steps - t) / (steps - rise))
    np.testing.assert_allclose(from_zero, right, rtol=1e-5)
    third = S.values(S.build("linear", 0.4, steps, warmup=rise, convention="pytorch"), 50)
    right = 0.4 * np.where(t < rise, 1 / 3 + 2 / 3 * t / rise, (steps - t) / (steps - rise))
    np.testing.assert_allclose(third, right, rtol=1e-5)
    # PyTorch's OneCycleLR: from 0 to pct_start * steps - 1, then to steps - 1.
    ours = S.build("one_cycle", 0.4, steps, warmup=0.25, convention="pytorch")
    top, last = 0.25 * steps - 1, steps - 1
    wave = lambda a, b, u: b + (a - b) / 2 * (1 + math.cos(math.pi * u))  # noqa: E731
    right = [
        wave(0.016, 0.4, s / top) if s <= top else wave(0.4, 1.6e-6, (s - top) / (last - top))
        for s in t
    ]
    np.testing.assert_allclose(S.values(ours, 50), right, rtol=1e-5, atol=1e-8)
