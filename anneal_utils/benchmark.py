"""Every schedule against every other, under one protocol, on one machine or on a cluster.

A *method* is an optimizer with a schedule (and its knobs); it competes on a problem at a horizon.
The protocol gives every method the same number of trials: a logarithmic grid of peaks, around a
centre that one coarse scan finds for all methods of the same problem, optimizer and horizon, and
extended past an edge until the best peak lies inside. Tuning seeds and report seeds are disjoint;
the tuned peak alone is run again on the report seeds, the same for all methods; a diverged run
counts as ``problem.chance_loss`` and as a failure. Sources: Choi et al. 2019 (search spaces),
Schneider et al. 2019 (sensitivity), Schmidt et al. 2021 (equal budgets). Taught in notebook 07.

Runs are computed in chunks: in this process, over processes, or on a Dask cluster, with the same
bits. Finished chunks are kept in a cache, so an interrupted run goes on where it was.

    python -m anneal_utils.benchmark run --profile quick
    python -m anneal_utils.benchmark show
"""

import argparse
import contextlib
import datetime
import errno
import hashlib
import itertools
import json
import os
import platform
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Iterable, Mapping
from concurrent import futures
from dataclasses import asdict, dataclass
from pathlib import Path

from anneal_utils import _needs, _signals

if __name__ == "__main__":  # what follows takes seconds to import
    _signals.exit_with("Stopped before it began.")

if missing := _needs.tensorflow("anneal_utils.benchmark"):
    raise SystemExit(missing) if __name__ == "__main__" else ImportError(missing)

from anneal_utils import (
    _checks,
    _files,
    headless,
    identity,
    optimizers,
    problems,
    schedules,
    statistics,
    training,
)
from anneal_utils.registry import adding
from anneal_utils.training.trainer import names_of

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

FORMAT = 2  # of the results; another number is another meaning of the tables
CACHE = problems.CACHE / "benchmark"
OUT = Path("build") / "benchmark"
COMMITTED = problems.CACHE.parent / "benchmark"  # results of the full profile
DOWNLOADS = ("fashion_mnist", "cifar10")
TUNING = 9000  # tuning seeds start here, report seeds at 0
RUNS_PER_TASK = 96  # what a kill can lose, and what is worth a trip to another process
METHOD = ["problem", "optimizer", "schedule", "horizon"]


class Stopped(RuntimeError):
    """The benchmark could not go on; what was finished is kept. One sentence says why."""


# --------------------------------------------------------------------------- protocol, methods


@dataclass(frozen=True)
class Protocol:
    """What is the same for every method.

    ``budget``: trials of a method, all its knobs included. ``tuning_seeds``: runs of a trial.
    ``seeds``: report runs. ``ratio``: between neighbouring peaks. ``extensions``: trials that may
    be added past an edge of the grid. The scan: ``scan_points`` peaks at ``scan_ratio`` around the
    optimizer's usual rate, with the schedule ``scan_schedule``, once for all methods. ``peaks``: a
    first grid of your own instead, without a scan; then the budget is its length.
    """

    budget: int = 7
    tuning_seeds: int = 10
    seeds: int = 20
    ratio: float = 2.0
    extensions: int = 8
    scan_schedule: str = "linear"
    scan_points: int = 11
    scan_ratio: float = 4.0
    peaks: tuple[float, ...] | None = None

    def __post_init__(self):
        """Check the numbers."""
        if self.peaks is not None:
            peaks = tuple(sorted({_checks.positive("peaks", peak) for peak in self.peaks}))
            if len(peaks) < 3:
                _checks.fail("peaks", self.peaks, "must be at least three different rates")
            object.__setattr__(self, "peaks", peaks)
            object.__setattr__(self, "budget", len(peaks))
        _checks.count("budget", self.budget, low=3)  # an interior optimum has two neighbours
        _checks.count("tuning_seeds", self.tuning_seeds)
        if _checks.count("seeds", self.seeds, low=2) > TUNING:
            _checks.fail("seeds", self.seeds, f"must be <= {TUNING}, where the tuning seeds start")
        for name in ("ratio", "scan_ratio"):
            _checks.number(name, getattr(self, name), low=1, open_low=True)
        _checks.count("extensions", self.extensions, low=0)
        _checks.count("scan_points", self.scan_points)

    def tuning(self) -> list[int]:
        """Seeds of the trials."""
        return list(range(TUNING, TUNING + self.tuning_seeds))


register_optimizer = optimizers.register

# One protocol for both, so that "quick" gives some of the rows of "full", and the same ones.
PROFILES = {
    "quick": dict(
        problems=["article", "digits"],
        schedules=["constant", "step", "cosine", "linear", "triangular", "one_cycle"],
        optimizers=["sgd"],
        horizons=[1.0],
    ),
    "full": dict(
        problems=None,
        schedules=None,
        optimizers=["sgd", "momentum", "adam"],
        horizons=[1.0],
        # The anytime question: four horizons, one optimizer, the problems that train fast.
        extra_horizons={"momentum": [0.125, 0.25, 0.5]},
        extra_problems=[
            *("article", "deep_mlp", "digits", "digits_noisy", "zipf", "wilson"),
            *("quadratic", "quadratic_deep", "least_squares"),
        ],
    ),
}


def default_problems() -> list[str]:
    """Every problem that needs no download."""
    return [name for name in problems.names() if name not in DOWNLOADS]


def optimizer_names() -> list[str]:
    """Names that ``run`` knows as optimizers."""
    return optimizers.names()


@dataclass(frozen=True)
class Chunk:
    """Runs that are computed, kept and read as one: a recipe, its peaks, its seeds."""

    problem: str
    optimizer: str
    epochs: int
    schedule: str
    knobs: tuple  # sorted pairs; "warmup" is one of them
    peaks: tuple
    seeds: tuple

    def __len__(self):
        return len(self.peaks) * len(self.seeds)

    def runs(self, label: str) -> list[training.Run]:
        """The runs, as ``training.grid`` makes them."""
        knobs = dict(self.knobs)
        warmup = knobs.pop("warmup", None)
        return training.grid(
            {label: (self.schedule, knobs)},
            self.peaks,
            self.seeds,
            {self.optimizer: optimizers.catalogue.registry[self.optimizer]},
            epochs=self.epochs,
            warmup=warmup,
        )


def _value(text: str):
    """``text`` as a number where it is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def parse(text: str) -> tuple[str, list[tuple]]:
    """``name:knob=value,value:knob=value`` as (name, every combination of knobs as sorted pairs).

    ``cosine`` has one variant, ``cosine:warmup=0,0.1`` two, which share the method's budget.
    """
    name, *parts = str(text).split(":")
    choices = []
    for part in parts:
        knob, equals, values = part.partition("=")
        if not (knob and equals and values):
            _checks.fail("knob", part, "must be written knob=value, or knob=value,value")
        choices.append([(knob, _value(value)) for value in values.split(",")])
    return name, [tuple(sorted(combination)) for combination in itertools.product(*choices)]


def _problem(text: str) -> problems.Problem:
    """The problem written ``name`` or ``name:knob=value``."""
    name, variants = parse(text)
    _checks.choice("problem", name, problems.names())
    if len(variants) > 1:
        _checks.fail("problem", text, "must give one value to each knob")
    return problems.load(name, **dict(variants[0]))


def _methods(given: Iterable[str]) -> dict[str, tuple[str, list[tuple]]]:
    """Schedules as ``{label: (name, variants)}``, checked."""
    methods = {}
    for text in given:
        name, variants = parse(text)
        _checks.choice("schedule", name, schedules.names())
        for variant in variants:
            knobs = dict(variant)
            warmup = knobs.pop("warmup", None)
            schedules.build(name, 1.0, 1000, warmup=warmup, **knobs)  # refuses an unknown knob
        methods[str(text)] = (name, variants)
    return methods


# ------------------------------------------------------------------------ one group of methods


@dataclass(frozen=True)
class _Group:
    """The methods that share a problem, an optimizer and a horizon, and so a compiled program."""

    problem: str
    optimizer: str
    horizon: float
    epochs: int


def _centred(centre: float, ratio: float, points: int) -> list[float]:
    return [centre * ratio ** (k - (points - 1) // 2) for k in range(points)]


def _protocol(group: _Group, methods: Mapping, protocol: Protocol):
    """The protocol for one group, as a generator: yields chunks, is sent their tables.

    Returns (rows of trials, frames of report). Every round asks for all its chunks at once.
    """

    def chunk(name, knobs, peaks, seeds):
        return Chunk(
            group.problem, group.optimizer, group.epochs, name, knobs, tuple(peaks), tuple(seeds)
        )

    where, chance = asdict(group), _problem(group.problem).chance_loss
    trials = []

    def note(label, knobs, kind, table):
        text = json.dumps(dict(knobs))
        means = (
            _judged(table, chance)
            .groupby("peak")[["run", "value", "lost"]]
            .agg(run=("run", _cell), value=("value", "mean"), failures=("lost", "sum"))
        )
        for peak, run, value, failures in means.itertuples():
            trials.append(
                {**where, "schedule": label, "knobs": text, "kind": kind, "peak": peak}
                | {"value": value, "failures": int(failures), "runs": len(protocol.tuning())}
                | {"run": run}
            )
        return means["value"].to_dict()

    # The centre: one scan, one schedule, whatever the methods are.
    centre = None
    if protocol.peaks is None:
        start = optimizers.catalogue.registry.entry(group.optimizer).facts["centre"]
        peaks = _centred(start, protocol.scan_ratio, protocol.scan_points)
        (table,) = yield [chunk(protocol.scan_schedule, (), peaks, protocol.tuning())]
        scan = note(protocol.scan_schedule, (), "scan", table)
        centre = min(scan, key=scan.get)

    # The grid: the budget is split over the variants of a method.
    tried: dict[str, dict[tuple, dict[float, float]]] = {}
    wanted = []
    for label, (name, variants) in methods.items():
        for knobs, part in zip(
            variants, np.array_split(range(protocol.budget), len(variants)), strict=True
        ):
            grid = protocol.peaks or _centred(centre, protocol.ratio, len(part))
            wanted.append((label, name, knobs, grid))
    kind, added = "grid", dict.fromkeys(methods, 0)
    while wanted:
        tables = yield [chunk(n, knobs, at, protocol.tuning()) for _, n, knobs, at in wanted]
        for (label, _, knobs, _), table in zip(wanted, tables, strict=True):
            tried.setdefault(label, {}).setdefault(knobs, {}).update(
                note(label, knobs, kind, table)
            )
        # The extension: one peak past the edge on which a method's best trial lies.
        kind, wanted = "extension", []
        for label, (name, _) in methods.items():
            knobs, peak = _best(tried[label])
            beyond = _beyond(tried[label][knobs], peak, protocol.ratio)
            if beyond is not None and added[label] < protocol.extensions:
                added[label] += 1
                wanted.append((label, name, knobs, [beyond]))

    # The report: the tuned peak, fresh seeds.
    best = {label: _best(tried[label]) for label in methods}
    tables = yield [
        chunk(methods[label][0], knobs, [peak], range(protocol.seeds))
        for label, (knobs, peak) in best.items()
    ]
    reports = [
        _judged(table, chance).assign(
            **where,
            schedule=label,
            knobs=json.dumps(dict(knobs)),
            trials=sum(map(len, tried[label].values())),
            interior=_beyond(tried[label][knobs], peak, protocol.ratio) is None,
        )
        for (label, (knobs, peak)), table in zip(best.items(), tables, strict=True)
    ]
    return trials, reports


def _cell(identities: Iterable[str | None]) -> str:
    """The identity of a trial: that of its runs, seed by seed."""
    return identity.digest(list(identities))


def _best(tried: Mapping) -> tuple[tuple, float]:
    """The (knobs, peak) of the lowest value; the first of equals."""
    cells = {(knobs, peak): v for knobs, row in tried.items() for peak, v in row.items()}
    return min(cells, key=cells.get)


def _beyond(row: Mapping[float, float], peak: float, ratio: float) -> float | None:
    """The next peak past the edge on which ``peak`` lies, or None where it is interior."""
    if peak == min(row):
        return peak / ratio
    return peak * ratio if peak == max(row) else None


# ------------------------------------------------------------------------------------- plugins


@dataclass(frozen=True)
class Plugin:
    """A user's file that registers schedules, problems or optimizers; workers get its text."""

    name: str
    source: str

    @classmethod
    def read(cls, path) -> "Plugin":
        """The file at ``path``; ``ValueError`` where it can not be read."""
        try:
            return cls(Path(path).name, Path(path).read_text())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not a text file"
            raise ValueError(f"plugin = {str(path)!r}: {reason}.") from error


_loaded: dict[str, str] = {}  # file name: its source
_loading = threading.Lock()  # a Dask worker may have several threads
_REGISTRIES = {
    "schedule": schedules.catalogue.registry,
    "problem": problems.catalogue.registry,
    "optimizer": optimizers.catalogue.registry,
}


def _load_plugin(plugin: Plugin) -> None:
    """Run the plugin once in this process; a changed text of the same name replaces it."""
    with _loading:
        if _loaded.pop(plugin.name, None) != plugin.source:
            _execute(plugin)
        _loaded[plugin.name] = plugin.source


def _execute(plugin: Plugin) -> None:
    """Run the text in place of what it was before. All or nothing."""
    module = types.ModuleType(f"anneal_plugin_{Path(plugin.name).stem}")
    sys.modules[module.__name__] = module  # so that its classes can be pickled and serialised
    for registry in _REGISTRIES.values():
        registry.forget(module.__name__)
    try:
        with adding(plugin.name):
            exec(compile(plugin.source, plugin.name, "exec"), module.__dict__)
    except Exception as error:
        for registry in _REGISTRIES.values():
            registry.forget(module.__name__)
        raise ValueError(f"plugin = {plugin.name!r}: {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------------------- tasks and workers


@dataclass(frozen=True)
class _Task:
    """What a worker gets: chunks of one group, and the names that their runs have here.

    ``names``: for each run its (identity, start), see ``training.trainer.names_of``; None in this
    process, where nothing can be otherwise.
    """

    chunks: tuple
    mode: str
    threads: int | None
    plugins: tuple
    environment: dict
    names: tuple | None


def _compute(task: _Task) -> list[pd.DataFrame]:
    """One small table per chunk: a row per run, in the order of ``Chunk.runs``."""
    if task.names is not None:
        _refuse_other_environment(task.environment)
    for plugin in task.plugins:
        _load_plugin(plugin)
    problem = _problem(task.chunks[0].problem)
    runs = [run for i, chunk in enumerate(task.chunks) for run in chunk.runs(str(i))]
    threads = task.threads
    with contextlib.suppress(ImportError, ValueError):  # not a Dask worker
        from distributed import get_worker

        threads = get_worker().state.nthreads
    if task.names is not None:
        _refuse_other_runs(task, problem, runs)
    frame = training.train(problem, runs, mode=task.mode, threads=threads, progress=False)
    ends = frame[frame["epoch"] == task.chunks[0].epochs - 1]
    ends = ends.assign(diverged_step=ends["diverged_step"].astype("float").fillna(-1))
    groups = dict(iter(ends[[*_COLUMNS, "schedule"]].astype(_COLUMNS).groupby("schedule")))
    return [groups[str(i)][list(_COLUMNS)].reset_index(drop=True) for i in range(len(task.chunks))]


def _refuse_other_environment(expected: Mapping[str, str]) -> None:
    here = identity.environment()
    for name in sorted(set(expected) | set(here)):
        if expected.get(name) != here.get(name):
            raise Stopped(
                f"A worker has other settings than this process: {name} is {here.get(name)} there "
                f"and {expected.get(name)} here; make them the same and start again."
            )


def _refuse_other_runs(task: _Task, problem, runs) -> None:
    """A worker trains only what this process would train."""
    chunks = [chunk for chunk in task.chunks for _ in range(len(chunk))]
    found = names_of(problem, runs, task.mode)
    for chunk, mine, named in zip(chunks, found, task.names, strict=True):
        if mine.start != named.start:
            what = f"Problem {chunk.problem!r} or optimizer {chunk.optimizer!r}"
        elif mine.identity != named.identity:
            what = f"Schedule {chunk.schedule!r}"
        else:
            continue
        raise Stopped(
            f"{what} is something else in a worker than in this process: put what was registered "
            "or changed here into a file and pass it as a plugin."
        )


# What is kept of a run: its identity and what it measured; its labels are the chunk's.
_COLUMNS = {
    "run": "str",
    "train_loss": "float64",
    "val_loss": "float64",
    "val_accuracy": "float64",
    "diverged_step": "int64",
}


def _labelled(chunk: Chunk, table: pd.DataFrame) -> pd.DataFrame:
    """The table of a chunk with the peaks and seeds of its runs."""
    runs = chunk.runs("")
    return pd.DataFrame(
        {
            "run": table["run"],
            "peak": [run.peak for run in runs],
            "seed": [run.seed for run in runs],
            **{column: table[column] for column in list(_COLUMNS)[1:]},
        }
    )


def _judged(table: pd.DataFrame, chance_loss: float) -> pd.DataFrame:
    """The table with ``value``, the held-out loss or the penalty, and ``lost``."""
    lost = (table["diverged_step"] >= 0) | ~np.isfinite(table["val_loss"])
    return table.assign(value=table["val_loss"].where(~lost, chance_loss), lost=lost)


class _Inline:
    """An executor that computes in this process, at once."""

    def submit(self, function, task):
        future = futures.Future()
        try:
            future.set_result(function(task))
        except Exception as error:
            future.set_exception(error)
        return future


@contextlib.contextmanager
def _executor(jobs: int, dask: str | None):
    """(executor, tasks in flight, threads of a task, its description)."""
    if dask is not None:
        with _dask(dask) as (executor, width):
            yield executor, width, 1, "Dask"
    elif jobs > 1:
        from joblib.externals.loky import get_reusable_executor

        # One program per process; XLA's own pool stays at its default size in each.
        executor = get_reusable_executor(
            max_workers=jobs, timeout=60, initializer=_signals.leave_to_parent
        )
        try:
            yield executor, 2 * jobs, 1, f"{jobs} processes"
        except BaseException:
            _signals.ending()
            # Waited for: what it cleans up would otherwise meet the end of this process.
            executor.shutdown(wait=True, kill_workers=True)
            raise
    else:
        yield _Inline(), 1, None, "this process"


@contextlib.contextmanager
def _dask(address: str):
    try:
        import distributed
    except ImportError:
        raise Stopped(
            "--dask needs the package distributed: pip install 'anneal-utils[cluster]'."
        ) from None
    import logging

    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(address, timeout=5, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise Stopped(f"No Dask scheduler answers at {address}: start one, or drop it.") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=30)
        except TimeoutError as error:
            raise Stopped(f"The Dask scheduler at {address} has no worker.") from error
        # Not pure: a task that was computed before is in the cache, not on the cluster.
        executor = client.get_executor(pure=False, retries=2)
        yield executor, 2 * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))


# --------------------------------------------------------------------------------------- cache


class Cache:
    """Finished chunks as files ``<key>.parquet`` in one folder; safe for several processes.

    The key is the digest of the identities of the chunk's runs, so of what they compute: a
    changed closure, helper or setting is another key, a new comment or label is not. A chunk
    whose runs can not be read in full has no key and is never kept.
    """

    def __init__(self, folder, mode: str):
        """``folder`` is made when the first chunk is written."""
        self.folder, self.mode = Path(folder), mode
        self._names: dict[Chunk, list] = {}
        for old in self.folder.glob(".*.part"):  # of a process that was killed while writing
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > 3600:
                    old.unlink()

    def names(self, chunks: Iterable[Chunk]) -> list[list]:
        """The (identity, start) of each run of each chunk; trains nothing."""
        chunks = list(chunks)
        groups: dict = {}
        for chunk in chunks:
            if chunk not in self._names:
                groups.setdefault((chunk.problem, chunk.optimizer, chunk.epochs), []).append(chunk)
        for (problem, *_), members in groups.items():
            runs = [run for i, chunk in enumerate(members) for run in chunk.runs(str(i))]
            found = iter(names_of(_problem(problem), runs, self.mode))
            for chunk in members:
                self._names[chunk] = list(itertools.islice(found, len(chunk)))
        return [self._names[chunk] for chunk in chunks]

    def path(self, chunk: Chunk) -> Path | None:
        """Where the chunk is kept; None where it can not be."""
        identities = [name.identity for name in self.names([chunk])[0]]
        if None in identities:
            return None
        return self.folder / f"{identity.digest(FORMAT, identities)}.parquet"

    def read(self, chunk: Chunk) -> pd.DataFrame | None:
        """The chunk's table, or None: not there, or damaged, which is said."""
        path = self.path(chunk)
        if path is None:
            return None
        try:
            table = _files.unparquet(path.read_bytes(), key=path.stem)
            own = [name.identity for name in self.names([chunk])[0]]
            if list(table) != list(_COLUMNS) or list(table["run"]) != own:
                raise ValueError("does not hold what was written")
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            print(f"{path.name} in the cache {error}: it is computed again.", file=sys.stderr)
            return None
        return table.astype(_COLUMNS)

    def write(self, chunk: Chunk, table: pd.DataFrame) -> None:
        """Keep the chunk's table."""
        path = self.path(chunk)
        if path is not None:
            _files.write(path, _files.parquet(table, key=path.stem))


# -------------------------------------------------------------------------------------- driver


class _Driver:
    """Feeds the protocols of all groups to the executor, a few groups at a time."""

    def __init__(self, executor, width, threads, cache, plugins, bar):
        self.executor, self.width, self.threads = executor, width, threads
        self.cache, self.plugins, self.bar = cache, tuple(plugins), bar
        self.inline = isinstance(executor, _Inline)
        self.tasks: deque = deque()
        self.flying: dict = {}
        self.computed = self.reused = 0

    def run(self, protocols: Iterable) -> list:
        """What every protocol returns, in their order."""
        waiting = deque(enumerate(protocols))
        self.results: list = [None] * len(waiting)
        while waiting or self.tasks or self.flying:
            # The next group starts only when there is too little to do: in this process one
            # after the other, so that its program is compiled once and then left.
            while waiting and len(self.tasks) + len(self.flying) < max(1, self.width // 2):
                index, protocol = waiting.popleft()
                self._advance(index, protocol)
            while self.tasks and len(self.flying) < self.width:
                task, order = self.tasks.popleft()
                self.flying[self.executor.submit(_compute, task)] = (task, order)
            if self.flying:
                self._collect()
        return self.results

    def _advance(self, index, protocol, chunks=(), tables=None) -> None:
        """Send a protocol its tables; read or plan what it asks for next."""
        while True:
            try:
                if tables is not None:
                    tables = list(map(_labelled, chunks, tables))
                chunks = protocol.send(tables)
            except StopIteration as end:
                self.results[index] = end.value
                return
            names = self.cache.names(chunks)
            if not self.inline:
                _refuse_unreadable(chunks, names)
            tables = [self.cache.read(chunk) for chunk in chunks]
            found = sum(len(c) for c, t in zip(chunks, tables, strict=True) if t is not None)
            self.reused += found
            missing = [i for i, table in enumerate(tables) if table is None]
            self.bar.update(found)
            if missing:
                break
        order = {"index": index, "protocol": protocol, "chunks": chunks, "tables": tables}
        order["left"] = len(missing)
        for part in _split(missing, [len(chunk) for chunk in chunks]):
            task = _Task(
                tuple(chunks[i] for i in part),
                self.cache.mode,
                self.threads,
                self.plugins,
                identity.environment(),
                None if self.inline else tuple(name for i in part for name in names[i]),
            )
            self.tasks.append((task, (order, part)))

    def _collect(self) -> None:
        done, _ = futures.wait(self.flying, return_when=futures.FIRST_COMPLETED)
        for future in done:
            task, (order, part) = self.flying.pop(future)
            try:
                tables = future.result()
            except (ValueError, Stopped, OSError):
                raise
            except (Exception, futures.CancelledError) as error:
                if self.inline:
                    raise
                reason = f"{type(error).__name__}: {error}".split("\n")[0].split(". ")[0]
                raise Stopped(
                    f"A worker was lost ({reason}): what was finished is kept, start again."
                ) from error
            for i, chunk, table in zip(part, task.chunks, tables, strict=True):
                self.cache.write(chunk, table)
                order["tables"][i] = table
                self.computed += len(chunk)
                self.bar.update(len(chunk))
            order["left"] -= len(part)
            if not order["left"]:
                self._advance(order["index"], order["protocol"], order["chunks"], order["tables"])


def _refuse_unreadable(chunks, names) -> None:
    """What can not be read in full can not be compared with what a worker has."""
    for chunk, named in zip(chunks, names, strict=True):
        if any(name.identity is None for name in named):
            _checks.fail(
                "problem",
                chunk.problem,
                f"with optimizer {chunk.optimizer!r} calls Python or reads a table while it "
                "trains, so nothing tells whether a worker has the same; run it in this process "
                "(jobs = 1, no Dask)",
            )


def _split(indices: list[int], sizes: list[int]) -> list[list[int]]:
    """``indices`` in order, in parts of about ``RUNS_PER_TASK`` runs."""
    parts, room = [], 0
    for i in indices:
        if room <= 0:
            parts.append([])
            room = RUNS_PER_TASK
        parts[-1].append(i)
        room -= sizes[i]
    return parts


# ------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class Results:
    """``trials``: a row per tuning cell; ``report``: a row per method and seed; ``provenance``.

    ``trials``: problem, optimizer, horizon (multiple of the problem's epochs), epochs, schedule,
    knobs (JSON), kind ("scan", "grid" or "extension"), peak, value (mean over the tuning seeds of
    the held-out loss, penalty included), failures, runs. ``report``: the same method columns, peak,
    seed, train_loss, val_loss, val_accuracy, value (held-out loss or penalty), lost,
    diverged_step (-1: none), trials (grid and extensions), interior.
    """

    trials: pd.DataFrame
    report: pd.DataFrame
    provenance: dict


_NAMES = ("trials", "report")


def save(results: Results, folder) -> None:
    """Write ``trials.parquet``, ``report.parquet`` and, last, ``provenance.json``.

    ``ValueError`` where the folder holds results of another version; they stay.
    """
    folder = Path(folder)
    _refuse_other_version(folder)
    digests = {name: _files.content_digest(getattr(results, name)) for name in _NAMES}
    for name in _NAMES:
        _files.write(folder / f"{name}.parquet", _files.parquet(getattr(results, name)))
    text = json.dumps({**results.provenance, "sha256": digests}, indent=1) + "\n"
    _files.write(folder / "provenance.json", text.encode())


def _provenance(folder: Path) -> dict:
    path = folder / "provenance.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"out = {str(folder)!r}: holds no benchmark results.") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"out = {str(folder)!r}: provenance.json can not be read.") from error
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        _checks.fail(
            "out",
            str(folder),
            f"holds results of format {version}, this version reads format {FORMAT}; "
            "choose another folder or run the benchmark again",
        )
    return found


def _refuse_other_version(folder: Path) -> None:
    if (folder / "provenance.json").exists():
        _provenance(folder)


def load(folder=OUT) -> Results:
    """The results in ``folder``; ``ValueError`` where there are none, or not whole ones."""
    folder = Path(folder)
    provenance = _provenance(folder)
    tables = {}
    for name in _NAMES:
        try:
            tables[name] = _files.unparquet((folder / f"{name}.parquet").read_bytes())
            if _files.content_digest(tables[name]) != provenance["sha256"][name]:
                raise ValueError("belongs to another run")
        except (ValueError, KeyError, OSError) as error:
            reason = "is missing" if isinstance(error, OSError) else str(error)
            raise ValueError(
                f"out = {str(folder)!r}: {name}.parquet {reason}; run the benchmark again."
            ) from error
    return Results(**tables, provenance=provenance)


def stale(results: Results, *, sample: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Trials and report runs that this code, here and now, would not compute; trains nothing.

    Each row of the results has the identity of what it was computed by; here it is computed anew
    for all of them, or for ``sample`` settings (problem, optimizer, horizon) drawn by ``seed``.
    Columns: table, problem, optimizer, schedule, horizon, peak; no row: the results are those of
    this code. On another kind of machine, or with other versions, all of them are told: compare
    ``results.provenance["environment"]`` with ``identity.environment()``.
    """
    keys = ["problem", "optimizer", "horizon"]
    settings = results.report[keys].drop_duplicates()
    if sample is not None:
        sample = min(_checks.count("sample", sample), len(settings))
        settings = settings.sample(sample, random_state=seed)
    cache = Cache(CACHE, results.provenance["mode"])
    tuning = results.provenance["seeds"]["tuning"]
    found = []
    for setting in settings.itertuples(index=False):
        trials, report = (
            table[(table[keys] == list(setting)).all(axis=1)]
            for table in (results.trials, results.report)
        )
        wanted = [
            ("report", _chunk_of(part.iloc[0], part["seed"]), list(part["run"]))
            for _, part in report.groupby(["schedule", "knobs", "peak"], sort=False)
        ]
        wanted += [("trials", _chunk_of(row, tuning), row["run"]) for _, row in trials.iterrows()]
        names = cache.names([chunk for _, chunk, _ in wanted])
        for (table, chunk, before), named in zip(wanted, names, strict=True):
            now = [name.identity for name in named]
            if before != (now if table == "report" else _cell(now)):
                label = (*setting[:2], chunk.schedule, setting[2], chunk.peaks[0])
                found.append((table, *label))
    columns = ["table", "problem", "optimizer", "schedule", "horizon", "peak"]
    return pd.DataFrame(found, columns=columns)


def _chunk_of(row, seeds: Iterable[int]) -> Chunk:
    """The runs behind a row of the results."""
    knobs = tuple(sorted(json.loads(row["knobs"]).items()))
    name = parse(row["schedule"])[0]
    where = (row["problem"], row["optimizer"], int(row["epochs"]))
    return Chunk(*where, name, knobs, (row["peak"],), tuple(map(int, seeds)))


def run(
    problems: Iterable[str] | None = None,
    schedules: Iterable[str] | None = None,
    optimizers: Iterable[str] = ("sgd",),
    *,
    horizons: Iterable[float] = (1.0,),
    extra_horizons: Mapping | None = None,
    extra_problems: Iterable[str] | None = None,
    jobs: int = 1,
    dask: str | None = None,
    cache=CACHE,
    plugins: Iterable = (),
    mode: str = "auto",
    progress: bool | None = None,
    **protocol,
) -> Results:
    """Rank schedules under the protocol; finished chunks are read from ``cache``.

    ``problems`` and ``schedules``: names, or texts such as ``"digits_noisy:noise=0.4"`` and
    ``"cosine:warmup=0,0.1"`` (two variants inside one budget; see :func:`parse`); by default all.
    ``optimizers``: of :func:`optimizer_names`. ``horizons``: multiples of each problem's epochs;
    ``extra_horizons``: ``{optimizer: more of them}``, for ``extra_problems`` (default: all).
    ``jobs``: processes (1: this one, with
    threads); ``dask``: a scheduler's address instead. ``plugins``: files that register more.
    ``protocol``: fields of :class:`Protocol`.

    ``ValueError`` for bad input; :class:`Stopped` or ``OSError`` where it could not go on.
    """
    started = time.time()
    plugins = [p if isinstance(p, Plugin) else Plugin.read(p) for p in plugins]
    for plugin in plugins:
        _load_plugin(plugin)
    extra = (extra_horizons, extra_problems)
    plan = _plan(problems, schedules, optimizers, horizons, extra, protocol)
    groups, methods, protocol = plan
    jobs = _checks.count("jobs", jobs)
    _checks.choice("mode", mode, ("auto", "graph", "xla"))
    if jobs > 1 or dask is not None:
        _refuse_what_workers_lack(groups, methods)
    keep = Cache(cache, mode)
    total = len(groups) * (
        (protocol.peaks is None) * protocol.scan_points * protocol.tuning_seeds
        + len(methods) * (protocol.budget * protocol.tuning_seeds + protocol.seeds)
    )
    show = not headless() if progress is None else progress
    with (
        _executor(jobs, dask) as (executor, width, threads, place),
        tqdm(total=total, disable=not show, delay=2, unit="run", smoothing=0.05) as bar,
    ):
        driver = _Driver(executor, width, threads, keep, plugins, bar)
        parts = driver.run([_protocol(group, methods, protocol) for group in groups])
        bar.total = bar.n  # the extensions are known now
    trials = pd.DataFrame([row for rows, _ in parts for row in rows])
    report = pd.concat([table for _, tables in parts for table in tables], ignore_index=True)
    own = [*METHOD, "epochs", "knobs"]
    report = report[[*own, *[column for column in report if column not in own]]]
    provenance = {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "minutes": round((time.time() - started) / 60, 2),
        "runs": {"computed": driver.computed, "from_cache": driver.reused},
        "problems": list(dict.fromkeys(group.problem for group in groups)),
        "optimizers": list(dict.fromkeys(group.optimizer for group in groups)),
        "schedules": list(methods),
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
    return Results(_frames(trials), _frames(report), provenance)


def _plan(names, texts, optimizers, horizons, extra, protocol):
    """(groups, methods, protocol), all checked before anything is computed."""
    unknown = sorted(set(protocol) - set(Protocol.__dataclass_fields__))
    if unknown:
        _checks.fail(
            "protocol", unknown[0], "must be one of " + ", ".join(Protocol.__annotations__)
        )
    protocol = Protocol(**protocol)
    names = default_problems() if names is None else list(names)
    texts = schedules.names() if texts is None else list(texts)
    optimizers, horizons = list(optimizers), list(horizons)
    extra, longer = dict(extra[0] or {}), names if extra[1] is None else list(extra[1])
    for argument, values in (
        ("problems", names),
        ("schedules", texts),
        ("optimizers", optimizers),
        ("horizons", horizons),
    ):
        if not values:
            _checks.fail(argument, values, "must hold at least one")
        if len(set(values)) < len(values):
            _checks.fail(argument, values, "must not repeat")
    for optimizer in [*optimizers, *extra]:
        _checks.choice("optimizer", optimizer, optimizer_names())
    methods = _methods(texts)
    for label, (_, variants) in methods.items():
        if protocol.peaks is not None and len(variants) > 1:
            _checks.fail("peaks", protocol.peaks, f"leave no room for the variants of {label!r}")
        if protocol.budget < 3 * len(variants):
            _checks.fail(
                "budget",
                protocol.budget,
                f"must be >= {3 * len(variants)}, three peaks for each variant of {label!r}",
            )
    groups = []
    for name in names:
        problem = _problem(name)
        for optimizer in optimizers:
            more = extra.get(optimizer, ()) if name in longer else ()
            for horizon in sorted({*horizons, *more}):
                epochs = max(1, round(_checks.positive("horizon", horizon) * problem.epochs))
                groups.append(_Group(name, optimizer, float(horizon), epochs))
                steps = epochs * problem.steps_per_epoch
                for schedule, variants in methods.values():
                    for knobs in map(dict, variants):
                        warmup = knobs.pop("warmup", None)
                        schedules.build(schedule, 1.0, steps, warmup=warmup, **knobs)
    return groups, methods, protocol


def _refuse_what_workers_lack(groups, methods) -> None:
    """What was registered in this process alone: workers could not know it."""
    used = {
        "schedule": {name for name, _ in methods.values()},
        "problem": {parse(group.problem)[0] for group in groups},
        "optimizer": {group.optimizer for group in groups},
    }
    for kind, registry in _REGISTRIES.items():
        for name in sorted(used[kind]):
            if not (registry.is_own(name) or registry.entry(name).owner in _loaded):
                _checks.fail(
                    kind,
                    name,
                    "was registered in this process alone; for other processes put it into a file "
                    "and pass it as a plugin",
                )


def _frames(table: pd.DataFrame) -> pd.DataFrame:
    """Text columns of one kind, so that a table read back is the same table."""
    for column in table.columns:
        if table[column].dtype.kind not in "biuf":
            table[column] = table[column].astype("str")
    return table.reset_index(drop=True)


# ------------------------------------------------------------------------------------ analysis


def cube(report: pd.DataFrame, column: str = "value") -> tuple[np.ndarray, list, list]:
    """``report`` as (values [settings, methods, seeds], settings, schedules).

    A setting is a (problem, optimizer, horizon); ``ValueError`` unless every schedule was run on
    every one of them with the same seeds.
    """
    _checks.choice("column", column, report.columns)
    keys = ["problem", "optimizer", "horizon"]
    settings = list(report[keys].drop_duplicates().itertuples(index=False, name=None))
    names, seeds = list(dict.fromkeys(report["schedule"])), sorted(set(report["seed"]))
    wide = report.set_index([*keys, "schedule", "seed"])[column]
    if len(wide) != len(settings) * len(names) * len(seeds) or not wide.index.is_unique:
        _checks.fail("report", f"{len(wide)} rows", "must hold every method with the same seeds")
    index = pd.MultiIndex.from_tuples(
        [(*s, name, seed) for s in settings for name in names for seed in seeds]
    )
    values = wide.reindex(index).to_numpy(float)
    return values.reshape(len(settings), len(names), len(seeds)), settings, names


def regret(report: pd.DataFrame) -> pd.DataFrame:
    """Normalised regret of each schedule in each setting, [settings x schedules].

    (mean loss - best schedule's mean loss) / (chance - best), so 0 is the best schedule and 1 has
    learned nothing; "chance" is the loss of the problem's untrained model.
    """
    values, settings, names = cube(report)
    means = values.mean(axis=2)
    chance = np.array([[_problem(problem).chance_loss] for problem, *_ in settings])
    index = pd.MultiIndex.from_tuples(settings, names=["problem", "optimizer", "horizon"])
    return pd.DataFrame(_regret(means, chance), index, names)


def _regret(means: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Regret of mean losses [..., settings, schedules], with the chance losses [settings, 1]."""
    best = means.min(axis=-1, keepdims=True)
    # Where no schedule has learned anything there is no scale: 1 for all but the best.
    gap = np.where(chance > best, chance - best, np.inf)
    return np.where(chance > best, (means - best) / gap, means > best)


def ratios(report: pd.DataFrame) -> pd.DataFrame:
    """Mean loss over the best schedule's mean loss, [settings x schedules], for a profile."""
    values, settings, names = cube(report)
    means = values.mean(axis=2)
    index = pd.MultiIndex.from_tuples(settings, names=["problem", "optimizer", "horizon"])
    return pd.DataFrame(means / means.min(axis=1, keepdims=True), index, names)


def ranking(results: Results, **which) -> pd.DataFrame:
    """Schedules, best first: mean rank with its interval, regret, width, failures, trials.

    ``which`` selects rows, e.g. ``optimizer="sgd"``, ``horizon=1.0``, ``problem="digits"``; the
    default horizon is 1, or the only one. ``width``: decades of peaks within 1.2 times the best
    tuning loss, mean over settings. ``interior``: share of settings whose tuned peak is inside.
    """
    report, trials = select(results.report, **which), select(results.trials, **which)
    values, _, names = cube(report)
    lost, _, _ = cube(report, "lost")
    ranks = statistics.mean_ranks(values)
    means = report.groupby("schedule")
    widths = sensitivity_widths(trials)
    return (
        pd.DataFrame(
            {
                "schedule": names,
                "rank": [effect.estimate for effect in ranks],
                "low": [effect.low for effect in ranks],
                "high": [effect.high for effect in ranks],
                "regret": [
                    statistics.interquartile_mean(column) if len(column) > 1 else float(column[0])
                    for column in regret(report)[names].to_numpy().T
                ],
                "width": [widths[name] for name in names],
                "failures": lost.mean(axis=(0, 2)),
                "trials": means["trials"].mean()[names].to_numpy(),
                "interior": means["interior"].mean()[names].to_numpy(),
            }
        )
        .sort_values("rank", kind="stable")
        .reset_index(drop=True)
    )


def select(table: pd.DataFrame, **which) -> pd.DataFrame:
    """The rows of ``trials`` or ``report`` that match; horizon 1 (or the only one) by default."""
    horizons = sorted(set(table["horizon"]))
    which.setdefault("horizon", horizons[0] if len(horizons) == 1 else 1.0)
    for column, wanted in which.items():
        _checks.choice("which", column, METHOD)
        found = list(dict.fromkeys(table[column]))
        wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
        for one in wanted:
            _checks.choice(column, one, found)
        table = table[table[column].isin(wanted)]
    if table.empty:
        _checks.fail("which", which, "must match some runs")
    return table


def sensitivity_widths(trials: pd.DataFrame, factor: float = 1.2) -> dict[str, float]:
    """``statistics.robustness_width`` of the best variant of each schedule, mean over settings."""
    trials = trials[trials["kind"] != "scan"]
    widths: dict[str, list[float]] = {}
    for (schedule, *_), rows in trials.groupby(["schedule", "problem", "optimizer", "horizon"]):
        rows = rows[rows["knobs"] == rows.loc[rows["value"].idxmin(), "knobs"]]
        width = statistics.robustness_width(rows["peak"], rows["value"], factor)
        widths.setdefault(schedule, []).append(width)
    return {schedule: float(np.mean(found)) for schedule, found in widths.items()}


def sensitivity(results: Results, **which) -> pd.DataFrame:
    """The trials of every method in order of their peaks, scan left out: curves to draw."""
    trials = select(results.trials, **which)
    keys = [*METHOD, "knobs", "peak"]
    return trials[trials["kind"] != "scan"].sort_values(keys).reset_index(drop=True)


def profile(results: Results, at: Iterable[float], **which) -> pd.DataFrame:
    """Share of settings in which a schedule's mean loss is within a factor of the best.

    [factors ``at`` x schedules]; see ``statistics.performance_profile``.
    """
    table, at = ratios(select(results.report, **which)), list(at)
    shares = statistics.performance_profile(table, at)
    return pd.DataFrame(shares.T, pd.Index(at, name="factor"), table.columns)


def best_of_k(results: Results, **which) -> pd.DataFrame:
    """Expected regret of the best of k trials, [k x schedules], mean over settings.

    The trials are those of the grid, as many for every method, drawn without order. Regret is
    (loss - lowest loss of the setting) / (chance - lowest), at most 1: a trial that ends above
    chance has learned nothing.
    """
    trials = select(results.trials, **which)
    trials, curves = trials[trials["kind"] == "grid"], {}
    for (problem, *_), setting in trials.groupby(["problem", "optimizer", "horizon"], sort=False):
        lowest, chance = setting["value"].min(), _problem(problem).chance_loss
        for schedule, rows in setting.groupby("schedule", sort=False):
            scaled = (rows["value"] - lowest) / max(chance - lowest, np.finfo(float).tiny)
            curve = statistics.expected_best(np.minimum(scaled, 1.0))
            curves.setdefault(schedule, []).append(curve)
    table = pd.DataFrame({schedule: np.mean(found, axis=0) for schedule, found in curves.items()})
    return table.set_index(pd.RangeIndex(1, len(table) + 1, name="k"))


def anytime(results: Results, **which) -> pd.DataFrame:
    """``ranking`` at each horizon, one under the other: every run was planned for its horizon.

    Choose an ``optimizer`` where they were not all run at all horizons.
    """
    every = sorted(set(results.report["horizon"]))
    horizons = sorted(set(select(results.report, horizon=every, **which)["horizon"]))
    return pd.concat(
        [ranking(results, **{**which, "horizon": h}).assign(horizon=h) for h in horizons],
        ignore_index=True,
    )


def against(results: Results, baseline: str = "constant", **which) -> pd.DataFrame:
    """P(a run ends below a run of ``baseline``) for every other schedule, over all settings."""
    values, _, names = cube(select(results.report, **which))
    base = values[:, names.index(_checks.choice("baseline", baseline, names))]
    rows = []
    for i, name in enumerate(names):
        if name != baseline:
            effect = statistics.improvement(values[:, i], base)
            rows.append((name, effect.estimate, effect.low, effect.high))
    return pd.DataFrame(rows, columns=["schedule", "estimate", "low", "high"])


def worst_case(results: Results, **which) -> pd.DataFrame:
    """Schedules, the safest first: largest regret over the settings, and how sure the order is.

    Columns: schedule, regret, problem, optimizer, horizon (of that setting), first (share of
    2,000 resamplings of the report seeds, the same for all methods, in which the schedule's
    worst regret is the smallest). The tuned peaks are held fixed.
    """
    report = select(results.report, **which)
    table = regret(report)
    values, settings, names = cube(report)
    chance = np.array([[_problem(problem).chance_loss] for problem, *_ in settings])
    draws = np.random.default_rng(0).integers(values.shape[2], size=(2000, values.shape[2]))
    means = np.stack([values[:, :, draw].mean(axis=2) for draw in draws])
    winners = _regret(means, chance).max(axis=1).argmin(axis=1)
    worst = table.to_numpy().argmax(axis=0)
    rows = {
        "schedule": names,
        "regret": table.to_numpy().max(axis=0),
        **{key: [settings[i][k] for i in worst] for k, key in enumerate(table.index.names)},
        "first": np.bincount(winners, minlength=len(names)) / len(draws),
    }
    return pd.DataFrame(rows).sort_values("regret", kind="stable").reset_index(drop=True)


def recommendation(results: Results) -> list[str]:
    """Which schedule to use, in sentences written from the results; each holds its evidence.

    For results that hold the schedules constant and linear at horizon 1. The README and notebook
    07 print them. The caution is part of the text: under this protocol warmup is not a knob of
    every method, so a first place may be one of warmup and not of shape.
    """
    table = ranking(results).set_index("schedule")
    for name in ("constant", "linear"):
        _checks.choice("schedule", name, list(table.index))
    report = select(results.report)
    settings = report[["problem", "optimizer"]].drop_duplicates()
    gain = paired(results, "linear", "constant")
    lower, higher = gain[gain["high"] < 0], gain[gain["low"] > 0]
    barely = (lower["estimate"] > -0.01).sum()
    blamed = ", ".join(f"{row.problem} with {row.optimizer}" for row in higher.itertuples())
    if blamed:
        blamed = f": {blamed}. Before annealing is blamed there, add a warmup (notebook 07, 7.8)"
    near = (table["regret"] <= 0.01).sum()
    worst = worst_case(results)
    safest, others = worst.iloc[0], worst[1:].sort_values("first", ascending=False, kind="stable")
    constant = worst.set_index("schedule")["regret"]["constant"]
    return [
        f"**Use a decay to zero, tuned with and without a warmup.** Tuned linear decay, here "
        f"without any, ends below a tuned constant rate in {len(lower)} of {len(gain)} settings "
        f"({settings['problem'].nunique()} problems, {settings['optimizer'].nunique()} "
        f"optimizers; in {barely} of them by less than one per cent) and above it in "
        f"{len(higher)}{blamed}.",
        f"**Which shape, these results cannot tell apart.** {near} of {len(table)} schedules stay "
        f"within one per cent of what there was to learn (regret, interquartile mean over "
        f"settings), and they differ in warmup as well as in shape: a first place here may be "
        f"the warmup's.",
        f"**The least worst case: {safest['schedule']}.** Its largest regret over all settings is "
        f"{safest['regret']:.1%} of what there was to learn; a constant rate's is {constant:.0%}. "
        f"With the seeds drawn again {safest['schedule']} keeps this place in "
        f"{safest['first']:.0%} of the draws, {others['schedule'].iloc[0]} has it in "
        f"{others['first'].iloc[0]:.0%}. The same caution: peaks as tuned, warmup not shared.",
        "**A comparison with warmup inside every method's budget is being made.** Until its "
        "results are in, no order of the shapes is advised.",
    ]


def paired(results: Results, name: str, baseline: str, **which) -> pd.DataFrame:
    """Log loss of ``name`` minus that of ``baseline`` in each setting, paired by seed.

    Columns: problem, optimizer, horizon, estimate, low, high (95 % BCa interval of the mean).
    """
    values, settings, names = cube(select(results.report, **which))
    for given in (name, baseline):
        _checks.choice("schedule", given, names)
    # A loss of 0 (an exact quadratic may reach it) has no logarithm.
    logs = np.log(np.maximum(values, 1e-12))
    effects = [
        statistics.paired_effect(setting[names.index(baseline)], setting[names.index(name)])
        for setting in logs
    ]
    columns = ["problem", "optimizer", "horizon", "estimate", "low", "high"]
    rows = [(*s, e.estimate, e.low, e.high) for s, e in zip(settings, effects, strict=True)]
    return pd.DataFrame(rows, columns=columns)


# ------------------------------------------------------------------------------- command line

EXAMPLES = """examples:
  python -m anneal_utils.benchmark run --profile quick
  python -m anneal_utils.benchmark run --problem digits --schedule constant cosine:warmup=0,0.1
  python -m anneal_utils.benchmark run --profile full --jobs 2 --out build/full
  python -m anneal_utils.benchmark run --dask tcp://127.0.0.1:8786
  python -m anneal_utils.benchmark run --plugin mine.py --schedule mine cosine constant
  python -m anneal_utils.benchmark show --optimizer sgd
An interrupted run goes on when the same command is given again.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message):
        self.exit(2, f"{message[0].upper()}{message[1:].rstrip('.')}.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m anneal_utils.benchmark",
        description=__doc__.splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    kind = dict(
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    go = commands.add_parser("run", help="compute, or go on computing, and rank", **kind)
    go.add_argument("--profile", choices=list(PROFILES), default="quick", help="default: quick")
    go.add_argument("--problem", nargs="+", metavar="P", help="name, or name:knob=value")
    go.add_argument(
        "--schedule",
        nargs="+",
        metavar="S",
        help="name, or name:knob=value,value (variants share the budget)",
    )
    go.add_argument("--optimizer", nargs="+", metavar="O", help=", ".join(optimizer_names()))
    go.add_argument("--horizon", nargs="+", type=float, metavar="H", help="times the epochs")
    go.add_argument("--budget", type=int, help="trials of every method")
    go.add_argument("--peak", nargs="+", type=float, help="a first grid instead of the scan")
    go.add_argument("--seeds", type=int, help="report runs of every method")
    go.add_argument("--tuning-seeds", type=int, help="runs of every trial")
    go.add_argument("--ratio", type=float, help="between neighbouring peaks (default 2)")
    go.add_argument("--extensions", type=int, help="most trials past an edge (default 8)")
    go.add_argument("--jobs", type=int, default=1, help="processes (default: this one, threads)")
    go.add_argument("--dask", metavar="ADDRESS", help="of a running scheduler")
    go.add_argument("--cache", type=Path, default=CACHE, help="folder of finished chunks")
    go.add_argument("--plugin", nargs="+", default=[], help="files that register more")
    go.add_argument("--out", type=Path, default=OUT, help="folder (default build/benchmark)")
    names = commands.add_parser("list", help="problems, schedules, optimizers, profiles", **kind)
    names.add_argument("--plugin", nargs="+", default=[], help="files that register more")
    table = commands.add_parser("show", help="the ranking of finished results", **kind)
    table.add_argument("--out", type=Path, default=OUT, help="folder (default build/benchmark)")
    for name in ("problem", "schedule", "optimizer"):
        table.add_argument(f"--{name}", nargs="+")
    table.add_argument("--horizon", type=float)
    table.add_argument("--plugin", nargs="+", default=[], help="files that register more")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 (bad input, a stop) or 130 (Ctrl-C, `kill`)."""
    options = _parser().parse_args(arguments)
    try:
        {"run": _run, "list": _list, "show": _show}[options.command](options)
    except (ValueError, Stopped) as error:
        print(str(error), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head`: everything was saved before it was printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(
                "The disk is full: what was finished is kept; make room and start again.",
                file=sys.stderr,
            )
        else:
            print(
                f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr
            )
        return 2
    except KeyboardInterrupt:
        _signals.ending()
        print("Stopped: the same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def settings(profile: str, **given) -> dict:
    """The arguments of :func:`run` for a profile, with those ``given`` (not None) in their place.

    Named optimizers or horizons replace the profile's extra horizons too.
    """
    chosen = dict(PROFILES[_checks.choice("profile", profile, PROFILES)])
    given = {name: value for name, value in given.items() if value is not None}
    if {"optimizers", "horizons"} & set(given):
        chosen.pop("extra_horizons", None)
        chosen.pop("extra_problems", None)
    return chosen | given


def _run(options) -> None:
    _refuse_other_version(options.out)
    wanted = settings(
        options.profile,
        problems=options.problem,
        schedules=options.schedule,
        optimizers=options.optimizer,
        horizons=options.horizon,
        budget=options.budget,
        peaks=options.peak,
        seeds=options.seeds,
        tuning_seeds=options.tuning_seeds,
        ratio=options.ratio,
        extensions=options.extensions,
    )
    results = run(
        **wanted,
        jobs=options.jobs,
        dask=options.dask,
        cache=options.cache,
        plugins=options.plugin,
    )
    save(results, options.out)
    count = results.provenance["runs"]
    print(f"{count['computed']} runs computed, {count['from_cache']} read from the cache.")
    _print(results)


def _show(options) -> None:
    for path in options.plugin:
        _load_plugin(Plugin.read(path))
    given = {name: getattr(options, name) for name in METHOD}
    _print(load(options.out), **{k: v for k, v in given.items() if v is not None})


def _print(results: Results, **which) -> None:
    horizons = results.provenance["horizons"]
    if "horizon" not in which and len(horizons) > 1 and 1.0 not in horizons:
        which["horizon"] = horizons[-1]
    table = ranking(results, **which)
    problems_, seeds = results.provenance["problems"], results.provenance["protocol"]["seeds"]
    chosen = which.get("problem", problems_)
    print(f"{len(chosen)} problems, {seeds} report seeds; rank 1 is best, interval over seeds.")
    text = {
        "schedule": table["schedule"],
        "rank": [
            f"{r:.2f} [{a:.2f}, {b:.2f}]" for r, a, b in table[["rank", "low", "high"]].values
        ],
        "regret": table["regret"].map("{:.3f}".format),
        "width": table["width"].map("{:.2f}".format),
        "failures": table["failures"].map("{:.1%}".format),
        "trials": table["trials"].map("{:.1f}".format),
        "interior": table["interior"].map("{:.0%}".format),
    }
    print(pd.DataFrame(text).to_string(index=False))


def _list(options) -> None:
    for path in options.plugin:
        _load_plugin(Plugin.read(path))
    print("problems: " + ", ".join(default_problems()))
    print("  (with a download: " + ", ".join(DOWNLOADS) + ")")
    print("schedules: " + ", ".join(schedules.names()))
    print("optimizers: " + ", ".join(optimizer_names()))
    for name, profile in PROFILES.items():
        shown = {k: "all" if v is None else v for k, v in profile.items()}
        print(f"profile {name}: " + "; ".join(f"{k} {v}" for k, v in shown.items()))


if __name__ == "__main__":
    # Through the package, so that a plugin's `anneal_utils.benchmark` is this very module.
    from anneal_utils.benchmark import main as _main

    # When a signal ends a pool of processes, loky's tracker may tell of a semaphore as leaked that
    # was removed a moment before.
    tracker = "joblib.externals.loky.backend.resource_tracker"
    os.environ.setdefault("PYTHONWARNINGS", f"ignore::UserWarning:{tracker}")
    _signals.interruptible()
    sys.exit(_main())
