"""Bowls and least squares: problems whose answers are known."""

import functools

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
    seeds. The held-out loss is the exact excess loss.
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


@register("quadratic_deep")
def quadratic_deep() -> Problem:
    """DeepOBS's ``quadratic_deep``: 100 directions, 90 flat (0..1) and 10 steep (30..60).

    Loss 0.5 (theta - x)' Q (theta - x), x ~ N(0, 0.6^2), 1,000 training and 896 test points,
    start at 1, batches of 128, 100 epochs of 7 steps (Schneider, Balles & Hennig, ICLR 2019).
    Curvatures follow that construction; the random draws are this project's own.
    """
    rng = np.random.RandomState(42)
    eigenvalues = np.concatenate([rng.uniform(0, 1, 90), rng.uniform(30, 60, 10)])
    rotation, triangle = np.linalg.qr(rng.standard_normal((100, 100)))
    rotation *= np.sign(np.diag(triangle))  # Haar measure
    matrix = rotation @ np.diag(eigenvalues) @ rotation.T
    x_train = np.random.RandomState(42).normal(0, 0.6, (1000, 100)).astype("float32")
    x_val = np.random.RandomState(43).normal(0, 0.6, (1000, 100))[:896].astype("float32")
    start = np.ones(100)
    return Problem(
        "quadratic_deep",
        functools.partial(models.point, tuple(start)),
        *(x_train, np.zeros((1000, 1), "float32")),
        *(x_val, np.zeros((896, 1), "float32")),
        loss=_quadratic_loss((matrix + matrix.T) / 2),
        batch_size=128,
        epochs=100,
        chance_loss=float(0.5 * start @ matrix @ start + 0.18 * eigenvalues.sum()),
        metrics=(),
    )


@register("least_squares")
def least_squares(
    size: int = 50, condition: float = 1000.0, noise: float = 0.5, rotated: bool = False
) -> Problem:
    """Streaming least squares with an ill-conditioned input covariance.

    Inputs have variances spread evenly on a log scale from 1 down to 1 / ``condition``, along
    the axes or in a random basis (``rotated``); targets are linear with Gaussian noise of
    standard deviation ``noise``. The held-out loss is the mean squared error against noise-free
    targets. The setting of Ge, Kakade, Kidambi & Netrapalli, NeurIPS 2019.
    """
    size = _checks.count("size", size)
    condition = _checks.number("condition", condition, low=1)
    noise = _checks.number("noise", noise, low=0)
    rng = np.random.default_rng(DATA_SEED)
    scale = np.sqrt(np.geomspace(1, 1 / condition, size))
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0] if rotated else np.eye(size)
    weights = basis @ rng.standard_normal(size)

    def draw(samples, noise):
        x = (rng.standard_normal((samples, size)) * scale) @ basis.T
        y = x @ weights + noise * rng.standard_normal(samples)
        return x.astype("float32"), y.astype("float32")[:, None]

    x_val, y_val = draw(4096, 0.0)
    return Problem(
        "least_squares",
        functools.partial(models.linear, size),
        *draw(16_384, noise),
        *(x_val, y_val),
        loss="mean_squared_error",
        batch_size=8,
        epochs=40,
        chance_loss=float(np.mean(y_val**2)),
        metrics=(),
        sampling="replacement",
        steps=50,
    )
