"""A problem's data as tensors, made once for all programs that capture them."""

import weakref

from anneal_utils import identity
from anneal_utils.problems import Problem

import numpy as np
import tensorflow as tf


def rows_of(data: tuple, rows) -> tuple:
    """Those rows of every array of ``(x, y, …)``."""
    return tf.nest.map_structure(lambda a: None if a is None else tf.gather(a, rows), data)


def nbytes_of(tensor) -> int:
    """Bytes of a tensor's numbers."""
    return int(np.prod(tensor.shape)) * tensor.dtype.size


def tensors_of(data: dict) -> list[tf.Tensor]:
    """The tensors of all parts, each once."""
    parts = [tensor for part in data.values() for tensor in tf.nest.flatten(part)]
    return list({id(tensor): tensor for tensor in parts if tensor is not None}.values())


_tensors: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def data_of(problem: Problem) -> tuple[dict[str, tuple], str]:
    """The problem's parts as tensors, and their digest; the same ones for every program of it."""
    if problem not in _tensors:
        made: dict = {}  # the rows of several splits are one tensor

        def tensor(array):
            if array is not None and id(array) not in made:
                made[id(array)] = tf.constant(array)
            return made.get(id(array))

        parts = problem.data()
        tensors = {name: tf.nest.map_structure(tensor, part) for name, part in parts.items()}
        plain = set(parts) == {"train", "val"} and all(len(part) == 2 for part in parts.values())
        told = [*parts["train"], *parts["val"]] if plain else [parts]
        _tensors[problem] = tensors, identity.digest(*told)
    return _tensors[problem]
