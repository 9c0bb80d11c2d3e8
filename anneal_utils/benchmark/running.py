"""The benchmark from end to end: a plan, its runs, what was measured."""

import datetime
import hashlib
import platform
import time
from collections.abc import Iterable
from pathlib import Path

from anneal_utils import _checks, _internals, headless, identity, training
from anneal_utils.benchmark import evidence, tuning, untuned
from anneal_utils.benchmark.driver import Driver
from anneal_utils.benchmark.entrants import build, listed, problem_of
from anneal_utils.benchmark.evidence import Evidence
from anneal_utils.benchmark.executors import executor_of
from anneal_utils.benchmark.finished import Cache
from anneal_utils.benchmark.plan import Plan, epochs_at
from anneal_utils.benchmark.plugins import Plugin, load_plugin, refuse_what_workers_lack
from anneal_utils.benchmark.spaces import AXES
from anneal_utils.benchmark.staleness import stale
from anneal_utils.benchmark.tuning import trials_of
from anneal_utils.problems import Problem

import keras
import numpy as np
import pandas as pd
from tqdm.auto import tqdm

# Not Normalization, which scales inputs, nor SpectralNormalization, which scales weights.
_NORMALISING = (
    keras.layers.BatchNormalization,
    keras.layers.GroupNormalization,
    keras.layers.LayerNormalization,
    keras.layers.RMSNormalization,
    keras.layers.UnitNormalization,
)


def run(
    plan: Plan | str | Path | None = None,
    *,
    problems=None,
    schedules: str | Iterable[str] | None = None,
    optimizers: str | Iterable[str] | None = None,
    horizons: float | Iterable[float] | None = None,
    trials: int | None = None,
    tuning_seeds: int | None = None,
    report_seeds: int | None = None,
    out: str | Path | None = None,
    fresh: bool = False,
    jobs: int = 1,
    dask: str | None = None,
    cache=None,
    plugins: str | Path | Plugin | Iterable = (),
    mode: str = "auto",
    progress: bool | None = None,
) -> Evidence:
    """Measure what the plan says, problem by problem; finished runs are read from the store.

    ``plan``: a :class:`Plan`, its file, or None for the committed one. Of it only these:
    ``problems`` (labels; also registered problems and ``Problem`` objects, which the plan need not
    know and which work in this process only), ``schedules`` (labels of methods, or registered
    schedules, which are tuned in peak and warmup), ``optimizers``, ``horizons`` (multiples of each
    problem's epochs). ``trials`` (a power of two), ``tuning_seeds``, ``report_seeds``: in place of
    the plan's.

    ``out``: a folder in which each problem is saved when it is done; one whose results are there
    already, of this plan and of these versions, is not computed again unless ``fresh``. ``jobs``:
    processes (1: this one, with threads); ``dask``: a scheduler's address instead. ``cache``: a
    store (see :mod:`anneal_utils.store`). ``plugins``: files that register more.

    ``ValueError`` for bad input, and for a plan above its own budget; :class:`Stopped` or
    ``OSError`` where it could not go on.

    >>> small = dict(trials=4, tuning_seeds=2, report_seeds=2, progress=False)
    >>> found = run(problems="article", schedules=["constant", "linear"], **small)
    >>> sorted(set(found.report["optimizer"]))
    ['adamw', 'momentum']
    """
    plugins = listed("plugins", plugins, str | Path | Plugin, "must be a file or a list of files")
    plugins = [p if isinstance(p, Plugin) else Plugin.read(p) for p in plugins]
    for plugin in plugins:
        load_plugin(plugin)
    given = (problems, schedules, optimizers, horizons, trials, tuning_seeds, report_seeds)
    plan = planned(plan, *given)
    jobs = _checks.count("jobs", jobs)
    _checks.choice("mode", mode, ("auto", "graph", "xla"))
    check(plan)
    if jobs > 1 or dask is not None:
        where = [entry.load for entry in plan.entries.values()], plan.optimizers()
        refuse_what_workers_lack(*where, [method.schedule for method in plan.methods.values()])
    keep = Cache(cache, mode)
    show = not headless() if progress is None else progress
    runs, parts = plan.cost().set_index("problem")["runs"], []
    with (
        executor_of(jobs, dask) as (executor, width, threads, place),
        tqdm(total=int(runs.sum()), disable=not show, delay=2, unit="run") as bar,
    ):
        for label in plan.entries:
            part = None if fresh or out is None else _finished(plan, label, out, plugins, mode)
            if part is None:
                started, driver = time.time(), Driver(executor, width, threads, keep, plugins, bar)
                tuned = plan.settings(label)
                plain = [setting for setting in tuned if untuned.wanted(plan, setting)]
                protocols = [tuning.protocol_of(plan, setting) for setting in tuned]
                found = driver.run(protocols + [untuned.protocol_of(plan, s) for s in plain])
                facts = _facts(plan, label, plugins, mode, place)
                facts["minutes"] = round((time.time() - started) / 60, 2)
                facts["runs"] = {"computed": driver.computed, "from_cache": driver.reused}
                part = _evidence(label, facts, found[: len(tuned)], found[len(tuned) :])
                if out is not None:
                    evidence.save(part, out)
            else:
                bar.update(int(runs[label]))
            parts.append(part)
    return evidence.gathered(parts)


def planned(
    plan=None,
    problems=None,
    schedules=None,
    optimizers=None,
    horizons=None,
    trials=None,
    tuning_seeds=None,
    report_seeds=None,
) -> Plan:
    """The plan that :func:`run` follows when it is given these arguments."""
    plan = plan if isinstance(plan, Plan) else Plan.read(*([] if plan is None else [plan]))
    numbers = {"trials": trials, "tuning": tuning_seeds, "report": report_seeds}
    return plan.select(
        problems=_several("problems", problems, str | Problem),
        methods=_several("schedules", schedules, str),
        optimizers=_several("optimizers", optimizers, str),
        horizons=_several("horizons", horizons, int | float),
        **{name: value for name, value in numbers.items() if value is not None},
    )


def check(plan: Plan) -> None:
    """``ValueError`` where something of the plan could not be computed, or costs too much."""
    cost, budget = plan.cost().set_index("problem")["minutes"], plan.protocol["minutes"]
    # What needs a download was asked for by name, and has a price of its own.
    minutes = sum(cost[label] for label, entry in plan.entries.items() if not entry.downloaded)
    if minutes > budget:
        _checks.fail("plan", f"{minutes:.0f} minutes", f"must cost at most its budget of {budget}")
    for label, entry in plan.entries.items():
        problem = problem_of(entry.load)
        if problem.sign < 0 or not problem.chance > 0:
            rule = "must be a loss above 0: methods are compared by ratios of it"
            _checks.fail("problem.target", problem.target, rule)
        shortest = min(plan.settings(label), key=lambda setting: setting.horizon)
        steps = epochs_at(problem.epochs, shortest.horizon) * problem.steps_per_epoch
        for name in entry.methods:
            for end in (0.0, 1 - 1e-9):
                # Without the optimizer's own knobs, and with each knob at both of its ends.
                places = np.full((1, AXES), end)
                (trial,) = trials_of(plan, plan.methods[name], "", 0.1, 1.0, places)
                build(plan.methods[name].schedule, trial.knobs, steps)


def _several(argument: str, given, kinds):
    if given is None:
        return None
    found = listed(argument, given, kinds, "must be one, or a list of them, as help tells")
    if not found:
        _checks.fail(argument, found, "must hold at least one")
    return found


def _finished(plan: Plan, label: str, out, plugins, mode: str) -> Evidence | None:
    """The problem's results in ``out``, if they are of this plan and of this code."""
    facts = evidence.facts_of(out, label)
    if facts is None or not isinstance(plan.entries[label].load, str):
        return None
    here = (plan.of(label).digest, identity.environment(), _digests(plugins), mode)
    if here != (facts["plan"], facts["environment"], facts["plugins"], facts["mode"]):
        return None
    found = evidence.load(out, [label])
    return found if stale(found, sample=20).empty else None


def _digests(plugins: Iterable[Plugin]) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.source.encode()).hexdigest() for p in plugins}


def _facts(plan: Plan, label: str, plugins, mode: str, place: str) -> dict:
    entry = plan.entries[label]
    problem = problem_of(entry.load)
    by_text = isinstance(entry.load, str)
    return {
        "version": plan.version,
        "plan": plan.of(label).digest,
        "load": entry.load if by_text else None,
        "group": entry.group,
        "chance": float(problem.chance),
        "target": problem.target,
        "epochs": problem.epochs,
        "steps_per_epoch": problem.steps_per_epoch,
        "test_samples": problem.samples("test"),
        "normalised": _is_normalised(problem),
        "schedules": {name: plan.methods[name].schedule for name in entry.methods},
        "tuning_seeds": [plan.protocol["first_tuning_seed"], entry.tuning],
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "plugins": _digests(plugins),
        "versions": {"python": platform.python_version(), "numpy": identity.version("numpy")},
        "environment": identity.environment(),
        "mode": mode,
        "machine": {
            "cores": training.cores(),
            "processor": identity.processor(),
            "executor": place,
        },
    }


def _is_normalised(problem: Problem) -> bool:
    """Whether the model has layers that normalise what goes through it."""
    layers = _internals.layers_of(problem.build(), include_self=False)
    return any(isinstance(layer, _NORMALISING) for layer in layers)


def _evidence(label: str, facts: dict, tuned: list, plain: list) -> Evidence:
    """The tables of a problem, from what the protocols of its settings returned."""
    single = {"tune": "float32", "test": "float32", "lost": "int32"}
    first = ["problem", "optimizer", "horizon", "epochs", "schedule", "trial", "peak", "knobs"]
    tables = {}
    for names, found in ((("trials", "report"), tuned), (("ranges", "untuned"), plain)):
        for name, some in zip(names, zip(*found, strict=True), strict=False):
            table = pd.concat(some, ignore_index=True)
            if table.empty:
                continue
            own = [column for column in first if column in table]
            table = table[[*own, *[column for column in table if column not in own]]]
            kinds = {column: kind for column, kind in single.items() if column in table}
            texts = [c for c in ("problem", "optimizer", "rule") if c in table]
            tables[name] = table.astype(kinds | dict.fromkeys(texts, "str"))
    return Evidence(**tables, provenance={label: facts})
