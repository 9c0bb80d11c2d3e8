"""The committed results of searches are of the committed plan and of this code."""

from anneal_utils import identity, problems, schedules, search, theory
from anneal_utils.search import running

import numpy as np
import pytest

TASKS = {(t.problem, t.optimizer, t.seed): t for t in search.tasks()}
FOUND = {result.key: result for result in search.load(search.COMMITTED)}
# Data that are the same bits on every processor, and runs that are cheap to name.
CHEAP = [("article", "momentum", 0), ("digits", "momentum", 0), ("digits:epochs=15", "momentum", 0)]


def test_every_search_of_the_plan_is_there_and_no_other():
    assert set(FOUND) == set(TASKS)
    for key, result in FOUND.items():
        assert result.provenance["task"] == TASKS[key].digest, f"{key}: of another plan"
        assert len(result.report.losses) == TASKS[key].given["report_seeds"]
        assert result.report.losses.notna().all(axis=None)


@pytest.mark.parametrize("key", CHEAP, ids=str)
def test_their_runs_are_those_of_this_code(key):
    facts, here = FOUND[key].provenance, identity.environment()
    if any(facts["environment"][k] != here[k] for k in ("architecture", "system", "devices")):
        pytest.skip("the results are of another kind of machine, where every bit may differ")
    if facts["machine"]["processor"] != identity.processor():
        pytest.skip("the results are of another processor, whose powers may differ in a bit")
    assert running.holds(FOUND[key], TASKS[key])


def test_the_best_that_theory_allows_is_found_within_two_percent():
    curvature = 1 / np.arange(1, 21)
    noise, steps = np.sqrt(curvature), problems.load("noisy_quadratic").epochs * 10

    def excess(rates):
        return theory.noisy_quadratic(rates, curvature, noise)[-1]

    optimum = excess(theory.best_rates(steps, curvature, noise))
    for seed in (0, 1):
        found = FOUND["noisy_quadratic", "sgd", seed].found
        rates = schedules.values(found.recipe, steps).astype(float)
        assert optimum < excess(rates) < 1.02 * optimum
