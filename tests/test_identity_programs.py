"""What a program's text holds: all that it computes with, and no names."""

from anneal_utils import identity

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import function


def text_of(f):
    """The digest of the function of one vector."""
    traced = tf.function(f, autograph=False).get_concrete_function(tf.TensorSpec([4]))
    return identity.program(traced)


def nested(factor, **settings):
    @tf.function(**settings)
    def inner(x):
        return factor * tf.sin(x)

    return lambda x: inner(x) + 1


def looped(factor):
    return lambda x: tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, factor * x), (0, x))[1]


def branched(factor):
    return lambda x: tf.cond(x[0] > 0, lambda: x, lambda: factor * x)


def mapped(factor):
    return lambda x: tf.map_fn(lambda entry: factor * entry, x)


def told(text):
    return lambda x: x * tf.strings.to_number(text)


def looked_up(text):
    return lambda x: tf.where(tf.equal(tf.constant(["a", "b"]), text)[:, None], x, 0)


def gradient(factor):
    @tf.custom_gradient
    def sign(x):
        return tf.sign(x), lambda gradient: factor * gradient

    def f(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = sign(x)
        return tape.gradient(y, x)

    return f


def assigned(*order):
    variable = tf.Variable(1.0)
    changes = [lambda: variable.assign_add(1.0), lambda: variable.assign(3 * variable)]

    def f(x):
        for number in order:
            changes[number]()
        return x + variable

    return f


def old_call(factor, name="called"):
    @function.Defun(tf.float32, func_name=f"{name}_{factor:g}".replace(".", "_"))
    def called(x):
        return factor * tf.sin(x)

    return lambda x: called(x) + 1


def placed(device):
    def f(x):
        with tf.device(device):
            return tf.sin(x)

    return f


@pytest.mark.parametrize(
    "make, one, other",
    [
        *((make, 2.0, 2.0000002) for make in (nested, looped, branched, mapped, gradient)),
        *((old_call, 2.0, 3.0), (told, "1.0", "2.0"), (looked_up, "a", "b")),
        (placed, "/cpu:0", None),
    ],
)
def test_everything_that_a_program_computes_with_is_in_its_digest(make, one, other):
    assert text_of(make(one)) == text_of(make(one)) != text_of(make(other))


def test_the_order_of_changes_and_the_way_of_compiling_are_in_a_programs_digest():
    assert text_of(assigned(0, 1)) == text_of(assigned(0, 1)) != text_of(assigned(1, 0))
    assert text_of(nested(2.0)) != text_of(nested(2.0, jit_compile=True))
    assert text_of(lambda x: x[0] - x[1]) != text_of(lambda x: x[1] - x[0])
    assert text_of(lambda x: tf.sin(x) - x) != text_of(lambda x: x - tf.sin(x))
    assert text_of(lambda x: (x, 2 * x)) != text_of(lambda x: (2 * x, x))


def test_names_are_not_in_a_programs_digest():
    def asserting(name):
        def f(x):
            tf.debugging.assert_equal(x, tf.identity(x, name=name), message=name)
            return tf.debugging.check_numerics(tf.sin(x, name=name), name)

        return f

    def renamed(x):
        return looped(2.0)(x)

    assert text_of(asserting("a")) == text_of(asserting("b"))
    assert text_of(old_call(2.0, "a")) == text_of(old_call(2.0, "b"))
    assert text_of(renamed) == text_of(looped(2.0))


def test_operations_without_a_state_outside_their_text():
    """Of all that TensorFlow has: neither too much is trusted, nor too little."""

    def found(f):
        return identity.stateful(tf.function(f, autograph=False).get_concrete_function())

    seed, x = tf.constant([1, 2]), tf.ones([3, 3])
    variable, generator = tf.Variable(x), keras.random.SeedGenerator(1)
    rng = tf.random.Generator.from_seed(1)
    for readable in [
        lambda: tf.random.stateless_normal([2], seed),
        lambda: keras.random.dropout(x, 0.5, seed=generator),
        lambda: rng.normal([2]),
        lambda: variable.assign_add(x).scatter_nd_add([[0, 0]], [1.0]),
        lambda: tf.while_loop(lambda i: i < 3, lambda i: [i + 1], [0]),
        lambda: tf.cond(x[0, 0] > 0, lambda: x, lambda: 2 * x),
        lambda: tf.function(tf.sin)(x),
        lambda: tf.debugging.check_numerics(x, "x"),
        lambda: tf.debugging.assert_equal(variable, x) and None,
    ]:
        assert found(readable) == []
    for outside in [
        lambda: tf.random.normal([2]),
        lambda: tf.timestamp(),
        lambda: tf.io.matching_files("*"),
        lambda: tf.data.Dataset.range(3).reduce(np.int64(0), lambda a, b: a + b),
        lambda: tf.numpy_function(np.sin, [x], tf.float32, stateful=False),
        lambda: tf.io.read_file("x"),
        lambda: tf.raw_ops.FIFOQueueV2(component_types=[tf.float32]),
        lambda: tf.raw_ops.ResourceConditionalAccumulator(
            dtype=tf.float32, shape=[], container="", shared_name="a"
        ),
        lambda: tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[]),
    ]:
        assert found(outside) != []
