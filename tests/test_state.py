"""A run touches only its own state: alone, among others, on another thread and as plain ``fit``."""

import dataclasses
import functools
import gc
import math
import threading
import time
import weakref

from anneal_utils import problems, training
from anneal_utils.optimizers import AveragedAdamW

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from test_training import IMAGES, LABELS, tiny

L = keras.layers
SGD = keras.optimizers.SGD


@pytest.fixture
def half_precision():
    """Keras's mixed_float16 policy, put back after."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


@pytest.fixture
def floatx():
    """A function that sets Keras's floatx, and the policy that goes with it; put back after."""
    before, policy = keras.config.floatx(), keras.config.dtype_policy()

    def use(kind):
        keras.config.set_floatx(kind)
        keras.config.set_dtype_policy(kind)

    yield use
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)


# ------------------------------------------------------------------- everything that keeps state


class Counter(L.Layer):
    """Keeps a raw variable, of which Keras knows nothing: the batches that it has seen."""

    def __init__(self, start=lambda: 0.0):
        super().__init__()
        self.count = tf.Variable(start(), dtype="float32", trainable=False)

    def call(self, inputs, training=False):
        if training:
            self.count.assign_add(1.0)
        return inputs * (1 + tf.sin(self.count))


class LateCounter(L.Layer):
    """The same, made where Keras traces the layer, and at random."""

    def build(self, shape):
        self.count = tf.Variable(np.random.uniform(), dtype="float32", trainable=False)

    call = Counter.call


class KerasCounter(L.Layer):
    """The same as a weight."""

    def build(self, shape):
        self.count = self.add_weight((), "zeros", trainable=False)

    call = Counter.call


class Sticky(keras.metrics.Metric):
    """Adds random numbers, and is never reset; called accuracy, so that it is in the frame."""

    def __init__(self, name="accuracy", **settings):
        super().__init__(name=name, **settings)
        self.total = self.add_variable((), "zeros")
        self.seeds = keras.random.SeedGenerator()

    def update_state(self, y, prediction, sample_weight=None):
        self.total.assign_add(keras.random.uniform((), seed=self.seeds))

    def result(self):
        return self.total * 1

    def reset_state(self):
        pass


class Counting(keras.Model):
    """Trains by a step of its own, which counts, and returns the loss of the last batch."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.count = tf.Variable(0.0, trainable=False)

    def train_step(self, data):
        x, y = data
        self.count.assign_add(1.0)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x / self.count, training=True))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply(gradients, self.trainable_weights)
        return {"loss": loss, "count": self.count}


class Turning(SGD):
    """Keeps a raw variable: its steps get smaller as that grows. Adds noise to every gradient."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.turns = tf.Variable(1.0, trainable=False)

    def build(self, variables):
        super().build(variables)
        self.seeds = keras.random.SeedGenerator()

    def update_step(self, gradient, variable, learning_rate):
        self.turns.assign_add(0.5)
        noise = keras.random.normal(gradient.shape, seed=self.seeds)
        super().update_step((gradient + noise) / self.turns, variable, learning_rate)


def short(build, **given):
    """Two epochs of two steps."""
    return tiny(build, **{"batch_size": 40, "epochs": 2, **given})


def around(*layers):
    """A model of these layers, each made anew, between two dense ones."""
    return lambda: keras.Sequential(
        [keras.Input((64,)), L.Dense(4), *[make() for make in layers], L.Dense(3)]
    )


def dense():
    return keras.Sequential([keras.Input((64,)), L.Dense(3)])


def subclass(kind):
    def build():
        inputs = keras.Input((64,))
        return kind(inputs, L.Dense(3)(inputs))

    return build


def second():
    return keras.metrics.SparseCategoricalAccuracy("second")


NEVER_BETTER = training.Plateau(factor=0.5, patience=1, min_delta=9e9)
KINDS = {
    "raw variables": (
        lambda: short(around(Counter, lambda: Counter(np.random.uniform), LateCounter)),
        "sgd",
    ),
    "weights": (lambda: short(around(KerasCounter, L.BatchNormalization)), "sgd"),
    "random numbers": (
        lambda: short(around(lambda: L.GaussianNoise(0.5), lambda: L.Dropout(0.5))),
        "adam",
    ),
    "metric objects": (lambda: short(dense, metrics=(Sticky(), second())), "sgd"),
    "train_step": (lambda: short(subclass(Counting), metrics=()), "sgd"),
    "optimizer": (lambda: short(dense), Turning),
    "schedule-free": (lambda: short(dense), "schedulefreeadamw"),
}


def falling(rate):
    return lambda epoch: rate / (1 + epoch)


def line(rate):
    return keras.optimizers.schedules.PolynomialDecay(rate, 8, 0.0)


def six_runs(optimizer, recipe=falling):
    """Two seeds and three peaks; the second run is neither the first nor the last trained."""
    peaks, seeds = (0.02, 0.05, 0.1), (3, 1)
    if isinstance(recipe, training.Plateau):
        runs = training.grid({"mine": recipe}, peaks, seeds, optimizer)
    else:
        runs = training.grid({str(p): recipe(p) for p in peaks}, (), seeds, optimizer)
    return [runs[k] for k in (0, 2, 3, 4, 5, 1)]


def rows_of(frame, index):
    size = len(frame) // 6
    return frame.iloc[index * size : (index + 1) * size].reset_index(drop=True)


def assert_same_weights(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_a_run_is_its_own(problem, runs, mode, threads=(2,)):
    """The second of six runs, alone and among them; in graph mode, as ``fit`` too."""
    train = functools.partial(training.train, problem, mode=mode, return_weights=True)
    [weights], alone = train(runs[1:2])
    for count in threads:  # in a program that was used before
        among, frame = train(runs, threads=count)
        pd.testing.assert_frame_equal(rows_of(frame, 1), alone, check_exact=True)
        assert_same_weights(among[1], weights)
    assert frame.train_loss.nunique() > 6, "the runs do not differ: the test would compare nothing"
    if mode == "graph":
        model, fitted = training.fit_one(problem, runs[1])
        pd.testing.assert_frame_equal(alone, fitted, check_exact=True)
        assert_same_weights(model.get_weights(), weights)
    return alone


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_same_alone_among_others_on_a_thread_and_in_fit(kind):
    problem, optimizer = KINDS[kind]
    assert_a_run_is_its_own(problem(), six_runs(optimizer), "graph")


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_the_same_alone_and_among_others_under_xla(kind):
    problem, optimizer = KINDS[kind]
    assert_a_run_is_its_own(problem(), six_runs(optimizer), "xla")


def test_a_run_is_the_same_however_often_its_program_was_used():
    problem, runs = KINDS["raw variables"][0](), six_runs(Turning)
    alone = assert_a_run_is_its_own(problem, runs, "graph", threads=(1, 2))
    again = training.train(problem, runs[1:2], mode="graph")
    pd.testing.assert_frame_equal(alone, again, check_exact=True)


def steep(y, prediction):
    """So large that the first steps overflow half precision."""
    return 40 * keras.ops.mean(keras.ops.square(prediction - 1), axis=-1)


@pytest.mark.parametrize(
    "optimizer, recipe, mode",
    [
        ("sgd", line, "graph"),
        ("sgd", NEVER_BETTER, "xla"),
        (AveragedAdamW, falling, "graph"),
    ],
    ids=["steps", "plateau", "epochs"],
)
def test_steps_that_half_precision_skips(half_precision, optimizer, recipe, mode):
    """A schedule waits for them; a function of the epoch and a plateau follow the epochs."""
    problem = short(dense, loss=steep, metrics=(), epochs=4)
    runs = six_runs(optimizer, recipe)
    alone = assert_a_run_is_its_own(problem, runs, mode)
    assert alone.train_loss[0] == pytest.approx(alone.train_loss[1], rel=0.01), "nothing skipped"
    assert alone.train_loss[3] != pytest.approx(alone.train_loss[0], rel=0.1)
    if recipe is line:
        assert alone.rate[1] == np.float32(0.05) and alone.rate[3] > 0.02
    else:
        ratio = [1, 1 / 2, 1 / 3, 1 / 4] if recipe is falling else [1, 1, 1 / 2, 1 / 4]
        np.testing.assert_allclose(alone.rate / alone.rate[0], ratio, rtol=1e-6)


def test_what_half_precision_skips_is_in_the_record_of_rates(half_precision):
    recorder, rising = training.RateRecorder(), keras.optimizers.schedules.PolynomialDecay
    problem = short(dense, loss=steep, metrics=(), epochs=4)
    run = training.grid({"rising": rising(0.0, 8, 0.08)})[0]
    frame = training.fit_one(problem, run, callbacks=[recorder])[1]
    assert len(recorder.rates) == len(recorder.losses) == 8
    assert recorder.rates[:3] == [0, 0, 0] and recorder.rates[-1] == frame.rate[3] > 0.01
    # The peak is the recipe's, though the run did not get there.
    assert frame.peak[0] == training.train(problem, [run], mode="graph").peak[0] > 0.069


def test_averages_are_what_half_precision_evaluates(half_precision, monkeypatch):
    """Under the wrapper of mixed precision too: not the weights that the gradients are of."""
    asked, whole = [], AveragedAdamW.to_average
    monkeypatch.setattr(
        AveragedAdamW, "to_average", lambda self: (asked.append(self), whole(self))[1]
    )
    problem = short(dense, metrics=(), epochs=4)
    run = training.grid({"c": 0.1}, optimizer=AveragedAdamW)[0]
    [weights], frame = training.train(problem, [run], mode="graph", return_weights=True)
    assert asked, "the averages were not asked for"
    model = dense()
    model.set_weights(weights)
    model.compile(loss=problem.loss)
    loss = model.evaluate(problem.x_val, problem.y_val, verbose=0)
    assert frame.val_loss.iloc[-1] == pytest.approx(loss, rel=1e-3)


def test_a_range_test_under_half_precision(half_precision):
    model = dense()
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    test = training.RangeTest(1e-4, 1.0, steps=6)
    model.fit(IMAGES, LABELS, epochs=9, verbose=0, callbacks=[test])
    assert len(test.frame) > 1 and float(model.optimizer.learning_rate) == pytest.approx(0.1)
    model.compile(SGD(keras.optimizers.schedules.CosineDecay(0.1, 5)), "mse")
    with pytest.raises(ValueError, match=r"learning_rate = 'CosineDecay': must be a number"):
        model.fit(IMAGES, LABELS, verbose=0, callbacks=[test])


# ----------------------------------------------------------------- what can not be a run's own


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
    fitted = training.fit_one(problem, runs[0])[1]
    pd.testing.assert_frame_equal(other.iloc[:2], fitted, check_exact=True)


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


# ------------------------------------------------------------------------------------- plateau


class Scripted(keras.Model):
    """Its held-out loss does not change."""

    loss_of_all = math.inf

    def test_step(self, data):
        x, _ = data
        return {"loss": self.loss_of_all + 0 * tf.reduce_sum(self(x)), "more": 1.0}


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_plateau_lowers_from_the_second_loss_that_is_not_better(loss):
    kind = type("Scripted", (Scripted,), {"loss_of_all": loss})
    problem = short(subclass(kind), metrics=(), epochs=5)
    rules = training.Plateau(factor=0.5, patience=1)
    run = training.grid({"plateau": rules}, [1.0])[0]
    frame = training.train(problem, [run], mode="graph")
    fitted = training.fit_one(problem, run)[1]
    pd.testing.assert_frame_equal(frame, fitted, check_exact=True)
    assert frame.rate.tolist() == [1, 1, 0.5, 0.25, 0.125]


losses = st.lists(
    st.sampled_from([math.inf, math.nan, -math.inf, 0.0])
    | st.integers(-4, 12).map(lambda k: k / 4)
    | st.floats(width=32),
    min_size=1,
    max_size=12,
)
rules = st.builds(
    training.Plateau,
    factor=st.sampled_from([0.1, 0.5, 0.9]),
    patience=st.integers(1, 3),
    min_delta=st.sampled_from([0.0, 1e-4, 0.25, 1.0]),
    cooldown=st.integers(0, 2),
    min_rate=st.sampled_from([0.0, 1e-3, 0.1, 0.3]),
)


@settings(max_examples=60, deadline=None)
@given(rules, losses, st.sampled_from([1.0, 0.3, 0.1]))
def test_a_plateau_is_the_callback_of_keras_for_all_losses(rules, losses, rate):
    from anneal_utils.training.program import _plateau_step, plateau_vector

    model = dense()
    model.compile(SGD(rate))
    callback = rules.callback()
    callback.set_model(model)
    callback.on_train_begin()
    theirs = []
    for epoch, loss in enumerate(losses):
        callback.on_epoch_end(epoch, {"val_loss": loss})
        theirs.append(float(model.optimizer.learning_rate))

    ours, now = [], tf.constant(rate)
    state = (tf.constant(np.inf, tf.float64), tf.constant(0), tf.constant(0))
    for epoch, loss in enumerate(losses):
        vector, first = tf.constant(plateau_vector(rules)), tf.constant(epoch == 0)
        lower, new, state = _plateau_step(vector, state, first, now, tf.constant(loss, tf.float32))
        now = tf.where(lower, new, now)
        ours.append(float(now))
    assert ours == theirs


# ------------------------------------------------------------------------------ kinds of numbers


def test_double_precision(floatx):
    floatx("float64")
    problem = short(dense)
    runs = training.grid({"epochs": falling(0.1), "steps": line(0.1)}, (), [2])
    weights, frame = training.train(problem, runs, mode="graph", return_weights=True)
    assert weights[1][0].dtype == np.float64
    for k in (0, 1):
        model, fitted = training.fit_one(problem, runs[k])
        mine = frame.iloc[2 * k : 2 * k + 2].reset_index(drop=True)
        pd.testing.assert_frame_equal(mine, fitted, check_exact=True)
        assert_same_weights(weights[k], model.get_weights())


def test_single_and_double_precision_of_one_problem_do_not_mix(floatx):
    """Of one whose code is installed, so that its start is found again."""
    problem, runs = problems.load("article"), training.grid({"c": 0.1}, seeds=[1], epochs=1)
    train = functools.partial(training.train, problem, runs, mode="graph", return_weights=True)
    [single], first = train()
    floatx("float64")
    [double], second = train()
    assert (single[0].dtype, double[0].dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(first.val_loss, second.val_loss, rtol=0.1)
    assert first.run[0] != second.run[0]
    floatx("float32")
    assert_same_weights(train()[0][0], single)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_rates_are_refused(floatx, kind):
    floatx(kind)
    run = training.grid({"c": 0.1})[0]
    for train in (training.train, lambda problem, runs: training.fit_one(problem, runs[0])):
        with pytest.raises(ValueError, match=rf"floatx\(\) = '{kind}': must be one of 'float32'"):
            train(short(dense), [run])


def test_whole_numbers_as_rates():

    def recipe(epoch, rate):
        return np.int64(rate) if epoch else 1

    problem, run = short(dense), training.grid({"mine": recipe})[0]
    frame = training.train(problem, [run], mode="graph")
    pd.testing.assert_frame_equal(frame, training.fit_one(problem, run)[1], check_exact=True)
    assert frame.rate[0] == 1 and frame.rate.dtype == np.float32


# --------------------------------------------------------------------------------------- memory


@settings(deadline=None)
@given(
    st.integers(0, 30),
    st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 20)), max_size=40),
)
def test_a_memory_of_recent_values_stays_below_its_limit(limit, puts):
    from anneal_utils._cache import Recent

    recent, sizes = Recent(limit), {}
    for number, (key, size) in enumerate(puts):
        if number % 3 == 2 and sizes:
            read = next(iter(sizes))  # is now the most recently used one
            assert recent.get(read) == sizes[read][0]
            sizes[read] = sizes.pop(read)
        assert recent.put(key, number, size) == number
        sizes.pop(key, None)
        sizes[key] = (number, size)
        while sum(size for _, size in sizes.values()) > limit and len(sizes) > 1:
            del sizes[next(iter(sizes))]
        assert recent.used == sum(size for _, size in sizes.values())
        assert recent.used <= limit or len(recent) == 1
        assert {k: recent.get(k) for k in "abcdef"} == {
            k: sizes.get(k, (None,))[0] for k in "abcdef"
        }
        for k in "abcdef":  # reading all in one order changed what is recent, here as there
            if k in sizes:
                sizes[k] = sizes.pop(k)
    recent.clear()
    assert (recent.used, len(recent), recent.get("a")) == (0, 0, None)


def test_a_memory_of_recent_values_under_many_threads():
    from anneal_utils._cache import Recent

    recent, errors = Recent(50), []

    def work(seed):
        rng = np.random.default_rng(seed)
        try:
            for _ in range(2000):
                key = int(rng.integers(20))
                if rng.uniform() < 0.5:
                    recent.put(key, key, int(rng.integers(1, 10)))
                else:
                    assert recent.get(key) in (None, key)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors and recent.used <= 50
    assert recent.used == sum(size for _, size in recent._values.values())


def test_few_initial_values_wait_for_a_thread(monkeypatch):
    from anneal_utils._cache import Recent
    from anneal_utils.training import program, starts, trainer

    problem, alive, most = short(dense), weakref.WeakSet(), []

    class Weights(np.ndarray):
        """An array that a set can hold weakly."""

        __hash__ = object.__hash__
        __eq__ = object.__eq__

    def drawn(start, makers, seed):
        values = [value.copy().view(Weights) for value in start.first]
        alive.update(values[:1])
        return values

    def call(program, *arguments):
        time.sleep(0.002)  # slower than the initial values are drawn
        most.append(len(alive))
        return np.zeros((2, 5), "float32"), -1, np.zeros(0, "float32"), []

    monkeypatch.setattr(starts, "_weights", Recent(0))
    monkeypatch.setattr(starts.Starts, "_drawn", drawn)
    monkeypatch.setattr(program.Program, "call", call)
    size = 4 * (64 * 3 + 3)
    monkeypatch.setattr(trainer, "_AHEAD", 5 * (size + 8))  # with the step count of SGD
    training.train(problem, training.grid({"c": 0.1}, seeds=range(150)), threads=2)
    # Five wait, two are trained, and one is drawn and remembered.
    assert 4 <= max(most) <= 5 + 2 + 2


def test_large_values_after_small_ones_find_room():
    """The thread that waits is woken however small the one that leaves."""
    from anneal_utils.training.trainer import _Room

    room, entered = _Room(100), threading.Event()
    room.enter(20)

    def enters():
        room.enter(90)
        entered.set()

    thread = threading.Thread(target=enters, daemon=True)
    thread.start()
    while not room._wanted == 90:
        time.sleep(0.001)
    assert not entered.wait(0.05)
    room.leave(20)
    assert entered.wait(10)
    room.leave(90)
    room.enter(1000)  # alone, anything has room
    assert room.used == 1000


def test_final_weights_are_kept_only_if_they_are_asked_for(monkeypatch):
    from anneal_utils.training.program import Program

    whole, finals, most = Program.call, [], []

    def call(program, *arguments):
        *measured, final = whole(program, *arguments)
        finals.append(weakref.ref(final[0]))
        most.append(sum(final() is not None for final in finals))
        return *measured, final

    monkeypatch.setattr(Program, "call", call)
    runs = training.grid({"c": 0.1}, seeds=range(20))
    training.train(short(dense), runs, threads=2, mode="graph")
    assert len(finals) == 20 and max(most) <= 4


def test_a_program_that_is_traced_again_leaves_nothing_behind(monkeypatch):
    from anneal_utils.training.program import Program

    whole, graphs = Program._trace, []

    def trace(program, mode):
        whole(program, mode)
        graphs.append(weakref.ref(program.concrete.graph))

    monkeypatch.setattr(Program, "_trace", trace)
    problem, run = short(dense), training.grid({"c": 0.1})[0]
    for _ in range(3):
        training.train(problem, [run], mode="graph")
    gc.collect()
    assert len(graphs) == 3 and sum(graph() is not None for graph in graphs) <= 1


def test_programs_are_counted_with_their_graphs_and_seats():
    from anneal_utils.training import program

    problem, runs = short(dense), training.grid({"c": 0.1}, seeds=range(8))
    training.train(problem, runs, threads=1, mode="graph")
    kept = program.program_of(problem, runs[0], 2, "graph")
    assert kept.nbytes() > 1_000_000  # of a model of 800 bytes
    counted = program._programs.used
    kept.seats.put(kept._seat())
    assert program.program_of(problem, runs[0], 2, "graph") is kept
    assert program._programs.used > counted


def test_a_problem_is_not_changed_through_what_its_arrays_are_views_of():
    images, labels = IMAGES.copy(), LABELS.copy()
    problem = problems.Problem(
        *("mine", dense, images[:80], labels[:80], images[80:], labels[80:]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=16,
        epochs=3,
        chance_loss=math.log(3),
    )
    images[:], labels[:] = 0, 0
    np.testing.assert_array_equal(problem.x_train, IMAGES[:80])
    np.testing.assert_array_equal(problem.y_val, LABELS[80:])
    for array in (problem.x_train, problem.y_train, problem.x_val, problem.y_val):
        assert array.base is None and not array.flags.writeable
    owned = IMAGES.copy()
    assert tiny(dense).x_train.base is None and images.flags.writeable
    kept = problems.Problem(
        *("mine", dense, owned, LABELS.copy(), owned, LABELS.copy()),
        loss="mse",
        batch_size=16,
        epochs=3,
        chance_loss=1.0,
    )
    assert kept.x_train is not owned and owned.flags.writeable, "the caller's stays the caller's"
    again = dataclasses.replace(kept, epochs=4)
    assert again.x_train is kept.x_train, "an array that a problem has made is not copied again"


# --------------------------------------------------------- what two things share, and one changes


def scaled(scale, *layers):
    """A problem whose initial weights have a spread that is read when the model is built."""

    def build():
        spread = keras.initializers.RandomNormal(stddev=scale[0])
        first = L.Dense(4, kernel_initializer=spread)
        return keras.Sequential([keras.Input((64,)), first, L.Dropout(0.1), L.Dense(3)])

    return short(build)


def test_starts_that_were_the_same_are_not_shared_once_one_changes():
    mine, theirs = [1.0], [1.0]
    first, second = scaled(mine), scaled(theirs)
    training.train(first, training.grid({"c": 0.1}, seeds=[1]), mode="graph")
    mine[0] = 5.0
    [run] = training.grid({"c": 0.1}, seeds=[7])
    frame, fitted = training.train(second, [run], mode="graph"), training.fit_one(second, run)[1]
    pd.testing.assert_frame_equal(frame, fitted, check_exact=True)


class Offset(keras.optimizers.SGD):
    """Its slots begin with random numbers of a given spread, which it adds to every gradient."""

    def __init__(self, rate, spread):
        super().__init__(rate)
        self.spread = spread

    def build(self, variables):
        super().build(variables)
        self.offsets = [self.add_variable(v.shape, "zeros", name="offset") for v in variables]
        for offset in self.offsets:
            offset.assign(np.random.normal(scale=self.spread, size=offset.shape))

    def update_step(self, gradient, variable, learning_rate):
        offset = self.offsets[self._get_variable_index(variable)]
        super().update_step(gradient + offset, variable, learning_rate)


def test_slots_that_were_the_same_are_not_shared_once_one_changes():
    mine, theirs, problem = [1.0], [1.0], short(dense)
    grids = [
        training.grid({"c": 0.1}, seeds=[1, 7], optimizer=lambda rate, s=s: Offset(rate, s[0]))
        for s in (mine, theirs)
    ]
    training.train(problem, grids[0][:1], mode="graph")
    mine[0] = 5.0
    run = grids[1][1]
    frame, fitted = training.train(problem, [run], mode="graph"), training.fit_one(problem, run)[1]
    pd.testing.assert_frame_equal(frame, fitted, check_exact=True)


def test_an_installed_problem_does_not_start_as_a_users_that_was_the_same():
    point, installed = [(1.0,)], problems.load("quadratic", epochs=2)
    theirs = dataclasses.replace(installed, build=lambda: problems.models.point(point[0]))
    [run, other] = training.grid({"c": 0.1}, seeds=[1, 7])
    for problem in (installed, theirs):  # theirs is the last to use the program of both
        training.train(problem, [run], mode="graph")
    point[0] = (3.0,)
    frame = training.train(installed, [other], mode="graph")
    _, fitted = training.fit_one(installed, other)
    pd.testing.assert_frame_equal(frame, fitted, check_exact=True)


def test_fit_names_a_random_function_of_the_epoch_by_the_rates_that_it_gave():
    drawn = []

    def wandering(epoch):
        drawn.append(float(np.random.uniform(0.01, 0.1)))
        return drawn[-1]

    problem, [run] = short(dense), training.grid({"wandering": wandering})
    _, fitted = training.fit_one(problem, run)
    given = list(drawn)
    [again] = training.grid({"wandering": lambda epoch: given[epoch]})
    pd.testing.assert_frame_equal(
        training.train(problem, [again], mode="graph"), fitted, check_exact=True
    )
