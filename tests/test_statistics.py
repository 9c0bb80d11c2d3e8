"""Statistics against closed forms and against the libraries they wrap."""

import itertools

from anneal_utils import problems, training
from anneal_utils import statistics as st

import keras
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

RNG = np.random.default_rng(3)


def frame(losses, schedule="s", peaks=(0.1,), diverged=None):
    """A tidy frame of two epochs; ``losses`` [peak, seed] are the last epoch's."""
    rows = [
        ("p", "sgd", schedule, peak, seed, epoch, float(losses[i][seed]) + (1 - epoch))
        for i, peak in enumerate(peaks)
        for seed in range(len(losses[i]))
        for epoch in (0, 1)
    ]
    columns = ["problem", "optimizer", "schedule", "peak", "seed", "epoch", "val_loss"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(diverged=~np.isfinite(table.val_loss) if diverged is None else diverged)


def test_an_effect_on_log_losses_is_told_in_per_cent():
    halved = st.as_percent(st.Effect(np.log(0.5), np.log(0.25), np.log(2), 9, 0.9, 0.03))
    assert (halved.estimate, halved.low, halved.high) == pytest.approx((-50, -75, 100))
    assert (halved.n, halved.level, halved.pvalue) == (9, 0.9, 0.03)


def test_paired_effect_is_other_minus_baseline_and_aligns_seeds():
    a = pd.Series([1.0, 2.0, 3.0, 4.0], index=[10, 11, 12, 13])
    b = (a + [0.5, 0.4, 0.6, 0.5]).sample(frac=1, random_state=0)
    effect = st.paired_effect(a, b)
    assert effect.estimate == pytest.approx(0.5) and effect.n == 4
    assert 0.4 < effect.low < 0.5 < effect.high < 0.6
    with pytest.raises(ValueError, match="seeds of baseline"):
        st.paired_effect(a, b.rename({10: 99}))


def test_interval_covers_the_truth_at_its_level():
    covered = [
        (effect := st.mean_effect(RNG.normal(1, 2, 40))).low <= 1 <= effect.high for _ in range(60)
    ]
    # 95 % of 60 is 57; below 49 has probability under 1e-4.
    assert 49 <= sum(covered)


def test_degenerate_and_bad_input():
    assert st.mean_effect([2.0, 2.0, 2.0]).low == 2.0
    assert st.paired_effect([1.0, 2.0], [1.0, 2.0]).pvalue == 1.0
    for bad in ([1.0], [[1.0, 2.0]], [1.0, np.nan]):
        with pytest.raises(ValueError, match=r"^values"):
            st.mean_effect(bad)
    with pytest.raises(ValueError, match="^other"):
        st.paired_effect([1.0, 2.0], [1.0, 2.0, 3.0])


def test_effect_is_deterministic():
    values = RNG.normal(size=30)
    assert st.mean_effect(values) == st.mean_effect(values)


def test_proportion_is_wilsons():
    effect = st.proportion(7, 20)
    expected = stats.binomtest(7, 20).proportion_ci(method="wilson")
    assert (effect.low, effect.high) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="successes"):
        st.proportion(21, 20)


def test_holm():
    np.testing.assert_allclose(st.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    given = np.random.default_rng(0).random(12).round(1) ** 3  # with ties
    np.testing.assert_allclose(st.holm(given), multipletests(given, method="holm")[1])


def test_seeds_needed_reaches_its_power():
    n = st.seeds_needed(0.5, 1.0, power=0.9)
    power = TTestPower().power
    assert power(0.5, n, 0.05) >= 0.9 > power(0.5, n - 1, 0.05)
    assert st.seeds_needed(10.0, 1.0) == st.seeds_needed(5.0, 1.0) == 3
    assert power(5.0, 3, 0.05) >= 0.9 > power(5.0, 2, 0.05)
    with pytest.raises(ValueError, match="gap"):
        st.seeds_needed(0.0, 1.0)


def test_chance_below():
    low, high = RNG.normal(0, 1, 300), RNG.normal(1, 1, 300)
    effect = st.chance_below(low, high)
    truth = stats.norm.cdf(1 / np.sqrt(2))
    assert effect.low < truth < effect.high and effect.high - effect.low < 0.12
    assert st.chance_below(low, low).estimate == pytest.approx(0.5)
    assert st.chance_below([1.0, 2.0], [5.0, 6.0]).estimate == 1.0


def test_chance_below_leaves_pairs_of_one_seed_out():
    # Paired, second is always higher; unpaired with other seeds it is a coin.
    values = np.arange(40.0)
    assert st.chance_below(values, values + 1e-9).estimate == pytest.approx(0.5)


def test_final_penalises_and_counts_what_diverged():
    ends = st.final(frame([[0.3, np.nan, 0.2]]), penalty=2.3)
    assert ends.value.tolist() == pytest.approx([0.3, 2.3, 0.2])
    assert ends.lost.tolist() == [False, True, False]
    assert (ends.epoch == 1).all()


def test_by_seed_and_best_peaks():
    ends = st.final(frame([[3, 3], [1, 2], [4, 1.5]], peaks=(0.1, 0.2, 0.4)), penalty=9)
    best = st.best_peaks(ends).loc["s"]
    assert best.peak == 0.2 and best.interior and best.value == pytest.approx(1.5)
    assert st.by_seed(ends, peak=0.4).tolist() == [4, 1.5]
    edge = st.best_peaks(ends[ends.peak > 0.15]).loc["s"]
    assert edge.peak == 0.2 and not edge.interior
    with pytest.raises(ValueError, match="which"):
        st.by_seed(ends, schedule="nothing")


def test_band():
    table = st.band(frame([list(np.arange(11.0))]), "val_loss", ["schedule", "epoch"])
    assert table.loc[table.epoch == 1, ["low", "middle", "high"]].to_numpy().tolist() == [[1, 5, 9]]


def test_final_takes_a_frame_whose_index_repeats():
    one = frame([[0.3, 0.1]])
    both = pd.concat([one, one.assign(schedule="t")])  # the index repeats
    ends = st.final(both, penalty=2.3)
    assert len(ends) == 4 and ends.value.tolist() == pytest.approx([0.3, 0.1, 0.3, 0.1])


def test_mixed_problems_are_refused():
    one = frame([[0.3, 0.1]])
    ends = st.final(pd.concat([one, one.assign(problem="q")]), penalty=2.3)
    with pytest.raises(ValueError, match="problem"):
        st.best_peaks(ends)
    with pytest.raises(ValueError, match=r"one run per seed; also choose \['problem'\]"):
        st.by_seed(ends, schedule="s")


def test_band_counts_diverged_runs_as_high():
    losses = [[1.0, 2.0, 3.0, np.nan, np.nan, np.inf]]
    last = frame(losses).query("epoch == 1")
    table = st.band(last, "val_loss", ["schedule"])
    assert table.lost[0] == 0.5 and table.low[0] == 1.0 and table.high[0] == np.inf
    assert st.band(last, "val_loss", ["schedule"], penalty=9.0).high[0] == 9.0


def test_an_interval_exists_where_values_differ_by_rounding_alone():
    values = 0.3 + np.array([0, 1e-17, 5.6e-17, 0, 0, 5.6e-17])
    effect = st.mean_effect(values)
    assert effect.low <= effect.estimate * (1 + 1e-12) and np.isfinite(effect.high)


# ------------------------------------------------------------------- many methods, many problems


def test_interquartile_mean_cuts_a_quarter_from_each_end():
    assert st.interquartile_mean([0, 1, 2, 3, 4, 5, 6, 1e9]) == np.mean([2, 3, 4, 5])
    with pytest.raises(ValueError, match="not finite"):
        st.interquartile_mean([1.0, np.nan])


def test_mean_ranks_of_known_losses():
    losses = np.zeros((2, 3, 4))
    losses[0] = np.array([1.0, 2.0, 3.0])[:, None]
    losses[1] = np.array([1.0, 3.0, 3.0])[:, None]  # a tie: both 2.5
    ranks = st.mean_ranks(losses)
    assert [r.estimate for r in ranks] == [1.0, 2.25, 2.75]
    assert all(r.low == r.estimate == r.high for r in ranks)
    # Two methods that differ by noise alone: the interval reaches both places.
    noise = np.random.default_rng(0).normal(size=(1, 2, 10))
    assert [(r.low, r.high) for r in st.mean_ranks(noise)] == [(1.0, 2.0)] * 2
    with pytest.raises(ValueError, match=r"\[problems, methods, seeds\]"):
        st.mean_ranks(losses[0])


def test_ranks_resample_the_same_seeds_for_all_methods():
    # The seed moves the loss by far more than the method does: only pairing shows the order.
    seed = np.random.default_rng(0).normal(size=10)
    first, second = st.mean_ranks(np.stack([seed, seed + 1e-3])[None])
    assert (first.low, first.high, second.low, second.high) == (1, 1, 2, 2)


def test_improvement_counts_pairs_and_halves_ties():
    assert st.improvement([[1.0, 2.0]], [[3.0, 4.0]]).estimate == 1
    assert st.improvement([[1.0, 2.0]], [[1.0, 2.0]]).estimate == 0.5
    mixed = st.improvement([[1.0, 2.0], [5.0, 5.0]], [[3.0, 3.0], [4.0, 4.0]])
    assert (mixed.estimate, mixed.low, mixed.high) == (0.5, 0.5, 0.5)
    rng = np.random.default_rng(0)
    noisy = st.improvement(rng.normal(size=(3, 20)), rng.normal(size=(3, 20)))
    assert noisy.low < 0.5 < noisy.high
    with pytest.raises(ValueError, match="1 problems"):
        st.improvement([[1.0], [2.0]], [[1.0]])


def test_performance_profile_of_known_ratios():
    profile = st.performance_profile([[1, 2], [4, 1], [1, np.inf]], [1, 2, 4, 1e9])
    assert np.allclose(profile, [[2 / 3, 2 / 3, 1, 1], [1 / 3, 2 / 3, 2 / 3, 2 / 3]])
    with pytest.raises(ValueError, match="all >= 1"):
        st.performance_profile([[0.5, 1]], [1])


def test_expected_best_against_all_subsets():
    values = [3.0, 1.0, 4.0, 1.5, 9.0]
    expected = [
        np.mean([min(chosen) for chosen in itertools.combinations(values, k)]) for k in range(1, 6)
    ]
    assert np.allclose(st.expected_best(values), expected)
    with pytest.raises(ValueError, match="finite"):
        st.expected_best([1.0, np.inf])


def test_robustness_width_of_a_known_curve():
    peaks = [0.01, 0.1, 1.0, 10.0, 100.0]
    width = st.robustness_width(peaks, [9.0, 2.0, 1.0, 3.0, 1.0], 1.5)
    assert np.isclose(width, 0.5 + 0.25)  # the second valley is another one
    assert st.robustness_width(peaks[::-1], [1.0] * 5) == pytest.approx(4)
    assert st.robustness_width(peaks, [0.0, 1.0, 1.0, 1.0, 1.0]) == 0
    with pytest.raises(ValueError, match="distinct"):
        st.robustness_width([1.0, 1.0], [1.0, 2.0])


# -------------------------------------------------------------------------- identities, not labels


def trained(*grids, problem="quadratic", **knobs):
    """Frames of real runs that bear the same labels, one after the other."""
    given = dict(curvature=1.0, epochs=2, **knobs)
    return pd.concat(
        training.train(problems.load(problem, **{**given, **changed}), runs)
        for changed, runs in grids
    )


def two_seeds(recipe, optimizer=keras.optimizers.SGD, **settings):
    return training.grid({"s": recipe}, [0.1], [0, 1], {"o": optimizer}, **settings)


DIFFER = {
    "warmup": [({}, two_seeds("linear")), ({}, two_seeds("linear", warmup=0.5))],
    "knobs": [({}, two_seeds(("step", {"drops": n}))) for n in (1, 2)],
    "horizon": [({}, two_seeds("linear", epochs=n)) for n in (2, 3)],
    "optimizer": [
        ({}, two_seeds("linear", lambda rate, m=m: keras.optimizers.SGD(rate, momentum=m)))
        for m in (0.0, 0.9)
    ],
    "problem": [({"curvature": h}, two_seeds("linear")) for h in (1.0, 2.0)],
}


@pytest.mark.parametrize("what", DIFFER)
def test_runs_that_differ_in_what_no_label_tells_are_kept_apart(what):
    frame = trained(*DIFFER[what])
    ends = st.final(frame, penalty=1.0)
    assert len(ends) == 4 and ends.run.nunique() == 4
    alone = [st.final(trained(one), penalty=1.0).value.tolist() for one in DIFFER[what]]
    assert ends.value.tolist() == [value for values in alone for value in values]
    for mixes in (
        lambda: st.band(frame, "val_loss", ["schedule", "epoch"]),
        lambda: st.by_seed(ends, schedule="s", peak=0.1),
        lambda: st.best_peaks(ends),
    ):
        with pytest.raises(ValueError, match="one run per seed; .*give them different labels"):
            mixes()


def test_a_run_that_is_there_twice_is_refused_and_under_two_labels_is_kept():
    frame = trained(({}, two_seeds("linear")))
    with pytest.raises(ValueError, match=r"^frame = .*twice"):
        st.final(pd.concat([frame, frame]), penalty=1.0)
    both = pd.concat([frame, frame.assign(schedule="the same again")])
    ends = st.final(both, penalty=1.0)
    assert len(ends) == 4 and ends.run.nunique() == 2
    with pytest.raises(ValueError, match=r"also choose \['schedule'\]"):
        st.by_seed(ends)


def test_labels_alone_keep_apart_or_refuse():
    by_hand = frame([[0.3, 0.1]])
    assert len(st.final(by_hand, penalty=1.0)) == 2
    with pytest.raises(ValueError, match="twice"):
        st.final(pd.concat([by_hand, by_hand]), penalty=1.0)


# ----------------------------------------------------------- what a reader may set in a notebook


@pytest.mark.parametrize(
    "call",
    [
        lambda: st.mean_effect([1.0]),
        lambda: st.paired_effect(pd.Series([1.0]), pd.Series([2.0])),
        lambda: st.chance_below([1.0], [2.0]),
    ],
)
def test_one_seed_is_told_in_one_sentence(call):
    with pytest.raises(ValueError) as told:
        call()
    sentence = str(told.value)
    assert "= [1.0]: one seed has no interval; it takes at least two" in sentence
    assert sentence.endswith("set SEEDS higher.") and sentence.count(". ") == 0


def test_two_seeds_have_an_interval_that_holds_both_and_their_mean():
    effect = st.paired_effect([1.0, 1.0], [1.5, 2.0])
    assert 0.5 <= effect.low < effect.estimate == 0.75 < effect.high <= 1.0


def test_a_single_peak_is_never_inside_its_grid_and_has_no_width():
    ends = st.final(frame([[1.0, 2.0]]), penalty=3.0)
    best = st.best_peaks(ends).loc["s"]
    assert (best.peak, best.value, bool(best.interior)) == (0.1, 1.5, False)
    with pytest.raises(ValueError, match="one peak has no width; try at least two"):
        st.robustness_width([0.1], [1.0])


@pytest.mark.parametrize("name, lost", [("digits", False), ("quadratic", True)])
def test_at_a_rate_of_a_thousand_nothing_is_learned_and_none_is_best(name, lost):
    problem = problems.load(name)
    runs = training.train(problem, training.grid(["constant"], [1000.0], range(3), epochs=4))
    ends = st.final(runs, penalty=problem.chance_loss)
    assert ends.failed.all() and (ends.lost == lost).all()
    assert (ends.value >= problem.chance_loss).all()
    with pytest.raises(ValueError, match="peaks 1000.*no run learned anything.*try lower peaks"):
        st.best_peaks(ends)
    some = pd.concat([ends, ends.assign(schedule="other", failed=False, value=1.0)])
    assert st.best_peaks(some).loc["other", "value"] == 1.0
