"""Traps of Keras's schedules, each shown on Keras itself; and what this package does about it."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

from anneal_utils import schedules

import keras
import numpy as np
import optax
import pytest
import small_fits
import tensorflow as tf
from small_fits import Watch, plateau

K = keras.optimizers.schedules


class Reading(Watch):
    """After each call of the training function: the rate read, too."""

    def __init__(self):
        super().__init__()
        self.read = []

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch, logs)
        self.read.append(float(self.model.optimizer.learning_rate))


def fit(optimizer, batches, *callbacks, **settings):
    """A fit of ``batches`` steps: (moved, read, History.history)."""
    model, watch = small_fits.compiled(optimizer, **settings), Reading()
    log = small_fits.fit(model, watch, *callbacks, batches=batches)
    return watch.moved, watch.read, log.history


def scalar(schedule, step, jit=False):
    """The rate as ``fit`` computes it: from the variable that counts steps, inside a graph."""
    count = tf.Variable(step, dtype=tf.int64)
    graph = tf.function(lambda: schedule(count), jit_compile=jit, autograph=False)
    return float(graph.get_concrete_function()())


# ------------------------------------------------------------------ what a schedule returns


def test_piecewise_constant_switches_one_step_after_its_boundary():
    theirs = schedules.values(K.PiecewiseConstantDecay([20, 40], [1.0, 0.1, 0.01]), 60)
    count = np.arange(60)
    others = np.asarray(optax.piecewise_constant_schedule(1.0, {20: 0.1, 40: 0.1})(count))
    assert np.flatnonzero(~np.isclose(theirs, others)).tolist() == [20, 40]
    shifted = schedules.values(K.PiecewiseConstantDecay([19, 39], [1.0, 0.1, 0.01]), 60)
    np.testing.assert_allclose(shifted, others, rtol=1e-6)
    # Ours drops on the step that it names: the first of each third.
    ours = schedules.values(schedules.build("step", 1.0, 60, drops=2, factor=0.1), 60)
    np.testing.assert_allclose(ours, others, rtol=1e-6)


def test_an_integer_rate_is_computed_in_integers():
    assert float(K.ExponentialDecay(1, 10, 0.5)(5)) == 0.0
    assert float(K.ExponentialDecay(1.0, 10, 0.5)(5)) == pytest.approx(0.5**0.5)
    assert float(schedules.build("exponential", 1, 10, end=0.5)(5)) == pytest.approx(0.5**0.5)


@pytest.mark.parametrize("name", schedules.names())
def test_an_integer_peak_is_a_float_in_the_catalogue(name):
    whole = schedules.values(schedules.build(name, 1, 24), 24)
    np.testing.assert_array_equal(whole, schedules.values(schedules.build(name, 1.0, 24), 24))
    assert schedules.build(name, 1, 24)(3).dtype == "float32"
    assert whole.max() > 0.5


def test_polynomial_decay_does_not_end_at_zero_by_default():
    assert float(K.PolynomialDecay(0.1, 50)(50)) == pytest.approx(1e-4)
    ours = schedules.build("linear", 0.1, 50)
    assert float(ours(50)) == 0.0
    assert float(ours(49)) == pytest.approx(0.1 / 50)  # the last rate applied is not zero


def test_alpha_of_cosine_decay_is_a_share_and_not_a_rate():
    assert float(K.CosineDecay(0.1, 50, alpha=0.01)(50)) == pytest.approx(0.001)


def test_boundaries_beyond_the_horizon_never_decay():
    never = K.PiecewiseConstantDecay([50_000, 80_000], [0.01, 0.005, 0.001])
    assert len(np.unique(schedules.values(never, 17_190))) == 1  # and nothing has complained
    # Ours takes the horizon instead of boundaries: every drop happens, at any length of run.
    for steps in (5, 7, 60, 17_190):
        rates = schedules.values(schedules.build("step", 0.01, steps, drops=4), steps)
        assert len(np.unique(rates)) == 5
    with pytest.raises(ValueError, match=r"^drops = 4: must be < steps = 4"):
        schedules.build("step", 0.01, 4, drops=4)


PERIOD = 83  # 83 * (1 / 83) < 1 in float32


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_restarts_and_staircases_are_a_step_late_in_fit_but_not_in_a_plot(jit):
    restarts = K.CosineDecayRestarts(1.0, PERIOD, t_mul=1.0)
    assert float(restarts(PERIOD)) == 1.0  # called by hand: the restart
    assert scalar(restarts, PERIOD, jit) < 1e-6  # in fit: a rate of zero
    stairs = K.ExponentialDecay(1.0, PERIOD, 0.5, staircase=True)
    assert (float(stairs(PERIOD)), scalar(stairs, PERIOD, jit)) == (0.5, 1.0)
    # Drawn = trained: values() tells what fit does, and our own cycles are on time in both.
    assert schedules.values(stairs, PERIOD + 1)[-1] == 1.0
    ours = schedules.build("cosine_restarts", 1.0, 3 * PERIOD, cycles=3)
    cycle = schedules.Cyclical(0.0, 1.0, PERIOD, "cosine")
    assert float(ours(PERIOD)) == scalar(ours, PERIOD, jit) == 1.0
    assert float(cycle(PERIOD)) == scalar(cycle, PERIOD, jit) == 1.0


def test_the_late_staircase_is_what_a_real_fit_applies():
    stairs = K.ExponentialDecay(1.0, PERIOD, 0.5, staircase=True)
    moved, *_ = fit(keras.optimizers.SGD(stairs), PERIOD + 2)
    assert moved[PERIOD - 1 :] == [1.0, 1.0, 0.5]
    np.testing.assert_array_equal(schedules.values(stairs, PERIOD + 2), moved)


HORIZONS = range(3, 40)


def test_a_fractional_power_is_nan_at_the_horizon_under_xla():
    ends = [scalar(K.PolynomialDecay(1.0, T, 0.0, power=0.5), T, jit=True) for T in HORIZONS]
    if not np.isnan(ends).any():
        pytest.skip("this processor has no fused multiply-add")
    assert np.isfinite(
        [scalar(K.PolynomialDecay(1.0, T, 0.0, power=0.5), T) for T in HORIZONS]
    ).all()


def test_a_fractional_power_is_finite_up_to_the_horizon_under_xla():
    for T in HORIZONS:
        last = scalar(schedules.build("polynomial", 1.0, T, power=0.5), T - 1, jit=True)
        assert last == pytest.approx(T**-0.5, rel=1e-4)
        # Our own square root lives beyond the horizon too.
        assert scalar(schedules.build("wsd", 1.0, T, shape="sqrt"), T, jit=True) == 0.0


# ----------------------------------------------------------- what an optimizer makes of it


def test_keras_keeps_the_rate_inside_the_velocity():
    """The same algorithm as elsewhere at a constant rate; another one under a schedule."""
    drop, steps, mu = 40, 60, 0.9
    rates = np.where(np.arange(steps) < drop, 0.1, 0.01)
    schedule = K.PiecewiseConstantDecay([drop - 1], [0.1, 0.01])
    moved, *_ = fit(keras.optimizers.SGD(schedule, momentum=mu), steps)
    inside, outside, velocity, heavy = [], [], 0.0, 0.0
    for rate in rates:
        velocity = mu * velocity + rate
        heavy = mu * heavy + 1
        inside.append(velocity)
        outside.append(rate * heavy)
    np.testing.assert_allclose(moved, inside, rtol=1e-5)
    other = optax.sgd(lambda count: np.where(count < drop, 0.1, 0.01), momentum=mu)
    state, theirs = other.init(0.0), []
    for _ in range(steps):
        update, state = other.update(1.0, state)
        theirs.append(-float(update))
    np.testing.assert_allclose(theirs, outside, rtol=1e-5)
    np.testing.assert_allclose(moved[:drop], theirs[:drop], rtol=1e-5)  # no difference yet
    assert moved[drop] / theirs[drop] > 8  # right after the drop
    assert moved[drop + 10] / theirs[drop + 10] > 3  # and ten steps later


def test_gradient_accumulation_runs_the_schedule_once_per_batch():
    """Sixteen batches are four updates; the schedule sees batches 3, 7, 11 and 15."""

    def updates(schedule):
        optimizer = keras.optimizers.SGD(schedule, gradient_accumulation_steps=4)
        moved, *_ = fit(optimizer, 16)
        assert np.count_nonzero(moved) <= 4 and int(optimizer.iterations) == 4
        return np.array(moved)[3::4]

    for_updates, for_batches = (schedules.build("linear", 1.0, steps) for steps in (4, 16))
    np.testing.assert_allclose(updates(for_updates), [0.25, 0, 0, 0])  # spent after the first
    np.testing.assert_allclose(updates(for_batches), schedules.values(for_batches, 16)[3::4])


def test_adafactor_ignores_a_schedule_above_its_own():
    """The step is min(rate, 1 / sqrt(t)), here times 0.001, the floor of the weight's scale."""
    t = 1 + np.arange(100)
    for schedule in (K.PolynomialDecay(1.0, 100, 0.5), schedules.build("constant", 1, 100)):
        given = schedules.values(schedule, 100)
        moved, *_ = fit(keras.optimizers.Adafactor(schedule, relative_step=False), 100)
        np.testing.assert_allclose(moved, 1e-3 * np.minimum(given, t**-0.5), rtol=1e-4)
    assert (given > t**-0.5).sum() == 99  # all but the first were ignored


@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_schedule_free_of_keras_is_plain_averaging_whatever_beta_1(graph):
    """It should take gradients between the last iterate z and the average x of all iterates.

    Keras 3.15 on TensorFlow reads z again after having changed it, and the two errors cancel: the
    model's weights are the average, gradients are taken there, and beta_1 has no effect.
    """
    weights = []
    for beta_1 in (0.9, 0.5):
        weight = keras.Variable(3.0)
        optimizer = keras.optimizers.ScheduleFreeAdamW(0.1, beta_1=beta_1)
        optimizer.build([weight])

        def step(weight=weight, optimizer=optimizer):
            optimizer.apply([2 * keras.ops.convert_to_tensor(weight)])

        step = tf.function(step, autograph=False) if graph else step
        iterates = []
        for _ in range(20):
            step()
            iterates.append(float(optimizer._momentums[0]))
        assert float(weight) == pytest.approx(np.mean(iterates), rel=1e-5)
        between = (1 - beta_1) * iterates[-1] + beta_1 * np.mean(iterates)
        assert abs(float(weight) - between) > 0.05  # where the method would be
        weights.append(float(weight))
    assert weights[0] == pytest.approx(weights[1], rel=1e-5)


# ------------------------------------------------------------------------- what fit reports


def test_history_has_no_rate_and_the_rate_read_after_a_batch_is_the_next_one():
    schedule = schedules.build("one_cycle", 0.1, 8)
    moved, read, history = fit(keras.optimizers.SGD(schedule), 8)
    assert list(history) == ["loss"]
    table = schedules.values(schedule, 9, exact=True)
    np.testing.assert_array_equal(moved, table[:8])  # the applied rates, to the last bit
    np.testing.assert_allclose(read, table[1:], rtol=1e-5)  # the rates of the steps to come
    assert not np.allclose(read, moved)


def test_callbacks_see_only_some_steps_with_steps_per_execution():
    schedule = schedules.build("linear", 1.0, 8)
    moved, read, _ = fit(keras.optimizers.SGD(schedule), 8, steps_per_execution=4)
    np.testing.assert_allclose(read, [0.5, 0.0])  # two of eight
    table = schedules.values(schedule, 8)
    np.testing.assert_allclose(moved, [table[:4].sum(), table[4:].sum()])


# ---------------------------------------------------------------- callbacks that set the rate


def test_a_callback_cannot_set_the_rate_of_an_optimizer_with_a_schedule():
    schedule = schedules.build("linear", 0.1, 8)
    callback = keras.callbacks.LearningRateScheduler(lambda epoch: 0.1)
    with pytest.raises(TypeError, match="LearningRateSchedule"):
        fit(keras.optimizers.SGD(schedule), 4, callback)
    impatient = keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=1e9)
    with pytest.raises(TypeError, match="LearningRateSchedule"):
        plateau(impatient, schedule)


def test_plateau_says_nothing_once_the_schedule_is_at_zero():
    impatient = keras.callbacks.ReduceLROnPlateau("loss", patience=0, min_delta=1e9)
    assert plateau(impatient, schedules.build("linear", 0.1, 8), done=8) == [0.0] * 10


def test_plateau_counts_patience_and_improvement_in_its_own_way():
    """Keras reduces after `patience` bad epochs, PyTorch after one more."""
    reduced = plateau(keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=3), 1.0)
    assert (np.flatnonzero(np.diff(reduced)) + 1).tolist() == [3, 6, 9]
    # Halving a small loss again and again is no improvement: the threshold 1e-4 is absolute.
    small = 1e-5 * 0.5 ** np.arange(10)
    blind = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=3)
    assert plateau(blind, 1.0, losses=small)[-1] == pytest.approx(1e-3)
    seeing = keras.callbacks.ReduceLROnPlateau("loss", factor=0.1, patience=3, min_delta=0)
    assert plateau(seeing, 1.0, losses=small)[-1] == 1.0
