"""Fits whose every step can be told by hand: models of one weight, and small networks."""

from anneal_utils import schedules
from anneal_utils.callbacks import RateRecorder

import keras
import numpy as np
import tensorflow as tf
from small import held

SGD = keras.optimizers.SGD


LINEAR = schedules.build("linear", 1.0, 16)
TABLE = schedules.values(LINEAR, 17, exact=True).astype(float)


class Weight(keras.Model):
    """One weight, of gradient 1 on data of ones: plain SGD lowers it by exactly the rate."""

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(), initializer="zeros", name="weight")

    def call(self, x):
        return x * self.weight


class Watch(keras.callbacks.Callback):
    """How far the weight has moved in each call of the step."""

    def __init__(self):
        super().__init__()
        self.moved = []

    def on_train_batch_end(self, batch, logs=None):
        self.moved.append(-float(self.model.weight))
        self.model.weight.assign(0.0)


def compiled(optimizer, kind=Weight, **settings):
    model = kind()
    model.build((None, 1))
    settings = {"loss": lambda y, p: tf.reduce_mean(p), "jit_compile": False, **settings}
    model.compile(optimizer, **settings)
    return model


def fit(model, *given, batches=8, **settings):
    """A fit of single samples; ``given`` are the callbacks."""
    data = np.ones([batches, 1], "float32")
    settings = {"batch_size": 1, "verbose": 0, **settings}
    return model.fit(data, data, callbacks=list(given), **settings)


def observed(model, *others, **settings):
    """(recorder, watch) of a fit, with ``others`` around them as (before, after) the recorder."""
    before, after = others or ((), ())
    recorder, watch = observers()
    model.weight.assign(0.0)
    fit(model, *before, recorder, watch, *after, **settings)
    return recorder, watch


def observers():
    return RateRecorder(), Watch()


def steep(y, p):
    return 60000.0 * tf.cast(tf.reduce_mean(p), "float32")


class Twice(Weight):
    """Applies the optimizer twice in each batch, and tells no loss."""

    def train_step(self, data):
        for _ in range(2):
            self.optimizer.apply([tf.constant(1.0)], self.trainable_variables)
        return {"steps": self.optimizer.iterations}


class Never(Weight):
    """Never applies the optimizer."""

    def train_step(self, data):
        return {"nothing": tf.constant(0.0)}


class Breaks(keras.callbacks.Callback):
    """Ends training by an error, after some batches."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


def plateau(callback, rate, done=0, losses=(1.0,) * 10):
    """The rate after each epoch of the given losses, of an optimizer that has done some steps."""
    model = Weight()
    model.compile(SGD(rate), loss="mse")
    model.optimizer.iterations.assign(done)
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"loss": loss, "val_loss": loss})
        rates.append(float(model.optimizer.learning_rate))
    return rates


def network(rate, **settings):
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(2)]
    )
    model.compile(SGD(rate, momentum=0.9), "mse", **settings)
    return model


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.normal(size=(40, 2)).astype("float32")


GENTLE = schedules.build("linear", 0.05, 20)


def trained(model, *given, epochs=2):
    """What a model and its optimizer hold after a fit of ten steps an epoch."""
    keras.utils.set_random_seed(4)
    model.fit(X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=list(given))
    weights = held(model, model.optimizer)
    assert all(np.isfinite(values).all() for values in weights)
    return weights


class Keeping(keras.layers.Layer):
    """Draws from a seed of its own, counts in a raw variable, and breaks where it is told to."""

    def __init__(self, until=10**6):
        super().__init__()
        self.count = tf.Variable(0, dtype="int64", trainable=False)
        self.seed, self.until = keras.random.SeedGenerator(1), until

    def call(self, x, training=False):
        if not training:
            return x
        self.count.assign_add(1)
        tf.debugging.assert_less(self.count, tf.constant(self.until, "int64"))
        return x + 0.01 * keras.random.normal(tf.shape(x), seed=self.seed)


def keeping(rate=0.03, until=10**6, **settings):
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), Keeping(until), layers.Dense(8, "relu"), layers.Dense(2)]
    )
    settings = {"loss": "mse", "jit_compile": False, **settings}
    model.compile(SGD(rate, momentum=0.9), **settings)
    return model


def state(model):
    """All that a fit of ``keeping`` changes."""
    return [*held(model, model.optimizer), model.layers[0].count.numpy()]


def sweep(model, test, epochs=99, **settings):
    return model.fit(
        X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=[test], shuffle=False, **settings
    )
