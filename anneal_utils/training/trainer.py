"""Training many runs at once, and naming them without training."""

import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from anneal_utils import _checks, headless, identity, problems
from anneal_utils.problems import Problem
from anneal_utils.store import Record, chosen
from anneal_utils.training.feedback import plateau_vector
from anneal_utils.training.frames import Outcome, frame_of
from anneal_utils.training.program import Program, Uncompilable, program_of, warn_once
from anneal_utils.training.recipes import Run, is_of_the_epoch
from anneal_utils.training.runs import rates
from anneal_utils.training.shelf import Shelf, columns_of
from anneal_utils.training.starts import order

import numpy as np
from tqdm.auto import tqdm

_AHEAD = 64 << 20  # bytes of initial values that may wait for a thread

_training = threading.Lock()  # programs are shared by all calls, so one call trains at a time


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def train(
    problem: Problem | str,
    runs: Iterable[Run],
    *,
    return_weights: bool = False,
    mode: str = "auto",
    threads: int | None = None,
    progress: bool | None = None,
    store=None,
):
    """Train every run and return the tidy frame: one row per run and epoch, in the given order.

    Columns: ``COLUMNS``. ``run`` is the run's identity (see :mod:`anneal_utils.identity`): the
    same for the same computation, whatever the labels. ``epoch`` counts from 0, ``step`` is the
    number of updates done at its end, ``rate`` the one applied at its last step, ``train_loss``
    the mean over the epoch's batches as ``fit`` reports it. A run whose loss stops being finite
    is data: ``diverged`` is true from that epoch on, ``diverged_step`` is the (0-based) step
    whose loss was the first not to be finite, and the losses stay as they were measured.

    With ``return_weights`` also a list, one entry per run, of final weights in
    ``model.get_weights()`` order. ``mode``: ``"graph"`` equals ``fit`` bit for bit, ``"xla"`` is
    faster for dense and recurrent models and equals it up to rounding (other dropout masks),
    ``"auto"`` chooses. ``threads``: default, the cores. Data stay in memory, an incomplete last
    batch is dropped, there are no callbacks inside a run.

    What was computed before, under any label, is read: ``store`` is None (the default one, see
    :mod:`anneal_utils.store`), False (everything is computed and nothing kept), a folder or a
    ``Store``. Weights are not kept, so ``return_weights`` computes. The frame is the same either
    way; its ``attrs`` tell how many runs were ``"computed"`` and how many ``"read"``.

    ``ValueError`` where a run's state could not be its own: a variable, a random stream, a model
    or an optimizer that runs would share is refused by its name.
    """
    problem, runs = checked(problem, runs, mode)
    outcomes, computed = outcomes_of(
        problem,
        runs,
        weights=return_weights,
        mode=mode,
        threads=threads,
        progress=progress,
        store=store,
    )
    frame = frame_of(problem, runs, outcomes)
    frame.attrs.update(computed=computed, read=len(runs) - computed)
    return ([outcome.weights for outcome in outcomes], frame) if return_weights else frame


def outcomes_of(
    problem: Problem,
    runs: list[Run],
    *,
    weights: bool = False,
    mode: str = "auto",
    threads: int | None = None,
    progress: bool | None = None,
    store=None,
    falls_back: bool = True,
) -> tuple[list[Outcome], int]:
    """What every run gave, and how many were computed; the arguments are those of ``train``.

    What XLA turns out not to compile is trained in graph mode; unless it ``falls_back`` so,
    ``Uncompilable``.
    """
    given = (weights, mode, threads, progress, store)
    while True:
        try:
            return _outcomes(problem, runs, *given)
        except Uncompilable as error:  # known now, so that the next try is another
            if not falls_back:
                raise
            warn_once(str(error))


def _outcomes(problem, runs, weights, mode, threads, progress, store):
    threads = cores() if threads is None else _checks.count("threads", threads)
    show = not headless() if progress is None else progress
    results = [None] * len(runs)
    shelf = Shelf(chosen(store), results, reads=not weights)
    errors, left, lock = [], len(runs), threading.Lock()
    stop, finished, room = threading.Event(), threading.Event(), _Room(_AHEAD)

    def job(ready: _Ready):
        """Train one run."""
        room.leave(ready.nbytes)
        try:
            if not stop.is_set():
                history, lost, test, final = ready.program.call(*ready.arguments)
                kept = [w.numpy() for w in final] if weights else None
                found = (ready.program.columns, history, lost, test, kept)
                results[ready.index] = Outcome(ready.identity, ready.peak, *found)
                shelf.put(ready, Record(history, lost, test))
        except BaseException as error:
            errors.append(error)
        done()

    def done():
        """One run less to do."""
        nonlocal left
        with lock:
            left -= 1
            bar.update()
        if errors or not left:
            finished.set()

    # The bar appears only when the work takes longer than five seconds.
    with (
        shelf,  # left last: what was finished is kept, whatever happened
        _training,
        tqdm(total=len(runs), disable=not show, delay=5, unit="run") as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        try:
            # First one run of every program, which compiles it: while the next is traced here,
            # the threads compile and train those before.
            later = []
            for ready in _groups(problem, runs, mode):
                unknown = shelf.unknown(ready, done)
                if (first := next(unknown, None)) is not None:
                    room.enter(first.nbytes)
                    later.append((pool.submit(job, first), unknown))
            for first, unknown in later:
                first.result()  # the others would compile the same program again
                for one in unknown:
                    room.enter(one.nbytes)
                    if errors:
                        raise errors[0]
                    pool.submit(job, one)
            finished.wait()  # once: waking this thread for every run would slow the others
            if errors:
                raise errors[0]
        finally:
            stop.set()  # an error or Ctrl-C ends the threads after the run they are in
    return results, shelf.computed


def identities(problem: Problem, runs: Iterable[Run], *, mode: str = "auto") -> list[str | None]:
    """The identity of every run, as ``train`` writes it into the column ``run``; trains nothing.

    None where the program can not be read in full (it calls Python, or reads a file or a table):
    such a run trains, but its results are not kept on disk, since nothing tells when they change.
    """
    return [name.identity for name in names_of(problem, runs, mode)]


class Name(NamedTuple):
    """What a run is called: its identity (None: not readable), and that of all but its rates.

    ``program``: the digest under which the store keeps it; ``columns``: of its numbers.
    """

    identity: str | None
    start: str
    program: str
    columns: tuple[str, ...]


def names_of(problem: Problem, runs: Iterable[Run], mode: str) -> list[Name]:
    """The names of all runs, in their order; trains nothing."""
    problem, runs = checked(problem, runs, mode)
    found: list = [None] * len(runs)
    with _training:
        for ready in _groups(problem, runs, mode):
            for one in ready:
                known = one.identity if one.program.readable else None
                named = (one.program.digest, tuple(columns_of(one.program.columns)))
                found[one.index] = Name(known, one.start, *named)
    return found


def checked(problem, runs, mode: str) -> tuple[Problem, list[Run]]:
    """The problem, by its name too, and the runs."""
    problem = problems.load(problem) if isinstance(problem, str) else problem
    _checks.choice("mode", mode, ("auto", "graph", "xla"))
    if not isinstance(problem, Problem):
        _checks.fail("problem", problem, "must be a Problem, or the name of one")
    runs = [runs] if isinstance(runs, Run) else list(runs)
    if not runs or not all(isinstance(run, Run) for run in runs):
        _checks.fail("runs", runs[:1], "must be at least one run, from training.grid(...)")
    return problem, runs


@dataclass(frozen=True)
class _Ready:
    """A run with everything that it needs; ``identity`` names it, ``start`` all but its rates."""

    index: int
    program: Program
    start: str
    identity: str
    peak: float
    arguments: tuple
    nbytes: int


def _groups(problem: Problem, runs: list[Run], mode: str) -> Iterator[Iterator[_Ready]]:
    """The runs of each program, each ready to be trained; everything is built by this thread.

    Keras's global seed is not thread-safe. Programs come in the order of the runs; within one,
    equal seeds come together, so that they share their start.
    """
    groups: dict = {}
    for index, run in enumerate(runs):
        key = (id(run.make), run.epochs or problem.epochs)
        groups.setdefault(key, []).append(index)
    for (_, epochs), members in groups.items():
        program = program_of(problem, runs[members[0]], epochs, mode)
        # All of them now, so that a bad rate is refused before anything is trained.
        tables = _tables(problem, runs, members, program.exact)
        yield _ready(problem, program, runs, sorted(members, key=lambda i: runs[i].seed), tables)


def _tables(problem, runs, members, exact: bool) -> dict[int, np.ndarray]:
    """The rates of each member; those of one schedule and peak are computed once."""
    tables, known = {}, {}
    for i in members:
        run = runs[i]
        if is_of_the_epoch(run.recipe):
            tables[i] = rates(problem, run, exact=exact)  # a function of the epoch may be random
            continue
        by_value = isinstance(run.recipe, str | float)
        key = (run.recipe if by_value else id(run.recipe), run.peak, run.warmup)
        if key not in known:
            known[key] = rates(problem, run, exact=exact)
        tables[i] = known[key]
    return tables


def _ready(problem, program: Program, runs, members, tables) -> Iterator[_Ready]:
    seed = None
    for i in members:
        run = runs[i]
        if run.seed != seed:
            seed = run.seed
            weights = program.starts.values(seed)
            slots = program.slots_of(weights, seed)
            batches = order(problem, seed, program.epochs)
            tuned = program.tuned_on(seed)
            start = identity.digest(program.digest, weights, slots, batches, *tuned)
            size = sum(value.nbytes for value in (*weights, *slots))
        rules = plateau_vector(run.recipe, program.skips)
        yield _Ready(
            i,
            program,
            start,
            identity.digest(start, tables[i], rules),
            float(tables[i].max()) if run.peak is None else run.peak,
            (weights, slots, tables[i], batches, rules, *tuned),
            size,
        )


class _Room:
    """Room for ``limit`` bytes: ``enter`` blocks while its own do not fit in with the others.

    One thread enters, any may leave.
    """

    def __init__(self, limit: int):
        self.limit, self.used, self._changed = limit, 0, threading.Condition()
        self._wanted = 0  # by the one who waits

    def enter(self, size: int) -> None:
        with self._changed:
            self._wanted = size
            while not self._fits():
                self._changed.wait()
            self.used += size

    def leave(self, size: int) -> None:
        with self._changed:
            self.used -= size
            if self._fits():
                self._changed.notify()

    def _fits(self) -> bool:
        return not self.used or self.used + self._wanted <= self.limit
