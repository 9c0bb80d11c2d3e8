"""The nested bootstrap and what is read from it: known answers, and intervals that hold them."""

import itertools

from anneal_utils import benchmark, statistics
from anneal_utils.benchmark import contrasts, draws, views

import numpy as np
import pandas as pd
import pytest
from small_plan import evidence_of


def gap(drawn, first="m1", second="m0"):
    return benchmark.difference(drawn, [{"method": first}], [{"method": second}])


def test_the_value_of_a_method_is_what_a_search_is_expected_to_reach():
    """By counting all searches of three trials out of six."""
    cells = np.array([0.9, 0.2, 0.5, 0.7, 0.3, 0.4])
    found = benchmark.drawn(evidence_of([[cells]]), best_of=3, draws=0)
    winners = [np.log(min(chosen)) for chosen in itertools.combinations(cells, 3)]
    (value,) = found.values["p0", "sgd", 1.0].iloc[0]
    assert value == pytest.approx(np.mean(winners))
    assert value == pytest.approx(statistics.expected_best(np.log(cells))[2])


def test_a_search_of_all_trials_is_its_best_one():
    cells = np.array([0.9, 0.2, 0.5, 0.7])
    found = benchmark.drawn(evidence_of([[cells]]), best_of=4, draws=0)
    assert found.values["p0", "sgd", 1.0].iloc[0, 0] == pytest.approx(np.log(0.2))


def test_equal_methods_differ_by_nothing_in_every_draw():
    """Trials and seeds are drawn together for all methods: what they share cancels."""
    cells = np.linspace(0.2, 0.9, 8)
    found = benchmark.drawn(evidence_of([[cells, cells]]), best_of=4, draws=100)
    table = found.values["p0", "sgd", 1.0]
    assert np.allclose(table["m0"], table["m1"])
    assert table["m0"].std() > 0.01  # while the luck of the trials is in each alone


def test_a_factor_between_methods_is_found_in_every_draw():
    cells = np.linspace(0.2, 0.9, 8)
    found = benchmark.drawn(evidence_of([[cells, 0.8 * cells]]), best_of=4, draws=100)
    assert np.allclose(gap(found)["p0"], np.log(0.8))


def test_intervals_hold_the_luck_of_tuning():
    """Half the methods' best trials are worth 30 %: a draw without them has another winner."""
    lucky = np.r_[0.2, np.full(7, 0.3)]
    plain = np.full(8, 0.25)
    found = benchmark.drawn(evidence_of([[plain, lucky]]), best_of=4, draws=2000)
    _, low, high, _ = contrasts.summary(gap(found)["p0"])
    assert low == pytest.approx(np.log(0.2 / 0.25), abs=0.03)
    assert high == pytest.approx(np.log(0.3 / 0.25))


def test_the_luck_of_tuning_seeds_is_in_it_too():
    cells = np.full((1, 2, 8), 0.3)
    quiet = benchmark.drawn(evidence_of(cells, noise=0.01), best_of=4, draws=200)
    loud = benchmark.drawn(evidence_of(cells, noise=0.2), best_of=4, draws=200)
    assert gap(loud)["p0"].std() > 5 * gap(quiet)["p0"].std()


def test_intervals_cover_the_truth():
    """In 60 worlds with noise over seeds and trials of random quality."""
    rng, held, ends = np.random.default_rng(5), 0, []
    for world in range(60):
        cells = 0.3 * np.exp(1.5 * rng.random((1, 2, 16)) ** 2)
        found = benchmark.drawn(
            evidence_of(cells, noise=0.1, rng=rng), best_of=8, draws=300, seed=world
        )
        _, low, high, _ = contrasts.summary(gap(found)["p0"])
        held += low <= 0 <= high
        ends.append(high - low)
    assert held >= 54 and 0.02 < np.mean(ends) < 0.5


def test_groups_weigh_alike():
    found = {"a": np.zeros(3), "b": np.zeros(3), "c": np.full(3, 0.9)}
    these, _ = benchmark.pooled(found, {"a": "images", "b": "images", "c": "exact"})
    assert np.allclose(these, 0.45)


def test_a_new_problem_is_less_sure_than_these_problems():
    values = {f"p{i}": np.full(501, effect) for i, effect in enumerate((-0.3, 0.1, -0.2, 0.0))}
    these, new = benchmark.pooled(values, dict.fromkeys(values, "images"))
    assert np.ptp(these) == 0 and these[0] == new[0] == pytest.approx(-0.1)
    assert new[1:].min() < -0.2 and new[1:].max() > 0


@pytest.mark.parametrize(
    "low, high, said",
    [
        (-0.30, -0.10, "lower"),
        (0.10, 0.30, "higher"),
        (-0.04, 0.04, "as good"),
        (-0.04, -0.01, "as good"),  # sure, and too small to matter
        (-0.10, 0.04, "not told apart"),
    ],
)
def test_what_an_interval_allows_to_be_said(low, high, said):
    assert contrasts.verdict(low, high, margin=0.05) == said


def test_contrasts_by_optimizer_and_their_interaction():
    drawn = benchmark.drawn(evidence_of([[[0.4] * 4, [0.2] * 4]]), draws=10, best_of=2)
    table = drawn.values["p0", "sgd", 1.0]
    other = table.assign(m1=table["m0"])  # there the second method is worth nothing
    both = benchmark.Drawn(
        {("p0", "sgd", 1.0): table, ("p0", "adam", 1.0): other}, drawn.groups, "log"
    )
    assert np.allclose(gap(both)["p0"], 0.5 * np.log(0.5))
    more = benchmark.difference(
        both,
        [{"method": "m1", "optimizer": "sgd"}, {"method": "m0", "optimizer": "adam"}],
        [{"method": "m0", "optimizer": "sgd"}, {"method": "m1", "optimizer": "adam"}],
    )
    assert np.allclose(more["p0"], np.log(0.5))
    assert np.allclose(
        benchmark.difference(both, [{"method": "m1"}], [{"method": "m0"}], optimizers=["sgd"])[
            "p0"
        ],
        np.log(0.5),
    )
    with pytest.raises(ValueError, match="must have been compared somewhere"):
        gap(both, "m7")


def test_the_table_of_contrasts():
    values = [[[0.4] * 8, [0.2] * 8], [[0.3] * 8, [0.3] * 8]]
    drawn = benchmark.drawn(evidence_of(values, groups=("a", "b")), draws=50, best_of=2)
    asked = [dict(name="gain", plus=[{"method": "m1"}], minus=[{"method": "m0"}])]
    (row,) = benchmark.table(drawn, asked, margin=0.05).to_dict("records")
    assert row["percent"] == pytest.approx(100 * (np.sqrt(0.5) - 1))
    assert (row["lower"], row["higher"], row["problems"]) == (1, 0, 2)
    assert row["verdict"] == "lower" and row["p"] == pytest.approx(2 / 51)
    with pytest.raises(ValueError, match='must have the scale "log"'):
        benchmark.table(benchmark.drawn(evidence_of(values), scale="learned"), asked, margin=0.05)


def test_the_learned_scale_is_in_shares_of_what_there_was_to_learn():
    found = benchmark.drawn(
        evidence_of([[[0.4] * 4, [0.2] * 4]], chance=1.0), scale="learned", draws=5, best_of=2
    )
    assert gap(found)["p0"][0] == pytest.approx((0.2 - 0.4) / (1.0 - 0.2))


def test_standings_say_who_can_not_be_told_apart():
    rng = np.random.default_rng(1)
    values = np.array([[0.3 * np.exp(0.2 * np.arange(8))] * 3] * 2)
    values[:, 2] *= 2
    drawn = benchmark.drawn(evidence_of(values, noise=0.05, rng=rng), best_of=4, draws=300)
    table = benchmark.standings(drawn, margin=0.05).set_index("schedule")
    assert table["verdict"]["m2"] == "higher" and table["low"]["m2"] > 50
    second = table.index[1]
    assert second in ("m0", "m1") and table["verdict"][second] in ("as good", "not told apart")
    assert table["first"].sum() == pytest.approx(1) and table["first"]["m2"] == 0


def test_worst_cases_and_profiles():
    values = [[[0.2] * 4, [0.3] * 4], [[0.4] * 4, [0.2] * 4]]
    drawn = benchmark.drawn(evidence_of(values), draws=20, best_of=2)
    worst = benchmark.worst_case(drawn).set_index("schedule")
    assert worst["percent"].to_dict() == pytest.approx({"m0": 100, "m1": 50})
    assert worst["problem"].to_dict() == {"m0": "p1", "m1": "p0"} and worst["safest"]["m1"] == 1
    shares = benchmark.profile(drawn, [1.0, 1.6, 2.1])
    assert shares["m0"].tolist() == [0.5, 0.5, 1.0] and shares["m1"].tolist() == [0.5, 1.0, 1.0]


def test_budgets_fall_with_more_trials():
    curve = benchmark.budget(evidence_of([[[0.4, 0.2, 0.8, 0.1], [0.1] * 4]]))
    assert (curve["m0"].diff().dropna() < 0).all() and curve["m0"].iloc[-1] == pytest.approx(0)
    assert np.allclose(curve["m1"], 0)
    mean = np.log([0.4, 0.2, 0.8, 0.1]).mean() - np.log(0.1)
    assert curve["m0"].iloc[0] == pytest.approx(100 * np.expm1(mean))


def test_the_usable_share_is_against_one_common_target():
    """A method that is bad everywhere is not forgiving, as it would be against its own best."""
    table = benchmark.usable(evidence_of([[[0.1, 0.12, 0.3, 0.3], [0.3] * 4]], chance=1.1))
    shares = table.set_index("schedule")
    assert shares["share"].to_dict() == {"m0": 0.5, "m1": 0.0}
    assert shares["sensitivity"]["m0"] == pytest.approx((0.205 - 0.1) / 1.0)
    assert shares["sensitivity"]["m1"] == pytest.approx(0)


def test_a_run_cut_off_against_one_that_was_planned():
    whole = evidence_of([[[0.1] * 4]])
    report = whole.report.assign(**{f"tune_{cut:g}": 0.4 for cut in views.CUTS})
    planned = [report.assign(horizon=cut, tune=0.2) for cut in views.CUTS]
    found = benchmark.Evidence(whole.trials, pd.concat([report, *planned]), whole.provenance)
    table = benchmark.anytime(found, "sgd")
    assert table["share"].tolist() == list(views.CUTS)
    assert np.allclose(table["planned"], np.log(0.2)) and np.allclose(table["cut"], np.log(0.4))


def test_most_winners_are_among_the_candidates():
    cells = np.linspace(0.1, 0.9, 8)
    whole = evidence_of([[cells]])
    assert draws.coverage(whole, best_of=4) == pytest.approx(1)
    top = whole.report[whole.report["trial"] < 3]
    part = benchmark.Evidence(whole.trials, top, whole.provenance)
    won = [min(c) < 3 for c in itertools.combinations(range(8), 4)]
    assert draws.coverage(part, best_of=4) == pytest.approx(np.mean(won))
