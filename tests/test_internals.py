"""The canary: what the package relies on in Keras's and TensorFlow's insides is still so.

An update of either that changes a private thing fails here first, by the name of the function
that reads it. That nobody but ``anneal_utils/_internals.py`` reads such things is told by the tests
of its readers.
"""

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
from elsewhere import python

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


# Of Keras on JAX, where TensorFlow is not installed: a process that answers three questions.
ON_JAX = """
import json, sys
sys.modules["tensorflow"] = None  # as if it were not installed
from anneal_utils import _internals
import keras, numpy as np

def alone():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.5)
    optimizer.build(model.trainable_variables)
    keras.random.uniform((1,))
    return [
        keras.backend.backend(),
        int(_internals.counter(optimizer)),
        float(_internals.rate_source(optimizer)),
        _internals.index_of(optimizer, model.trainable_variables[1]),
        len(_internals.layers_of(model)),
        list(_internals.value_of(model.trainable_variables[0]).shape),
        list(_internals.global_seeds().shape),
    ]

def interrupted(forget):
    layer = keras.layers.Dense(1, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    told = [_internals.interrupted(model)]

    def batches():
        yield np.ones((1, 1)), np.ones((1, 1))
        yield np.ones((1, 1)), np.ones((1, 1))
        told.append(_internals.interrupted(model))
        if forget:
            _internals.forget_fit(model)
        for variable in model.weights:
            variable.assign(np.full(variable.shape, 7.0))
        raise KeyboardInterrupt

    try:
        model.fit(batches(), steps_per_epoch=4, verbose=0)
    except KeyboardInterrupt:
        told += [_internals.interrupted(model), float(model.get_weights()[0][0, 0])]
    return told

print(json.dumps([alone(), interrupted(False), interrupted(True)]))
"""


@asks
def interrupted():
    told = elsewhere(ON_JAX, KERAS_BACKEND="jax")[1]
    assert told[:3] == [False, True, False] and told[3] != 7.0  # the fit's own weights came back
    assert not _internals.interrupted(network())  # TensorFlow has nothing of the kind


@asks
def forget_fit():
    assert elsewhere(ON_JAX, KERAS_BACKEND="jax")[2][3] == 7.0


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


def test_what_is_of_keras_alone_needs_no_tensorflow():
    told = elsewhere(ON_JAX, KERAS_BACKEND="jax")[0]
    assert told[:4] == ["jax", 0, 0.5, 1] and told[4] >= 2 and told[5:] == [[2, 1], [2]]
