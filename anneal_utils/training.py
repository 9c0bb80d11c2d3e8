"""The many-run trainer, its plain-Keras twin, and two callbacks for ``model.fit``.

A fair comparison of schedules needs thousands of small trainings; a loop of ``model.fit`` pays
Python for every batch. Here one whole training is one compiled program around Keras's own
``train_step``: compiled once, then called once per run with that run's initial weights, table of
rates and batch order. It returns what ``fit`` would return (``fit_one`` is that ``fit``, and the
tests compare the two). Taught in notebook 01.

A run's seed alone decides initial weights, batch order and dropout masks, so runs of equal seed
are paired, and a run gives the same bits alone, among thousands, or on another thread.
"""

import contextlib
import functools
import inspect
import numbers
import os
import queue
import random
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from anneal_utils import _checks, headless, schedules
from anneal_utils.optimizers import EvaluateAverage
from anneal_utils.problems import MatmulConv2D, Problem

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm.auto import tqdm

Schedule = keras.optimizers.schedules.LearningRateSchedule

COLUMNS = [
    *("problem", "optimizer", "schedule", "peak", "seed", "epoch", "step", "rate"),
    *("train_loss", "val_loss", "val_accuracy", "diverged", "diverged_step"),
]

# ------------------------------------------------------------------------------ what to run


@dataclass(frozen=True)
class Run:
    """One training: a schedule (by catalogue name, or as an object), a peak, an optimizer, a seed.

    Made by :func:`grid`. ``schedule`` and ``optimizer`` are labels; ``recipe`` and ``make`` are
    what they stand for. ``peak`` is None when the recipe carries its own rates.
    """

    schedule: str
    recipe: object
    peak: float | None
    seed: int
    optimizer: str
    make: object
    epochs: int | None = None
    warmup: float = 0.0


@dataclass(frozen=True)
class Plateau:
    """The rules of ``keras.callbacks.ReduceLROnPlateau`` on the held-out loss, as a recipe.

    The run starts at its peak. After ``patience`` epochs whose held-out loss is not below the
    best by more than ``min_delta``, the rate is multiplied by ``factor``, down to ``min_rate``;
    then ``cooldown`` epochs are not counted. ``ValueError`` for a factor outside (0, 1) and for
    negative or fractional counts. Notebook 02.
    """

    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    cooldown: int = 0
    min_rate: float = 0.0

    def __post_init__(self):
        """Check the knobs."""
        _checks.number("factor", self.factor, low=0, open_low=True)
        if self.factor >= 1:
            _checks.fail("factor", self.factor, "must be < 1")
        _checks.count("patience", self.patience)
        _checks.number("min_delta", self.min_delta, low=0)
        _checks.count("cooldown", self.cooldown, low=0)
        _checks.number("min_rate", self.min_rate, low=0)

    def callback(self) -> keras.callbacks.ReduceLROnPlateau:
        """The same rules as a new Keras callback."""
        return keras.callbacks.ReduceLROnPlateau(
            monitor="val_loss",
            mode="min",
            factor=self.factor,
            patience=self.patience,
            min_delta=self.min_delta,
            cooldown=self.cooldown,
            min_lr=self.min_rate,
        )


def grid(
    schedules: Iterable[str] | Mapping,
    peaks: Iterable[float] = (),
    seeds: Iterable[int] = (0,),
    optimizer="sgd",
    *,
    epochs: int | None = None,
    warmup: float = 0.0,
) -> list[Run]:
    """All combinations of schedules, peaks, seeds (and optimizers) as a list of runs.

    ``schedules``: catalogue names, or ``{label: recipe}``. A recipe is a catalogue name, a pair
    ``(name, {knob: value})``, a :class:`Plateau`, or something that carries its own rates and so
    takes no peak: a number (constant rate), a Keras ``LearningRateSchedule`` (of the optimizer
    step), or a function of the epoch as ``LearningRateScheduler`` takes it. ``peaks`` are largest
    rates;
    ``optimizer``: a Keras name (``"sgd"``), an optimizer class, a function of the rate that
    returns an optimizer, or a dict ``{label: one of these}``. ``epochs``: the horizon (default:
    the problem's). ``warmup``: share of the horizon, for catalogue names.

    ``ValueError`` for anything empty, unknown, negative or not finite.
    """
    seeds = [_checks.count("seeds", seed, low=0) for seed in seeds]
    peaks = [_checks.positive("peaks", peak) for peak in peaks]
    if not seeds:
        _checks.fail("seeds", seeds, "must hold at least one seed")
    if len(set(seeds)) < len(seeds):
        _checks.fail("seeds", seeds, "must not repeat a seed")
    if epochs is not None:
        epochs = _checks.count("epochs", epochs)
    warmup = _checks.number("warmup", warmup, low=0)
    optimizers = optimizer if isinstance(optimizer, Mapping) else {None: optimizer}
    runs = []
    for name, make in optimizers.items():
        label = name or _optimizer_label(make)
        _optimizer_maker(make)
        for title, recipe in _recipes(schedules).items():
            own = not isinstance(recipe, str | tuple | Plateau)
            if not own and not peaks:
                _checks.fail("peaks", peaks, f"schedule {title!r} needs at least one peak")
            for peak in [None] if own else peaks:
                runs += [
                    Run(title, recipe, peak, seed, label, make, epochs, warmup) for seed in seeds
                ]
    return runs


def _recipes(given) -> dict:
    """``given`` as {label: recipe}, each recipe checked; a knob dict becomes hashable."""
    if isinstance(given, str):
        _checks.fail("schedules", given, "must be a list of names or a dict {label: recipe}")
    given = dict(given) if isinstance(given, Mapping) else {name: name for name in given}
    if not given:
        _checks.fail("schedules", given, "must name at least one schedule")
    checked = {}
    for label, recipe in given.items():
        if isinstance(recipe, str):
            _checks.choice("schedules", recipe, schedules.names())
        elif isinstance(recipe, tuple):
            name, knobs = recipe
            _checks.choice("schedules", name, schedules.names())
            frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in knobs.items()}
            recipe = (name, tuple(sorted(frozen.items())))
        elif isinstance(recipe, numbers.Real):
            recipe = _checks.number(f"schedules[{label!r}]", recipe, low=0)
        elif not (isinstance(recipe, Schedule | Plateau) or callable(recipe)):
            _checks.fail(
                f"schedules[{label!r}]",
                recipe,
                "must be a catalogue name, (name, knobs), a Plateau, a number, a Keras schedule "
                "or a function of the epoch",
            )
        checked[str(label)] = recipe
    return checked


# Optimizers around optimizers: their rate and step count are not the ones that training follows.
_WRAPPERS = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)


@functools.cache
def _optimizer_classes() -> dict[str, type]:
    """Every optimizer Keras exports, by lower-case name (``keras.optimizers.get`` misses Lamb)."""
    return {
        name.lower(): cls
        for name, cls in vars(keras.optimizers).items()
        if inspect.isclass(cls)
        and issubclass(cls, keras.optimizers.Optimizer)
        and cls not in (keras.optimizers.Optimizer, *_WRAPPERS)
    }


def _optimizer_maker(make) -> Callable:
    """A function of the rate that returns a new optimizer."""
    if isinstance(make, str):
        return _optimizer_classes()[_checks.choice("optimizer", make, _optimizer_classes())]
    if isinstance(make, keras.optimizers.Optimizer) or not callable(make):
        _checks.fail(
            "optimizer",
            make,
            "must be a Keras name, an optimizer class or a function of the rate (one optimizer "
            "object would carry its state from run to run)",
        )
    return make


def _optimizer_label(make) -> str:
    if isinstance(make, str):
        return make
    name = getattr(make, "__name__", type(make).__name__)
    return "custom" if name == "<lambda>" else name.lower() if inspect.isclass(make) else name


# ----------------------------------------------------------- what decides a run, as plain arrays


def steps_of(problem: Problem, run: Run) -> int:
    """Optimizer steps of the whole run."""
    return (run.epochs or problem.epochs) * problem.steps_per_epoch


def schedule_of(problem: Problem, run: Run):
    """What the run's optimizer follows: a Keras schedule, a number, or a function of the epoch."""
    if isinstance(run.recipe, str | tuple):
        name, knobs = (run.recipe, ()) if isinstance(run.recipe, str) else run.recipe
        return schedules.build(
            name, run.peak, steps_of(problem, run), warmup=run.warmup, **dict(knobs)
        )
    if isinstance(run.recipe, Plateau):
        return run.peak  # until the plateau callback lowers it
    return run.recipe


def rates(problem: Problem, run: Run, *, exact: bool = False) -> np.ndarray:
    """The rate of each step of the run, float32 [steps]: the table that the training applies.

    A :class:`Plateau` lowers its rates while it trains: the table is where it starts from.
    ``exact``: to the last bit as ``fit`` computes them (slower; see ``schedules.values``).
    """
    recipe, steps = schedule_of(problem, run), steps_of(problem, run)
    if isinstance(recipe, Schedule | numbers.Real):
        table = schedules.values(recipe, steps, exact=exact)
    else:
        table = np.repeat(
            _epoch_rates(recipe, run, run.epochs or problem.epochs), problem.steps_per_epoch
        )
    bad = ~(np.isfinite(table) & (table >= 0))
    if bad.any():
        _checks.fail(
            f"schedule {run.schedule!r} at step {int(bad.argmax())}",
            float(table[bad.argmax()]),
            "every rate must be finite and >= 0",
        )
    return table


def _epoch_rates(function, run: Run, epochs: int) -> np.ndarray:
    """Rates per epoch, by the rules of ``keras.callbacks.LearningRateScheduler``."""
    # In ``fit`` a function (epoch, rate) sees the optimizer's rate, which is a float32 variable.
    rate = float(np.float32(_starting_rate(run.make)))
    table = []
    for epoch in range(epochs):
        try:
            value = function(epoch, rate)
        except TypeError:
            value = function(epoch)
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            _checks.fail(f"schedule {run.schedule!r} at epoch {epoch}", value, "must be a number")
        rate = float(np.float32(value))
        table.append(rate)
    return np.array(table, "float32")


def _starting_rate(make) -> float:
    maker = _optimizer_maker(make)
    return float(maker().learning_rate.numpy()) if inspect.isclass(maker) else 0.01


@contextlib.contextmanager
def _seeded(seed: int):
    """Keras's global seed set to ``seed``; Python's and NumPy's own generators put back after."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def _build(problem: Problem, seed: int) -> keras.Model:
    """The model as ``keras.utils.set_random_seed(seed); problem.build()`` gives it."""
    with _seeded(seed):
        model = problem.build()
    if not model.built:
        _checks.fail("problem.build()", model.name, "must return a built model (add a keras.Input)")
    return model


def batches(problem: Problem, seed: int, epochs: int) -> np.ndarray:
    """Indices of the training samples in each batch, int32 [epochs, steps per epoch, batch]."""
    rng = np.random.default_rng([seed, 1])  # 1: the stream of the data order
    size, steps = len(problem.x_train), problem.steps_per_epoch
    shape = (steps, problem.batch_size)
    if problem.sampling == "replacement":
        return rng.integers(size, size=(epochs, *shape), dtype=np.int32)
    used = steps * problem.batch_size
    return np.stack([rng.permutation(size)[:used].reshape(shape) for _ in range(epochs)]).astype(
        np.int32
    )


# ------------------------------------------------------------------------ the compiled program


@keras.saving.register_keras_serializable("anneal_utils")
class _Table(Schedule):
    """A schedule that reads its rates from a variable, so that no new schedule is a new program."""

    def __init__(self, steps: int):
        self.rates = tf.Variable(tf.zeros(steps), trainable=False)

    def __call__(self, step):
        return tf.gather(self.rates, tf.cast(step, tf.int32))

    def get_config(self):
        return {"steps": int(self.rates.shape[0])}


def _compile(problem: Problem, model: keras.Model, optimizer) -> None:
    if getattr(optimizer, "use_ema", False):
        _checks.fail(
            "optimizer.use_ema",
            True,
            "is not supported: fit swaps the averaged weights in at each epoch's end, train_step "
            "does not; use keras.callbacks.SwapEMAWeights with fit",
        )
    if isinstance(optimizer, _WRAPPERS):
        _checks.fail(
            "optimizer",
            type(optimizer).__name__,
            "is not supported: it wraps optimizers that keep rates of their own; use them directly",
        )
    model.compile(
        optimizer=optimizer, loss=problem.loss, metrics=list(problem.metrics), jit_compile=False
    )


def _holds_under_xla(model: keras.Model, optimizer) -> bool:
    """Whether XLA is the faster mode and gives the same training; measured, see the tests."""
    slow = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    convolves = any(
        isinstance(layer, slow) and not isinstance(layer, MatmulConv2D)
        for layer in model._flatten_layers()
    )
    return not convolves and not isinstance(optimizer, keras.optimizers.Adafactor)


def _plateau_vector(recipe) -> np.ndarray:
    """A recipe's plateau rules as float64 [5]; patience 0 stands for a run without feedback."""
    if not isinstance(recipe, Plateau):
        return np.zeros(5)
    given = (recipe.factor, recipe.patience, recipe.min_delta, recipe.cooldown, recipe.min_rate)
    return np.array(given, float)


def _plateau_step(rules, state, rate, loss):
    """One epoch's end of ``ReduceLROnPlateau``: (lower the rate?, new rate, new state).

    Like Keras it computes in double precision and rounds the new rate to float32.
    """
    factor, patience, min_delta, cooldown, min_rate = tf.unstack(rules)
    best, wait, cooling = state
    loss, old = tf.cast(loss, tf.float64), tf.cast(rate, tf.float64)
    wait = tf.where(cooling > 0, 0, wait)
    cooling = tf.maximum(cooling - 1, 0)
    better = tf.math.is_inf(best) | (loss + min_delta < best)  # the first epoch always counts
    wait = tf.where(better, 0, tf.where(cooling > 0, wait, wait + 1))
    tired = ~better & (cooling == 0) & (tf.cast(wait, tf.float64) >= patience)
    lower = tired & (patience > 0) & (old > tf.cast(tf.cast(min_rate, tf.float32), tf.float64))
    new = tf.cast(tf.maximum(old * factor, min_rate), tf.float32)
    state = (
        tf.where(better, loss, best),
        tf.where(lower, 0, wait),
        tf.where(lower, tf.cast(cooldown, tf.int32), cooling),
    )
    return lower, new, state


class _Program:
    """One model, one optimizer, one horizon: a training as a single compiled function.

    Compiled once, whatever the number of threads: each call brings variables of its own (a
    *seat*) for those that were traced. A run never sees another run's state because everything
    it reads is assigned first.
    """

    def __init__(self, problem: Problem, make, epochs: int, mode: str):
        self.problem, self.make, self.epochs = problem, make, epochs
        self.steps = problem.steps_per_epoch
        self.model = _build(problem, seed=0)
        self.state = list(self.model.variables)  # before compile: weights and dropout seeds
        self.table = _Table(epochs * self.steps)
        self.optimizer = _optimizer_maker(make)(self.table)
        _compile(problem, self.model, self.optimizer)
        if mode == "auto":
            mode = "xla" if _holds_under_xla(self.model, self.optimizer) else "graph"
        self.exact = mode == "graph"  # then the rates too are to be fit's, to the last bit
        self.optimizer.build(self.model.trainable_variables)
        self.fresh = [v.numpy() for v in self.optimizer.variables]
        # A few optimizers (Schedule-Free) start from a copy of the weights: notice it by moving
        # the weights and building again.
        moved = [v.numpy() + 1 if v.trainable else v.numpy() for v in self.state]
        self.copies_weights = any(
            not np.array_equal(a, b)
            for a, b in zip(self.fresh, self._built_state(moved), strict=True)
        )
        # Data as tensors once; the program captures them, it does not copy them.
        self.data = [
            tf.constant(a) for a in (problem.x_train, problem.y_train, problem.x_val, problem.y_val)
        ]
        # Metrics are made by the first batch; make them before tracing, in eager mode.
        self.model.test_step(tuple(a[:1] for a in self.data[:2]))
        self.columns = ["loss", *(["accuracy"] if "accuracy" in problem.metrics else [])]
        # Traced and called as a concrete function: TensorFlow warns about many that are not.
        self.concrete = tf.function(
            self._train, jit_compile=mode == "xla", autograph=False
        ).get_concrete_function(
            [v.numpy() for v in self.state],
            self.fresh,
            self.table.rates.numpy(),
            np.zeros((epochs, self.steps, problem.batch_size), "int32"),
            _plateau_vector(None),
        )
        self.traced = {id(v.handle): v.numpy() for v in self.concrete.variables}
        self.compiled = False
        self.seats: queue.SimpleQueue = queue.SimpleQueue()

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
        """Train one run; from any thread."""
        try:
            seat = self.seats.get_nowait()
        except queue.Empty:
            seat = self._seat()
        tensors = [tf.convert_to_tensor(array) for array in tf.nest.flatten(arguments)]
        history, left, final = self.concrete.inference_fn.call_preflattened(tensors + seat[1])
        history = history.numpy()  # waits for the end of the run
        self.compiled = True
        self.seats.put(seat)
        return history, int(left), [w.numpy() for w in final]

    def optimizer_state(self, weights) -> list[np.ndarray]:
        """The optimizer's variables at step 0, for the initial ``weights`` of a run."""
        if not self.copies_weights:
            return self.fresh
        return self._built_state(weights)

    def _built_state(self, weights) -> list[np.ndarray]:
        for variable, value in zip(self.state, weights, strict=True):
            variable.assign(value)
        optimizer = _optimizer_maker(self.make)(self.table)
        optimizer.build(self.model.trainable_variables)
        return [v.numpy() for v in optimizer.variables]

    def _train(self, weights, slots, rates, order, plateau):
        x, y, x_val, y_val = self.data
        for variable, value in zip(self.state, weights, strict=True):
            variable.assign(value)
        for variable, value in zip(self.optimizer.variables, slots, strict=True):
            variable.assign(value)
        self.table.rates.assign(rates)
        # An averaging optimizer's answer, and so what is evaluated, is the average.
        averages = callable(getattr(self.optimizer, "to_average", None))

        def step_body(epoch, step, rate, left):
            rate = tf.convert_to_tensor(self.optimizer.learning_rate)
            batch = order[epoch, step]
            logs = self.model.train_step((tf.gather(x, batch), tf.gather(y, batch)))
            lost = ~tf.math.is_finite(logs["loss"]) & (left < 0)
            left = tf.where(lost, epoch * self.steps + step, left)
            return epoch, step + 1, rate, left

        def epoch_body(epoch, left, feedback, history):
            self.model.reset_metrics()
            _, _, rate, left = tf.while_loop(
                lambda epoch, step, rate, left: step < self.steps,
                step_body,
                (epoch, 0, tf.constant(0.0), left),
            )
            train = self.model.get_metrics_result()["loss"]
            self.model.reset_metrics()
            if averages:
                self.optimizer.to_average()
            val = self.model.test_step((x_val, y_val))
            if averages:
                self.optimizer.to_gradient_point()
            row = tf.stack([rate, train, *(val[name] for name in self.columns)])
            history = history.write(epoch, tf.cast(row, tf.float32))
            lower, rate, feedback = _plateau_step(plateau, feedback, rate, val["loss"])
            self.table.rates.assign(tf.where(lower, rate, self.table.rates))
            return epoch + 1, left, feedback, history

        history = tf.TensorArray(
            tf.float32, size=self.epochs, element_shape=(2 + len(self.columns),)
        )
        start = (tf.constant(np.inf, tf.float64), 0, 0)  # best loss, epochs waited, cooldown left
        _, left, _, history = tf.while_loop(
            lambda epoch, *_: epoch < self.epochs, epoch_body, (0, -1, start, history)
        )
        if averages:
            self.optimizer.to_average()
        return history.stack(), left, [tf.convert_to_tensor(w) for w in self.model.weights]


_programs: OrderedDict = OrderedDict()  # the most recently used programs, so a re-run is instant
_training = threading.Lock()  # programs are shared by all calls, so one call trains at a time


def _program(problem, make, epochs, mode) -> _Program:
    key = (problem, make, epochs, mode)
    if key not in _programs:
        _programs[key] = _Program(problem, make, epochs, mode)
    _programs.move_to_end(key)
    while len(_programs) > 16:
        _programs.popitem(last=False)
    return _programs[key]


def _initializers(model: keras.Model) -> list[keras.initializers.Initializer]:
    """The initializers of the model's layers, layer by layer."""
    return [
        value
        for layer in model._flatten_layers(include_self=False)
        for value in vars(layer).values()
        if isinstance(value, keras.initializers.Initializer)
    ]


def _makes(initializer, variable) -> bool:
    """Whether the variable's value is the initializer's."""
    try:
        value = initializer(variable.shape, variable.dtype)
    except (ValueError, tf.errors.OpError):  # an orthogonal one takes no vector, a seed no shape
        return False
    return np.array_equal(value, variable.numpy())


def _drawn(model: keras.Model, makers: list[int], seed: int) -> list[np.ndarray]:
    """New initial values of the model's variables; initializer ``makers[i]`` makes variable i."""
    with _seeded(seed):
        fresh = [initializer.clone() for initializer in _initializers(model)]  # draw their seeds
    return [
        np.asarray(fresh[maker](variable.shape, variable.dtype))
        for maker, variable in zip(makers, model.variables, strict=True)
    ]


@functools.lru_cache(maxsize=64)
def _makers(problem: Problem):
    """``(model, makers)`` by which ``_drawn`` gives what ``_build`` gives, or None.

    Building a Keras model takes four to six times as long as drawing its weights. Not every
    model starts from what its initializers draw (dropout has seeds, ``build`` may set weights),
    nor makes its layers in the order in which it lists them: so this holds only if it gives the
    variables of two more models bit for bit.
    """
    model = _build(problem, 0)
    initializers = list(enumerate(_initializers(model)))
    makers = [
        next((number for number, make in initializers if _makes(make, variable)), None)
        for variable in model.variables
    ]
    if None in makers:
        return None
    for seed in (1, 2):
        built = [variable.numpy() for variable in _build(problem, seed).variables]
        if not all(map(np.array_equal, built, _drawn(model, makers, seed))):
            return None
    return model, makers


@functools.lru_cache(maxsize=2048)
def _initial(problem: Problem, seed: int) -> list[np.ndarray]:
    made = _makers(problem)
    if made is None:
        return [variable.numpy() for variable in _build(problem, seed).variables]
    return _drawn(*made, seed)


@functools.lru_cache(maxsize=64)
def _order(problem: Problem, seed: int, epochs: int) -> np.ndarray:
    return batches(problem, seed, epochs)


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def train(
    problem: Problem,
    runs: Iterable[Run],
    *,
    return_weights: bool = False,
    mode: str = "auto",
    threads: int | None = None,
    progress: bool | None = None,
):
    """Train every run and return the tidy frame: one row per run and epoch, in the given order.

    Columns: ``COLUMNS``. ``epoch`` counts from 0, ``step`` is the number of updates done at its
    end, ``rate`` the one applied at its last step, ``train_loss`` the mean over the epoch's
    batches as ``fit`` reports it. A run whose loss stops being finite is data: ``diverged`` is
    true from that epoch on, ``diverged_step`` is the (0-based) step whose loss was the first not
    to be finite, and the losses stay as they were measured.

    With ``return_weights`` also a list, one entry per run, of final weights in
    ``model.get_weights()`` order. ``mode``: ``"graph"`` equals ``fit`` bit for bit, ``"xla"`` is
    faster for dense and recurrent models and equals it up to rounding (other dropout masks),
    ``"auto"`` chooses. ``threads``: default, the cores. Data stay in memory, an incomplete last
    batch is dropped, there are no callbacks inside a run.
    """
    runs = list(runs)
    _checks.choice("mode", mode, ("auto", "graph", "xla"))
    threads = cores() if threads is None else _checks.count("threads", threads)
    if not isinstance(problem, Problem):
        _checks.fail("problem", problem, "must be a Problem, from problems.load(name)")
    if not runs:
        _checks.fail("runs", runs, "must hold at least one run, from training.grid(...)")
    show = not headless() if progress is None else progress
    results = [None] * len(runs)
    groups: dict = {}
    for index, run in enumerate(runs):
        groups.setdefault((run.make, run.epochs or problem.epochs), []).append(index)
    errors, left, lock = [], len(runs), threading.Lock()
    stop, finished = threading.Event(), threading.Event()

    def job(index, program, weights, slots, waiting=()):
        """Train one run, then let those begin that waited for its compilation."""
        nonlocal left
        run = runs[index]
        try:
            if not stop.is_set():
                order = _order(problem, run.seed, program.epochs)
                rules = _plateau_vector(run.recipe)
                done = program.call(weights, slots, results[index], order, rules)
                results[index] = (results[index], *done)
            for other in waiting:
                pool.submit(job, *other)
        except BaseException as error:
            errors.append(error)
        with lock:
            left -= 1
            bar.update()
        if errors or not left:
            finished.set()

    # The bar appears only when the work takes longer than five seconds.
    with (
        _training,
        tqdm(total=len(runs), disable=not show, delay=5, unit="run") as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        try:
            # While one program is traced here, the threads compile and train those before it.
            for (make, epochs), members in groups.items():
                program = _program(problem, make, epochs, mode)
                prepared = _prepared(problem, program, runs, members, results)
                if not program.compiled:  # the first run compiles for all of them
                    prepared = [(*prepared[0], prepared[1:])]
                for ready in prepared:
                    pool.submit(job, *ready)
            finished.wait()  # once: waking this thread for every run would slow the others
            if errors:
                raise errors[0]
        finally:
            stop.set()  # an error or Ctrl-C ends the threads after the run they are in
    frame = _frame(problem, runs, results)
    return ([weights for *_, weights in results], frame) if return_weights else frame


def _prepared(problem, program, runs, members, results) -> list[tuple]:
    """``(index, program, weights, slots)`` of one program's runs; their rates into ``results``."""
    # Keras's global seed is not thread-safe: everything that builds is done by this thread.
    initial = {seed: _initial(problem, seed) for seed in sorted({runs[i].seed for i in members})}
    slots = {seed: program.optimizer_state(weights) for seed, weights in initial.items()}
    tables: dict = {}
    for i in members:
        run = runs[i]
        key = (run.schedule, run.recipe, run.peak, run.warmup)
        if key not in tables:
            tables[key] = rates(problem, run, exact=program.exact)
        results[i] = tables[key]
    members = sorted(members, key=lambda i: runs[i].seed)  # equal seeds share a batch order
    return [(i, program, initial[runs[i].seed], slots[runs[i].seed]) for i in members]


def _frame(problem: Problem, runs: list[Run], results) -> pd.DataFrame:
    """The tidy frame from ``(rates, history, left, weights)`` of every run."""
    per_epoch = problem.steps_per_epoch
    parts = []
    for run, (table, history, left, _) in zip(runs, results, strict=True):
        step = per_epoch * (1 + np.arange(len(history)))
        rate, train_loss, val_loss = history[:, :3].T
        # Weights may overflow in the very last step, which only the validation loss can see.
        outside = np.flatnonzero(~np.isfinite(val_loss))
        if left < 0 and len(outside):
            left = int(step[outside[0]])
        gone = (step > left) | ~np.isfinite(val_loss) if left >= 0 else np.zeros(len(step), bool)
        parts.append(
            {
                "problem": problem.name,
                "optimizer": run.optimizer,
                "schedule": run.schedule,
                "peak": float(table.max()) if run.peak is None else run.peak,
                "seed": run.seed,
                "epoch": np.arange(len(history)),
                "step": step,
                "rate": rate,
                "train_loss": train_loss,
                "val_loss": val_loss,
                "val_accuracy": history[:, 3] if history.shape[1] > 3 else np.nan,
                "diverged": gone,
                "diverged_step": left,
            }
        )
    frame = pd.DataFrame(
        {
            column: np.concatenate(
                [np.broadcast_to(part[column], len(part["step"])) for part in parts]
            )
            for column in COLUMNS
        }
    )
    for column in ("problem", "optimizer", "schedule"):
        frame[column] = frame[column].astype("str")
    frame["diverged_step"] = frame["diverged_step"].astype("Int64").mask(frame.diverged_step < 0)
    return frame


# ------------------------------------------------------------------------ the plain-Keras twin


def fit_one(problem: Problem, run: Run, *, callbacks: Iterable = ()):
    """The same run by ``model.fit``: ``(trained keras.Model, tidy frame)``.

    Nothing of the many-run trainer is used: the run's own schedule object drives the optimizer
    (or ``LearningRateScheduler``, for a function of the epoch), and ``fit`` reads the batches
    from a ``tf.data.Dataset`` in the run's order, without the incomplete last batch of an epoch,
    which ``fit`` on arrays would train on (``schedules.horizon`` counts it).
    """
    epochs, recipe = run.epochs or problem.epochs, schedule_of(problem, run)
    model = _build(problem, run.seed)
    recorder = RateRecorder()
    callbacks = [recorder, *callbacks]
    if isinstance(run.recipe, Plateau):
        callbacks.append(run.recipe.callback())
    if not isinstance(recipe, Schedule | numbers.Real):
        # First, so that the recorder reads the rate that this callback has set.
        callbacks.insert(0, keras.callbacks.LearningRateScheduler(recipe))
        recipe = _starting_rate(run.make)
    _compile(problem, model, _optimizer_maker(run.make)(recipe))
    # Built here, in eager mode: built by fit's first traced step, Schedule-Free loses the copy of
    # the weights that it starts from. For every other optimizer this changes nothing.
    model.optimizer.build(model.trainable_variables)
    if callable(getattr(model.optimizer, "to_average", None)):
        callbacks.append(EvaluateAverage())
    order = batches(problem, run.seed, epochs).reshape(-1, problem.batch_size)
    data = tf.data.Dataset.from_tensor_slices(order).map(
        lambda batch: (tf.gather(problem.x_train, batch), tf.gather(problem.y_train, batch))
    )
    log = model.fit(
        data,
        epochs=epochs,
        steps_per_epoch=problem.steps_per_epoch,
        shuffle=False,
        validation_data=(problem.x_val, problem.y_val),
        validation_batch_size=len(problem.x_val),
        callbacks=callbacks,
        verbose=0,
    ).history
    applied = np.array(recorder.rates, "float32")
    names = ["loss", "val_loss", *(["val_accuracy"] if "val_accuracy" in log else [])]
    history = np.column_stack(
        [applied[problem.steps_per_epoch - 1 :: problem.steps_per_epoch], *map(log.get, names)]
    ).astype("float32")
    lost = np.flatnonzero(~np.isfinite(recorder.losses))
    left = int(lost[0]) if len(lost) else -1
    return model, _frame(problem, [run], [(applied, history, left, None)])


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
        optimizer = self.model.optimizer
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
        self._before = int(self._counter)

    def on_train_batch_end(self, batch, logs=None):
        """Record the rate of each step that this call has done."""
        steps = range(self._before, int(self._counter))
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
        if isinstance(optimizer._learning_rate, Schedule):
            _checks.fail(
                "optimizer.learning_rate",
                type(optimizer._learning_rate).__name__,
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
