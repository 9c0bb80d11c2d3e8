"""What can not be hashed, repeated or read trains all the same; the last has no identity."""

import dataclasses

from anneal_utils import problems, training

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from small_identity import losses, one, plain, trial

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.usefixtures("leave_nothing")
L = keras.layers
SGD = keras.optimizers.SGD


@dataclasses.dataclass
class DecaySchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Not hashable, as dataclasses are."""

    start: float = 0.1

    def __call__(self, step):
        return self.start / (1 + tf.cast(step, tf.float32))

    def get_config(self):
        return dataclasses.asdict(self)


@dataclasses.dataclass
class DecayFunction:
    """Not hashable, and a function of the epoch."""

    start: float = 0.1

    def __call__(self, epoch):
        return self.start / (1 + epoch)


@dataclasses.dataclass
class DecayMaker:
    """Not hashable, and a function of the rate."""

    momentum: float = 0.9

    def __call__(self, rate):
        return SGD(rate, momentum=self.momentum)


def test_what_is_not_hashable_trains():
    recipes = {"schedule": DecaySchedule(), "function": DecayFunction()}
    problem, *_ = trial(plain())
    runs = training.grid(recipes, seeds=[1, 2], optimizer=DecayMaker())
    frame = training.train(problem, runs, mode="graph")
    rates = frame.pivot_table("rate", "epoch", "schedule")
    np.testing.assert_allclose(rates.function, [0.1, 0.1 / 2], rtol=1e-6)
    np.testing.assert_allclose(rates.schedule, [0.1 / 4, 0.1 / 8], rtol=1e-6)
    assert frame.run.nunique() == 4
    assert list(frame.run[::2]) == training.identities(problem, runs, mode="graph")
    recipes["schedule"].start = 0.2
    later = training.identities(problem, runs, mode="graph")
    same = [name == before for name, before in zip(later, frame.run[::2], strict=True)]
    assert same == [False, False, True, True]


def test_a_random_function_of_the_epoch_draws_for_each_run():
    rng = np.random.default_rng(1)
    problem, *_ = trial(plain())
    runs = training.grid({"random": lambda epoch: rng.uniform(0.01, 0.1)}, seeds=range(3))
    frame = training.train(problem, runs, mode="graph")
    assert frame.rate.nunique() == len(frame) == 6
    assert frame.run.nunique() == 3
    first, second = (training.identities(problem, runs, mode="graph") for _ in range(2))
    assert len({*first, *second, *frame.run}) == 9
    # The same draws are the same runs.
    rng.bit_generator.state = np.random.default_rng(1).bit_generator.state
    assert training.identities(problem, runs, mode="graph") == list(frame.run[::2])


def python(function):
    """A loss that calls Python; what Python gives has no gradient here."""

    def loss(y, answer):
        given = function(tf.stop_gradient(answer))
        given.set_shape(answer.shape)
        return keras.losses.mean_squared_error(y, answer + given)

    return loss


class Lookup(L.Layer):
    """Multiplies by what a table says of the first number."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        content = tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1]), tf.constant([1.0, 2.0]))
        self.table = tf.lookup.StaticHashTable(content, 1.0)

    def call(self, x):
        return x * self.table.lookup(tf.cast(x[:, :1] > 0.5, tf.int32))


def unreadable(folder):
    path = folder / "factor.txt"
    path.write_text("2.0")

    def scaled_by_file(y, answer):
        factor = tf.strings.to_number(tf.io.read_file(str(path)))
        return factor * keras.losses.mean_squared_error(y, answer)

    def table():
        return keras.Sequential([keras.Input((64,)), Lookup(), L.Dense(3)])

    def half(x):
        return np.float32(0.5) * x

    return {
        "EagerPyFunc": dict(loss=python(lambda x: tf.py_function(lambda x: x / 2, [x], x.dtype))),
        "PyFunc": dict(loss=python(lambda x: tf.numpy_function(half, [x], x.dtype))),
        "PyFuncStateless": dict(
            loss=python(lambda x: tf.numpy_function(half, [x], x.dtype, stateful=False))
        ),
        "ReadFile": dict(loss=scaled_by_file),
        "LookupTableFindV2": dict(build=table),
    }


@pytest.mark.parametrize(
    "operation", ["EagerPyFunc", "PyFunc", "PyFuncStateless", "ReadFile", "LookupTableFindV2"]
)
def test_what_can_not_be_read_trains_and_has_no_identity(operation, tmp_path):
    problem, *_ = trial(**{"build": plain(), **unreadable(tmp_path)[operation]})
    runs = one(seeds=(1, 2))
    first, second = (training.train(problem, runs, mode=mode) for mode in ("auto", "graph"))
    assert training.identities(problem, runs, mode="graph") == [None, None]
    assert len({*first.run, *second.run}) == 4
    np.testing.assert_array_equal(losses(first), losses(second))


def test_a_run_that_can_not_be_read_is_another_each_time(tmp_path):
    problem, *_ = trial(**{"build": plain(), **unreadable(tmp_path)["PyFuncStateless"]})
    names = {training.train(problem, one()).run[0] for _ in range(2)}
    assert len(names) == 2
    assert training.identities(problem, one()) == [None]


def test_gradients_through_python_do_not_mix_with_those_of_other_threads():
    """What Python recorded is kept under the operation's name, the same for all threads."""

    def loss(true, predicted):
        cross = keras.losses.categorical_crossentropy(true, predicted)
        return tf.ensure_shape(tf.py_function(lambda x: x * 1.0, [cross], tf.float32), [None])

    article = dataclasses.replace(problems.load("article", test=0), loss=loss)
    runs = training.grid("constant", [0.1, 0.3], seeds=range(12), epochs=1)
    given = dict(mode="graph", store=False, progress=False)
    alone, together = (
        training.train(article, runs, threads=threads, **given).drop(columns="run")
        for threads in (1, 8)
    )
    pd.testing.assert_frame_equal(together, alone, check_exact=True)
