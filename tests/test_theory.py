"""Theory against simulation, closed forms and brute force."""

from anneal_utils import theory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

rate = some.floats(0.01, 1.9)


@given(some.lists(rate, min_size=1, max_size=6), some.floats(0.2, 2), some.floats(0, 2))
@settings(max_examples=30, deadline=None)
def test_moments_are_those_of_all_noise_signs(rates, curvature, noise):
    # Noise of +-sigma has the same second moment: enumerate every sign sequence.
    theta = np.array([1.5])
    for r in rates:
        theta = np.concatenate([theta - r * (curvature * theta + s * noise) for s in (-1, 1)])
    expected = 0.5 * curvature * (theta**2).mean()
    assert theory.noisy_quadratic(rates, curvature, noise, 1.5)[-1] == pytest.approx(expected)


def test_constant_rate_reaches_its_noise_floor():
    losses = theory.noisy_quadratic(np.full(500, 0.3), 2.0, 0.7)
    floor = 0.5 * 0.3 * 0.7**2 / (2 - 0.3 * 2.0)
    assert losses.shape == (501,) and losses[-1] == pytest.approx(floor)


def test_directions_add_up_and_tables_stack():
    tables = np.array([[0.1, 0.2], [0.3, 0.05]])
    both = theory.noisy_quadratic(tables, [1.0, 3.0], [0.5, 0.2], [1.0, 2.0])
    parts = [theory.noisy_quadratic(tables, *each) for each in ((1.0, 0.5, 1.0), (3.0, 0.2, 2.0))]
    np.testing.assert_allclose(both, sum(parts))


@given(some.floats(0.3, 3), some.floats(0.1, 3), some.floats(0.3, 3), some.data())
@settings(max_examples=30, deadline=None)
def test_one_over_t_can_not_be_beaten_in_one_direction(h, sigma, start, data):
    best = theory.best_rates_of_one_direction(5, h, sigma, start)
    loss = theory.noisy_quadratic(best, h, sigma, start)
    other = np.array(data.draw(some.lists(some.floats(0, 2 / h), min_size=5, max_size=5)))
    assert (loss <= theory.noisy_quadratic(other, h, sigma, start) * (1 + 1e-12))[-1]
    # and the closed form of its loss: 1 / s grows by (h / sigma)^2 a step
    s = 1 / (1 / start**2 + 5 * (h / sigma) ** 2)
    assert loss[-1] == pytest.approx(0.5 * h * s)


def test_numerical_optimum_finds_the_closed_form():
    found = theory.best_rates(20, 2.0, 0.5, 1.5)
    exact = theory.best_rates_of_one_direction(20, 2.0, 0.5, 1.5)
    losses = theory.noisy_quadratic(np.stack([found, exact]), 2.0, 0.5, 1.5)[:, -1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    np.testing.assert_allclose(found, exact, rtol=2e-2)


def test_numerical_optimum_beats_every_tuned_family_in_many_directions():
    h, sigma = np.geomspace(0.01, 1, 6), np.sqrt(np.geomspace(0.01, 1, 6))
    best = theory.noisy_quadratic(theory.best_rates(60, h, sigma), h, sigma)[-1]
    u = np.arange(60) / 60
    for shape in (np.ones(60), 1 - u, 0.01**u, 1 / (1 + 20 * u)):
        peaks = np.geomspace(0.01, 1.9, 60)[:, None]
        assert best < theory.noisy_quadratic(peaks * shape, h, sigma)[:, -1].min() * (1 + 1e-9)


@given(some.lists(some.floats(1e-3, 1), min_size=2, max_size=30), some.floats(-2, 2))
@settings(max_examples=60, deadline=None)
def test_no_descent_on_a_convex_function_ends_above_its_bound(rates, start):
    x = start  # f(x) = |x| has G = 1 and its minimum at 0
    for r in rates[:-1]:
        x -= r * np.sign(x)
    assert abs(x) <= theory.last_iterate_bound(rates, max(abs(start), 1e-3)) + 1e-9


def test_bound_of_linear_decay_has_no_logarithm():
    ends = {}
    for steps in (100, 10_000):
        shapes = {"constant": np.ones(steps), "linear": 1 - np.arange(steps) / steps}
        peaks = np.geomspace(0.03, 30, 200)[:, None] / np.sqrt(steps)
        for name, shape in shapes.items():
            scaled = theory.last_iterate_bound(peaks * shape).min() * np.sqrt(steps)
            ends[name, steps] = scaled
    # 2 D G / sqrt(T) by this general bound (the best possible for linear decay is half of it).
    assert ends["linear", 10_000] == pytest.approx(2, rel=0.02)
    assert ends["constant", 10_000] > 1.3 * ends["linear", 10_000]
    assert ends["constant", 10_000] > 1.15 * ends["constant", 100]  # grows with log T


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: theory.noisy_quadratic([-0.1]), "rates"),
        (lambda: theory.noisy_quadratic([np.nan]), "rates"),
        (lambda: theory.noisy_quadratic([0.1], 0.0), "curvature"),
        (lambda: theory.noisy_quadratic([0.1], 1.0, -1.0), "noise"),
        (lambda: theory.best_rates_of_one_direction(0), "steps"),
        (lambda: theory.best_rates_of_one_direction(3, start=0), "start"),
        (lambda: theory.last_iterate_bound([0.1, 0.0]), "rates"),
        (lambda: theory.last_iterate_bound([0.1], distance=0), "distance"),
    ],
)
def test_bad_input_is_named(call, argument):
    with pytest.raises(ValueError, match=f"^{argument} = "):
        call()
