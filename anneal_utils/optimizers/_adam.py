"""From Adam to SGD: by and by, or by a switch."""

from typing import ClassVar

from anneal_utils import _checks
from anneal_utils.optimizers._settings import Settings, fraction, with_arguments

import keras

ops = keras.ops
_serializable = keras.saving.register_keras_serializable("anneal_utils")


class _Adam(Settings, keras.optimizers.Adam):
    """Keras's Adam with its moments within reach of another last step."""

    refused: ClassVar = {"amsgrad": "must be False: it is not offered here"}

    def __init__(self, learning_rate=0.001, **kwargs):
        for name in ("beta_1", "beta_2"):
            if name in kwargs:
                kwargs[name] = fraction(name, kwargs[name])
        if "epsilon" in kwargs:
            kwargs["epsilon"] = _checks.number("epsilon", kwargs["epsilon"], low=0)
        super().__init__(learning_rate, **kwargs)

    def _moments(self, gradient, variable):
        """Update both moments: (first moment, root of the second, correction of their start).

        Adam's step is rate x correction x first / root.
        """
        index = self._get_variable_index(variable)
        first, second = self._momentums[index], self._velocities[index]
        step = ops.cast(self.iterations + 1, variable.dtype)
        correction = ops.sqrt(1 - ops.power(self.beta_2, step)) / (1 - ops.power(self.beta_1, step))
        self.assign_add(first, (gradient - first) * (1 - self.beta_1))
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        return first, ops.sqrt(second) + self.epsilon, correction


@_serializable
class AdaBound(_Adam):
    """Adam whose rate per weight is clipped to a band that narrows to one rate: SGD's.

    Luo, Xiong, Liu & Sun, ICLR 2019 (arXiv:1902.09843). At step t = 1, 2, ... each weight's own
    rate, the learning rate over the root of Adam's second moment, is clipped to

        final (1 - 1 / (gamma t + 1))  ..  final (1 + 1 / (gamma t)),

    with ``final`` = ``final_ratio`` x the learning rate, so a schedule moves the band as well.
    Defaults: the paper's band, which has gamma = 1 - beta_2 and ends at 0.1 for a learning rate
    of 0.001. Every setting of ``keras.optimizers.Adam`` has its meaning there, but ``amsgrad`` is
    refused, and so are variables of 16 bits. Notebook 05.

    A model saved with it loads after ``from anneal_utils import schedules, optimizers``.

    >>> optimizer = AdaBound(0.001, final_ratio=100.0, weight_decay=0.01)
    """

    def __init__(self, learning_rate=0.001, final_ratio=100.0, gamma=0.001, **kwargs):
        """``kwargs`` as for ``keras.optimizers.Adam``, but no ``amsgrad``."""
        super().__init__(learning_rate, **kwargs)
        self.final_ratio = _checks.positive("final_ratio", final_ratio)
        self.gamma = _checks.positive("gamma", gamma)

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable."""
        rate, gradient = (ops.cast(x, variable.dtype) for x in (learning_rate, gradient))
        first, root, correction = self._moments(gradient, variable)
        step = ops.cast(self.iterations + 1, variable.dtype)
        low = 1 - 1 / (self.gamma * step + 1)
        high = 1 + 1 / (self.gamma * step)
        final = self.final_ratio * rate
        own = ops.clip(rate * correction / root, final * low, final * high)
        self.assign_sub(variable, own * first)

    def get_config(self):
        """Configuration for saving."""
        return with_arguments(self, super().get_config(), "final_ratio", "gamma")


@_serializable
class SWATS(_Adam):
    """Adam that switches to SGD by itself, once and for good, at a rate that it estimates.

    Keskar & Socher 2017 (arXiv:1712.07628). With p the step of all weights together and g the
    gradient, the SGD rate that would project to the same step is p'p / -(p'g). When its
    bias-corrected running mean (decay beta_2) is within ``tolerance`` of its current value, the
    mean becomes the rate of SGD with momentum: v <- beta_1 v + g, w <- w - (1 - beta_1) rate v.

    The estimate is kept as a multiple of the learning rate, so that a schedule goes on after the
    switch. ``switched_at``: the step of the switch, or -1. The paper's ``tolerance`` is 1e-9.
    With a clipping argument, g is the clipped gradient. Refused, with a ``ValueError``: amsgrad,
    weight decay, gradient accumulation, several replicas, variables of 16 bits. Notebook 05.

    A model saved with it loads after ``from anneal_utils import schedules, optimizers``.

    >>> optimizer = SWATS(0.001, tolerance=1e-5, clipnorm=1.0)
    """

    refused: ClassVar = {
        **_Adam.refused,
        "weight_decay": "must be None: Keras decays at Adam's rate, also after the switch to SGD's",
        "gradient_accumulation_steps": "must be None: the switch is decided at every batch",
    }
    alone = "the switch is decided by the gradient of the whole batch"

    def __init__(self, learning_rate=0.001, tolerance=1e-9, **kwargs):
        """``kwargs`` as for ``keras.optimizers.Adam``, but for what is refused."""
        super().__init__(learning_rate, **kwargs)
        self.tolerance = _checks.positive("tolerance", tolerance)

    def build(self, variables):
        """Create the velocities of SGD and what decides the switch."""
        if self.built:
            return
        super().build(variables)
        self._sgd = self.add_optimizer_variables(variables, "sgd_velocity")
        self._mean = self.add_variable(shape=(), initializer="zeros", name="mean_rate")
        self._ratio = self.add_variable(shape=(), initializer="zeros", name="sgd_ratio")
        minus_one = keras.initializers.Constant(-1)
        self.switched_at = self.add_variable(
            shape=(), initializer=minus_one, dtype="int32", name="switched_at"
        )

    def apply(self, grads, trainable_variables=None):
        """Update every variable, then decide about the switch."""
        self._products = []
        super().apply(grads, trainable_variables)
        products, self._products = self._products, []
        if not products:  # nothing was to be updated
            return
        kind = self._mean.dtype
        step = ops.cast(self.iterations, kind)  # counted from 1, as in the paper
        # The update of the last step has already raised the count: its rate is the one before.
        rate = ops.cast(self._applied, kind)
        own, across = (
            sum(ops.cast(x, kind) for x in parts) for parts in zip(*products, strict=True)
        )
        self._applied = None
        known = ops.not_equal(across, 0.0)
        projected = own / ops.where(known, -across, 1.0)
        mean = self.beta_2 * self._mean + (1 - self.beta_2) * projected
        mean = ops.where(known, mean, self._mean.value)
        corrected = mean / (1 - ops.power(self.beta_2, step))
        near = ops.abs(corrected - projected) < self.tolerance
        # A negative rate would climb: p'g > 0, against the gradient; the paper leaves it open.
        switch = known & near & (step > 1) & (self.switched_at < 0) & (corrected > 0)
        self.assign(self._mean, mean)
        self.assign(self._ratio, ops.where(switch, corrected / rate, self._ratio.value))
        now = ops.cast(self.iterations, "int32")
        self.assign(self.switched_at, ops.where(switch, now, self.switched_at.value))

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable, in the phase that the optimizer is in."""
        rate, gradient = (ops.cast(x, variable.dtype) for x in (learning_rate, gradient))
        self._applied = rate
        first, root, correction = self._moments(gradient, variable)
        adam = -rate * correction * first / root
        self._products.append((ops.sum(adam * adam), ops.sum(adam * gradient)))
        switched = self.switched_at >= 0
        velocity = self._sgd[self._get_variable_index(variable)]
        # Zero until the switch, so that SGD starts from rest.
        self.assign(velocity, ops.where(switched, self.beta_1 * velocity + gradient, 0.0))
        ratio = ops.cast(-(1 - self.beta_1) * self._ratio, variable.dtype)
        sgd = ratio * rate * velocity
        self.assign_add(variable, ops.where(switched, sgd, adam))

    def get_config(self):
        """Configuration for saving."""
        return with_arguments(self, super().get_config(), "tolerance")
