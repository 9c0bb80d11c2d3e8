"""The committed results are of the committed plan and of this code, bit for bit."""

import dataclasses

from anneal_utils import benchmark, identity, problems
from anneal_utils.benchmark import draws, staleness, tuning
from anneal_utils.training.trainer import outcomes_of

import numpy as np
import pytest

PLAN, FOUND = benchmark.Plan.read(), benchmark.load(benchmark.COMMITTED)
# Their data are integers or uniform draws: the same bits on every processor.
EXACT = {"article", "deep_mlp", "digits", "digits_noisy", "digits_cnn", "digits_residual"}


def same_machine(facts) -> bool:
    here = identity.environment(), identity.processor()
    return here == (facts["environment"], facts["machine"]["processor"])


def test_they_are_of_the_committed_plan():
    for label, facts in FOUND.provenance.items():
        assert facts["plan"] == PLAN.of(label).digest, f"{label} was measured by another plan"
        assert facts["version"] <= PLAN.version and facts["group"] == PLAN.entries[label].group


def test_they_hold_what_the_plan_says():
    for label in FOUND.provenance:
        entry, part = PLAN.entries[label], FOUND.select(problem=label)
        settings = {(s.optimizer, s.horizon) for s in PLAN.settings(label)}
        assert set(map(tuple, part.report[["optimizer", "horizon"]].values)) == settings
        cells = part.trials.groupby(["optimizer", "horizon", "schedule", "widened"])
        assert set(cells.size()) == {entry.trials * entry.tuning}
        assert set(cells["trial"].nunique()) == {entry.trials}
        cells = part.report.groupby(["optimizer", "horizon", "schedule"])
        assert set(cells.size()) == {PLAN.protocol["candidates"] * entry.report}
        assert set(part.report["schedule"]) == set(entry.methods)
        assert (part.report[["tune", "test"]] <= np.float32(FOUND.provenance[label]["chance"])).all(
            axis=None
        )
    assert draws.coverage(FOUND, PLAN.reading["best_of"]) > 0.99


@pytest.mark.parametrize("label", list(FOUND.provenance))
def test_some_of_their_identities_are_those_of_this_code(label):
    """`python -m anneal_utils.benchmark run` mends; versions are part of an identity."""
    facts, here = FOUND.provenance[label], identity.environment()
    if any(facts["environment"][k] != here[k] for k in ("architecture", "system", "devices")):
        pytest.skip("the results are of another kind of machine, where every bit may differ")
    if facts["machine"]["processor"] != identity.processor() and label not in EXACT:
        pytest.skip("the results are of another processor, where the data may differ in a bit")
    part = FOUND.select(problem=label)
    told = benchmark.stale(part, sample=12, seed=1)
    assert told.empty, told.to_string()


def test_another_identity_is_told():
    part = FOUND.select(problem="noisy_quadratic")
    one = part.select(optimizer="sgd")
    changed = dataclasses.replace(one, trials=one.trials.assign(cell="another"))
    told = benchmark.stale(changed, sample=40)
    assert set(told["table"]) == {"trials"} and set(told["problem"]) == {"noisy_quadratic"}


@pytest.mark.parametrize(
    "problem, optimizer, horizon", [("noisy_quadratic", "adamw", 0.25), ("article", "muon", 1.0)]
)
def test_a_slice_computed_anew_has_the_same_bits(problem, optimizer, horizon):
    facts = FOUND.provenance[problem]
    if not same_machine(facts):
        pytest.skip("the results are of another machine or of other versions")
    part = FOUND.select(problem=problem, optimizer=optimizer, horizon=horizon)
    for name, seeds in (("trials", 3), ("report", 10)):
        table = getattr(part, name)
        first = table[(table["schedule"] == "linear")].head(2 * seeds)
        for _, rows in first.groupby("trial", sort=False):
            chunk = staleness._chunk(rows, optimizer, facts["load"], "linear")
            given = problems.load(problem), chunk.runs("")
            outcomes, computed = outcomes_of(*given, mode=facts["mode"], store=False)
            assert computed == seeds
            again = tuning.rows_of(given[0], chunk, outcomes)
            assert list(rows["cell"]) == [again["cell"]] * seeds
            for column in ("tune", "test"):
                assert list(rows[column]) == list(np.float32(again[column])), column
