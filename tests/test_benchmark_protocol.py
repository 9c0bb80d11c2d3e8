"""The benchmark's protocol: equal trials, an interior peak, paired report seeds."""

from anneal_utils import problems, training
from anneal_utils.benchmark import first as benchmark
from anneal_utils.benchmark import tasks
from anneal_utils.benchmark.first import planning

import numpy as np
import pandas as pd
import pytest
from small_benchmark import SMALL

pytest_plugins = ["benchmark_fixtures"]


def test_every_method_has_the_same_trials_and_says_how_many_more(reference):
    results, _ = reference
    trials, report = results.trials, results.report
    keys = ["problem", "schedule"]
    own = trials[trials["kind"] != "scan"].groupby(keys)
    assert (trials[trials["kind"] == "grid"].groupby(keys).size() == SMALL["budget"]).all()
    assert (own.size() == report.groupby(keys)["trials"].first()).all()
    # One scan for all methods of a problem, with one schedule.
    scans = trials[trials["kind"] == "scan"]
    assert set(scans["schedule"]) == {"linear"} and len(scans) == 2 * 11
    # The grids of all methods are the same peaks.
    for _, rows in trials[trials["kind"] == "grid"].groupby("problem"):
        assert rows.groupby("schedule")["peak"].apply(tuple).nunique() == 1


def test_the_tuned_peak_is_the_best_trial_and_lies_inside(reference):
    results, _ = reference
    trials = results.trials[results.trials["kind"] != "scan"].groupby(["problem", "schedule"])
    for method, rows in results.report.groupby(["problem", "schedule"]):
        tried = trials.get_group(method)
        best = tried.loc[tried["value"].idxmin(), "peak"]
        assert set(rows["peak"]) == {best}
        assert rows["interior"].all() and tried["peak"].min() < best < tried["peak"].max()


def test_an_edge_is_extended_until_the_cap(tmp_path):
    grid = dict(peaks=[1e-3, 2e-3, 4e-3], tuning_seeds=1, seeds=2)
    one = dict(problems=["quadratic:epochs=1"], schedules=["constant"])
    free, capped = (benchmark.run(**one, **grid, extensions=cap, cache=tmp_path) for cap in (12, 2))
    assert free.report["interior"].all() and not capped.report["interior"].any()
    assert set(capped.report["trials"]) == {5}
    added = free.trials[free.trials["kind"] == "extension"]
    assert len(added) == free.report["trials"].iloc[0] - 3 > 2
    assert np.allclose(added["peak"], 4e-3 * 2.0 ** np.arange(1, len(added) + 1))
    assert not (free.trials["kind"] == "scan").any()


def test_tuning_and_report_seeds_are_disjoint_and_paired(reference, monkeypatch, tmp_path):
    results, _ = reference
    assert not set(results.provenance["seeds"]["tuning"]) & set(results.report["seed"])
    for _, rows in results.report.groupby(["problem", "schedule"]):
        assert list(rows["seed"]) == list(range(SMALL["seeds"]))
    with pytest.raises(ValueError, match="seeds = 9001"):
        benchmark.Protocol(seeds=9001)
    asked = []
    train = tasks.outcomes_of

    def spy(problem, runs, **kwargs):
        asked.extend(runs)
        return train(problem, runs, **kwargs)

    monkeypatch.setattr(tasks, "outcomes_of", spy)
    benchmark.run(**SMALL, cache=tmp_path)
    tuned = {r.peak for r in asked if r.seed >= benchmark.TUNING}
    assert {r.peak for r in asked if r.seed < benchmark.TUNING} <= tuned
    assert {r.seed for r in asked} == {0, 1, 2, 3, 9000, 9001}


def test_the_report_is_what_the_trainer_says(reference):
    results, _ = reference
    row = results.report.iloc[5]
    problem = problems.load("quadratic", epochs=2)
    runs = training.grid([row["schedule"]], [row["peak"]], [row["seed"]])
    end = training.train(problem, runs).iloc[-1]
    assert (end["val_loss"], end["train_loss"]) == (row["val_loss"], row["train_loss"])


def test_a_diverged_run_costs_the_chance_loss_and_is_counted(tmp_path):
    results = benchmark.run(
        problems=["quadratic:epochs=30"],
        schedules=["constant"],
        peaks=[1e3, 2e3, 4e3],
        tuning_seeds=2,
        seeds=2,
        extensions=0,
        cache=tmp_path,
    )
    chance = problems.load("quadratic", epochs=30).chance_loss
    assert (results.trials["failures"] == 2).all() and (results.trials["value"] == chance).all()
    assert results.report["lost"].all() and (results.report["value"] == chance).all()
    assert (results.report["diverged_step"] >= 0).all()
    assert benchmark.ranking(results)["failures"].tolist() == [1.0]


def test_variants_compete_inside_one_budget(tmp_path):
    results = benchmark.run(
        problems=["quadratic:epochs=2"],
        schedules=["constant", "linear:warmup=0,0.3"],
        budget=7,
        tuning_seeds=1,
        seeds=2,
        cache=tmp_path,
    )
    grid = results.trials[results.trials["kind"] == "grid"]
    assert grid.groupby("schedule").size().to_dict() == {"constant": 7, "linear:warmup=0,0.3": 7}
    assert grid.groupby("knobs").size().to_dict() == {
        "{}": 7,
        '{"warmup": 0}': 4,
        '{"warmup": 0.3}': 3,
    }
    assert results.report.groupby("schedule").size().eq(2).all()
    assert results.report.query("schedule != 'constant'")["knobs"].nunique() == 1


def test_a_slice_gives_the_same_rows(reference, tmp_path):
    results, _ = reference
    part = benchmark.run(**{**SMALL, "schedules": ["cosine"]}, cache=tmp_path)
    for name in ("trials", "report"):
        whole = getattr(results, name)
        rows = whole[(whole["schedule"] == "cosine") | (whole.get("kind") == "scan")]
        pd.testing.assert_frame_equal(getattr(part, name), rows.reset_index(drop=True))


def test_horizons_are_multiples_of_the_epochs(tmp_path):
    results = benchmark.run(
        problems=["quadratic:epochs=4"],
        schedules=["constant"],
        horizons=[0.25, 2],
        extra_horizons={"adam": [1]},
        **dict(budget=3, tuning_seeds=1, seeds=2),
        cache=tmp_path,
    )
    assert set(zip(results.report["horizon"], results.report["epochs"], strict=True)) == {
        (0.25, 1),
        (2.0, 8),
    }


def test_the_profiles_can_be_planned():
    for profile in benchmark.PROFILES:
        given = benchmark.settings(profile)
        names, texts = given.pop("problems"), given.pop("schedules")
        wanted = given.pop("horizons")
        extra = given.pop("extra_horizons", None), given.pop("extra_problems", None)
        groups, methods, _ = planning.plan(
            names, texts, given.pop("optimizers"), wanted, extra, given
        )
        assert groups and methods
    # That was "full": the widest.
    assert len(methods) >= 14 and len({group.optimizer for group in groups}) >= 3
    assert len({group.problem for group in groups}) >= 8
    assert len({group.horizon for group in groups}) >= 4
    assert not set(benchmark.default_problems()) & set(benchmark.DOWNLOADS)
    assert set(benchmark.DOWNLOADS) < set(problems.names())
    assert not {"extra_horizons", "extra_problems"} & set(
        benchmark.settings("full", optimizers=["sgd"])
    )
    long = {group.problem for group in groups if group.horizon != 1.0}
    assert long == set(benchmark.PROFILES["full"]["extra_problems"])
    # "quick" is a part of "full": the same protocol, fewer methods.
    quick, full = benchmark.PROFILES["quick"], benchmark.PROFILES["full"]
    assert set(quick) < set(full) and set(quick["optimizers"]) < set(full["optimizers"])
    assert set(quick["horizons"]) <= set(full["horizons"])
