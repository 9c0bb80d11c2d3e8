"""Optimizers against Keras's own, and against their formulas in NumPy."""

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
import pandas as pd
import pytest

# ------------------------------------------------------- against the papers, in plain NumPy


def bowl(x):
    """Gradient of 0.5 (4 x_0^2 + x_1^2 + 0.2 x_2^2)."""
    return np.array([4.0, 1.0, 0.2]) * x


def descend(optimizer, steps, gradient=bowl, noise=0.0, loss=None):
    """Weights after each step; two variables, so that what is global must be summed over both."""
    weights = [keras.Variable([1.0, -2.0]), keras.Variable([3.0])]
    optimizer.build(weights)
    rng, path = np.random.default_rng(0), []
    for _ in range(steps):
        x = np.concatenate([w.numpy() for w in weights])
        g = (gradient(x) + noise * rng.standard_normal(3)).astype("float32")
        if loss:
            optimizer.scale_loss(keras.ops.convert_to_tensor(loss(x), "float32"))
        optimizer.apply([g[:2], g[2:]], weights)
        path.append((g.astype(float), np.concatenate([w.numpy() for w in weights])))
    return path


START = np.array([1.0, -2.0, 3.0])


def moments(gradients, beta_1=0.9, beta_2=0.999):
    """Adam's (first moment, second moment, step) for each gradient."""
    first = second = 0.0
    for step, g in enumerate(gradients, 1):
        first = beta_1 * first + (1 - beta_1) * g
        second = beta_2 * second + (1 - beta_2) * g**2
        yield first, second, step


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
        return 0.5 * float((np.array([4.0, 1.0, 0.2]) * x**2).sum())

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
    for mine, theirs in zip(trained, optimizer._trainable_variables, strict=True):
        np.testing.assert_array_equal(mine, theirs.numpy())


MAKERS = {
    "adabound": lambda rate: AdaBound(rate, gamma=0.01),
    "swats": lambda rate: SWATS(rate, tolerance=1e-2),
    "polyak": PolyakSGD,
    "hypergradient": HypergradientSGD,
    "averaged": AveragedAdamW,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_under_the_trainer_and_in_fit(name):
    article = problems.load("article")
    runs = training.grid(["linear"], [0.05], [2], MAKERS[name], epochs=3)
    weights, frame = training.train(article, runs, mode="graph", return_weights=True)
    model, twin = training.fit_one(article, runs[0])
    pd.testing.assert_frame_equal(frame, twin, check_exact=True)
    for mine, theirs in zip(weights[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    quick = training.train(article, runs, mode="xla")
    np.testing.assert_allclose(quick.val_loss, frame.val_loss, rtol=1e-3)


def test_averaged_adamw_starts_from_the_weights_when_fit_builds_it():
    article = problems.load("article")
    keras.utils.set_random_seed(0)
    model = article.build()
    before = model.get_weights()
    model.compile(AveragedAdamW(1e-7), article.loss)
    model.fit(article.x_train, article.y_train, epochs=1, verbose=0, callbacks=[EvaluateAverage()])
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


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
    for mine, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: AdaBound(0.1, final_ratio=0), "final_ratio"),
        (lambda: AdaBound(0.1, gamma=-1), "gamma"),
        (lambda: AdaBound(0.1, amsgrad=True), "amsgrad"),
        (lambda: SWATS(0.1, tolerance=0), "tolerance"),
        (lambda: PolyakSGD(0.1, c=0), "c"),
        (lambda: PolyakSGD(0.1, momentum=0.9), "momentum"),
        (lambda: HypergradientSGD(0.1, beta=float("nan")), "beta"),
        (lambda: HypergradientSGD(0.1, nesterov=True), "nesterov"),
        (lambda: AveragedAdamW(0.1, beta_1=2), "beta_1"),
        (lambda: AveragedAdamW(0.1, beta_2=1), "beta_2"),
        (lambda: AveragedAdamW(0.1, warmup_steps=-1), "warmup_steps"),
        (lambda: AveragedAdamW(0.1, weight_decay=-0.1), "weight_decay"),
        (lambda: AdaBound(0.1, beta_2=1.0), "beta_2"),
        (lambda: SWATS(0.1, beta_1=-0.1), "beta_1"),
        (lambda: SWATS(0.1, epsilon=-1.0), "epsilon"),
        (lambda: PolyakSGD(0.1, clipnorm=np.float32(1)), "clipnorm"),
        (lambda: AveragedAdamW(0.1, weight_decay="much"), "weight_decay"),
    ],
)
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(ValueError, match=f"^{argument} = "):
        make()
