"""A small network and a descent, for the tests of optimizers around optimizers."""

from anneal_utils.optimizers import LayerRates, Scheduled

import keras
import numpy as np
import tensorflow as tf
from small import assert_close, assert_equal

optimizers, layers = keras.optimizers, keras.layers
Polynomial = keras.optimizers.schedules.PolynomialDecay


RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype("float32")
Y = X[:, :1] * X[:, 1:2]
FALL = Polynomial(0.95, 10, 0.5)


def constant(value):
    """A schedule that is constant, which no compiler can see."""
    return keras.optimizers.schedules.PiecewiseConstantDecay([3], [value, value])


def single(value):
    """The number that a float32 tensor can hold."""
    return float(np.float32(value))


@keras.saving.register_keras_serializable("tests")
class Halves(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that returns Python numbers."""

    def __call__(self, step):
        return 0.5

    def get_config(self):
        return {}


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, "relu", name="first"), layers.Dense(1, name="last")],
        name="net",
    )


def fit(optimizer, epochs=2, model=None, **settings):
    """A trained model: four steps an epoch, the same batches every time."""
    callbacks = settings.pop("callbacks", None)
    if model is None:
        model = network()
        model.compile(optimizer, "mse", **settings)
    arguments = {"batch_size": 16, "shuffle": False, "verbose": 0, "callbacks": callbacks}
    model.fit(X, Y, epochs=epochs, **arguments)
    return model


def assert_same(model, other, **tolerance):
    """Two models have the same weights, or close ones."""
    compare = assert_close if tolerance else assert_equal
    compare(model.get_weights(), other.get_weights(), **tolerance)


def path(optimizer, steps=12, gradient=lambda w: 3 * w):
    """A matrix, then a vector, after each step of a compiled descent: float64 [steps, 10]."""
    start = np.linspace(-2, 2, 10).astype("float32")
    weights = [keras.Variable(start[:6].reshape(2, 3)), keras.Variable(start[6:])]
    optimizer.build(weights)

    @tf.function(autograph=False)
    def step():
        optimizer.apply([gradient(weight) for weight in weights], weights)

    taken = []
    for _ in range(steps):
        step()
        taken.append(np.concatenate([weight.numpy().ravel() for weight in weights]))
    return np.array(taken, float)


START = np.linspace(-2, 2, 10)


def both(rate=0.1, **settings):
    """Half the momentum that would be there, half the rate in the first layer."""
    inner = optimizers.SGD(rate, momentum=0.1, **settings)
    return LayerRates(Scheduled(inner, momentum=FALL), {"first": 0.5})


def other_way(rate=0.1, **settings):
    inner = optimizers.SGD(rate, momentum=0.1, **settings)
    return Scheduled(LayerRates(inner, {"first": 0.5}), momentum=FALL)
