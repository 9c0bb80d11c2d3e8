"""Data as ``fit`` takes them, as read-only arrays that nobody else can change."""

import weakref
from collections.abc import Callable, Iterator, Mapping

from anneal_utils import _checks

import keras
import numpy as np


def own(argument: str, value):
    """``value``, an array or a dict, tuple or list of arrays, as arrays of our own.

    What Keras's ``fit`` does to them is done here: floats become ``floatx``, a pandas ``Series``
    a column. ``ValueError`` names the part that is no array, or has another number of samples.
    """
    arrays = mapped(argument, value, _own_array)
    sizes = {path: len(array) for path, array in leaves(argument, arrays)}
    if not sizes:
        _checks.fail(argument, value, "must hold at least one array")
    first = next(iter(sizes))
    for path, size in sizes.items():
        if size != sizes[first]:
            _checks.fail(path, f"{size} rows", f"must have {sizes[first]}, as {first}")
    return arrays


def mapped(path: str, value, function: Callable):
    """``function(path, array)`` of every array of a structure, in the same structure."""
    if isinstance(value, Mapping):
        return {key: mapped(f"{path}[{key!r}]", item, function) for key, item in value.items()}
    if isinstance(value, tuple | list):
        _refuse_rows(path, value)
        # A tuple, as in fit: TensorFlow makes one array of the items of a list.
        return tuple(mapped(f"{path}[{i}]", item, function) for i, item in enumerate(value))
    return function(path, value)


def leaves(path: str, value) -> Iterator[tuple[str, np.ndarray]]:
    """Every array of a structure, with what to call it."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(f"{path}[{key!r}]", item)
    elif isinstance(value, tuple | list):
        for i, item in enumerate(value):
            yield from leaves(f"{path}[{i}]", item)
    else:
        yield path, value


def size(value) -> int:
    """Number of samples of a structure of arrays."""
    return len(next(leaves("", value))[1])


def joined(first, second):
    """The samples of two structures of one form, one after the other, read-only."""
    return mapped("", stacked([first, second]), lambda _, array: _frozen(array))


def stacked(structures: list):
    """The samples of structures of one form, one after the other."""
    others = [[array for _, array in leaves("", one)] for one in structures]
    together = iter([np.concatenate(arrays) for arrays in zip(*others, strict=True)])
    return mapped("", structures[0], lambda *_: next(together))


def form(value) -> str:
    """What a structure of arrays looks like: containers, kinds and shapes of a sample."""
    return repr(mapped("", value, lambda _, array: f"{array.dtype} {array.shape[1:]}"))


def _refuse_rows(path: str, value) -> None:
    """A list of numbers is one array for people, and as many inputs for Keras."""
    holds_arrays = len(value) > 0 and (
        _is_structure(value[0]) or (hasattr(value[0], "__array__") and np.ndim(value[0]) > 0)
    )
    if not holds_arrays:
        kind = f"a {type(value).__name__} of {type(value[0]).__name__}" if value else "empty"
        _checks.fail(path, kind, "must be an array, as np.asarray makes it, or hold arrays")


def _is_structure(value) -> bool:
    return isinstance(value, Mapping | tuple | list) or _streams(value)


def _streams(value) -> bool:
    return hasattr(value, "element_spec") or isinstance(value, keras.utils.PyDataset)


def _own_array(path: str, value) -> np.ndarray:
    if _streams(value):
        rule = "must be an array; Problem.from_dataset reads what fits in memory"
        _checks.fail(path, type(value).__name__, rule)
    if hasattr(value, "toarray") or type(value).__name__ in ("RaggedTensor", "SparseTensor"):
        _checks.fail(path, type(value).__name__, "must be dense; make an array of it first")
    if not hasattr(value, "__array__"):
        _checks.fail(path, type(value).__name__, "must be an array, or a structure of arrays")
    if hasattr(value, "detach"):  # torch
        value = value.detach().cpu()
    column = hasattr(value, "to_frame") and hasattr(value, "name")  # a pandas Series
    array = np.asarray(value)
    if array.ndim == 0:
        _checks.fail(path, array.tolist(), "must have a sample axis")
    if column:
        array = array[:, None]
    if array.dtype.kind == "O" and not all(isinstance(item, str) for item in array.ravel()):
        _checks.fail(
            path,
            "an array of objects",
            "must be numbers or texts; give columns of several kinds as a dict of arrays, or make "
            'numbers of them: .astype("float32")',
        )
    if array.dtype.kind not in "biufOUS" and array.dtype.name != "bfloat16":
        _checks.fail(path, f"an array of {array.dtype}", "must be numbers or texts")
    floats = array.dtype.kind == "f" or array.dtype.name == "bfloat16"
    if floats and array.dtype.name != keras.config.floatx():
        array = array.astype(keras.config.floatx())
    if array.dtype.kind == "U":
        array = array.astype(object)  # as Keras takes texts
    # Only a file that is open for reading alone is nobody's to change, and may be too large.
    if isinstance(value, np.memmap) and value.mode == "r" and np.shares_memory(value, array):
        return array
    known = _made.get(id(array)) is array and not array.flags.writeable
    return array if known else _frozen(np.array(array))


# Arrays of this room's own making: those of a problem that is made from another are not copied.
_made: weakref.WeakValueDictionary = weakref.WeakValueDictionary()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    _made[id(array)] = array
    return array
