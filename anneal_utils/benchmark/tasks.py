"""What a worker gets and does, and what it checks before it does it."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from anneal_utils import identity, training
from anneal_utils.benchmark.chunks import COLUMNS
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.benchmark.plugins import load_plugin
from anneal_utils.training.trainer import names_of

import pandas as pd


class Stopped(RuntimeError):
    """The benchmark could not go on; what was finished is kept. One sentence says why."""


@dataclass(frozen=True)
class Task:
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


def compute(task: Task) -> list[pd.DataFrame]:
    """One small table per chunk: a row per run, in the order of ``Chunk.runs``."""
    if task.names is not None:
        _refuse_other_environment(task.environment)
    for plugin in task.plugins:
        load_plugin(plugin)
    problem = problem_of(task.chunks[0].problem)
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
    groups = dict(iter(ends[[*COLUMNS, "schedule"]].astype(COLUMNS).groupby("schedule")))
    return [groups[str(i)][list(COLUMNS)].reset_index(drop=True) for i in range(len(task.chunks))]


def _refuse_other_environment(expected: Mapping[str, str]) -> None:
    here = identity.environment()
    for name in sorted(set(expected) | set(here)):
        if expected.get(name) != here.get(name):
            raise Stopped(
                f"A worker has other settings than this process: {name} is {here.get(name)} there "
                f"and {expected.get(name)} here; make them the same and start again."
            )


def _refuse_other_runs(task: Task, problem, runs) -> None:
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
