"""Optimizers by name: those that are registered here, and whatever Keras exports."""

import functools
import inspect
from collections.abc import Callable

from anneal_utils import _checks
from anneal_utils.registry import Registry

import keras

registry = Registry("optimizer")
unregister = registry.unregister
names = registry.names
origin = registry.origin
describe = registry.describe


def register(name: str, make=None, *, centre: float, overwrite: bool = False):
    """Add an optimizer: a Keras name or class, or a function of the rate that returns one.

    Without ``make`` a decorator of such a function. ``centre``: a usual rate, around which the
    benchmark looks for the best. Run again, as a notebook cell, it replaces itself;
    ``ValueError`` for any other name that is taken, unless ``overwrite``.
    """
    if make is not None:
        make = maker(make)  # refuses what training can not use
    facts = dict(overwrite=overwrite, depth=2, centre=_checks.positive("centre", centre))
    return registry.register(name, make, **facts)


# Not to be named: abstract, or around other optimizers.
_UNNAMED = (
    keras.optimizers.Optimizer,
    keras.optimizers.LossScaleOptimizer,
    keras.optimizers.MultiOptimizer,
)


@functools.cache
def _classes() -> dict[str, type]:
    """Every optimizer Keras exports, by lower-case name (``keras.optimizers.get`` misses Lamb)."""
    return {
        name.lower(): cls
        for name, cls in vars(keras.optimizers).items()
        if inspect.isclass(cls)
        and issubclass(cls, keras.optimizers.Optimizer)
        and cls not in _UNNAMED
    }


def maker(make) -> Callable:
    """A function of the rate that returns a new optimizer, from whatever ``grid`` takes as one."""
    if isinstance(make, str):
        if make in registry:
            return registry[make]
        known = dict.fromkeys([*registry.names(), *_classes()])
        return _classes()[_checks.choice("optimizer", make, known)]
    if isinstance(make, keras.optimizers.Optimizer) or not callable(make):
        _checks.fail(
            "optimizer",
            make,
            "must be a name, an optimizer class or a function of the rate (one optimizer object "
            "would carry its state from run to run)",
        )
    return make


def label(make) -> str:
    """What an optimizer without a label is called."""
    if isinstance(make, str):
        return make
    name = getattr(make, "__name__", type(make).__name__)
    return "custom" if name == "<lambda>" else name.lower() if inspect.isclass(make) else name


def _momentum(rate=0.01):
    """Gradient descent with heavy-ball momentum 0.9."""
    return keras.optimizers.SGD(rate, momentum=0.9)


register("sgd", keras.optimizers.SGD, centre=0.1)
register("momentum", _momentum, centre=0.01)
register("adam", keras.optimizers.Adam, centre=0.001)
register("adamw", keras.optimizers.AdamW, centre=0.001)
register("muon", keras.optimizers.Muon, centre=0.01)
