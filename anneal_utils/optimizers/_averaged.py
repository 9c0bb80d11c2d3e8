"""No schedule: Schedule-Free AdamW, and the callback that evaluates it where it is to be."""

from typing import ClassVar

from anneal_utils import _backend, _checks
from anneal_utils.optimizers._settings import Settings, fraction, with_arguments
from anneal_utils.optimizers._wrapper import unwrap

import keras
import numpy as np

ops = keras.ops


@keras.saving.register_keras_serializable("anneal_utils")
class AveragedAdamW(Settings, keras.optimizers.Optimizer):
    """Schedule-Free AdamW as its paper and its reference code have it.

    Defazio, Yang, Mehta, Mishchenko, Khaled & Cutkosky 2024 (arXiv:2405.15682). Three points: z
    takes the steps, x is the mean of the z, and the gradient is taken between them:

        y = (1 - beta_1) z + beta_1 x                       (the model's weights while training)
        z <- z - rate (g(y) / (root of Adam's second moment) + weight_decay y)
        x <- (1 - c) x + c z,   c = rate_max^2 / its sum so far.

    The method's answer is x, so evaluate there: ``to_average`` puts x into the model,
    ``to_gradient_point`` y, and the callback :class:`EvaluateAverage` does both around every
    evaluation in ``fit`` (the many-run trainer does so by itself). Keras's own
    ``ScheduleFreeAdamW`` has no such switch, and on TensorFlow its beta_1 has no effect.
    ``warmup_steps``, counted in updates, rise linearly. Weight decay is decoupled and taken at y,
    as in the reference code; ``exclude_from_weight_decay`` works.

    All of its state is saved with a model. A layer's moving statistics (batch normalisation) are
    those of y: the average has none of its own. Refused, with a ``ValueError``: ``use_ema`` (it
    averages by itself), constraints of layers, variables of 16 bits. Notebook 05.

    A model saved with it loads after ``from anneal_utils import schedules, optimizers``.

    >>> optimizer = AveragedAdamW(0.0025, warmup_steps=100, weight_decay=0.01)
    """

    refused: ClassVar = {"use_ema": "must be False: it averages by itself"}
    # Read between the updates as well, when model and average change places.
    unscheduled = ("beta_1",)

    def __init__(
        self,
        learning_rate=0.0025,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        warmup_steps=0,
        **kwargs,
    ):
        """``kwargs`` as for every Keras optimizer, but no ``use_ema``."""
        if kwargs.get("weight_decay") is not None:
            kwargs["weight_decay"] = _checks.number("weight_decay", kwargs["weight_decay"], low=0)
        super().__init__(learning_rate, **kwargs)
        self.beta_1 = _checks.number("beta_1", beta_1, low=0, high=1)
        self.beta_2 = fraction("beta_2", beta_2)
        self.epsilon = _checks.number("epsilon", epsilon, low=0)
        self.warmup_steps = _checks.count("warmup_steps", warmup_steps, low=0)

    def build(self, variables):
        """Create z and x, which start as copies of the weights, and the second moment."""
        if self.built:
            return
        for variable in variables:
            if getattr(variable, "constraint", None) is not None:
                name = type(variable.constraint).__name__
                _checks.fail(
                    "constraint",
                    f"{name} of {variable.path}",
                    "must be None: it would hold for y, and not for the average",
                )
        super().build(variables)
        names = ["stepping_point", "average", "second_moment"]
        self._z, self._x, self._second = self.add_optimizer_variables(variables, names)
        # Assigned by every replica, to the same value, like Keras's count of the steps.
        scalar = {"shape": (), "initializer": "zeros", "aggregation": "only_first_replica"}
        self._weights = self.add_variable(name="weights", **scalar)
        self._largest = self.add_variable(name="largest_rate", **scalar)
        # Eager, also when fit builds inside its first traced step: a traced copy would be lost.
        with _backend.outside():
            self._copy_weights()

    def _points(self):
        """(variable, z, x) of every variable that is trained by gradients."""
        points = zip(self._trainable_variables, self._z, self._x, strict=True)
        return [point for point in points if point[1] is not None]

    def _copy_weights(self):
        for variable, z, x in self._points():
            z.assign(_backend.copy(variable.value))
            x.assign(_backend.copy(variable.value))

    def _rate(self):
        rate = ops.convert_to_tensor(self.learning_rate)
        if self.warmup_steps:
            rate *= ops.minimum((ops.cast(self.iterations, rate.dtype) + 1) / self.warmup_steps, 1)
        return rate

    def _apply_weight_decay(self, variables):
        """Nothing: Keras's own would shrink y, which is made anew; z decays, in ``update_step``."""

    def _backend_update_step(self, grads, trainable_variables, learning_rate):
        # Private in Keras, and called once for each update (of which gradient accumulation makes
        # fewer than calls of ``apply``): here the update gets its weight.
        self.assign(self._largest, ops.maximum(self._largest, self._rate()))
        weight = ops.square(self._largest)
        self.assign_add(self._weights, weight)
        # All rates 0 so far: nothing has moved, and any share keeps x where it is.
        self._share = weight / ops.maximum(self._weights, keras.config.epsilon() ** 4)
        super()._backend_update_step(grads, trainable_variables, learning_rate)

    def apply(self, grads, trainable_variables=None):
        """Update every variable (see ``keras.optimizers.Optimizer.apply``)."""
        super().apply(grads, trainable_variables)
        self._share = None  # a tensor of this step only

    def update_step(self, gradient, variable, learning_rate):
        """One update of one variable."""
        index = self._get_variable_index(variable)
        z, x, second = self._z[index], self._x[index], self._second[index]
        gradient = ops.cast(gradient, variable.dtype)
        step = ops.cast(self.iterations + 1, variable.dtype)
        self.assign_add(second, (ops.square(gradient) - second) * (1 - self.beta_2))
        root = ops.sqrt(second / (1 - ops.power(self.beta_2, step))) + self.epsilon
        rate = ops.cast(self._rate(), variable.dtype)
        self.assign_sub(z, rate * gradient / root)
        if self.weight_decay and self._use_weight_decay(variable):
            self.assign_sub(z, rate * self.weight_decay * variable)
        share = ops.cast(self._share, variable.dtype)
        self.assign(x, (1 - share) * x + share * z)
        self.assign(variable, (1 - self.beta_1) * z + self.beta_1 * x)

    def to_average(self):
        """Put the averages x into the model: evaluate, use and save it so."""
        for variable, _, x in self._points():
            variable.assign(_backend.copy(x.value))

    def to_gradient_point(self):
        """Put y into the model: to the last bit where training left it, unless XLA rounded it."""
        for variable, z, x in self._points():
            variable.assign((1 - self.beta_1) * z + self.beta_1 * x)

    def place(self) -> str:
        """Where the model's weights are: ``"average"``, ``"gradient point"`` or ``"elsewhere"``.

        The average is known by its bits, the gradient point within rounding. Not for use inside
        a traced function.
        """
        points = [[ops.convert_to_numpy(part) for part in point] for point in self._points()]
        if all(np.array_equal(now, x, equal_nan=True) for now, _, x in points):
            return "average"
        for now, z, x in points:
            y, size = (1 - self.beta_1) * z + self.beta_1 * x, np.abs(z) + np.abs(x)
            if not (np.abs(now - y) <= 1e-5 * size).all():
                return "elsewhere"
        return "gradient point"

    def go_on(self):
        """Bring the model to where the next step starts, wherever its weights are now.

        From the average (a training that has ended, a saved model) to the gradient point. Weights
        that were set from outside are a new start: z and the average begin there anew, and only
        the second moment and the count of the steps are kept.
        """
        if not self.built:
            return
        place = self.place()
        if place == "elsewhere":
            self._copy_weights()
            self._weights.assign(0.0)
            self._largest.assign(0.0)
        elif place == "average" and ops.convert_to_numpy(self.iterations) > 0:
            self.to_gradient_point()

    def get_config(self):
        """Configuration for saving."""
        names = ("beta_1", "beta_2", "epsilon", "warmup_steps")
        return with_arguments(self, super().get_config(), *names)


class EvaluateAverage(keras.callbacks.Callback):
    """Evaluates :class:`AveragedAdamW` at its averages, and leaves the model there at the end.

    Give it to every ``fit``. From the last batch of an epoch to the first of the next the model
    is at the average, so what ``EarlyStopping`` keeps and restores, and what ``ModelCheckpoint``
    and ``BackupAndRestore`` save after an epoch, is what was evaluated. Each epoch starts with
    ``optimizer.go_on()``: a second ``fit``, or one of a loaded model, goes on where training was.
    In ``evaluate`` and ``predict`` it puts back what was there before.

    With validation data the order of the callbacks does not matter; without, put this one first.
    (Of a data set that does not know its number of batches Keras counts a step too many in each
    epoch, for every optimizer, and here the average gives it a weight:
    ``tf.data.experimental.assert_cardinality`` prevents that.) What is saved
    in the middle of an epoch (``save_freq=100``) is the gradient point, and so is what an
    exception in the middle leaves: ``model.optimizer.to_average()`` then gives the answer.

    ``ValueError`` if the model's optimizer neither averages nor wraps one that does, as
    ``LossScaleOptimizer`` under the mixed_float16 policy.

    >>> model.compile(AveragedAdamW(0.005), loss="mse")
    >>> stop = keras.callbacks.EarlyStopping(patience=3, restore_best_weights=True)
    >>> model.fit(x, y, validation_split=0.2, callbacks=[EvaluateAverage(), stop])
    """

    def __init__(self):
        super().__init__()
        self._fitting = False
        self._away = False  # from the gradient point, or maybe so
        self._moved = False  # by this callback, in this fit
        self._kept = None  # the weights before an evaluation outside of fit

    def _optimizer(self):
        optimizer = unwrap(self.model.optimizer)
        if not isinstance(optimizer, AveragedAdamW) or not callable(optimizer.to_average):
            name = type(optimizer).__name__
            _checks.fail("model.optimizer", name, "must be AveragedAdamW, or wrap one")
        return optimizer

    def _to_average(self):
        if not self._away:
            self._optimizer().to_average()
            self._away = self._moved = True

    def set_model(self, model):
        """Of another model nothing is known, also if a fit of the last one was interrupted."""
        if model is not self._model:  # the same one may be evaluated in the middle of a fit
            self._fitting = self._away = self._moved = False
            self._kept = None
        super().set_model(model)

    def on_train_begin(self, logs=None):
        """Whether the model is where training was is seen at the first batch."""
        self._optimizer()
        self._fitting, self._away, self._moved = True, True, False

    def on_train_batch_begin(self, batch, logs=None):
        """Before the first batch of an epoch, or after an evaluation in the middle of one."""
        if not self._away:
            return
        optimizer = self._optimizer()
        if self._moved and optimizer.place() == "average":
            optimizer.to_gradient_point()
        else:
            optimizer.go_on()
        self._away = False

    def on_train_batch_end(self, batch, logs=None):
        """After the last batch of an epoch, before any callback's ``on_epoch_end``."""
        steps = self.params.get("steps")
        if self.model.stop_training or (steps is not None and batch + 1 >= steps):
            self._to_average()

    def on_epoch_end(self, epoch, logs=None):
        """After an epoch whose number of batches was not known."""
        self._to_average()

    def on_train_end(self, logs=None):
        """The last epoch has left the model at the average, or ``EarlyStopping`` at its best."""
        self._fitting = False

    def on_test_begin(self, logs=None):
        """Before an evaluation."""
        optimizer = self._optimizer()
        if self._fitting:
            self._to_average()
        elif optimizer.built and optimizer.place() == "gradient point":
            self._kept = [ops.convert_to_numpy(v) for v in self.model.trainable_variables]
            optimizer.to_average()

    def on_test_end(self, logs=None):
        """After an evaluation outside of ``fit``: put back what was there."""
        if self._kept is not None:
            for variable, value in zip(self.model.trainable_variables, self._kept, strict=True):
                variable.assign(value)
            self._kept = None

    on_predict_begin, on_predict_end = on_test_begin, on_test_end
