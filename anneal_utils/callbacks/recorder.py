"""The rates that moved the weights, observed inside the compiled step."""

import functools
import operator

from anneal_utils import _backend, _checks
from anneal_utils.callbacks import _optimizers, _probes
from anneal_utils.optimizers import unwrap

import keras
import numpy as np


class RateRecorder(keras.callbacks.Callback):
    """Records the rate that ``fit`` really applied in each batch.

    Three lists have one entry per batch, and go on in a second ``fit``: ``rates`` (float, the rate
    of the batch's last update; without an update, the rate in effect), ``updates`` (how often
    ``model.optimizer`` has changed the weights: 0 while gradients are accumulated or after an
    overflow of half precision; 2 where a ``train_step`` applies it twice) and ``losses`` (Keras's
    running mean within the epoch, the last of the group when ``steps_per_execution`` > 1; NaN
    where the step returns no ``"loss"``). ``moved`` is ``updates`` as booleans.

    The rate is that which the optimizer is given for its update; what an optimizer makes of it
    (a warmup of its own, Polyak's or a learned rate, the multipliers of layers) is its affair. It
    is read inside the step, where it meets the gradients, so the place in the list of
    callbacks does not matter for it. For that the step is traced anew in each ``fit``: a schedule
    set by ``optimizer.learning_rate = schedule``, or another ``model.optimizer``, acts from the
    next ``fit`` on. Without the recorder Keras goes on with the step that it has traced, at the
    old rate, until ``model.compile`` is called again. (In a loop of fits of a batch or two,
    TensorFlow warns that it traces often.) Weights are the same bits with and without
    it (under XLA within rounding), and nothing of it is saved with the model.

    ``learning_rate`` is added to the logs of every batch and epoch (that of the last batch), for
    ``History`` and for the callbacks that come after it. Keras's own callbacks write the rate of
    the *next* step under that name, which is another number under a schedule: put the recorder
    after ``LearningRateScheduler`` and ``ReduceLROnPlateau`` (it warns if one has the last word)
    and before ``TensorBoard(update_freq="batch")``, whose ``epoch_learning_rate`` stays Keras's.

    ``ValueError`` for what can not be observed: several rates (``MultiOptimizer``), a strategy
    other than ``MirroredStrategy`` and ``OneDeviceStrategy`` (under JAX and PyTorch any
    ``keras.distribution``), a ``train_step`` that brings a compiled step of its own, an optimizer
    that does not update as Keras's do. Under JAX the step calls back and every batch is waited
    for, which costs small models some of their speed.

    >>> recorder = RateRecorder()
    >>> history = model.fit(x, y, epochs=2, callbacks=[recorder])  # doctest: +SKIP
    >>> recorder.rates[:2], history.history["learning_rate"]  # doctest: +SKIP
    """

    def __init__(self):
        """Start with empty records."""
        super().__init__()
        self.rates: list[float] = []
        self.updates: list[int] = []
        self.losses: list[float] = []

    @property
    def moved(self) -> list[bool]:
        """Whether the batch has moved the weights, one entry per batch."""
        return [count > 0 for count in self.updates]

    def on_train_begin(self, logs=None):
        """Have the step traced anew, with the observation in it."""
        self._first, self._written, self._told = len(self.rates), None, False
        self._counter = _optimizers.counter(_optimizers.innermost(self.model))
        self._probe = _probes.of(self.model)
        _observe(self.model, self._probe, self.params)

    def on_train_batch_begin(self, batch, logs=None):
        """Forget what a call without data may have left: the end of data ends an epoch."""
        self._before = _optimizers.done(self)
        self._probe.clear()

    def on_train_batch_end(self, batch, logs=None):
        """Take over what the step has written, an entry per batch of this call."""
        rates, updates = self._probe.read()
        counted = _optimizers.done(self) != self._before
        if not rates or (counted and not self._probe.used):
            _checks.fail(
                "model",
                self.model.name,
                "must train by its train_step, and the optimizer by Keras's own apply, outside of "
                "tf.functions of yours: RateRecorder can not see into others",
            )
        self.rates += rates
        self.updates += updates
        logs = {} if logs is None else logs
        self.losses += [float(logs.get("loss", np.nan))] * len(rates)
        logs["learning_rate"] = rates[-1]

    def on_epoch_begin(self, epoch, logs=None):
        """See whether the epoch before has kept its rate."""
        self._check_logs()

    def on_epoch_end(self, epoch, logs=None):
        """Put the rate of the last batch into the logs."""
        if logs is not None and len(self.rates) > self._first:
            logs["learning_rate"] = self.rates[-1]
            self._written = (epoch, logs, self.rates[-1])

    def on_train_end(self, logs=None):
        """Leave nothing behind: the next ``fit`` traces its own step."""
        self._check_logs()
        if hasattr(self.model.train_function, "observed"):
            self.model.train_function = None
        updates = self.updates[self._first :]
        if updates and not any(updates):
            _optimizers.say(
                f"RateRecorder: model.optimizer has moved nothing in {len(updates)} batches (does "
                "train_step use it, and is every gradient finite?); rates holds what was set."
            )

    def _check_logs(self):
        epoch, logs, rate = self._written or (0, {}, None)
        if logs.get("learning_rate", rate) != rate and not self._told:
            self._told = True
            _optimizers.say(
                f"RateRecorder: another callback wrote learning_rate = "
                f"{logs['learning_rate']:g} into the logs of epoch {epoch}, where {rate:g} was "
                "applied; put RateRecorder after it in the list."
            )


def _observe(model, probe, fit) -> None:
    """Have ``fit`` use a step that ``probe`` observes; the function that it calls tells of it."""
    # Another recorder of the same fit (all callbacks share its params) observes already.
    seen, step = getattr(model.train_function, "observed", (None, None))
    first = seen is None or seen is not fit
    if _backend.NAME == "torch":  # nothing is traced: the function of a batch is wrapped
        if first:
            model.make_train_function(force=True)
        step = probe.around(model.train_function)
        model.train_function = step
    else:
        step = model.train_step if first else step
        if hasattr(step, "get_concrete_function"):
            _checks.fail(
                "model.train_step",
                "a tf.function",
                "must be a plain method for RateRecorder: it would keep its own old trace, and "
                "fit compiles the step itself",
            )
        step = probe.around(step)
        _make(model, step)
    model.train_function.observed = (fit, step)


def _make(model, step) -> None:
    """Have ``fit`` compile ``step``."""
    own = vars(model)  # not setattr, in which Keras looks for layers to track
    before = own.get("train_step")
    own["train_step"] = step
    try:
        model.make_train_function(force=True)
    finally:
        del own["train_step"]
        if before is not None:
            own["train_step"] = before


def retrace(model, fit) -> None:
    """Have the step traced anew, unless the optimizer and schedule of now are known to act in it.

    ``fit`` are the callbacks' ``params``: what a recorder of this fit observes is new already.
    """
    acting = (model.optimizer, _optimizers.source(unwrap(model.optimizer)))
    observed, _ = getattr(model.train_function, "observed", (None, None))
    traced = getattr(model.train_function, "acting", ())
    same = len(traced) == 2 and all(map(operator.is_, traced, acting))
    if not same and (observed is None or observed is not fit):
        if _backend.NAME == "jax":  # which knows a method that it has traced before
            step = model.train_step
            _make(model, functools.wraps(step)(lambda *args: step(*args)))
        else:
            model.make_train_function(force=True)
        model.train_function.acting = acting
