"""Callbacks for ``model.fit``: the rates that were applied, and the range test."""

from anneal_utils import _checks

import keras
import numpy as np
import pandas as pd
import tensorflow as tf

Schedule = keras.optimizers.schedules.LearningRateSchedule


def _inner(optimizer):
    """Mixed precision wraps the optimizer; rate and step count are those of the inner one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


class RateRecorder(keras.callbacks.Callback):
    """Records the rate that ``fit`` really applied at each optimizer step.

    After training ``rates`` and ``losses`` are lists with one entry per step (``losses``: Keras's
    running mean within the epoch, the last of the batch group when ``steps_per_execution`` > 1).
    ``History`` does not hold a schedule's rate, and ``optimizer.learning_rate`` read after a
    batch is already the next one's, so the rate is computed from the steps that were done.
    """

    def __init__(self):
        """Start with empty records."""
        super().__init__()
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_begin(self, logs=None):
        """Find the counter the schedule reads (it counts batches under gradient accumulation)."""
        optimizer = _inner(self.model.optimizer)
        self._skips = optimizer is not self.model.optimizer
        self._counter, source = optimizer._iterations, optimizer._learning_rate
        # As a graph, as in fit: TensorFlow's eager arithmetic differs from it in the last bit.
        self._schedule = (
            tf.function(source.__call__, autograph=False).get_concrete_function(
                tf.TensorSpec([], tf.int64)
            )
            if isinstance(source, Schedule)
            else None
        )

    def on_train_batch_begin(self, batch, logs=None):
        """Note the step count before the update."""
        self._batch, self._before = batch, int(self._counter)

    def on_train_batch_end(self, batch, logs=None):
        """Record the rate of each step that this call has done."""
        done, skipped = int(self._counter) - self._before, 0
        if self._skips:
            # Half precision skips the update after an overflow: its step count, and so its rate,
            # stay. Of several batches in one call, the first are taken to be the skipped ones.
            batches = min(batch + 1, self.params.get("steps") or batch + 1) - self._batch
            skipped = max(0, batches - done)
        steps = [self._before] * skipped + [self._before + step for step in range(done)]
        if self._schedule:
            self.rates += [float(self._schedule(tf.constant(s, tf.int64))) for s in steps]
        else:
            self.rates += [float(self.model.optimizer.learning_rate)] * len(steps)
        self.losses += [float(logs["loss"])] * len(steps)


class RangeTest(keras.callbacks.Callback):
    """Learning-rate range test (Smith 2017): the rate rises from ``start`` to ``stop`` over steps.

    Use it alone: ``model.fit(x, y, epochs=..., callbacks=[test])``; training stops by itself and
    the model's weights, the optimizer's slots, its step count and its rate are put back exactly.
    ``test.frame`` then holds ``step, rate, loss`` (the loss of each batch, before its update).
    It stops early when the loss is not finite or above ``factor`` times the lowest so far.
    The optimizer needs a number as its rate, not a schedule. Notebook 01 shows how far the
    advice of one such sweep can be trusted.
    """

    def __init__(
        self, start: float = 1e-5, stop: float = 10.0, steps: int = 100, factor: float = 4.0
    ):
        """Rates rise geometrically from ``start`` to ``stop`` in ``steps`` steps."""
        super().__init__()
        start, stop = _checks.positive("start", start), _checks.positive("stop", stop)
        if stop <= start:
            _checks.fail("stop", stop, f"must be > start = {start:g}")
        self.factor = _checks.number("factor", factor, low=1, open_low=True)
        self.table = np.geomspace(start, stop, _checks.count("steps", steps, low=2))
        self.frame = pd.DataFrame(columns=["step", "rate", "loss"])

    def on_train_begin(self, logs=None):
        """Remember everything that training will change."""
        optimizer = self.model.optimizer
        source = _inner(optimizer)._learning_rate
        if isinstance(source, Schedule):
            _checks.fail(
                "optimizer.learning_rate",
                type(source).__name__,
                "must be a number for a range test; compile with a float, then put the schedule "
                "back",
            )
        if self.model.steps_per_execution > 1:
            _checks.fail(
                "steps_per_execution",
                self.model.steps_per_execution,
                "must be 1 for a range test, which sets the rate at every step",
            )
        optimizer.build(self.model.trainable_variables)  # so that the slots exist before they move
        variables = {id(v): v for v in [*self.model.variables, *optimizer.variables]}
        self._saved = [(v, v.numpy()) for v in variables.values()]
        self._rows: list[tuple[int, float, float]] = []

    def on_train_batch_begin(self, batch, logs=None):
        """Set this step's rate; clear the running mean so that the loss is this batch's own."""
        self.model.reset_metrics()
        self.model.optimizer.learning_rate = self.table[min(len(self._rows), len(self.table) - 1)]

    def on_train_batch_end(self, batch, logs=None):
        """Record, and stop at the end of the table or when the loss has left."""
        loss = float(logs["loss"])
        step = len(self._rows)
        self._rows.append((step, float(self.table[step]), loss))
        lowest = min(row[2] for row in self._rows)
        if step + 1 == len(self.table) or not loss <= self.factor * lowest:
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Put everything back and publish the measurements."""
        for variable, value in self._saved:
            variable.assign(value)
        self.frame = pd.DataFrame(self._rows, columns=["step", "rate", "loss"])
