"""One setting as the protocol goes: scan, trials, a wider range, the report; and what is kept."""

import dataclasses
import json

from anneal_utils import _files, benchmark, problems, training
from anneal_utils.benchmark import chunks, entrants, evidence, tuning, untuned
from anneal_utils.training.frames import Outcome

import keras
import numpy as np
import pandas as pd
import pytest
from small_plan import knobs_of, plan_in


def small(tmp_path, **changed):
    return plan_in(tmp_path, **changed).select(problems=["bowl"], methods=["constant", "linear"])


@pytest.fixture(scope="module")
def bowl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bowl")
    plan = plan_in(folder).select(problems=["bowl"])
    return plan, benchmark.run(plan, out=folder / "out", cache=False), folder / "out"


def test_every_method_gets_the_same_trials_and_fresh_report_seeds(bowl):
    found = bowl[1]
    for _, rows in found.trials.groupby(["optimizer", "horizon", "widened"]):
        cells = rows.groupby("schedule")
        assert set(cells["trial"].nunique()) == {8} and set(cells.size()) == {16}
        assert set(cells["seed"].nunique()) == {2}
        peaks = rows.drop_duplicates(["schedule", "trial"]).pivot(
            index="trial", columns="schedule", values="peak"
        )
        assert (peaks.nunique(axis=1) == 1).all()
    assert set(found.trials["seed"]) == {9000, 9001} and set(found.report["seed"]) == {0, 1, 2}
    assert set(found.report.groupby(["optimizer", "horizon", "schedule"]).size()) == {9}
    decays = {
        knobs_of(row)["weight_decay"]
        for _, row in found.trials.iterrows()
        if row["optimizer"] == "adamw"
    }
    assert decays == {0.0, 0.1}


def test_the_numbers_are_those_of_the_trainer(bowl):
    rows = bowl[1].select(optimizer="adamw", schedule="linear").report
    first = rows.iloc[0]
    knobs = json.loads(first["knobs"])
    runs = training.grid(
        [("linear", {"end": knobs["end"]})],
        first["peak"],
        range(3),
        {"adamw": lambda rate: keras.optimizers.AdamW(rate, weight_decay=knobs["weight_decay"])},
        epochs=4,
        warmup=knobs["warmup"],
    )
    frame = training.train(problems.load("quadratic", epochs=4), runs, store=False)
    ends = frame[frame["epoch"] == 3].set_index("seed")["val_loss"]
    same = rows[rows["trial"] == first["trial"]].set_index("seed")["test"]
    assert np.allclose(same, np.minimum(ends, 0.5), rtol=1e-6)
    at_half = frame[frame["epoch"] == 1].set_index("seed")["val_loss"]
    kept = rows[rows["trial"] == first["trial"]].set_index("seed")["tune_0.5"]
    assert np.allclose(kept, np.minimum(at_half, 0.5), rtol=1e-6)


def test_a_method_is_chosen_on_the_tune_part_and_reported_on_the_test_part():
    """The test part's order is the reverse of the tune part's: the choice goes by the tune part."""
    problem = dataclasses.replace(problems.load("article"), name="two")
    names = ["loss"]
    outcomes = [
        Outcome("id", 0.1, names, np.array([[0.1, 9.0, tune]], "float32"), -1, np.float32([test]))
        for tune, test in ((0.3, 0.9), (0.2, 0.5), (0.1, 0.7))
    ]
    values = [tuning._values(problem, outcome) for outcome in outcomes]
    assert np.allclose(values, [(0.3, 0.9, -1), (0.2, 0.5, -1), (0.1, 0.7, -1)])
    table = pd.DataFrame({"trial": [0, 1, 2], "tune": [0.3, 0.2, 0.1], "test": [0.1, 0.2, 0.3]})
    assert tuning.candidates(table, 2) == [2, 1]


def test_nothing_counts_worse_than_having_learned_nothing():
    problem = problems.load("article")
    bad = np.array([[0.1, 9.0, 1e3]], "float32")
    high = Outcome("id", 0.1, ["loss"], bad, -1, np.float32([1e3]))
    lost = Outcome("id", 0.1, ["loss"], bad * np.nan, 7, np.float32([np.nan]))
    assert tuning._values(problem, high)[:2] == (problem.chance, problem.chance)
    assert tuning._values(problem, lost) == (problem.chance, problem.chance, 7)
    better = dataclasses.replace(
        problem, name="accuracy", target="val_accuracy", direction="max", metrics=["accuracy"]
    )
    good = Outcome("id", 0.1, ["loss", "accuracy"], np.float32([[0.1, 0, 0, 0, 0.9]]), -1, ())
    assert tuning._values(better, good)[0] == pytest.approx(-0.9)


def test_a_best_peak_near_an_end_widens_the_range_for_all(tmp_path):
    """The scan is forced far too low; all methods start again in one wider range."""
    plan = small(tmp_path, **{"scan_ratio = 4.0": "scan_ratio = 1.0001"}).select(
        optimizers=["adamw"], horizons=[1.0]
    )
    # Adam needs rates of about 0.1 here; the range around 0.001 ends at 0.03.
    found = benchmark.run(plan, cache=False)
    assert sorted(set(found.trials["widened"])) == [0, 1]
    ranges = found.trials.groupby(["widened", "schedule"])["peak"].agg(["min", "max"])
    assert (ranges.loc[0, "max"] < 0.04).all() and (ranges.loc[1, "max"] > 0.1).all()
    assert set(found.trials.groupby(["widened", "schedule"]).size()) == {16}
    last = found.trials[found.trials["widened"] == 1]
    kept = found.report.drop_duplicates(["schedule", "trial"])
    assert set(kept["peak"]) <= set(last["peak"])


def test_what_is_had_without_tuning(tmp_path):
    """Peaks are the range test's median times the factors; knobs are defaults but for warmup."""
    plan = plan_in(tmp_path).select(problems=["article"], trials=2)
    out = tmp_path / "out"
    found = benchmark.run(plan, out=out, cache=False)
    assert set(found.ranges["rule"]) == set(benchmark.plan.RULES)
    assert set(found.ranges["seed"]) == {9000, 9001} and set(found.ranges["optimizer"]) == {"sgd"}
    base = found.ranges[found.ranges["rule"] == "minimum"]["rate"].median()
    table = found.untuned
    assert np.allclose(table["peak"], base * table["factor"], rtol=1e-3)
    assert set(table.groupby(["schedule", "knobs", "factor"]).size()) == {2}
    assert len(table) == 2 * 2 * 2 * 2 and set(table["schedule"]) == {"constant", "linear"}
    row = table[(table["schedule"] == "linear") & (table["knobs"] == '{"warmup": 0.1}')].iloc[0]
    runs = training.grid("linear", row["peak"], [row["seed"]], keras.optimizers.SGD, warmup=0.1)
    frame = training.train("article", runs, store=False)
    assert row["tune"] == pytest.approx(frame["val_loss"].iloc[-1], rel=1e-6)
    assert row["test"] == pytest.approx(frame["test_loss"].iloc[-1], rel=1e-6)
    again = benchmark.load(out)
    pd.testing.assert_frame_equal(again.untuned, table)
    pd.testing.assert_frame_equal(again.ranges, found.ranges)


def test_a_sweep_that_can_not_be_read_is_told_and_nothing_is_run_by_it(bowl, monkeypatch):
    """Single samples of a noisy bowl: the loss is soon above four times the lowest."""
    plan, found, _ = bowl
    assert found.ranges[found.ranges["seed"] == 9001]["rate"].isna().all()
    nothing = found.ranges[["rule", "seed"]].assign(rate=np.nan)
    monkeypatch.setattr(untuned, "range_test", lambda *_: nothing)
    with pytest.raises(StopIteration) as end:
        next(untuned.protocol_of(plan, benchmark.Setting("bowl", "sgd", 1.0)))
    tests, runs = end.value.value
    assert runs.empty and tests["rate"].isna().all()


def test_a_problem_that_is_done_is_not_computed_again(bowl, tmp_path):
    plan, found, out = bowl
    again = benchmark.run(plan, out=out, cache=False)
    assert again.provenance["bowl"]["date"] == found.provenance["bowl"]["date"]
    pd.testing.assert_frame_equal(again.report, found.report)
    pd.testing.assert_frame_equal(again.trials, found.trials)
    files = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    benchmark.run(plan, out=out, cache=False)
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == files
    # Another plan for it, and it is.
    changed = plan.select(methods=["constant", "linear"], optimizers=["sgd"], horizons=[1.0])
    other = benchmark.run(changed, out=out, cache=tmp_path)
    assert set(other.report["schedule"]) == {"constant", "linear"}
    evidence.save(found, out)


def test_an_interrupted_benchmark_goes_on_from_the_store(tmp_path, monkeypatch):
    plan = small(tmp_path).select(optimizers=["sgd"], horizons=[1.0])
    store, real = tmp_path / "store", tuning.protocol_of
    whole = benchmark.run(plan, cache=False)

    def stopped(*given):
        protocol, outcomes = real(*given), None
        for _ in range(2):  # the scan and the trials, but no report
            outcomes = yield protocol.send(outcomes)
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "protocol_of", stopped)
    with pytest.raises(KeyboardInterrupt):
        benchmark.run(plan, cache=store)
    monkeypatch.undo()
    again = benchmark.run(plan, cache=store)
    # The scan, and the trials of the first range; some may be the same run.
    assert again.provenance["bowl"]["runs"]["from_cache"] >= 5 * 2 + 2 * 8 * 2
    pd.testing.assert_frame_equal(again.report, whole.report)
    pd.testing.assert_frame_equal(again.trials, whole.trials)


def test_what_is_finished_is_found_whatever_the_knobs_of_the_optimizer(tmp_path):
    plan = small(tmp_path).select(optimizers=["adamw"])  # a program for each weight decay
    for computes in (True, False):
        found = benchmark.run(plan, cache=tmp_path / "store")
        assert (found.provenance["bowl"]["runs"]["computed"] > 0) == computes


def test_two_processes_give_the_same_tables(bowl, tmp_path):
    plan, found, _ = bowl
    part = plan.select(methods=["constant", "linear"], optimizers=["sgd"])
    alone = benchmark.run(part, cache=False)
    both = benchmark.run(part, cache=tmp_path, jobs=2)
    pd.testing.assert_frame_equal(both.trials, alone.trials)
    pd.testing.assert_frame_equal(both.report, alone.report)
    # and the methods do not depend on which others compete
    whole = found.report[found.report["schedule"].isin(["constant", "linear"])]
    whole = whole[whole["optimizer"] == "sgd"]
    if whole["peak"].isin(alone.report["peak"]).all():
        pd.testing.assert_frame_equal(whole.reset_index(drop=True), alone.report)


def test_results_on_disk_are_whole_or_refused(bowl, tmp_path):
    _, found, _ = bowl
    evidence.save(found, tmp_path)
    read = benchmark.load(tmp_path)
    pd.testing.assert_frame_equal(read.trials, found.trials)
    pd.testing.assert_frame_equal(read.report, found.report)
    assert evidence.known(tmp_path) == ["bowl"]
    with pytest.raises(ValueError, match="holds no results of 'article'"):
        benchmark.load(tmp_path, ["article"])
    swapped = dataclasses.replace(found, report=found.report.iloc[::-1].reset_index(drop=True))
    (tmp_path / "bowl.report.parquet").write_bytes(_files.parquet(swapped.report))
    with pytest.raises(ValueError, match="bowl.report.parquet belongs to another run"):
        benchmark.load(tmp_path)
    (tmp_path / "bowl.report.parquet").unlink()
    with pytest.raises(ValueError, match="bowl.report.parquet is missing"):
        benchmark.load(tmp_path)
    (tmp_path / "bowl.json").write_text("{")
    with pytest.raises(ValueError, match="bowl.json can not be read"):
        benchmark.load(tmp_path)
    with pytest.raises(ValueError, match="holds no benchmark results"):
        benchmark.load(tmp_path / "none")


def test_a_part_of_the_results(bowl):
    _, found, _ = bowl
    part = found.select(optimizer="sgd", horizon=1.0, schedule=["linear"])
    assert set(part.report["optimizer"]) == {"sgd"} and set(part.trials["schedule"]) == {"linear"}
    with pytest.raises(ValueError, match="horizon = 2.0: must be one of 1.0, 0.5"):
        found.select(horizon=2.0)
    with pytest.raises(ValueError, match="which = 'seed'"):
        found.select(seed=1)


def test_the_cells_name_what_was_computed(bowl):
    found = bowl[1]
    row = found.trials[found.trials["schedule"] == "constant"].iloc[0]
    knobs = tuple(knobs_of(row).items())
    chunk = chunks.Chunk(
        "quadratic:epochs=4", "sgd", 4, "constant", knobs, (row["peak"],), (9000, 9001)
    )
    names = training.identities(problems.load("quadratic", epochs=4), chunk.runs(""))
    assert row["optimizer"] == "sgd" and row["cell"] == chunks.cell_of(names)


@pytest.mark.parametrize("first", ["0.0", "0"])
def test_a_knob_keeps_the_kind_in_which_it_is_written(first):
    """0 and 0.0 are one key of a dict, and trace to two programs: the first one was both."""
    second = {"0": "0.0", "0.0": "0"}[first]
    for text in (first, second):
        make = entrants.maker_of(f"adamw:weight_decay={text}:beta_1=0.{len(first)}")
        assert repr(make.keywords["weight_decay"]) == text
        assert entrants.maker_of(f"adamw:weight_decay={text}:beta_1=0.{len(first)}") is make
