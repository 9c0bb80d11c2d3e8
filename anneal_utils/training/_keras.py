"""What the trainer needs to know of Keras's and TensorFlow's insides: all of it is in this file."""

import contextlib
import random
from collections.abc import Iterator

from anneal_utils import _checks
from anneal_utils.problems import MatmulConv2D, Problem
from anneal_utils.training.runs import Run, float_kind, optimizer_maker

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import auto_control_deps_utils

Schedule = keras.optimizers.schedules.LearningRateSchedule


@contextlib.contextmanager
def seeded(seed: int):
    """Keras's global seed set to ``seed``; Python's and NumPy's own generators put back after."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def recorded(values: list | None = None) -> Iterator[list[tf.Variable]]:
    """The TensorFlow variables that the block makes, in order, whoever makes them.

    Their first values are added to ``values``, where that is given.
    """
    made = []

    def keep(make, **arguments):
        made.append(make(**arguments))
        if values is not None:
            values.append(made[-1].numpy())
        return made[-1]

    with tf.variable_creator_scope(keep):
        yield made


@keras.saving.register_keras_serializable("anneal_utils")
class Table(Schedule):
    """A schedule that reads its rates from a variable, so that no new schedule is a new program."""

    def __init__(self, steps: int):
        """All rates are 0 until they are assigned."""
        self.rates = tf.Variable(tf.zeros(steps, float_kind()), trainable=False)

    def __call__(self, step):
        """The rate of ``step``."""
        return tf.gather(self.rates, tf.cast(step, tf.int32))

    def get_config(self):
        """Configuration for saving."""
        return {"steps": int(self.rates.shape[0])}


def build(problem: Problem, seed: int) -> tuple[keras.Model, list[tf.Variable]]:
    """The model as ``set_random_seed(seed); problem.build()`` gives it, and all its variables.

    The model's own come first, in the order of ``model.variables``, then what its layers keep
    without telling Keras. ``ValueError`` for a model that is not built, or not new.
    """
    with recorded() as made, seeded(seed):
        model = problem.build()
    if not isinstance(model, keras.Model):
        _checks.fail("problem.build()", model, "must return a keras.Model")
    if not model.built:
        _checks.fail("problem.build()", model.name, "must return a built model (add a keras.Input)")
    own, new = [variable._value for variable in model.variables], {id(v) for v in made}
    for variable in model.variables:
        if id(variable._value) not in new:
            _checks.fail(
                "problem.build()",
                variable.path,
                "is a variable that this call did not make, so runs would share it; make the "
                "model and its layers anew in every call",
            )
    known = {id(variable) for variable in own}
    return model, own + [variable for variable in made if id(variable) not in known]


def optimizer_of(run: Run, rate, model: keras.Model) -> keras.optimizers.Optimizer:
    """A new optimizer of the run for the model, built; its own random numbers follow the seed.

    Under the mixed_float16 policy it is Keras's LossScaleOptimizer around the run's, as
    ``compile`` would make it.
    """
    with seeded(run.seed):
        optimizer = optimizer_maker(run.make)(rate)
        wrapped = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
        if model.dtype_policy.name == "mixed_float16" and not wrapped:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        # Built here, in eager mode: built by fit's first traced step, Schedule-Free loses the
        # copy of the weights that it starts from. For every other optimizer this changes nothing.
        optimizer.build(model.trainable_variables)
    return optimizer


def compile_model(problem: Problem, model: keras.Model, optimizer) -> None:
    """``model.compile``, with metrics of the model's own."""
    model.compile(
        optimizer=optimizer,
        loss=problem.loss,
        metrics=[_own_copy(metric) for metric in problem.metrics],
        jit_compile=False,
    )


def check_optimizer(run: Run) -> None:
    """``ValueError`` where the run's optimizer is one that training could not follow."""
    maker, probe = optimizer_maker(run.make), Table(1)
    try:
        optimizer, other = maker(probe), maker(probe)
    except TypeError as error:
        raise ValueError(
            f"optimizer = {run.optimizer!r}: must take a number or a Keras schedule as its rate "
            f"and pass it on unchanged, as in lambda rate: SGD(rate) ({error})."
        ) from error
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        _checks.fail("optimizer", run.optimizer, "must make a keras.optimizers.Optimizer")
    if optimizer is other:
        _checks.fail(
            "optimizer",
            run.optimizer,
            "returns the same object every time, which would carry its state from run to run; "
            "make a new one in every call",
        )
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        _checks.fail(
            "optimizer",
            type(optimizer).__name__,
            "is not supported: it wraps optimizers that keep rates of their own; use them directly",
        )
    if getattr(optimizer, "use_ema", False):
        _checks.fail(
            "optimizer.use_ema",
            True,
            "is not supported: fit swaps the averaged weights in at each epoch's end, train_step "
            "does not; use keras.callbacks.SwapEMAWeights with fit",
        )
    heard = set()
    for value in (1e-6, 1e-3, 1.0):
        probe.rates.assign([value])
        heard.add(float(optimizer.learning_rate))
    if len(heard) == 1:
        _checks.fail(
            "optimizer",
            run.optimizer,
            f"ignores the rate that it is given (its rate stays {heard.pop():g}), so all peaks "
            "would train alike; pass the rate on, as in lambda rate: SGD(rate)",
        )


def _own_copy(metric):
    """A metric of this model alone: an object would carry its state from model to model."""
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    return type(metric).from_config(metric.get_config())


def holds_under_xla(model: keras.Model, optimizer) -> bool:
    """Whether XLA is the faster mode and gives the same training; measured, see the tests."""
    slow = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    layers = list(model._flatten_layers())
    convolves = any(isinstance(x, slow) and not isinstance(x, MatmulConv2D) for x in layers)
    # Half precision: XLA rounds at other places, which 8 or 11 bits do not forgive.
    halves = any("16" in str(layer.compute_dtype) for layer in layers)
    return not (convolves or halves or isinstance(optimizer, keras.optimizers.Adafactor))


def changed_inputs(concrete) -> list[bool]:
    """For each captured input of a traced function, whether the function may change it."""
    graph = concrete.graph
    fixed = set(auto_control_deps_utils.get_read_only_resource_input_indices_graph(graph))
    first = len(graph.inputs) - len(concrete.captured_inputs)
    return [
        tensor.dtype == tf.resource and first + i not in fixed
        for i, tensor in enumerate(graph.inputs[first:])
    ]
