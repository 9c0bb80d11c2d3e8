"""What two problems, optimizers or callers share, and one of them changes."""

import dataclasses
import math

from anneal_utils import problems, training

import keras
import numpy as np
from small import IMAGES, LABELS, assert_as_fit, assert_same_rows, tiny
from small_state import dense, short

L = keras.layers


def test_a_problem_is_not_changed_through_what_its_arrays_are_views_of():
    images, labels = IMAGES.copy(), LABELS.copy()
    problem = problems.Problem(
        *("mine", dense, images[:80], labels[:80], images[80:], labels[80:]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=16,
        epochs=3,
        chance_loss=math.log(3),
    )
    images[:], labels[:] = 0, 0
    np.testing.assert_array_equal(problem.x_train, IMAGES[:80])
    np.testing.assert_array_equal(problem.y_val, LABELS[80:])
    for array in (problem.x_train, problem.y_train, problem.x_val, problem.y_val):
        assert array.base is None and not array.flags.writeable
    owned = IMAGES.copy()
    assert tiny(dense).x_train.base is None and images.flags.writeable
    kept = problems.Problem(
        *("mine", dense, owned, LABELS.copy(), owned, LABELS.copy()),
        loss="mse",
        batch_size=16,
        epochs=3,
        chance_loss=1.0,
    )
    assert kept.x_train is not owned and owned.flags.writeable, "the caller's stays the caller's"
    again = dataclasses.replace(kept, epochs=4)
    assert again.x_train is kept.x_train, "an array that a problem has made is not copied again"


def scaled(scale, *layers):
    """A problem whose initial weights have a spread that is read when the model is built."""

    def build():
        spread = keras.initializers.RandomNormal(stddev=scale[0])
        first = L.Dense(4, kernel_initializer=spread)
        return keras.Sequential([keras.Input((64,)), first, L.Dropout(0.1), L.Dense(3)])

    return short(build)


def test_starts_that_were_the_same_are_not_shared_once_one_changes():
    mine, theirs = [1.0], [1.0]
    first, second = scaled(mine), scaled(theirs)
    training.train(first, training.grid({"c": 0.1}, seeds=[1]), mode="graph")
    mine[0] = 5.0
    [run] = training.grid({"c": 0.1}, seeds=[7])
    assert_as_fit(second, run, training.train(second, [run], mode="graph"))


class Offset(keras.optimizers.SGD):
    """Its slots begin with random numbers of a given spread, which it adds to every gradient."""

    def __init__(self, rate, spread):
        super().__init__(rate)
        self.spread = spread

    def build(self, variables):
        super().build(variables)
        self.offsets = [self.add_variable(v.shape, "zeros", name="offset") for v in variables]
        for offset in self.offsets:
            offset.assign(np.random.normal(scale=self.spread, size=offset.shape))

    def update_step(self, gradient, variable, learning_rate):
        offset = self.offsets[self._get_variable_index(variable)]
        super().update_step(gradient + offset, variable, learning_rate)


def test_slots_that_were_the_same_are_not_shared_once_one_changes():
    mine, theirs, problem = [1.0], [1.0], short(dense)
    grids = [
        training.grid({"c": 0.1}, seeds=[1, 7], optimizer=lambda rate, s=s: Offset(rate, s[0]))
        for s in (mine, theirs)
    ]
    training.train(problem, grids[0][:1], mode="graph")
    mine[0] = 5.0
    run = grids[1][1]
    assert_as_fit(problem, run, training.train(problem, [run], mode="graph"))


def test_an_installed_problem_does_not_start_as_a_users_that_was_the_same():
    point, installed = [(1.0,)], problems.load("quadratic", epochs=2)
    theirs = dataclasses.replace(installed, build=lambda: problems.models.point(point[0]))
    [run, other] = training.grid({"c": 0.1}, seeds=[1, 7])
    for problem in (installed, theirs):  # theirs is the last to use the program of both
        training.train(problem, [run], mode="graph")
    point[0] = (3.0,)
    assert_as_fit(installed, other, training.train(installed, [other], mode="graph"))


def test_fit_names_a_random_function_of_the_epoch_by_the_rates_that_it_gave():
    drawn = []

    def wandering(epoch):
        drawn.append(float(np.random.uniform(0.01, 0.1)))
        return drawn[-1]

    problem, [run] = short(dense), training.grid({"wandering": wandering})
    _, fitted = training.fit_one(problem, run)
    given = list(drawn)
    [again] = training.grid({"wandering": lambda epoch: given[epoch]})
    assert_same_rows(training.train(problem, [again], mode="graph"), fitted)
