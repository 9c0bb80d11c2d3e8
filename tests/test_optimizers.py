"""Optimizers against Keras's own, and against their formulas in NumPy."""

from anneal_utils import problems, schedules, training
from anneal_utils.optimizers import ScheduledMomentumSGD

import keras
import numpy as np
import pandas as pd
import pytest


def falling():
    return schedules.build("linear", 0.95, 20, end=0.5)


def test_constant_momentum_is_keras_sgd_to_the_last_bit():
    article = problems.load("article")
    finals = []
    for make in (keras.optimizers.SGD, ScheduledMomentumSGD):
        runs = training.grid(
            ["linear"], [0.1], [1], lambda rate, make=make: make(rate, momentum=0.8), epochs=2
        )
        finals.append(training.train(article, runs, return_weights=True, mode="graph")[0][0])
    for mine, theirs in zip(*finals, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_scheduled_momentum_follows_its_formula():
    optimizer = ScheduledMomentumSGD(0.1, falling())
    weight, x, velocity = keras.Variable([1.0, -2.0]), np.array([1.0, -2.0]), 0.0
    for step in range(25):
        optimizer.apply([3 * weight.numpy()], [weight])
        momentum = 0.95 * (0.5 + 0.5 * (1 - min(step, 20) / 20))
        velocity = momentum * velocity - 0.1 * 3 * x
        x = x + velocity
        np.testing.assert_allclose(weight.numpy(), x, rtol=1e-4, atol=1e-5)


def test_scheduled_momentum_is_the_same_under_the_trainer_and_in_fit():
    article = problems.load("article")
    runs = training.grid(
        ["one_cycle"], [0.05], [2], lambda rate: ScheduledMomentumSGD(rate, falling()), epochs=2
    )
    frame = training.train(article, runs, mode="graph")
    pd.testing.assert_frame_equal(frame, training.fit_one(article, runs[0])[1], check_exact=True)


def test_scheduled_momentum_saves_and_loads(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(ScheduledMomentumSGD(0.1, falling()), "mse")
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for each in (model, again):
        each.fit(x, y, epochs=3, verbose=0, shuffle=False)
    for mine, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("momentum", [1.0, -0.1, "high", float("nan")])
def test_bad_momentum_is_named(momentum):
    with pytest.raises(ValueError, match="^momentum = "):
        ScheduledMomentumSGD(0.1, momentum)
    with pytest.raises(ValueError, match="^nesterov"):
        ScheduledMomentumSGD(0.1, 0.9, nesterov=True)
