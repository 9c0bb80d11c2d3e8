"""What the trainer needs of a model and an optimizer: made anew, checked, and of what kind."""

import contextlib
import re
from collections.abc import Iterator, Mapping

from anneal_utils import _checks, _internals, identity
from anneal_utils._seeds import seeded
from anneal_utils.optimizers import catalogue as optimizers
from anneal_utils.optimizers import unwrap
from anneal_utils.problems import MatmulConv1D, MatmulConv2D, Problem
from anneal_utils.training.recipes import Run, Schedule
from anneal_utils.training.runs import float_kind

import keras
import numpy as np
import tensorflow as tf

# Optimizers around optimizers: their rate and step count are not the ones that training follows.
_WRAPPERS = (keras.optimizers.LossScaleOptimizer, keras.optimizers.MultiOptimizer)


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
    check_new("problem.build()", "the model and its layers", model.variables, made)
    own = [_internals.value_of(variable) for variable in model.variables]
    known = {id(variable) for variable in own}
    return model, own + [variable for variable in made if id(variable) not in known]


def check_new(argument: str, what: str, variables, made: list[tf.Variable]) -> None:
    """``ValueError`` unless Keras's ``variables`` are among those that the call has ``made``."""
    new = {id(variable) for variable in made}
    for variable in variables:
        if id(_internals.value_of(variable)) not in new:
            _checks.fail(
                argument,
                variable.path,
                "is a variable that this call did not make, so runs would share it; "
                f"make {what} anew in every call",
            )


def optimizer_of(run: Run, rate, model: keras.Model) -> keras.optimizers.Optimizer:
    """A new optimizer of the run for the model, built; its own random numbers follow the seed.

    Under the mixed_float16 policy it is Keras's LossScaleOptimizer around the run's, as
    ``compile`` would make it.
    """
    with seeded(run.seed):
        optimizer = optimizers.maker(run.make)(rate)
        if model.dtype_policy.name == "mixed_float16":
            optimizer = _scaled(optimizer)
        # Built here, in eager mode: built by fit's first traced step, Schedule-Free loses the
        # copy of the weights that it starts from. For every other optimizer this changes nothing.
        optimizer.build(model.trainable_variables)
    return optimizer


def _scaled(optimizer) -> keras.optimizers.LossScaleOptimizer:
    scaled = keras.optimizers.LossScaleOptimizer(optimizer)
    for name in ("to_average", "to_gradient_point"):  # an averaging optimizer's answer
        if hasattr(optimizer, name):
            setattr(scaled, name, getattr(optimizer, name))
    return scaled


def work_alone(optimizer) -> None:
    """Leave out the sum over replicas, of which there is one."""
    _internals.work_alone(unwrap(optimizer))


def compile_model(problem: Problem, model: keras.Model, optimizer) -> None:
    """``model.compile``, with metrics of the model's own."""
    model.compile(
        optimizer=optimizer,
        loss=problem.loss,
        loss_weights=problem.loss_weights,
        metrics=_own_copies(problem.metrics) or None,
        weighted_metrics=_own_copies(problem.weighted_metrics) or None,
        jit_compile=False,
    )


def flat(logs: dict) -> dict:
    """What a step reports, by the names of ``fit``: a metric may answer several numbers."""
    found: dict = {}
    for name, value in logs.items():
        found |= flat(value) if isinstance(value, Mapping) else {name: value}
    return found


def steps_its_own_way(model: keras.Model) -> bool:
    """Whether the model has a ``train_step`` of its own, which may report what it likes."""
    return "train_step" in vars(model) or type(model).train_step is not keras.Model.train_step


def metrics_of(problem: Problem, model: keras.Model, data: tuple) -> list[str]:
    """Names of the numbers that an evaluation reports, the loss first; makes their variables.

    ``data``: a batch of any size. ``ValueError`` where one is no number, or there is no loss.
    """
    logs = flat(model.test_step(data))
    for name, value in logs.items():
        if np.ndim(value):
            _checks.fail(
                f"metric {name!r}",
                f"an array of shape {np.shape(value)}",
                "must be one number; let it average, or name what you want of it",
            )
    if "loss" not in logs:
        _checks.fail("problem.build()", list(logs), "test_step must report 'loss'")
    names = ["loss", *(name for name in logs if name != "loss")]
    _checks.choice("problem.target", problem.target, [f"val_{name}" for name in names])
    return names


def check_optimizer(run: Run) -> None:
    """``ValueError`` where the run's optimizer is one that training could not follow."""
    maker, probe = optimizers.maker(run.make), Table(1)
    with seeded(run.seed):
        try:
            optimizer, other = maker(probe), maker(probe)
        except Exception as error:
            maker(0.01)  # one that fails for a number too has its own reason to tell
            raise ValueError(
                f"optimizer = {run.optimizer!r}: must take a number or a Keras schedule as its "
                f"rate and pass it on unchanged, as in lambda rate: SGD(rate) ({error})."
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
    if isinstance(optimizer, _WRAPPERS):
        _checks.fail(
            "optimizer",
            type(optimizer).__name__,
            "is not supported: it wraps optimizers that keep rates of their own; use them directly "
            "(under the mixed_float16 policy Keras's LossScaleOptimizer is added by itself)",
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


def check_repeats(argument: str, value, first, again) -> None:
    """``ValueError`` unless the initial values of two calls for one seed are the same bits."""
    if identity.digest(first) != identity.digest(again):
        _checks.fail(
            argument,
            value,
            "gives other initial values when it is called again with the same seed; draw them from "
            "Keras's initializers, or the global generators of NumPy or Python",
        )


def _own_copies(metrics):
    """Metrics of this model alone, in the structure that ``compile`` was meant to get."""
    if isinstance(metrics, Mapping):
        return {key: _own_copies(value) for key, value in metrics.items()}
    if isinstance(metrics, tuple | list):
        return [_own_copies(value) for value in metrics]
    return _own_copy(metrics)


def _own_copy(metric):
    """A metric of this model alone: an object would carry its state from model to model.

    Its random numbers, if it draws any, are the same in every run.
    """
    if not isinstance(metric, keras.metrics.Metric):
        return metric
    rule = "must be a name, a function, or an object of which every model can get one of its own: "
    try:
        with seeded(0):
            copy = type(metric).from_config(metric.get_config())
    except Exception as error:
        _checks.fail("problem.metrics", metric, f"{rule}from_config(get_config()) fails ({error})")
    if _plain(copy) != _plain(metric):
        _checks.fail("problem.metrics", metric, f"{rule}get_config() does not tell all of it")
    return copy


def _plain(thing) -> dict:
    """The public attributes of an object that are plain values."""
    plain = (bool, int, float, str, type(None))
    return {k: v for k, v in vars(thing).items() if k[0] != "_" and isinstance(v, plain)}


def holds_under_xla(model: keras.Model, optimizer) -> bool:
    """Whether XLA is the faster mode and gives the same training; measured, see the tests."""
    slow = (keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D)
    layers = _internals.layers_of(model)
    quick = (MatmulConv1D, MatmulConv2D)
    convolves = any(isinstance(x, slow) and not isinstance(x, quick) for x in layers)
    # Half precision: XLA rounds at other places, which 8 or 11 bits do not forgive.
    halves = any("16" in str(layer.compute_dtype) for layer in layers)
    return not (convolves or halves or isinstance(unwrap(optimizer), keras.optimizers.Adafactor))


def lacking_under_xla(concrete) -> list[str]:
    """Operations of a traced function that XLA can not compile: those of texts, for example."""
    operations = {node.op for part in identity.functions(concrete) for node in part.node_def}
    return sorted(filter(_internals.lacks_xla_kernel, operations))


def refuse_foreign_state(concrete, opaque: list[str]) -> None:
    """``ValueError`` where a traced function keeps a state that no run can set.

    Random numbers without a seed of the run, or what is no variable; ``opaque`` names its
    stateful operations.
    """
    operations = {node.op for part in identity.functions(concrete) for node in part.node_def}
    drawing = [name for name in sorted(operations) if _has_a_stream(_internals.operation(name))]
    shared = _internals.global_seeds()
    shared = None if shared is None else _internals.value_of(shared)
    if shared is not None and any(shared is variable for variable in concrete.variables):
        drawing.append("keras.random without a seed")
    if drawing:
        _checks.fail(
            "problem or optimizer",
            ", ".join(drawing),
            "draws from a stream that no seed of a run sets; use keras.random with a "
            "keras.random.SeedGenerator that the layer or the optimizer makes",
        )
    changing = [name for name in opaque if _changes_a_resource(_internals.operation(name))]
    if changing:
        _checks.fail(
            "problem or optimizer",
            ", ".join(changing),
            "changes what is no variable (a table, a queue, an iterator), so a run would go on "
            "where the one before ended; keep it in a variable that problem.build() makes",
        )


def _has_a_stream(operation) -> bool:
    """Whether a kernel keeps random numbers of its own: TensorFlow gives such a one two seeds."""
    return operation is not None and "seed2" in {attribute.name for attribute in operation.attr}


def _changes_a_resource(operation) -> bool:
    """Whether an operation, which is not one of variables, does more to a resource than read."""
    if operation is None or re.match("LookupTable(Find|Size|Export)", operation.name):
        return False
    return any(argument.type == tf.resource.as_datatype_enum for argument in operation.input_arg)


def changed_inputs(concrete) -> list[bool]:
    """For each captured input of a traced function, whether the function may change it."""
    graph = concrete.graph
    fixed = _internals.read_only_inputs(graph)
    first = len(graph.inputs) - len(concrete.captured_inputs)
    return [
        tensor.dtype == tf.resource and first + i not in fixed
        for i, tensor in enumerate(graph.inputs[first:])
    ]
