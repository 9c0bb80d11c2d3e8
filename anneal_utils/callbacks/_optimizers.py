"""What the callbacks need to know of an optimizer: which one has the rate, and whether it has."""

import warnings

from anneal_utils import _checks, _internals
from anneal_utils.optimizers import unwrap

import keras

Schedule = keras.optimizers.schedules.LearningRateSchedule


def innermost(model):
    """The optimizer whose rate and step count training follows; ``ValueError`` if it has not one.

    ``MultiOptimizer`` has one rate for every part of the model, and a model may have none.
    """
    optimizer = unwrap(model.optimizer)
    if not isinstance(optimizer, keras.optimizers.Optimizer) or hasattr(optimizer, "optimizers"):
        _checks.fail(
            "model.optimizer",
            type(optimizer).__name__,
            "must be a Keras optimizer with one rate (not none, and not one for each layer)",
        )
    return optimizer


counter, source = _internals.counter, _internals.rate_source


def count(variable) -> int:
    """The value of a counter, also where a strategy keeps a copy on each device."""
    return int(variable.numpy())


def done(callback) -> int:
    """The steps in ``callback._counter``, in the middle of a fit too.

    Under JAX a fit keeps them to itself until somebody asks for a callback's ``model``.
    """
    _ = callback.model
    return count(callback._counter)


def say(sentence: str) -> None:
    """A ``UserWarning`` that is shown each time, not only the first time in a process."""
    warnings.warn_explicit(sentence, UserWarning, __file__, 0)  # no registry: nothing is remembered
