"""Scheduled hyperparameters and rates per layer: against plain Keras, NumPy and optax."""

import os
import subprocess
import sys
import textwrap

from anneal_utils import problems, training
from anneal_utils.optimizers import (
    SWATS,
    AveragedAdamW,
    EvaluateAverage,
    HypergradientSGD,
    LayerRates,
    PolyakSGD,
    Scheduled,
    catalogue,
    layer_decay,
    unwrap,
)
from anneal_utils.training import _keras
from tests.momentum_sgd import MomentumSGD

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

optimizers, layers = keras.optimizers, keras.layers
Polynomial = keras.optimizers.schedules.PolynomialDecay
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 8)).astype("float32")
Y = X[:, :1] * X[:, 1:2]
FALL = Polynomial(0.95, 10, 0.5)


def constant(value):
    """A schedule that is constant, which no compiler can see."""
    return keras.optimizers.schedules.PiecewiseConstantDecay([3], [value, value])


def single(value):
    """The number that a float32 tensor can hold."""
    return float(np.float32(value))


@keras.saving.register_keras_serializable("tests")
class Halves(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that returns Python numbers."""

    def __call__(self, step):
        return 0.5

    def get_config(self):
        return {}


def network():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, "relu", name="first"), layers.Dense(1, name="last")],
        name="net",
    )


def fit(optimizer, epochs=2, model=None, **settings):
    """A trained model: four steps an epoch, the same batches every time."""
    callbacks = settings.pop("callbacks", None)
    if model is None:
        model = network()
        model.compile(optimizer, "mse", **settings)
    arguments = {"batch_size": 16, "shuffle": False, "verbose": 0, "callbacks": callbacks}
    model.fit(X, Y, epochs=epochs, **arguments)
    return model


def assert_same(model, other, **tolerance):
    for mine, theirs in zip(model.get_weights(), other.get_weights(), strict=True):
        if tolerance:
            np.testing.assert_allclose(mine, theirs, **tolerance)
        else:
            np.testing.assert_array_equal(mine, theirs)


def path(optimizer, steps=12, gradient=lambda w: 3 * w):
    """A matrix, then a vector, after each step of a compiled descent: float64 [steps, 10]."""
    start = np.linspace(-2, 2, 10).astype("float32")
    weights = [keras.Variable(start[:6].reshape(2, 3)), keras.Variable(start[6:])]
    optimizer.build(weights)

    @tf.function(autograph=False)
    def step():
        optimizer.apply([gradient(weight) for weight in weights], weights)

    taken = []
    for _ in range(steps):
        step()
        taken.append(np.concatenate([weight.numpy().ravel() for weight in weights]))
    return np.array(taken, float)


# --------------------------------------------------------------------- scheduled hyperparameters

PLAIN = {
    "sgd": (optimizers.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (lambda **k: optimizers.SGD(nesterov=True, **k), {"momentum": 0.9}),
    "rmsprop": (
        lambda **k: optimizers.RMSprop(centered=True, **k),
        {"rho": 0.9, "momentum": 0.8, "epsilon": 1e-7},
    ),
    "adam": (optimizers.Adam, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    "amsgrad": (lambda **k: optimizers.Adam(amsgrad=True, **k), {"beta_1": 0.9, "beta_2": 0.999}),
    "adamw": (optimizers.AdamW, {"beta_1": 0.9, "weight_decay": 0.004, "epsilon": 1e-7}),
    "adamax": (optimizers.Adamax, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    "nadam": (optimizers.Nadam, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    "adagrad": (optimizers.Adagrad, {"epsilon": 1e-7}),
    "adadelta": (optimizers.Adadelta, {"rho": 0.95, "epsilon": 1e-7}),
    "adafactor": (
        optimizers.Adafactor,
        {"beta_2_decay": -0.8, "epsilon_1": 1e-30, "epsilon_2": 1e-3, "clip_threshold": 1.0},
    ),
    "ftrl": (
        optimizers.Ftrl,
        {
            "learning_rate_power": -0.5,
            "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.01,
            "l2_shrinkage_regularization_strength": 0.01,
            "beta": 0.1,
        },
    ),
    "lion": (optimizers.Lion, {"beta_1": 0.9, "beta_2": 0.99}),
    "lamb": (optimizers.Lamb, {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7}),
    "muon": (
        optimizers.Muon,
        {
            "momentum": 0.95,
            "weight_decay": 0.004,
            "adam_weight_decay": 0.004,
            "adam_beta_1": 0.9,
            "adam_beta_2": 0.999,
            "adam_lr_ratio": 0.5,
            "rms_rate": 0.2,
            "muon_a": 3.4445,
            "muon_b": -4.775,
            "muon_c": 2.0315,
            "epsilon": 1e-7,
        },
    ),
    # Its division by a constant beta_1 is compiled as a multiplication: another last bit.
    "schedulefree": (optimizers.ScheduleFreeAdamW, {"beta_2": 0.999, "epsilon": 1e-8}),
    "clipnorm": (optimizers.SGD, {"clipnorm": 0.5}),
    "clipvalue": (optimizers.SGD, {"clipvalue": 0.5}),
    "global_clipnorm": (optimizers.SGD, {"global_clipnorm": 0.5}),
    "ema": (
        lambda **k: optimizers.SGD(use_ema=True, ema_overwrite_frequency=3, **k),
        {"ema_momentum": 0.9},
    ),
}


def test_every_keras_optimizer_is_in_the_table():
    known = {type(make(learning_rate=0.1)) for make, _ in PLAIN.values()}
    assert {*catalogue._classes().values()} <= known


@pytest.mark.parametrize("name", PLAIN)
def test_constant_schedules_are_the_plain_optimizer_to_the_last_bit(name):
    make, numbers = PLAIN[name]
    plain = make(learning_rate=0.05, **{key: single(value) for key, value in numbers.items()})
    schedules = {key: constant(value) for key, value in numbers.items()}
    # Other numbers in the optimizer itself: they are not to be used.
    inner = make(learning_rate=0.05, **{key: 0.5 * value for key, value in numbers.items()})
    mine, theirs = path(Scheduled(inner, **schedules)), path(plain)
    np.testing.assert_array_equal(mine, theirs)
    assert np.isfinite(mine).all() and np.ptp(mine, axis=0).all()
    unused = path(make(learning_rate=0.05, **{key: 0.5 * v for key, v in numbers.items()}))
    assert "epsilon" in numbers or not np.array_equal(mine, unused)


def test_python_numbers_stay_numbers():
    mine = path(Scheduled(optimizers.Adam(0.05), beta_1=Halves(), beta_2=Halves()))
    np.testing.assert_array_equal(mine, path(optimizers.Adam(0.05, beta_1=0.5, beta_2=0.5)))


@pytest.mark.parametrize("kind", [optimizers.SGD, optimizers.RMSprop])
def test_a_momentum_of_zero_and_a_weight_decay_of_none_are_replaced(kind):
    mine = path(Scheduled(kind(0.05), momentum=constant(0.5), weight_decay=constant(0.25)))
    np.testing.assert_array_equal(mine, path(kind(0.05, momentum=0.5, weight_decay=0.25)))


def test_scheduled_momentum_is_the_class_for_sgd_to_the_last_bit():
    make = [
        lambda rate: MomentumSGD(rate, FALL),
        lambda rate: Scheduled(optimizers.SGD(rate), momentum=FALL),
    ]
    assert_same(*(fit(one(Polynomial(0.1, 8))) for one in make))


START = np.linspace(-2, 2, 10)


def test_momentum_is_the_formula():
    optimizer, x, velocity = Scheduled(optimizers.SGD(0.02), momentum=FALL), START, 0.0
    for step, after in enumerate(path(optimizer)):
        velocity = (0.95 - 0.045 * min(step, 10)) * velocity - 0.02 * 3 * x
        x = x + velocity
        np.testing.assert_allclose(after, x, rtol=1e-5, atol=1e-6)


def test_beta_1_is_the_formula_with_the_correction_of_keras():
    optimizer, x, first, second = Scheduled(optimizers.Adam(0.02), beta_1=FALL), START, 0.0, 0.0
    for step, after in enumerate(path(optimizer)):
        beta = 0.95 - 0.045 * min(step, 10)
        first, second = beta * first + (1 - beta) * 3 * x, 0.999 * second + 0.001 * (3 * x) ** 2
        corrected = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - beta ** (step + 1))
        x = x - 0.02 * corrected * first / (np.sqrt(second) + 1e-7)
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)


def test_weight_decay_is_the_formula():
    rate = Polynomial(0.05, 10)
    optimizer, x, first, second = (
        Scheduled(optimizers.AdamW(rate), weight_decay=FALL),
        START,
        0.0,
        0.0,
    )
    for step, after in enumerate(path(optimizer)):
        now, first, second = (
            0.0001 + (0.05 - 0.0001) * (1 - min(step, 10) / 10),
            0.9 * first + 0.1 * 3 * x,
            0.999 * second + 0.001 * (3 * x) ** 2,
        )
        corrected = np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
        x = x * (1 - now * (0.95 - 0.045 * min(step, 10)))
        x = x - now * corrected * first / (np.sqrt(second) + 1e-7)
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)


# With one rate: Keras keeps the rate inside the velocity, optax outside.
OPTAX = {
    "momentum": (optimizers.SGD(0.02), "sgd", {}, "momentum"),
    "beta_1": (optimizers.Adam(0.02, epsilon=1e-12), "adam", {"eps": 1e-12}, "b1"),
    "beta_2": (optimizers.Adam(0.02, epsilon=1e-12), "adam", {"eps": 1e-12}, "b2"),
    "weight_decay": (
        optimizers.AdamW(0.02, epsilon=1e-12),
        "adamw",
        {"eps": 1e-12},
        "weight_decay",
    ),
}


@pytest.mark.parametrize("name", OPTAX)
def test_optax_injects_the_same_hyperparameters(name, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    jnp, optax = pytest.importorskip("jax.numpy"), pytest.importorskip("optax")
    inner, theirs, settings, their_name = OPTAX[name]
    fall = {their_name: optax.linear_schedule(0.95, 0.5, 10)}
    other = optax.inject_hyperparams(getattr(optax, theirs))(0.02, **settings, **fall)
    weight = jnp.linspace(-2, 2, 10)
    state = other.init(weight)
    for after in path(Scheduled(inner, **{name: FALL})):
        updates, state = other.update(3 * weight, state, weight)
        weight = optax.apply_updates(weight, updates)
        np.testing.assert_allclose(after, weight, rtol=2e-4, atol=2e-5)


# ------------------------------------------------------------------------------ rates per layer


@pytest.mark.parametrize("kind", ["SGD", "AdamW", "Lion", "Muon", "Nadam", "Adadelta"])
def test_a_layer_with_its_own_rate_is_the_layer_with_an_optimizer_of_its_own(kind):
    settings = {"weight_decay": 0.25, **({"momentum": 0.9} if kind == "SGD" else {})}
    make = getattr(optimizers, kind)
    split = optimizers.OptimizerMap(default_optimizer=make(0.1, **settings))
    split["net/first.*"] = make(0.025, **settings)
    mine = fit(LayerRates(make(0.1, **settings), {"first": 0.25}))
    assert_same(mine, fit(optimizers.MultiOptimizer(split)))


@pytest.mark.parametrize(
    "make",
    [
        optimizers.SGD,
        optimizers.Ftrl,
        optimizers.ScheduleFreeAdamW,
        optimizers.Adafactor,
        optimizers.AdamW,
    ],
)
def test_a_multiplier_of_zero_freezes_and_of_one_changes_nothing(make):
    mine = fit(LayerRates(make(0.01, weight_decay=0.1), {"first": 0.0}))
    for before, after in zip(network().get_weights()[:2], mine.get_weights()[:2], strict=True):
        np.testing.assert_array_equal(before, after)
    plain = fit(make(0.01, weight_decay=0.1))
    assert not np.array_equal(mine.get_weights()[2], network().get_weights()[2])
    assert_same(fit(LayerRates(make(0.01, weight_decay=0.1), {"*": 1.0})), plain)


def test_a_multiplier_may_be_a_schedule_of_the_step():
    product = LayerRates(
        optimizers.SGD(Polynomial(0.1, 10, 0.0)), {"variable*": Polynomial(1.0, 5, 0.0)}
    )
    x = START
    for step, after in enumerate(path(product)):
        x = x - 0.1 * (1 - min(step, 10) / 10) * (1 - min(step, 5) / 5) * 3 * x
        np.testing.assert_allclose(after, x, rtol=1e-5, atol=1e-6)


def test_an_optimizer_that_reads_the_rate_by_itself_hears_the_multiplier():
    frozen = fit(LayerRates(AveragedAdamW(0.05), {"first": 0.0})).get_weights()
    half = fit(LayerRates(AveragedAdamW(0.05), {"first": 0.5})).get_weights()
    start = network().get_weights()
    np.testing.assert_array_equal(frozen[0], start[0])
    plain = fit(AveragedAdamW(0.05))
    assert_same(fit(LayerRates(AveragedAdamW(0.05), {"first": 1.0})), plain)
    full = plain.get_weights()
    assert 0 < np.abs(half[0] - start[0]).mean() < np.abs(full[0] - start[0]).mean()


@pytest.mark.parametrize(
    ("pattern", "matched"),
    [
        ("net", "1111"),
        ("first", "1100"),
        ("first/kernel", "1000"),
        ("kernel", "1010"),
        ("f*t", "1100"),
        ("net/last", "0011"),
        ("*/bias", "0101"),
        ("[fl]*st/bias", "0101"),
    ],
)
def test_patterns(pattern, matched):
    model = fit(LayerRates(optimizers.SGD(0.1), {pattern: 0.0}), epochs=1)
    still = zip(model.get_weights(), network().get_weights(), strict=True)
    assert [np.array_equal(a, b) for a, b in still] == [mark == "1" for mark in matched]


def test_layer_decay():
    assert layer_decay(["a", "b", "c"], 0.5) == {"a": 0.25, "b": 0.5, "c": 1.0}


# ---------------------------------------------------------------------------------- both of them


def both(rate=0.1, **settings):
    """Half the momentum that would be there, half the rate in the first layer."""
    inner = optimizers.SGD(rate, momentum=0.1, **settings)
    return LayerRates(Scheduled(inner, momentum=FALL), {"first": 0.5})


def other_way(rate=0.1, **settings):
    inner = optimizers.SGD(rate, momentum=0.1, **settings)
    return Scheduled(LayerRates(inner, {"first": 0.5}), momentum=FALL)


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
    with pytest.raises(ValueError, match="^inner_optimizer = 'LossScaleOptimizer': goes outside"):
        Scheduled(optimizers.LossScaleOptimizer(optimizers.SGD(0.1)), momentum=FALL)


def test_mixed_float16_puts_its_loss_scale_around_the_wrappers():
    policy = keras.config.dtype_policy()
    try:
        keras.config.set_dtype_policy("mixed_float16")
        mine, plain = fit(both()), fit(optimizers.SGD(0.1, momentum=0.1))
    finally:
        keras.config.set_dtype_policy(policy)
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


MIRRORED = """
    import anneal_utils, keras, numpy as np, tensorflow as tf
    from anneal_utils.optimizers import LayerRates, Scheduled

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    x = np.random.default_rng(0).normal(size=(32, 4)).astype("float32")
    fall = keras.optimizers.schedules.PolynomialDecay(0.9, 8, 0.1)

    def weights(strategy, eager, epochs=3, **settings):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            layers = [keras.layers.Dense(4, name="first"), keras.layers.Dense(1, name="last")]
            model = keras.Sequential([keras.Input((4,)), *layers])
            adam = keras.optimizers.Nadam(0.01, weight_decay=0.1, **settings)
            inner = LayerRates(Scheduled(adam, beta_1=fall, weight_decay=fall), {"first": 0.5})
            optimizer = LayerRates(inner, {"kernel": 0.25})
            model.compile(optimizer, "mse", run_eagerly=eager)
        data = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(16)
        model.fit(data, epochs=epochs, verbose=0)
        assert adam.beta_1 == 0.9 and "update_step" not in vars(adam)
        return model.get_weights()

    two = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert two.num_replicas_in_sync == 2
    one = tf.distribute.get_strategy()
    for settings in ({"eager": False, "use_ema": True}, {"eager": True, "epochs": 1}):
        for mine, theirs in zip(weights(two, **settings), weights(one, **settings), strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
    print("same")
"""


def test_two_replicas_are_one():
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MIRRORED)],
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        timeout=300,
    )
    assert run.stdout.endswith("same\n"), run.stderr[-3000:]


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


@pytest.mark.parametrize("kind", [SWATS, PolyakSGD, HypergradientSGD])
def test_a_rate_for_all_weights_together_cannot_be_multiplied_by_layer(kind):
    with pytest.raises(ValueError, match=rf"^inner_optimizer = '{kind.__name__}': must have"):
        LayerRates(kind(0.1), {"first": 0.5})


def test_what_an_optimizer_reads_between_updates_stays_a_number():
    with pytest.raises(ValueError, match=r"^hyperparameter = 'beta_1': must stay a number"):
        Scheduled(AveragedAdamW(0.05), beta_1=constant(0.5))


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
    problem = problems.Problem(
        name="tiny",
        build=network,
        x_train=X[:48].copy(),
        y_train=Y[:48].copy(),
        x_val=X[48:].copy(),
        y_val=Y[48:].copy(),
        loss="mse",
        batch_size=16,
        epochs=3,
        chance_loss=1.0,
    )
    runs = training.grid(["cosine"], [0.01, 0.05], [2], TRAINED[name])
    weights, frame = training.train(problem, runs, mode="graph", return_weights=True)
    model, twin = training.fit_one(problem, runs[1])
    mine = frame[frame.peak == 0.05].reset_index(drop=True)
    pd.testing.assert_frame_equal(mine, twin, check_exact=True)
    for ours, theirs in zip(weights[1], model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
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


# --------------------------------------------------------------------------- what is refused


def built():
    optimizer = optimizers.SGD(0.1)
    optimizer.build([keras.Variable([1.0])])
    return optimizer


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scheduled(optimizers.SGD(0.1)), "schedules = {}: must name"),
        (lambda: Scheduled("sgd", momentum=FALL), "inner_optimizer = 'sgd': must be"),
        (lambda: Scheduled(built(), momentum=FALL), "inner_optimizer = 'SGD': is built"),
        (
            lambda: Scheduled(
                optimizers.MultiOptimizer(optimizers.OptimizerMap(optimizers.SGD(0.1))),
                momentum=FALL,
            ),
            "inner_optimizer = 'MultiOptimizer': .* wrap each",
        ),
        (lambda: Scheduled(optimizers.SGD(0.1), momentum=0.9), "momentum = 0.9: must be a keras"),
        (
            lambda: Scheduled(optimizers.SGD(0.1), learning_rate=FALL),
            "hyperparameter = 'learning_rate': ",
        ),
        (
            lambda: Scheduled(optimizers.Adam(0.1), momentum=FALL),
            "hyperparameter = 'momentum': Adam has none; .* beta_1, beta_2, ema_momentum, eps",
        ),
        (lambda: Scheduled(optimizers.SGD(0.1), nesterov=FALL), "'nesterov': SGD has it as False"),
        (lambda: Scheduled(optimizers.SGD(0.1), clipnorm=FALL), "'clipnorm': SGD has it as None"),
        (
            lambda: Scheduled(optimizers.SGD(0.1, loss_scale_factor=2.0), loss_scale_factor=FALL),
            "'loss_scale_factor': SGD has it as 2.0",
        ),
        (
            lambda: Scheduled(optimizers.SGD(0.1), momentum=constant(1.5)),
            "momentum at step 0 = 1.5: is refused by SGD: .momentum. must be a float between",
        ),
        (
            lambda: Scheduled(optimizers.SGD(0.1), momentum=constant(np.nan)),
            "momentum at step 0 = nan: ",
        ),
        (lambda: Scheduled(both(), momentum=FALL), "hyperparameter = 'momentum': is scheduled by"),
        (
            lambda: fit(Scheduled(optimizers.Adagrad(0.1), initial_accumulator_value=FALL)),
            "'initial_accumulator_value': is not read when Adagrad updates",
        ),
        (
            lambda: fit(Scheduled(optimizers.SGD(0.1), ema_momentum=FALL)),
            "'ema_momentum': is not read",
        ),
        (lambda: LayerRates(optimizers.SGD(0.1), {}), "multipliers = {}: must be a dict"),
        (lambda: LayerRates(optimizers.SGD(0.1), {"a": -1}), r"multipliers\['a'\] = -1: .*>= 0"),
        (lambda: LayerRates(optimizers.SGD(0.1), {"a": "b"}), r"multipliers\['a'\] = 'b'"),
        (lambda: LayerRates(optimizers.SGD(0.1), {"a//b": 1}), "pattern = 'a//b'"),
        (lambda: LayerRates(optimizers.SGD(0.1), {3: 1}), "pattern = 3"),
        (
            lambda: fit(LayerRates(optimizers.SGD(0.1), {"fir": 1})),
            "pattern = 'fir': matches no .*net/first",
        ),
        (
            lambda: fit(LayerRates(optimizers.SGD(0.1), {"first": 1, "bias": 2})),
            "patterns = 'first and bias': both match net/first/bias",
        ),
        (lambda: layer_decay(["a"], -1), "factor = -1"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_optimizer_that_branches_on_the_value_is_refused():
    class Branching(optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            if self.momentum > 0.5:
                super().update_step(gradient, variable, learning_rate)

    with pytest.raises(ValueError, match="^momentum: the optimizer compares it with 0.5"):
        fit(Scheduled(Branching(0.1), momentum=FALL))
