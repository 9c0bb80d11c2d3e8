"""What the tests of identity share: values, tiny problems, trials of one run."""

import functools
import math
import struct

from anneal_utils import problems, training

import keras
import numpy as np
import small

L = keras.layers
SGD = keras.optimizers.SGD


NAN, OTHER_NAN = struct.unpack("<2d", b"\x01\0\0\0\0\0\xf8\x7f\x02\0\0\0\0\0\xf8\x7f")
LEAVES = [
    *(None, True, False, 0, 1, -1, 2**80, 0.0, -0.0, 1.0, NAN, OTHER_NAN, math.inf),
    *("", "1", "a", "ab", "None", "int 1;", "text 1;a", "\ud800", b"", b"1", b"a", b"ab"),
]


IMAGES, LABELS = small.IMAGES[:48], small.LABELS[:48]
TARGETS = np.eye(3, dtype="float32")[LABELS]


def tiny(build, x=IMAGES, y=LABELS, **given):
    """A small problem: two epochs of four steps."""
    shape = {"train": 32, "batch_size": 8, "epochs": 2, "metrics": ()}
    return small.tiny(build, x, y, **{**shape, **given})


def one(optimizer="sgd", recipe=0.1, *, seeds=(3,), peaks=(0.1,), **settings):
    return training.grid({"c": recipe}, peaks, seeds, optimizer, **settings)


def model(activation=None, factor=0.01, stddev=0.1, start=None, more=(), name=None):
    """A build function of one layer, and ``more``, with all that may change."""

    def build():
        layer = L.Dense(
            3,
            activation,
            kernel_initializer=start or keras.initializers.RandomNormal(stddev=stddev),
            kernel_regularizer=keras.regularizers.L2(factor),
            name=name and f"{name}_1",
        )
        others = [make() for make in more]
        return keras.Sequential([keras.Input((64,), name=name), layer, *others], name=name)

    return build


def trial(build=None, optimizer="sgd", recipe=0.1, *, mode="auto", wrap=None, grid=None, **given):
    """A problem, a run and a mode, as arguments of ``identity_of``."""
    given = {"y": TARGETS, "loss": keras.losses.Huber(1.0), **given}
    return tiny(build or model(), **given), one(optimizer, recipe, **(grid or {})), mode, wrap


def scaled(factor):
    return lambda y, answer: factor * keras.losses.mean_squared_error(y, answer)


def sgd(**knobs):
    return lambda rate: SGD(rate, **knobs)


def plain(**settings):
    return functools.partial(problems.models.mlp, 64, (), 3, **settings)


class Maker:
    """A maker that is an object with settings."""

    momentum = 0.0

    def __call__(self, rate):
        return SGD(rate, momentum=self.momentum)


def elsewhere(rate):
    """Has another name and place, and comes to the same."""
    factor = 2.0 / 2  # a comment
    return SGD(learning_rate=rate * factor if not callable(rate) else rate)


elsewhere.__module__ = "another.module"


def losses(frame):
    return frame[["train_loss", "val_loss"]].to_numpy()


class MySGD(SGD):
    """A user's optimizer."""

    factor = 1.0

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.factor * gradient, variable, learning_rate)


class MyInitializer(keras.initializers.Initializer):
    """A user's initializer."""

    scale = 0.1

    def __call__(self, shape, dtype=None):
        return self.scale * keras.ops.ones(shape, dtype)
