"""The article's demo, and its data under a network that is hard to start."""

import functools

from anneal_utils import _checks
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, register
from anneal_utils.problems.problem import Problem

import numpy as np


def _largest_of_three(samples: int, rng) -> tuple[np.ndarray, np.ndarray]:
    x = rng.uniform(size=(samples, 3)).astype("float32")
    return x, np.eye(3, dtype="float32")[x.argmax(axis=1)]


def _test_part(wanted: bool | int) -> dict:
    """4,000 more points, from a stream of their own, if wanted."""
    if not _checks.choice("test", wanted, (False, True)):
        return {}
    x, y = _largest_of_three(4000, np.random.default_rng([DATA_SEED, 1]))
    return {"x_test": x, "y_test": y}


@register("article")
def article(test: bool | int = True) -> Problem:
    """Which of three uniform numbers is the largest: the source article's demo, exactly.

    1,000 training and 100 held-out points in [0, 1]^3, one-hot classes; an MLP 3-9-9-9-3 with
    ReLU and softmax, categorical cross-entropy, batches of 50, 10 epochs (200 steps). The article
    reports on the 100 points; tune on them here, and report on the test part, 4,000 more
    (``test=0``: without it).
    """
    rng = np.random.default_rng(DATA_SEED)
    return Problem(
        "article",
        functools.partial(models.mlp, 3, (9, 9, 9), 3, activation="softmax"),
        *_largest_of_three(1000, rng),
        *_largest_of_three(100, rng),
        **_test_part(test),
        loss="categorical_crossentropy",
        batch_size=50,
        epochs=10,
        chance_loss=float(np.log(3)),
    )


@register("deep_mlp")
def deep_mlp(depth: int = 12, width: int = 16, test: bool | int = True) -> Problem:
    """The article's data under a deep MLP without normalisation: hard to start at a high rate.

    1,000 training points (the article's), 1,000 held out, 4,000 in the test part (``test=0``:
    without it).
    """
    depth, width = _checks.count("depth", depth), _checks.count("width", width)
    rng = np.random.default_rng(DATA_SEED)
    return Problem(
        "deep_mlp",
        functools.partial(models.mlp, 3, (width,) * depth, 3, activation="softmax"),
        *_largest_of_three(1000, rng),
        *_largest_of_three(1000, rng),
        **_test_part(test),
        loss="categorical_crossentropy",
        batch_size=50,
        epochs=20,
        chance_loss=float(np.log(3)),
    )
