"""The rates that moved the weights, observed inside the compiled step."""

import contextlib
import functools
import operator

from anneal_utils import _checks, _internals
from anneal_utils.callbacks import _optimizers
from anneal_utils.optimizers import unwrap

import keras
import numpy as np
import tensorflow as tf

# Their replicas are elsewhere, or their variables are: not tried, so not promised.
_REMOTE = (
    tf.distribute.experimental.CentralStorageStrategy,
    tf.distribute.MultiWorkerMirroredStrategy,
    tf.distribute.ParameterServerStrategy,
    tf.distribute.TPUStrategy,
)


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
    other than ``MirroredStrategy`` and ``OneDeviceStrategy``, a ``train_step`` that brings a
    compiled step of its own, an optimizer that does not update as Keras's do.

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
        strategy = self.model.distribute_strategy
        if isinstance(strategy, _REMOTE):
            _checks.fail(
                "tf.distribute strategy",
                type(strategy).__name__,
                "must be MirroredStrategy, OneDeviceStrategy or none for RateRecorder",
            )
        self._probe = _Probe(self.model)
        # Another recorder of the same fit (all callbacks share its params) observes already.
        fit, step = getattr(self.model.train_function, "observed", (None, None))
        if fit is None or fit is not self.params:
            step = self.model.train_step
        if hasattr(step, "get_concrete_function"):
            _checks.fail(
                "model.train_step",
                "a tf.function",
                "must be a plain method for RateRecorder: it would keep its own old trace, and "
                "fit compiles the step itself",
            )
        _observe(self.model, self._probe.around(step), self.params)

    def on_train_batch_begin(self, batch, logs=None):
        """Forget what a call without data may have left: the end of data ends an epoch."""
        self._probe.clear()
        self._before = _optimizers.count(self._counter)

    def on_train_batch_end(self, batch, logs=None):
        """Take over what the step has written, an entry per batch of this call."""
        rates, updates = self._probe.read()
        counted = _optimizers.count(self._counter) != self._before
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


def _observe(model, step, fit) -> None:
    """Have ``fit`` use ``step``; the function that it calls tells of it."""
    own = vars(model)  # not setattr, in which Keras looks for layers to track
    before = own.get("train_step")
    own["train_step"] = step
    try:
        model.make_train_function(force=True)
    finally:
        del own["train_step"]
        if before is not None:
            own["train_step"] = before
    model.train_function.observed = (fit, step)


def retrace(model, fit) -> None:
    """Have the step traced anew, unless the optimizer and schedule of now are known to act in it.

    ``fit`` are the callbacks' ``params``: what a recorder of this fit observes is new already.
    """
    acting = (model.optimizer, _optimizers.source(unwrap(model.optimizer)))
    observed, _ = getattr(model.train_function, "observed", (None, None))
    traced = getattr(model.train_function, "acting", ())
    same = len(traced) == 2 and all(map(operator.is_, traced, acting))
    if not same and (observed is None or observed is not fit):
        model.make_train_function(force=True)
        model.train_function.acting = acting


class _Probe:
    """Variables into which the traced step writes, one place for each batch of a call.

    They are read and written as a whole: under a strategy each replica has its own, of which the
    first one's is read, and variables of that kind know no other way.
    """

    def __init__(self, model):
        self.model, self.used, self._inside = model, False, 0
        self._places = np.arange(max(1, int(model.steps_per_execution)))
        options = dict(
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        with model.distribute_strategy.scope():
            self._batches = tf.Variable(0, dtype=tf.int64, **options)
            # float64 holds a rate of any of Keras's types as it is
            self._rates = tf.Variable(np.zeros(len(self._places)), dtype=tf.float64, **options)
            self._updates = tf.Variable(np.zeros(len(self._places)), dtype=tf.int64, **options)

    def clear(self):
        """Begin a call."""
        self._batches.assign(0)

    def read(self) -> tuple[list[float], list[int]]:
        """Rates and numbers of updates of the batches of this call."""
        batches = int(self._batches.read_value())
        return (
            self._rates.read_value().numpy()[:batches].tolist(),
            self._updates.read_value().numpy()[:batches].tolist(),
        )

    def around(self, step):
        """``step`` with the observation: while it is traced, or at each call when run eagerly."""

        @functools.wraps(step)
        def observed(data):
            optimizer = _optimizers.innermost(self.model)
            here = self._places == self._batches.read_value()
            self._write(self._rates, here, self._float(optimizer.learning_rate))
            self._write(self._updates, here, 0)
            with self._hooked(optimizer):
                outputs = step(data)
            self._batches.assign_add(1)
            return outputs

        return observed

    @contextlib.contextmanager
    def _hooked(self, optimizer):
        """Every update of ``optimizer`` in the block is written down.

        The replicas of a strategy are traced by turns, so this may be nested.
        """
        own, name = vars(optimizer), _internals.UPDATE
        if not self._inside:
            update, self._before = getattr(optimizer, name), own.get(name)

            def recorded(grads, variables, learning_rate):
                self.used = True
                here = self._places == self._batches.read_value()
                self._write(self._rates, here, self._float(learning_rate))
                self._write(self._updates, here, self._updates.read_value() + 1)
                return update(grads, variables, learning_rate)

            own[name] = recorded
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                del own[name]
                if self._before is not None:
                    own[name] = self._before

    @staticmethod
    def _write(variable, here, value):
        old = variable.read_value()
        variable.assign(tf.where(here, tf.cast(value, old.dtype), old))

    @staticmethod
    def _float(rate):
        return tf.cast(keras.ops.convert_to_tensor(rate), tf.float64)
