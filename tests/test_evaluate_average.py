"""AveragedAdamW in ``fit``: what is evaluated is what is kept, restored and saved."""

from anneal_utils.optimizers import AveragedAdamW, EvaluateAverage

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import assert_close, assert_equal, assert_refused, held, policy

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = np.tanh(X[:, :1])


def averaging(**settings):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh")])
    model.add(keras.layers.Dense(1))
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) for w in model.get_weights()])
    model.compile(AveragedAdamW(0.05), "mse", **{"jit_compile": False, **settings})
    return model


def fit(model, *callbacks, epochs=4, x=X, y=Y, validate=True, **settings):
    """``fit`` on batches of 8 in order: the log."""
    if validate:
        settings |= {"validation_data": (X[:8], Y[:8])}
    if y is not None:
        settings |= {"y": y, "batch_size": 8}
    settings = {"shuffle": False, "verbose": 0, **settings}
    return model.fit(x, epochs=epochs, callbacks=list(callbacks), **settings).history


def loss_of(weights):
    """The validation loss of weights, or of a model's."""
    model = averaging()
    model.set_weights(getattr(weights, "get_weights", lambda: weights)())
    return model.evaluate(X[:8], Y[:8], verbose=0)


def points(model):
    """The weights, and all that the optimizer keeps."""
    optimizer = model.optimizer
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return held(model, optimizer)


class Rising(keras.callbacks.Callback):
    """The second epoch seems the best."""

    def on_epoch_end(self, epoch, logs=None):
        logs["wanted"] = abs(epoch - 1)


@pytest.mark.parametrize(("mine_first", "validate"), [(True, True), (False, False)])
def test_early_stopping_restores_an_evaluated_average(mine_first, validate):
    stop = keras.callbacks.EarlyStopping("wanted", 0, 2, mode="min", restore_best_weights=True)
    order = [EvaluateAverage(), stop] if mine_first else [stop, EvaluateAverage()]
    model, plain = averaging(), averaging()
    fit(model, Rising(), *order, epochs=9, validate=validate)
    assert model.optimizer.iterations == 4 * 3
    log = fit(plain, EvaluateAverage(), epochs=2)
    assert_equal(model.get_weights(), plain.get_weights())
    assert loss_of(model) == pytest.approx(log["val_loss"][1], rel=1e-5)
    # They are a new start for the next fit, and not overwritten by what the optimizer kept.
    best = model.get_weights()
    model.optimizer.learning_rate = 1e-7
    fit(model, EvaluateAverage(), epochs=1)
    assert_close(model.get_weights(), best, atol=1e-5)


@pytest.mark.parametrize(
    ("mine_first", "validate", "jit"),
    [(True, True, True), (False, True, False), (False, False, True)],
)
def test_a_checkpoint_is_what_was_evaluated_and_goes_on(mine_first, validate, jit, tmp_path):
    path = str(tmp_path / "{epoch}.keras")
    save = keras.callbacks.ModelCheckpoint(path)
    order = [EvaluateAverage(), save] if mine_first else [save, EvaluateAverage()]
    model = averaging(jit_compile=jit)
    fit(model, *order, validate=validate)
    log = fit(averaging(jit_compile=jit), EvaluateAverage())
    for epoch in (2, 4):
        saved = keras.saving.load_model(path.format(epoch=epoch))
        assert saved.evaluate(X[:8], Y[:8], verbose=0) == pytest.approx(
            log["val_loss"][epoch - 1], rel=1e-5
        )
        if epoch == 2:
            fit(saved, EvaluateAverage(), epochs=2, validate=validate)
            assert_equal(points(saved), points(model))


def test_weights_alone_and_the_best_alone(tmp_path):
    path, best = str(tmp_path / "{epoch}.weights.h5"), str(tmp_path / "best.keras")
    save = [
        keras.callbacks.ModelCheckpoint(path, save_weights_only=True),
        keras.callbacks.ModelCheckpoint(best, "wanted", save_best_only=True, mode="min"),
    ]
    model, again = averaging(), averaging()
    log = fit(model, Rising(), *save, EvaluateAverage())
    again.optimizer.build(again.trainable_variables)
    again.load_weights(path.format(epoch=2))
    assert loss_of(again) == pytest.approx(log["val_loss"][1], rel=1e-5)
    assert loss_of(keras.saving.load_model(best)) == pytest.approx(log["val_loss"][1], rel=1e-5)
    fit(again, EvaluateAverage(), epochs=2)
    assert_equal(points(again), points(model))


class Breaks(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if self.model.optimizer.iterations == 2 * 3 + 1:
            raise KeyboardInterrupt


@pytest.mark.parametrize("mine_first", [True, False])
def test_backup_and_restore_goes_on_after_an_exception(mine_first, tmp_path):
    whole = averaging()
    fit(whole, EvaluateAverage())
    for model in (averaging(), again := averaging()):
        back = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        order = [EvaluateAverage(), back] if mine_first else [back, EvaluateAverage()]
        if model is again:
            fit(model, *order)
        else:
            with pytest.raises(KeyboardInterrupt):
                fit(model, *order, Breaks())
    assert_equal(points(again), points(whole))


def test_a_second_fit_goes_on_where_the_first_was():
    once, twice = averaging(), averaging()
    fit(once, EvaluateAverage())
    fit(twice, EvaluateAverage(), epochs=1, validate=False)
    fit(twice, EvaluateAverage(), epochs=3)
    assert_equal(points(twice), points(once))
    broken = averaging()
    with pytest.raises(KeyboardInterrupt):
        fit(broken, EvaluateAverage(), Breaks())
    assert broken.optimizer.place() == "gradient point"
    before = points(broken)
    broken.optimizer.go_on()
    assert_equal(points(broken), before)


def test_evaluate_and_predict_outside_of_fit_put_back_what_was_there():
    model = averaging()
    fit(model, EvaluateAverage(), epochs=2)
    average = model.evaluate(X, Y, verbose=0)
    model.optimizer.to_gradient_point()
    before = points(model)
    assert model.evaluate(X, Y, verbose=0) != average
    assert model.evaluate(X, Y, verbose=0, callbacks=[EvaluateAverage()]) == average
    assert_equal(points(model), before)
    predicted = model.predict(X, verbose=0, callbacks=[EvaluateAverage()])
    assert_equal(points(model), before)
    model.optimizer.to_average()
    assert_equal(predicted, model.predict(X, verbose=0, callbacks=[EvaluateAverage()]))
    model.set_weights([0 * w for w in model.get_weights()])  # someone else's: evaluated as it is
    assert model.evaluate(X, Y, verbose=0, callbacks=[EvaluateAverage()]) == pytest.approx(
        float((Y**2).mean())
    )


def test_an_evaluation_in_the_middle_changes_nothing():
    class Looks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.evaluate(X, Y, verbose=0, callbacks=[average])

    model, plain, average = averaging(), averaging(), EvaluateAverage()
    fit(model, average, Looks())
    fit(plain, EvaluateAverage())
    assert_equal(points(model), points(plain))


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_a_data_set_of_unknown_length_and_several_steps_at_once():
    batches = [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]
    unknown = tf.data.Dataset.from_generator(
        lambda: iter(batches),
        output_signature=(tf.TensorSpec((8, 3)), tf.TensorSpec((8, 1))),
    )
    plain, model, several = averaging(), averaging(), averaging(steps_per_execution=2)
    log = fit(plain, EvaluateAverage())
    known = unknown.apply(tf.data.experimental.assert_cardinality(3))
    assert fit(model, EvaluateAverage(), x=known, y=None)["val_loss"] == log["val_loss"]
    assert_equal(model.get_weights(), plain.get_weights())
    # Keras counts a step too many in each epoch then; but the model is where it was evaluated.
    log = fit(model, EvaluateAverage(), x=unknown, y=None)
    assert loss_of(model) == pytest.approx(log["val_loss"][-1], rel=1e-5)
    fit(several, EvaluateAverage(), validate=False)
    assert_equal(several.get_weights(), plain.get_weights())


def test_averages_under_half_precision_are_found_in_the_wrapper(tmp_path):
    with policy("mixed_float16"):
        model = averaging()
        model.compile(keras.optimizers.LossScaleOptimizer(model.optimizer.inner_optimizer), "mse")
        fit(model, EvaluateAverage(), epochs=2)
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        for each in (model, again):
            assert each.optimizer.inner_optimizer.place() == "average"
            fit(each, EvaluateAverage(), epochs=2)
        assert_equal(points(again), points(model))


def test_weights_set_before_the_first_step_are_the_start():
    model, other = averaging(), averaging()
    other.set_weights([w + 1 for w in other.get_weights()])
    model.optimizer.build(model.trainable_variables)
    model.set_weights(other.get_weights())
    for each in (model, other):
        fit(each, EvaluateAverage(), epochs=2)
    assert_equal(model.get_weights(), other.get_weights())


def test_another_optimizer_is_refused():
    model = averaging()
    model.compile("adam", "mse")
    start = "model.optimizer = 'Adam': must be AveragedAdamW"
    assert_refused(lambda: fit(model, EvaluateAverage()), start)


def test_an_interrupted_fit_is_forgotten_by_the_callback():
    """Before: the next model that it evaluated was taken for one in the middle of a fit."""

    class Stop(keras.callbacks.Callback):
        def on_test_batch_begin(self, batch, logs=None):
            raise KeyboardInterrupt

    average, first = EvaluateAverage(), averaging()
    with pytest.raises(KeyboardInterrupt):
        fit(first, average, Stop())
    second = averaging()
    fit(second, EvaluateAverage())
    second.optimizer.to_gradient_point()
    there = second.get_weights()
    right = second.evaluate(X[:8], Y[:8], verbose=0, callbacks=[EvaluateAverage()])
    assert second.evaluate(X[:8], Y[:8], verbose=0, callbacks=[average]) == right
    assert_equal(second.get_weights(), there)
