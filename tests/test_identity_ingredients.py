"""Every ingredient of a run changes its identity; nothing else does, and none could be left out."""

import contextlib
import functools
import itertools
import sys

from anneal_utils import identity, problems, training

import keras
import numpy as np
import pytest
import tensorflow as tf
from small import forget, policy
from small_identity import IMAGES, TARGETS, Maker, elsewhere, model, scaled, sgd, trial

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.usefixtures("leave_nothing")
L = keras.layers
SGD = keras.optimizers.SGD
digest = identity.digest


class Constant(L.Layer):
    """Multiplies by the mean of a constant matrix."""

    def __init__(self, matrix, **kwargs):
        super().__init__(**kwargs)
        self.matrix = matrix

    def call(self, x):
        return x * tf.cast(keras.ops.mean(self.matrix), x.dtype)


MATRIX = np.random.default_rng(0).normal(size=(200, 200)).astype("float32")
NEXT = MATRIX.copy()
NEXT[-1, -1] = np.nextafter(MATRIX[-1, -1], np.float32(9))
OUTSIDE = tf.Variable(1.0)


def constant(matrix):
    return model(more=[lambda: Constant(matrix)])


def identity_of(problem, runs, mode, within=None) -> str:
    """The one run's identity, read while ``within`` is in force."""
    with within() if within else contextlib.nullcontext():
        return training.identities(problem, runs, mode=mode)[0]


@contextlib.contextmanager
def outside(value):
    OUTSIDE.assign(value)
    yield
    OUTSIDE.assign(1.0)


@contextlib.contextmanager
def setting(**changes):
    known = identity.environment
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "environment", lambda: {**known(), **changes})
        yield


def by_variable(y, answer):
    return OUTSIDE * keras.losses.mean_squared_error(y, answer)


def smooth(smoothing):
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)


def moved(array, *place):
    """A copy with one entry changed in the last place."""
    copy = array.copy()
    copy[place] = np.nextafter(copy[place], np.float32(9))
    return copy


def adam(**knobs):
    return lambda rate: keras.optimizers.AdamW(rate, **knobs)


def adagrad(start):
    return lambda rate: keras.optimizers.Adagrad(rate, initial_accumulator_value=start)


X, Y, X_VAL, Y_VAL = IMAGES[:32], TARGETS[:32], IMAGES[32:], TARGETS[32:]
PLAIN = functools.partial(problems.models.mlp, 64, (4,), 3)
# Each is another computation than all others, by one ingredient from at least one of them.
TRIALS = {
    "as it is": lambda: trial(),
    # The data.
    "one pixel": lambda: trial(x_train=moved(X, 3, 5)),
    "one label": lambda: trial(y_train=moved(Y, 3, 1)),
    "one held-out pixel": lambda: trial(x_val=moved(X_VAL, 3, 5)),
    "one held-out label": lambda: trial(y_val=moved(Y_VAL, 3, 1)),
    "other samples": lambda: trial(x_train=X[:24].copy(), y_train=Y[:24].copy()),
    # The program: the model.
    "activation": lambda: trial(model(activation="tanh")),
    "regularizer": lambda: trial(model(factor=0.02)),
    "dropout": lambda: trial(model(more=[lambda: L.Dropout(0.1)])),
    "more dropout": lambda: trial(model(more=[lambda: L.Dropout(0.2)])),
    "matrix": lambda: trial(constant(MATRIX)),
    "last place of a matrix": lambda: trial(constant(NEXT)),
    "tensor": lambda: trial(constant(tf.constant(MATRIX))),
    "last place of a tensor": lambda: trial(constant(tf.constant(NEXT))),
    "half precision": lambda: trial(wrap=lambda: policy("mixed_bfloat16")),
    # The loss.
    "huber": lambda: trial(loss=keras.losses.Huber(0.01)),
    "closure": lambda: trial(loss=scaled(1.0)),
    "constant in a closure": lambda: trial(loss=scaled(1.0000001)),
    "variable": lambda: trial(loss=by_variable),
    "value of a variable": lambda: trial(loss=by_variable, wrap=lambda: outside(2.0)),
    "smoothing": lambda: trial(loss=smooth(0.1)),
    "more smoothing": lambda: trial(loss=smooth(0.2)),
    "metric": lambda: trial(metrics=("accuracy",)),
    # The optimizer.
    "momentum": lambda: trial(optimizer=sgd(momentum=0.9)),
    "clipnorm": lambda: trial(optimizer=sgd(clipnorm=0.1)),
    "adamw": lambda: trial(optimizer=adam()),
    "beta": lambda: trial(optimizer=adam(beta_1=0.8)),
    "weight decay": lambda: trial(optimizer=adam(weight_decay=0.1)),
    # Sizes and mode.
    "epochs": lambda: trial(epochs=3),
    "horizon": lambda: trial(grid={"epochs": 4}),
    "batch size": lambda: trial(batch_size=16),
    "replacement": lambda: trial(sampling="replacement", steps=4),
    "once": lambda: trial(sampling="once", steps=1),
    "repeat": lambda: trial(sampling="repeat"),
    "graph": lambda: trial(model(stddev=0.0), mode="graph"),
    # The start.
    "seed": lambda: trial(grid={"seeds": [4]}),
    "scale of an initializer": lambda: trial(model(stddev=0.2)),
    "class of an initializer": lambda: trial(model(start="he_normal")),
    "no start": lambda: trial(model(stddev=0.0)),
    "no start, other batches": lambda: trial(model(stddev=0.0), grid={"seeds": [4]}),
    "slots": lambda: trial(optimizer=adagrad(0.1)),
    "other slots": lambda: trial(optimizer=adagrad(0.2)),
    # The rates: of a model that need not be traced again for each.
    "plain": lambda: trial(PLAIN),
    "rate": lambda: trial(PLAIN, recipe=0.2),
    "shape": lambda: trial(PLAIN, recipe="linear"),
    "peak": lambda: trial(PLAIN, recipe="linear", grid={"peaks": [0.2]}),
    "warmup": lambda: trial(PLAIN, recipe="linear", grid={"warmup": 0.25}),
    "knob": lambda: trial(PLAIN, recipe=("step", {"drops": 2})),
    "other knob": lambda: trial(PLAIN, recipe=("step", {"drops": 3})),
    "function": lambda: trial(PLAIN, recipe=lambda epoch: 0.1 / (2 + epoch)),
    "plateau": lambda: trial(PLAIN, recipe=training.Plateau()),
    "factor": lambda: trial(PLAIN, recipe=training.Plateau(factor=0.2)),
    "patience": lambda: trial(PLAIN, recipe=training.Plateau(patience=9)),
    "min_delta": lambda: trial(PLAIN, recipe=training.Plateau(min_delta=1e-3)),
    "cooldown": lambda: trial(PLAIN, recipe=training.Plateau(cooldown=1)),
    "min_rate": lambda: trial(PLAIN, recipe=training.Plateau(min_rate=1e-3)),
    # Where it is computed.
    "version": lambda: trial(PLAIN, wrap=lambda: setting(tensorflow="0.0")),
    "flags": lambda: trial(PLAIN, wrap=lambda: setting(XLA_FLAGS="--a_flag=true")),
}


@pytest.fixture(scope="module")
def recorded():
    """The identity of every trial, and all digests that were made on the way: (caller, call)."""
    calls = []

    def noted(*values):
        caller = sys._getframe(1)
        calls.append(((caller.f_code.co_name, caller.f_lineno), values, digest(*values)))
        return calls[-1][-1]

    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "digest", noted)
        found = {name: identity_of(*make()) for name, make in TRIALS.items()}
    forget()
    return found, calls


def test_every_ingredient_changes_the_identity(recorded):
    found, _ = recorded
    same = [names for names in pairs(found) if found[names[0]] == found[names[1]]]
    assert same == [] and None not in found.values()


def pairs(names):
    return list(itertools.combinations(names, 2))


def replayed(found, calls, forgetful) -> list[str]:
    """The identities, had ``forgetful(caller, values)`` been used in the place of ``digest``."""
    renamed = {}

    def now(value):
        return renamed.get(value, value) if isinstance(value, str) else value

    for caller, parts, result in calls:
        renamed[result] = forgetful(caller, tuple(map(now, parts)))
    return [now(name) for name in found.values()]


def test_no_ingredient_of_an_identity_could_be_left_out(recorded):
    """Whatever a digest on the way to an identity is given, some trial depends on that alone."""
    found, calls = recorded
    assert replayed(found, calls, lambda caller, values: digest(*values)) == list(found.values())
    assert len(set(replayed(found, calls, lambda caller, values: "nothing"))) == 1
    # The calls whose results reach an identity, and what else they were given.
    needed, places = set(found.values()), set()
    for caller, parts, result in reversed(calls):
        if result in needed:
            needed |= {part for part in parts if isinstance(part, str)}
            places |= {(caller, place) for place in range(len(parts))}
    spare = set()
    for caller, place in places:

        def without(where, values, caller=caller, place=place):
            kept = values if where != caller else (*values[:place], *values[place + 1 :])
            return digest(*kept)

        if len(set(replayed(found, calls, without))) == len(found):
            spare |= {parts[place] for where, parts, _ in calls if where == caller}
    assert len(places) > 12
    assert spare <= {"graph", "xla"}  # which the loops of a program tell as well


@pytest.mark.parametrize(
    "make",
    [
        lambda: trial(name="another", chance_loss=7.0, grid={"epochs": 2, "warmup": 0}),
        lambda: trial(model(name="another"), loss=keras.losses.Huber(1.0, name="another")),
        lambda: trial(functools.partial(model().__call__), mode="xla"),
        lambda: trial(x_train=np.asfortranarray(X), x_val=np.repeat(X_VAL, 2, axis=0)[::2]),
        lambda: trial(loss=lambda y, answer: keras.losses.huber(y, answer)),
        lambda: trial(recipe=lambda epoch: 0.1),
        lambda: trial(recipe=keras.optimizers.schedules.PolynomialDecay(0.1, 9, 0.1)),
        lambda: trial(optimizer=SGD),
        lambda: trial(optimizer={"label": sgd()}),
        lambda: trial(optimizer=elsewhere),
        lambda: trial(optimizer=Maker()),
        lambda: trial(optimizer=functools.partial(SGD, name="another")),
    ],
)
def test_what_is_not_computed_does_not_change_the_identity(recorded, make):
    assert identity_of(*make()) == recorded[0]["as it is"]
