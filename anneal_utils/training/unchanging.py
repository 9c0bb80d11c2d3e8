"""What surely means the same as before: a short way past tracing a program anew."""

import functools
import sys
import types

from anneal_utils import _internals, identity

import keras
import numpy as np

# Where the code is that only computes: it reads no file (as keras.models.load_model does), and
# nothing that was set elsewhere, but for Keras's settings. A module, or a package with all in it.
_COMPUTING = ("anneal_utils.optimizers", "anneal_utils.problems", *_internals.COMPUTING)
# Objects whose meaning is in their attributes, all of which can be read.
_READABLE = (
    keras.dtype_policies.DTypePolicy,
    keras.initializers.Initializer,
    keras.losses.Loss,
    keras.regularizers.Regularizer,
)


def unchanging(value):
    """Something that is equal again only while ``value`` means the same; None if it may change.

    A short way past tracing a program anew. It knows plain values and arrays, and the functions,
    classes and plain objects of this package and of Keras that only compute, whose code does not
    change, under Keras's settings of now. Anything of a user's (a lambda, a closure, an object, a
    name or dict by which Keras finds one) may mean something else the next time.
    """
    if any(">" not in name for name in _registered()):  # may stand for one of Keras's own names
        return None
    kinds = (keras.config.floatx(), keras.config.epsilon(), keras.config.image_data_format())
    return _meaning((value, kinds, keras.config.dtype_policy()), depth=9)


def _registered() -> dict:
    """What Keras takes for a name, besides what is its own."""
    return keras.saving.get_custom_objects() | _internals.names_in_scope()


def _meaning(value, depth: int):
    # Types are compared, not asked for: a user's subclass may do anything.
    kind = type(value)
    if depth == 0:
        return None
    if kind in (type(None), bool, int, float, str, bytes):
        return None if kind is str and value in _registered() else ("plain", identity.digest(value))
    if kind is np.ndarray or (issubclass(kind, np.generic) and kind.__module__ == "numpy"):
        return (
            ("array", identity.digest(value)) if np.asarray(value).dtype.kind in "biufcSU" else None
        )
    if kind in (tuple, list):
        parts = tuple(_meaning(item, depth - 1) for item in value)
        return None if None in parts else (kind, parts)
    if kind is dict:
        items = _meaning([part for item in value.items() for part in item], depth)
        return None if items is None or "class_name" in value else (kind, items)
    if kind is functools.partial:
        parts = _meaning((value.func, value.args, value.keywords), depth)
        return parts and (kind, parts)
    if isinstance(value, type):
        return (value,) if _is_installed(value) else None
    if kind is types.FunctionType:
        return _meaning_of_function(value, depth)
    if isinstance(value, _READABLE) and _is_installed(kind):
        read = _meaning(vars(value), depth - 1)
        return read and (kind, read)
    return None


def _meaning_of_function(function: types.FunctionType, depth: int):
    # Where it was made is told by its globals; ``__module__`` is a text that functools.wraps sets.
    module = function.__globals__.get("__name__")
    if not _is_computing(module) or vars(sys.modules[module]) is not function.__globals__:
        return None
    try:
        closed = tuple(cell.cell_contents for cell in function.__closure__ or ())
    except ValueError:  # not filled yet
        return None
    bound = _meaning((closed, function.__defaults__, function.__kwdefaults__), depth - 1)
    return bound and (module, function.__code__, bound)


def _is_computing(module) -> bool:
    known = isinstance(module, str) and module in sys.modules
    return known and f"{module}.".startswith(tuple(f"{name}." for name in _COMPUTING))


def _is_installed(kind: type) -> bool:
    """Whether the class is the one that its module has under its name, and only computes."""
    module, found = kind.__module__, None
    if _is_computing(module):
        found = sys.modules[module]
        for name in kind.__qualname__.split("."):
            found = getattr(found, name, None)
    return found is kind
