"""What a model scores that has learned nothing: the penalty of a run that fails."""

from anneal_utils._seeds import seeded
from anneal_utils.problems import _arrays

import keras
import numpy as np

UNTRAINED = 5  # models whose median stands for all that have learned nothing


def chance_loss(problem) -> float:
    """The held-out loss of the best constant output, or the median one of untrained models.

    The constant, where one array of targets is to be met by a mean squared or absolute error or
    by a cross-entropy: the best one for the held-out targets, so that no model that answers the
    same to everything is below it. Else: five models as ``build`` makes them, seeds 0 to 4.
    """
    name = _name(problem.loss)
    plain = problem.loss_weights is None and not getattr(problem.loss, "label_smoothing", 0)
    plain = plain and getattr(problem.loss, "ignore_class", None) is None
    output = _best_constant(problem, name) if name and plain else None
    if output is None:
        return untrained(problem)["loss"]
    y, weight = problem.y_val, problem.sample_weight_val
    if name == "sparse_categorical_crossentropy" and y.shape[-1:] != (1,):
        output = np.broadcast_to(output, (*y.shape[1:], *output.shape))  # at every place
    elif name != "sparse_categorical_crossentropy" and y.ndim == 1:
        # A number a sample, not one sample of many numbers: each has its weight.
        y, output = y[:, None], np.reshape(output, (1,))
    loss = problem.loss if isinstance(problem.loss, keras.losses.Loss) else _KNOWN[name]()
    prediction = np.broadcast_to(output, (len(y), *output.shape))
    return float(loss(y, prediction, sample_weight=weight))


def untrained(problem) -> dict[str, float]:
    """Medians of the held-out loss and metrics of untrained models."""
    found: list[dict] = []
    for seed in range(UNTRAINED):
        with seeded(seed):
            model = problem.build()
        model.compile(
            loss=problem.loss,
            loss_weights=problem.loss_weights,
            metrics=problem.metrics or None,
            weighted_metrics=problem.weighted_metrics or None,
        )
        size = problem.evaluation_batch_size or _arrays.size(problem.x_val)
        x, y, *weight = problem.part("val")
        found.append(
            model.evaluate(
                *(x, y, size), sample_weight=weight[0] if weight else None, verbose=0, return_dict=1
            )
        )
    return {name: float(np.median([one[name] for one in found])) for name in found[0]}


def _best_constant(problem, name: str) -> np.ndarray | None:
    """The constant output with the lowest held-out loss, where it is known by a formula."""
    y = problem.y_val
    if not isinstance(y, np.ndarray) or y.dtype.kind not in "biuf":
        return None
    weight = problem.sample_weight_val
    if weight is not None and np.shape(weight) != (len(y),):
        return None
    if name == "mean_absolute_error":
        return _median(y, weight)
    if name == "mean_squared_error":
        return np.average(y, axis=0, weights=weight)
    if name == "sparse_categorical_crossentropy":
        labels = y.reshape(len(y), -1).astype(int)
        if labels.min(initial=0) < 0:
            return None
        each = None if weight is None else np.repeat(weight, labels.shape[1])
        counts = np.bincount(labels.ravel(), weights=each)
        shares = counts / counts.sum()
    else:
        shares = np.average(y, axis=0, weights=weight)
    shares = np.clip(shares, 1e-7, 1 - 1e-7 if name == "binary_crossentropy" else 1)
    if not getattr(problem.loss, "from_logits", False):
        return shares
    return np.log(shares / (1 - shares)) if name == "binary_crossentropy" else np.log(shares)


def _median(values: np.ndarray, weights) -> np.ndarray:
    """The (weighted) median over the samples."""
    weights = np.ones(len(values)) if weights is None else np.asarray(weights)
    order = np.argsort(values, axis=0)
    below = np.cumsum(weights[order], axis=0)
    middle = (below >= below[-1:] / 2).argmax(axis=0)[None]
    ranked = np.take_along_axis(values, order, axis=0)
    return np.take_along_axis(ranked, middle, axis=0)[0]


_KNOWN = {
    "mean_squared_error": keras.losses.MeanSquaredError,
    "mean_absolute_error": keras.losses.MeanAbsoluteError,
    "binary_crossentropy": keras.losses.BinaryCrossentropy,
    "categorical_crossentropy": keras.losses.CategoricalCrossentropy,
    "sparse_categorical_crossentropy": keras.losses.SparseCategoricalCrossentropy,
}


def _name(loss) -> str | None:
    """Which of the known losses it is."""
    if isinstance(loss, str):
        try:
            loss = keras.losses.get(loss)
        except ValueError:
            return None
    for name, kind in _KNOWN.items():
        if type(loss) is kind or loss is getattr(keras.losses, name):
            return name
    return None
