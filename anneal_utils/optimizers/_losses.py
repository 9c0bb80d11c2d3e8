"""Rates from the losses: of one batch, or of one batch after the other."""

from typing import ClassVar

from anneal_utils import _backend, _checks
from anneal_utils.optimizers._settings import Settings, dense, with_arguments

import keras

ops = keras.ops
_serializable = keras.saving.register_keras_serializable("anneal_utils")


def _dot(first, second, kind):
    """Inner product over all variables, a number of that ``kind``; a missing gradient counts 0."""
    pairs = ((a, b) for a, b in zip(first, second, strict=True) if not (a is None or b is None))
    return sum(ops.cast(ops.sum(ops.multiply(a, b)), kind) for a, b in pairs)


class _PlainSGD(Settings, keras.optimizers.SGD):
    """SGD with one rate for all weights, which is found from all their gradients."""

    refused: ClassVar = {
        "momentum": "must be 0: the rule is one of plain SGD",
        "nesterov": "must be False: the rule is one of plain SGD",
        "weight_decay": "must be None: Keras would decay at a rate that is not the one applied",
        "gradient_accumulation_steps": "must be None: the rate is found anew at every batch",
    }
    alone = "the rate is found from the gradient of the whole batch"

    def _unscaled(self, gradients) -> list:
        """The gradients of the loss itself: Keras divides by the scale only later."""
        if (scale := self.loss_scale_factor) is None:
            return gradients
        return [None if g is None else g / scale for g in gradients]


@_serializable
class PolyakSGD(_PlainSGD):
    """SGD whose rate is the batch's loss over its squared gradient norm (SPS_max).

    Loizou, Vaswani, Laradji & Lacoste-Julien, AISTATS 2021 (arXiv:2002.10542):

        rate = min((loss - lowest) / (c |gradient|^2), learning rate).

    The learning rate, a number or a schedule, is the cap. ``lowest``: the least loss that a
    batch can have, 0 for a network that can fit all its data. The loss is the one that Keras
    differentiates, so this works where Keras's ``train_step`` does: in ``fit``, not by ``apply``
    alone, and not under the mixed_float16 policy, whose ``LossScaleOptimizer`` keeps the loss to
    itself (mixed_bfloat16 is as good as float32).

    Refused, with a ``ValueError``: momentum, weight decay, clipping (a smaller gradient would
    mean a larger step), gradient accumulation (the loss is the last batch's alone), several
    replicas, variables of 16 bits. Notebook 05.

    A model saved with it loads after ``from anneal_utils import schedules, optimizers``.

    >>> optimizer = PolyakSGD(1.0, c=0.5)
    """

    refused: ClassVar = {
        **_PlainSGD.refused,
        **dict.fromkeys(
            ("clipnorm", "clipvalue", "global_clipnorm"),
            "must be None: a smaller gradient would mean a larger step; the learning rate caps it",
        ),
    }

    def __init__(self, learning_rate=1.0, c=0.5, lowest=0.0, **kwargs):
        """``kwargs`` as for ``keras.optimizers.SGD``, but for what is refused."""
        super().__init__(learning_rate, **kwargs)
        self.c = _checks.positive("c", c)
        self.lowest = _checks.number("lowest", lowest)
        self._loss = None

    def scale_loss(self, loss):
        """Keep the loss of this step: Keras calls this before it differentiates."""
        if _backend.NAME == "jax":
            _checks.fail(
                "KERAS_BACKEND",
                _backend.NAME,
                "must be tensorflow or torch for PolyakSGD: what JAX differentiates keeps the loss "
                "to itself",
            )
        self._loss = loss
        return super().scale_loss(loss)

    def apply(self, grads, trainable_variables=None):
        """Update every variable with one rate for all."""
        if self._loss is None:
            _checks.fail(
                "loss",
                None,
                "must be known before PolyakSGD.apply: train with model.fit, or call "
                "scale_loss(loss) first; under mixed_float16 Keras's LossScaleOptimizer does not "
                "pass it on, under mixed_bfloat16 there is none",
            )
        try:
            grads = dense(grads)
            gap = ops.maximum(self._loss - self.lowest, 0.0)
            gradients = self._unscaled(grads)
            square = _dot(gradients, gradients, gap.dtype)
            # The smallest float keeps 0 / 0 out: at a stationary point there is nothing to do.
            self._polyak = gap / (self.c * square + keras.config.epsilon() ** 4)
            super().apply(grads, trainable_variables)
        finally:
            self._loss = self._polyak = None  # tensors of this step only

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable."""
        rate = ops.minimum(ops.cast(learning_rate, self._polyak.dtype), self._polyak)
        self.assign_sub(variable, ops.cast(rate, variable.dtype) * gradient)

    def get_config(self):
        """Configuration for saving."""
        return with_arguments(self, super().get_config(), "c", "lowest")


@_serializable
class HypergradientSGD(_PlainSGD):
    """SGD that learns its rate: it rises while successive gradients agree (SGD-HD).

    Baydin, Cornish, Martinez Rubio, Schmidt & Wood, ICLR 2018 (arXiv:1703.04782):

        rate_t = rate_{t-1} + beta g_t . g_{t-1},

    over all weights together, the rate used for g_t. The learning rate is where it starts (a
    schedule adds its own changes). ``offset``: what has been learned so far, as a variable. With
    a clipping argument g_t is the whole gradient, and g_{t-1} the clipped one, which was applied:
    so their product is still the slope of the loss by the rate.

    Refused, with a ``ValueError``: momentum, weight decay, gradient accumulation, several
    replicas, variables of 16 bits. Notebook 05.

    A model saved with it loads after ``from anneal_utils import schedules, optimizers``.

    >>> optimizer = HypergradientSGD(0.01, beta=1e-3, global_clipnorm=1.0)
    """

    def __init__(self, learning_rate=0.01, beta=1e-4, **kwargs):
        """``kwargs`` as for ``keras.optimizers.SGD``, but for what is refused."""
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
        grads = dense(grads)
        variables = (
            self._trainable_variables if trainable_variables is None else trainable_variables
        )
        last = [self._last[self._get_variable_index(v)] for v in variables]
        agreement = _dot(self._unscaled(grads), last, self.offset.dtype)
        self.assign_add(self.offset, self.beta * agreement)
        super().apply(grads, trainable_variables)

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable."""
        rate = ops.cast(learning_rate + self.offset, variable.dtype)
        self.assign_sub(variable, rate * gradient)
        self.assign(self._last[self._get_variable_index(variable)], gradient)

    def get_config(self):
        """Configuration for saving."""
        return with_arguments(self, super().get_config(), "beta")
