"""RangeTest: what a sweep measures, when it ends, and that it puts everything back."""

import random
import warnings

from anneal_utils.callbacks import HorizonCheck, RangeTest, RateRecorder, advice

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from small import IMAGES, LABELS, assert_equal, assert_refused, held
from small_fits import (
    Breaks,
    Twice,
    Watch,
    Weight,
    X,
    Y,
    compiled,
    fit,
    keeping,
    state,
    steep,
    sweep,
)
from small_state import dense

pytest_plugins = ["small_fixtures"]
K = keras.optimizers.schedules
SGD = keras.optimizers.SGD


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


def test_range_test_restores_everything_exactly():
    model, twin = (keeping(metrics=["mae"]) for _ in range(2))
    for each in (model, twin):  # so that slots and step count are not at their start
        sweep(each, keras.callbacks.Callback(), epochs=1)
    before, test = state(model), RangeTest(1e-4, 10, steps=30)
    sweep(model, test)
    assert_equal(before, state(model))
    assert float(model.optimizer.learning_rate) == pytest.approx(0.03)
    np.testing.assert_allclose(test.frame.rate, np.geomspace(1e-4, 10, 30)[: len(test.frame)])
    # and training goes on as if the test had never been
    losses = []
    for each in (model, twin):
        keras.utils.set_random_seed(1)
        losses.append(sweep(each, keras.callbacks.Callback(), epochs=2).history["loss"])
    assert losses[0] == losses[1]


def test_range_test_on_a_fresh_model_leaves_it_fresh():
    model = keeping()
    weights = model.get_weights()
    sweep(model, RangeTest(1e-4, 1, steps=8))
    assert int(model.optimizer.iterations) == 0
    slots = [v.numpy() for v in model.optimizer.variables if "momentum" in v.path]
    assert slots and not any(slot.any() for slot in slots)
    assert_equal(weights, model.get_weights())


def test_range_test_loss_is_each_batchs_own_and_before_its_update():
    model, test = sweepable(), RangeTest(1e-5, 1e-4, steps=3)
    x, y = X[:20, :3], Y[:20, :1]
    expected = model.evaluate(x[:4], y[:4], verbose=0)
    model.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[test])
    assert test.frame.loss[0] == pytest.approx(expected, rel=1e-5)
    assert test.frame.loss.nunique() == 3


def test_range_test_stops_when_the_loss_leaves():
    test = RangeTest(0.1, 1e9, steps=60)
    sweep(keeping(), test)
    assert 2 < len(test.frame) < 60


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
    assert_equal(model.get_weights(), before)


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
    sweep, first, second = RangeTest(steps=9), sweepable(), sweepable()
    second.set_weights([weight + 1 for weight in second.get_weights()])
    started = first.get_weights(), second.get_weights()
    x, y = np.ones([40, 3]), np.ones([40, 1])
    with pytest.raises(KeyboardInterrupt):
        first.fit(x, y, batch_size=4, verbose=0, callbacks=[sweep, Breaks()])
    second.fit(x, y, batch_size=4, verbose=0, callbacks=[sweep])
    for model, before in zip((first, second), started, strict=True):
        assert_equal(model.get_weights(), before)
        assert float(model.optimizer.learning_rate) == pytest.approx(0.1)


def test_a_sweep_that_has_not_run_has_an_empty_table_and_plot():
    assert RangeTest().frame.dtypes.astype(str).tolist() == ["int64", "float64", "float64"]
    assert RangeTest().plot().get_xscale() == "log"


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


def unbuilt():
    model = keras.Sequential([keras.layers.Dense(2)], name="unbuilt")
    model.compile(SGD(0.1), "mse")
    return model


def swept(model):
    return lambda: sweep(model(), RangeTest())


REFUSED = {
    "stop = 0.1: must be > start = 1": lambda: RangeTest(1.0, 0.1),
    "frame = '0 finite losses": lambda: RangeTest().suggest(),
    "model = 'unbuilt': must be built": swept(unbuilt),
    "optimizer.learning_rate = 'CosineDecay': must be a number": swept(
        lambda: keeping(K.CosineDecay(0.1, 5))
    ),
    "optimizer.learning_rate = 'function': must be a number": swept(lambda: keeping(lambda: 0.1)),
    "steps_per_execution = 2: must be 1": swept(lambda: keeping(steps_per_execution=2)),
    "gradient_accumulation_steps = 2: must be None": lambda: fit(
        compiled(SGD(0.1, gradient_accumulation_steps=2)), RangeTest()
    ),
}


@pytest.mark.parametrize("start", REFUSED)
def test_what_a_sweep_can_not_mean_is_refused(start):
    assert_refused(REFUSED[start], start)


def test_a_step_that_tells_no_loss_is_refused_and_undone():
    model = compiled(SGD(0.1), Twice)
    start = "train_step = ['steps']: must return \"loss\""
    assert_refused(lambda: fit(model, RangeTest()), start)
    assert float(model.weight) == 0 and int(model.optimizer.iterations) == 0


def test_a_sweep_leaves_the_scale_of_half_precision(half_precision):
    model = compiled(SGD(0.1), loss=steep)
    fit(model, batches=20)
    before = held(model.optimizer)
    test = RangeTest(1e-3, 1.0, steps=6, factor=1e9)
    fit(model, test)
    assert_equal(before, held(model.optimizer))
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


def test_a_range_test_under_half_precision(half_precision):
    model = dense()
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    test = RangeTest(1e-4, 1.0, steps=6)
    model.fit(IMAGES, LABELS, epochs=9, verbose=0, callbacks=[test])
    assert len(test.frame) > 1 and float(model.optimizer.learning_rate) == pytest.approx(0.1)
    model.compile(SGD(keras.optimizers.schedules.CosineDecay(0.1, 5)), "mse")
    refused = "optimizer.learning_rate = 'CosineDecay': must be a number"
    assert_refused(lambda: model.fit(IMAGES, LABELS, verbose=0, callbacks=[test]), refused)
