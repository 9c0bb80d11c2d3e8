"""What the benchmark's results say, on losses whose answer is known."""

from anneal_utils import problems, statistics
from anneal_utils.benchmark import first as benchmark

import numpy as np
import pandas as pd
import pytest
from small_benchmark import SMALL, synthetic

pytest_plugins = ["benchmark_fixtures"]


def test_the_ranking_of_known_values():
    results = synthetic([[[0.1, 0.1, 0.1], [0.3, 0.3, 0.3]], [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]])
    table = benchmark.ranking(results).set_index("schedule")
    assert table["rank"].to_dict() == {"a": 1.0, "b": 2.0}
    assert (table["low"] == table["rank"]).all() and (table["high"] == table["rank"]).all()
    chance = [problems.load(n).chance_loss for n in ("quadratic", "digits")]
    regrets = [0.2 / (chance[0] - 0.1), 1.0 / (chance[1] - 1.0)]
    assert table.loc["a", "regret"] == 0 and np.isclose(table.loc["b", "regret"], np.mean(regrets))
    assert np.allclose(benchmark.ratios(results.report)["b"], [3.0, 2.0])
    assert np.allclose(table["width"], 2 * 0.2)  # lines from 1 to 2 reach 1.2 at a fifth
    with pytest.raises(ValueError, match="every method with the same seeds"):
        benchmark.cube(results.report.iloc[1:])
    with pytest.raises(ValueError, match="horizon = 2"):
        benchmark.ranking(results, horizon=2.0)


def test_ranks_have_an_interval_when_seeds_disagree(reference):
    table = benchmark.ranking(reference[0], problem=SMALL["problems"][0])
    assert (table["low"] <= table["rank"]).all() and (table["rank"] <= table["high"]).all()
    assert (table["low"] < table["high"]).any()
    assert np.isclose(table["rank"].sum(), 6)
    assert statistics.mean_ranks(benchmark.cube(reference[0].report)[0])[0].n == SMALL["seeds"]


def test_the_curves_of_known_values():
    results = synthetic([[[0.1, 0.1, 0.1], [0.3, 0.3, 0.3]], [[1.0, 1.0, 1.0], [1.5, 1.5, 1.5]]])
    assert benchmark.profile(results, [1, 2, 3]).to_dict("list") == {
        "a": [1.0, 1.0, 1.0],
        "b": [0.0, 0.5, 1.0],
    }
    best = benchmark.best_of_k(results)
    # One of (2, 1, 2): the lowest is found in a third, two thirds, all of the draws. Digits: its
    # chance is log 10; the quadratic's is 0.5, so there every trial counts as 1 but the best.
    digits = 1 / (np.log(10) - 1)
    expected = [(share + digits * share) / 2 for share in (2 / 3, 1 / 3, 0)]
    assert np.allclose(best["a"], expected) and list(best.index) == [1, 2, 3]
    table = benchmark.against(results, "b")
    assert table.to_dict("records") == [{"schedule": "a", "estimate": 1.0, "low": 1.0, "high": 1.0}]
    curve = benchmark.sensitivity(results, problem="digits")
    assert list(curve["peak"]) == [0.1, 1.0, 10.0] * 2
    later = results.report.assign(horizon=2.0, value=1.0 + (results.report["schedule"] == "a"))
    trials = pd.concat([results.trials, results.trials.assign(horizon=2.0)])
    both = benchmark.Results(trials, pd.concat([results.report, later]), {})
    order = benchmark.anytime(both).groupby("horizon")["schedule"].apply(list)
    assert order.to_dict() == {1.0: ["a", "b"], 2.0: ["b", "a"]}


def test_the_recommendation_says_what_the_results_say():
    results = synthetic([[[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]], [[1.0, 1.1, 1.2], [0.9, 0.8, 1.0]]])
    named = {"a": "linear", "b": "constant"}
    results = benchmark.Results(
        results.trials.replace({"schedule": named}), results.report.replace({"schedule": named}), {}
    )
    first, shape, worst, caution = benchmark.recommendation(results)
    assert "in 1 of 2 settings (2 problems, 1 optimizers; in 0 of them by less" in first
    assert "above it in 1: digits with sgd. Before annealing is blamed" in first
    assert "with and without a warmup" in first and "cannot tell apart" in shape
    # Digits: a loses (1.1 - 0.9) / (log 10 - 0.9). The bowl (chance 0.5): b loses 0.2 / 0.3.
    lost = benchmark.worst_case(results)
    assert list(lost["schedule"]) == ["linear", "constant"]
    assert np.allclose(lost["regret"], [0.2 / (np.log(10) - 0.9), 0.2 / 0.3])
    assert list(lost["problem"]) == ["digits", "quadratic"] and list(lost["first"]) == [1, 0]
    assert "least worst case: linear.** " in worst and "14.3%" in worst and "67%" in worst
    assert "no order of the shapes" in caution
    table = benchmark.paired(results, "linear", "constant")
    assert np.allclose(
        table["estimate"][1], np.log([1.0, 1.1, 1.2]).mean() - np.log([0.9, 0.8, 1.0]).mean()
    )
    assert (table["high"][0] < 0) and (table["low"][1] > 0)
    with pytest.raises(ValueError, match="schedule = 'constant'"):
        report = results.report[results.report["schedule"] == "linear"]
        benchmark.recommendation(benchmark.Results(results.trials[:3], report, {}))


def test_no_schedule_is_advised_for_its_rank():
    results = benchmark.load(benchmark.COMMITTED)
    advised = " ".join(benchmark.recommendation(results))
    leaders = {benchmark.ranking(results)["schedule"][0]} | {
        benchmark.ranking(results, optimizer=name)["schedule"][0]
        for name in results.provenance["optimizers"]
    }
    safest = benchmark.worst_case(results)["schedule"][0]
    assert len(leaders) > 1  # the order depends on the optimizer
    for name in leaders - {"linear", "constant", safest}:
        assert name not in advised
