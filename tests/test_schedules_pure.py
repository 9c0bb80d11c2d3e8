"""Schedules are pure functions of the step: in any mode, saved, loaded, in ``fit``, as values."""

import json

from anneal_utils import schedules

import keras
import numpy as np
import pytest
import small_fits
import tensorflow as tf
from small_schedules import OBJECTS, each_object, in_graph, near, vector

K = keras.optimizers.schedules
S = schedules


# ------------------------------------------------------------------- purity, graphs, saving


@each_object
def test_a_schedule_is_a_pure_function_of_the_step(schedule):
    steps = np.random.default_rng(0).permutation(130)[:50]
    first = [float(schedule(int(step))) for step in steps]
    again = [float(schedule(int(step))) for step in steps[::-1]][::-1]
    assert first == again
    near(vector(schedule, steps), first, 0.3)
    kinds = [tf.constant(77, kind) for kind in (tf.int32, tf.int64, tf.float32)]
    rates = {float(schedule(kind)) for kind in [*kinds, np.int64(77), 77, 77.0]}
    assert len(rates) == 1 and schedule(77).dtype == "float32"


@each_object
def test_a_graph_and_xla_agree_with_eager(schedule):
    steps = [0, 1, 11, 12, 29, 30, 31, 40, 41, 82, 89, 90, 123, 1000]
    eager = [float(schedule(step)) for step in steps]
    near(in_graph(schedule, steps), eager, 0.3)
    near(in_graph(schedule, steps, jit=True), eager, 0.3)


@pytest.mark.parametrize("period", [41, 47, 55, 82, 83, 97])
@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
def test_a_cycle_starts_on_its_own_step_inside_a_graph(period, jit):
    # period * (1 / period) < 1 in float32 for these, and graphs divide by multiplying.
    starts = period * np.arange(1, 4)
    for shape in ("step", "exponential", "cosine"):
        near(in_graph(S.Cyclical(0.1, 1, period, shape), starts, jit), [1, 1, 1])
    restarts = S.build("cosine_restarts", 1.0, 4 * period, cycles=4)
    near(in_graph(restarts, starts, jit), [1, 1, 1])
    treads = S.Cyclical(0, 1, 4 * period, "step")
    rates = in_graph(treads, [0, *starts, *(starts - 1)], jit)
    near(rates, [1, 2 / 3, 1 / 3, 0, 1, 2 / 3, 1 / 3])
    assert rates.min() >= 0


@each_object
def test_configuration_and_keras_serialisation_round_trip(schedule):
    t = np.arange(130)
    config = schedule.get_config()
    copies = [type(schedule).from_config(config), type(schedule).from_config(config)]
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
    assert saved["registered_name"].startswith("anneal_utils>")
    copies.append(keras.saving.deserialize_keras_object(saved))
    copies.append(K.deserialize(K.serialize(schedule)))
    for copy in copies:
        assert type(copy) is type(schedule) and copy is not schedule
        assert copy.get_config() == config
        np.testing.assert_array_equal(vector(copy, t), vector(schedule, t))


ONES = np.ones([8, 1], "float32")


@pytest.mark.parametrize("jit", [False, True], ids=["graph", "xla"])
@pytest.mark.parametrize("name", ["sequential", "nested", "cyclical step halved"])
def test_fit_applies_the_schedule(name, jit):
    model = small_fits.compiled(keras.optimizers.SGD(OBJECTS[name]), jit_compile=jit)
    watch = small_fits.Watch()
    small_fits.fit(model, watch, epochs=6)
    np.testing.assert_allclose(watch.moved, S.values(OBJECTS[name], 48), atol=2e-6)


SAVED = ["cyclical exponential exp_range", "one-cycle linear", "wsd sqrt", "sigmoid"]
SAVED += ["inverse square root", "power sqrt", "rex", "warmup polynomial", "sequential", "nested"]


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_model_continues_with_its_schedule(name, tmp_path):
    model = keras.Sequential([keras.Input([1]), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(OBJECTS[name], momentum=0.9), loss="mse", jit_compile=False)
    model.fit(ONES, ONES, batch_size=1, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.models.load_model(tmp_path / "model.keras")
    assert type(copy.optimizer._learning_rate) is type(OBJECTS[name])
    assert copy.optimizer._learning_rate.get_config() == OBJECTS[name].get_config()
    assert int(copy.optimizer.iterations) == 8
    for continued in (model, copy):
        continued.fit(ONES, ONES, batch_size=1, verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], copy.get_weights()[0])


def test_an_inner_schedule_is_never_asked_about_a_step_before_its_own_first():
    asked = []

    class Asked(K.LearningRateSchedule):
        def __call__(self, step):
            asked.append(float(step))
            return 0.1

    S.Sequential([Asked(), Asked(), Asked()], [10, 20])(3)
    assert asked == [3, 0, 0]
    warmup = S.Warmup(Asked(), 10)
    asked.clear()
    warmup(4)
    warmup(12)
    assert sorted(set(asked)) == [0, 2]


# ------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("name", S.names())
def test_values_exact_has_the_bits_of_a_graph(name):
    schedule = S.build(name, 0.3, 123, warmup=0.1)
    exact = S.values(schedule, 123, exact=True)
    assert exact.dtype == np.float32 and exact.shape == (123,)
    np.testing.assert_array_equal(exact, in_graph(schedule, range(123)))
    np.testing.assert_allclose(S.values(schedule, 123), exact, rtol=1e-5, atol=1e-5 * 0.3)


def test_values_of_numbers_and_of_schedules_that_take_no_vector():
    np.testing.assert_array_equal(S.values(0.1, 3), np.full(3, 0.1, "float32"))
    np.testing.assert_array_equal(S.values(np.float32(0), 2), [0, 0])

    class Scalar(K.LearningRateSchedule):
        """Answers a vector, wrongly: only the scalar call is right."""

        def __call__(self, step):
            step = keras.ops.cast(step, "float32")
            return 1 / (1 + step) if len(step.shape) == 0 else 0 * step

    near(S.values(Scalar(), 5), 1 / np.arange(1, 6))
    refuses = K.CosineDecay(0.0, 6, warmup_target=0.3, warmup_steps=4)  # a vector raises
    near(S.values(refuses, 10), [float(refuses(step)) for step in range(10)])
    near(S.values(S.Warmup(refuses, 3), 13)[3:], [float(refuses(step)) for step in range(10)])


@pytest.mark.parametrize(
    "schedule",
    [
        K.CosineDecayRestarts(1.0, 83, t_mul=1.0),
        K.ExponentialDecay(1.0, 83, 0.5, staircase=True),
        K.InverseTimeDecay(1.0, 83, 0.5, staircase=True),
        K.PolynomialDecay(1.0, 83, 0.1, cycle=True),
        S.Warmup(K.ExponentialDecay(1.0, 83, 0.5, staircase=True), 5),
    ],
    ids=lambda schedule: type(schedule).__name__,
)
def test_values_are_those_of_a_graph_where_eager_calls_differ(schedule):
    np.testing.assert_array_equal(S.values(schedule, 200), in_graph(schedule, range(200)))


def test_values_falls_back_when_a_vector_disagrees_with_single_calls(monkeypatch):
    schedule = S.Rex(0.3, 50)
    right = in_graph(schedule, range(50))
    S.values(S.Rex(0.1, 50), 50)  # one of its kind has agreed, with another code
    call = S.Rex.__call__
    monkeypatch.setattr(
        S.Rex, "__call__", lambda self, step: call(self, step if step.shape == () else step + 1)
    )
    np.testing.assert_array_equal(S.values(schedule, 50), right)


def test_a_vector_is_trusted_only_where_one_of_its_kind_has_agreed(monkeypatch):
    right, call, asked = S.values(S.OneCycle(0.3, 50), 50), S.OneCycle.__call__, []

    def wrong(self, step):
        """Right in single calls, for two steps, and where phases are straight."""
        asked.append(step.shape)
        off = step.shape not in ((), (2,)) and self.shape == "cosine"
        return call(self, step + 1 if off else step)

    monkeypatch.setattr(S.OneCycle, "__call__", wrong)
    for kind in (lambda schedule: schedule, lambda schedule: S.Hold(S.Floor(schedule, 0.0), 50)):
        S.values(kind(S.OneCycle(0.3, 50, shape="linear")), 50)
        S.values(kind(S.OneCycle(0.3, 50)), 2)
        np.testing.assert_allclose(S.values(kind(S.OneCycle(0.3, 50)), 50), right, rtol=1e-5)
        straight = kind(S.OneCycle(0.1, 40, warmup=0.2, shape="linear"))
        asked.clear()
        S.values(straight, 40)
        assert asked == [(40,)]  # other numbers: no single call
