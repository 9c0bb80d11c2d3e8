"""Wrappers of optimizers: nested, under all that Keras offers, saved, in the many-run trainer."""

from anneal_utils import training
from anneal_utils.optimizers import AveragedAdamW, EvaluateAverage, LayerRates, Scheduled, unwrap
from anneal_utils.training import _keras

import keras
import numpy as np
import pytest
import tensorflow as tf
from momentum_sgd import MomentumSGD
from small import assert_as_fit, policy, tiny
from small_wrappers import (
    FALL,
    Halves,
    X,
    Y,
    assert_same,
    both,
    constant,
    fit,
    network,
    other_way,
    single,
)

optimizers = keras.optimizers
Polynomial = keras.optimizers.schedules.PolynomialDecay


WAYS = {
    "accumulation": {"gradient_accumulation_steps": 2},
    "clipping": {"global_clipnorm": 0.5},
    "ema": {"use_ema": True, "ema_overwrite_frequency": 3},
    "decay": {"weight_decay": 0.1},
    "static_scale": {"loss_scale_factor": 8.0},
}


@pytest.mark.parametrize("way", WAYS)
def test_they_nest_in_any_order_with_what_keras_offers(way):
    mine = fit(both(**WAYS[way]))
    assert_same(mine, fit(other_way(**WAYS[way])))
    # The class for SGD has the same momentum; rates of powers of two tell the layers apart.
    split = optimizers.OptimizerMap(default_optimizer=MomentumSGD(0.1, FALL, **WAYS[way]))
    split["net/first.*"] = MomentumSGD(0.05, FALL, **WAYS[way])
    if way not in ("clipping", "static_scale"):  # those two go over all layers, or are not split's
        assert_same(mine, fit(optimizers.MultiOptimizer(split)))


@pytest.mark.parametrize(
    "settings", [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 4}]
)
def test_every_way_of_running_is_the_graph(settings):
    made = fit(both(), jit_compile=False)
    assert_same(fit(both(), **settings), made, rtol=1e-5, atol=1e-6)


def test_accumulation_run_eagerly_takes_steps_without_an_update():
    made = fit(both(gradient_accumulation_steps=2))
    again = fit(both(gradient_accumulation_steps=2), run_eagerly=True)
    assert_same(made, again, rtol=1e-5, atol=1e-6)


def test_the_schedule_counts_batches_under_accumulation():
    seen = []

    class Seen(Halves):
        def __call__(self, step):
            seen.append(int(step))
            return 0.5

    optimizer = Scheduled(optimizers.SGD(0.1, gradient_accumulation_steps=2), momentum=Seen())
    weight = keras.Variable(np.ones(2, "float32"))
    for _ in range(4):
        optimizer.apply([weight * 1.0], [weight])
    assert seen[-4:] == [0, 1, 2, 3] and int(optimizer.iterations) == 2


def test_loss_scaling_around_the_wrappers():
    scaled = optimizers.LossScaleOptimizer(both(), initial_scale=8.0)
    assert_same(fit(scaled), fit(both()))  # a power of two changes no bit


def test_mixed_float16_puts_its_loss_scale_around_the_wrappers():
    with policy("mixed_float16"):
        mine, plain = fit(both()), fit(optimizers.SGD(0.1, momentum=0.1))
    assert isinstance(mine.optimizer, optimizers.LossScaleOptimizer)
    assert unwrap(mine.optimizer).loss_scale_factor is None
    assert int(mine.optimizer.iterations) == int(plain.optimizer.iterations) > 0
    assert_same(mine, fit(both()), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_kinds_of_numbers(dtype):
    weight = keras.Variable(np.ones(3), dtype=dtype)
    optimizer = LayerRates(Scheduled(optimizers.SGD(0.25), momentum=constant(0.5)), {"*": 0.5})
    optimizer.build([weight])
    for _ in range(2):
        tf.function(lambda: optimizer.apply([weight * 1.0], [weight]), autograph=False)()
    expected = 0.875 - 0.5 * 0.125 - 0.125 * 0.875
    np.testing.assert_allclose(np.asarray(weight.value, "float64"), expected, rtol=4e-3)


def test_inside_keras_multi_optimizer():
    split = optimizers.OptimizerMap(default_optimizer=optimizers.SGD(0.1, momentum=0.5))
    split["net/first.*"] = Scheduled(optimizers.SGD(0.1), momentum=constant(0.5))
    assert_same(fit(optimizers.MultiOptimizer(split)), fit(optimizers.SGD(0.1, momentum=0.5)))


def test_a_custom_loop_builds_by_itself():
    weight = keras.Variable([1.0, 2.0])
    optimizer = LayerRates(Scheduled(optimizers.SGD(0.5), momentum=constant(0.5)), {"*": 0.5})
    optimizer.apply_gradients([(weight * 1.0, weight)])
    np.testing.assert_allclose(weight.numpy(), [0.75, 1.5])
    assert int(optimizer.iterations) == 1


# ------------------------------------------------------------------------------- saving, callbacks


@pytest.mark.parametrize("scaled", [False, True])
def test_saves_loads_and_goes_on(tmp_path, scaled):
    model = fit(optimizers.LossScaleOptimizer(other_way()) if scaled else both())
    model.save(tmp_path / "m.keras")
    model.save_weights(tmp_path / "m.weights.h5")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert type(again.optimizer) is type(model.optimizer)
    third = network()
    third.compile(optimizers.LossScaleOptimizer(other_way()) if scaled else both(), "mse")
    third.optimizer.build(third.trainable_variables)
    third.load_weights(tmp_path / "m.weights.h5")
    for each in (model, again, third):
        fit(None, model=each)
    assert_same(again, model)
    assert_same(third, model)


@pytest.mark.parametrize(
    "make",
    [both, lambda: LayerRates(optimizers.AdamW(FALL), {"first": Polynomial(1.0, 5), "last": 2})],
)
def test_configuration_round_trip(make):
    optimizer = make()
    again = type(optimizer).from_config(optimizer.get_config())
    assert again.get_config() == optimizer.get_config()
    other = optimizers.deserialize(optimizers.serialize(optimizer))
    assert_same(fit(again), fit(other))
    assert_same(fit(again.from_config(again.get_config())), fit(optimizer))


def test_the_rate_and_the_counter_are_the_inner_optimizers():
    optimizer = both(0.5)
    model = fit(optimizer, callbacks=[keras.callbacks.LearningRateScheduler(lambda epoch: 0.25)])
    assert float(unwrap(optimizer).learning_rate) == float(optimizer.learning_rate) == 0.25
    assert int(optimizer.iterations) == int(optimizer._iterations) == 8
    plateau = keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=100, factor=0.5)
    fit(None, epochs=3, model=model, callbacks=[plateau])
    assert float(optimizer.learning_rate) == 0.0625
    optimizer.learning_rate = Polynomial(0.5, 100)
    assert float(unwrap(optimizer).learning_rate) < 0.5
    assert optimizer.momentum == 0.1 and optimizer.gradient_accumulation_steps is None
    assert len(optimizer.variables) == len(unwrap(optimizer).variables)


def test_an_averaging_optimizer_and_ema_are_evaluated_through_the_wrapper():
    mine = fit(
        Scheduled(AveragedAdamW(0.05), epsilon=constant(1e-8)), callbacks=[EvaluateAverage()]
    )
    plain = fit(AveragedAdamW(0.05, epsilon=single(1e-8)), callbacks=[EvaluateAverage()])
    assert_same(mine, plain)
    swap = keras.callbacks.SwapEMAWeights()
    mine = fit(Scheduled(optimizers.SGD(0.1, use_ema=True), momentum=FALL), callbacks=[swap])
    swap = keras.callbacks.SwapEMAWeights()
    assert_same(mine, fit(MomentumSGD(0.1, FALL, use_ema=True), callbacks=[swap]))


def test_the_inner_optimizer_is_as_it_was_outside_an_update():
    optimizer = both()
    before = unwrap(optimizer).get_config()
    model = fit(optimizer)
    assert unwrap(optimizer).get_config() == before
    assert "update_step" not in vars(unwrap(optimizer))
    with pytest.raises(ValueError, match="No gradients"):
        optimizer.apply([None] * 4, model.trainable_variables)
    assert unwrap(optimizer).momentum == 0.1


def test_what_is_set_on_a_wrapper_is_set_on_the_optimizer_that_has_it():
    # Before: it was kept by the wrapper, read back, and changed nothing.
    optimizer = LayerRates(
        Scheduled(optimizers.SGD(0.1, momentum=0.9), weight_decay=constant(0.1)), {"first": 1.0}
    )
    optimizer.momentum = 0.5
    assert unwrap(optimizer).momentum == optimizer.momentum == 0.5
    with pytest.raises(ValueError, match=r"^weight_decay = 0.2: must be left to its schedule"):
        optimizer.weight_decay = 0.2
    optimizer.inner_optimizer.multipliers, optimizer.note = {"a": 1.0}, "mine"
    assert optimizer.multipliers == {"first": 1.0} and not hasattr(unwrap(optimizer), "note")


# ----------------------------------------------------------------------------- the many-run trainer

TRAINED = {
    "scheduled": lambda rate: Scheduled(optimizers.SGD(rate, momentum=0.9), momentum=FALL),
    "rates": lambda rate: LayerRates(optimizers.AdamW(rate), {"kernel": 0.5}),
    "both": lambda rate: LayerRates(
        Scheduled(optimizers.Adam(rate), beta_1=FALL), {"bias": Polynomial(1.0, 30, 0.1)}
    ),
    "averaged": lambda rate: Scheduled(AveragedAdamW(rate), beta_2=constant(0.75)),
    "schedule_free": lambda rate: Scheduled(
        optimizers.ScheduleFreeAdamW(rate), beta_2=constant(0.99)
    ),
}


@pytest.mark.parametrize("name", TRAINED)
def test_the_many_run_trainer_is_fit_bit_for_bit(name):
    problem = tiny(network, X, Y, train=48, loss="mse", metrics=(), chance_loss=1.0)
    runs = training.grid(["cosine"], [0.01, 0.05], [2], TRAINED[name])
    weights, frame = training.train(problem, runs, mode="graph", return_weights=True)
    assert_as_fit(problem, runs[1], frame[frame.peak == 0.05], weights[1])
    assert frame.val_loss.nunique() == 6
    quick = training.train(problem, runs, mode="xla")
    np.testing.assert_allclose(quick.val_loss, frame.val_loss, rtol=1e-3)


def test_the_trainer_knows_the_innermost_optimizer():
    optimizer = both()
    _keras.work_alone(optimizer)
    assert unwrap(optimizer)._all_reduce_sum_gradients is list
    assert _keras.holds_under_xla(network(), optimizer)
    wrapped = LayerRates(LayerRates(optimizers.Adafactor(0.1), {"first": 1}), {"last": 1})
    assert not _keras.holds_under_xla(network(), wrapped)
