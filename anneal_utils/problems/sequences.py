"""Curves whose shape tells the class."""

import functools

from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, SPLITS, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np
from scipy.ndimage import gaussian_filter1d
from sklearn.model_selection import train_test_split

# MNIST-1D's ten digits as curves of 12 points (Greydanus & Kobak, ICML 2024).
_DIGITS = (
    (5, 6, 6.5, 6.75, 7, 7, 7, 7, 6.75, 6.5, 6, 5),
    (5, 3, 3, 3.4, 3.8, 4.2, 4.6, 5, 5.4, 5.8, 5, 5),
    (5, 6, 6.5, 6.5, 6, 5.25, 4.75, 4, 3.5, 3.5, 4, 5),
    (5, 6, 6.5, 6.5, 6, 5, 5, 6, 6.5, 6.5, 6, 5),
    (5, 4.4, 3.8, 3.2, 2.6, 2.6, 5, 5, 5, 5, 5, 5),
    (5, 3, 3, 3, 3, 5, 6, 6.5, 6.5, 6, 4.5, 5),
    (5, 4, 3.5, 3.25, 3, 3, 3, 3, 3.25, 3.5, 4, 5),
    (5, 7, 7, 6.6, 6.2, 5.8, 5.4, 5, 4.6, 4.2, 5, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 4, 3.5, 3.5, 4, 5),
    (5, 4, 3.5, 3.5, 4, 5, 5, 5, 5, 4.7, 4.3, 5),
)
_PADDING, _LENGTH, _POINTS = (36, 60), 72, 40  # zeros behind a digit; before and after sampling
_SHIFT, _SCALE, _SHEAR, _WAVES, _GRAIN = 48, 0.4, 0.75, 0.25, 0.02


def templates() -> np.ndarray:
    """The ten digits as float64 [10, 12], of standard deviation 1/6, each beginning at 0."""
    curves = np.array(_DIGITS)
    curves = (curves - curves.mean(axis=1, keepdims=True)) / curves.std(axis=1, keepdims=True)
    return (curves - curves[:, :1]) / 6


def curve(template: np.ndarray, rng) -> np.ndarray:
    """A digit padded, stretched, scaled, moved, drowned in noise, sheared and sampled: 40 points.

    ``rng`` is asked in the published generator's order, by methods that a ``RandomState`` has too.
    """
    low, high = _PADDING
    padding = low + int(rng.uniform() * (high - low + 1))
    # The digit's own zeros stay apart from those around it.
    x = _sampled(np.concatenate([template + 1e-8, np.zeros(padding)]), _LENGTH)
    x = x * (1 + _SCALE * (rng.uniform() - 0.5))
    x = np.roll(x, rng.choice(_SHIFT))
    waves = gaussian_filter1d(_WAVES * rng.standard_normal(_LENGTH), 2)
    x = np.where(x == 0, waves, x) + _GRAIN * rng.standard_normal(_LENGTH)
    x = x - _SHEAR * (rng.uniform() - 0.5) * np.linspace(-0.5, 0.5, _LENGTH)
    return _sampled(x, _POINTS)


def _sampled(values: np.ndarray, points: int) -> np.ndarray:
    """The curve through ``values`` at equal distances, by straight lines."""
    return np.interp(np.linspace(0, 1, points), np.linspace(0, 1, len(values)), values)


@register("mnist1d")
def mnist1d() -> Problem:
    """MNIST-1D: which digit a noisy curve of 40 points hides, by a convolutional network.

    Curves are drawn as Greydanus & Kobak (ICML 2024, arXiv:2011.14439) draw them, with their ten
    templates and their parameters: 600 a class, of which 3,200 train, 800 tune (divided in four
    ways) and 2,000 test; centred and scaled by mean and standard deviation of train and tune.
    Three convolutions of 16 filters with stride 2, cross-entropy, batches of 64, 16 epochs of 50
    steps.
    """
    rng = np.random.default_rng(DATA_SEED)
    y = np.repeat(np.arange(10, dtype="int32"), 600)
    shapes = templates()
    x = np.array([curve(shapes[label], rng) for label in y])

    def divided(x, y, size):
        return train_test_split(x, y, test_size=size, stratify=y, random_state=DATA_SEED)

    x, x_test, y, y_test = divided(x, y, 2000)
    mean, spread = x.mean(), x.std()
    x, x_test = (((part - mean) / spread).astype("float32") for part in (x, x_test))
    x_train, x_val, y_train, y_val = divided(x, y, 800)
    return Problem(
        "mnist1d",
        functools.partial(models.cnn_1d, _POINTS, 16, 10),
        *(x_train, y_train, x_val, y_val),
        x_test=x_test,
        y_test=y_test,
        splits=SPLITS,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=64,
        epochs=16,
        chance_loss=float(np.log(10)),
    )
