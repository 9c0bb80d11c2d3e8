"""A run touches only its own state: alone, among others, on another thread and as plain ``fit``."""

from anneal_utils import training

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from small_state import (
    Counter,
    Turning,
    around,
    assert_a_run_is_its_own,
    dense,
    short,
    six_runs,
    subclass,
)

L = keras.layers


class LateCounter(L.Layer):
    """The same, made where Keras traces the layer, and at random."""

    def build(self, shape):
        self.count = tf.Variable(np.random.uniform(), dtype="float32", trainable=False)

    call = Counter.call


class KerasCounter(L.Layer):
    """The same as a weight."""

    def build(self, shape):
        self.count = self.add_weight((), "zeros", trainable=False)

    call = Counter.call


class Sticky(keras.metrics.Metric):
    """Adds random numbers, and is never reset; called accuracy, so that it is in the frame."""

    def __init__(self, name="accuracy", **settings):
        super().__init__(name=name, **settings)
        self.total = self.add_variable((), "zeros")
        self.seeds = keras.random.SeedGenerator()

    def update_state(self, y, prediction, sample_weight=None):
        self.total.assign_add(keras.random.uniform((), seed=self.seeds))

    def result(self):
        return self.total * 1

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


def second():
    return keras.metrics.SparseCategoricalAccuracy("second")


KINDS = {
    "raw variables": (
        lambda: short(around(Counter, lambda: Counter(np.random.uniform), LateCounter)),
        "sgd",
    ),
    "weights": (lambda: short(around(KerasCounter, L.BatchNormalization)), "sgd"),
    "random numbers": (
        lambda: short(around(lambda: L.GaussianNoise(0.5), lambda: L.Dropout(0.5))),
        "adam",
    ),
    "metric objects": (lambda: short(dense, metrics=(Sticky(), second())), "sgd"),
    "train_step": (lambda: short(subclass(Counting), metrics=()), "sgd"),
    "optimizer": (lambda: short(dense), Turning),
    "schedule-free": (lambda: short(dense), "schedulefreeadamw"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_same_alone_among_others_on_a_thread_and_in_fit(kind):
    problem, optimizer = KINDS[kind]
    assert_a_run_is_its_own(problem(), six_runs(optimizer), "graph")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_same_alone_and_among_others_under_xla(kind):
    problem, optimizer = KINDS[kind]
    assert_a_run_is_its_own(problem(), six_runs(optimizer), "xla")


def test_a_run_is_the_same_however_often_its_program_was_used():
    problem, runs = KINDS["raw variables"][0](), six_runs(Turning)
    alone = assert_a_run_is_its_own(problem, runs, "graph", threads=(1, 2))
    again = training.train(problem, runs[1:2], mode="graph")
    pd.testing.assert_frame_equal(alone, again, check_exact=True)
