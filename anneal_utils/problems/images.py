"""Handwritten digits."""

import functools
from dataclasses import replace

from anneal_utils import _checks
from anneal_utils.problems import _pretraining, models
from anneal_utils.problems.catalogue import DATA_SEED, SPLITS, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

_mlp = functools.partial(models.mlp, 64, (64,), 10)


def _images() -> tuple[np.ndarray, np.ndarray]:
    """All 1,797 images as rows of 64 pixels in [0, 1], and what they show."""
    images, labels = load_digits(return_X_y=True)
    return (images / 16).astype("float32"), labels.astype("int32")


def _divided(x, y, share: float) -> tuple:
    """The rest and a ``share`` of the images, both with each class in proportion."""
    x, others_x, y, others_y = train_test_split(
        x, y, test_size=share, stratify=y, random_state=DATA_SEED
    )
    return x, y, others_x, others_y


def _problem(name: str, build, x, y, epochs: int, *, test: float, tune: float, **rest) -> Problem:
    """Images divided into train, tune and a test part (a share of 0: none, and one split)."""
    x_test = y_test = None
    if test:
        x, y, x_test, y_test = _divided(x, y, test)
    return Problem(
        name,
        build,
        *_divided(x, y, tune),
        x_test=x_test,
        y_test=y_test,
        splits=SPLITS if test else 1,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        epochs=epochs,
        chance_loss=float(np.log(len(np.unique(y)))),
        **{"batch_size": 32, **rest},
    )


def _digits(name: str, build, epochs: tuple[int, int], test: bool = True) -> Problem:
    """All digits; ``epochs``: without a test part, and with one, so that steps are nearly equal."""
    test = bool(_checks.choice("test", test, (0, 1)))
    return _problem(name, build, *_images(), epochs[test], test=test / 3, tune=0.2)


@register("digits")
def digits(test: bool = True) -> Problem:
    """Real handwritten digits (scikit-learn's bundled set): 958 train, 240 tune, 599 test images.

    8 x 8 pixels scaled to [0, 1]; an MLP 64-64-10, cross-entropy, batches of 32, 45 epochs of 29
    steps. The test part is fixed; train and tune are divided anew for each seed (in ``SPLITS``
    ways). ``test=0``: the first edition's problem, 1,437 training and 360 held-out images in one
    split, 30 epochs of 44 steps.
    """
    return _digits("digits", _mlp, (30, 45), test)


@register("digits_noisy")
def digits_noisy(noise: float = 0.2, test: bool = True) -> Problem:
    """Digits with the share ``noise`` of the labels of train and tune replaced by a wrong class.

    The test labels are clean. Those of tune are not: it is drawn from the same rows as train, and
    who has wrong labels to learn from has them to tune on. So losses of tune are above those of
    test. ``test=0``: the first edition's problem, as in ``digits``, with clean held-out labels.
    """
    noise = _checks.number("noise", noise, low=0, high=0.9)
    clean = _digits("digits_noisy", _mlp, (30, 45), test)
    if not clean.samples("test"):
        return replace(clean, y_train=_mislabelled(clean.y_train, noise))
    labels = _mislabelled(np.concatenate([clean.y_train, clean.y_val]), noise)
    own = clean.samples("train")
    # Splits by the true classes, so that they are those of ``digits``.
    splits = [clean.rows(seed)[1] for seed in range(SPLITS)]
    return replace(clean, y_train=labels[:own], y_val=labels[own:], splits=splits)


def _mislabelled(labels: np.ndarray, noise: float) -> np.ndarray:
    """The labels, exactly the share ``noise`` of them wrong."""
    rng = np.random.default_rng(DATA_SEED)
    wrong = rng.choice(len(labels), size=round(noise * len(labels)), replace=False)
    labels = labels.copy()
    # A shift of 1..9 classes: every chosen label really is wrong.
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, size=len(wrong))) % 10
    return labels


@register("digits_cnn")
def digits_cnn(test: bool = True) -> Problem:
    """Digits with a small convolutional network: 16 and 32 filters of 3 x 3, two poolings.

    15 epochs of 29 steps; ``test=0``: the first edition's problem, as in ``digits``, 10 of 44.
    """
    return _digits("digits_cnn", models.cnn, (10, 15), test)


@register("digits_residual")
def digits_residual(blocks: int = 2) -> Problem:
    """Digits with a residual network, batch normalisation and random shifts of the images.

    Each training image moves by -1, 0 or 1 pixels down and across, anew at every step. A
    convolution with 8 filters and a pooling to 4 x 4, one with 16, and ``blocks`` residual ones
    (He et al. 2016, arXiv:1512.03385), of two convolutions with batch normalisation each. Data as
    in ``digits``; 10 epochs of 29 steps. Moving averages stand for the batch's moments where the
    network is evaluated.
    """
    blocks = _checks.count("blocks", blocks)
    build = functools.partial(models.residual, 8, 16, blocks)
    return _digits("digits_residual", build, (10, 10))


@register("digits_finetune")
def digits_finetune() -> Problem:
    """Digits 5 to 9 learned by a network that knows 0 to 4: few images, and a start worth keeping.

    An MLP 64-64-32-5 whose hidden layers were trained on the 901 images of the digits 0 to 4 (in
    NumPy, when the problem is loaded; the same for every run); the output layer is new, drawn by
    seed. Nothing is frozen. Of the 896 images of 5 to 9 half are the test part, the rest 336 train
    and 112 tune, divided in ``SPLITS`` ways; batches of 16, 15 epochs of 21 steps.
    """
    x, y = _images()
    known = y < 5
    hidden = _pretraining.hidden_layers(x[known], y[known], (64, 32))
    return _problem(
        "digits_finetune",
        functools.partial(models.continued, tuple(hidden), 5),
        *(x[~known], y[~known] - 5),
        epochs=15,
        test=0.5,
        tune=0.25,
        batch_size=16,
    )
