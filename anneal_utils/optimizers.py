"""Optimizers that Keras lacks, as Keras optimizers.

They work in ``model.fit``, save and load with the model, and run under the many-run trainer.
Each is tested against its paper's formulas in NumPy. Taught in notebooks 04 and 05.
"""

from anneal_utils import _checks

import keras
import tensorflow as tf

ops = keras.ops
_serializable = keras.saving.register_keras_serializable("anneal_utils")


@_serializable
class ScheduledMomentumSGD(keras.optimizers.SGD):
    """SGD whose momentum follows a schedule of the optimizer step (Smith 2018, arXiv:1803.09820).

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


def _with(optimizer, config: dict, *names: str) -> dict:
    """``config`` plus these constructor arguments of ``optimizer``."""
    return {**config, **{name: getattr(optimizer, name) for name in names}}


def _dot(first, second):
    """Inner product over all variables; a missing gradient counts nothing."""
    pairs = zip(first, second, strict=True)
    return sum(ops.sum(ops.multiply(a, b)) for a, b in pairs if a is not None)


# ------------------------------------------------------------------------ from Adam to SGD


class _Adam(keras.optimizers.Adam):
    """Keras's Adam with its moments within reach of another last step."""

    def __init__(self, learning_rate=0.001, **kwargs):
        if kwargs.get("amsgrad"):
            _checks.fail("amsgrad", True, "must be False: it is not offered here")
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
    of 0.001. Notebook 05.
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
        return _with(self, super().get_config(), "final_ratio", "gamma")


@_serializable
class SWATS(_Adam):
    """Adam that switches to SGD by itself, once and for good, at a rate that it estimates.

    Keskar & Socher 2017 (arXiv:1712.07628). With p the step of all weights together and g the
    gradient, the SGD rate that would project to the same step is p'p / -(p'g). When its
    bias-corrected running mean (decay beta_2) is within ``tolerance`` of its current value, the
    mean becomes the rate of SGD with momentum: v <- beta_1 v + g, w <- w - (1 - beta_1) rate v.

    The estimate is kept as a multiple of the learning rate, so that a schedule goes on after the
    switch. ``switched_at``: the step of the switch, or -1. The paper's ``tolerance`` is 1e-9.
    Notebook 05.
    """

    def __init__(self, learning_rate=0.001, tolerance=1e-9, **kwargs):
        """``kwargs`` as for ``keras.optimizers.Adam``, but no ``amsgrad``."""
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
        step = ops.cast(self.iterations, "float32")  # counted from 1, as in the paper
        # The update of the last step has already raised the count: its rate is the one before.
        rate = ops.convert_to_tensor(self._applied)
        own, across = (sum(parts) for parts in zip(*self._products, strict=True))
        del self._products, self._applied
        known = ops.not_equal(across, 0.0)
        projected = own / ops.where(known, -across, 1.0)
        mean = self.beta_2 * self._mean + (1 - self.beta_2) * projected
        mean = ops.where(known, mean, self._mean)
        corrected = mean / (1 - ops.power(self.beta_2, step))
        near = ops.abs(corrected - projected) < self.tolerance
        # A negative rate would climb: p'g > 0, against the gradient; the paper leaves it open.
        switch = known & near & (step > 1) & (self.switched_at < 0) & (corrected > 0)
        self.assign(self._mean, mean)
        self.assign(self._ratio, ops.where(switch, corrected / rate, self._ratio))
        now = ops.cast(self.iterations, "int32")
        self.assign(self.switched_at, ops.where(switch, now, self.switched_at))

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
        sgd = -(1 - self.beta_1) * self._ratio * rate * velocity
        self.assign_add(variable, ops.where(switched, sgd, adam))

    def get_config(self):
        """Configuration for saving."""
        return _with(self, super().get_config(), "tolerance")


# --------------------------------------------------------------------- rates from the losses


@_serializable
class PolyakSGD(keras.optimizers.SGD):
    """SGD whose rate is the batch's loss over its squared gradient norm (SPS_max).

    Loizou, Vaswani, Laradji & Lacoste-Julien, AISTATS 2021 (arXiv:2002.10542):

        rate = min((loss - lowest) / (c |gradient|^2), learning rate).

    The learning rate, a number or a schedule, is the cap. ``lowest``: the least loss that a
    batch can have, 0 for a network that can fit all its data. The loss is the one that Keras
    differentiates, so this works where Keras's ``train_step`` does: in ``fit``, not by ``apply``
    alone. No momentum. Notebook 05.
    """

    def __init__(self, learning_rate=1.0, c=0.5, lowest=0.0, **kwargs):
        """``kwargs`` as for ``keras.optimizers.SGD``; ``ValueError`` for a momentum."""
        if kwargs.pop("momentum", 0.0) or kwargs.pop("nesterov", False):
            _checks.fail("momentum", True, "must be 0: the rule is one of plain SGD")
        super().__init__(learning_rate, **kwargs)
        self.c = _checks.positive("c", c)
        self.lowest = _checks.number("lowest", lowest)
        self._loss = None

    def scale_loss(self, loss):
        """Keep the loss of this step: Keras calls this before it differentiates."""
        self._loss = loss
        return super().scale_loss(loss)

    def apply(self, grads, trainable_variables=None):
        """Update every variable with one rate for all."""
        if self._loss is None:
            raise ValueError(
                "PolyakSGD.apply needs the batch's loss: train with model.fit, or call "
                "scale_loss(loss) first."
            )
        gap = ops.maximum(self._loss - self.lowest, 0.0)
        # The smallest float keeps 0 / 0 out: at a stationary point there is nothing to do.
        self._polyak = gap / (self.c * _dot(grads, grads) + keras.config.epsilon() ** 4)
        super().apply(grads, trainable_variables)
        self._loss = self._polyak = None  # tensors of this step only

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable."""
        rate = ops.minimum(ops.cast(learning_rate, self._polyak.dtype), self._polyak)
        self.assign_sub(variable, ops.cast(rate, variable.dtype) * gradient)

    def get_config(self):
        """Configuration for saving."""
        config = _with(self, super().get_config(), "c", "lowest")
        return {name: v for name, v in config.items() if name not in ("momentum", "nesterov")}


@_serializable
class HypergradientSGD(keras.optimizers.SGD):
    """SGD that learns its rate: it rises while successive gradients agree (SGD-HD).

    Baydin, Cornish, Martinez Rubio, Schmidt & Wood, ICLR 2018 (arXiv:1703.04782):

        rate_t = rate_{t-1} + beta g_t . g_{t-1},

    over all weights together, the rate used for g_t. The learning rate is where it starts (a
    schedule adds its own changes). ``offset``: what has been learned so far, as a variable. No
    momentum; gradients count before any clipping. Notebook 05.
    """

    def __init__(self, learning_rate=0.01, beta=1e-4, **kwargs):
        """``kwargs`` as for ``keras.optimizers.SGD``; ``ValueError`` for a momentum."""
        if kwargs.pop("momentum", 0.0) or kwargs.pop("nesterov", False):
            _checks.fail("momentum", True, "must be 0: the rule is one of plain SGD")
        super().__init__(learning_rate, **kwargs)
        self.beta = _checks.number("beta", beta, low=0)

    def build(self, variables):
        """Create the last gradients and the learned part of the rate."""
        if self.built:
            return
        super().build(variables)
        self._last = self.add_optimizer_variables(variables, "last_gradient")
        self.offset = self.add_variable(shape=(), initializer="zeros", name="offset")

    def apply(self, grads, trainable_variables=None):
        """Learn the rate from all gradients, then update every variable with it."""
        if not self.built:
            self.build(list(trainable_variables))
        variables = (
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        last = [self._last[self._get_variable_index(v)] for v in variables]
        self.assign_add(self.offset, self.beta * _dot(grads, last))
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable."""
        rate = ops.cast(learning_rate + self.offset, variable.dtype)
        self.assign_sub(variable, rate * gradient)
        self.assign(self._last[self._get_variable_index(variable)], gradient)

    def get_config(self):
        """Configuration for saving."""
        config = _with(self, super().get_config(), "beta")
        return {name: v for name, v in config.items() if name not in ("momentum", "nesterov")}


# ---------------------------------------------------------------------------- no schedule


@_serializable
class AveragedAdamW(keras.optimizers.Optimizer):
    """Schedule-Free AdamW as its paper and its reference code have it.

    Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky 2024 (arXiv:2405.15682). Three points: z
    takes the steps, x is the mean of the z, and the gradient is taken between them:

        y = (1 - beta_1) z + beta_1 x                       (the model's weights while training)
        z <- z - rate g(y) / (root of Adam's second moment)
        x <- (1 - c) x + c z,   c = rate_max^2 / its sum so far.

    The method's answer is x, so evaluate there: ``to_average`` puts x into the model,
    ``to_gradient_point`` y, and the callback :class:`EvaluateAverage` does both around every
    evaluation in ``fit`` (the many-run trainer does so by itself). Keras's own
    ``ScheduleFreeAdamW`` has no such switch, and on TensorFlow its beta_1 has no effect.
    ``warmup_steps`` rise linearly; weight decay is not offered. Notebook 05.
    """

    def __init__(
        self,
        learning_rate=0.0025,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        warmup_steps=0,
        **kwargs,
    ):
        """``kwargs`` as for every Keras optimizer; ``ValueError`` for a weight decay."""
        if kwargs.get("weight_decay"):
            _checks.fail("weight_decay", kwargs["weight_decay"], "is not offered here")
        super().__init__(learning_rate, **kwargs)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1)
        self.beta_2 = _checks.number("beta_2", beta_2, low=0)
        if self.beta_2 >= 1:
            _checks.fail("beta_2", beta_2, "must be below 1")
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.warmup_steps = _checks.count("warmup_steps", warmup_steps, low=0)

    def build(self, variables):
        """Create z and x, which start as copies of the weights, and the second moment."""
        if self.built:
            return
        super().build(variables)
        names = ["stepping_point", "average", "second_moment"]
        self._z, self._x, self._second = self.add_optimizer_variables(variables, names)
        self._weights = self.add_variable(shape=(), initializer="zeros", name="weights")
        self._largest = self.add_variable(shape=(), initializer="zeros", name="largest_rate")
        # Eager, also when fit builds inside its first traced step: a traced copy would be lost.
        with tf.init_scope():
            for variable, z, x in zip(variables, self._z, self._x, strict=True):
                z.assign(variable.value)
                x.assign(variable.value)

    def _rate(self):
        rate = ops.convert_to_tensor(self.learning_rate)
        if self.warmup_steps:
            rate *= ops.minimum((ops.cast(self.iterations, rate.dtype) + 1) / self.warmup_steps, 1)
        return rate

    def apply(self, grads, trainable_variables=None):
        """Weigh this step, then update every variable."""
        if not self.built:
            self.build(list(trainable_variables))
        self.assign(self._largest, ops.maximum(self._largest, self._rate()))
        weight = ops.square(self._largest)
        self.assign_add(self._weights, weight)
        # All rates 0 so far: nothing has moved, and any share keeps x where it is.
        self._share = weight / ops.maximum(self._weights, keras.config.epsilon() ** 4)
        super().apply(grads, trainable_variables)
        del self._share  # a tensor of this step only

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable."""
        index = self._get_variable_index(variable)
        z, x, second = self._z[index], self._x[index], self._second[index]
        gradient = ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        root = ops.sqrt(second / (1 - ops.power(self.beta_2, step))) + self.epsilon
        self.assign_sub(z, ops.cast(self._rate(), variable.dtype) * gradient / root)
        share = ops.cast(self._share, variable.dtype)
        self.assign(x, (1 - share) * x + share * z)
        self.assign(variable, (1 - self.beta_1) * z + self.beta_1 * x)

    def to_average(self):
        """Put the averages x into the model: evaluate, use and save it so."""
        for variable, x in zip(self._trainable_variables, self._x, strict=True):
            variable.assign(x.value)

    def to_gradient_point(self):
        """Put y into the model, to the last bit where training left it."""
        for variable, z, x in zip(self._trainable_variables, self._z, self._x, strict=True):
            variable.assign((1 - self.beta_1) * z + self.beta_1 * x)

    def get_config(self):
        """Configuration for saving."""
        names = ("beta_1", "beta_2", "epsilon", "warmup_steps")
        return _with(self, super().get_config(), *names)


class EvaluateAverage(keras.callbacks.Callback):
    """Evaluates :class:`AveragedAdamW` at its averages, and leaves the model there at the end."""

    def on_test_begin(self, logs=None):
        """Before an evaluation."""
        self.model.optimizer.to_average()

    def on_test_end(self, logs=None):
        """After an evaluation: go on where training was."""
        self.model.optimizer.to_gradient_point()

    def on_train_end(self, logs=None):
        """The answer of the whole training."""
        self.model.optimizer.to_average()
