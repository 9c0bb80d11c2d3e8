"""Optimizers that Keras lacks, as Keras optimizers.

They work in ``model.fit``, save and load with the model, and run under the many-run trainer.
"""

from anneal_utils import _checks

import keras

ops = keras.ops


@keras.saving.register_keras_serializable("anneal_utils")
class ScheduledMomentumSGD(keras.optimizers.SGD):
    """SGD whose momentum follows a schedule of the optimizer step (Smith & Topin 2018).

    ``momentum``: a number in [0, 1), or a ``LearningRateSchedule`` that returns one for each
    step. Keras's own ``SGD`` reads its momentum once, when the step is traced, so a callback can
    not change it. The update is Keras's: velocity <- momentum x velocity - rate x gradient,
    weight <- weight + velocity. With a constant momentum it is ``keras.optimizers.SGD`` to the
    last bit. Nesterov's variant is not offered. Notebook 04.
    """

    def __init__(self, learning_rate=0.01, momentum=0.9, **kwargs):
        """``kwargs`` as for ``keras.optimizers.SGD``; ``ValueError`` for a momentum outside."""
        if kwargs.pop("nesterov", False):
            _checks.fail("nesterov", True, "must be False: only plain momentum is scheduled")
        if isinstance(momentum, dict):  # from a saved configuration
            momentum = keras.saving.deserialize_keras_object(momentum)
        scheduled = isinstance(momentum, keras.optimizers.schedules.LearningRateSchedule)
        if not scheduled and _checks.number("momentum", momentum, low=0) >= 1:
            _checks.fail("momentum", momentum, "must be below 1")
        # Keras creates the velocities only for a momentum above zero.
        super().__init__(learning_rate, momentum=0.5, **kwargs)
        self.momentum = momentum

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable."""
        rate = ops.cast(learning_rate, variable.dtype)
        scheduled = callable(self.momentum)
        momentum = self.momentum(self._iterations) if scheduled else self.momentum
        velocity = self.momentums[self._get_variable_index(variable)]
        self.assign(
            velocity,
            ops.subtract(
                ops.multiply(velocity, ops.cast(momentum, variable.dtype)),
                ops.multiply(ops.cast(gradient, variable.dtype), rate),
            ),
        )
        self.assign_add(variable, velocity)

    def build(self, variables):
        """Create one velocity per variable."""
        momentum, self.momentum = self.momentum, 0.5
        super().build(variables)
        self.momentum = momentum

    def get_config(self):
        """Configuration for saving."""
        config = super().get_config()
        config.pop("nesterov", None)
        if callable(self.momentum):
            config["momentum"] = keras.saving.serialize_keras_object(self.momentum)
        return config
