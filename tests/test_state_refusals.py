"""What can not be a run's own is refused by name; what is only read is not."""

import functools

from anneal_utils import training

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from small import assert_as_fit
from small_state import Counter, Turning, around, dense, short

pytest_plugins = ["small_fixtures"]

L = keras.layers
SGD = keras.optimizers.SGD


class Drawing(L.Layer):
    """Adds what ``draw`` gives while it trains."""

    def __init__(self, draw, always=False):
        super().__init__()
        self.draw, self.always = draw, always

    def call(self, inputs, training=False):
        return inputs + self.draw(tf.shape(inputs)) if training or self.always else inputs


class Tabled(L.Layer):
    """Counts in a table, or only reads in one."""

    def __init__(self, counts):
        super().__init__()
        self.counts = counts
        start = tf.lookup.KeyValueTensorInitializer([0], [2.0])
        self.table = (
            tf.lookup.experimental.MutableHashTable(tf.int32, tf.float32, 1.0)
            if counts
            else tf.lookup.StaticHashTable(start, 0.0)
        )

    def compute_output_spec(self, inputs, training=False):
        return keras.KerasTensor(inputs.shape, inputs.dtype)

    def call(self, inputs, training=False):
        value = tf.reshape(self.table.lookup(tf.zeros([1], tf.int32)), [1])
        if training and self.counts:
            self.table.insert(tf.zeros([1], tf.int32), value + 1)
        return inputs * value[0]


class Shared(SGD):
    """Keeps a variable that was made before."""

    def build(self, variables):
        super().build(variables)
        self._track_variable(BEFORE)


class Unrepeatable(SGD):
    """Starts from another number every time."""

    def build(self, variables):
        super().build(variables)
        self.number = tf.Variable(FREE.uniform(), dtype="float32")

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient * self.number, variable, learning_rate)


FREE = np.random.default_rng()  # follows no seed of a run
BEFORE = keras.Variable(0.0, name="before")
OUTSIDE = tf.Variable(1.0, name="outside")
ONE_MODEL, ONE_LAYER, ONE_OPTIMIZER = dense(), L.Dense(4), SGD(0.1)
ONE_LAYER.build((None, 64))


def counting_loss(y, prediction):
    OUTSIDE.assign_add(1.0)
    return OUTSIDE * keras.losses.sparse_categorical_crossentropy(y, prediction, from_logits=True)


class Told(keras.metrics.Metric):
    """Its configuration does not tell all of it."""

    def __init__(self, factor=1.0, name="accuracy", **settings):
        super().__init__(name=name, **settings)
        self.factor = factor

    def update_state(self, y, prediction, sample_weight=None):
        pass

    def result(self):
        return 1.0


def unrepeatable():
    return around(lambda: Counter(FREE.uniform))()


BUILDS = {
    "one model": (
        lambda: ONE_MODEL,
        r"problem.build\(\) = .*kernel.*make the model and its layers",
    ),
    "one model, made late": (
        functools.cache(dense),
        r"problem.build\(\) = .*kernel.*make the model and its layers anew",
    ),
    "a shared layer": (
        lambda: keras.Sequential([keras.Input((64,)), ONE_LAYER, L.Dense(3)]),
        r"problem.build\(\) = 'dense.*make the model and its layers anew",
    ),
    "no seed repeats it": (unrepeatable, r"problem.build\(\) = 'tiny': gives other initial values"),
    "a random operation": (
        around(lambda: Drawing(tf.random.normal)),
        "'RandomStandardNormal': draws from a stream .* use keras.random with",
    ),
    "random candidates": (
        around(
            lambda: Drawing(
                lambda shape: tf.cast(
                    tf.random.uniform_candidate_sampler(
                        tf.zeros([1, 1], tf.int64), 1, 1, False, 9
                    ).sampled_candidates[0],
                    "float32",
                )
            )
        ),
        "'UniformCandidateSampler': draws from a stream .* use keras.random with",
    ),
    "Keras's own generator": (
        around(lambda: Drawing(keras.random.normal)),
        "'keras.random without a seed': draws from a stream .*SeedGenerator that the layer",
    ),
    "Keras's own generator, always": (
        around(lambda: Drawing(keras.random.normal, always=True)),
        "'keras.random without a seed': draws from a stream .*SeedGenerator that the layer",
    ),
    "TensorFlow's own generator": (
        around(lambda: Drawing(lambda shape: tf.random.get_global_generator().normal(shape))),
        "variable = .*StateVar.* is changed by the training, .* make it there",
    ),
    "a table": (
        around(lambda: Tabled(counts=True)),
        "'LookupTableInsertV2': changes what is no variable .* keep it in a variable",
    ),
}
OPTIMIZERS = {
    "one object": (lambda rate: ONE_OPTIMIZER, "returns the same object .* make a new one"),
    "its own rate": (lambda rate: SGD(0.1), "ignores the rate .*stays 0.1.* pass the rate on"),
    "twice the rate": (lambda rate: SGD(2 * rate), "pass it on unchanged, .*unsupported operand"),
    "root of the rate": (lambda rate: SGD(np.sqrt(rate)), "pass it on unchanged, .*ufunc"),
    "rate as a number": (lambda rate: SGD(float(rate)), "pass it on unchanged, .*real number"),
    "a variable of before": (Shared, "optimizer = 'before': is a variable .* anew in every call"),
    "no seed repeats it": (Unrepeatable, "'unrepeatable': gives other initial values"),
    "random numbers of all": (
        lambda rate: Shaken(rate),
        "'keras.random without a seed': draws from a stream",
    ),
    "around others": (
        lambda rate: keras.optimizers.LossScaleOptimizer(SGD(rate)),
        "'LossScaleOptimizer': .* wraps optimizers .*mixed_float16 .* added by itself",
    ),
    "around many": (
        lambda rate: keras.optimizers.MultiOptimizer(lambda variable: SGD(rate)),
        "'MultiOptimizer': .* wraps optimizers",
    ),
    "averages": (lambda rate: SGD(rate, use_ema=True), "use_ema = True: .*SwapEMAWeights"),
    "an error of its own": (lambda rate: SGD(rate, momentum=3), "momentum` must be a float"),
}


class Shaken(SGD):
    """Adds noise without a seed."""

    def update_step(self, gradient, variable, learning_rate):
        noise = keras.random.normal(gradient.shape)
        super().update_step(gradient + noise, variable, learning_rate)


@pytest.mark.parametrize("kind", BUILDS)
def test_a_model_that_runs_would_share_is_refused_by_name(kind):
    build, message = BUILDS[kind]
    problem = short(build)
    with pytest.raises(ValueError, match=message):
        training.train(problem, training.grid({"c": 0.1}, seeds=[1, 2]))


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimizer_that_runs_would_share_is_refused_by_name(kind):
    make, message = OPTIMIZERS[kind]
    with pytest.raises(ValueError, match=message):
        training.train(short(dense), training.grid({"c": 0.1}, seeds=[1, 2], optimizer=make))


def test_an_optimizer_around_others_is_refused_under_half_precision_too(half_precision):
    make, message = OPTIMIZERS["around others"]
    with pytest.raises(ValueError, match=message):
        training.train(short(dense), training.grid({"c": 0.1}, optimizer=make))


@pytest.mark.parametrize(
    "metric, message",
    [
        (Told(factor=2.0), r"get_config\(\) does not tell all of it"),
        (keras.metrics.MeanMetricWrapper(lambda y, p: p[:, 0]), r"get_config\(\)\) fails"),
    ],
)
def test_a_metric_that_models_would_share_is_refused_by_name(metric, message):
    problem, run = short(dense, metrics=(metric,)), training.grid({"c": 0.1})[0]
    message = f"problem.metrics = .*one of its own: .*{message}"
    with pytest.raises(ValueError, match=message):
        training.train(problem, [run])
    with pytest.raises(ValueError, match=message):
        training.fit_one(problem, run)


def test_a_variable_from_outside_that_the_training_changes_is_refused():
    problem = short(dense, loss=counting_loss)
    for mode in ("graph", "auto"):
        with pytest.raises(ValueError, match=r"variable = 'outside:0': is changed by .* make it"):
            training.train(problem, training.grid({"c": 0.1}), mode=mode)


def test_a_variable_from_outside_that_is_read_may_change_between_calls():
    outside = tf.Variable(1.0)
    problem = short(dense, loss=lambda y, p: outside * keras.ops.mean(keras.ops.square(p), -1))
    runs = training.grid({"c": 0.1}, seeds=[1, 2])
    first, same = (training.train(problem, runs, mode="graph") for _ in range(2))
    outside.assign(3.0)
    other = training.train(problem, runs, mode="graph")
    pd.testing.assert_frame_equal(first, same)
    assert (other.train_loss > 1.5 * first.train_loss).all()
    assert set(first.run).isdisjoint(other.run)
    assert_as_fit(problem, runs[0], other.iloc[:2])


def test_a_table_that_is_read_is_not_refused():
    problem = short(around(lambda: Tabled(counts=False)))
    runs = training.grid({"c": 0.1}, seeds=[1, 2])
    training.train(problem, runs)
    assert training.identities(problem, runs) == [None, None]  # what is in it, nobody knows


def test_refusals_leave_the_random_numbers_of_others_alone():
    np.random.seed(7)
    expected = np.random.RandomState(7).uniform(size=3)
    for make in (Unrepeatable, Turning):
        run = training.grid({"c": 0.1}, optimizer=make)[0]
        try:
            training.train(short(dense), [run])
        except ValueError:
            pass
    np.testing.assert_array_equal(np.random.uniform(size=3), expected)
