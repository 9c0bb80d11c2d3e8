"""Orders of batches: a stream that never repeats, an order that always does, and exact theory."""

import functools
from dataclasses import replace

from anneal_utils import problems, theory, training
from anneal_utils.training.runs import batches

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from small import IMAGES, LABELS, assert_as_fit, tiny

MODEL = functools.partial(problems.models.mlp, 64, (8,), 3)

STREAM = {"sampling": "once", "epochs": 2, "steps": 2}


def stream(**changes):
    return tiny(MODEL, **{**STREAM, **changes})


@given(some.integers(0, 2**31), some.integers(1, 5), some.integers(1, 4), some.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_no_run_of_a_stream_sees_a_sample_twice(seed, size, steps, epochs):
    problem = stream(batch_size=size, steps=steps, epochs=epochs)
    order = batches(problem, seed, epochs)
    assert order.shape == (epochs, steps, size) and order.dtype == np.int32
    assert len(np.unique(order)) == order.size and 0 <= order.min() <= order.max() < 80
    longest = 80 // (steps * size)
    whole = batches(problem, seed, longest)
    np.testing.assert_array_equal(whole[:epochs], order)  # a longer run begins like a short one
    assert len(np.unique(whole)) == whole.size
    assert not np.array_equal(batches(problem, seed + 1, longest), whole)


def test_a_stream_is_read_by_fit_as_by_the_trainer():
    both = {"splits": 2, "x_test": IMAGES[:10].copy(), "y_test": LABELS[:10].copy()}
    for problem in (stream(), stream(**both)):
        runs = training.grid(["linear"], [0.1], [3, 4])
        frame = training.train(problem, runs, mode="graph")
        for run in runs:
            assert_as_fit(problem, run, frame[frame["seed"] == run.seed])
        assert frame["run"].nunique() == 2


def test_a_run_that_needs_more_than_the_stream_has_is_refused():
    for epochs in (3, 5):
        with pytest.raises(ValueError, match=rf"^epochs = {epochs}: must be <= 2.* 80 samples"):
            stream(epochs=epochs)
    problem = stream()
    with pytest.raises(ValueError, match=r"^epochs = 3: must be <= 2: 2 batches of 16"):
        training.train(problem, training.grid([0.1], epochs=3))
    with pytest.raises(ValueError, match=r"^epochs = 2: must be <= 1"):
        stream(steps=None)  # an epoch is all of it
    assert problems.load("least_squares").check_epochs(80) is None  # twice its horizon


def test_an_order_that_repeats_is_one_shuffle_in_all_epochs():
    repeat = tiny(MODEL, sampling="repeat", batch_size=24)
    order = batches(repeat, 5, 3)
    assert order.shape == (3, 3, 24) and (order == order[0]).all()
    assert len(np.unique(order)) == 72
    shuffle = batches(replace(repeat, sampling="shuffle"), 5, 3)
    np.testing.assert_array_equal(shuffle[0], order[0])
    assert (shuffle[1] != order[1]).any() and (batches(repeat, 6, 1) != order[:1]).any()
    with pytest.raises(ValueError, match=r'^steps = 3: must be None with sampling="repeat"'):
        replace(repeat, steps=3)


# -------------------------------------------------------------------------- streaming least squares


def setting():
    """Variances of the inputs along their axes, and the weights to be found: those of the data."""
    problem = problems.load("least_squares")
    variances = np.geomspace(1, 1e-3, 50)
    return variances, problem.y_test[:, 0] / np.sqrt(50 * variances)


def ends_of(problem, seeds=200):
    """Exact excess losses at the end of SGD at a constant rate."""
    frame = training.train(problem, training.grid([0.03], seeds=range(seeds)), store=False)
    return frame["test_loss"].dropna().to_numpy(float)


def test_sgd_on_the_stream_has_the_expected_loss_of_its_theory():
    """And the first edition's sample of 16,384 had not: it ended 6 % above."""
    problem, (variances, weights) = problems.load("least_squares"), setting()
    expected = theory.least_squares(np.full(2000, 0.03), variances, weights, 0.5, 8)
    assert expected[0] == pytest.approx(problem.chance_loss, rel=0.05)  # of 4,096 samples
    ends = ends_of(problem)
    assert abs(ends.mean() - expected[-1]) < 3 * ends.std() / np.sqrt(len(ends))
    first = problems.load("least_squares", fresh=0)
    first = replace(first, x_test=problem.x_test, y_test=problem.y_test, name="first")
    ends = ends_of(first)
    assert ends.mean() - expected[-1] > 5 * ends.std() / np.sqrt(len(ends))


@pytest.mark.parametrize("rotated", [False, True])
def test_the_test_part_of_least_squares_is_the_expectation_over_all_inputs(rotated):
    problem = problems.load("least_squares", rotated=rotated)
    model = problem.build()
    model.compile(loss=problem.loss)
    kernel = np.random.default_rng(0).normal(size=(50, 1)).astype("float32")
    model.set_weights([kernel])
    exact = model.evaluate(problem.x_test, problem.y_test, verbose=0)
    residual = (problem.x_train @ kernel - problem.y_train)[:, 0].astype(float) ** 2
    error = residual.std() / np.sqrt(len(residual))
    assert exact + 0.5**2 == pytest.approx(residual.mean(), abs=4 * error)
    # E[x x'] of its rows is that of the inputs
    second = problem.x_test.T @ problem.x_test / len(problem.x_test)
    np.testing.assert_allclose(second, np.cov(problem.x_train.T), atol=0.02)
    np.testing.assert_allclose(
        np.linalg.eigvalsh(second)[::-1], np.geomspace(1, 1e-3, 50), rtol=1e-3
    )


@given(some.floats(0, 0.4), some.floats(0.1, 2), some.floats(-2, 2), some.floats(0, 2))
@settings(max_examples=30, deadline=None)
def test_one_step_of_least_squares_has_its_moments(rate, variance, start, noise):
    # (1 - 2 rate x^2) start + 2 rate x n, whose square is known by E x^2 = v and E x^4 = 3 v^2
    slope = 2 * rate
    square = (1 - 2 * slope * variance + 3 * (slope * variance) ** 2) * start**2
    square += slope**2 * variance * noise**2
    found = theory.least_squares([rate], variance, start, noise)
    assert found == pytest.approx([variance * start**2, variance * square])
    # of a batch without end: gradient descent
    plain = theory.least_squares([rate] * 3, [variance, 1.0], [start, 1.0], noise, 10**12)
    factors = (1 - slope * np.array([variance, 1.0])) ** 6 * [variance * start**2, 1.0]
    assert plain[-1] == pytest.approx(factors.sum(), rel=1e-6, abs=1e-9)


def test_bad_input_of_the_theory_is_named():
    for argument, bad in {
        "rates": ([-0.1], 1.0, 1.0),
        "variances": ([0.1], 0.0, 1.0),
        "noise": ([0.1], 1.0, 1.0, -1.0),
        "batch_size": ([0.1], 1.0, 1.0, 1.0, 0),
    }.items():
        with pytest.raises(ValueError, match=f"^{argument} = "):
            theory.least_squares(*bad)
