"""Several divisions of the same rows into train and val, and data that come as a stream."""

import itertools
import numbers

from anneal_utils import _checks
from anneal_utils.problems import _arrays

import keras
import numpy as np
from sklearn.model_selection import train_test_split

SEED = 20_240  # fixes every split; never a run's seed


def rows(problem) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """The rows of train and val in each split, int32; none where there is only the given one."""
    given, train, val = problem.splits, problem.samples("train"), problem.samples("val")
    if given is None or isinstance(given, numbers.Real):
        count = _checks.count("splits", given)
        if count == 1:
            return ()
        first = np.arange(train, train + val)
        chosen = [first, *(_drawn(problem, split) for split in range(1, count))]
    else:
        chosen = [_checked(f"splits[{i}]", one, val, train + val) for i, one in enumerate(given)]
        if not chosen:
            _checks.fail("splits", given, "must hold at least one split")
    return tuple(_both(one, train + val) for one in chosen)


def _both(chosen: np.ndarray, total: int) -> tuple[np.ndarray, np.ndarray]:
    others = np.setdiff1d(np.arange(total), chosen)
    pair = (others.astype("int32"), chosen.astype("int32"))
    for array in pair:
        array.flags.writeable = False
    return pair


def _drawn(problem, split: int) -> np.ndarray:
    """The rows of val in a split drawn by its number."""
    train, val = problem.samples("train"), problem.samples("val")
    labels = None
    if isinstance(problem.y_train, np.ndarray):
        y = np.concatenate([problem.y_train, problem.y_val])
        whole = y.dtype.kind in "biu" and y.size == len(y)
        # Each class needs a row on both sides.
        if whole and np.unique(y, return_counts=True)[1].min() > 1:
            labels = y.ravel() if len(np.unique(y)) <= min(train, val) else None
    chosen = train_test_split(
        np.arange(train + val), test_size=val, stratify=labels, random_state=SEED + split
    )[1]
    return np.sort(chosen)


def _checked(argument: str, chosen, size: int, total: int) -> np.ndarray:
    try:
        chosen = np.asarray(chosen)
    except ValueError:  # of arrays of several lengths
        _checks.fail(argument, type(chosen).__name__, "must be the rows of val, and not train too")
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
        _checks.fail(argument, f"{chosen.dtype} {chosen.shape}", "must be a vector of row numbers")
    if len(chosen) != size:
        _checks.fail(argument, f"{len(chosen)} rows", f"must have {size}, as x_val")
    if len(np.unique(chosen)) < len(chosen) or chosen.min() < 0 or chosen.max() >= total:
        _checks.fail(argument, f"{len(chosen)} rows", f"must be different ones, 0 to {total - 1}")
    return chosen


def pooled(problem, parts: dict[str, tuple]) -> dict[str, tuple]:
    """The parts of a problem with the rows of both, train first, as train and as val."""
    (x, y, *train), (x_val, y_val, *val) = parts["train"], parts["val"]
    pair = (_arrays.joined(x, x_val), None if y is None else _arrays.joined(y, y_val))
    if problem.class_weight is None:
        # A sample keeps its weight, whichever part it is in.
        weights = _weights(problem, train, val) if train or val else []
        return parts | {"train": (*pair, *weights), "val": (*pair, *weights)}
    weights = _weights(problem, [], val) if val else []
    classes = problem.class_weights(pair[1])
    return parts | {"train": (*pair, classes), "val": (*pair, *weights)}


def _weights(problem, train: list, val: list) -> list[np.ndarray]:
    """The given weights one after the other, with 1 where there are none."""
    kind = keras.config.floatx()

    def ones(like, size: int):
        return _arrays.mapped("", like, lambda _, a: np.ones((size, *a.shape[1:]), kind))

    first = train[0] if train else ones(val[0], problem.samples("train"))
    second = val[0] if val else ones(train[0], problem.samples("val"))
    return [_arrays.joined(first, second)]


def read_dataset(part: str, dataset) -> tuple[dict, int]:
    """The arrays of a batched dataset as arguments of ``Problem``, and its first batch's size."""
    if not hasattr(dataset, "element_spec"):
        _checks.fail(part, type(dataset).__name__, "must be a tf.data.Dataset")
    if int(dataset.cardinality()) == -1:
        _checks.fail(part, "an infinite dataset", "must end; leave out repeat()")
    names = (f"x_{part}", f"y_{part}", f"sample_weight_{part}")
    batches: list[tuple] = []
    for batch in dataset:
        batch = batch if isinstance(batch, tuple) else (batch,)
        if not 1 <= len(batch) <= 3:
            rule = "must give (x, y) or (x, y, sample weight)"
            _checks.fail(part, f"elements of {len(batch)} parts", rule)
        batches.append(
            tuple(_arrays.mapped(n, b, _batch) for n, b in zip(names, batch, strict=False))
        )
    if not batches:
        _checks.fail(part, "an empty dataset", "must hold at least one batch")
    given = {
        name: _arrays.stacked([batch[i] for batch in batches])
        for i, name in enumerate(itertools.islice(names, len(batches[0])))
    }
    return given, _arrays.size(batches[0][0])


def _batch(path: str, tensor) -> np.ndarray:
    array = np.asarray(tensor)
    if array.ndim == 0:
        _checks.fail(path, "elements without a sample axis", "must be batched: dataset.batch(32)")
    if array.dtype.kind != "O":
        return array
    texts = [item.decode() if isinstance(item, bytes) else item for item in array.ravel()]
    return np.array(texts, object).reshape(array.shape)
