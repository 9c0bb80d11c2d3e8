"""What the tests of a run's own state share: short problems, six runs, one of them compared."""

import functools

from anneal_utils import training

import keras
import tensorflow as tf
from small import assert_as_fit, assert_equal, assert_same_rows, tiny

L = keras.layers
SGD = keras.optimizers.SGD


class Counter(L.Layer):
    """Keeps a raw variable, of which Keras knows nothing: the batches that it has seen."""

    def __init__(self, start=lambda: 0.0):
        super().__init__()
        self.count = tf.Variable(start(), dtype="float32", trainable=False)

    def call(self, inputs, training=False):
        if training:
            self.count.assign_add(1.0)
        return inputs * (1 + tf.sin(self.count))


class Turning(SGD):
    """Keeps a raw variable: its steps get smaller as that grows. Adds noise to every gradient."""

    def __init__(self, *arguments, **settings):
        super().__init__(*arguments, **settings)
        self.turns = tf.Variable(1.0, trainable=False)

    def build(self, variables):
        super().build(variables)
        self.seeds = keras.random.SeedGenerator()

    def update_step(self, gradient, variable, learning_rate):
        self.turns.assign_add(0.5)
        noise = keras.random.normal(gradient.shape, seed=self.seeds)
        super().update_step((gradient + noise) / self.turns, variable, learning_rate)


def short(build, **given):
    """Two epochs of two steps."""
    return tiny(build, **{"batch_size": 40, "epochs": 2, **given})


def around(*layers):
    """A model of these layers, each made anew, between two dense ones."""
    return lambda: keras.Sequential(
        [keras.Input((64,)), L.Dense(4), *[make() for make in layers], L.Dense(3)]
    )


def dense():
    return keras.Sequential([keras.Input((64,)), L.Dense(3)])


def subclass(kind):
    def build():
        inputs = keras.Input((64,))
        return kind(inputs, L.Dense(3)(inputs))

    return build


def falling(rate):
    return lambda epoch: rate / (1 + epoch)


def line(rate):
    return keras.optimizers.schedules.PolynomialDecay(rate, 8, 0.0)


def six_runs(optimizer, recipe=falling):
    """Two seeds and three peaks; the second run is neither the first nor the last trained."""
    peaks, seeds = (0.02, 0.05, 0.1), (3, 1)
    if isinstance(recipe, training.Plateau):
        runs = training.grid({"mine": recipe}, peaks, seeds, optimizer)
    else:
        runs = training.grid({str(p): recipe(p) for p in peaks}, (), seeds, optimizer)
    return [runs[k] for k in (0, 2, 3, 4, 5, 1)]


def rows_of(frame, index):
    size = len(frame) // 6
    return frame.iloc[index * size : (index + 1) * size]


def assert_a_run_is_its_own(problem, runs, mode, threads=(2,)):
    """The second of six runs, alone and among them; in graph mode, as ``fit`` too."""
    train = functools.partial(training.train, problem, mode=mode, return_weights=True)
    [weights], alone = train(runs[1:2])
    for count in threads:  # in a program that was used before
        among, frame = train(runs, threads=count)
        assert_same_rows(rows_of(frame, 1), alone)
        assert_equal(among[1], weights)
    assert frame.train_loss.nunique() > 6, "the runs do not differ: the test would compare nothing"
    if mode == "graph":
        assert_as_fit(problem, runs[1], alone, weights)
    return alone
