"""The canary: what the package relies on in Keras's and TensorFlow's insides is still so.

An update of either that changes a private thing fails here first, by the name of the function
that reads it. And nobody but ``anneal_utils/_internals.py`` reads such things.
"""

import ast
import functools
import importlib
import inspect
import json
import platform

from anneal_utils import _internals

import keras
import numpy as np
import pytest
import tensorflow as tf
from elsewhere import ROOT, python

HOME = "anneal_utils/_internals.py"

# --------------------------------------------------------------- what the installed versions say

ASKED = {}  # by name in _internals


def asks(question):
    """A test of the thing in _internals whose name it bears."""
    ASKED[question.__name__] = question
    return question


def network(**compiled) -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    model.compile(**{"optimizer": keras.optimizers.SGD(0.5), "loss": "mse", **compiled})
    return model


def stepped(optimizer, times=1, gradient=1.0) -> np.ndarray:
    """A weight that begins at 1, after updates by the optimizer."""
    weight = keras.Variable([1.0])
    optimizer.build([weight])
    for _ in range(times):
        optimizer.apply([tf.constant([gradient])], [weight])
    return weight.numpy()


@functools.cache
def elsewhere(code: str, **environment: str) -> list:
    """What the code, run by a Python of its own, prints as JSON."""
    return json.loads(python("-c", code, **environment).splitlines()[-1])


@asks
def COMPUTING():
    for name in _internals.COMPUTING:
        assert importlib.import_module(name)
    only_compute = [
        *(keras.activations.relu, keras.constraints.NonNeg, keras.dtype_policies.DTypePolicy),
        *(keras.initializers.Zeros, keras.losses.mean_squared_error, keras.losses.Huber),
        *(keras.metrics.MeanSquaredError, keras.ops.add, keras.optimizers.SGD),
        keras.regularizers.L2,
    ]
    inside = tuple(f"{name}." for name in _internals.COMPUTING)
    for thing in only_compute:
        assert f"{thing.__module__}.".startswith(inside), thing
    for thing in (keras.models.load_model, keras.saving.custom_object_scope, keras.Model):
        assert not f"{thing.__module__}.".startswith(inside), thing


@asks
def UPDATE():
    optimizer, calls = keras.optimizers.SGD(0.5, gradient_accumulation_steps=2), []
    update = getattr(optimizer, _internals.UPDATE)

    def seen(grads, variables, learning_rate):
        calls.append((len(grads), len(variables), float(learning_rate)))
        return update(grads, variables, learning_rate)

    vars(optimizer)[_internals.UPDATE] = seen
    np.testing.assert_allclose(stepped(optimizer, 5), [0.0])
    assert calls == [(1, 1, 0.5)] * 2  # of five batches two have moved the weight


@asks
def DECAY():
    given = keras.optimizers.SGD(0.5, weight_decay=0.1)
    np.testing.assert_allclose(stepped(given, gradient=0.0), [0.95])
    replaced, seen = keras.optimizers.SGD(0.5, weight_decay=0.1), []
    setattr(replaced, _internals.DECAY, lambda variables: seen.extend(variables))
    np.testing.assert_allclose(stepped(replaced, gradient=0.0), [1.0])
    assert [variable.shape for variable in seen] == [(1,)]


@asks
def CURRENT_RATE():
    fall = keras.optimizers.schedules.PolynomialDecay(0.5, 10, 0.0)
    for rate in (0.25, fall):
        optimizer = keras.optimizers.SGD(rate)
        assert float(getattr(optimizer, _internals.CURRENT_RATE)()) == float(
            optimizer.learning_rate
        )
    decaying = keras.optimizers.SGD(0.5, weight_decay=0.1)
    setattr(decaying, _internals.CURRENT_RATE, lambda: keras.ops.convert_to_tensor(2.0))
    np.testing.assert_allclose(stepped(decaying, gradient=0.0), [0.8])  # decay asks it as well


@asks
def counter():
    fall = keras.optimizers.schedules.PolynomialDecay(0.5, 10, 0.0)
    optimizer = keras.optimizers.SGD(fall, gradient_accumulation_steps=2)
    stepped(optimizer, 3)
    read = _internals.counter(optimizer)
    assert (int(read.numpy()), int(optimizer.iterations)) == (3, 1)
    assert float(optimizer.learning_rate) == float(fall(3))
    read.assign(10)
    assert float(optimizer.learning_rate) == 0


@asks
def rate_source():
    fall = keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.5)
    assert _internals.rate_source(keras.optimizers.SGD(fall)) is fall
    optimizer = keras.optimizers.SGD(0.5)
    number = _internals.rate_source(optimizer)
    assert isinstance(number, keras.Variable)
    number.assign(0.25)
    assert float(optimizer.learning_rate) == 0.25
    from_function = _internals.rate_source(keras.optimizers.SGD(lambda: 0.5))
    assert callable(from_function) and float(from_function()) == 0.5


@asks
def index_of():
    variables = [keras.Variable([float(i)]) for i in range(3)]
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build(variables)
    assert [_internals.index_of(optimizer, variable) for variable in variables[::-1]] == [2, 1, 0]


@asks
def work_alone():
    class Summing(keras.optimizers.SGD):
        def _all_reduce_sum_gradients(self, grads_and_vars):
            raise RuntimeError("summed")

    with pytest.raises(RuntimeError, match="summed"):
        stepped(Summing(0.5))
    alone = Summing(0.5)
    _internals.work_alone(alone)
    np.testing.assert_array_equal(stepped(alone), stepped(keras.optimizers.SGD(0.5)))


@asks
def layers_of():
    class Holder(keras.layers.Layer):
        def __init__(self):
            super().__init__(name="holder")
            self.held = keras.layers.Dense(1, name="held")

        def call(self, x):
            return self.held(x)

    inner = keras.Sequential([keras.layers.Dense(2, name="deep")], name="inner")
    model = keras.Sequential([keras.Input((2,)), inner, Holder()], name="outer")
    inside = {layer.name for layer in _internals.layers_of(model, include_self=False)}
    assert inside >= {"inner", "deep", "holder", "held"} and "outer" not in inside
    assert _internals.layers_of(model)[0] is model
    assert {layer.name for layer in _internals.layers_of(model)} == inside | {"outer"}


@asks
def metrics_of():
    x, y = tf.ones((4, 2)), tf.zeros((4, 1))
    model = network(metrics=["mae"])
    logs = model.test_step((x, y))
    model.test_step((x, y + 2))  # the running means go on: (4 + 0) / 2 and (2 + 0) / 2
    told = {name: float(value) for name, value in _internals.metrics_of(model, logs).items()}
    assert told == {"loss": 2.0, "mae": 1.0}
    other = {"energy": 3.0}
    assert _internals.metrics_of(model, other) == other


@asks
def value_of():
    variable = network().layers[0].kernel
    value = _internals.value_of(variable)
    assert isinstance(value, tf.Variable)
    variable.assign([[2.0], [3.0]])
    np.testing.assert_array_equal(value.numpy(), [[2.0], [3.0]])
    value.assign([[4.0], [5.0]])
    np.testing.assert_array_equal(variable.numpy(), [[4.0], [5.0]])
    with keras.StatelessScope([(variable, tf.zeros((2, 1)))]):
        assert _internals.value_of(variable) is value is not variable.value


@asks
def global_seeds():
    keras.utils.clear_session()
    assert _internals.global_seeds() is None
    keras.utils.set_random_seed(1)
    keras.random.uniform((1,))
    state = _internals.global_seeds()
    assert isinstance(state, keras.Variable)
    before = state.numpy()
    first = keras.random.uniform((3,))
    assert (state.numpy() != before).any()
    state.assign(before)
    np.testing.assert_array_equal(keras.random.uniform((3,)), first)


@asks
def names_in_scope():
    with keras.saving.custom_object_scope({"mine": np.sin}):
        assert _internals.names_in_scope()["mine"] is np.sin
    assert "mine" not in _internals.names_in_scope()


@asks
def lacks_xla_kernel():
    for name in ("StringToHashBucketFast", "AsString", "LookupTableFindV2", "PyFunc"):
        assert _internals.lacks_xla_kernel(name), name
    for name in ("MatMul", "While", "AssignVariableOp", "Const", "NoSuchOperation"):
        assert not _internals.lacks_xla_kernel(name), name


@asks
def operation():
    read, add = _internals.operation("ReadVariableOp"), _internals.operation("AddV2")
    assert (read.name, read.is_stateful, add.is_stateful) == ("ReadVariableOp", True, False)
    assert [argument.type for argument in read.input_arg] == [tf.resource.as_datatype_enum]
    assert [argument.type_attr for argument in add.input_arg] == ["T", "T"]
    assert {"seed", "seed2"} < {a.name for a in _internals.operation("RandomUniform").attr}
    split = _internals.operation("StringSplit").input_arg
    assert {argument.type for argument in split} == {tf.string.as_datatype_enum}
    assert [a.type_list_attr for a in _internals.operation("PartitionedCall").input_arg] == ["Tin"]
    assert _internals.operation("NoSuchOperation") is None


def adder():
    read, written = tf.Variable(1.0), tf.Variable(10.0)
    function = tf.function(lambda x: written.assign_add(x + read))
    return read, written, function.get_concrete_function(tf.TensorSpec([]))


@asks
def read_only_inputs():
    read, _, concrete = adder()
    only_read = _internals.read_only_inputs(concrete.graph)
    first = len(concrete.graph.inputs) - len(concrete.captured_inputs)
    captured = [first + i for i, t in enumerate(concrete.captured_inputs) if t is read.handle]
    assert only_read == set(captured) and len(concrete.captured_inputs) == 2


@asks
def call_flat():
    read, written, concrete = adder()
    other = tf.Variable(100.0)
    places = [t if t is read.handle else other.handle for t in concrete.captured_inputs]
    assert float(_internals.call_flat(concrete, [tf.constant(2.0), *places])) == 103
    assert (float(other), float(written), float(read)) == (103, 10, 1)


SETTINGS = """
import json, tensorflow as tf
from anneal_utils import _internals
before = _internals.is_deterministic()
tf.config.experimental.enable_op_determinism()
print(json.dumps([before, _internals.is_deterministic(), _internals.has_onednn()]))
"""


@asks
def is_deterministic():
    assert elsewhere(SETTINGS, TF_ENABLE_ONEDNN_OPTS="1")[:2] == [False, True]


@asks
def has_onednn():
    on = elsewhere(SETTINGS, TF_ENABLE_ONEDNN_OPTS="1")[2]
    off = elsewhere(SETTINGS, TF_ENABLE_ONEDNN_OPTS="0")[2]
    assert off is False
    if (platform.system(), platform.machine()) == ("Linux", "x86_64"):
        assert on is True


INTERRUPTED = """
import json
from anneal_utils import _internals
import keras, numpy as np
model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
model.compile(keras.optimizers.SGD(0.5), "mse")
told = [_internals.interrupted(model)]

def batches():
    yield np.ones((1, 1)), np.ones((1, 1))
    yield np.ones((1, 1)), np.ones((1, 1))
    told.append(_internals.interrupted(model))
    if FORGET:
        _internals.forget_fit(model)
    for variable in model.weights:
        variable.assign(np.full(variable.shape, 7.0))
    raise KeyboardInterrupt

try:
    model.fit(batches(), steps_per_epoch=4, verbose=0)
except KeyboardInterrupt:
    told += [_internals.interrupted(model), float(model.get_weights()[0][0, 0])]
print(json.dumps(told))
"""


@asks
def interrupted():
    told = elsewhere("FORGET = False\n" + INTERRUPTED, KERAS_BACKEND="jax")
    assert told[:3] == [False, True, False] and told[3] != 7.0  # the fit's own weights came back
    assert not _internals.interrupted(network())  # TensorFlow has nothing of the kind


@asks
def forget_fit():
    assert elsewhere("FORGET = True\n" + INTERRUPTED, KERAS_BACKEND="jax")[3] == 7.0


def own_names() -> list[str]:
    """The functions and constants of _internals."""
    return [
        name
        for name, value in vars(_internals).items()
        if not name.startswith("_")
        and (name in ("COMPUTING", "UPDATE", "DECAY", "CURRENT_RATE") or inspect.isfunction(value))
    ]


@pytest.mark.parametrize("name", own_names())
def test_the_installed_versions_are_as_the_package_relies_on(name):
    ASKED[name]()  # a function that nobody asks fails here


def test_all_that_is_asked_is_there():
    assert set(ASKED) == set(own_names()) and len(ASKED) >= 17


WITHOUT = """
import json, sys
sys.modules["tensorflow"] = None  # as if it were not installed
from anneal_utils import _internals
import keras
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
optimizer = keras.optimizers.SGD(0.5)
optimizer.build(model.trainable_variables)
keras.random.uniform((1,))
print(json.dumps([
    keras.backend.backend(),
    int(_internals.counter(optimizer)),
    float(_internals.rate_source(optimizer)),
    _internals.index_of(optimizer, model.trainable_variables[1]),
    len(_internals.layers_of(model)),
    list(_internals.value_of(model.trainable_variables[0]).shape),
    list(_internals.global_seeds().shape),
]))
"""


def test_what_is_of_keras_alone_needs_no_tensorflow():
    told = elsewhere(WITHOUT, KERAS_BACKEND="jax")
    assert told[:4] == ["jax", 0, 0.5, 1] and told[4] >= 2 and told[5:] == [[2, 1], [2]]


# --------------------------------------------------------------------- nobody else reads them

HIDDEN = ("keras.src", "tensorflow.python", "tensorflow.core", "tensorflow.compiler")
# Private by their look, but documented: of the standard library, and of named tuples.
DOCUMENTED = {"os._exit", "sys._getframe", "_asdict", "_fields", "_make", "_replace"}
# The way of processes to end, which the repository's tools share with the package; and what is
# to have a registry.
ALLOWED = {
    ("tools/notebooks.py", "anneal_utils._signals"),
    ("anneal_utils/benchmark.py", "problems._makers"),
}


# TensorFlow's own, though they do not look private.
UNDOCUMENTED = {"call_preflattened", "inference_fn"}


def is_private(name: str) -> bool:
    underscored = name.startswith("_") and not name.endswith("__") and name != "_"
    return underscored or name in UNDOCUMENTED


def room_of(path: str) -> str:
    """A package of anneal_utils is one room; any other file is a room of its own."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "anneal_utils" and len(parts) > 2 else path


def defined(tree: ast.AST) -> set[str]:
    """The private names that a file gives to things: of functions, classes, values, attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own(node):
            found.add(node.attr)
    return {name for name in found if is_private(name)}


def own(node: ast.Attribute) -> bool:
    """Whether it is an attribute of ``self``, ``cls`` or ``super()``."""
    of = node.value.func if isinstance(node.value, ast.Call) else node.value
    return isinstance(of, ast.Name) and of.id in ("self", "cls", "super")


@functools.cache
def of_keras() -> frozenset[str]:
    """The private names of Keras's own objects, which are nobody's, whoever has the same."""
    model = network()
    optimizers = [model.optimizer, keras.optimizers.Adam(), keras.optimizers.LossScaleOptimizer]
    restarts = keras.optimizers.schedules.CosineDecayRestarts(0.1, 10)
    objects = [*optimizers, model, model.layers[0], model.layers[0].kernel, restarts]
    return frozenset(
        name for thing in objects for name in dir(thing) if is_private(name) and len(name) > 4
    )


def is_hidden(module: str, path: str) -> bool:
    """Whether the file at ``path`` has no business in the module."""
    if module.startswith(HIDDEN):
        return True
    parts = module.split(".")
    private = [i for i, part in enumerate(parts) if is_private(part)]
    if not private:
        return False
    return not path.startswith("/".join(parts[: private[0]]) + "/")


def reaches(path: str, source: str, names: set[str]) -> list[str]:
    """What a file reads of others' insides; ``names`` are the private names of its room."""
    tree, found = ast.parse(source), []
    passing = set()  # "_iterations = passed_on("_iterations")": a subclass has what it inherits
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            given = {t.id for t in node.targets if isinstance(t, ast.Name)}
            values = node.value.args
            passing |= {id(a) for a in values if isinstance(a, ast.Constant) and a.value in given}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if is_hidden(a.name, path)]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{a.name}" for a in node.names]
            found += [module for module in modules if not node.level and is_hidden(module, path)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and not own(node):
            text = ast.unparse(node)
            if not ({text, node.attr} & DOCUMENTED) and (
                node.attr not in names or node.attr in of_keras()
            ):
                found.append(text)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            hidden = node.value.startswith(tuple(f"{module}." for module in HIDDEN))
            if hidden or (node.value in of_keras() and id(node) not in passing):
                found.append(repr(node.value))
    return [what for what in found if (path, what) not in ALLOWED]


def sources() -> dict[str, str]:
    """The Python of the package, the tools, the benchmarks and the notebooks, by path."""
    found = {}
    for folder in ("anneal_utils", "tools", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            found[file.relative_to(ROOT).as_posix()] = file.read_text()
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(file.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        lines = [line for cell in code for line in cell.splitlines() if line[:1] not in "%!"]
        found[f"notebooks/{file.name}"] = "\n".join(lines)
    return found


def test_nobody_else_reads_the_insides_of_others():
    files, names = sources(), {}
    assert HOME in files and len([path for path in files if path.endswith(".ipynb")]) >= 7
    for path, source in files.items():
        names.setdefault(room_of(path), set()).update(defined(ast.parse(source)))
    told = {
        path: reaches(path, source, names[room_of(path)])
        for path, source in files.items()
        if path != HOME
    }
    assert not {path: what for path, what in told.items() if what}
    # and in the one file there is what is looked for
    assert len(reaches(HOME, files[HOME], names[HOME])) > 15


BAD = '''
from keras.src import ops
from keras.src.backend.common import global_state as state
import tensorflow.python.util
from tensorflow.core.framework import types_pb2
from anneal_utils.optimizers._wrapper import unwrap
from anneal_utils.schedules import _parts

def read(model, optimizer):
    """Keras has ``model._flatten_layers``; to mention it is no sin."""
    optimizer._iterations.assign(0)
    model._secret = getattr(optimizer, "_learning_rate")
    model.step.inference_fn(1)
    return unwrap(optimizer)._get_variable_index(0), _parts.real._inner, "keras.src.losses"
'''
GOOD = """
import os
import keras
from anneal_utils import _checks
from anneal_utils.callbacks import _optimizers

class Mine(keras.optimizers.SGD):
    _iterations = passed_on("_iterations")

    def __init__(self, other):
        super().__init__(0.1)
        self._mine, self._iterations = other._mine, 0
        super()._apply_weight_decay([])

    @classmethod
    def leave(cls):
        cls._kept = _optimizers.say
        os._exit(0)
"""


def test_the_search_finds_what_is_there_and_nothing_else():
    path = "anneal_utils/callbacks/bad.py"
    assert sorted(reaches(path, BAD, defined(ast.parse(BAD)))) == sorted(
        [
            *("keras.src.ops", "keras.src.backend.common.global_state", "tensorflow.python.util"),
            "tensorflow.core.framework.types_pb2",
            *("anneal_utils.optimizers._wrapper.unwrap", "anneal_utils.schedules._parts"),
            *("optimizer._iterations", "model._secret", "'_learning_rate'"),
            "model.step.inference_fn",
            *("unwrap(optimizer)._get_variable_index", "_parts.real._inner", "'keras.src.losses'"),
        ]
    )
    assert reaches(path, GOOD, defined(ast.parse(GOOD))) == []
    # the same text, elsewhere: callbacks' own room is not for the optimizers
    told = reaches("anneal_utils/optimizers/good.py", GOOD, defined(ast.parse(GOOD)))
    assert told == ["anneal_utils.callbacks._optimizers"]
    # and a name that the room gives to something of its own does not excuse Keras's
    assert reaches(path, "optimizer._iterations", {"_iterations"}) == ["optimizer._iterations"]
    assert reaches(path, "other._mine", {"_mine"}) == []
