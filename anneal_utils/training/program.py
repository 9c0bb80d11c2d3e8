"""One whole training as one compiled function, and the programs that were compiled last."""

import contextlib
import queue
import threading
import uuid
import warnings
from dataclasses import replace

from anneal_utils import _checks, _internals, identity
from anneal_utils._cache import Recent
from anneal_utils.optimizers import catalogue as optimizers
from anneal_utils.problems import Problem
from anneal_utils.training import _keras
from anneal_utils.training.feedback import plateau_step, plateau_vector
from anneal_utils.training.recipes import Run
from anneal_utils.training.starts import starts
from anneal_utils.training.tensors import data_of, nbytes_of, rows_of, tensors_of
from anneal_utils.training.unchanging import unchanging

import keras
import numpy as np
import tensorflow as tf


class Program:
    """One model, one optimizer, one horizon: a training as a single compiled function.

    Compiled once, whatever the number of threads: each call brings variables of its own (a
    *seat*) for those that were traced. A run never sees another run's state: every variable that
    the traced function captured is set at its start, or the program is refused by its name.

    ``digest`` names what it computes (see :mod:`anneal_utils.identity`); ``readable`` tells
    whether all of that could be read, so that results may be kept under it.
    """

    def __init__(self, problem: Problem, run: Run, epochs: int, mode: str):
        """Build, compile and trace; XLA compiles at the first call."""
        _keras.check_optimizer(run)
        self.problem, self.run, self.epochs = problem, run, epochs
        self.steps = problem.steps_per_epoch
        self.model, self.state = _keras.build(problem, seed=0)
        self.starts = starts(problem, self.state)
        first = [variable.numpy() for variable in self.state]
        _keras.check_repeats("problem.build()", problem.name, first, self.starts.first)
        self.table = _keras.Table(epochs * self.steps)
        self.optimizer, self.slots = self._optimizer(seed=0)
        self.fresh = [variable.numpy() for variable in self.slots]
        self.skips = isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)
        # A few optimizers start from a copy of the weights (Schedule-Free) or from random
        # numbers: notice it by moving the weights and building again for another seed.
        moved = [v.numpy() + 1 if v.trainable else v.numpy() for v in self.state]
        slots = self._slots_at(moved, seed=1)
        self.own_slots = identity.digest(slots) != identity.digest(self.fresh)
        if self.own_slots:
            again = self._slots_at(moved, seed=1)
            _keras.check_repeats("optimizer", run.optimizer, slots, again)
        # Data as tensors once; the program captures them, it does not copy them.
        self.data, self.data_digest = data_of(problem)
        # Metrics are made by the first batch; make them before tracing, in eager mode.
        values: list = []
        with _keras.recorded(values) as rest:
            _keras.compile_model(problem, self.model, self.optimizer)
            self.columns = _keras.metrics_of(problem, self.model, self._some())
        self.rest = list(zip(rest, values, strict=True))
        chosen = mode
        if mode == "auto":
            chosen = "xla" if _keras.holds_under_xla(self.model, self.optimizer) else "graph"
        self._trace(chosen)
        opaque = identity.stateful(self.concrete)
        _keras.refuse_foreign_state(self.concrete, opaque)
        lacking = _keras.lacking_under_xla(self.concrete) if chosen == "xla" else []
        if lacking and mode == "xla":
            rule = f"can not compile {', '.join(lacking)}; use mode 'auto' or 'graph'"
            _checks.fail("mode", mode, rule)
        if lacking or (opaque and mode == "auto" and chosen == "xla"):
            warn_once(f"XLA can not compile {', '.join(lacking or opaque)}")
            chosen = "graph"
            self._trace(chosen)
        # Known by its text, which even a program has that can not be read in full.
        if mode == "auto" and chosen == "xla" and self.text in _uncompilable:
            chosen = "graph"
            self._trace(chosen)
        self._name(chosen, opaque)
        self.exact = chosen == "graph"  # then the rates too are to be fit's, to the last bit
        self.may_not_compile = mode == "auto" and chosen == "xla"
        self.nodes = sum(len(part.node_def) for part in identity.functions(self.concrete))
        self.compiled = False
        self.seats: queue.SimpleQueue = queue.SimpleQueue()
        # What Python has recorded for a gradient is kept under a name that threads would share.
        by_turns = "EagerPyFunc" in opaque
        self.turn = threading.Lock() if by_turns else contextlib.nullcontext()

    def _optimizer(self, seed: int):
        """A new optimizer for the model, and its variables in the order in which it made them."""
        with _keras.recorded() as made:
            optimizer = _keras.optimizer_of(replace(self.run, seed=seed), self.table, self.model)
        _keras.work_alone(optimizer)
        _keras.check_new("optimizer", "the optimizer", optimizer.variables, made)
        return optimizer, made

    def _trace(self, mode: str) -> None:
        # Traced and called as a concrete function: TensorFlow warns about many that are not.
        self.concrete = tf.function(
            self._train, jit_compile=mode == "xla", autograph=False
        ).get_concrete_function(
            [variable.numpy() for variable in self.state],
            self.fresh,
            self.table.rates.numpy(),
            np.zeros((self.epochs, self.steps, self.problem.batch_size), "int32"),
            plateau_vector(None),
            *self.tuned_on(0),
        )
        self.text = identity.program(self.concrete)

    def tuned_on(self, seed: int) -> list[np.ndarray]:
        """The rows on which a run of this seed is tuned; none where it is a part of its own."""
        rows = self.problem.rows(seed)
        return [] if rows is None else [rows[1]]

    def _name(self, mode: str, opaque: list[str]) -> None:
        """Set ``traced`` (first values by handle), ``digest`` and ``readable``."""
        readable = not opaque
        groups = {"state": self.state, "slots": self.slots, "table": [self.table.rates]}
        groups["rest"] = [variable for variable, _ in self.rest]
        places = {id(v.handle): f"{g} {i}" for g, vs in groups.items() for i, v in enumerate(vs)}
        places |= {id(tensor): f"data {i}" for i, tensor in enumerate(tensors_of(self.data))}
        variables = {id(variable.handle): variable for variable in self.concrete.variables}
        self.traced = {handle: variable.numpy() for handle, variable in variables.items()}
        captured = []
        for tensor, changed in zip(
            self.concrete.captured_inputs, _keras.changed_inputs(self.concrete), strict=True
        ):
            if id(tensor) in places:
                captured.append(places[id(tensor)])
            elif id(tensor) in variables and changed:
                _checks.fail(
                    "variable",
                    variables[id(tensor)].name,
                    "is changed by the training, and was made neither by problem.build() nor by "
                    "the optimizer: a run would go on where the one before ended; make it there",
                )
            elif id(tensor) in variables:
                captured.append(self.traced[id(tensor)])
            elif tensor.dtype in (tf.resource, tf.variant):
                readable = False  # a table, an iterator: who knows what is in it
            else:
                captured.append(tensor)
        self.readable = readable
        parts = (self.text, captured, self.data_digest)
        self.digest = (
            identity.digest(*parts, mode, identity.environment())
            if readable
            else f"{uuid.uuid4().hex}"  # of this process alone
        )

    def _seat(self) -> list:
        """What the traced function captured, with new variables in the place of its own."""
        variables, captured = [], []
        for tensor in self.concrete.captured_inputs:
            if id(tensor) in self.traced:
                variables.append(tf.Variable(self.traced[id(tensor)]))
                tensor = variables[-1].handle
            captured.append(tensor)
        return [variables, captured]  # a handle lives as long as its variable

    def call(self, *arguments):
        """Train one run, from any thread: (history, first lost step or -1, test, final weights).

        ``history``: float32 [epochs, rate, train numbers, held-out numbers], each as ``columns``;
        ``test``: float32 [numbers], or nothing where there is no test part.
        """
        try:
            seat = self.seats.get_nowait()
        except queue.Empty:
            seat = self._seat()
        tensors = [tf.convert_to_tensor(array) for array in tf.nest.flatten(arguments)]
        with self.turn:
            history, left, test, final = self._called(tensors + seat[1])
            history = history.numpy()  # waits for the end of the run
        self.compiled = True
        self.seats.put(seat)
        return history, int(left), np.array([t.numpy() for t in test], "float32"), final

    def _called(self, tensors: list):
        try:
            return _internals.call_flat(self.concrete, tensors)
        except (tf.errors.InvalidArgumentError, tf.errors.UnimplementedError) as error:
            if self.compiled or not self.may_not_compile or "XLA" not in str(error):
                raise
            _uncompilable.add(self.text)
            reason = str(error).splitlines()[0].rstrip(".")
            raise Uncompilable(f"XLA can not compile {self.problem.name!r} ({reason})") from error

    def slots_of(self, weights, seed: int) -> list[np.ndarray]:
        """What the optimizer keeps at step 0, for the initial ``weights`` and seed of a run."""
        return self._slots_at(weights, seed) if self.own_slots else self.fresh

    def _slots_at(self, weights, seed: int) -> list[np.ndarray]:
        for variable, value in zip(self.state, weights, strict=True):
            variable.assign(value)
        return [variable.numpy() for variable in self._optimizer(seed)[1]]

    def nbytes(self) -> int:
        """What the program keeps in memory, roughly: every value once for each seat and here."""
        values = [v for v in self.traced.values() if hasattr(v, "nbytes")]
        seats = self.seats.qsize() + 2
        data = sum(map(nbytes_of, tensors_of(self.data)))
        # A node takes 11 kB, as Python and as kernels.
        return 11_000 * self.nodes + data + seats * sum(v.nbytes for v in values)

    def _some(self) -> tuple:
        """A few rows to evaluate; as many as an evaluation takes, for models of a fixed batch."""
        size = self.problem.evaluation_batch_size or 1
        return rows_of(self.data["val"], range(min(size, self.problem.samples("val"))))

    def _evaluate(self, part: str, rows=None) -> dict:
        """What an evaluation of a part (of its ``rows``) reports, from metrics that are reset."""
        data, size = self.data[part], self.problem.evaluation_batch_size
        if rows is None:
            count = self.problem.samples(part)
        else:
            count = rows.shape[0]
        if size is None or size >= count:
            logs = self.model.test_step(data if rows is None else rows_of(data, rows))
            return _keras.flat(_internals.metrics_of(self.model, logs))
        rows = tf.range(count) if rows is None else rows
        before = (count - 1) // size  # the last batch, which may be smaller, tells the names
        batches = tf.reshape(rows[: before * size], [before, size])

        def step(rows):
            # Of unknown length, as batches are in fit: Keras weighs losses by a length it knows.
            rows = tf.compat.v1.placeholder_with_default(rows, [None])
            return self.model.test_step(rows_of(data, rows))

        def body(batch):
            step(batches[batch])
            return (batch + 1,)

        tf.while_loop(lambda batch: batch < before, body, (0,))
        return _keras.flat(_internals.metrics_of(self.model, step(rows[before * size :])))

    def _train(self, weights, slots, rates, order, plateau, tune=None):
        for variable, value in zip(self.state, weights, strict=True):
            variable.assign(value)
        for variable, value in zip(self.slots, slots, strict=True):
            variable.assign(value)
        for variable, value in self.rest:
            variable.assign(value)
        self.table.rates.assign(rates)
        # An averaging optimizer's answer, and so what is evaluated, is the average.
        averages = callable(getattr(self.optimizer, "to_average", None))
        names: dict = {}  # of what a training step reports
        others = self.columns[1:] if _keras.steps_its_own_way(self.model) else []
        nothing = tf.zeros(len(self.columns)) if others else 0.0

        def step_body(epoch, step, rate, loss, left):
            rate = tf.cast(self.optimizer.learning_rate, rates.dtype)
            batch = order[epoch, step]
            logs = self.model.train_step(rows_of(self.data["train"], batch))
            names.update(logs)
            if "loss" not in logs:
                _checks.fail("problem.build()", list(logs), "train_step must report 'loss'")
            lost = ~tf.math.is_finite(logs["loss"]) & (left < 0)
            left = tf.where(lost, epoch * self.steps + step, left)
            last = tf.cast(logs["loss"], tf.float32)
            if others:  # what a step of its own way reports, and no metric may know
                told = _keras.flat(logs)
                rest = [tf.cast(told.get(name, np.nan), tf.float32) for name in others]
                last = tf.stack([last, *rest])
            return epoch, step + 1, rate, last, left

        def trained(last) -> list:
            """What the metrics say of the training, or the last step if it reports other things."""
            told = dict(zip(self.columns, tf.unstack(last), strict=True)) if others else {}
            told = told or {"loss": last}
            # Other numbers are of the graph of a step, out of which these alone were brought.
            numbers = _keras.flat(names).values()
            inside = {id(value) for value in numbers if not isinstance(value, keras.Variable)}
            brought = {name: value for name, value in told.items() if name in names}
            found = _keras.flat(_internals.metrics_of(self.model, {**names, **brought}))
            found = {name: value for name, value in found.items() if id(value) not in inside}
            return [found.get(name, told.get(name, np.nan)) for name in self.columns]

        def epoch_body(epoch, left, feedback, history):
            self.model.reset_metrics()
            if self.skips:
                now = tf.where(plateau[1] < 0, rates[epoch * self.steps], self.table.rates)
                self.table.rates.assign(now)
            _, _, rate, last, left = tf.while_loop(
                lambda epoch, step, *_: step < self.steps,
                step_body,
                (epoch, 0, tf.zeros([], rates.dtype), nothing, left),
            )
            train = trained(last)
            self.model.reset_metrics()
            if averages:
                self.optimizer.to_average()
            val = self._evaluate("val", tune)
            if averages:
                self.optimizer.to_gradient_point()
            row = [rate, *train, *(val[name] for name in self.columns)]
            row = tf.stack([tf.cast(number, tf.float32) for number in row])
            history = history.write(epoch, row)
            lower, rate, feedback = plateau_step(plateau, feedback, epoch == 0, rate, val["loss"])
            self.table.rates.assign(tf.where(lower, rate, self.table.rates))
            return epoch + 1, left, feedback, history

        history = tf.TensorArray(
            tf.float32, size=self.epochs, element_shape=(1 + 2 * len(self.columns),)
        )
        start = (tf.constant(np.inf, tf.float64), 0, 0)  # best loss, epochs waited, cooldown left
        _, left, _, history = tf.while_loop(
            lambda epoch, *_: epoch < self.epochs, epoch_body, (0, -1, start, history)
        )
        if averages:
            self.optimizer.to_average()
        test = []
        if "test" in self.data:
            self.model.reset_metrics()
            found = self._evaluate("test")
            test = [tf.cast(found[name], tf.float32) for name in self.columns]
        return history.stack(), left, test, [tf.convert_to_tensor(w) for w in self.model.weights]


class Uncompilable(Exception):
    """XLA turned out not to compile a program; the next of its kind is one in graph mode."""


_uncompilable: set[str] = set()  # texts of such programs
_warned: set[str] = set()


def warn_once(why: str) -> None:
    """Say why something is trained in graph mode."""
    if why not in _warned:
        _warned.add(why)
        warnings.warn(f"{why}: trained in graph mode.", stacklevel=3)


_programs = Recent(512 << 20)  # the most recently used programs, so that a re-run is instant
_quick = Recent(256)  # which of them, where that is known without tracing


def program_of(problem: Problem, run: Run, epochs: int, mode: str) -> Program:
    """The program of a run: a compiled one where there is one that computes the same.

    That is known at once if everything behind problem and optimizer is plain or installed code;
    else (a lambda, a closure, an object of one's own) it is traced anew, and only compiled if
    what it computes is new.
    """
    read = (
        *(problem.build, problem.loss, problem.metrics, problem.weighted_metrics),
        *(problem.loss_weights, problem.evaluation_batch_size, problem.target),
        optimizers.maker(run.make),
    )
    tuned = [len(rows) for rows in problem.rows(0) or ()]  # of splits, which share their data
    read = (*read, problem.batch_size, problem.steps_per_epoch, epochs, mode, tuned)
    short = unchanging(read)
    short = short and (short, data_of(problem)[1], str(identity.environment()))
    key = short and _quick.get(short)
    program = key and _kept(key)
    if not program:
        program = Program(problem, run, epochs, mode)
        key = (program.digest, program.starts.key, identity.digest(program.fresh), *program.columns)
        program = _kept(key) or program
        if short:
            _quick.put(short, key, 1)
    # Compiled for whoever came first; but runs start as those of now do, whose makers may have
    # changed less, or later, than the others'.
    program.problem, program.run, program.starts.problem = problem, run, problem
    return _programs.put(key, program, program.nbytes())  # anew: it may have more seats now


def _kept(key) -> Program | None:
    """The program of that key, unless it turned out not to compile."""
    program = _programs.get(key)
    late = program and not program.exact and program.text in _uncompilable
    return None if late else program
