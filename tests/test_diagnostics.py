"""Diagnostics against closed forms and dense computations."""

from anneal_utils import diagnostics, problems

import keras
import numpy as np
import pytest
import tensorflow as tf


@pytest.mark.parametrize("curvature", [0.3, 25.0, (0.1, 7.0, 3.0)])
def test_sharpness_of_a_bowl_is_its_largest_curvature(curvature):
    bowl = problems.load("quadratic", curvature=curvature, noise=0.5)
    assert diagnostics.sharpness(bowl) == pytest.approx(np.max(curvature), rel=1e-3)


def test_sharpness_of_a_network_is_the_top_of_its_dense_hessian():
    article = problems.load("article")
    keras.utils.set_random_seed(3)
    model = article.build()
    weights = model.get_weights()
    x, y = article.x_train[:200], article.y_train[:200]
    flat = tf.Variable(np.concatenate([w.ravel() for w in weights]))

    def loss():
        h, at = tf.constant(x), 0
        for layer in range(4):
            kernel, bias = weights[2 * layer : 2 * layer + 2]
            w = tf.reshape(flat[at : at + kernel.size], kernel.shape)
            at += kernel.size
            h = h @ w + flat[at : at + bias.size]
            at += bias.size
            h = tf.nn.relu(h) if layer < 3 else tf.nn.log_softmax(h)
        return -tf.reduce_mean(tf.reduce_sum(y * h, -1))

    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = loss()
        gradient = inner.gradient(value, flat)
    dense = outer.jacobian(gradient, flat).numpy()
    top = np.linalg.eigvalsh((dense + dense.T) / 2)[-1]
    assert diagnostics.sharpness(article, weights, samples=200) == pytest.approx(top, rel=2e-3)


def test_sharpness_of_several_inputs_with_weights_is_that_of_least_squares():
    rng = np.random.default_rng(2)
    a, b, weight = rng.normal(size=(40, 2)), rng.normal(size=(40, 1)), rng.uniform(size=40)
    y = rng.normal(size=(40, 1))

    def build():
        parts = {"a": keras.Input((2,), name="a"), "b": keras.Input((1,), name="b")}
        joined = keras.layers.Concatenate()(list(parts.values()))
        return keras.Model(parts, keras.layers.Dense(1, use_bias=False)(joined))

    mine = problems.Problem(
        *("mine", build, {"a": a, "b": b}, y, {"a": a, "b": b}, y),
        loss="mse",
        batch_size=8,
        epochs=1,
        sample_weight_train=weight,
    )
    x = np.hstack([a, b])
    hessian = 2 * (x * weight[:, None]).T @ x / len(x)
    top = np.linalg.eigvalsh(hessian)[-1]
    assert diagnostics.sharpness(mine) == pytest.approx(top, rel=1e-3)


def test_sharpness_refuses_foreign_and_diverged_weights():
    article = problems.load("article")
    with pytest.raises(ValueError, match="^weights"):
        diagnostics.sharpness(article, [np.zeros(3)])
    weights = [np.full(w.shape, np.nan) for w in article.build().weights]
    with pytest.raises(ValueError, match="diverged"):
        diagnostics.sharpness(article, weights)


@pytest.mark.parametrize("optimizer, steps", [("SGD", 1), ("Adam", 1), ("Adam", 3)])
def test_update_ratio_of_a_step_is_its_formula(optimizer, steps):
    weight = keras.Variable(np.array([3.0, -4.0], "float32"))
    before = weight.numpy()
    rule = getattr(keras.optimizers, optimizer)(0.01)
    gradient = np.array([0.5, 2.0], "float32")
    for _ in range(steps):
        rule.apply([gradient], [weight])
    # SGD moves by rate x gradient; Adam moves every weight by the rate while gradients agree.
    moved = 0.01 * (np.linalg.norm(gradient) if optimizer == "SGD" else steps * np.sqrt(2))
    found = diagnostics.update_ratio([before, np.zeros(3)], [weight.numpy(), np.ones(3)])
    assert found[0] == pytest.approx(moved / 5, rel=1e-4) and np.isnan(found[1])


def test_update_ratio_refuses_weights_of_another_model():
    with pytest.raises(ValueError, match="^after"):
        diagnostics.update_ratio([np.ones(2)], [np.ones(3)])
