"""Where runs start: initial weights by seed, drawn as Keras draws them, and batch orders."""

from anneal_utils import _internals, identity
from anneal_utils._cache import Recent
from anneal_utils._seeds import seeded
from anneal_utils.problems import Problem
from anneal_utils.training import _keras, runs
from anneal_utils.training.unchanging import unchanging

import keras
import numpy as np
import tensorflow as tf

_weights, _orders, _starts = Recent(256 << 20), Recent(64 << 20), Recent(64 << 20)


class Starts:
    """The initial values of all variables that ``problem.build`` makes, for any seed.

    Building a Keras model takes four to six times as long as drawing its weights. Not every
    model starts from what its initializers draw (dropout has seeds, ``build`` may set weights),
    nor makes its layers in the order in which it lists them: so weights are drawn only if that
    gives the variables of two more models bit for bit.
    """

    def __init__(self, problem: Problem, key: str):
        """``key``: names what ``problem.build`` gives, see :func:`starts`."""
        self.key, self.problem = key, problem
        model, variables = _keras.build(problem, 0)
        self.initializers = _initializers(model)
        self.first = [variable.numpy() for variable in variables]
        self.makers = self._find_makers()

    def values(self, seed: int) -> list[np.ndarray]:
        """Initial values for ``seed``, in the order of ``_keras.build``; remembered for a while."""
        key = (self.key, seed)
        found = _weights.get(key)
        if found is None:
            found = self._built(seed) if self.makers is None else self._drawn(self.makers, seed)
            _weights.put(key, found, _size(found))
        return found

    def _built(self, seed: int) -> list[np.ndarray]:
        return [variable.numpy() for variable in _keras.build(self.problem, seed)[1]]

    def _drawn(self, makers: list[int], seed: int) -> list[np.ndarray]:
        """New values; initializer ``makers[i]`` makes variable i."""
        with seeded(seed):
            fresh = [initializer.clone() for initializer in self.initializers]
        return [
            np.asarray(fresh[maker](value.shape, value.dtype.name))
            for maker, value in zip(makers, self.first, strict=True)
        ]

    def _find_makers(self) -> list[int] | None:
        """Which initializer makes which variable, or None where drawing is not building."""
        initializers = list(enumerate(self.initializers))
        makers = [
            next((number for number, make in initializers if _makes(make, value)), None)
            for value in self.first
        ]
        if None in makers:
            return None
        for seed in (1, 2):
            if not _alike(self._built(seed), self._drawn(makers, seed)):
                return None
        return makers


def starts(problem: Problem, built: list[tf.Variable]) -> Starts:
    """The starts of a problem of which ``built``, for seed 0, was just made.

    Those of an earlier problem serve again if it starts from the same values, for seeds 0 and 1.
    """
    known = unchanging(problem.build)
    key = known and _starts.get(known)
    if key is None:
        other = _keras.build(problem, 1)[1]
        key = identity.digest(*([v.numpy() for v in variables] for variables in (built, other)))
        if known:
            _starts.put(known, key, _size([]))
    found = _starts.get(key)
    if found is None:
        found = Starts(problem, key)
        _starts.put(key, found, _size([*found.first, *problem.arrays()]))
    found.problem = problem  # whose build is what it is now; another's may have changed since
    return found


def order(problem: Problem, seed: int, epochs: int) -> np.ndarray:
    """``runs.batches``, remembered for a while."""
    rows = problem.rows(seed)
    sizes = (problem.samples("train"), problem.batch_size, problem.steps_per_epoch)
    key = (*sizes, problem.sampling, rows and identity.digest(rows), seed, epochs)
    found = _orders.get(key)
    if found is None:
        found = runs.batches(problem, seed, epochs)
        _orders.put(key, found, _size([found]))
    return found


def _size(arrays: list[np.ndarray]) -> int:
    """Bytes of the arrays, and about as many as Python needs to keep them."""
    return 500 + sum(array.nbytes + 150 for array in arrays)


def _initializers(model: keras.Model) -> list[keras.initializers.Initializer]:
    """The initializers of the model's layers, layer by layer."""
    return [
        value
        for layer in _internals.layers_of(model, include_self=False)
        for value in vars(layer).values()
        if isinstance(value, keras.initializers.Initializer)
    ]


def _makes(initializer, value: np.ndarray) -> bool:
    """Whether the value is the initializer's."""
    try:
        made = initializer(value.shape, value.dtype.name)
    except (ValueError, TypeError, tf.errors.OpError):  # an orthogonal one takes no vector
        return False
    return np.array_equal(made, value)


def _alike(first, second) -> bool:
    return all(map(np.array_equal, first, second))
