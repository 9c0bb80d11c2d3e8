"""The learning-rate range test as a callback."""

import random

from anneal_utils import _checks, _internals, _needs
from anneal_utils._backend import tf
from anneal_utils.callbacks import _optimizers, advice
from anneal_utils.callbacks.recorder import retrace
from anneal_utils.optimizers import chain

import keras
import numpy as np


class RangeTest(keras.callbacks.Callback):
    """Learning-rate range test (Smith 2017): the rate rises from ``start`` to ``stop`` over steps.

    Use it alone: ``model.fit(x, y, epochs=..., callbacks=[test])``; training stops by itself and
    the model's weights, the optimizer's slots, its step count and its rate are put back exactly,
    and so are the seeds of layers, of Keras, NumPy and Python (what ``fit`` draws from
    TensorFlow's own global seed, to shuffle, is not). An error or Ctrl-C in the middle of a step
    puts all back too; after one elsewhere ``restore()`` does, or the next use of the same object,
    unless the model was trained or compiled since.

    ``test.frame`` (``test.rows`` without pandas) holds ``step, rate, loss`` (the loss of each
    batch, before its update) of what was measured, also after an error, and ``test.message`` says
    in one sentence how the sweep ended. It ends early when the loss is not finite or above
    ``factor`` times the lowest so far. Where the lowest is negative, or within 1 % of the losses'
    spread from zero, a multiple of it means nothing: then ``factor`` - 1 times the spread (of the
    losses up to the lowest one, and of ten at least) is too much of a rise. A ``UserWarning``
    says where ``fit`` has ended before the sweep, and where the optimizer did not act at all.

    ``suggest()`` reads the curve by the rules in common use, which differ; ``plot()`` draws both.
    Notebook 01 shows how far the advice of one such sweep can be trusted.

    ``ValueError`` for what would make the curve mean something else: a schedule (compile with a
    number, test, and compile again with the schedule: a schedule that is only put into the
    optimizer does not reach the compiled step), ``steps_per_execution`` > 1, accumulated
    gradients, several rates, a model that is not built, a ``train_step`` without ``"loss"``.

    Source: L. N. Smith, *Cyclical learning rates for training neural networks*, arXiv:1506.01186.

    >>> test = RangeTest(start=1e-5, stop=10, steps=200)
    >>> history = model.fit(x, y, epochs=99, callbacks=[test])  # doctest: +SKIP
    >>> test.message, test.suggest()  # doctest: +SKIP
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
        self._rows: list[tuple[int, float, float]] = []
        self._saved, self._reason = None, None

    @property
    def rows(self) -> list[tuple[int, float, float]]:
        """What was measured: step (from 0), rate and loss of each batch."""
        return list(self._rows)

    @property
    def frame(self):
        """The same as a ``pandas.DataFrame`` with the columns ``step``, ``rate`` and ``loss``."""
        pd = _needs.package("pandas", "RangeTest.frame")
        frame = pd.DataFrame(self._rows, columns=["step", "rate", "loss"])
        return frame.astype({"step": int, "rate": float, "loss": float})

    @property
    def message(self) -> str:
        """How the sweep ended, in one sentence: after how many steps, at which rate, and why."""
        if self._reason is None:
            return "not run yet"
        done, steps = len(self._rows), len(self.table)
        rate = f", at rate {self._rows[-1][1]:.3g}" if done else ""
        return f"ended after {done} of {steps} steps{rate}{self._reason}"

    def suggest(self):
        """Rates that the common rules read from the sweep; see ``advice.suggestions``."""
        return advice.suggestions(self.frame, len(self.table))

    def plot(self, ax=None):
        """The sweep and the suggested rates on ``ax`` (new if None), which is returned."""
        return advice.plot(self.frame, len(self.table), ax)

    def on_train_begin(self, logs=None):
        """Remember everything that training will change."""
        self._undo()
        self._check()
        self._swept = self.model
        self._optimizer = _optimizers.innermost(self.model)
        links = chain(self.model.optimizer)
        if not links[0].built:  # so that the slots exist before they move
            links[0].build(self.model.trainable_variables)
        held = [*self.model.variables, *(v for link in links for v in link.variables)]
        # What layers keep without telling Keras: the variables that TensorFlow finds in them.
        if tf is not None:
            held += [
                node
                for node in tf.train.TrackableView(self.model).descendants()
                if isinstance(node, tf.Variable)
            ]
        if (seeds := _internals.global_seeds()) is not None:
            held.append(seeds)
        held = {id(variable): variable for variable in held}.values()
        self._saved = [(variable, variable.numpy()) for variable in held]
        self._random = random.getstate(), np.random.get_state()
        self._counter = _optimizers.counter(self._optimizer)
        self._before = _optimizers.done(self)
        self._rows, self._complete, self._reason = [], False, ": interrupted"
        retrace(self.model, self.params)

    def on_train_batch_begin(self, batch, logs=None):
        """Set this step's rate; clear the running mean so that the loss is this batch's own."""
        if not self._rows:  # not before: another callback may have had the step traced anew
            self._guard()
        self.model.reset_metrics()
        self._optimizer.learning_rate = self.table[min(len(self._rows), len(self.table) - 1)]

    def on_train_batch_end(self, batch, logs=None):
        """Record, and stop at the end of the table or when the loss has left."""
        if "loss" not in (logs or {}):
            self.restore()
            _checks.fail("train_step", sorted(logs or {}), 'must return "loss" for a range test')
        step, loss = len(self._rows), float(logs["loss"])
        self._rows.append((step, float(self.table[step]), loss))
        reason = advice.gone([row[2] for row in self._rows], self.factor)
        if reason or step + 1 == len(self.table):
            self._complete, self._reason = True, reason and f": {reason}"
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        """Put everything back."""
        moved = _optimizers.done(self) != self._before
        self.restore()
        if not self._complete:
            self._reason = ": fit ended before the sweep; give it more epochs"
        elif not moved:
            self._reason += "; model.optimizer has updated nothing, so the losses tell nothing"
        if not (self._complete and moved):
            _optimizers.say(f"RangeTest {self.message}")

    def restore(self):
        """Put the model back to where the sweep began; nothing to do if that is done already."""
        if self._saved is None:
            return
        if _internals.interrupted(self._swept):
            _internals.forget_fit(self._swept)
        for variable, value in self._saved:
            variable.assign(value)
        random.setstate(self._random[0])
        np.random.set_state(self._random[1])
        self._saved = None
        step = self._swept.train_function
        if hasattr(step, "guarded"):
            self._swept.train_function = step.guarded

    def _undo(self):
        """Restore after an interruption, unless the user has trained or compiled since."""
        if self._saved is None or _optimizers.innermost(self._swept) is not self._optimizer:
            return
        if _internals.interrupted(self._swept):
            self.restore()
        else:
            done = _optimizers.count(self._counter) - self._before
            if 0 <= done <= len(self._rows) + 1:
                self.restore()

    def _check(self):
        if not self.model.built:
            _checks.fail(
                "model",
                self.model.name,
                "must be built for a range test, which puts its weights back: give it a "
                "keras.Input, or call it on a batch",
            )
        optimizer = _optimizers.innermost(self.model)
        source = _optimizers.source(optimizer)
        if not isinstance(source, keras.Variable):
            _checks.fail(
                "optimizer.learning_rate",
                type(source).__name__,
                "must be a number for a range test: compile with a float, test, and compile again "
                "with the schedule (put in without a new compile, it would not act)",
            )
        if self.model.steps_per_execution > 1:
            _checks.fail(
                "steps_per_execution",
                self.model.steps_per_execution,
                "must be 1 for a range test, which sets the rate at every step",
            )
        if optimizer.gradient_accumulation_steps:
            _checks.fail(
                "gradient_accumulation_steps",
                optimizer.gradient_accumulation_steps,
                "must be None for a range test: batches without an update have no rate",
            )

    def _guard(self):
        """Put all back if the step fails."""
        step = self.model.train_function
        ends = (StopIteration,) if tf is None else (StopIteration, tf.errors.OutOfRangeError)

        def guarded(*args):
            try:
                return step(*args)
            except ends:  # the end of an epoch
                raise
            except BaseException:
                self._undo()
                raise

        vars(guarded).update(vars(step), guarded=step)
        self.model.train_function = guarded
