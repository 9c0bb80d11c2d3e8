"""Scheduled hyperparameters and rates per layer: against plain Keras, NumPy and optax."""

from anneal_utils.optimizers import AveragedAdamW, LayerRates, Scheduled, catalogue, layer_decay

import keras
import numpy as np
import pytest
from formulas import moments
from momentum_sgd import MomentumSGD
from small import assert_equal
from small_wrappers import FALL, START, Halves, assert_same, constant, fit, network, path, single

optimizers = keras.optimizers
Polynomial = keras.optimizers.schedules.PolynomialDecay


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


def test_momentum_is_the_formula():
    optimizer, x, velocity = Scheduled(optimizers.SGD(0.02), momentum=FALL), START, 0.0
    for step, after in enumerate(path(optimizer)):
        velocity = falling(step) * velocity - 0.02 * 3 * x
        x = x + velocity
        np.testing.assert_allclose(after, x, rtol=1e-5, atol=1e-6)


def falling(step):
    """What ``FALL`` is at a step."""
    return 0.95 - 0.045 * min(step, 10)


def gradients(path):
    """Of each step of a descent from the start."""
    return [3 * x for x in (START, *path[:-1])]


def adam_steps(path, beta_1=0.9):
    """Adam's corrected step at each point of a descent."""
    for first, second, step in moments(gradients(path), beta_1):
        beta = beta_1(step - 1) if callable(beta_1) else beta_1
        correction = np.sqrt(1 - 0.999**step) / (1 - beta**step)
        yield correction * first / (np.sqrt(second) + 1e-7)


def test_beta_1_is_the_formula_with_the_correction_of_keras():
    taken, x = path(Scheduled(optimizers.Adam(0.02), beta_1=FALL)), START
    for after, step in zip(taken, adam_steps(taken, falling), strict=True):
        x = x - 0.02 * step
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)


def test_weight_decay_is_the_formula():
    rate = Polynomial(0.05, 10)
    taken, x = path(Scheduled(optimizers.AdamW(rate), weight_decay=FALL)), START
    for t, (after, step) in enumerate(zip(taken, adam_steps(taken), strict=True)):
        now = 0.0001 + (0.05 - 0.0001) * (1 - min(t, 10) / 10)
        x = x * (1 - now * falling(t)) - now * step
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
    assert_equal(network().get_weights()[:2], mine.get_weights()[:2])
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
