"""Half, single and double precision: the trainer's runs are those of ``fit`` in each."""

import functools

from anneal_utils import problems, training
from anneal_utils.optimizers import AveragedAdamW

import keras
import numpy as np
import pytest
from small import assert_as_fit, assert_equal
from small_state import assert_a_run_is_its_own, dense, falling, line, short, six_runs

pytest_plugins = ["small_fixtures"]


NEVER_BETTER = training.Plateau(factor=0.5, patience=1, min_delta=9e9)


def steep(y, prediction):
    """So large that the first steps overflow half precision."""
    return 40 * keras.ops.mean(keras.ops.square(prediction - 1), axis=-1)


@pytest.mark.parametrize(
    "optimizer, recipe, mode",
    [
        ("sgd", line, "graph"),
        ("sgd", NEVER_BETTER, "xla"),
        (AveragedAdamW, falling, "graph"),
    ],
    ids=["steps", "plateau", "epochs"],
)
def test_steps_that_half_precision_skips(half_precision, optimizer, recipe, mode):
    """A schedule waits for them; a function of the epoch and a plateau follow the epochs."""
    problem = short(dense, loss=steep, metrics=(), epochs=4)
    runs = six_runs(optimizer, recipe)
    alone = assert_a_run_is_its_own(problem, runs, mode)
    assert alone.train_loss[0] == pytest.approx(alone.train_loss[1], rel=0.01), "nothing skipped"
    assert alone.train_loss[3] != pytest.approx(alone.train_loss[0], rel=0.1)
    if recipe is line:
        assert alone.rate[1] == np.float32(0.05) and alone.rate[3] > 0.02
    else:
        ratio = [1, 1 / 2, 1 / 3, 1 / 4] if recipe is falling else [1, 1, 1 / 2, 1 / 4]
        np.testing.assert_allclose(alone.rate / alone.rate[0], ratio, rtol=1e-6)


def test_what_half_precision_skips_is_in_the_record_of_rates(half_precision):
    recorder, rising = training.RateRecorder(), keras.optimizers.schedules.PolynomialDecay
    problem = short(dense, loss=steep, metrics=(), epochs=4)
    run = training.grid({"rising": rising(0.0, 8, 0.08)})[0]
    frame = training.fit_one(problem, run, callbacks=[recorder])[1]
    assert len(recorder.rates) == len(recorder.losses) == 8
    assert recorder.rates[:3] == [0, 0, 0] and recorder.rates[-1] == frame.rate[3] > 0.01
    # The peak is the recipe's, though the run did not get there.
    assert frame.peak[0] == training.train(problem, [run], mode="graph").peak[0] > 0.069


def test_averages_are_what_half_precision_evaluates(half_precision, monkeypatch):
    """Under the wrapper of mixed precision too: not the weights that the gradients are of."""
    asked, whole = [], AveragedAdamW.to_average
    monkeypatch.setattr(
        AveragedAdamW, "to_average", lambda self: (asked.append(self), whole(self))[1]
    )
    problem = short(dense, metrics=(), epochs=4)
    run = training.grid({"c": 0.1}, optimizer=AveragedAdamW)[0]
    [weights], frame = training.train(problem, [run], mode="graph", return_weights=True)
    assert asked, "the averages were not asked for"
    model = dense()
    model.set_weights(weights)
    model.compile(loss=problem.loss)
    loss = model.evaluate(problem.x_val, problem.y_val, verbose=0)
    assert frame.val_loss.iloc[-1] == pytest.approx(loss, rel=1e-3)


def test_double_precision(floatx):
    floatx("float64")
    problem = short(dense)
    runs = training.grid({"epochs": falling(0.1), "steps": line(0.1)}, (), [2])
    weights, frame = training.train(problem, runs, mode="graph", return_weights=True)
    assert weights[1][0].dtype == np.float64
    for k in (0, 1):
        assert_as_fit(problem, runs[k], frame.iloc[2 * k : 2 * k + 2], weights[k])


def test_single_and_double_precision_of_one_problem_do_not_mix(floatx):
    """Of one whose code is installed, so that its start is found again."""
    problem, runs = problems.load("article"), training.grid({"c": 0.1}, seeds=[1], epochs=1)
    train = functools.partial(training.train, problem, runs, mode="graph", return_weights=True)
    [single], first = train()
    floatx("float64")
    [double], second = train()
    assert (single[0].dtype, double[0].dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(first.val_loss, second.val_loss, rtol=0.1)
    assert first.run[0] != second.run[0]
    floatx("float32")
    assert_equal(train()[0][0], single)


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_half_precision_rates_are_refused(floatx, kind):
    floatx(kind)
    run = training.grid({"c": 0.1})[0]
    for train in (training.train, lambda problem, runs: training.fit_one(problem, runs[0])):
        with pytest.raises(ValueError, match=rf"floatx\(\) = '{kind}': must be one of 'float32'"):
            train(short(dense), [run])


def test_whole_numbers_as_rates():
    def recipe(epoch, rate):
        return np.int64(rate) if epoch else 1

    problem, run = short(dense), training.grid({"mine": recipe})[0]
    frame = training.train(problem, [run], mode="graph")
    assert_as_fit(problem, run, frame)
    assert frame.rate[0] == 1 and frame.rate.dtype == np.float32
