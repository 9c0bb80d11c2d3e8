"""What surely does not change is known, and told apart; anything of a user's may change."""

import contextlib
import dataclasses
import functools
import math
import types

from anneal_utils import optimizers, problems
from anneal_utils.training.unchanging import unchanging

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_identity import LEAVES, Maker, MyInitializer, MySGD, elsewhere, plain, scaled

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.usefixtures("leave_nothing")
L = keras.layers
SGD = keras.optimizers.SGD


SCALE = 1.0  # read by functions below


def settings_of(value):
    """What ``unchanging`` gives, for a value that it knows."""
    found = unchanging(value)
    assert found is not None and hash(found) == hash(unchanging(value))
    return found


@pytest.mark.parametrize("name", problems.names()[:-2])  # without the downloads
def test_the_problems_of_the_catalogue_are_known_not_to_change(name):
    problem = problems.load(name)
    parts = (problem.build, problem.loss, problem.metrics)
    assert settings_of(parts) == unchanging(parts)


KNOWN = [
    *LEAVES[:-9],
    *("sgd", SGD, keras.optimizers.Adam, optimizers.SWATS, keras.losses.Huber, b"a"),
    *((), [], {}, (1,), [1], {1: 2}, [1, 2], [[1, 2]], (1, 2), {"a": [1]}, ("a", [1])),
    *(np.zeros(2), np.zeros(3), np.zeros(2, "f4"), np.array([0.0, -0.0])),
    *(np.float32(2), np.float64(2), np.int8(2)),
    *(keras.losses.mean_squared_error, keras.losses.mean_absolute_error, keras.losses.huber),
    *(keras.activations.relu, keras.initializers.Zeros(), keras.initializers.Ones()),
    *(plain(), plain(activation="relu"), functools.partial(problems.models.mlp, 64, (5,), 3)),
    *(functools.partial(SGD, momentum=m) for m in (0, 0.0, 0.9, False, [0.9])),
    *(keras.losses.Huber(delta) for delta in (1.0, 0.5)),
    *(problems.quadratics._quadratic_loss(np.full(2, x)) for x in (1, 2)),
    *(keras.initializers.RandomNormal(stddev=x, seed=1) for x in (0.1, 0.2)),
    *(keras.initializers.RandomNormal(seed=2), keras.initializers.HeNormal(seed=2)),
    *(keras.regularizers.L2(factor) for factor in (0.1, 0.2)),
    *(
        functools.partial(problems.models.mlp, 64, knob=knob)
        for knob in ({"a": 1}, ["a", 1], ("a", 1))
    ),
]


def test_what_is_known_not_to_change_is_told_apart():
    found = [settings_of(value) for value in KNOWN]
    assert len(set(found)) == len(found)
    for make in (
        plain,
        lambda: keras.losses.Huber(2.0),
        lambda: functools.partial(SGD, momentum=1),
    ):
        assert settings_of(make()) == settings_of(make())


class OwnLoss(keras.losses.Loss):
    def call(self, y, answer):
        return SCALE * keras.ops.mean((y - answer) ** 2, axis=-1)


class Disguised(OwnLoss):
    __module__, __qualname__ = "keras.src.losses.losses", "Huber"


class OwnPartial(functools.partial):
    def __call__(self, rate):
        return SGD(rate, momentum=SCALE)


class Texts(str):
    pass


class Numbers(float):
    pass


class Lists(list):
    pass


class Pairs(tuple):
    pass


class Dicts(dict):
    pass


class Arrays(np.ndarray):
    pass


@dataclasses.dataclass
class Settings:
    momentum: float = 0.0


def wrapped(function):
    return functools.wraps(function)(lambda *values: SCALE * function(*values))


def executed(**names):
    exec("def loss(y, answer): return factor * (y - answer)", names)
    return names["loss"]


def unfilled():
    def inner():
        return later

    inner.__module__ = "keras.src.losses.losses"
    if inner is None:
        later = 1
    return inner


def with_default(value):
    """One of the package's functions, as if a user had set its default."""
    function = types.FunctionType(problems.models.mlp.__code__, vars(problems), "_mlp", (value,))
    function.__kwdefaults__ = problems.models.mlp.__kwdefaults__
    return function


def with_closure(value):
    """One of the package's functions, as if a user had called its maker."""
    code = problems.quadratics._quadratic_loss(1.0).__code__
    return types.FunctionType(code, vars(problems), "loss", None, (types.CellType(value),))


def altered(instance, **attributes):
    vars(instance).update(attributes)
    return instance


def recursive():
    values = []
    values.append(values)
    return values


UNKNOWN = {
    "lambda": lambda: lambda rate: SGD(rate),
    "function": lambda: scaled,
    "closure": lambda: scaled(1.0),
    "disguised function": lambda: elsewhere,
    "wrapping function": lambda: wrapped(keras.losses.mean_squared_error),
    "executed function": executed,
    "executed function in disguise": lambda: executed(__name__="keras.src.losses.losses"),
    "unfilled closure": unfilled,
    "bound method": lambda: Maker().__call__,
    "method of a keras object": lambda: keras.losses.Huber().call,
    "built-in function": lambda: [].append,
    "generator": lambda: (x for x in ()),
    "iterator": lambda: iter([1]),
    "object": Maker,
    "dataclass": Settings,
    "class": lambda: Maker,
    "optimizer class": lambda: MySGD,
    "disguised class": lambda: Disguised,
    "module": lambda: math,
    "text": lambda: Texts("sgd"),
    "number": lambda: Numbers(1),
    "list": lambda: Lists(),
    "tuple": lambda: Pairs(),
    "dict": lambda: Dicts(),
    "set": lambda: {1},
    "array": lambda: np.zeros(2).view(Arrays),
    "array of objects": lambda: np.array([Maker()]),
    "variable": lambda: tf.Variable(1.0),
    "keras variable": lambda: keras.Variable(1.0),
    "tensor": lambda: tf.constant(1.0),
    "traced function": lambda: tf.function(scaled(1.0)),
    "layer": lambda: L.Dense(3),
    "model": lambda: plain()(),
    "optimizer": SGD,
    "metric": keras.metrics.MeanSquaredError,
    "schedule": lambda: keras.optimizers.schedules.CosineDecay(0.1, 3),
    "random generator": lambda: np.random.default_rng(0),
    "seed generator": lambda: keras.random.SeedGenerator(0),
    "initializer with a seed generator": lambda: keras.initializers.RandomNormal(
        seed=keras.random.SeedGenerator(0)
    ),
    "initializer": MyInitializer,
    "initializer of a tensor": lambda: keras.initializers.Constant(tf.constant(1.0)),
    "loss": OwnLoss,
    "disguised loss": Disguised,
    "keras loss around a function": lambda: altered(keras.losses.Huber(), fn=scaled(1.0)),
    "keras loss with an object": lambda: altered(keras.losses.Huber(), _fn_kwargs={"x": Maker()}),
    "keras loss with a method": lambda: altered(keras.losses.Huber(), call=scaled(1.0)),
    "keras loss with a layer": lambda: altered(keras.losses.Huber(), layer=L.Dense(3)),
    "partial of a lambda": lambda: functools.partial(lambda rate: SGD(rate)),
    "partial with an object": lambda: functools.partial(SGD, knob=Maker()),
    "partial with a lambda": lambda: functools.partial(problems.models.mlp, activation=lambda x: x),
    "own kind of partial": lambda: OwnPartial(SGD),
    "function with an object in its closure": lambda: with_closure(Maker()),
    "function with an object as default": lambda: with_default(Maker()),
    "reader of a file": lambda: functools.partial(keras.models.load_model, "model.keras"),
    "reader of an array": lambda: functools.partial(np.load, "array.npy"),
    "model of a text": lambda: functools.partial(keras.models.model_from_json, "{}"),
    "configuration": lambda: {"class_name": "Huber", "config": {}},
    "deep": lambda: functools.reduce(lambda inner, _: [inner], range(20), 1),
    "recursive": recursive,
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_anything_of_a_users_may_change(make):
    value = make()
    for holder in (value, (value,), [1, value], {"a": value}, functools.partial(SGD, value)):
        assert unchanging(holder) is None
    with contextlib.suppress(TypeError):  # not hashable
        assert unchanging({value: 1}) is None


def test_names_that_stand_for_registered_objects_may_change(monkeypatch):
    known = keras.saving.get_custom_objects()
    assert unchanging("mine>loss") and unchanging(plain())
    monkeypatch.setitem(known, "mine>loss", scaled(1.0))
    assert unchanging("mine>loss") is None and unchanging(["sgd", "mine>loss"]) is None
    assert unchanging("sgd") and unchanging(plain())
    # A name without a package may be one of Keras's own, also inside of Keras.
    monkeypatch.setitem(known, "zeros", keras.initializers.Ones)
    assert unchanging("sgd") is None and unchanging(plain()) is None
    monkeypatch.delitem(known, "zeros")
    with keras.saving.custom_object_scope({"glorot_uniform": keras.initializers.Ones}):
        assert unchanging(plain()) is None
    assert unchanging(plain())


def test_settings_of_keras_change_what_everything_means():
    def found():
        return unchanging(plain())

    before = found()
    for read, set_to, value in [
        (keras.config.floatx, keras.config.set_floatx, "float64"),
        (keras.config.epsilon, keras.config.set_epsilon, 1e-3),
        (keras.config.dtype_policy, keras.config.set_dtype_policy, "mixed_bfloat16"),
        (keras.config.image_data_format, keras.config.set_image_data_format, "channels_first"),
    ]:
        known = read()
        set_to(value)
        assert found() not in (before, None)
        set_to(known)
    assert found() == before
