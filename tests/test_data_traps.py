"""Data and metrics that once gave another problem's numbers, or stopped where fit goes on."""

import copy
import pickle
import re
from dataclasses import replace

from anneal_utils import problems, training
from anneal_utils.benchmark import first as benchmark

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.model_selection import KFold
from test_data import CLASS, NUMBER, A, L, M, N, T, plain, problem, same, sparse, two_heads

GRID = training.grid({"c": 0.1}, seeds=[1])
YES = (NUMBER > 0).astype("float32")


def mse(name):
    return keras.metrics.MeanSquaredError(name=name)


# ---------------------------------------------------------------- programs that are nearly equal


def test_parts_of_other_sizes_are_other_programs():
    """With splits the data are the same rows, however they are divided."""
    digits = problems.load("digits")
    x, y = (
        np.concatenate(p) for p in ((digits.x_train, digits.x_val), (digits.y_train, digits.y_val))
    )
    given = dict(splits=2, sampling="replacement", steps=5, epochs=1)
    for held_out in (300, 200):
        mine = replace(
            digits,
            **dict(x_train=x[:-held_out], y_train=y[:-held_out]),
            **dict(x_val=x[-held_out:], y_val=y[-held_out:]),
            **given,
        )
        same(training.train(mine, GRID, mode="graph"), training.fit_one(mine, GRID[0])[1])


@pytest.mark.parametrize(
    "first, second",
    [
        ([mse("a")], [mse("b")]),
        ([mse("a"), keras.metrics.MeanAbsoluteError(name="b")], ["mae", mse("a")]),
    ],
)
def test_metrics_keep_their_own_names(first, second):
    for metrics in (first, second):
        mine = problem(plain(), A, NUMBER, metrics=metrics)
        same(training.train(mine, GRID, mode="graph"), training.fit_one(mine, GRID[0])[1])


def test_a_metrics_name_may_hold_any_word(tmp_path):
    mine = problem(plain(), A, NUMBER, metrics=[mse("strain_energy")])
    given = dict(schedules="linear", peaks=[0.01, 0.02, 0.04], tuning_seeds=1, seeds=2)
    first, second = (
        benchmark.run(problems=mine, **given, extensions=0, cache=tmp_path) for _ in range(2)
    )
    assert second.provenance["runs"]["computed"] == 0
    pd.testing.assert_frame_equal(first.report, second.report, check_exact=True)


# ------------------------------------------------------------------------------ what fit can do


class TwoAnswers(keras.metrics.Metric):
    def __init__(self, name="two", **kwargs):
        super().__init__(name=name, **kwargs)
        self.total = self.add_variable((), "zeros", name="total")

    def update_state(self, y, prediction, sample_weight=None):
        self.total.assign(keras.ops.mean(prediction))

    def result(self):
        return {"once": self.total, "twice": 2 * self.total}


class ItsOwnWay(keras.Model):
    """Reports what no metric knows."""

    def __init__(self):
        super().__init__()
        self.dense = L.Dense(1)
        self.build((None, 3))

    def build(self, shape):
        self.dense.build(shape)
        self.built = True

    def call(self, x):
        return self.dense(x)

    def step(self, data, training):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x, training=training) - y) ** 2)
        if training:
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss, "root": tf.sqrt(loss)}

    def train_step(self, data):
        return self.step(data, True)

    def test_step(self, data):
        return self.step(data, False)


def stateful():
    given = keras.Input((3, 1), batch_size=4)
    return keras.Model(given, L.Dense(1)(L.SimpleRNN(2, stateful=True)(given)))


WAYS = {
    "two answers of a metric": lambda: problem(plain(), A, NUMBER, metrics=[TwoAnswers()]),
    "a step of its own": lambda: problem(ItsOwnWay, A, NUMBER),
    "a fixed batch": lambda: problem(
        stateful, A[..., None], NUMBER, batch_size=4, evaluation_batch_size=4
    ),
    "weights by output, and splits": lambda: problem(
        two_heads,
        A,
        {"number": NUMBER, "sort": CLASS},
        {"number": "mse", "sort": sparse},
        weights={"number": np.ones(N + M + T), "sort": np.linspace(0, 1, N + M + T)},
        splits=2,
    ),
    "a column of weights for train alone": lambda: replace(
        problem(plain(), A, NUMBER, splits=2), sample_weight_train=np.linspace(0, 1, N)[:, None]
    ),
    "whole floats": lambda: problem(
        *(plain(), A, NUMBER), batch_size=4.0, epochs=2.0, evaluation_batch_size=4.0
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_what_fit_can_do(way):
    mine = WAYS[way]()
    frame = training.train(mine, GRID, mode="graph")
    same(frame, training.fit_one(mine, GRID[0])[1])
    numbers = [c for c in frame if c.startswith(("train_", "val_")) and c != "val_accuracy"]
    assert len(numbers) >= 2 and frame[numbers].notna().all(axis=None)


def test_texts_of_any_alphabet_come_out_of_a_dataset():
    texts = tf.data.Dataset.from_tensor_slices((["né", "日本"], [[0.0], [1.0]])).batch(2)
    mine = problems.Problem.from_dataset("m", plain(), texts, texts, loss="mse", epochs=1)
    assert mine.x_train.tolist() == ["né", "日本"]


# ------------------------------------------------------------------------- what replace hands on


def test_a_problem_made_from_another_finds_its_own_chance_and_direction():
    mine = problem(plain(), A, YES, "binary_crossentropy", metrics=["accuracy"])
    assert mine.chance_loss == pytest.approx(
        problem(plain(), A, YES, "binary_crossentropy").chance_loss
    )
    squared = replace(mine, loss="mse")
    assert squared.chance_loss == pytest.approx(np.var(YES[N : N + M]), rel=1e-5)
    assert replace(replace(mine, chance_loss=3.0), epochs=2).chance_loss == 3.0
    with pytest.raises(ValueError, match="^direction = None: .*which way is val_accuracy better"):
        replace(mine, target="val_accuracy")
    best = replace(mine, target="val_accuracy", direction="max")
    with pytest.raises(ValueError, match="^direction = 'max': must be \"min\" or None"):
        replace(best, target="val_loss")
    assert best.chance == -problems.chance.untrained(best)["accuracy"]


def evaluated(mine, output):
    """The held-out loss of a model that gives the same output to everything."""
    given = keras.Input(mine.x_val.shape[1:])
    constant = L.Lambda(lambda x: 0 * x[:, :1] + output)(given)
    model = keras.Model(given, constant)
    model.compile(loss=mine.loss, loss_weights=mine.loss_weights)
    x, y, *weight = mine.part("val")
    return model.evaluate(x, y, sample_weight=weight[0] if weight else None, verbose=0)


@pytest.mark.parametrize("loss", ["mse", "mae", "binary_crossentropy"])
def test_a_weighted_constant_is_judged_as_fit_judges_it(loss):
    """Targets without a last axis: each sample has its weight."""
    weights = np.random.default_rng(0).uniform(0.1, 4, size=N + M + T)
    mine = problem(plain(), A, YES[:, 0], loss, weights=weights)
    others = [evaluated(mine, c) for c in np.linspace(0.02, 0.98, 49)]
    assert mine.chance_loss == pytest.approx(min(others), rel=0.02)
    assert mine.chance_loss <= min(others) + 1e-6


SETTINGS = {
    "loss weights": dict(loss="mse", loss_weights=[3.0]),
    "label smoothing": dict(loss=keras.losses.BinaryCrossentropy(label_smoothing=0.2)),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_where_no_formula_holds_untrained_models_tell_chance(setting):
    mine = problem(plain(), A, YES, **SETTINGS[setting])
    assert mine.chance_loss == problems.chance.untrained(mine)["loss"]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_copy_can_not_be_changed_either(copied):
    mine = copied(problems.load("article"))
    assert not mine.x_train.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        mine.x_train[0] = 1
    same(training.train(mine, GRID), training.train("article", GRID))


def test_late_trouble_with_xla_is_told_before_anything_is_kept(tmp_path, monkeypatch):
    from anneal_utils.training import program

    from test_data import AsLongAsItSays

    monkeypatch.setattr(program, "_uncompilable", set())  # as in a new process

    def build():
        return keras.Sequential([keras.Input((3,)), AsLongAsItSays(), L.Dense(1), L.Dense(1)])

    mine = problem(build, A, NUMBER)
    given = dict(problems=mine, schedules="linear", peaks=[1e-4, 2e-4, 4e-4], extensions=0)
    given |= dict(tuning_seeds=1, seeds=2, cache=tmp_path)
    with pytest.raises(benchmark.Stopped, match="mode='graph'"):
        benchmark.run(**given)
    assert not list(tmp_path.rglob("*.parquet"))
    assert len(benchmark.run(**given, mode="graph").report) == 2
    assert benchmark.run(**given, mode="graph").provenance["runs"]["computed"] == 0


# ------------------------------------------------------------------------------------ refusals

NO_LOSS = type("NoLoss", (ItsOwnWay,), {"train_step": lambda self, data: {"root": 1.0}})
BAD = {
    "x_val = '0 rows'": lambda: replace(problem(plain(), A, NUMBER), x_val=A[:0], y_val=NUMBER[:0]),
    "x_test = '0 rows'": lambda: replace(
        problem(plain(), A, NUMBER), x_test=A[:0], y_test=NUMBER[:0]
    ),
    "splits[0] = 'tuple'": lambda: problem(plain(), A, NUMBER, splits=list(KFold(3).split(A))),
    "splits = None": lambda: problem(plain(), A, NUMBER, splits=None),
    "class_weight = [1, 2]": lambda: problem(plain(3), A, CLASS, sparse, class_weight=[1, 2]),
    "class_weight = {'0': 1.0}": lambda: problem(
        plain(3), A, CLASS, sparse, class_weight={"0": 1.0}
    ),
    "x_train = 'an array of datetime64": lambda: problem(
        plain(), pd.date_range("2020", periods=N + M + T).to_numpy(), NUMBER
    ),
    "y_train = 'a list of float64'": lambda: replace(
        problem(plain(), A, NUMBER[:, 0]), y_train=list(NUMBER[:N, 0])
    ),
    "chance_loss = nan": lambda: problem(plain(), A, NUMBER, chance_loss=float("nan")),
    "problem = Problem(name='mine'": lambda: problems.register("x")(problem(plain(), A, NUMBER)),
    "peaks = None": lambda: training.grid("cosine", None),
    "seeds = None": lambda: training.grid("cosine", 0.1, None),
    "problem.build() = ['root']": lambda: training.train(problem(NO_LOSS, A, NUMBER), GRID),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_data_are_refused_by_name(sentence):
    with pytest.raises(ValueError, match="^" + re.escape(sentence)):
        BAD[sentence]()
