"""A run touches only its own state: alone, among others, on another thread and as plain ``fit``."""

import contextlib

from test_training import IMAGES, tiny

from anneal_utils import training

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

L = keras.layers


@pytest.fixture
def half_precision():
    """Keras's mixed_float16 policy, put back after."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


# ------------------------------------------------------------------- everything that keeps state


class Counter(L.Layer):
    """Keeps a raw variable, of which Keras knows nothing: the batches that it has seen."""

    def __init__(self, start=lambda: 0.0):
        super().__init__()
        self.count = tf.Variable(start(), dtype="float32", trainable=False)

    def call(self, inputs, training=False):
        if training:
            self.count.assign_add(1.0)
        return inputs * (1 + tf.sin(self.count))


class LazyCounter(L.Layer):
    """The same, made where Keras traces the layer."""

    def build(self, shape):
        self.count = tf.Variable(np.random.uniform(), dtype="float32", trainable=False)

    call = Counter.call


class KerasCounter(L.Layer):
    """The same as a weight."""

    def build(self, shape):
        self.count = self.add_weight((), "zeros", trainable=False)

    call = Counter.call


class Noise(L.Layer):
    """Draws from a generator of its own."""

    def __init__(self):
        super().__init__()
        self.seeds = keras.random.SeedGenerator()

    def call(self, inputs, training=False):
        noise = keras.random.normal(tf.shape(inputs), seed=self.seeds)
        return inputs + noise if training else inputs


class Sticky(keras.metrics.Metric):
    """Counts batches, and is never reset; called accuracy, so that it is in the frame."""

    def __init__(self, name="accuracy", **settings):
        super().__init__(name=name, **settings)
        self.count = self.add_variable((), "zeros")
        self.seeds = keras.random.SeedGenerator()

    def update_state(self, y, prediction, sample_weight=None):
        self.count.assign_add(keras.random.uniform((), seed=self.seeds))

    def result(self):
        return self.count * 1

    def reset_state(self):
        pass


class Counting(keras.Model):
    """Trains by a step of its own, which counts, and returns the loss of the last batch."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.count = tf.Variable(0.0, trainable=False)

    def train_step(self, data):
        x, y = data
        self.count.assign_add(1.0)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x / self.count, training=True))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": loss, "count": self.count}


class Turning(keras.optimizers.SGD):
    """Keeps a raw variable, and the steps get smaller as it grows."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.turns = tf.Variable(1.0, trainable=False)

    def update_step(self, gradient, variable, learning_rate):
        self.turns.assign_add(0.5)
        super().update_step(gradient / self.turns, variable, learning_rate)


class Shaking(keras.optimizers.SGD):
    """Adds noise to every gradient."""

    def build(self, variables):
        super().build(variables)
        self.seeds = keras.random.SeedGenerator()

    def update_step(self, gradient, variable, learning_rate):
        noise = keras.random.normal(gradient.shape, seed=self.seeds)
        super().update_step(gradient + noise, variable, learning_rate)


def around(*layers):
    """A problem whose model has these layers, each made anew."""
    return lambda: short(
        lambda: keras.Sequential(
            [keras.Input((64,)), L.Dense(4), *[make() for make in layers], L.Dense(3)]
        )
    )


def short(build, **settings):
    """Two epochs of two steps."""
    return tiny(build, **{"batch_size": 40, "epochs": 2, **settings})


def dense():
    return keras.Sequential([keras.Input((64,)), L.Dense(3)])


def counting():
    inputs = keras.Input((64,))
    return Counting(inputs, L.Dense(3)(inputs))


def steep(y, prediction):
    """So large that the first steps overflow half precision."""
    return 40 * keras.ops.mean(keras.ops.square(prediction - 1), axis=-1)


NEVER_BETTER = training.Plateau(factor=0.5, patience=1, min_delta=9.0)
KINDS = {
    "raw variable": (around(Counter), "sgd", "cosine"),
    "raw variable, random": (
        around(lambda: Counter(lambda: np.random.uniform())),
        "sgd",
        "cosine",
    ),
    "raw variable of build": (around(LazyCounter), "sgd", "cosine"),
    "weight": (around(KerasCounter), "sgd", "cosine"),
    "batch norm": (around(L.BatchNormalization), "sgd", "cosine"),
    "dropout": (around(lambda: L.Dropout(0.5)), "adam", "cosine"),
    "gaussian noise": (around(lambda: L.GaussianNoise(0.5)), "sgd", "cosine"),
    "own generator": (around(Noise), "sgd", "cosine"),
    "metric never reset": (lambda: short(dense, metrics=(Sticky(),)), "sgd", "cosine"),
    "metric object": (
        lambda: short(dense, metrics=(keras.metrics.SparseCategoricalAccuracy("accuracy"),)),
        "sgd",
        "cosine",
    ),
    "train step": (lambda: short(counting, metrics=()), "sgd", "cosine"),
    "optimizer's raw variable": (lambda: short(dense), Turning, "cosine"),
    "optimizer's noise": (lambda: short(dense), Shaking, "cosine"),
    "schedule-free": (lambda: short(dense), "schedulefreeadamw", "cosine"),
    "plateau": (around(lambda: L.Dropout(0.5)), "sgd", NEVER_BETTER),
}


def row_of(frame, run):
    mine = frame[(frame.peak == run.peak) & (frame.seed == run.seed)]
    return mine.reset_index(drop=True)


def assert_same_weights(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_a_run_is_its_own(problem, optimizer, recipe, mode):
    """The run in the middle of nine, alone and among them; in graph mode, as ``fit`` too."""
    runs = training.grid({"mine": recipe}, [0.02, 0.05, 0.1], [1, 3, 5], optimizer)
    runs = [*runs[3:], *runs[:3]]
    run = runs[1]
    assert (run.peak, run.seed) == (0.05, 3)
    [weights], alone = training.train(problem, [run], mode=mode, return_weights=True)
    for threads in (1, 2):  # the second time in a program that others have used
        all_weights, frame = training.train(
            problem, runs, mode=mode, threads=threads, return_weights=True
        )
        pd.testing.assert_frame_equal(row_of(frame, run), alone, check_exact=True)
        assert_same_weights(all_weights[1], weights)
    assert frame.train_loss.nunique() > 9, "the runs do not differ: the test would compare nothing"
    if mode == "graph":
        model, fitted = training.fit_one(problem, run)
        pd.testing.assert_frame_equal(alone, fitted, check_exact=True)
        assert_same_weights(model.get_weights(), weights)
    return alone


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_same_alone_among_others_on_a_thread_and_in_fit(kind, mode):
    problem, optimizer, recipe = KINDS[kind]
    assert_a_run_is_its_own(problem(), optimizer, recipe, mode)


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("recipe", ["cosine", NEVER_BETTER], ids=["cosine", "plateau"])
@pytest.mark.parametrize("optimizer", ["sgd", "schedulefreeadamw"])
def test_skipped_steps_of_half_precision(half_precision, mode, recipe, optimizer):
    problem = short(dense, loss=steep, metrics=(), epochs=4)
    assert_a_run_is_its_own(problem, optimizer, recipe, mode)
