"""A warmup in front of the rule that lowers the rate on a plateau."""

from anneal_utils import _checks
from anneal_utils.callbacks import _optimizers

import keras


class WarmupPlateau(keras.callbacks.ReduceLROnPlateau):
    """``ReduceLROnPlateau`` after a linear warmup of ``warmup`` batches up to ``peak``.

    Batch t of the warmup (counted by the optimizer, so a resumed run goes on with it) has the rate
    ``peak * (t + 1) / (warmup + 1)``, as ``schedules.build(warmup=)`` has; then the rate is
    ``peak``, and Keras's own callback, which takes ``rules``, lowers it. Epochs with a batch of the
    warmup are not counted by that rule: what their loss says is about the warmup (timm's
    ``PlateauLRScheduler`` has it so). ``peak`` None: the rate that the optimizer has at step 0.

    ``ValueError`` for a rate that is a schedule, for ``steps_per_execution`` > 1 during the warmup
    (the rate could not change with each batch) and for a run resumed inside it without ``peak``.

    >>> plateau = WarmupPlateau(100, monitor="val_loss", factor=0.5, patience=3)
    >>> history = model.fit(x, y, validation_split=0.2, callbacks=[plateau])  # doctest: +SKIP
    """

    def __init__(self, warmup: int, peak: float | None = None, **rules):
        """``warmup`` in batches; ``rules`` as for ``keras.callbacks.ReduceLROnPlateau``."""
        super().__init__(**rules)
        self.warmup = _checks.count("warmup", warmup)
        self.peak = None if peak is None else _checks.positive("peak", peak)

    def on_train_begin(self, logs=None):
        """Find the counter and the rate to rise to."""
        super().on_train_begin(logs)
        optimizer = _optimizers.innermost(self.model)
        self._counter = _optimizers.counter(optimizer)
        source = _optimizers.source(optimizer)
        if isinstance(source, _optimizers.Schedule):
            rule = "must be a number for WarmupPlateau, which sets the rate"
            _checks.fail("optimizer.learning_rate", type(source).__name__, rule)
        done = _optimizers.done(self)
        self._rising = done <= self.warmup  # the step after the warmup is given the peak
        self._top = self.peak
        if self._rising and self.peak is None:
            if done:
                rule = f"must be given where a run is resumed at step {done}, in the warmup"
                _checks.fail("peak", None, rule)
            self._top = _checks.positive(
                "optimizer.learning_rate", float(optimizer.learning_rate.numpy())
            )
        if done < self.warmup and self.model.steps_per_execution > 1:
            rule = "must be 1 during the warmup, in which every batch has another rate"
            _checks.fail("steps_per_execution", self.model.steps_per_execution, rule)

    def on_epoch_begin(self, epoch, logs=None):
        """Whether the epoch has a batch of the warmup."""
        self._of_warmup = _optimizers.done(self) < self.warmup

    def on_train_batch_begin(self, batch, logs=None):
        """Set the rate of the batch, and for the first one after the warmup the peak."""
        if not self._rising:
            return
        done = _optimizers.done(self)
        if done <= self.warmup:  # else a backup was loaded, with a rate that is its own
            self.model.optimizer.learning_rate = self._top * (done + 1) / (self.warmup + 1)
        self._rising = done < self.warmup

    def on_epoch_end(self, epoch, logs=None):
        """Let Keras's rule see the epoch, unless it was one of the warmup."""
        if not self._of_warmup:
            super().on_epoch_end(epoch, logs)
        elif logs is not None:
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)
