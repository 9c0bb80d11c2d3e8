"""What Keras's base optimizer accepts: honoured as its documentation says, or refused by name."""

from typing import ClassVar

from anneal_utils import _checks
from anneal_utils._backend import tf

import keras

_HALVES = ("float16", "bfloat16")
_CLIPPING = ("clipnorm", "clipvalue", "global_clipnorm")
_OF_ONE_REPLICA = (*_CLIPPING, "gradient_accumulation_steps", "ema_overwrite_frequency")


def fraction(argument: str, value) -> float:
    """``value`` as a float in [0, 1)."""
    if _checks.number(argument, value, low=0) >= 1:
        _checks.fail(argument, value, "must be below 1")
    return float(value)


def with_arguments(optimizer, config: dict, *names: str) -> dict:
    """``config`` plus these constructor arguments of ``optimizer``."""
    return {**config, **{name: getattr(optimizer, name) for name in names}}


def dense(gradients) -> list:
    """The gradients as tensors; a missing one stays None. Only TensorFlow has slices."""
    if tf is None:
        return list(gradients)
    return [tf.convert_to_tensor(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients]


class Settings:
    """To be inherited from before a Keras optimizer; the class says what it refuses, and why.

    ``refused``: ``{argument: what is allowed}``, of arguments which are off when false. They are
    no part of the configuration. ``alone``: why there can be only one replica, or None.
    ``halves``: whether variables of 16 bits can be trained.
    """

    refused: ClassVar[dict[str, str]] = {}
    alone: str | None = None
    halves = False

    def __init__(self, learning_rate, **kwargs):
        for argument, allowed in self.refused.items():
            value = kwargs.pop(argument, None)
            # An array or a tensor has no truth value of its own, and is surely not "off".
            if value is not None and not (isinstance(value, bool | int | float) and not value):
                _checks.fail(argument, value, allowed)
        super().__init__(learning_rate, **kwargs)

    def build(self, variables):
        """Create what the optimizer keeps of each of the ``variables``."""
        if self.built:
            return
        if tf is not None:
            self._check_replicas(tf.distribute.get_strategy())
        for variable in variables:
            kind = keras.backend.standardize_dtype(variable.dtype)
            if kind in _HALVES and not self.halves:
                allowed = (
                    "must be float32 or float64 (mixed_float16 and mixed_bfloat16 keep float32 "
                    f"variables): {type(self).__name__} adds up what 16 bits would round away"
                )
                _checks.fail("variable.dtype", kind, allowed)
        super().build(variables)

    def _check_replicas(self, strategy):
        if (replicas := strategy.num_replicas_in_sync) == 1:
            return
        if self.alone:
            name = f"{type(strategy).__name__}, {replicas} replicas"
            _checks.fail("tf.distribute strategy", name, f"must have one replica: {self.alone}")
        for argument in _OF_ONE_REPLICA:
            if value := getattr(self, argument):
                allowed = (
                    f"must be None with {replicas} replicas: Keras clips the part of each replica "
                    "alone, and cannot accumulate or overwrite there"
                )
                _checks.fail(argument, value, allowed)

    def apply(self, grads, trainable_variables=None):
        """Update every variable (see ``keras.optimizers.Optimizer.apply``).

        Gradients of embeddings come as slices, in which an index may come twice. They are summed
        first: Keras would square each alone in Adam's second moment, and cannot unscale them.
        """
        super().apply(dense(grads), trainable_variables)

    def get_config(self):
        """Configuration for saving."""
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in self.refused}
