"""Bowls and least squares: problems whose answers are known."""

import functools
from dataclasses import replace

from anneal_utils import _checks
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np


def _quadratic_loss(matrix: np.ndarray):
    """``0.5 r' Q r`` for every residual ``r``; ``matrix`` is Q or, for a diagonal Q, a vector."""
    matrix = np.asarray(matrix, "float32")

    def half_quadratic_form(_, residual):
        curved = residual * matrix if matrix.ndim == 1 else keras.ops.matmul(residual, matrix)
        return 0.5 * keras.ops.sum(residual * curved, axis=-1)

    return half_quadratic_form


def _vector(argument: str, value, size: int | None = None) -> np.ndarray:
    values = [value] if np.ndim(value) == 0 else list(value)
    vector = np.array([_checks.number(argument, float(v), low=0) for v in values])
    if size and len(vector) == 1:
        vector = np.repeat(vector, size)
    if size and len(vector) != size:
        _checks.fail(argument, value, f"must be one number or {size} of them")
    return vector


@register("quadratic")
def quadratic(
    curvature=1.0, noise=1.0, start=1.0, batch_size: int = 1, epochs: int = 30, steps: int = 10
) -> Problem:
    """A noisy quadratic bowl whose every answer is known: loss = 0.5 sum_i h_i theta_i^2.

    ``curvature`` h_i > 0: a number or one per direction (a tuple). ``noise``: standard deviation
    of one sample's gradient, per direction (a batch divides its variance by ``batch_size``).
    ``start``: theta_0. Samples are drawn with replacement from a standardised normal sample, so
    the moments ``s <- (1 - lr h)^2 s + lr^2 noise^2 / batch_size`` hold exactly, on average over
    seeds. The held-out loss is the exact excess loss, so that there is no test part.
    """
    curvature = _vector("curvature", curvature)
    if not (curvature > 0).all():
        _checks.fail("curvature", curvature.tolist(), "every entry must be > 0")
    noise = _vector("noise", noise, len(curvature))
    start = np.broadcast_to(np.asarray(start, float), curvature.shape)
    rng = np.random.default_rng(DATA_SEED)
    sample = rng.standard_normal((4096, len(curvature)))
    sample = (sample - sample.mean(axis=0)) / sample.std(axis=0)
    x = (sample * noise / curvature).astype("float32")
    origin = np.zeros((1, len(curvature)), "float32")
    return Problem(
        "quadratic",
        functools.partial(models.point, tuple(start)),
        *(x, np.zeros((len(x), 1), "float32")),
        *(origin, np.zeros((1, 1), "float32")),
        loss=_quadratic_loss(curvature),
        batch_size=batch_size,
        epochs=epochs,
        chance_loss=float(0.5 * (curvature * start**2).sum()),
        metrics=(),
        sampling="replacement",
        steps=_checks.count("steps", steps),
    )


@register("noisy_quadratic")
def noisy_quadratic(
    directions: int = 20, batch_size: int = 1, epochs: int = 30, steps: int = 10
) -> Problem:
    """The noisy quadratic model of Zhang et al. 2019: steep directions few, flat ones many.

    The bowl ``quadratic`` with curvatures h_i = 1 / i and gradient noise of variance h_i in each
    of ``directions``; 300 steps by default (arXiv:1907.04164). Theta starts at 1, so that expected
    losses are those of a standard normal start: ``theory.noisy_quadratic(rates, h,
    sqrt(h / batch_size))`` for SGD. The held-out loss is the exact excess loss, and there is no
    test part.
    """
    curvature = 1 / np.arange(1, _checks.count("directions", directions) + 1)
    bowl = quadratic(curvature, np.sqrt(curvature), 1.0, batch_size, epochs, steps)
    return replace(bowl, name="noisy_quadratic")


def _subgroup_rotation(size: int, rng: np.random.RandomState) -> np.ndarray:
    """A rotation, uniform over SO(size): the subgroup algorithm (Diaconis & Shahshahani 1987).

    A turn of the plane first; then, for each new dimension, it is put below a fixed first axis,
    which is reflected onto a direction drawn uniformly. Draws and operations are in DeepOBS's
    order, so that the same ``rng`` gives DeepOBS's rotation, to the last bit.
    """
    angle = 2 * np.pi * rng.uniform()
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.array([[cos, sin], [-sin, cos]])
    for below in range(2, size):
        direction = rng.normal(size=(below + 1, 1))
        direction /= np.sqrt(direction.T @ direction)
        mirror = np.eye(below + 1, 1) - direction
        mirror /= np.sqrt(mirror.T @ mirror)
        wider = np.eye(below + 1)
        wider[1:, 1:] = rotation
        rotation = wider - 2 * np.outer(mirror, mirror.T @ wider)
    return -rotation  # for a determinant of 1


def _haar_rotation(size: int, rng: np.random.RandomState) -> np.ndarray:
    """An orthogonal matrix, uniform too, from a QR decomposition."""
    rotation, triangle = np.linalg.qr(rng.standard_normal((size, size)))
    return (rotation * np.sign(np.diag(triangle))).T


_ROTATIONS = {"subgroup": _subgroup_rotation, "haar": _haar_rotation}


@register("quadratic_deep")
def quadratic_deep(rotation: str = "subgroup", sampling: str = "shuffle") -> Problem:
    """DeepOBS's ``quadratic_deep``: 100 directions, 90 flat (0..1) and 10 steep (30..60).

    Loss 0.5 (theta - x)' Q (theta - x), x ~ N(0, 0.6^2), start at 1, batches of 128, 100 epochs
    of 7 steps: of 1,000 training points an epoch leaves out 104, after shuffling (Schneider,
    Balles & Hennig, ICLR 2019, arXiv:1903.05499). Matrix, training points and the 896 test
    points (of the 1,000 drawn, those of the complete batches) are DeepOBS's; the test part's
    loss is what it reports. Tune on the 896 held-out points, which are this project's.

    DeepOBS shuffles every epoch alike: its pipeline starts each from the same seed, so that a
    seed's 104 points are left out for good. ``sampling="repeat"`` does that and gives DeepOBS's
    published losses. Shuffled anew, the default, strong momentum ends higher.

    ``rotation="haar"``: the problem of this project's version 0.1.0, which had the same
    curvatures in another basis, DeepOBS's test points held out, and no test part.
    """
    _checks.choice("rotation", rotation, _ROTATIONS)
    _checks.choice("sampling", sampling, ("shuffle", "repeat"))
    rng = np.random.RandomState(42)
    eigenvalues = np.concatenate([rng.uniform(0, 1, 90), rng.uniform(30, 60, 10)])
    basis = _ROTATIONS[rotation](100, rng)
    matrix = basis.T @ np.diag(eigenvalues) @ basis

    def draw(seed, samples):
        x = np.random.RandomState(seed).normal(0, 0.6, (1000, 100))[:samples]
        return x.astype("float32"), np.zeros((samples, 1), "float32")

    train, test = draw(42, 1000), draw(43, 896)
    val, x_test, y_test = (test, None, None) if rotation == "haar" else (draw(44, 896), *test)
    start = np.ones(100)
    return Problem(
        "quadratic_deep",
        functools.partial(models.point, tuple(start)),
        *train,
        *val,
        x_test=x_test,
        y_test=y_test,
        loss=_quadratic_loss((matrix + matrix.T) / 2),
        batch_size=128,
        epochs=100,
        chance_loss=float(0.5 * start @ matrix @ start + 0.18 * eigenvalues.sum()),
        metrics=(),
        sampling=sampling,
    )


@register("least_squares")
def least_squares(
    size: int = 50,
    condition: float = 1000.0,
    noise: float = 0.5,
    rotated: bool = False,
    fresh: bool | int = True,
) -> Problem:
    """Streaming least squares with an ill-conditioned input covariance.

    Inputs have variances spread evenly on a log scale from 1 down to 1 / ``condition``, along
    the axes or in a random basis (``rotated``); targets are linear with Gaussian noise of
    standard deviation ``noise``. The held-out loss is the mean squared error against noise-free
    targets on 4,096 samples, the test part's is its exact expectation over all inputs. The
    setting of Ge, Kakade, Kidambi & Netrapalli, NeurIPS 2019.

    ``fresh``: a run sees no sample twice; batches of 8, 40 epochs of 50 steps, take 16,000 of
    131,072 stored samples, in an order of the seed's own. So two seeds share 12 % of their
    samples, and the expected loss of SGD is ``theory.least_squares``. ``fresh=0``: the problem of
    this project's version 0.1.0, batches drawn with replacement from 16,384 samples, where what
    is fitted in the end is that sample; it has no test part.
    """
    size = _checks.count("size", size)
    condition = _checks.number("condition", condition, low=1)
    noise = _checks.number("noise", noise, low=0)
    _checks.choice("fresh", fresh, (False, True))
    rng = np.random.default_rng(DATA_SEED)
    scale = np.sqrt(np.geomspace(1, 1 / condition, size))
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0] if rotated else np.eye(size)
    weights = basis @ rng.standard_normal(size)

    def draw(samples, noise):
        x = (rng.standard_normal((samples, size)) * scale) @ basis.T
        y = x @ weights + noise * rng.standard_normal(samples)
        return x.astype("float32"), y.astype("float32")[:, None]

    x_val, y_val = draw(4096, 0.0)
    x_train, y_train = draw(131_072 if fresh else 16_384, noise)
    # One row an axis, of the axis's share: their mean square is the expectation over all inputs.
    axes = np.sqrt(size) * scale[:, None] * basis.T if fresh else None
    return Problem(
        "least_squares",
        functools.partial(models.linear, size),
        *(x_train, y_train),
        *(x_val, y_val),
        x_test=axes,
        y_test=(axes @ weights)[:, None] if fresh else None,
        loss="mean_squared_error",
        batch_size=8,
        epochs=40,
        chance_loss=float(np.mean(y_val**2)),
        metrics=(),
        sampling="once" if fresh else "replacement",
        steps=50,
    )
