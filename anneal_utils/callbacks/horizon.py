"""Whether training is as long as its schedule was planned for."""

from anneal_utils import _backend, _checks, schedules
from anneal_utils.callbacks import _optimizers
from anneal_utils.callbacks.recorder import retrace

import keras

SHORT = 0.9  # of the horizon: what overflow of half precision or a last batch takes is no news


class HorizonCheck(keras.callbacks.Callback):
    """Says once in each ``fit`` when training and the optimizer's schedule differ in length.

    A ``UserWarning``, at the beginning where ``fit`` knows its steps (else after the first epoch,
    or on the way, when the horizon is passed), if training goes on past the last planned step or
    ends before 90 % of them; at the end, if something like ``EarlyStopping`` has ended it there.
    A schedule counts on in a second ``fit``: one that is done is said at once.

    Training that is planned in pieces, one ``fit`` after the other, ends early in all but the
    last: with ``pieces=True`` only what goes on past the plan is said, and a resumed fit
    (``initial_epoch``) whose step count has been lost, as by ``load_weights`` into an optimizer
    that is not built, which begins the schedule again.

    What Keras does not tell a callback is not seen: with ``steps_per_epoch`` the last steps of an
    epoch may be missing (``schedules.horizon`` counts them). With data of unknown length Keras
    counts, in a graph, a step too many in every epoch; ``tf.data.experimental.assert_cardinality``
    prevents that.

    ``steps`` is the planned number of batches; None asks the schedule (``schedules.planned``).
    ``ValueError`` for a schedule without a horizon, and for a rate that is a number (a
    ``LearningRateScheduler`` may change it, on a plan that is its own), unless ``steps`` is given.
    The step is traced anew after ``optimizer.learning_rate = schedule`` (see ``RateRecorder``),
    so that the schedule that is read here is the one that acts.

    >>> check = HorizonCheck()
    >>> history = model.fit(x, y, epochs=4, callbacks=[check])  # doctest: +SKIP
    UserWarning: HorizonCheck: the schedule was planned for 100 steps, where its rate is 0; this
    fit goes on to step 400: plan for 400, or compile with a new schedule.
    """

    def __init__(self, steps: int | None = None, *, pieces: bool = False):
        """The number of batches that were planned, or None; ``pieces``: in several fits."""
        super().__init__()
        self.pieces = pieces
        self.steps = None if steps is None else _checks.count("steps", steps)

    def on_train_begin(self, logs=None):
        """Find the horizon."""
        self._optimizer = _optimizers.innermost(self.model)
        self._schedule = _optimizers.source(self._optimizer)
        self._counter = _optimizers.counter(self._optimizer)
        if not isinstance(self._schedule, _optimizers.Schedule):
            self._schedule = None
        self._planned = self.steps if self.steps is not None else schedules.planned(self._schedule)
        if self._planned is None:
            what = type(self._schedule).__name__ if self._schedule else "a number"
            _checks.fail(
                "steps",
                None,
                f"must be given, since the optimizer's learning_rate ({what}) has no horizon",
            )
        retrace(self.model, self.params)
        self._epoch, self._said = None, False

    def on_epoch_begin(self, epoch, logs=None):
        """Only now it is known at which epoch ``fit`` begins, and at which step if it resumes."""
        if self._epoch is not None:
            return
        self._epoch, self._start, batches = epoch, self._done(), self.params.get("steps")
        if self._start >= self._planned:
            self._say(
                f"{self._of_the_schedule()}, and {self._start} are done before this fit begins: "
                "it trains at what is left; compile with a new schedule."
            )
        elif epoch and not self._start:
            self._say(
                f"this fit resumes at epoch {epoch}, but its optimizer is at step 0, so the "
                "schedule begins again: restore the step count with the weights (load the whole "
                "model, or build the optimizer before load_weights)."
            )
        elif batches:
            self._compare(batches)

    def on_train_batch_end(self, batch, logs=None):
        """Watch the horizon while the length of an epoch is not known."""
        if not self._said and not self.params.get("steps") and self._done() > self._planned:
            self._say(
                f"{self._of_the_schedule()}; this fit goes on past that: plan for more, or "
                "compile with a new schedule."
            )

    def on_epoch_end(self, epoch, logs=None):
        """After the first epoch its length is known."""
        if epoch == self._epoch and not self.params.get("steps"):
            self._compare(self._done() - self._start)

    def on_train_end(self, logs=None):
        """Say what has ended early."""
        if not self.pieces and self._done() < SHORT * self._planned:
            self._say(
                f"{self._of_the_schedule()}; this fit has ended at step {self._done()}, at "
                f"{self._rate(self._done())}: plan for what you train, or train on."
            )

    def _compare(self, batches: int):
        end = self._start + batches * (self.params["epochs"] - self._epoch)
        if end > self._planned:
            self._say(
                f"{self._of_the_schedule()}; this fit goes on to step {end}: plan for {end}, or "
                "compile with a new schedule."
            )
        elif end < SHORT * self._planned and not self.pieces:
            self._say(
                f"{self._of_the_schedule()}; this fit ends at step {end}, at "
                f"{self._rate(end)}: plan for {end}, or train on."
            )

    def _say(self, sentence: str):
        if not self._said:
            self._said = True
            _optimizers.say(f"HorizonCheck: {sentence}")

    def _of_the_schedule(self) -> str:
        if self._schedule is None:
            return f"the rates were planned for {self._planned} steps"
        rate = self._rate(self._planned)
        return f"the schedule was planned for {self._planned} steps, where its rate is {rate}"

    def _rate(self, step: int) -> str:
        if self._schedule is None:
            return f"{float(self._optimizer.learning_rate):.4g}"
        return f"{_backend.at(self._schedule, step):.4g}"

    def _done(self) -> int:
        return _optimizers.done(self)
