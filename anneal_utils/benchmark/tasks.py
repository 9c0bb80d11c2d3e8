"""What a worker gets and does, and what it checks before it does it."""

import contextlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass

from anneal_utils import identity
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.benchmark.plugins import load_plugin
from anneal_utils.training.frames import Outcome
from anneal_utils.training.program import Uncompilable
from anneal_utils.training.trainer import names_of, outcomes_of


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


def compute(task: Task) -> list[list[Outcome]]:
    """What the runs of each chunk gave, in the order of ``Chunk.runs``."""
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
    # Not looked up in a store: what was known was not asked of a worker.
    given = dict(mode=task.mode, threads=threads, progress=False, store=False)
    try:
        outcomes = iter(outcomes_of(problem, runs, falls_back=False, **given)[0])
    except Uncompilable as error:  # what is known by the names of one mode is not kept as another's
        raise Stopped(f"{error}; run the benchmark with mode='graph' (--mode graph).") from None
    return [list(itertools.islice(outcomes, len(chunk))) for chunk in task.chunks]


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
