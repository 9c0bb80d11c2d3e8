"""The callbacks for ``model.fit``, under the conditions that Keras has."""

import pathlib
import random
import subprocess
import sys
import textwrap
import warnings

from anneal_utils import callbacks, schedules
from anneal_utils.callbacks import HorizonCheck, RangeTest, RateRecorder, advice

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

K = keras.optimizers.schedules
SGD = keras.optimizers.SGD
LINEAR = schedules.build("linear", 1.0, 16)
TABLE = schedules.values(LINEAR, 17, exact=True).astype(float)


class Weight(keras.Model):
    """One weight, of gradient 1 on data of ones: plain SGD lowers it by exactly the rate."""

    def __init__(self):
        super().__init__()
        self.weight = self.add_weight(shape=(), initializer="zeros", name="weight")

    def call(self, x):
        return x * self.weight


class Watch(keras.callbacks.Callback):
    """How far the weight has moved in each call of the step."""

    def __init__(self):
        super().__init__()
        self.moved = []

    def on_train_batch_end(self, batch, logs=None):
        self.moved.append(-float(self.model.weight))
        self.model.weight.assign(0.0)


def compiled(optimizer, kind=Weight, **settings):
    model = kind()
    model.build((None, 1))
    settings = {"loss": lambda y, p: tf.reduce_mean(p), "jit_compile": False, **settings}
    model.compile(optimizer, **settings)
    return model


def fit(model, *given, batches=8, **settings):
    """A fit of single samples; ``given`` are the callbacks."""
    data = np.ones([batches, 1], "float32")
    settings = {"batch_size": 1, "verbose": 0, **settings}
    return model.fit(data, data, callbacks=list(given), **settings)


def observed(model, *others, **settings):
    """(recorder, watch) of a fit, with ``others`` around them as (before, after) the recorder."""
    before, after = others or ((), ())
    recorder, watch = observers()
    model.weight.assign(0.0)
    fit(model, *before, recorder, watch, *after, **settings)
    return recorder, watch


def observers():
    return RateRecorder(), Watch()


@pytest.fixture
def half_precision():
    """Keras's mixed_float16 policy, put back after."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    yield
    keras.config.set_dtype_policy(before)


# --------------------------------------------------------------------------- what was applied


@pytest.mark.parametrize(
    "settings",
    [{}, {"jit_compile": True}, {"run_eagerly": True}],
    ids=["graph", "xla", "eager"],
)
def test_rates_are_what_moved_the_weight_to_the_last_bit(settings):
    recorder, watch = observed(compiled(SGD(LINEAR), **settings), epochs=2)
    assert recorder.rates == watch.moved and recorder.updates == [1] * 16
    np.testing.assert_allclose(recorder.rates, TABLE[:16], rtol=1e-6)


def test_a_schedule_that_was_put_in_without_a_new_compile_is_told_as_it_acts():
    model, watch = compiled(SGD(0.5)), Watch()
    fit(model, watch)
    model.optimizer.learning_rate = LINEAR
    fit(model, watch)
    assert watch.moved == [0.5] * 16  # the trap: the traced step keeps its rate
    recorder, watch = observed(model)
    assert recorder.rates == watch.moved == TABLE[16:17].tolist() * 8
    model.optimizer.iterations.assign(0)
    recorder, watch = observed(model)
    assert recorder.rates == watch.moved == TABLE[:8].tolist()


def test_an_optimizer_that_was_put_in_without_a_new_compile():
    model = compiled(SGD(0.5))
    fit(model)
    model.optimizer = SGD(0.25)
    recorder, watch = observed(model)
    assert recorder.rates == watch.moved == [0.25] * 8 and all(recorder.moved)


class Setter(keras.callbacks.Callback):
    """Sets another rate at every batch, at its beginning or at its end."""

    def __init__(self, when):
        super().__init__()
        self.when, self.rates = when, iter(2.0 ** -np.arange(20))

    def on_train_batch_begin(self, batch, logs=None):
        if self.when == "begin":
            self.model.optimizer.learning_rate = next(self.rates)

    def on_train_batch_end(self, batch, logs=None):
        if self.when == "end":
            self.model.optimizer.learning_rate = next(self.rates)


@pytest.mark.parametrize("order", [0, 1], ids=["before", "after"])
@pytest.mark.parametrize(
    "other",
    [
        lambda: Setter("begin"),
        lambda: Setter("end"),
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch: 0.5**epoch),
        lambda: keras.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=9.0),
    ],
    ids=["begin", "end", "scheduler", "plateau"],
)
def test_whoever_sets_the_rate_in_whatever_order(other, order):
    around = [[], []]
    around[order].append(other())
    recorder, watch = observed(compiled(SGD(3.0)), *around, epochs=4, batches=2)
    assert recorder.rates == watch.moved and len(set(watch.moved)) > 2


def test_a_function_as_the_rate_is_traced_once():
    asked = iter([0.5, 0.25, 0.125, 0.0625])
    recorder, watch = observed(compiled(SGD(lambda: next(asked))))
    assert recorder.rates == watch.moved and len(set(recorder.rates)) == 1


@pytest.mark.parametrize("jit", [False, True])
def test_one_entry_per_batch_when_a_call_does_several(jit):
    model = compiled(SGD(LINEAR), steps_per_execution=3, jit_compile=jit)
    recorder, watch = observed(model, epochs=2)
    np.testing.assert_allclose(recorder.rates, TABLE[:16], rtol=1e-6)
    groups = np.split(np.array(recorder.rates), [3, 6, 8, 11, 14])
    np.testing.assert_allclose([group.sum() for group in groups], watch.moved, rtol=1e-6)
    assert len(recorder.losses) == 16 and recorder.losses[0] == recorder.losses[2]


@pytest.mark.parametrize("per_call", [1, 3])
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_data_of_unknown_length(per_call):
    """At the end of each epoch Keras asks once more, and counts a step that had no data."""
    data = tf.data.Dataset.from_tensors((np.ones([1, 1]), np.ones([1, 1]))).repeat(4)
    data = data.filter(lambda x, y: True)
    model, recorder, watch = compiled(SGD(LINEAR), steps_per_execution=per_call), *observers()
    model.fit(data, epochs=2, verbose=0, callbacks=[recorder, watch])
    assert len(recorder.rates) == 8 and sum(recorder.updates) == 8
    if per_call == 1:
        assert recorder.rates == watch.moved
    assert sum(recorder.rates) == pytest.approx(sum(watch.moved))


def test_accumulated_batches_have_a_rate_and_no_update():
    optimizer = SGD(LINEAR, gradient_accumulation_steps=3)
    recorder, watch = observed(compiled(optimizer))
    assert recorder.rates == TABLE[:8].tolist()
    assert recorder.moved == [False, False, True, False, False, True, False, False]
    applied = np.where(recorder.moved, recorder.rates, 0)
    np.testing.assert_array_equal(applied, watch.moved)


def steep(y, p):
    return 60000.0 * tf.cast(tf.reduce_mean(p), "float32")


def test_steps_that_overflow_are_told_from_those_that_move(half_precision):
    """Scaled by 2^15, the loss overflows until the scale has been halved often enough."""
    recorder, watch = observed(compiled(SGD(LINEAR), loss=steep), batches=30)
    skipped = recorder.moved.index(True)
    assert 14 <= skipped <= 16 and recorder.moved == [moved != 0 for moved in watch.moved]
    assert recorder.rates[: skipped + 1] == [1.0] * (skipped + 1)
    done = np.flatnonzero(recorder.moved)[:16]
    np.testing.assert_allclose(np.array(recorder.rates)[done], TABLE[: len(done)], rtol=1e-6)


class Twice(Weight):
    """Applies the optimizer twice in each batch, and tells no loss."""

    def train_step(self, data):
        for _ in range(2):
            self.optimizer.apply([tf.constant(1.0)], self.trainable_variables)
        return {"steps": self.optimizer.iterations}


class Never(Weight):
    """Never applies the optimizer."""

    def train_step(self, data):
        return {"nothing": tf.constant(0.0)}


class Elsewhere(Weight):
    """Applies it in a function that has been traced before."""

    @tf.function
    def update(self):
        self.optimizer.apply([tf.constant(1.0)], self.trainable_variables)

    def train_step(self, data):
        self.update()
        return {"loss": tf.constant(0.0)}


class Decorated(Weight):
    train_step = tf.function(Twice.train_step)


def test_a_train_step_that_applies_twice_and_tells_no_loss():
    recorder, watch = observed(compiled(SGD(LINEAR), Twice))
    assert recorder.updates == [2] * 8 and np.isnan(recorder.losses).all()
    assert recorder.rates == TABLE[1:17:2].tolist()
    np.testing.assert_allclose(watch.moved, TABLE[:16:2] + TABLE[1:17:2], rtol=1e-6)


def test_a_train_step_without_the_optimizer_is_said():
    with pytest.warns(UserWarning, match="has moved nothing in 8 batches"):
        recorder, _ = observed(compiled(SGD(0.5), Never))
    assert recorder.rates == [0.5] * 8 and not any(recorder.moved)


def test_what_can_not_be_observed_is_refused_by_name():
    model = compiled(SGD(0.5), Elsewhere)
    fit(model)
    with pytest.raises(ValueError, match=r"model = 'elsewhere.*must train by its train_step"):
        observed(model)
    with pytest.raises(ValueError, match="train_step = 'a tf.function': must be a plain method"):
        observed(compiled(SGD(0.5), Decorated))
    several = keras.optimizers.MultiOptimizer(lambda variable: SGD(0.5))
    for callback in (RateRecorder(), HorizonCheck(8), RangeTest()):
        with pytest.raises(ValueError, match="model.optimizer = 'MultiOptimizer': must be"):
            fit(compiled(several), callback)
        with pytest.raises(ValueError, match="model.optimizer = 'NoneType': must be"):
            fit(compiled(None, Never), callback)


class Around(keras.optimizers.Optimizer):
    """A wrapper, to be wrapped again."""

    def __init__(self, inner_optimizer):
        super().__init__(learning_rate=0.0)
        self.inner_optimizer = inner_optimizer

    def build(self, variables):
        self.inner_optimizer.build(variables)
        super().build(variables)

    def apply(self, grads, trainable_variables=None):
        self.inner_optimizer.apply(grads, trainable_variables)
        self.iterations.assign_add(1)


def test_nested_wrappers_are_followed_to_the_end():
    nested = keras.optimizers.LossScaleOptimizer(Around(SGD(LINEAR)), initial_scale=1.0)
    recorder, watch = observed(compiled(nested))
    assert recorder.rates == watch.moved == TABLE[:8].tolist()


# ------------------------------------------------------------- training is what it was without


def network(rate, **settings):
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, "relu"), layers.Dropout(0.3), layers.Dense(2)]
    )
    model.compile(SGD(rate, momentum=0.9), "mse", **settings)
    return model


RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 4)).astype("float32"), RNG.normal(size=(40, 2)).astype("float32")


GENTLE = schedules.build("linear", 0.05, 20)


def trained(model, *given, epochs=2):
    keras.utils.set_random_seed(4)
    model.fit(X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=list(given))
    weights = [variable.numpy() for variable in [*model.variables, *model.optimizer.variables]]
    assert all(np.isfinite(values).all() for values in weights)
    return weights


@pytest.mark.parametrize("jit, per_call", [(False, 1), (False, 3), (True, 1)])
def test_the_recorder_does_not_change_training(jit, per_call):
    settings = {"jit_compile": jit, "steps_per_execution": per_call}
    rate = schedules.build("cosine", 0.1, 20)
    with_it, without = (
        trained(network(rate, **settings), *given) for given in ([RateRecorder()], [])
    )
    for ours, plain in zip(with_it, without, strict=True):
        if jit:
            np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(ours, plain)


def test_nothing_of_the_recorder_stays_or_is_saved(tmp_path):
    model = network(GENTLE)
    saver = keras.callbacks.ModelCheckpoint(tmp_path / "model.keras")
    plain = network(GENTLE)
    trained(plain)
    trained(model, RateRecorder(), saver)
    assert model.train_function is None and "train_step" not in vars(model)
    assert "_backend_update_step" not in vars(model.optimizer)
    assert set(vars(model)) == set(vars(plain))
    assert set(vars(model.optimizer)) == set(vars(plain.optimizer))
    again, recorder = keras.saving.load_model(tmp_path / "model.keras"), RateRecorder()
    assert int(again.optimizer.iterations) == 20
    for loaded, kept in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, kept)
    for resumed in (again, model):
        trained(resumed, recorder, epochs=1)
    assert recorder.rates[:10] == recorder.rates[10:]


class Breaks(keras.callbacks.Callback):
    """Ends training by an error, after some batches."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


def test_a_fit_that_was_interrupted_leaves_no_trace_in_the_next():
    model, first, recorder = compiled(SGD(0.5)), RateRecorder(), RateRecorder()
    with pytest.raises(KeyboardInterrupt):
        fit(model, first, Breaks())
    assert first.rates == [0.5] * 3 and "_backend_update_step" not in vars(model.optimizer)
    model.optimizer.learning_rate = K.PiecewiseConstantDecay([100], [0.25, 0.0])
    model.weight.assign(0.0)
    watch = Watch()
    fit(model, recorder, watch)
    assert recorder.rates == watch.moved == [0.25] * 8 and len(first.rates) == 3


def test_two_recorders_and_two_fits():
    first, second, model = RateRecorder(), RateRecorder(), compiled(SGD(LINEAR))
    fit(model, first, second)
    fit(model, second, HorizonCheck(), first)
    fit(model, HorizonCheck(40))
    assert first.rates == second.rates == TABLE[:16].tolist()
    assert first.moved == second.moved == [True] * 16


# ------------------------------------------------------------------------------- logs


class Logs(keras.callbacks.Callback):
    """What later callbacks see."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(logs["learning_rate"])


def test_later_callbacks_and_history_have_the_rate():
    recorder, later = RateRecorder(), Logs()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        history = fit(compiled(SGD(LINEAR)), recorder, later, epochs=2).history
    assert later.seen == recorder.rates == TABLE[:16].tolist()
    assert history["learning_rate"] == TABLE[[7, 15]].tolist()


def test_who_has_the_last_word_on_the_logged_rate():
    def idle():  # it never lowers anything, but writes the rate of the next step
        return keras.callbacks.ReduceLROnPlateau("loss", patience=99)

    history = fit(compiled(SGD(LINEAR)), idle(), RateRecorder(), epochs=2).history
    assert history["learning_rate"] == TABLE[[7, 15]].tolist()
    with pytest.warns(UserWarning, match=r"wrote learning_rate = 0.5 into .* 0.5625 was applied"):
        history = fit(compiled(SGD(LINEAR)), RateRecorder(), idle(), epochs=2).history
    np.testing.assert_allclose(history["learning_rate"], TABLE[[8, 16]])
    with warnings.catch_warnings():  # of a number both say the same
        warnings.simplefilter("error", UserWarning)
        fit(compiled(SGD(0.1)), RateRecorder(), idle(), epochs=2)


# --------------------------------------------------------------------------- horizons


def said(model, check, *others, **settings):
    """What the check says in a fit."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        fit(model, check, *others, **settings)
    return [str(one.message) for one in heard if "HorizonCheck" in str(one.message)]


def test_training_as_planned_is_not_commented():
    assert not said(compiled(SGD(LINEAR)), HorizonCheck(), epochs=2)
    warm = K.CosineDecay(0.0, 6, warmup_target=0.1, warmup_steps=10)
    assert not said(compiled(SGD(warm)), HorizonCheck(), epochs=2)
    assert not said(compiled(SGD(0.1)), HorizonCheck(16), epochs=2)
    assert not said(compiled(SGD(LINEAR, gradient_accumulation_steps=4)), HorizonCheck(), epochs=2)


def test_a_fit_that_resumes_counts_from_where_it_is():
    class Resumes(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.optimizer.iterations.assign(8)

    model = compiled(SGD(LINEAR))
    assert not said(model, HorizonCheck(), Resumes(), epochs=3, initial_epoch=2)


class First(keras.callbacks.Callback):
    """What had been said when the first batch began."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0:
            warnings.warn("HorizonCheck: the first batch begins", stacklevel=1)


def test_what_does_not_fit_is_said_once_and_at_the_beginning():
    model, check = compiled(SGD(LINEAR)), HorizonCheck()
    past, begins, *more = said(model, check, First(), epochs=3)
    assert "planned for 16 steps, where its rate is 0; this fit goes on to step 24" in past
    assert begins.endswith("begins") and not any("planned" in one for one in more)
    done, begins, *more = said(model, check, First())
    assert "24 are done before this fit begins" in done and not more
    short, begins, *more = said(compiled(SGD(LINEAR)), check, First())
    assert "this fit ends at step 8, at 0.5: plan for 8" in short and not more


def test_a_plan_in_pieces_is_not_commented_but_what_goes_past_it_is():
    # Before: four of five such fits were told to plan for less.
    model = compiled(SGD(LINEAR))
    for epoch in range(5):
        check = HorizonCheck(pieces=True)
        heard = said(model, check, batches=4, epochs=epoch + 1, initial_epoch=epoch)
        assert len(heard) == (epoch == 4)
    assert "16 are done before this fit begins" in heard[0]


def test_the_same_fault_is_said_in_every_model_of_a_process(recwarn):
    warnings.simplefilter("default")
    for _ in range(3):
        fit(compiled(SGD(LINEAR)), HorizonCheck(), epochs=3)
    assert len([one for one in recwarn if "HorizonCheck" in str(one.message)]) == 3


def test_a_resumed_fit_whose_step_count_is_lost_is_said():
    (heard,) = said(compiled(SGD(LINEAR)), HorizonCheck(), epochs=2, initial_epoch=1)
    assert "resumes at epoch 1, but its optimizer is at step 0" in heard


def test_what_ends_early_is_said_at_the_end():
    class Stops(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 4

    [one] = said(compiled(SGD(LINEAR)), HorizonCheck(), Stops(), epochs=2)
    assert "this fit has ended at step 5, at 0.6875" in one


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("batches, word", [(20, "goes on past that"), (3, "ends at step 4")])
def test_horizons_over_data_of_unknown_length(batches, word):
    data = tf.data.Dataset.from_tensors((np.ones([1, 1]), np.ones([1, 1]))).repeat(batches)
    model = compiled(SGD(LINEAR))
    with pytest.warns(UserWarning, match=word):
        model.fit(data.filter(lambda x, y: True), verbose=0, callbacks=[HorizonCheck()])


def test_a_schedule_put_in_without_a_new_compile_is_the_one_that_is_checked():
    model, watch = compiled(SGD(0.5)), Watch()
    fit(model)
    model.optimizer.learning_rate, model.weight = schedules.build("linear", 1.0, 24), model.weight
    model.weight.assign(0.0)
    assert not said(model, HorizonCheck(), watch, epochs=2)
    np.testing.assert_allclose(watch.moved, 1 - np.arange(8, 24) / 24, rtol=1e-6)


def test_checks_trace_no_more_than_they_must():
    model, kept = compiled(SGD(LINEAR)), []
    for check in (HorizonCheck(40), HorizonCheck(40), HorizonCheck(40)):
        said(model, check)
        kept.append(model.train_function)
    assert kept[0] is kept[1] is kept[2]
    with pytest.raises(KeyboardInterrupt):
        fit(model, RateRecorder(), Breaks())
    model.optimizer.learning_rate, watch = K.PiecewiseConstantDecay([99], [0.5, 0.0]), Watch()
    model.weight.assign(0.0)
    said(model, HorizonCheck(40), watch)
    assert watch.moved == [0.5] * 8


@pytest.mark.parametrize(
    "rate, name",
    [(0.1, "a number"), (K.ExponentialDecay(0.1, 5, 0.9), "ExponentialDecay")],
)
def test_no_horizon_no_check(rate, name):
    with pytest.raises(ValueError, match=rf"^steps = None: must be given.*{name}"):
        fit(compiled(SGD(rate)), HorizonCheck())
    assert len(said(compiled(SGD(rate)), HorizonCheck(4))) == 1
    with pytest.raises(ValueError, match="^steps = 0"):
        HorizonCheck(0)


def test_horizons_under_half_precision(half_precision):
    [one] = said(compiled(SGD(LINEAR)), HorizonCheck(), epochs=3)
    assert "goes on to step 24" in one


# ------------------------------------------------------------------------- the range test


class Keeping(keras.layers.Layer):
    """Draws from a seed of its own, counts in a raw variable, and breaks where it is told to."""

    def __init__(self, until=10**6):
        super().__init__()
        self.count = tf.Variable(0, dtype="int64", trainable=False)
        self.seed, self.until = keras.random.SeedGenerator(1), until

    def call(self, x, training=False):
        if not training:
            return x
        self.count.assign_add(1)
        tf.debugging.assert_less(self.count, tf.constant(self.until, "int64"))
        return x + 0.01 * keras.random.normal(tf.shape(x), seed=self.seed)


def keeping(rate=0.03, until=10**6, **settings):
    keras.utils.set_random_seed(3)
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((4,)), Keeping(until), layers.Dense(8, "relu"), layers.Dense(2)]
    )
    settings = {"loss": "mse", "jit_compile": False, **settings}
    model.compile(SGD(rate, momentum=0.9), **settings)
    return model


def state(model):
    held = [*model.variables, *model.optimizer.variables, model.layers[0].count]
    return [variable.numpy() for variable in held]


def sweep(model, test, epochs=99, **settings):
    return model.fit(
        X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=[test], shuffle=False, **settings
    )


def assert_equal(before, after):
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_all_that_a_sweep_changes_is_put_back_twice():
    model, test = keeping(), RangeTest(1e-3, 1.0, steps=15, factor=50)
    sweep(model, keras.callbacks.Callback(), epochs=1)
    before, drawn = state(model), np.random.get_state()[1].copy()
    frames = []
    for _ in range(2):
        sweep(model, test)
        np.random.uniform()
        np.random.set_state(("MT19937", drawn, *np.random.get_state()[2:]))
        assert_equal(before, state(model))
        frames.append(test.frame)
    pd.testing.assert_frame_equal(*frames)
    assert test.message == "ended after 15 of 15 steps, at rate 1"
    assert not hasattr(model.train_function, "guarded")


def test_global_seeds_are_put_back():
    class Draws(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            np.random.uniform(), random.random(), keras.random.uniform(())

    def drawn():
        return np.random.uniform(), random.random(), float(keras.random.uniform(()))

    model = keeping()
    keras.utils.set_random_seed(7)
    keras.random.uniform(())
    test = RangeTest(steps=5)
    test.set_model(model)
    model.make_train_function()
    test.on_train_begin()
    first = drawn()
    test.restore()
    assert drawn() == first


def test_an_error_in_the_step_keeps_what_was_measured_and_puts_the_model_back():
    model, test = keeping(until=8), RangeTest(1e-3, 0.1, steps=40, factor=1e6)
    model.optimizer.build(model.trainable_variables)
    before = state(model)
    with pytest.raises(tf.errors.InvalidArgumentError):
        sweep(model, test)
    assert len(test.frame) == 7
    assert test.message == "ended after 7 of 40 steps, at rate 0.00203: interrupted"
    assert_equal(before, state(model))
    assert not hasattr(model.train_function, "guarded")


def test_after_an_error_elsewhere_restore_or_the_next_sweep_puts_it_back():
    model, test = keeping(), RangeTest(1e-3, 0.1, steps=40, factor=1e6)
    sweep(model, keras.callbacks.Callback(), epochs=1)
    before = state(model)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            model.fit(X, Y, batch_size=4, verbose=0, callbacks=[test, Breaks()])
        assert len(test.frame) == 3 and not np.array_equal(before[1], state(model)[1])
    assert test.message.endswith(": interrupted")
    test.restore()
    assert_equal(before, state(model))
    # who trains after the interruption keeps that
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, Y, batch_size=4, verbose=0, callbacks=[test, Breaks()])
    model.optimizer.learning_rate = 0.01
    sweep(model, keras.callbacks.Callback(), epochs=1)
    model.layers[0].count.assign(10**6 - 6)
    with pytest.raises(tf.errors.InvalidArgumentError):  # an error of later training
        sweep(model, keras.callbacks.Callback(), epochs=1)
    model.layers[0].count.assign(0)
    kept = state(model)
    assert int(model.optimizer.iterations) > 20
    sweep(model, test)
    assert_equal(kept, state(model))


@pytest.mark.parametrize(
    "losses, ends",
    [
        ([2.0, 1.9, 1.0, 3.9, 4.1], 5),  # positive: four times the lowest
        ([-1.0, -1.1, -1.05, -1.2, -1.1, -1.0] * 3, None),  # negative and calm
        ([*np.linspace(-1, -3, 20), -2.5, -1, 1, 2.9, 3.1], 25),  # more than 3 times the spread 2
        ([1.0, 0.0, 0.5, 0.2, 0.0, 0.3, 0.1, 0.0, 0.4, 0.2, 0.3], None),  # zero is no ratio
        ([-1.0, float("nan")], 2),
    ],
)
def test_when_a_loss_has_left(losses, ends):
    left = [bool(advice.gone(losses[:n], 4.0)) for n in range(1, len(losses) + 1)]
    assert (left.index(True) + 1 if ends else not any(left)) == (ends or True)


def test_a_sweep_of_negative_losses_goes_on_until_it_diverges():
    model = keeping(loss=lambda y, p: tf.reduce_mean(tf.square(y - p)) - 1000.0)
    test = RangeTest(1e-3, 1e6, steps=80)
    sweep(model, test)
    assert 20 < len(test.frame) < 80 and "times the spread before" in test.message


@pytest.mark.parametrize(
    "other", [RateRecorder, lambda: HorizonCheck(9)], ids=["recorder", "check"]
)
def test_an_error_puts_the_model_back_whatever_comes_after_the_sweep(other):
    model = sweepable()
    before = model.get_weights()
    data = tf.data.Dataset.from_generator(failing, output_signature=SIGNATURE)
    with pytest.raises(tf.errors.OpError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data, verbose=0, callbacks=[RangeTest(steps=9), other()])
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


SIGNATURE = (tf.TensorSpec([4, 3]), tf.TensorSpec([4, 1]))


def failing():
    """Three batches, then an error in the data."""
    for _ in range(3):
        yield np.ones([4, 3]), np.ones([4, 1])
    raise RuntimeError("no more data")


def sweepable():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    model.compile(SGD(0.1), "mse", jit_compile=False)
    return model


def test_an_interrupted_sweep_of_one_model_does_not_touch_another():
    class Stop(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                raise KeyboardInterrupt

    sweep, first, second = RangeTest(steps=9), sweepable(), sweepable()
    second.set_weights([weight + 1 for weight in second.get_weights()])
    started = first.get_weights(), second.get_weights()
    x, y = np.ones([40, 3]), np.ones([40, 1])
    with pytest.raises(KeyboardInterrupt):
        first.fit(x, y, batch_size=4, verbose=0, callbacks=[sweep, Stop()])
    second.fit(x, y, batch_size=4, verbose=0, callbacks=[sweep])
    for model, before in zip((first, second), started, strict=True):
        for now, then in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(now, then)
        assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_a_sweep_that_has_not_run_has_an_empty_table_and_plot():
    assert RangeTest().frame.dtypes.astype(str).tolist() == ["int64", "float64", "float64"]
    assert RangeTest().plot().get_xscale() == "log"
    with pytest.raises(ValueError, match=r"^frame = '0 finite losses"):
        RangeTest().suggest()


def test_a_fit_that_is_too_short_and_a_step_that_does_nothing_are_said():
    test = RangeTest(1e-3, 1e-2, steps=40, factor=50)
    with pytest.warns(UserWarning, match="ended after 10 of 40 .*: fit ended before the sweep"):
        sweep(keeping(), test, epochs=1)
    assert len(test.frame) == 10

    class Idle(Weight):
        def train_step(self, data):
            return {"loss": tf.constant(1.0)}

    with pytest.warns(UserWarning, match="model.optimizer has updated nothing"):
        fit(compiled(SGD(0.1), Idle), RangeTest(steps=4))


def test_what_a_sweep_can_not_mean_is_refused():
    with pytest.raises(ValueError, match="model = 'sequential.*must be built"):
        unbuilt = keras.Sequential([keras.layers.Dense(2)])
        unbuilt.compile(SGD(0.1), "mse")
        sweep(unbuilt, RangeTest())
    with pytest.raises(ValueError, match="CosineDecay.*compile again with the schedule"):
        sweep(keeping(K.CosineDecay(0.1, 5)), RangeTest())
    with pytest.raises(ValueError, match="'function': must be a number"):
        sweep(keeping(lambda: 0.1), RangeTest())
    with pytest.raises(ValueError, match="steps_per_execution = 2: must be 1"):
        sweep(keeping(steps_per_execution=2), RangeTest())
    with pytest.raises(ValueError, match="gradient_accumulation_steps = 2: must be None"):
        fit(compiled(SGD(0.1, gradient_accumulation_steps=2)), RangeTest())
    model = compiled(SGD(0.1), Twice)
    with pytest.raises(ValueError, match=r"^train_step = .*must return \"loss\""):
        fit(model, RangeTest())
    assert float(model.weight) == 0 and int(model.optimizer.iterations) == 0


def test_a_sweep_leaves_the_scale_of_half_precision(half_precision):
    model = compiled(SGD(0.1), loss=steep)
    fit(model, batches=20)
    before = [variable.numpy() for variable in model.optimizer.variables]
    test = RangeTest(1e-3, 1.0, steps=6, factor=1e9)
    fit(model, test)
    assert_equal(before, [variable.numpy() for variable in model.optimizer.variables])
    assert len(test.frame) == 6 and test.message.endswith("at rate 1")


def test_a_sweep_acts_on_the_optimizer_of_now():
    model = compiled(SGD(0.5))
    fit(model)
    model.optimizer = SGD(0.25)
    model.weight.assign(0.0)
    watch, test = Watch(), RangeTest(0.5, 2.0, steps=3, factor=1e9)
    fit(model, test, watch)
    assert watch.moved == [0.5, 1.0, 2.0] == test.frame.rate.tolist()
    assert float(model.optimizer.learning_rate) == 0.25


def valley(steps=100):
    rate = np.geomspace(1e-4, 10, steps)
    return pd.DataFrame({"rate": rate, "loss": 2 - np.exp(-(np.log10(rate / 0.1) ** 2))})


def test_suggestions_on_a_curve_of_known_shape():
    frame = valley()
    table = advice.suggestions(frame, 100).set_index("rule")
    step = frame.rate[1] / frame.rate[0]
    assert table.rate["smith_max"] == pytest.approx(0.1, rel=step - 1)
    assert table.rate["smith_base"] == pytest.approx(table.rate["smith_max"] / 3)
    assert table.ratio.min() == 1 and (table.rate / table.ratio).nunique() <= 2
    # fastai's reading, step by step: the running mean of its Recorder, cut as lr_find does.
    mean, smooth = 0.0, []
    for n, loss in enumerate(frame.loss, 1):
        mean = 0.98 * mean + 0.02 * loss
        smooth.append(mean / (1 - 0.98**n))
    rate, smooth = frame.rate.to_numpy()[10:-5], np.array(smooth)[10:-5]
    assert table.rate["minimum"] == pytest.approx(rate[smooth.argmin()] / 10)
    slopes = (smooth[1:] - smooth[:-1]) / (np.log(rate[1:]) - np.log(rate[:-1]))
    assert table.rate["steep"] == pytest.approx(rate[slopes.argmin()])
    # The smoothed loss falls from the first step to its minimum: half of the way down.
    fall = int(smooth.argmin()) + 1
    assert table.rate["valley"] == pytest.approx(rate[int(fall / 3) + int(fall / 6) - 1])


def test_valley_is_fastais():
    def published(losses):
        n, lds, start, end = len(losses), [1] * len(losses), 0, 0
        for i in range(1, n):
            for j in range(i):
                if losses[i] < losses[j] and lds[i] < lds[j] + 1:
                    lds[i] = lds[j] + 1
                if lds[end] < lds[i]:
                    end = i
                    start = end - lds[end]
        third = (end - start) / 3
        return start + int(third) + int(third / 2)

    draws = np.random.default_rng(1)
    for _ in range(20):
        losses = draws.normal(size=25) - 0.1 * np.arange(25)
        assert advice._valley(losses) == published(losses)
    assert advice._valley(np.arange(9.0)) == published(np.arange(9.0)) == 0


def test_suggestions_of_a_short_sweep_are_refused_or_not_a_number():
    with pytest.raises(ValueError, match="frame = '12 finite losses of 100 steps': must have"):
        advice.suggestions(valley()[:12], 100)
    with pytest.raises(ValueError, match="0 finite losses"):
        RangeTest().suggest()
    table = advice.suggestions(valley()[40:70], 100).set_index("rule")
    assert np.isnan(table.rate["slide"]) and table.rate.notna().sum() == 5


def test_the_plot_has_a_log_axis_and_a_mark_for_each_rule():
    test = RangeTest(steps=100)
    frame = valley()
    test._rows = [(n, *row) for n, row in enumerate(frame.itertuples(index=False))]
    ax = test.plot()
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "loss"
    marks = [line.get_xdata()[0] for line in ax.lines[2:]]
    np.testing.assert_allclose(marks, test.suggest().rate)
    test._rows = test._rows[:3]  # too short for advice, still drawn
    assert len(test.plot(ax).lines) == len(ax.lines)


# ------------------------------------------------------------------------------ strategies

MIRRORED = """
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    import sys

    sys.path.insert(0, sys.argv[1])
    import test_callbacks as here
    from anneal_utils.callbacks import HorizonCheck, RangeTest, RateRecorder

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

    def network(rate):
        with strategy.scope():
            return here.network(rate, jit_compile=False)

    recorder, model = RateRecorder(), network(here.GENTLE)
    given = here.trained(model, recorder, HorizonCheck())
    here.assert_equal(given, here.trained(network(here.GENTLE)))
    assert recorder.moved == [True] * 20
    table = here.schedules.values(here.GENTLE, 20)
    here.np.testing.assert_allclose(recorder.rates, table, rtol=1e-6)
    with strategy.scope():
        model.compile(here.SGD(0.03, momentum=0.9), "mse", jit_compile=False)
    test = RangeTest(1e-3, 1.0, steps=9, factor=50)
    before = [v.numpy() for v in model.variables]
    here.sweep(model, test)
    here.assert_equal(before, [v.numpy() for v in model.variables][: len(before)])
    assert test.message == "ended after 9 of 9 steps, at rate 1", test.message
    assert model.optimizer.iterations.numpy() == 0
    print("all the same")
"""


def test_two_replicas():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MIRRORED), str(pathlib.Path(__file__).parent)],
        capture_output=True,
        text=True,
        cwd=pathlib.Path(callbacks.__file__).parents[2],
    )
    assert done.stdout.strip().endswith("all the same"), done.stderr[-3000:]
