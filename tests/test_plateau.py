"""The plateau callback with a warmup: the rise, then Keras's own rule and nothing else."""

from anneal_utils.callbacks import RateRecorder, WarmupPlateau

import keras
import numpy as np
import pytest
from small import assert_refused


def model_of(optimizer, **settings):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(1)])
    model.compile(optimizer, "mse", jit_compile=False, **settings)
    return model


X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = np.zeros((40, 1), "float32")
STUCK = dict(monitor="loss", factor=0.5, patience=2, min_delta=1e9)  # no epoch is ever better


def applied(model, callback, epochs, **fit):
    recorder = RateRecorder()
    history = model.fit(
        X, Y, batch_size=8, epochs=epochs, verbose=0, callbacks=[callback, recorder], **fit
    )
    return np.array(recorder.rates), history.history["learning_rate"]


@pytest.mark.parametrize("optimizer", ["sgd", "accumulating", "adam"])
def test_the_rate_rises_to_the_peak_and_then_follows_the_rule_of_keras(optimizer):
    made = {
        "sgd": keras.optimizers.SGD(0.4),
        "adam": keras.optimizers.Adam(0.4),
        "accumulating": keras.optimizers.SGD(0.4, gradient_accumulation_steps=2),
    }[optimizer]
    rates, history = applied(model_of(made), WarmupPlateau(7, **STUCK), 8)
    rise = 0.4 * np.arange(1, 8) / 8
    np.testing.assert_allclose(rates[:7], rise, rtol=1e-6)
    # Two epochs have batches of the warmup. After them Keras's rule, which takes the first epoch
    # for the best one so far and then waits two.
    alone = keras.callbacks.ReduceLROnPlateau(**STUCK)
    rest, _ = applied(model_of(keras.optimizers.SGD(0.4)), alone, 6)
    np.testing.assert_allclose(rates[10:], rest, rtol=1e-6)
    np.testing.assert_allclose(rates[7:10], 0.4, rtol=1e-6)
    assert len(set(rest)) > 2 and len(history) == 8


def test_a_resumed_run_goes_on_with_its_warmup(tmp_path):
    whole, _ = applied(model_of(keras.optimizers.SGD(0.4)), WarmupPlateau(7, **STUCK), 2)
    model = model_of(keras.optimizers.SGD(0.4))
    first, _ = applied(model, WarmupPlateau(7, **STUCK), 1)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"^peak = None: must be given .* step 5, in the warmup"):
        applied(again, WarmupPlateau(7, **STUCK), 1)
    second, _ = applied(again, WarmupPlateau(7, peak=0.4, **STUCK), 1)
    np.testing.assert_array_equal([*first, *second], whole)


def test_a_warmup_that_ends_with_an_epoch_ends_there(tmp_path):
    # Before: the next epoch was not counted, and a run that was resumed there stayed below.
    rates, _ = applied(model_of(keras.optimizers.SGD(0.4)), WarmupPlateau(5, **STUCK), 5)
    alone = keras.callbacks.ReduceLROnPlateau(**STUCK)
    rest, _ = applied(model_of(keras.optimizers.SGD(0.4)), alone, 4)
    np.testing.assert_allclose(rates[5:], rest, rtol=1e-6)
    model = model_of(keras.optimizers.SGD(0.4))
    applied(model, WarmupPlateau(5, **STUCK), 1)
    second, _ = applied(model, WarmupPlateau(5, peak=0.4, **STUCK), 1)
    np.testing.assert_allclose(second, 0.4, rtol=1e-6)


def test_a_backup_that_is_loaded_keeps_the_rate_that_the_rule_had_reached(tmp_path):
    class Crash(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 6:
                raise RuntimeError("crash")

    def callbacks():
        return [WarmupPlateau(5, peak=0.4, **STUCK), keras.callbacks.BackupAndRestore(tmp_path)]

    model = model_of(keras.optimizers.SGD(0.4))
    with pytest.raises(RuntimeError, match="crash"):
        model.fit(X, Y, batch_size=8, epochs=8, verbose=0, callbacks=[*callbacks(), Crash()])
    lowered = float(model.optimizer.learning_rate)
    assert lowered < 0.4
    again, recorder = model_of(keras.optimizers.SGD(0.4)), RateRecorder()
    again.fit(X, Y, batch_size=8, epochs=7, verbose=0, callbacks=[*callbacks(), recorder])
    assert recorder.rates[0] == pytest.approx(lowered)


def fitted(optimizer, **settings):
    return model_of(optimizer, **settings).fit(X, Y, verbose=0, callbacks=[WarmupPlateau(7)])


REFUSED = {
    **{
        f"warmup = {bad!r}: must be": lambda bad=bad: WarmupPlateau(bad)
        for bad in (0, -1, 2.5, "7")
    },
    "peak = 0: must be": lambda: WarmupPlateau(7, peak=0),
    "optimizer.learning_rate = 'CosineDecay': must": lambda: fitted(
        keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.1, 9))
    ),
    "steps_per_execution = 2: must be 1": lambda: fitted("sgd", steps_per_execution=2),
}


@pytest.mark.parametrize("start", REFUSED)
def test_bad_input_is_named(start):
    assert_refused(REFUSED[start], start)
