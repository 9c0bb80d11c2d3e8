"""Handwritten digits."""

import functools

from anneal_utils import _checks
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def _digits(name: str, build, epochs: int, noise: float = 0.0) -> Problem:
    images, labels = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(
        (images / 16).astype("float32"),
        labels.astype("int32"),
        test_size=0.2,
        stratify=labels,
        random_state=DATA_SEED,
    )
    rng = np.random.default_rng(DATA_SEED)
    wrong = rng.choice(len(y_train), size=round(noise * len(y_train)), replace=False)
    # A shift of 1..9 classes: every chosen label really is wrong.
    y_train[wrong] = (y_train[wrong] + rng.integers(1, 10, size=len(wrong))) % 10
    return Problem(
        name,
        build,
        *(x_train, y_train, x_val, y_val),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=32,
        epochs=epochs,
        chance_loss=float(np.log(10)),
    )


@register("digits")
def digits() -> Problem:
    """Real handwritten digits (scikit-learn's bundled set): 1,437 training, 360 held-out images.

    8 x 8 pixels scaled to [0, 1]; an MLP 64-64-10, cross-entropy, batches of 32, 30 epochs of 44
    steps.
    """
    return _digits("digits", functools.partial(models.mlp, 64, (64,), 10), epochs=30)


@register("digits_noisy")
def digits_noisy(noise: float = 0.2) -> Problem:
    """Digits with the share ``noise`` of the training labels replaced by a wrong class.

    The held-out labels stay clean.
    """
    noise = _checks.number("noise", noise, low=0, high=0.9)
    return _digits("digits_noisy", functools.partial(models.mlp, 64, (64,), 10), 30, noise)


@register("digits_cnn")
def digits_cnn() -> Problem:
    """Digits with a small convolutional network: 16 and 32 filters of 3 x 3, two poolings."""
    return _digits("digits_cnn", models.cnn, epochs=10)
