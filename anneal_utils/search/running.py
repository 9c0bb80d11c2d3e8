"""One task of a plan: tune the usual schedules, search, report, draw around what was found."""

import datetime
import platform
import time

from anneal_utils import _checks, identity, training
from anneal_utils.benchmark import evidence
from anneal_utils.benchmark.chunks import cell_of
from anneal_utils.benchmark.entrants import maker_of, problem_of
from anneal_utils.benchmark.plan import Plan
from anneal_utils.search.plan import Task
from anneal_utils.search.reporting import BASE, FOUND, NO_FALL, NO_RISE, flatness, report
from anneal_utils.search.results import Result
from anneal_utils.search.searching import search
from anneal_utils.search.usual import TUNING, candidates_of, rescaled, retuned, tuned

import numpy as np


def carried_out(task: Task, base: Result | None = None, *, store=None) -> Result:
    """The result of a task; ``base``: that of the one it varies.

    The usual schedules are the benchmark's, where the task says how many of its trials are
    candidates; else those that :func:`tuned` finds. Beside them stand other shapes, each with its
    peak tuned anew: the found one without its rise and without its fall (a constant rate before or
    after its largest), and the base's; that one as it is where only the start differs.
    """
    if task.of is not None and base is None:
        told = f"{', '.join(task.of)} must be searched first, in the same folder"
        _checks.fail("of", task.problem, told)
    started = time.time()
    problem, optimizer = problem_of(task.problem), {task.optimizer: maker_of(task.optimizer)}
    given = task.given
    if given.get("candidates"):
        known = evidence.load(evidence.COMMITTED)
        plan = Plan.read()
        some = candidates_of(known, task.problem, task.optimizer, given["candidates"], plan)
        also = dict(factors=given["factors"], seeds=given["tuning_seeds"], store=store)
        usual = retuned(problem, optimizer, some, **also)
    else:
        usual = tuned(task.problem, task.optimizer, store=store)
    found = search(task.problem, task.optimizer, **task.search(), store=store)
    told = {label: list(one) for label, one in usual.items()}  # with their knobs, for the record
    shapes = _without(found.rates)
    if base is not None and task.seed:
        usual[BASE] = base.found.schedule(found.steps)
    elif base is not None:
        shapes[BASE] = base.found.rates
    centre = float(np.exp(np.log(found.rates).mean()))
    also = dict(centre=centre, seeds=given.get("tuning_seeds", 8), store=store)
    for label, rates in shapes.items():
        usual[label] = rescaled(problem, optimizer, found.places, rates, **also)
    measured = report(found, usual, seeds=range(given["report_seeds"]), store=store)
    flat = None
    if given.get("flat_draws"):
        which = dict(draws=given["flat_draws"], widths=given["flat_widths"])
        flat = flatness(found, **which, seeds=range(given["flat_seeds"]), store=store)
    facts = _provenance(task, found, base, time.time() - started)
    return Result(found, measured, flat, {**facts, "usual": told})


def _without(rates) -> dict[str, np.ndarray]:
    """The rates [knots] without their rise and without their fall, where they have one."""
    top, shapes = int(rates.argmax()), {}
    before = np.arange(len(rates)) < top
    if before.any():
        shapes[NO_RISE] = np.where(before, rates[top], rates)
    if top < len(rates) - 1:
        shapes[NO_FALL] = np.where(before, rates, rates[top])
    return shapes


def _provenance(task: Task, found, base: Result | None, seconds: float) -> dict:
    return {
        "task": task.digest,
        "of": None if task.of is None else list(task.of),
        "base": None if base is None else base.report.cells[FOUND],
        "what": task.what,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        # Of this call: what an earlier one has computed is read.
        "minutes": round(seconds / 60, 2),
        "computed": found.history.attrs["computed"],
        "read": found.history.attrs["read"],
        "seeds": {
            "tuning": TUNING,
            "search": list(found.seeds),
            "report": task.given["report_seeds"],
        },
        "versions": {"python": platform.python_version(), "numpy": identity.version("numpy")}
        | {"cma": identity.version("cma")},
        "environment": identity.environment(),
        "machine": {"cores": training.cores(), "processor": identity.processor()},
    }


def holds(known: Result, task: Task, base: Result | None = None) -> bool:
    """Whether a result is of this task and this base, and its runs are still what was run."""
    facts = known.provenance
    if facts.get("task") != task.digest:
        return False
    if base is not None and facts.get("base") != base.report.cells[FOUND]:
        return False
    problem, optimizer = known.found.setting
    recipe, seeds = {FOUND: known.found.recipe}, list(known.report.losses.index)
    runs = training.grid(recipe, (), seeds, optimizer)
    return cell_of(training.identities(problem, runs)) == known.report.cells[FOUND]
