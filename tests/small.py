"""What many tests share: small arrays, tiny problems, comparisons to the bit, refusals."""

import contextlib
import math

from anneal_utils import problems, training
from anneal_utils.training import program, starts

import keras
import numpy as np
import pandas as pd
import pytest

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(96, 64)).astype("float32")
TOKENS = RNG.integers(0, 20, size=(96, 6)).astype("int32")
LABELS = RNG.integers(0, 3, size=96).astype("int32")


def tiny(build, x=IMAGES, y=LABELS, *, train=80, **settings):
    """A small problem around ``build``; three epochs of five steps, unless told otherwise."""
    given = {
        "name": "tiny",
        "build": build,
        "x_train": x[:train].copy(),
        "y_train": y[:train].copy(),
        "x_val": x[train:].copy(),
        "y_val": y[train:].copy(),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "batch_size": 16,
        "epochs": 3,
        "chance_loss": math.log(3),
    }
    return problems.Problem(**{**given, **settings})


def sequential(size, *layers):
    """A build function of these layers, each made anew."""
    return lambda: keras.Sequential([keras.Input(size), *[layer() for layer in layers]])


@contextlib.contextmanager
def policy(name):
    """Keras's policy of kinds of numbers, put back after."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def forget():
    """Nothing is remembered of the programs and starts that there were."""
    for memory in (program._programs, program._quick, starts._weights, starts._starts):
        memory.clear()


def held(*holders):
    """The numbers that models and optimizers hold."""
    return [variable.numpy() for holder in holders for variable in holder.variables]


def assert_equal(mine, theirs):
    """Arrays with the same bits, and as many."""
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def assert_close(mine, theirs, **tolerance):
    """Arrays that are close, and as many."""
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


def assert_same_rows(mine, theirs):
    """Frames with the same bits, wherever in a frame the rows were."""
    mine, theirs = (frame.reset_index(drop=True) for frame in (mine, theirs))
    pd.testing.assert_frame_equal(mine, theirs, check_exact=True)


def assert_as_fit(problem, run, frame, weights=None):
    """The rows of a run, and its final weights, have the bits of ``fit``'s."""
    model, fitted = training.fit_one(problem, run)
    assert_same_rows(frame, fitted)
    if weights is not None:
        assert_equal(weights, model.get_weights())


def assert_refused(call, start):
    """The call is refused by a sentence that begins so, by argument and value: the sentence."""
    with pytest.raises(ValueError) as caught:
        call()
    said = str(caught.value)
    assert said.startswith(start), f"{said!r} does not begin with {start!r}"
    return said
