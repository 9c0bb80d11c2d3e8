"""Optimizers against Keras's own, and against their formulas in NumPy."""

import functools

from anneal_utils import problems, training
from anneal_utils.optimizers import (
    SWATS,
    AdaBound,
    AveragedAdamW,
    EvaluateAverage,
    HypergradientSGD,
    PolyakSGD,
)

import keras
import numpy as np
import pytest
from formulas import CURVATURES, START, descend, moments
from small import assert_as_fit, assert_close, assert_equal, assert_refused, tiny


@pytest.mark.parametrize("ratio", [5.0, 0.5])  # the lower bound acts, or the upper one
def test_adabound_is_its_papers_formula(ratio):
    path, x = descend(AdaBound(0.01, final_ratio=ratio, gamma=0.05), 120, noise=0.5), START
    below, above = 0, 0
    for (_, after), (m, v, t) in zip(path, moments(g for g, _ in path), strict=True):
        own = 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) / (np.sqrt(v) + 1e-7)
        low = 0.01 * ratio * (1 - 1 / (0.05 * t + 1))
        high = 0.01 * ratio * (1 + 1 / (0.05 * t))
        below, above = below + int((own < low).sum()), above + int((own > high).sum())
        x = x - np.clip(own, low, high) * m
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)
    assert 0 < (below if ratio > 1 else above) < 3 * 120  # clipped, and not always


def test_adabound_with_a_wide_band_is_adam():
    wide = descend(AdaBound(0.01, final_ratio=1.0, gamma=1e-12), 40)
    adam = descend(keras.optimizers.Adam(0.01), 40)
    np.testing.assert_allclose(wide[-1][1], adam[-1][1], rtol=1e-5)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
def test_swats_is_its_papers_algorithm(tolerance):
    optimizer = SWATS(0.05, tolerance=tolerance, beta_2=0.9)
    path, x, mean, sgd, velocity, switched = descend(optimizer, 80), START, 0.0, None, 0.0, -1
    for (g, after), (m, v, t) in zip(path, moments((g for g, _ in path), 0.9, 0.9), strict=True):
        if sgd is not None:
            velocity = 0.9 * velocity + g
            x = x - (1 - 0.9) * sgd * velocity
        else:
            p = -0.05 * np.sqrt(1 - 0.9**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
            x = x + p
            projected = p @ p / -(p @ g)
            mean = 0.9 * mean + 0.1 * projected
            corrected = mean / (1 - 0.9**t)
            if t > 1 and abs(corrected - projected) < tolerance and corrected > 0:
                sgd, switched = corrected, t
        np.testing.assert_allclose(after, x, rtol=2e-3, atol=2e-3)
    assert int(optimizer.switched_at) == switched
    assert (switched > 0) == (tolerance == 1e-3)  # the test sees both phases


def test_polyak_is_its_papers_formula_and_capped():
    def loss(x):
        return 0.5 * float((CURVATURES * x**2).sum())

    path, x, capped = descend(PolyakSGD(0.5, c=0.5), 40, loss=loss), START, 0
    for g, after in path:
        rate = loss(x) / (0.5 * g @ g)
        capped += rate > 0.5
        x = x - min(rate, 0.5) * g
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)
    assert 0 < capped < 40


def test_polyak_needs_a_loss_and_rests_at_a_stationary_point():
    weight = keras.Variable([1.0])
    optimizer = PolyakSGD(0.5)
    with pytest.raises(ValueError, match="loss"):
        optimizer.apply([np.ones(1, "float32")], [weight])
    optimizer.scale_loss(keras.ops.zeros(()))
    optimizer.apply([np.zeros(1, "float32")], [weight])
    np.testing.assert_array_equal(weight.numpy(), [1.0])


def test_hypergradient_is_its_papers_formula():
    optimizer = HypergradientSGD(0.01, beta=1e-3)
    x, rate, last = START, 0.01, np.zeros(3)
    for g, after in descend(optimizer, 60, noise=0.3):
        rate += 1e-3 * g @ last
        x, last = x - rate * g, g
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)
    assert abs(rate - 0.01) > 0.01  # it has learned something
    np.testing.assert_allclose(float(optimizer.offset), rate - 0.01, rtol=1e-3)


@pytest.mark.parametrize("warmup", [0, 10])
def test_averaged_adamw_is_schedule_free_of_its_paper(warmup):
    optimizer = AveragedAdamW(0.05, beta_1=0.8, warmup_steps=warmup)
    z = x = START
    weights, second, largest = 0.0, 0.0, 0.0
    for t, (g, after) in enumerate(descend(optimizer, 50, noise=0.3), 1):
        rate = 0.05 * min(t / warmup, 1) if warmup else 0.05
        second = 0.999 * second + 0.001 * g**2
        z = z - rate * g / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        largest = max(largest, rate)
        weights += largest**2
        x = (1 - largest**2 / weights) * x + largest**2 / weights * z
        np.testing.assert_allclose(after, 0.2 * z + 0.8 * x, rtol=1e-4, atol=1e-5)
    trained = [v.numpy() for v in optimizer._trainable_variables]
    optimizer.to_average()
    average = np.concatenate([v.numpy() for v in optimizer._trainable_variables])
    np.testing.assert_allclose(average, x, rtol=1e-4)
    optimizer.to_gradient_point()
    assert_equal(trained, optimizer._trainable_variables)


MAKERS = {
    "adabound": lambda rate: AdaBound(rate, gamma=0.01),
    "swats": lambda rate: SWATS(rate, tolerance=1e-2),
    "polyak": PolyakSGD,
    "hypergradient": HypergradientSGD,
    "averaged": AveragedAdamW,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_under_the_trainer_and_in_fit(name):
    problem = tiny(functools.partial(problems.models.mlp, 64, (8,), 3), epochs=8)
    runs = training.grid(["linear"], [0.05], [2], MAKERS[name])
    weights, frame = training.train(problem, runs, mode="graph", return_weights=True)
    assert_as_fit(problem, runs[0], frame, weights[0])
    quick = training.train(problem, runs, mode="xla")
    np.testing.assert_allclose(quick.val_loss, frame.val_loss, rtol=1e-3)


def test_averaged_adamw_starts_from_the_weights_when_fit_builds_it():
    article = problems.load("article")
    keras.utils.set_random_seed(0)
    model = article.build()
    before = model.get_weights()
    model.compile(AveragedAdamW(1e-7), article.loss)
    model.fit(article.x_train, article.y_train, epochs=1, verbose=0, callbacks=[EvaluateAverage()])
    assert_close(model.get_weights(), before, atol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_saves_loads_and_goes_on(name, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(MAKERS[name](0.01), "mse")
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, again):
        each.fit(x, y, epochs=3, verbose=0, shuffle=False)
    assert_equal(again.get_weights(), model.get_weights())


REFUSED = {
    "final_ratio = 0: must be": lambda: AdaBound(0.1, final_ratio=0),
    "gamma = -1: must be": lambda: AdaBound(0.1, gamma=-1),
    "amsgrad = True: must be False": lambda: AdaBound(0.1, amsgrad=True),
    "tolerance = 0: must be": lambda: SWATS(0.1, tolerance=0),
    "c = 0: must be": lambda: PolyakSGD(0.1, c=0),
    "momentum = 0.9: must be 0": lambda: PolyakSGD(0.1, momentum=0.9),
    "beta = nan: must be": lambda: HypergradientSGD(0.1, beta=float("nan")),
    "nesterov = True: must be False": lambda: HypergradientSGD(0.1, nesterov=True),
    "beta_1 = 2: must be": lambda: AveragedAdamW(0.1, beta_1=2),
    "beta_2 = 1: must be below 1": lambda: AveragedAdamW(0.1, beta_2=1),
    "warmup_steps = -1: must be": lambda: AveragedAdamW(0.1, warmup_steps=-1),
    "weight_decay = -0.1: must be": lambda: AveragedAdamW(0.1, weight_decay=-0.1),
    "beta_2 = 1.0: must be below 1": lambda: AdaBound(0.1, beta_2=1.0),
    "beta_1 = -0.1: must be": lambda: SWATS(0.1, beta_1=-0.1),
    "epsilon = -1.0: must be": lambda: SWATS(0.1, epsilon=-1.0),
    "clipnorm = np.float32(1.0): must be None": lambda: PolyakSGD(0.1, clipnorm=np.float32(1)),
    "weight_decay = 'much': must be": lambda: AveragedAdamW(0.1, weight_decay="much"),
}


@pytest.mark.parametrize("start", REFUSED)
def test_bad_arguments_are_named(start):
    assert_refused(REFUSED[start], start)
