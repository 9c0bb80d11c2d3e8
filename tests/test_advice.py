"""The decision page: known answers from results made by hand, and sentences that follow them."""

import dataclasses
import json

from anneal_utils import benchmark

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from small_plan import evidence_of

READING = dict(level=0.95, margin=0.05, best_of=2, draws=100)
CUTS = {0.125: "tune_0.125", 0.25: "tune_0.25", 0.5: "tune_0.5"}


def results(values, optimizers=("momentum", "adamw"), normalised=(False,), groups=("images",)):
    """Results at horizon 1 with both optimizers, range tests (all say 1) and untuned runs.

    ``values`` [problems, methods, trials]. Peaks: 0.3; warmups: 0.1.
    """
    whole = evidence_of(values, groups=groups)
    for number, facts in enumerate(whole.provenance.values()):
        facts["normalised"] = normalised[number % len(normalised)]
    tables = {
        name: pd.concat([getattr(whole, name).assign(optimizer=o) for o in optimizers])
        for name in ("trials", "report")
    }
    knobs = json.dumps({"warmup": 0.1})
    tables = {name: t.assign(peak=0.3, knobs=knobs) for name, t in tables.items()}
    tables["report"] = tables["report"].assign(**dict.fromkeys(CUTS.values(), np.nan))
    return dataclasses.replace(whole, **{k: t.reset_index(drop=True) for k, t in tables.items()})


def with_range_tests(found, rates):
    rows = [
        (p, o, 1.0, s, "smith_max", rate)
        for p, rate in zip(found.provenance, rates, strict=True)
        for o in ("momentum", "adamw")
        for s in range(2)
    ]
    columns = ["problem", "optimizer", "horizon", "seed", "rule", "rate"]
    return dataclasses.replace(found, ranges=pd.DataFrame(rows, columns=columns))


def untuned(found, losses):
    """``losses``: {(schedule, factor): loss of each problem}, without warmup."""
    rows = [
        (p, o, 1.0, schedule, json.dumps({"warmup": 0.0}), factor, seed, loss)
        for (schedule, factor), of in losses.items()
        for p, loss in zip(found.provenance, of, strict=True)
        for o in ("momentum", "adamw")
        for seed in range(2)
    ]
    columns = ["problem", "optimizer", "horizon", "schedule", "knobs", "factor", "seed", "test"]
    return dataclasses.replace(found, untuned=pd.DataFrame(rows, columns=columns))


def case(table, **which):
    for column, value in which.items():
        table = table[table[column] == value]
    (row,) = table.to_dict("records")
    return row


def test_the_best_and_those_that_can_not_be_told_apart_from_it():
    values = [[[0.2] * 4, [0.2] * 4, [0.4] * 4], [[0.3] * 4, [0.3] * 4, [0.6] * 4]]
    table = benchmark.decision(results(values), READING, rule="smith_max")
    row = case(table, optimizer="adamw", network="any", horizon="known", tuning="yes")
    assert (row["schedule"], row["others"], row["worse"]) == ("m0", "m1", "m2")
    assert row["problems"] == 2 and row["percent"] == pytest.approx(0)
    assert row["warmup"] == pytest.approx(0.1)


def test_what_the_best_on_average_loses_where_another_is_better():
    values = [[[0.2] * 4, [0.3] * 4], [[0.4] * 4, [0.36] * 4]]
    table = benchmark.decision(results(values), READING, rule="smith_max")
    row = case(table, optimizer="momentum", network="any", tuning="yes")
    assert row["schedule"] == "m0"
    assert row["percent"] == pytest.approx(100 * (np.sqrt(0.4 / 0.36) - 1))
    ends = stats.ttest_1samp([0.0, np.log(0.4 / 0.36)], 0).confidence_interval(0.95)
    assert row["kind_high"] == pytest.approx(100 * np.expm1(ends.high))
    assert ends.low < 0 and row["kind_low"] == 0  # nothing is below the best of each problem


def test_networks_that_normalise_and_those_that_do_not():
    values = [[[0.2] * 4, [0.3] * 4], [[0.4] * 4, [0.2] * 4]]
    found = results(values, normalised=(True, False))
    table = benchmark.decision(found, READING, rule="smith_max", optimizers=["adamw"])
    assert case(table, network="normalised")["schedule"] == "m0"
    assert case(table, network="plain")["schedule"] == "m1"
    assert case(table, network="any")["problems"] == 2


def test_exact_problems_have_no_say():
    values = [[[0.2] * 4, [0.3] * 4], [[0.4] * 4, [0.1] * 4]]
    found = results(values, groups=("images", "exact"))
    table = benchmark.decision(found, READING, rule="smith_max", optimizers=["adamw"])
    row = case(table, network="any")
    assert row["schedule"] == "m0" and row["problems"] == 1


def test_the_peak_is_told_by_what_a_range_test_reads():
    found = with_range_tests(results([[[0.2] * 4]] * 3), [1.0, 3.0, 0.3])
    row = case(
        benchmark.decision(found, READING, rule="smith_max"), optimizer="adamw", network="any"
    )
    assert row["peak"] == pytest.approx(0.3)
    assert (row["peak_low"], row["peak_high"]) == pytest.approx((0.2, 0.65))


def test_an_arm_is_judged_on_problems_that_did_not_choose_it():
    """The first two problems alone would choose a, which is bad on the third."""
    losses = {("a", 1.0): [0.1, 0.1, 0.9], ("c", 0.3): [0.2, 0.2, 0.2]}
    found = with_range_tests(untuned(results([[[0.1] * 4]] * 3), losses), [1.0] * 3)
    table = benchmark.decision(found, READING, rule="smith_max", optimizers=["adamw"])
    row = case(table, network="any", tuning="no")
    assert (row["schedule"], row["peak"], row["warmup"]) == ("c", 0.3, 0.0)
    judged = np.log([0.2, 0.2, 0.9]) - np.log(0.1)
    assert row["percent"] == pytest.approx(100 * np.expm1(judged.mean()), rel=1e-6)


def test_a_family_does_not_choose_for_its_own():
    """The first two share their data: alone, the third would choose a for them."""
    losses = {("a", 1.0): [0.3, 0.9, 0.1], ("c", 0.3): [0.1, 0.1, 0.2]}
    found = with_range_tests(untuned(results([[[0.1] * 4]] * 3), losses), [1.0] * 3)
    percents = []
    for families in ([], [["p0", "p1"]]):
        reading = {**READING, "families": families}
        table = benchmark.decision(found, reading, rule="smith_max", optimizers=["adamw"])
        percents.append(case(table, network="any", tuning="no")["percent"])
    apart = np.log([0.1, 0.1, 0.2]) - np.log(0.1)
    together = np.log([0.3, 0.9, 0.2]) - np.log(0.1)
    whole = np.mean([together[:2].mean(), together[2]])
    assert percents == pytest.approx([100 * np.expm1(apart.mean()), 100 * np.expm1(whole)])


@pytest.mark.parametrize("tuning", ["no", "yes"])
def test_problems_of_one_family_share_the_luck_of_their_seeds(tuning):
    """A second problem that is a copy of the first tells nothing new, unless it has other data."""
    one = untuned(results([[[0.1] * 4]]), {("a", 0.3): [0.3]})
    luck = 0.3 * np.exp([0.0, 0.2, 0.4, 0.6, 0.1, 0.3])
    reached = luck[one.report["seed"]]
    whole = one.report.assign(tune=reached, **dict.fromkeys(CUTS.values(), 2 * reached))
    report = pd.concat([whole, *(one.report.assign(horizon=cut) for cut in CUTS)])
    first = one.untuned[one.untuned["seed"] == 0]
    runs = pd.concat([first.assign(seed=seed, test=end) for seed, end in enumerate(luck)])
    one = dataclasses.replace(one, report=report, untuned=runs)
    two = benchmark.evidence.gathered([one, renamed(one, "p1")])
    ends = []
    for found, families in ((one, [["p0", "p1"]]), (two, [["p0", "p1"]]), (two, [])):
        reading = {**READING, "families": families}
        table = benchmark.decision(found, reading, rule="smith_max", optimizers=["adamw"])
        which = dict(tuning="no") if tuning == "no" else dict(horizon="unknown")
        row = case(table, network="any", **which)
        ends.append((row["low"], row["high"]))
    assert ends[1] == pytest.approx(ends[0]) and ends[0][1] > ends[0][0] > 0
    assert np.ptp(ends[2]) < 0.9 * np.ptp(ends[0])


def renamed(found, label):
    tables = {
        name: getattr(found, name).assign(problem=label) for name in ("trials", "report", "untuned")
    }
    return benchmark.Evidence(**tables, provenance={label: dict(*found.provenance.values())})


def test_runs_that_may_be_stopped_at_any_time():
    """m0 ends best, but is far above the planned ones before; m1 is always near them."""
    found = results([[[0.2] * 4, [0.22] * 4]])
    parts = [found.report]
    for cut, column in CUTS.items():
        early = found.report["schedule"].map({"m0": 2.0, "m1": 0.5})
        parts[0] = parts[0].assign(**{column: early})
        parts.append(found.report.assign(horizon=cut, tune=0.4))
    found = dataclasses.replace(found, report=pd.concat(parts, ignore_index=True))
    table = benchmark.decision(found, READING, rule="smith_max", optimizers=["adamw"])
    row = case(table, horizon="unknown")
    assert (row["schedule"], row["worse"]) == ("m1", "m0")
    mean = (3 * np.log(0.5 / 0.4) + np.log(0.22 / 0.2)) / 4
    assert row["percent"] == pytest.approx(100 * np.expm1(mean), rel=1e-6)


def test_the_sentences_name_what_the_table_has():
    values = [[[0.2] * 4, [0.4] * 4], [[0.3] * 4, [0.6] * 4]]
    losses = {("a", 0.3): [0.3, 0.3], ("b", 1.0): [0.9, 0.9]}
    found = with_range_tests(untuned(results(values), losses), [1.0, 1.0])
    told = benchmark.sentences(found, READING, rule="smith_max")
    assert len(told) == 4  # no horizon but the whole
    assert "peak that you tune: m0**. Over 2 problems" in told[0]
    assert "Not the best on these problems: m1; in the mean of all" in told[0]
    assert "0.3 times" in told[2] and "a warmup of 10% (half: 10% to 10%)" in told[2]
    assert "a with adamw at 0.3 times" in told[3]
    swapped = [[m[1], m[0]] for m in values]
    assert "tune: m1**." in benchmark.sentences(results(swapped), READING, rule="smith_max")[0]
    with pytest.raises(ValueError, match="momentum"):
        benchmark.sentences(results(values, optimizers=["sgd"]), READING, rule="smith_max")
