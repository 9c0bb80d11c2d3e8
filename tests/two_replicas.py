"""Run as a script: trainings on two replicas against trainings on one; what fails, as JSON.

TensorFlow has two devices only where they are set up first, so this wants a process of its own.
"""

import json
import sys
import traceback

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from anneal_utils import schedules  # noqa: E402
from anneal_utils.callbacks import HorizonCheck, RangeTest, RateRecorder  # noqa: E402
from anneal_utils.optimizers import EvaluateAverage, LayerRates, Scheduled  # noqa: E402

import keras  # noqa: E402
import numpy as np  # noqa: E402
import small_fits  # noqa: E402
import small_optimizers  # noqa: E402
from small import assert_close, assert_equal, assert_refused, held  # noqa: E402
from small_fits import GENTLE  # noqa: E402

ONE, TWO = tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert TWO.num_replicas_in_sync == 2


def callbacks():
    """A record, a check and a sweep."""

    def network():
        with TWO.scope():
            return small_fits.network(GENTLE, jit_compile=False)

    recorder, model = RateRecorder(), network()
    given = small_fits.trained(model, recorder, HorizonCheck())
    assert_equal(given, small_fits.trained(network()))
    assert recorder.moved == [True] * 20
    np.testing.assert_allclose(recorder.rates, schedules.values(GENTLE, 20), rtol=1e-6)
    with TWO.scope():
        model.compile(keras.optimizers.SGD(0.03, momentum=0.9), "mse", jit_compile=False)
    test, before = RangeTest(1e-3, 1.0, steps=9, factor=50), held(model)
    small_fits.sweep(model, test)
    assert_equal(before, held(model)[: len(before)])
    assert test.message == "ended after 9 of 9 steps, at rate 1", test.message
    assert model.optimizer.iterations.numpy() == 0


def wrappers():
    """Scheduled hyperparameters and rates per layer, one around the other."""
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

    for settings in ({"eager": False, "use_ema": True}, {"eager": True, "epochs": 1}):
        mine, theirs = (weights(strategy, **settings) for strategy in (TWO, ONE))
        assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def optimizers():
    """Those that can: as on one device with the whole batch. The others are refused by name."""
    makers, x, y = small_optimizers.MAKERS, small_optimizers.X, small_optimizers.Y

    def both(name):
        for strategy in (TWO, ONE):
            average = [EvaluateAverage()] if name == "averaged" else []
            with strategy.scope():
                model = small_optimizers.small()
                model.compile(makers[name](), "mse", jit_compile=False)
            settings = {"validation_data": (x, y), "callbacks": average, "shuffle": False}
            model.fit(x, y, batch_size=8, epochs=2, verbose=0, **settings)
            yield model.get_weights()

    def built(name, **settings):
        with TWO.scope():
            makers[name](**settings).build(small_optimizers.small().trainable_variables)

    for name in ("sgd", "adabound", "averaged"):
        assert_close(*both(name), rtol=2e-5, atol=2e-6)
    several = "tf.distribute strategy = 'MirroredStrategy, 2 replicas': must have one"
    for name in small_optimizers.WHOLE:
        assert_refused(lambda name=name: built(name), several)
    for argument in (*small_optimizers.CLIPPED, "gradient_accumulation_steps"):
        value = small_optimizers.REFUSED[argument]
        for name in ("adabound", "averaged"):
            said = assert_refused(
                lambda name=name, settings={argument: value}: built(name, **settings),
                f"{argument} = ",
            )
            assert ": must be None with 2 replicas" in said


def main(*names):
    """Tells of each: nothing, or how it failed."""
    told = {}
    for name in names:
        try:
            told[name] = globals()[name]()
        except Exception:
            told[name] = traceback.format_exc()
    print(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
