"""Optimizers written out in plain NumPy, for the tests that hold them against their papers."""

import keras
import numpy as np

START = np.array([1.0, -2.0, 3.0])
CURVATURES = np.array([4.0, 1.0, 0.2])


def bowl(x):
    """Gradient of 0.5 (4 x_0^2 + x_1^2 + 0.2 x_2^2)."""
    return CURVATURES * x


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


def moments(gradients, beta_1=0.9, beta_2=0.999):
    """Adam's (first moment, second moment, step) for each gradient; beta_1 may be one per step."""
    first = second = 0.0
    for step, g in enumerate(gradients, 1):
        beta = beta_1(step - 1) if callable(beta_1) else beta_1
        first = beta * first + (1 - beta) * g
        second = beta_2 * second + (1 - beta_2) * g**2
        yield first, second, step
