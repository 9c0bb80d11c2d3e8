"""Optimizers against Keras's own, and against their formulas in NumPy."""

from anneal_utils import problems, schedules, training
from anneal_utils.optimizers import (
    SWATS,
    AdaBound,
    AveragedAdamW,
    EvaluateAverage,
    HypergradientSGD,
    PolyakSGD,
    ScheduledMomentumSGD,
)

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf


def falling():
    return schedules.build("linear", 0.95, 20, end=0.5)


def test_constant_momentum_is_keras_sgd_to_the_last_bit():
    article = problems.load("article")
    finals = []
    for make in (keras.optimizers.SGD, ScheduledMomentumSGD):
        runs = training.grid(
            ["linear"], [0.1], [1], lambda rate, make=make: make(rate, momentum=0.8), epochs=2
        )
        finals.append(training.train(article, runs, return_weights=True, mode="graph")[0][0])
    for mine, theirs in zip(*finals, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_scheduled_momentum_follows_its_formula():
    optimizer = ScheduledMomentumSGD(0.1, falling())
    weight, x, velocity = keras.Variable([1.0, -2.0]), np.array([1.0, -2.0]), 0.0
    for step in range(25):
        optimizer.apply([3 * weight.numpy()], [weight])
        momentum = 0.95 * (0.5 + 0.5 * (1 - min(step, 20) / 20))
        velocity = momentum * velocity - 0.1 * 3 * x
        x = x + velocity
        np.testing.assert_allclose(weight.numpy(), x, rtol=1e-4, atol=1e-5)


def test_scheduled_momentum_is_the_same_under_the_trainer_and_in_fit():
    article = problems.load("article")
    runs = training.grid(
        ["one_cycle"], [0.05], [2], lambda rate: ScheduledMomentumSGD(rate, falling()), epochs=2
    )
    frame = training.train(article, runs, mode="graph")
    pd.testing.assert_frame_equal(frame, training.fit_one(article, runs[0])[1], check_exact=True)


def test_scheduled_momentum_saves_and_loads(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(ScheduledMomentumSGD(0.1, falling()), "mse")
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    for each in (model, again):
        each.fit(x, y, epochs=3, verbose=0, shuffle=False)
    for mine, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("momentum", [1.0, -0.1, "high", float("nan")])
def test_bad_momentum_is_named(momentum):
    with pytest.raises(ValueError, match="^momentum = "):
        ScheduledMomentumSGD(0.1, momentum)
    with pytest.raises(ValueError, match="^nesterov"):
        ScheduledMomentumSGD(0.1, 0.9, nesterov=True)


# ------------------------------------------------------- against the papers, in plain NumPy


def bowl(x):
    """Gradient of 0.5 (4 x_0^2 + x_1^2 + 0.2 x_2^2)."""
    return np.array([4.0, 1.0, 0.2]) * x


def descend(optimizer, steps, gradient=bowl, noise=0.0, loss=None):
    """Weights after each step; two variables, so that what is global must be summed over both."""
    weights = [keras.Variable([1.0, -2.0]), keras.Variable([3.0])]
    optimizer.build(weights)
    rng, path = np.random.default_rng(0), []
    for _ in range(steps):
        x = np.concatenate([w.numpy() for w in weights])
        g = (gradient(x) + noise * rng.standard_normal(3)).astype("float32")
        if loss:
            optimizer.scale_loss(keras.ops.convert_to_tensor(loss(x), "float32"))
        optimizer.apply([g[:2], g[2:]], weights)
        path.append((g.astype(float), np.concatenate([w.numpy() for w in weights])))
    return path


START = np.array([1.0, -2.0, 3.0])


def moments(gradients, beta_1=0.9, beta_2=0.999):
    """Adam's (first moment, second moment, step) for each gradient."""
    first = second = 0.0
    for step, g in enumerate(gradients, 1):
        first = beta_1 * first + (1 - beta_1) * g
        second = beta_2 * second + (1 - beta_2) * g**2
        yield first, second, step


@pytest.mark.parametrize("ratio", [5.0, 0.5])  # the lower bound acts, or the upper one
def test_adabound_is_its_papers_formula(ratio):
    path, x = descend(AdaBound(0.01, final_ratio=ratio, gamma=0.05), 120, noise=0.5), START
    below, above = 0, 0
    for (_, after), (m, v, t) in zip(path, moments(g for g, _ in path), strict=True):
        own = 0.01 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) / (np.sqrt(v) + 1e-7)
        low = 0.01 * ratio * (1 - 1 / (0.05 * t + 1))
        high = 0.01 * ratio * (1 + 1 / (0.05 * t))
        below, above = below + int((own < low).sum()), above + int((own > high).sum())
        x = x - np.clip(own, low, high) * m
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)
    assert 0 < (below if ratio > 1 else above) < 3 * 120  # clipped, and not always


def test_adabound_with_a_wide_band_is_adam():
    wide = descend(AdaBound(0.01, final_ratio=1.0, gamma=1e-12), 40)
    adam = descend(keras.optimizers.Adam(0.01), 40)
    np.testing.assert_allclose(wide[-1][1], adam[-1][1], rtol=1e-5)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-9])
def test_swats_is_its_papers_algorithm(tolerance):
    optimizer = SWATS(0.05, tolerance=tolerance, beta_2=0.9)
    path, x, mean, sgd, velocity, switched = descend(optimizer, 80), START, 0.0, None, 0.0, -1
    for (g, after), (m, v, t) in zip(path, moments((g for g, _ in path), 0.9, 0.9), strict=True):
        if sgd is not None:
            velocity = 0.9 * velocity + g
            x = x - (1 - 0.9) * sgd * velocity
        else:
            p = -0.05 * np.sqrt(1 - 0.9**t) / (1 - 0.9**t) * m / (np.sqrt(v) + 1e-7)
            x = x + p
            projected = p @ p / -(p @ g)
            mean = 0.9 * mean + 0.1 * projected
            corrected = mean / (1 - 0.9**t)
            if t > 1 and abs(corrected - projected) < tolerance and corrected > 0:
                sgd, switched = corrected, t
        np.testing.assert_allclose(after, x, rtol=2e-3, atol=2e-3)
    assert int(optimizer.switched_at) == switched
    assert (switched > 0) == (tolerance == 1e-3)  # the test sees both phases


def test_polyak_is_its_papers_formula_and_capped():
    def loss(x):
        return 0.5 * float((np.array([4.0, 1.0, 0.2]) * x**2).sum())

    path, x, capped = descend(PolyakSGD(0.5, c=0.5), 40, loss=loss), START, 0
    for g, after in path:
        rate = loss(x) / (0.5 * g @ g)
        capped += rate > 0.5
        x = x - min(rate, 0.5) * g
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)
    assert 0 < capped < 40


def test_polyak_needs_a_loss_and_rests_at_a_stationary_point():
    weight = keras.Variable([1.0])
    optimizer = PolyakSGD(0.5)
    with pytest.raises(ValueError, match="loss"):
        optimizer.apply([np.ones(1, "float32")], [weight])
    optimizer.scale_loss(keras.ops.zeros(()))
    optimizer.apply([np.zeros(1, "float32")], [weight])
    np.testing.assert_array_equal(weight.numpy(), [1.0])


def test_hypergradient_is_its_papers_formula():
    optimizer = HypergradientSGD(0.01, beta=1e-3)
    x, rate, last = START, 0.01, np.zeros(3)
    for g, after in descend(optimizer, 60, noise=0.3):
        rate += 1e-3 * g @ last
        x, last = x - rate * g, g
        np.testing.assert_allclose(after, x, rtol=1e-4, atol=1e-5)
    assert abs(rate - 0.01) > 0.01  # it has learned something
    np.testing.assert_allclose(float(optimizer.offset), rate - 0.01, rtol=1e-3)


@pytest.mark.parametrize("warmup", [0, 10])
def test_averaged_adamw_is_schedule_free_of_its_paper(warmup):
    optimizer = AveragedAdamW(0.05, beta_1=0.8, warmup_steps=warmup)
    z = x = START
    weights, second, largest = 0.0, 0.0, 0.0
    for t, (g, after) in enumerate(descend(optimizer, 50, noise=0.3), 1):
        rate = 0.05 * min(t / warmup, 1) if warmup else 0.05
        second = 0.999 * second + 0.001 * g**2
        z = z - rate * g / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        largest = max(largest, rate)
        weights += largest**2
        x = (1 - largest**2 / weights) * x + largest**2 / weights * z
        np.testing.assert_allclose(after, 0.2 * z + 0.8 * x, rtol=1e-4, atol=1e-5)
    trained = [v.numpy() for v in optimizer._trainable_variables]
    optimizer.to_average()
    average = np.concatenate([v.numpy() for v in optimizer._trainable_variables])
    np.testing.assert_allclose(average, x, rtol=1e-4)
    optimizer.to_gradient_point()
    for mine, theirs in zip(trained, optimizer._trainable_variables, strict=True):
        np.testing.assert_array_equal(mine, theirs.numpy())


MAKERS = {
    "adabound": lambda rate: AdaBound(rate, gamma=0.01),
    "swats": lambda rate: SWATS(rate, tolerance=1e-2),
    "polyak": PolyakSGD,
    "hypergradient": HypergradientSGD,
    "averaged": AveragedAdamW,
}


@pytest.mark.parametrize("name", MAKERS)
def test_the_same_under_the_trainer_and_in_fit(name):
    article = problems.load("article")
    runs = training.grid(["linear"], [0.05], [2], MAKERS[name], epochs=3)
    weights, frame = training.train(article, runs, mode="graph", return_weights=True)
    model, twin = training.fit_one(article, runs[0])
    pd.testing.assert_frame_equal(frame, twin, check_exact=True)
    for mine, theirs in zip(weights[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    quick = training.train(article, runs, mode="xla")
    np.testing.assert_allclose(quick.val_loss, frame.val_loss, rtol=1e-3)


def test_averaged_adamw_starts_from_the_weights_when_fit_builds_it():
    article = problems.load("article")
    keras.utils.set_random_seed(0)
    model = article.build()
    before = model.get_weights()
    model.compile(AveragedAdamW(1e-7), article.loss)
    model.fit(article.x_train, article.y_train, epochs=1, verbose=0, callbacks=[EvaluateAverage()])
    for mine, theirs in zip(model.get_weights(), before, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("name", MAKERS)
def test_saves_loads_and_goes_on(name, tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(MAKERS[name](0.01), "mse")
    x, y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
    model.fit(x, y, epochs=3, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, again):
        each.fit(x, y, epochs=3, verbose=0, shuffle=False)
    for mine, theirs in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("make", "argument"),
    [
        (lambda: AdaBound(0.1, final_ratio=0), "final_ratio"),
        (lambda: AdaBound(0.1, gamma=-1), "gamma"),
        (lambda: AdaBound(0.1, amsgrad=True), "amsgrad"),
        (lambda: SWATS(0.1, tolerance=0), "tolerance"),
        (lambda: PolyakSGD(0.1, c=0), "c"),
        (lambda: PolyakSGD(0.1, momentum=0.9), "momentum"),
        (lambda: HypergradientSGD(0.1, beta=float("nan")), "beta"),
        (lambda: HypergradientSGD(0.1, nesterov=True), "nesterov"),
        (lambda: AveragedAdamW(0.1, beta_1=2), "beta_1"),
        (lambda: AveragedAdamW(0.1, beta_2=1), "beta_2"),
        (lambda: AveragedAdamW(0.1, warmup_steps=-1), "warmup_steps"),
        (lambda: AveragedAdamW(0.1, weight_decay=-0.1), "weight_decay"),
    ],
)
def test_bad_arguments_are_named(make, argument):
    with pytest.raises(ValueError, match=f"^{argument} = "):
        make()


# ------------------------------------------------- what is evaluated is what is kept and saved

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
    return [v.numpy() for v in [*model.variables, *optimizer.variables]]


def assert_equal(mine, theirs):
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


class Rising(keras.callbacks.Callback):
    """The second epoch seems the best."""

    def on_epoch_end(self, epoch, logs=None):
        logs["wanted"] = abs(epoch - 1)


@pytest.mark.parametrize("mine_first", [True, False])
@pytest.mark.parametrize("validate", [True, False])
def test_early_stopping_restores_an_evaluated_average(mine_first, validate):
    stop = keras.callbacks.EarlyStopping("wanted", patience=2, restore_best_weights=True)
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
    for now, then in zip(model.get_weights(), best, strict=True):
        np.testing.assert_allclose(now, then, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("mine_first", [True, False])
@pytest.mark.parametrize("validate", [True, False])
def test_a_checkpoint_is_what_was_evaluated_and_goes_on(mine_first, validate, jit, tmp_path):
    path = str(tmp_path / "{epoch}.keras")
    save = keras.callbacks.ModelCheckpoint(path)
    order = [EvaluateAverage(), save] if mine_first else [save, EvaluateAverage()]
    model = averaging(jit_compile=jit)
    fit(model, *order, validate=validate)
    log = fit(averaging(jit_compile=jit), EvaluateAverage())
    for epoch in (1, 2, 3, 4):
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
        keras.callbacks.ModelCheckpoint(best, monitor="wanted", save_best_only=True),
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


def test_a_data_set_of_unknown_length_and_several_steps_at_once():
    batches = [(X[i : i + 8], Y[i : i + 8]) for i in (0, 8, 16)]
    unknown = tf.data.Dataset.from_generator(
        lambda: iter(batches),
        output_signature=(tf.TensorSpec((8, 3)), tf.TensorSpec((8, 1))),
    )
    plain, model, several = averaging(), averaging(), averaging(steps_per_execution=2)
    log = fit(plain, EvaluateAverage())
    assert fit(model, EvaluateAverage(), x=unknown, y=None)["val_loss"] == log["val_loss"]
    assert_equal(model.get_weights(), plain.get_weights())
    fit(several, EvaluateAverage(), validate=False)
    assert_equal(several.get_weights(), plain.get_weights())


def test_averages_under_half_precision_are_found_in_the_wrapper(tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = averaging()
        model.compile(keras.optimizers.LossScaleOptimizer(model.optimizer.inner_optimizer), "mse")
        fit(model, EvaluateAverage(), epochs=2)
        model.save(tmp_path / "m.keras")
        again = keras.saving.load_model(tmp_path / "m.keras")
        for each in (model, again):
            assert each.optimizer.inner_optimizer.place() == "average"
            fit(each, EvaluateAverage(), epochs=2)
        assert_equal(points(again), points(model))
    finally:
        keras.config.set_dtype_policy("float32")


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
    with pytest.raises(ValueError, match="^model.optimizer = 'Adam': must be AveragedAdamW"):
        fit(model, EvaluateAverage())
