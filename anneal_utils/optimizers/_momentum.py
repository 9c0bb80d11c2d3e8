"""SGD whose momentum follows a schedule."""

from typing import ClassVar

from anneal_utils.optimizers._settings import Settings, fraction

import keras

ops = keras.ops


@keras.saving.register_keras_serializable("anneal_utils")
class ScheduledMomentumSGD(Settings, keras.optimizers.SGD):
    """SGD whose momentum follows a schedule of the optimizer step (Smith 2018, arXiv:1803.09820).

    ``momentum``: a number in [0, 1), or a ``LearningRateSchedule`` that returns one for each
    step. Keras's own ``SGD`` reads its momentum once, when the step is traced, so a callback can
    not change it. The update is Keras's: velocity <- momentum x velocity - rate x gradient,
    weight <- weight + velocity. With a constant momentum it is ``keras.optimizers.SGD`` to the
    last bit. Nesterov's variant is not offered; all other settings are those of
    ``keras.optimizers.SGD``. Like the rate's, the schedule counts batches, not updates, under
    ``gradient_accumulation_steps``. Notebook 04.

    A model saved with it loads after ``from anneal_utils import schedules, optimizers``.

    >>> falling = keras.optimizers.schedules.PolynomialDecay(0.95, 100, 0.85)
    >>> optimizer = ScheduledMomentumSGD(0.1, momentum=falling)
    """

    refused: ClassVar = {"nesterov": "must be False: only plain momentum is scheduled"}
    halves = True

    def __init__(self, learning_rate=0.01, momentum=0.9, **kwargs):
        """``kwargs`` as for ``keras.optimizers.SGD``; ``ValueError`` for a momentum outside."""
        if isinstance(momentum, dict):  # from a saved configuration
            momentum = keras.saving.deserialize_keras_object(momentum)
        if not isinstance(momentum, keras.optimizers.schedules.LearningRateSchedule):
            fraction("momentum", momentum)
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
        if callable(self.momentum):
            config["momentum"] = keras.saving.serialize_keras_object(self.momentum)
        return config
