"""RateRecorder: what was applied, under the conditions that Keras has, and training as it was."""

import warnings

from anneal_utils import schedules
from anneal_utils.callbacks import HorizonCheck, RangeTest, RateRecorder

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import assert_close, assert_equal, assert_refused
from small_fits import (
    GENTLE,
    LINEAR,
    TABLE,
    Breaks,
    Never,
    Twice,
    Watch,
    Weight,
    compiled,
    fit,
    network,
    observed,
    observers,
    steep,
    trained,
)

pytest_plugins = ["small_fixtures"]
K = keras.optimizers.schedules
SGD = keras.optimizers.SGD


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


def test_steps_that_overflow_are_told_from_those_that_move(half_precision):
    """Scaled by 2^15, the loss overflows until the scale has been halved often enough."""
    recorder, watch = observed(compiled(SGD(LINEAR), loss=steep), batches=30)
    skipped = recorder.moved.index(True)
    assert 14 <= skipped <= 16 and recorder.moved == [moved != 0 for moved in watch.moved]
    assert recorder.rates[: skipped + 1] == [1.0] * (skipped + 1)
    done = np.flatnonzero(recorder.moved)[:16]
    np.testing.assert_allclose(np.array(recorder.rates)[done], TABLE[: len(done)], rtol=1e-6)


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


def elsewhere():
    model = compiled(SGD(0.5), Elsewhere)
    fit(model)
    observed(model)


REFUSED = {
    "model = 'elsewhere": elsewhere,
    "model.train_step = 'a tf.function': must be a plain method": lambda: observed(
        compiled(SGD(0.5), Decorated)
    ),
}


@pytest.mark.parametrize("start", REFUSED)
def test_what_can_not_be_observed_is_refused_by_name(start):
    assert_refused(REFUSED[start], start)


@pytest.mark.parametrize(
    "callback", [RateRecorder, lambda: HorizonCheck(8), RangeTest], ids=["record", "check", "range"]
)
def test_optimizers_without_the_one_rate_are_refused(callback):
    several = keras.optimizers.MultiOptimizer(lambda variable: SGD(0.5))
    for model, kind in ((compiled(several), "MultiOptimizer"), (compiled(None, Never), "NoneType")):
        start = f"model.optimizer = '{kind}': must be"
        assert_refused(lambda model=model: fit(model, callback()), start)


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


@pytest.mark.parametrize("jit, per_call", [(False, 1), (False, 3), (True, 1)])
def test_the_recorder_does_not_change_training(jit, per_call):
    settings = {"jit_compile": jit, "steps_per_execution": per_call}
    rate = schedules.build("cosine", 0.1, 20)
    with_it, without = (
        trained(network(rate, **settings), *given) for given in ([RateRecorder()], [])
    )
    if jit:
        assert_close(with_it, without, rtol=1e-5, atol=1e-6)
    else:
        assert_equal(with_it, without)


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
    assert_equal(again.get_weights(), model.get_weights())
    for resumed in (again, model):
        trained(resumed, recorder, epochs=1)
    assert recorder.rates[:10] == recorder.rates[10:]


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
