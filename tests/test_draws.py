"""The nested bootstrap and what is read from it: known answers, and intervals that hold them."""

import dataclasses
import itertools

from anneal_utils import benchmark, statistics
from anneal_utils.benchmark import contrasts, draws

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_plan import evidence_of


def gap(drawn, first="m1", second="m0"):
    return benchmark.difference(drawn, [{"method": first}], [{"method": second}])


def test_the_value_of_a_method_is_what_a_search_is_expected_to_reach():
    """By counting all searches of three trials out of six."""
    cells = np.array([0.9, 0.2, 0.5, 0.7, 0.3, 0.4])
    found = benchmark.drawn(evidence_of([[cells]]), best_of=3, draws=1)
    winners = [np.log(min(chosen)) for chosen in itertools.combinations(cells, 3)]
    (value,) = found.values["p0", "sgd", 1.0].iloc[0]
    assert value == pytest.approx(np.mean(winners))
    assert value == pytest.approx(statistics.expected_best(np.log(cells))[2])


def test_a_search_of_all_trials_is_its_best_one():
    cells = np.array([0.9, 0.2, 0.5, 0.7])
    found = benchmark.drawn(evidence_of([[cells]]), best_of=4, draws=1)
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
    assert high - low > 0.3  # from nearly always to never


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


def test_pooled_intervals_hold_what_was_measured_where_methods_have_few_good_trials():
    """Draws lie above it then, more for the method with the narrower optimum; problems add up."""
    rng = np.random.default_rng(2)
    cells = [
        (0.3 * np.exp(0.1 * rng.random(32)), 0.3 * np.exp(8 * rng.random(32))) for _ in "p" * 40
    ]
    whole = evidence_of(cells, noise=0.02, rng=rng)
    found = benchmark.drawn(whole, best_of=16, draws=300)
    values = benchmark.pooled(gap(found), found)
    raw = np.quantile(values[1:], [0.025, 0.975])
    estimate, low, high, _ = contrasts.summary(values)
    assert not raw[0] <= values[0] <= raw[1]  # percentiles of the draws would leave it out
    assert low < estimate < high and high - low == pytest.approx(raw[1] - raw[0])


def of_groups(groups, families=()):
    whole = {problem: str(sorted(family)) for family in families for problem in family}
    return benchmark.Drawn({}, groups, "log", whole)


def test_groups_weigh_alike_and_families_within_them():
    found = {"a": np.zeros(3), "b": np.zeros(3), "c": np.full(3, 0.9)}
    groups = {"a": "images", "b": "images", "c": "exact"}
    assert np.allclose(benchmark.pooled(found, of_groups(groups)), 0.45)
    found = {"a": np.zeros(3), "b": np.full(3, 0.2), "c": np.full(3, 0.9)}
    one = dict.fromkeys("abc", "images")
    assert np.allclose(benchmark.pooled(found, of_groups(one)), 1.1 / 3)
    assert np.allclose(benchmark.pooled(found, of_groups(one, [["a", "b"]])), 0.5)


def test_the_mean_of_a_kind_is_by_students_t_from_families():
    effects = {"a": -0.3, "b": 0.1, "c": -0.2, "d": 0.0}
    found = {name: np.full(5, effect) for name, effect in effects.items()}
    one = of_groups(dict.fromkeys(found, "images"))
    expected = stats.ttest_1samp(list(effects.values()), 0).confidence_interval(0.95)
    assert contrasts.kind(found, one) == pytest.approx(tuple(expected))
    # Two groups of two: the mean of two means, with Welch's degrees of freedom.
    two = of_groups({"a": "x", "b": "x", "c": "y", "d": "y"})
    test = stats.ttest_ind([-0.3, 0.1], [0.2, 0.0], equal_var=False).confidence_interval(0.95)
    assert np.subtract(*contrasts.kind(found, two)) == pytest.approx((test.low - test.high) / 2)
    # One family tells nothing of others.
    family = of_groups(dict.fromkeys(found, "images"), [list(found)])
    assert np.isnan(contrasts.kind(found, family)).all()


def test_the_mean_of_a_kind_covers():
    """Effects that differ from problem to problem, in groups of 4, 3 and 2."""
    rng, held = np.random.default_rng(0), 0
    groups = {f"{g}{i}": g for g, n in (("a", 4), ("b", 3), ("c", 2)) for i in range(n)}
    for _ in range(400):
        found = {name: np.full(2, rng.normal(0.2, 0.1)) for name in groups}
        low, high = contrasts.kind(found, of_groups(groups))
        held += low <= 0.2 <= high
    assert 0.92 < held / 400 < 0.995


def test_problems_of_one_family_share_the_luck_of_their_seeds():
    whole = evidence_of(np.full((2, 2, 8), 0.3), noise=0.2)
    first = {name: getattr(whole, name).query("problem == 'p0'") for name in ("trials", "report")}
    twice = {
        name: pd.concat([table, table.assign(problem="p1")], ignore_index=True)
        for name, table in first.items()
    }
    found = benchmark.Evidence(**twice, provenance=whole.provenance)
    apart, one = (
        benchmark.drawn(found, best_of=8, draws=200, families=families)
        for families in ((), [["p0", "p1"]])
    )
    same = gap(one)  # a search of all trials has no luck but that of seeds
    correlation = np.corrcoef(same["p0"], same["p1"])[0, 1]
    assert correlation > np.corrcoef(*gap(apart).values())[0, 1] + 0.3


def test_tuning_and_report_seeds_are_drawn_apart_even_where_there_are_as_many(monkeypatch):
    asked = []
    real = draws.seed_weights

    def seen(*given):
        asked.append(real(*given))
        return asked[-1]

    monkeypatch.setattr(draws, "seed_weights", seen)
    whole = evidence_of([[np.full(8, 0.3)]], noise=0.2)
    report = whole.report[whole.report["seed"] < 4]  # as many as there are tuning seeds
    benchmark.drawn(benchmark.Evidence(whole.trials, report, whole.provenance), best_of=4, draws=50)
    assert len(asked) == 2 and not np.allclose(*asked)


def test_the_order_of_rows_does_not_matter():
    whole = evidence_of(np.random.default_rng(3).uniform(0.1, 0.9, (1, 2, 8)), noise=0.1)
    mixed = whole.trials.sort_values("tune")
    other = benchmark.Evidence(mixed, whole.report, whole.provenance)
    pair = [benchmark.drawn(one, best_of=4, draws=20).values for one in (whole, other)]
    table, again = (values["p0", "sgd", 1.0] for values in pair)
    assert np.allclose(table, again[table.columns])


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


GAIN = dict(name="gain", plus=[{"method": "m1"}], minus=[{"method": "m0"}])


def test_the_table_of_contrasts():
    values = [[[0.4] * 8, [0.2] * 8], [[0.3] * 8, [0.3] * 8]]
    drawn = benchmark.drawn(evidence_of(values, groups=("a", "b")), draws=50, best_of=2)
    (row,) = benchmark.table(drawn, [GAIN], margin=0.05).to_dict("records")
    assert row["percent"] == pytest.approx(100 * (np.sqrt(0.5) - 1))
    assert (row["lower"], row["higher"], row["problems"]) == (1, 0, 2)
    assert row["verdict"] == "lower" and row["p"] == pytest.approx(2 / 51)
    assert np.isnan(row["kind_low"]) and row["kind_verdict"] == "not told apart"
    learned = benchmark.drawn(evidence_of(values), scale="learned")
    for ask in (
        lambda: benchmark.table(learned, [GAIN], margin=0.05),
        lambda: benchmark.standings(learned),
        lambda: benchmark.worst_case(learned),
        lambda: benchmark.profile(learned, [1.0]),
    ):
        with pytest.raises(ValueError, match='must have the scale "log"'):
            ask()


def test_nothing_is_said_against_holm():
    """One comparison that is sure alone, and not among twenty."""
    rng = np.random.default_rng(7)
    cells = np.full((1, 2, 8), 0.3)
    cells[:, 1] *= 0.92
    drawn = benchmark.drawn(evidence_of(cells, noise=0.06, rng=rng), draws=999, best_of=4)
    alone = benchmark.table(drawn, [GAIN], margin=0.001).iloc[0]
    assert alone["verdict"] == "lower" and 0.0025 < alone["p"] < 0.05
    many = benchmark.table(drawn, [GAIN] * 20, margin=0.001).iloc[0]
    assert many["high"] == alone["high"] < 0 and many["p"] > 0.05
    assert many["verdict"] == "not told apart"


def test_the_learned_scale_is_in_shares_of_what_there_was_to_learn():
    found = benchmark.drawn(
        evidence_of([[[0.4] * 4, [0.2] * 4]], chance=1.0), scale="learned", draws=5, best_of=2
    )
    assert gap(found)["p0"][0] == pytest.approx((0.2 - 0.4) / (1.0 - 0.2))


def test_standings_say_which_may_be_the_best():
    rng = np.random.default_rng(1)
    values = np.array([[0.3 * np.exp(0.2 * np.arange(8))] * 3] * 2)
    values[:, 2] *= 2
    drawn = benchmark.drawn(evidence_of(values, noise=0.05, rng=rng), best_of=4, draws=300)
    table = benchmark.standings(drawn).set_index("schedule")
    assert table["best"].to_dict() == {"m0": True, "m1": True, "m2": False}
    assert table["low"]["m2"] > 50 and table["percent"].iloc[0] == 0


def test_of_equal_methods_each_may_nearly_always_be_the_best():
    """Tested against the one that happens to lead, some would be left out in most worlds."""
    rng, left = np.random.default_rng(4), np.zeros(8)
    for world in range(40):
        found = evidence_of(np.full((1, 8, 8), 0.3), noise=0.1, rng=rng)
        drawn = benchmark.drawn(found, best_of=4, draws=200, seed=world)
        table = benchmark.standings(drawn).set_index("schedule")
        left += ~table["best"].loc[[f"m{i}" for i in range(8)]].to_numpy()
    assert left.mean() / 40 < 0.08


def test_a_single_method_is_the_best():
    drawn = benchmark.drawn(evidence_of([[[0.3] * 4]]), best_of=2, draws=10)
    assert benchmark.standings(drawn)["best"].tolist() == [True]


def test_losses_below_zero_have_no_logarithm():
    whole = evidence_of([[[0.3] * 4]])
    below = whole.report.assign(test=-whole.report["test"])
    with pytest.raises(ValueError, match="must be losses >= 0"):
        benchmark.drawn(benchmark.Evidence(whole.trials, below, whole.provenance))


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


def test_a_budget_is_held_against_what_is_best_on_tune_and_families_weigh_alike():
    values = [[[0.4, 0.1], [0.2, 0.2]], [[0.2, 0.2], [0.2, 0.2]], [[0.8, 0.8], [0.2, 0.2]]]
    found = evidence_of(values)
    lucky = found.trials.assign(test=found.trials["test"].where(found.trials["tune"] > 0.1, 0.3))
    found = dataclasses.replace(found, trials=lucky)
    alone = benchmark.budget(found)["m0"].iloc[-1]
    assert alone == pytest.approx(100 * np.expm1(np.log(4) / 3))  # 0.3 over 0.3, 1, 4
    family = benchmark.budget(found, families=[["p0", "p1"]])["m0"].iloc[-1]
    assert family == pytest.approx(100)


def test_the_usable_share_is_against_one_common_target():
    """A method that is bad everywhere is not forgiving, as it would be against its own best."""
    table = benchmark.usable(evidence_of([[[0.1, 0.12, 0.3, 0.3], [0.3] * 4]], chance=1.1))
    shares = table.set_index("schedule")
    assert shares["share"].to_dict() == {"m0": 0.5, "m1": 0.0}
    assert shares["sensitivity"]["m0"] == pytest.approx((0.205 - 0.1) / 1.0)
    assert shares["sensitivity"]["m1"] == pytest.approx(0)


def test_most_winners_are_among_the_candidates():
    cells = np.linspace(0.1, 0.9, 8)
    whole = evidence_of([[cells]])
    assert draws.coverage(whole, best_of=4) == pytest.approx(1)
    top = whole.report[whole.report["trial"] < 3]
    part = benchmark.Evidence(whole.trials, top, whole.provenance)
    won = [min(c) < 3 for c in itertools.combinations(range(8), 4)]
    assert draws.coverage(part, best_of=4) == pytest.approx(np.mean(won))
