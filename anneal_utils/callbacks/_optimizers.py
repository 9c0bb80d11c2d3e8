"""What the callbacks need to know of an optimizer: which one has the rate, and whether it has."""

import warnings

from anneal_utils import _checks
from anneal_utils.optimizers._wrapper import unwrap

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


def counter(optimizer):
    """The variable that the schedule reads.

    The public ``iterations`` counts updates; under gradient accumulation the rate follows this
    private one, which counts batches.
    """
    return optimizer._iterations


def source(optimizer):
    """A schedule, a variable with a number, or a function; ``learning_rate`` is its value only."""
    return optimizer._learning_rate


def count(variable) -> int:
    """The value of a counter, also where a strategy keeps a copy on each device."""
    return int(variable.numpy())


def done(callback) -> int:
    """The steps in ``callback._counter``, in the middle of a fit too.

    Under JAX a fit keeps them to itself until somebody asks for a callback's ``model``.
    """
    _ = callback.model
    return count(callback._counter)


def interrupted(model) -> bool:
    """Whether a fit under JAX has ended in the middle, where its variables are not its own."""
    return not getattr(model, "_jax_state_synced", True)


def say(sentence: str) -> None:
    """A ``UserWarning`` that is shown each time, not only the first time in a process."""
    warnings.warn_explicit(sentence, UserWarning, __file__, 0)  # no registry: nothing is remembered
