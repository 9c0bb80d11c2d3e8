"""The benchmark from end to end: plan, compute, gather."""

import datetime
import hashlib
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from anneal_utils import _checks, headless, identity, training
from anneal_utils.benchmark.driver import Driver
from anneal_utils.benchmark.entrants import label_of, listed, problem_of
from anneal_utils.benchmark.executors import executor_of
from anneal_utils.benchmark.finished import Cache
from anneal_utils.benchmark.first.planning import plan
from anneal_utils.benchmark.first.protocol import METHOD, as_then
from anneal_utils.benchmark.first.results import Results, plain_text
from anneal_utils.benchmark.first.tables import FORMAT
from anneal_utils.benchmark.first.trials import protocol_of
from anneal_utils.benchmark.plugins import Plugin, load_plugin, refuse_what_workers_lack
from anneal_utils.problems import Problem

import pandas as pd
from tqdm.auto import tqdm


def run(
    problems: str | Problem | Iterable[str | Problem] | None = None,
    schedules: str | tuple | Iterable | Mapping | None = None,
    optimizers: str | Iterable[str] = ("sgd",),
    *,
    horizons: float | Iterable[float] = (1.0,),
    extra_horizons: Mapping | None = None,
    extra_problems: str | Problem | Iterable[str | Problem] | None = None,
    jobs: int = 1,
    dask: str | None = None,
    cache=None,
    plugins: str | Path | Plugin | Iterable = (),
    mode: str = "auto",
    progress: bool | None = None,
    **protocol,
) -> Results:
    """Rank schedules under the protocol; finished runs are read from ``cache``, a store.

    Of each of the following one, or a list. ``problems``: names, texts such as
    ``"digits_noisy:noise=0.4"``, or ``Problem`` objects, which are called by their ``name`` and
    work in this process only; by default all that need no download. ``schedules``: names, texts
    such as ``"cosine:warmup=0,0.1"`` (two variants inside one budget; see :func:`parse`) or pairs
    ``("wsd", {"cooldown": 0.3})``, or ``{label: one of these}``; by default all. ``optimizers``:
    of :func:`optimizer_names`. ``horizons``: multiples of each problem's epochs;
    ``extra_horizons``: ``{optimizer: more of them}``, for ``extra_problems`` (default: all).
    ``plugins``: files that register more.

    ``jobs``: processes (1: this one, with threads); ``dask``: a scheduler's address instead.
    ``protocol``: fields of :class:`Protocol`.

    ``ValueError`` for bad input; :class:`Stopped` or ``OSError`` where it could not go on.
    """
    started = time.time()
    plugins = listed("plugins", plugins, str | Path | Plugin, "must be a file or a list of files")
    plugins = [p if isinstance(p, Plugin) else Plugin.read(p) for p in plugins]
    for plugin in plugins:
        load_plugin(plugin)
    extra = (extra_horizons, extra_problems)
    groups, methods, protocol = plan(problems, schedules, optimizers, horizons, extra, protocol)
    jobs = _checks.count("jobs", jobs)
    _checks.choice("mode", mode, ("auto", "graph", "xla"))
    if jobs > 1 or dask is not None:
        names = [name for name, _ in methods.values()]
        where = [group.problem for group in groups], [group.optimizer for group in groups]
        refuse_what_workers_lack(*where, names)
    keep = Cache(cache, mode)
    total = len(groups) * (
        (protocol.peaks is None) * protocol.scan_points * protocol.tuning_seeds
        + len(methods) * (protocol.budget * protocol.tuning_seeds + protocol.seeds)
    )
    show = not headless() if progress is None else progress
    with (
        executor_of(jobs, dask) as (executor, width, threads, place),
        tqdm(total=total, disable=not show, delay=2, unit="run", smoothing=0.05) as bar,
    ):
        driver = Driver(executor, width, threads, keep, plugins, bar)
        parts = driver.run([protocol_of(group, methods, protocol) for group in groups])
        bar.total = bar.n  # the extensions are known now
    trials = pd.DataFrame([row for rows, _ in parts for row in rows])
    competed = {label_of(group.problem): group.problem for group in groups}
    report = pd.concat([table for _, tables in parts for table in tables], ignore_index=True)
    own = [*METHOD, "epochs", "knobs"]
    report = report[[*own, *[column for column in report if column not in own]]]
    provenance = {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "minutes": round((time.time() - started) / 60, 2),
        "runs": {"computed": driver.computed, "from_cache": driver.reused},
        "problems": list(competed),
        "objects": [label for label, one in competed.items() if not isinstance(one, str)],
        "chance": {
            label: float(problem_of(as_then(one)).chance) for label, one in competed.items()
        },
        "optimizers": list(dict.fromkeys(group.optimizer for group in groups)),
        "schedules": list(methods),
        "names": {label: name for label, (name, _) in methods.items()},
        "horizons": sorted({group.horizon for group in groups}),
        "protocol": asdict(protocol),
        "seeds": {"tuning": protocol.tuning(), "report": [0, protocol.seeds - 1]},
        "plugins": {p.name: hashlib.sha256(p.source.encode()).hexdigest() for p in plugins},
        "versions": {"python": platform.python_version(), "numpy": identity.version("numpy")},
        "environment": identity.environment(),
        "mode": mode,
        "machine": {
            "cores": training.cores(),
            "processor": identity.processor(),
            "executor": place,
        },
    }
    return Results(plain_text(trials), plain_text(report), provenance)
