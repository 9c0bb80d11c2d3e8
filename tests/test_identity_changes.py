"""What a user changes between two trainings is trained as it is then, under another name."""

import contextlib
import functools
import types

from anneal_utils import problems, training

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import assert_as_fit, assert_same_rows, forget
from small_identity import (
    Maker,
    MyInitializer,
    MySGD,
    losses,
    model,
    one,
    plain,
    scaled,
    sgd,
    trial,
)

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.usefixtures("leave_nothing")
L = keras.layers
SGD = keras.optimizers.SGD


SCALE = 1.0  # read by functions below


def knobs(settings, rate):
    return SGD(rate, **settings)


def closure_of_the_optimizer(patch):
    momentum = 0.0

    def change():
        nonlocal momentum
        momentum = 0.9

    return trial(plain(), lambda rate: SGD(rate, momentum=momentum)), change


def closure_of_the_loss(patch):
    factor = 1.0

    def change():
        nonlocal factor
        factor = 3.0

    return trial(plain(), loss=lambda y, answer: scaled(factor)(y, answer)), change


def closure_of_the_model(patch):
    settings = {"stddev": 0.1}
    return trial(lambda: model(**settings)()), lambda: settings.update(stddev=0.5)


def width_of_the_model(patch):
    width = [2]

    def build():
        return keras.Sequential([keras.Input((64,)), L.Dense(width[0]), L.Dense(3)])

    return trial(build), lambda: width.__setitem__(0, 5)


def attribute_of_a_module(patch):
    module = types.ModuleType("knobs")
    module.momentum = 0.0
    maker = lambda rate: SGD(rate, momentum=module.momentum)  # noqa: E731
    return trial(plain(), maker), lambda: setattr(module, "momentum", 0.9)


def attribute_of_a_maker(patch):
    maker = Maker()
    return trial(plain(), maker), lambda: setattr(maker, "momentum", 0.9)


def attribute_of_an_optimizer_class(patch):
    return trial(plain(), MySGD), lambda: patch.setattr(MySGD, "factor", 3.0)


def method_of_an_optimizer_class(patch):
    def update_step(self, gradient, variable, learning_rate):
        SGD.update_step(self, 5 * gradient, variable, learning_rate)

    return trial(plain(), MySGD), lambda: patch.setattr(MySGD, "update_step", update_step)


def dict_in_a_partial(patch):
    settings = {"momentum": 0.0}
    maker = functools.partial(knobs, settings)
    return trial(plain(), maker), lambda: settings.update(momentum=0.9)


def keywords_of_a_partial(patch):
    maker = functools.partial(SGD, momentum=0.0)
    return trial(plain(), maker), lambda: maker.keywords.update(momentum=0.9)


def defaults_of_a_function(patch):
    def maker(rate, momentum=0.0):
        return SGD(rate, momentum=momentum)

    return trial(plain(), maker), lambda: setattr(maker, "__defaults__", (0.9,))


def knob_of_a_keras_loss(patch):
    loss = keras.losses.Huber(1.0)
    return trial(plain(), loss=loss), lambda: loss._fn_kwargs.update(delta=0.01)


def function_of_a_keras_loss(patch):
    loss = keras.losses.Huber(1.0)
    return trial(plain(), loss=loss), lambda: setattr(loss, "fn", lambda *_, **__: scaled(7)(*_))


def a_loss_that_wraps_one_of_keras(patch):
    @functools.wraps(keras.losses.mean_squared_error)
    def loss(y, answer):
        return SCALE * keras.losses.mean_squared_error(y, answer)

    assert loss.__module__.startswith("keras.")
    return trial(plain(), loss=loss), lambda: patch.setitem(globals(), "SCALE", 3.0)


def matrix_of_a_loss(patch):
    matrix = np.ones(3, "float32")
    return trial(plain(), loss=problems.quadratics._quadratic_loss(matrix)), lambda: matrix.fill(3)


def knob_of_a_keras_regularizer(patch):
    regularizer = keras.regularizers.L2(0.1)
    build = plain(kernel_regularizer=regularizer)
    return trial(build), lambda: setattr(regularizer, "l2", 1.0)


def attribute_of_an_initializer_class(patch):
    build = plain(kernel_initializer=MyInitializer())
    return trial(build), lambda: patch.setattr(MyInitializer, "scale", 0.2)


def name_that_keras_knows(patch):
    known = keras.saving.get_custom_objects()
    patch.setitem(known, "mine", MyInitializer)
    build = plain(kernel_initializer="mine")
    return trial(build), lambda: patch.setitem(known, "mine", keras.initializers.GlorotNormal)


def registered_activation(patch):
    known, name = keras.saving.get_custom_objects(), "mine>activation"
    config = dict(module="builtins", class_name="function", config=name, registered_name=name)
    patch.setitem(known, name, keras.ops.tanh)
    return trial(plain(activation=config)), lambda: patch.setitem(known, name, keras.ops.relu)


def file_of_a_model(patch, path):
    build = functools.partial(keras.models.load_model, path, compile=False)
    first, second = (plain(kernel_initializer="he_normal")() for _ in range(2))
    first.save(path)
    return trial(build), lambda: second.save(path)


def value_of_a_variable(patch):
    variable = tf.Variable(1.0)
    loss = lambda y, answer: variable * scaled(1.0)(y, answer)  # noqa: E731
    return trial(plain(), loss=loss), lambda: variable.assign(3.0)


def floatx(patch):
    patch.callback(keras.config.set_floatx, "float32")
    return trial(plain()), lambda: keras.config.set_floatx("float64")


def epsilon(patch):
    patch.callback(keras.config.set_epsilon, keras.config.epsilon())
    build = plain(activation="sigmoid")
    return trial(build, loss="kl_divergence"), lambda: keras.config.set_epsilon(0.2)


def dtype_policy(patch):
    patch.callback(keras.config.set_dtype_policy, "float32")
    return trial(plain()), lambda: keras.config.set_dtype_policy("float64")


CHANGES = [
    *(closure_of_the_optimizer, closure_of_the_loss, closure_of_the_model, width_of_the_model),
    *(attribute_of_a_module, attribute_of_a_maker, attribute_of_an_optimizer_class),
    *(method_of_an_optimizer_class, dict_in_a_partial, keywords_of_a_partial),
    *(defaults_of_a_function, knob_of_a_keras_loss, function_of_a_keras_loss),
    *(a_loss_that_wraps_one_of_keras, matrix_of_a_loss, knob_of_a_keras_regularizer),
    *(attribute_of_an_initializer_class, name_that_keras_knows, registered_activation),
    *(file_of_a_model, value_of_a_variable, floatx, epsilon, dtype_policy),
]


class Patch(pytest.MonkeyPatch):
    """Also calls functions at its end."""

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.callback = self.stack.callback


@pytest.fixture
def patch():
    made = Patch()
    yield made
    made.undo()
    made.stack.close()


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.__name__)
def test_a_change_between_two_trainings_is_trained(case, patch, tmp_path):
    more = [str(tmp_path / "model.keras")] if case is file_of_a_model else []
    (problem, runs, *_), change = case(patch, *more)
    first = training.train(problem, runs, mode="graph")
    change()
    second = training.train(problem, runs, mode="graph")
    forget()  # as in another process
    assert_same_rows(second, training.train(problem, runs, mode="graph"))
    assert first.run[0] != second.run[0]
    if case is not floatx:  # the frame's single precision may not show it
        assert not np.array_equal(losses(first), losses(second))


def test_the_changed_run_is_that_of_fit_and_of_another_maker():
    momentum = 0.0
    problem, runs, *_ = trial(plain(), lambda rate: SGD(rate, momentum=momentum))
    before = training.train(problem, runs, mode="graph")
    momentum = 0.9
    frame = training.train(problem, runs, mode="graph")
    other = training.train(problem, one(sgd(momentum=0.9)), mode="graph")
    assert_same_rows(frame, other)
    assert_as_fit(problem, runs[0], frame)
    assert not np.array_equal(losses(frame), losses(before))
