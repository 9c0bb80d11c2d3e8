"""What runs end with, as a search counts it, and which seeds it may use."""

from collections.abc import Mapping

from anneal_utils import _checks, optimizers, training
from anneal_utils.benchmark.entrants import label_of, maker_of, problem_of
from anneal_utils.problems import Problem
from anneal_utils.training.frames import Outcome, lost_at
from anneal_utils.training.trainer import outcomes_of

import numpy as np

SEEDS = 1_000_000  # search k takes its seeds from (k + 1) times this on; nothing else does
_TINY = 1e-30  # a loss of exactly 0 has a logarithm too


def setting_of(problem, optimizer) -> tuple[Problem, str, str, object]:
    """Problem, its label, the optimizer's label and what makes it; ``ValueError`` names which."""
    label, problem = label_of(problem), problem_of(problem)
    if problem.sign < 0 or not problem.chance > 0:
        rule = "must be a loss above 0, whose logarithm a search can average"
        _checks.fail("problem.target", problem.target, rule)
    if isinstance(optimizer, Mapping):
        if len(optimizer) != 1:
            _checks.fail("optimizer", optimizer, "must be one, or {label: one}")
        ((name, make),) = optimizer.items()
    elif isinstance(optimizer, str) and ":" in optimizer:
        name, make = optimizer, maker_of(optimizer)
    else:
        name, make = optimizers.catalogue.label(optimizer), optimizer
    optimizers.catalogue.maker(make)
    return problem, label, str(name), make


def part_of(problem: Problem) -> str:
    """The part that reports are read from: test where there is one, else val."""
    return "test" if problem.samples("test") else "val"


def losses_of(problem: Problem, outcomes: list[Outcome], part: str = "val") -> np.ndarray:
    """The target of each outcome on ``"val"`` or ``"test"``, [runs].

    At most what a model scores that has learned nothing: failing is the worst, however far out
    a run has ended.
    """
    name = problem.target.removeprefix("val_")
    if part == "test":
        found = [outcome.test[outcome.names.index(name)] for outcome in outcomes]
    else:
        found = [outcome.end(problem.target) for outcome in outcomes]
    found = np.array(found, float)
    lost = np.array([lost_at(outcome, problem.steps_per_epoch) >= 0 for outcome in outcomes])
    return np.where(lost | ~(found < problem.chance), problem.chance, found)


def logs_of(losses) -> np.ndarray:
    """Logarithms of losses."""
    return np.log(np.maximum(losses, _TINY))


def trained(problem: Problem, runs: list[training.Run], *, store=None) -> tuple[list, int]:
    """What the runs gave, and how many were computed, not read."""
    return outcomes_of(problem, runs, progress=False, store=store)
