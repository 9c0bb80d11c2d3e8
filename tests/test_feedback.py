"""Plateau, a rule that lowers the rate: in the trainer as the callback of Keras does."""

import functools
import math

from anneal_utils import problems, training
from anneal_utils.training.feedback import plateau_step, plateau_vector

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from small import assert_as_fit, assert_refused, assert_same_rows, tiny
from small_fits import plateau
from small_state import short, subclass

# Of the package's own, so that the program of one test serves the next.
DENSE = functools.partial(problems.models.mlp, 64, (8,), 3)
MOMENTUM = functools.partial(keras.optimizers.SGD, momentum=0.9)
PLATEAUS = {
    "lowers": training.Plateau(factor=0.5, patience=1, min_delta=0.05),
    "cools_down": training.Plateau(factor=0.3, patience=1, min_delta=1.0, cooldown=2),
    "stops_at_min_rate": training.Plateau(factor=0.1, patience=1, min_delta=1.0, min_rate=0.02),
    "waits": training.Plateau(factor=0.5, patience=3, min_delta=0.02),
}


@pytest.mark.parametrize("mode", ["graph", "xla"])
@pytest.mark.parametrize("rules", PLATEAUS)
def test_plateau_lowers_the_rate_where_the_keras_callback_does(rules, mode):
    problem = tiny(DENSE, epochs=8)
    recipes = {"plateau": PLATEAUS[rules], "cosine": "cosine"}
    runs = training.grid(recipes, [0.3], [3, 8], MOMENTUM)
    frame = training.train(problem, runs, mode=mode)
    alone = training.train(problem, runs[2:], mode=mode)
    # Its neighbours are not touched by its feedback.
    assert_same_rows(frame[frame.schedule == "cosine"], alone)
    mine = frame[(frame.schedule == "plateau") & (frame.seed == 8)]
    twin = training.fit_one(problem, runs[1])[1]
    assert mine.rate.nunique() > 1, "the rule never acted: the test would compare nothing"
    if mode == "graph":
        assert_same_rows(mine, twin)
    else:
        np.testing.assert_array_equal(mine.rate, twin.rate)


REFUSED = {
    "factor = 1.0: must be < 1": lambda: training.Plateau(factor=1.0),
    "factor = 0.0: must be": lambda: training.Plateau(factor=0.0),
    "patience = 0: must be": lambda: training.Plateau(patience=0),
    "min_delta = -1: must be": lambda: training.Plateau(min_delta=-1),
    "cooldown = 0.5: must be": lambda: training.Plateau(cooldown=0.5),
}


@pytest.mark.parametrize("start", REFUSED)
def test_plateau_refuses_what_makes_no_sense(start):
    assert_refused(REFUSED[start], start)


class Scripted(keras.Model):
    """Its held-out loss does not change."""

    loss_of_all = math.inf

    def test_step(self, data):
        x, _ = data
        return {"loss": self.loss_of_all + 0 * tf.reduce_sum(self(x)), "more": 1.0}


@pytest.mark.parametrize("loss", [math.inf, math.nan])
def test_a_plateau_lowers_from_the_second_loss_that_is_not_better(loss):
    kind = type("Scripted", (Scripted,), {"loss_of_all": loss})
    problem = short(subclass(kind), metrics=(), epochs=5)
    rules = training.Plateau(factor=0.5, patience=1)
    run = training.grid({"plateau": rules}, [1.0])[0]
    frame = training.train(problem, [run], mode="graph")
    assert_as_fit(problem, run, frame)
    assert frame.rate.tolist() == [1, 1, 0.5, 0.25, 0.125]


losses = st.lists(
    st.sampled_from([math.inf, math.nan, -math.inf, 0.0])
    | st.integers(-4, 12).map(lambda k: k / 4)
    | st.floats(width=32),
    min_size=1,
    max_size=12,
)
rules = st.builds(
    training.Plateau,
    factor=st.sampled_from([0.1, 0.5, 0.9]),
    patience=st.integers(1, 3),
    min_delta=st.sampled_from([0.0, 1e-4, 0.25, 1.0]),
    cooldown=st.integers(0, 2),
    min_rate=st.sampled_from([0.0, 1e-3, 0.1, 0.3]),
)


@settings(max_examples=60, deadline=None)
@given(rules, losses, st.sampled_from([1.0, 0.3, 0.1]))
def test_a_plateau_is_the_callback_of_keras_for_all_losses(rules, losses, rate):
    theirs = plateau(rules.callback(), rate, losses=losses)
    ours, now = [], tf.constant(rate)
    state = (tf.constant(np.inf, tf.float64), tf.constant(0), tf.constant(0))
    for epoch, loss in enumerate(losses):
        vector, first = tf.constant(plateau_vector(rules)), tf.constant(epoch == 0)
        lower, new, state = plateau_step(vector, state, first, now, tf.constant(loss, tf.float32))
        now = tf.where(lower, new, now)
        ours.append(float(now))
    assert ours == theirs
