"""HorizonCheck: what does not fit a schedule's plan is said, once and in time."""

import warnings

from anneal_utils import schedules
from anneal_utils.callbacks import HorizonCheck, RateRecorder

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import assert_refused
from small_fits import LINEAR, Breaks, Watch, compiled, fit

pytest_plugins = ["small_fixtures"]
K = keras.optimizers.schedules
SGD = keras.optimizers.SGD


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


def checked(rate):
    fit(compiled(SGD(rate)), HorizonCheck())


NO_HORIZON = {"a number": 0.1, "ExponentialDecay": K.ExponentialDecay(0.1, 5, 0.9)}
GIVEN = "steps = None: must be given, since the optimizer's learning_rate"
REFUSED = {
    **{f"{GIVEN} ({name})": lambda rate=rate: checked(rate) for name, rate in NO_HORIZON.items()},
    "steps = 0: must be": lambda: HorizonCheck(0),
}


@pytest.mark.parametrize("start", REFUSED)
def test_no_horizon_no_check(start):
    assert_refused(REFUSED[start], start)


@pytest.mark.parametrize("name", NO_HORIZON)
def test_a_horizon_that_is_given_is_checked(name):
    assert len(said(compiled(SGD(NO_HORIZON[name])), HorizonCheck(4))) == 1


def test_horizons_under_half_precision(half_precision):
    [one] = said(compiled(SGD(LINEAR)), HorizonCheck(), epochs=3)
    assert "goes on to step 24" in one
