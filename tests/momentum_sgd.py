"""SGD whose momentum follows a schedule, written out: what the wrapper is held against."""

import keras

ops = keras.ops


class MomentumSGD(keras.optimizers.SGD):
    """velocity <- momentum(step) x velocity - rate x gradient; weight <- weight + velocity."""

    def __init__(self, learning_rate, momentum, **kwargs):
        super().__init__(learning_rate, momentum=0.5, **kwargs)  # above zero: velocities are made
        self.schedule = momentum

    def update_step(self, gradient, variable, learning_rate):
        rate = ops.cast(learning_rate, variable.dtype)
        momentum = ops.cast(self.schedule(self._iterations), variable.dtype)
        velocity = self.momentums[self._get_variable_index(variable)]
        pull = ops.multiply(ops.cast(gradient, variable.dtype), rate)
        self.assign(velocity, ops.subtract(ops.multiply(velocity, momentum), pull))
        self.assign_add(variable, velocity)
