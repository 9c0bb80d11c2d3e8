"""Results know the code that they are of, and the committed ones are of this code, bit for bit."""

import dataclasses

from anneal_utils import identity, problems
from anneal_utils.benchmark import first as benchmark

import pandas as pd
import pytest

pytest_plugins = ["benchmark_fixtures"]


def test_results_know_the_code_that_they_are_of(reference, monkeypatch):
    results, _ = reference
    assert benchmark.stale(results).empty
    one = results.report.copy()
    one.loc[3, "run"] = one.loc[4, "run"]
    trials = results.trials.assign(run=results.trials["run"].where(results.trials.index != 2, "x"))
    told = benchmark.stale(dataclasses.replace(results, report=one, trials=trials))
    assert sorted(told["table"]) == ["report", "trials"]
    # Another program behind the same names: every row of that problem is told.
    monkeypatch.setattr(
        problems.models, "point", lambda start: problems.models.linear(len(start), 1)
    )
    problems.catalogue.made.cache_clear()
    told = benchmark.stale(results)
    problems.catalogue.made.cache_clear()
    assert len(told) and set(told["problem"]) == {
        p for p in set(results.report["problem"]) if p.startswith("quadratic")
    }


# Their data are integers or uniform draws: the same bits on every processor.
EXACT = {"article", "deep_mlp", "digits", "digits_noisy", "digits_cnn"}


def test_the_committed_results_are_those_of_this_code():
    """One setting of every problem, identities only; `python -m anneal_utils.benchmark run` mends.

    Versions are part of it: an update of TensorFlow or Keras asks for new results.
    """
    results = benchmark.load(benchmark.COMMITTED)
    before, here = results.provenance["environment"], identity.environment()
    kind = ("architecture", "system", "devices")
    if any(before[name] != here[name] for name in kind):
        pytest.skip("the results are of another kind of machine, where every bit may differ")
    keys = ["problem", "optimizer", "horizon"]
    settings = results.report[keys].drop_duplicates()
    if results.provenance["machine"]["processor"] != identity.processor():
        settings = settings[settings["problem"].isin(EXACT)]
    some = settings.groupby("problem").sample(1, random_state=0)
    part = dataclasses.replace(
        results,
        report=results.report.merge(some, on=keys),
        trials=results.trials.merge(some, on=keys),
    )
    assert part.report["problem"].nunique() >= len(EXACT)
    told = benchmark.stale(part)
    assert told.empty, told.to_string()
    # and it can fail: an identity of one row put into another is told
    swapped = part.report.assign(run=part.report["run"].to_numpy()[::-1])
    one = swapped.merge(some.head(1), on=keys)
    assert not benchmark.stale(dataclasses.replace(part, report=one)).empty


SLICE = [  # problem, optimizer, horizon, schedules: seconds, not minutes
    ("quadratic", "adam", 1.0, ["cosine", "step"]),
    ("article", "momentum", 0.125, ["one_cycle"]),
]


@pytest.mark.parametrize("problem, optimizer, horizon, names", SLICE)
def test_a_slice_of_the_committed_results_computed_anew_has_the_same_bits(
    problem, optimizer, horizon, names, tmp_path
):
    """Identities and values; on another machine the identities alone, see the test above."""
    results = benchmark.load(benchmark.COMMITTED)
    provenance = results.provenance
    here = provenance["environment"], provenance["machine"]["processor"]
    if here != (identity.environment(), identity.processor()):
        pytest.skip("the results are of another machine or of other versions")
    again = benchmark.run(
        [problem],
        names,
        [optimizer],
        horizons=[horizon],
        **provenance["protocol"],
        mode=provenance["mode"],
        cache=tmp_path,
    )
    assert again.provenance["runs"]["from_cache"] == 0
    for name, own in (("trials", ["kind", "schedule", "peak"]), ("report", ["schedule", "seed"])):
        whole, part = getattr(results, name), getattr(again, name)
        setting = (whole[["problem", "optimizer", "horizon"]] == [problem, optimizer, horizon]).all(
            axis=1
        )
        rows = whole[setting & (whole["schedule"].isin(names) | (whole.get("kind") == "scan"))]
        assert len(rows) and rows["run"].str.len().eq(32).all()
        rows, part = (table.sort_values(own, ignore_index=True) for table in (rows, part))
        # Values first: where these are equal and identities are not, the program alone is another.
        for columns in (rows.columns.drop("run"), ["run"]):
            pd.testing.assert_frame_equal(part[columns], rows[columns], check_exact=True)
