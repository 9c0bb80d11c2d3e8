"""What Keras's base optimizer accepts: each optimizer equals a reference, or refuses by name.

Keras's own SGD and Adam stand beside ours as the controls: they show that the references are right.
"""

import functools

from anneal_utils.optimizers import AveragedAdamW

import keras
import numpy as np
import pytest
import tensorflow as tf
from formulas import START, bowl
from small import assert_close, assert_equal, held, policy
from small_optimizers import (
    ALONE,
    CLIPPED,
    CONTROLS,
    MAKERS,
    REFUSED,
    WHOLE,
    all_norm,
    by_hand,
    small,
    trained,
)

K, L = keras.optimizers, keras.layers


@functools.cache
def plain(name):
    """The training that settings are compared with."""
    return trained(MAKERS[name]())


def assert_near(mine, theirs, **tolerance):
    assert_close(mine, theirs, **{"rtol": 2e-5, "atol": 2e-6, **tolerance})


def moved(mine, theirs):
    return any(np.abs(a - b).max() > 1e-3 for a, b in zip(mine, theirs, strict=True))


# ---------------------------------------------------------------------- arguments, one by one


@pytest.mark.parametrize("argument", CLIPPED)
@pytest.mark.parametrize("name", [n for n in MAKERS if n not in ("polyak", "hypergradient")])
def test_clipping_is_clipping_by_hand(name, argument):
    value, clip = CLIPPED[argument]
    clipped = trained(MAKERS[name](**{argument: value}))
    assert_near(clipped, by_hand(MAKERS[name](), clip))
    if name == "sgd":  # for Adam's kin a scale matters little
        assert moved(clipped, plain(name))


@pytest.mark.parametrize("argument", CLIPPED)
def test_hypergradients_are_of_the_whole_gradient_and_the_applied_one(argument):
    value, clip = CLIPPED[argument]
    optimizer = MAKERS["hypergradient"](**{argument: value})
    rate, last, seen = 0.05, None, []

    def follow(gradients):
        nonlocal rate, last
        if last is not None:
            rate += 1e-2 * sum((a * b).sum() for a, b in zip(gradients, last, strict=True))
        last = clip(gradients)
        seen.append(rate)
        return [rate / 0.05 * g for g in last]

    assert_near(trained(optimizer), by_hand(K.SGD(0.05), follow))
    assert abs(seen[-1] - 0.05) > 1e-4
    np.testing.assert_allclose(float(optimizer.offset), rate - 0.05, rtol=1e-3)


@pytest.mark.parametrize("name", MAKERS)
def test_a_loss_scale_is_divided_out(name):
    scaled = trained(MAKERS[name](loss_scale_factor=64.0))
    assert_near(scaled, plain(name))  # Polyak's rates were 1 / 64^2 of their own


@pytest.mark.parametrize("name", [n for n in MAKERS if n not in WHOLE])
def test_accumulation_is_one_larger_batch(name):
    optimizer = MAKERS[name](gradient_accumulation_steps=2)
    assert_near(trained(optimizer, batch=8), trained(MAKERS[name](), batch=16))


def test_warm_up_counts_updates_under_accumulation():
    optimizer = AveragedAdamW(0.05, warmup_steps=4, gradient_accumulation_steps=2)
    assert_near(trained(optimizer, batch=8), trained(AveragedAdamW(0.05, warmup_steps=4), batch=16))


@pytest.mark.parametrize("every", [None, 4])
@pytest.mark.parametrize("name", [n for n in MAKERS if n != "averaged"])
def test_the_moving_average_of_the_weights(name, every):
    kept, count = None, 0

    def average(model):
        nonlocal kept, count
        now = model.get_weights()
        kept = now if kept is None else [0.8 * k + 0.2 * w for k, w in zip(kept, now, strict=True)]
        # Keras looks one step ahead: it overwrites before the step is counted.
        count += 1
        if every and count % every == 0:
            model.set_weights(kept)

    by_hand(MAKERS[name](), watch=average)
    ema = {"use_ema": True, "ema_momentum": 0.8, "ema_overwrite_frequency": every}
    assert_near(trained(MAKERS[name](**ema)), kept, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in MAKERS if n not in (*WHOLE, "averaged")])
def test_weight_decay_is_a_factor_before_the_step(name):
    decayed = MAKERS[name](weight_decay=0.5)
    decayed.exclude_from_weight_decay(var_names=["bias"])
    model, rate = small(), float(decayed.learning_rate)

    def shrink(gradients):
        for variable in model.trainable_variables:
            if "bias" not in variable.path:
                variable.assign(variable * (1 - 0.5 * rate))
        return gradients

    assert_near(trained(decayed), by_hand(MAKERS[name](), shrink, model=model))


def test_averaged_weight_decay_is_the_reference_codes():
    """schedulefree's adamw_schedulefree.py: the decay of y is added to the normalised gradient."""
    rng = np.random.default_rng(0)
    weights = [keras.Variable([1.0, -2.0], name="kernel"), keras.Variable([3.0], name="bias")]
    optimizer = AveragedAdamW(0.05, beta_1=0.8, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    z = y = x = START
    second, total = 0.0, 0.0
    for t in range(1, 31):
        g = bowl(y) + 0.3 * rng.standard_normal(3)
        optimizer.apply([np.float32(g[:2]), np.float32(g[2:])], weights)
        second, total = 0.999 * second + 0.001 * g**2, total + 0.05**2
        step = g / (np.sqrt(second / (1 - 0.999**t)) + 1e-8) + 0.5 * y * [1, 1, 0]
        share = 0.05**2 / total
        y = (1 - share) * y + share * z + 0.05 * (0.8 * (1 - share) - 1) * step
        z = z - 0.05 * step
        x = (1 - share) * x + share * z
        now = np.concatenate([w.numpy() for w in weights])
        np.testing.assert_allclose(now, y, rtol=1e-3, atol=1e-4)
    optimizer.to_average()
    average = np.concatenate([w.numpy() for w in weights])
    np.testing.assert_allclose(average, x, rtol=1e-3, atol=1e-4)


OWN = {"amsgrad": ("adabound", "swats"), "momentum": ("polyak", "hypergradient")}
OWN["nesterov"] = ("polyak", "hypergradient")


@pytest.mark.parametrize("argument", REFUSED)
@pytest.mark.parametrize("name", MAKERS)
def test_what_is_not_honoured_is_refused_by_name(name, argument):
    refused = argument in ALONE.get(name, ()) or name in OWN.get(argument, ())
    if refused:
        with pytest.raises(ValueError, match=f"^{argument} = .*: must be "):
            MAKERS[name](**{argument: REFUSED[argument]})
        off = MAKERS[name](**{argument: 0.0 if argument != "use_ema" else False})
        again = type(off).from_config(off.get_config())
        assert again.get_config() == off.get_config()
    elif argument not in OWN:
        optimizer = MAKERS[name](**{argument: REFUSED[argument]})
        config = optimizer.get_config()
        assert config[argument] == REFUSED[argument]
        assert type(optimizer).from_config(dict(config)).get_config() == config


# --------------------------------------------------------------- how Keras runs and is told to


@pytest.mark.parametrize(
    "settings",
    [{"jit_compile": True}, {"run_eagerly": True}, {"steps_per_execution": 3}],
    ids=lambda settings: next(iter(settings)),
)
@pytest.mark.parametrize("name", MAKERS)
def test_however_keras_runs_the_step(name, settings):
    assert_near(trained(MAKERS[name](), **settings), plain(name))


@pytest.mark.parametrize("kind", ["mixed_float16", "mixed_bfloat16", "float64"])
@pytest.mark.parametrize("name", MAKERS)
def test_other_precisions(name, kind):
    with policy(kind):  # compile looks at the global one
        if (name, kind) == ("polyak", "mixed_float16"):
            # Keras puts words of its own around the sentence.
            with pytest.raises(ValueError, match="loss = None: must be known .*mixed_bfloat16"):
                trained(MAKERS[name]())
            return
        weights = trained(MAKERS[name]())
    near = {"rtol": 1e-4, "atol": 1e-5} if kind == "float64" else {"rtol": 0.1, "atol": 0.03}
    assert_near(weights, plain(name), **near)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [n for n in MAKERS if n not in CONTROLS])
def test_variables_of_16_bits_are_refused(name, kind):
    with pytest.raises(ValueError, match=f"^variable.dtype = '{kind}': must be float32 or float64"):
        MAKERS[name]().build([keras.Variable([1.0], dtype=kind)])


def test_half_precision_skips_steps_and_goes_on():
    """Gradients that are not finite change nothing that an optimizer keeps."""
    for make in (MAKERS[name] for name in MAKERS if name != "polyak"):
        weight, optimizer = keras.Variable([1.0, 2.0]), make()
        wrapped = K.LossScaleOptimizer(optimizer, initial_scale=4.0)
        wrapped.apply([np.float32([4, 8])], [weight])
        before = [weight.numpy(), *held(optimizer)]
        wrapped.apply([np.float32([np.inf, 8])], [weight])
        assert_equal([weight.numpy(), *held(optimizer)], before)


@pytest.mark.parametrize("name", MAKERS)
def test_every_kind_of_rate(name):
    number = trained(MAKERS[name](0.05))
    assert_near(trained(MAKERS[name](lambda: 0.05)), number)
    falling = K.schedules.PolynomialDecay(0.05, 12, 0.01)
    set_before = MAKERS[name](0.5)

    class Set(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            self.model.optimizer.learning_rate = float(falling(self.model.optimizer.iterations))

    scheduled = trained(MAKERS[name](falling))
    assert_near(trained(set_before, fit={"callbacks": [Set()]}), scheduled)
    assert moved(scheduled, number)


# ----------------------------------------------------------------------------- odd gradients


def embedded():
    model = keras.Sequential(
        [keras.Input((3,), dtype="int32"), L.Embedding(5, 2), L.Flatten(), L.Dense(1)]
    )
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) * 0.5 for w in model.get_weights()])
    return model


@pytest.mark.parametrize(
    "settings", [{}, {"loss_scale_factor": 8.0}, {"global_clipnorm": 0.05}], ids=str
)
@pytest.mark.parametrize("name", [n for n in MAKERS if n != "adam"])
def test_embeddings_train_as_with_whole_gradients(name, settings):
    """Not Keras's Adam: it squares each slice of an index that comes twice."""
    if "global_clipnorm" in settings and name in ("polyak", "hypergradient"):
        pytest.skip("refused, or tested above")
    if name == "sgd" and settings:
        pytest.skip("Keras's SGD cannot unscale slices, and clips them before they are summed")
    symbols = np.random.default_rng(0).integers(0, 4, (32, 3))  # the last one never comes
    mine = trained(MAKERS[name](**settings), model=embedded(), x=symbols)
    change = all_norm if "global_clipnorm" in settings else lambda gradients: gradients
    assert_near(mine, by_hand(MAKERS[name](), change, model=embedded(), x=symbols))


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_some_variables_some_of_the_time(name):
    """A missing gradient is as if the variable was not there; so is a subset."""

    def final(steps):
        weights, optimizer = [keras.Variable([1.0, -2.0]), keras.Variable([3.0])], MAKERS[name]()
        optimizer.build(weights)
        for step in steps:
            optimizer.scale_loss(tf.constant(0.5))
            optimizer.apply(*step(weights))
        return [w.numpy() for w in weights]

    g, h = np.float32([0.4, 0.1]), np.float32([0.2])
    both, none = lambda w: ([g, h], w), lambda w: ([g, None], w)
    subset, unnamed = lambda w: ([g], w[:1]), lambda w: ([g, h],)
    assert_equal(final([both, none, both]), final([both, subset, unnamed]))
    assert_equal(final([none])[1:], [np.float32([3.0])])
    optimizer = MAKERS[name]()
    optimizer.scale_loss(tf.constant(0.5))
    optimizer.apply([], [])  # nothing to do, in Keras too


@pytest.mark.parametrize("name", MAKERS)
def test_a_layer_that_is_frozen_later_stays(name):
    model, optimizer = small(), MAKERS[name]()
    trained(optimizer, model=model)
    frozen = model.layers[0].get_weights()
    model.layers[0].trainable = False
    trained(optimizer, model=model)
    assert_equal(model.layers[0].get_weights(), frozen)


@pytest.mark.parametrize("name", MAKERS)
def test_constraints_hold_or_are_refused(name):
    model = keras.Sequential([keras.Input((3,)), L.Dense(1, kernel_constraint="non_neg")])
    if name == "averaged":
        with pytest.raises(ValueError, match="^constraint = 'NonNeg of .*kernel': must be None"):
            trained(MAKERS[name](), model=model)
    else:
        assert (trained(MAKERS[name](), model=model)[0] >= 0).all()
