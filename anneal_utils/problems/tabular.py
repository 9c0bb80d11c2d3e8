"""Rows of numbers: two problems that each favour one kind of optimizer."""

import functools

from anneal_utils import _checks
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np


@register("zipf")
def zipf(
    classes: int = 200, size: int = 40, spread: float = 0.4, test: bool | int = True
) -> Problem:
    """Softmax regression on classes as unequal as words in a text: frequency 1 / rank.

    An input is its class's own point, uniform in the unit cube of ``size`` coordinates, plus
    Gaussian noise of standard deviation ``spread``. A linear model from zero sees one pass over a
    stream: batches of 64 drawn from 32,768 samples, 8 epochs of 64 steps; 4,096 held out, 4,096
    in the test part (``test=0``: without it). Rare classes see few gradients, so a plain gradient
    method learns them late: the heavy-tailed setting in which Kunstner et al. 2024
    (arXiv:2402.19449) find Adam far ahead of SGD.
    """
    classes, size = _checks.count("classes", classes, low=2), _checks.count("size", size)
    spread = _checks.number("spread", spread, low=0)
    rng = np.random.default_rng(DATA_SEED)
    points = rng.uniform(size=(classes, size))
    share = 1 / np.arange(1, classes + 1)
    share /= share.sum()

    def draw(samples, rng):
        y = rng.choice(classes, size=samples, p=share)
        x = points[y] + spread * rng.standard_normal((samples, size))
        return x.astype("float32"), y.astype("int32")

    train, val = draw(32_768, rng), draw(4096, rng)
    part = (None, None)
    if _checks.choice("test", test, (False, True)):
        part = draw(4096, np.random.default_rng([DATA_SEED, 1]))
    return Problem(
        "zipf",
        functools.partial(models.linear, size, classes),
        *train,
        *val,
        x_test=part[0],
        y_test=part[1],
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=64,
        epochs=8,
        chance_loss=float(np.log(classes)),
        sampling="replacement",
        steps=64,
    )


@register("wilson")
def wilson(samples: int = 200, majority: float = 0.6, batch_size: int = 20) -> Problem:
    """The separable problem on which adaptive methods fail on unseen data (Wilson et al. 2017).

    The share ``majority`` of the labels is +1, the others are -1. Coordinate 1 is the label, 2
    and 3 are always 1, and every sample has coordinates of its own: one is 1 if its label is +1,
    five are if it is -1. Least squares from zero, 400 steps by default. Held out: ``samples``
    more of the kind, whose own coordinates no gradient has touched. A plain gradient method
    finds the label's coordinate; a method that equalises coordinates answers +1 for everything.
    The paper proves it for full batches, ``batch_size=samples`` (arXiv:1705.08292, section 3.3).
    The output's sign is the answer. There is no test part: the weights of unseen samples' own
    coordinates stay at zero, so that a model answers the same to all of one label, and any other
    held-out samples would give the same loss.
    """
    samples = _checks.count("samples", samples, low=20)
    majority = _checks.number("majority", majority, low=0.5, high=1)
    rng = np.random.default_rng(DATA_SEED)

    def draw(first):
        y = np.where(rng.permutation(samples) < round(majority * samples), 1.0, -1.0)
        x = np.zeros((samples, 3 + 10 * samples), "float32")
        x[:, 0], x[:, 1:3] = y, 1
        for row in range(samples):
            start = 3 + 5 * (first + row)
            x[row, start : start + (1 if y[row] > 0 else 5)] = 1
        return x, y.astype("float32")[:, None]

    return Problem(
        "wilson",
        functools.partial(models.linear, 3 + 10 * samples),
        *draw(0),
        *draw(samples),
        loss="mean_squared_error",
        batch_size=_checks.count("batch_size", batch_size),
        epochs=2 * batch_size,
        chance_loss=1.0,
        metrics=(),
    )
