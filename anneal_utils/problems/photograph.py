"""A photograph as a function of the place, which a network learns pixel by pixel."""

import functools

from anneal_utils import _checks
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, SPLITS, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np
from sklearn.datasets import load_sample_image

HEIGHT, WIDTH = 64, 96
TUNE, TEST = 1024, 2048  # pixels; the other 3,072 are trained on


@functools.cache
def pixels() -> np.ndarray:
    """The photograph in small: float32 [64, 96, 3] of red, green and blue in [0, 1], read-only.

    scikit-learn's ``china.jpg``, 427 x 640, each pixel the mean of those it stands for.
    """
    image = load_sample_image("china.jpg") / 255
    for axis, size in enumerate((HEIGHT, WIDTH)):
        edges = np.linspace(0, image.shape[axis], size + 1).round().astype(int)
        sums = np.add.reduceat(image, edges[:-1], axis=axis)
        counts = np.diff(edges).reshape([-1 if i == axis else 1 for i in range(3)])
        image = sums / counts
    image = image.astype("float32")
    image.flags.writeable = False
    return image


def places() -> np.ndarray:
    """The middle of every pixel as (down, right) in [0, 1]: float32 [64 * 96, 2], row by row."""
    down, right = (np.arange(HEIGHT) + 0.5) / HEIGHT, (np.arange(WIDTH) + 0.5) / WIDTH
    grid = np.stack(np.meshgrid(down, right, indexing="ij"), axis=-1)
    return grid.reshape(-1, 2).astype("float32")


def picture(model: keras.Model) -> np.ndarray:
    """What the model has learned to see: float32 [64, 96, 3] in [0, 1], as ``imshow`` takes it."""
    colours = keras.ops.convert_to_numpy(model(places()))
    return np.clip(colours, 0, 1).reshape(HEIGHT, WIDTH, 3)


@register("photograph")
def photograph(features: int = 32, scale: float = 3.0, width: int = 32) -> Problem:
    """A photograph from half of its pixels; the others are asked for.

    Input is a place in [0, 1]^2, output its red, green and blue, loss the mean squared error.
    Cosines and sines along ``features`` random directions, their frequencies Gaussian of ``scale``
    turns a picture (Tancik et al. 2020, arXiv:2006.10739), then an MLP with two hidden layers of
    ``width``. scikit-learn's ``china.jpg`` in 64 x 96 pixels: 3,072 for training, 1,024 for
    tuning, 2,048 for test, at random. Batches of 32, 10 epochs of 96 steps.
    ``photograph.picture(model)`` shows what was learned.
    """
    features, width = _checks.count("features", features), _checks.count("width", width)
    scale = _checks.positive("scale", scale)
    order = np.random.default_rng(DATA_SEED).permutation(HEIGHT * WIDTH)
    test, tune, train = np.split(order, [TEST, TEST + TUNE])
    x, y = places(), pixels().reshape(-1, 3)
    return Problem(
        "photograph",
        functools.partial(models.coordinates, features, scale, (width, width), DATA_SEED),
        *(x[train], y[train], x[tune], y[tune]),
        x_test=x[test],
        y_test=y[test],
        splits=SPLITS,
        loss="mean_squared_error",
        batch_size=32,
        epochs=10,
        metrics=(),
    )
