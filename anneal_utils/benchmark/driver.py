"""Feeds the protocols of all settings to an executor, and keeps what comes back."""

from collections import deque
from collections.abc import Iterable
from concurrent import futures

from anneal_utils import _checks, identity
from anneal_utils.benchmark.executors import Inline
from anneal_utils.benchmark.tasks import Stopped, Task, compute

RUNS_PER_TASK = 96  # what a kill can lose, and what is worth a trip to another process


class Driver:
    """Feeds the protocols of all groups to the executor, a few groups at a time."""

    def __init__(self, executor, width, threads, cache, plugins, bar):
        self.executor, self.width, self.threads = executor, width, threads
        self.cache, self.plugins, self.bar = cache, tuple(plugins), bar
        self.inline = isinstance(executor, Inline)
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
                self.flying[self.executor.submit(compute, task)] = (task, order)
            if self.flying:
                self._collect()
        return self.results

    def _advance(self, index, protocol, outcomes=None) -> None:
        """Send a protocol what its runs gave; read or plan what it asks for next."""
        while True:
            try:
                chunks = protocol.send(outcomes)
            except StopIteration as end:
                self.results[index] = end.value
                return
            names = self.cache.names(chunks)
            if not self.inline:
                _refuse_unreadable(chunks, names)
            outcomes = self.cache.read(chunks)
            found = sum(len(c) for c, o in zip(chunks, outcomes, strict=True) if o is not None)
            self.reused += found
            missing = [i for i, several in enumerate(outcomes) if several is None]
            self.bar.update(found)
            if missing:
                break
        order = {"index": index, "protocol": protocol, "outcomes": outcomes}
        order["left"] = len(missing)
        for part in _split(missing, [len(chunk) for chunk in chunks]):
            task = Task(
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
                found = future.result()
            except (ValueError, Stopped, OSError):
                raise
            except (Exception, futures.CancelledError) as error:
                if self.inline:
                    raise
                reason = f"{type(error).__name__}: {error}".split("\n")[0].split(". ")[0]
                raise Stopped(
                    f"A worker was lost ({reason}): what was finished is kept, start again."
                ) from error
            self.cache.write(task.chunks, found)
            for i, chunk, outcomes in zip(part, task.chunks, found, strict=True):
                order["outcomes"][i] = outcomes
                self.computed += len(chunk)
                self.bar.update(len(chunk))
            order["left"] -= len(part)
            if not order["left"]:
                self._advance(order["index"], order["protocol"], order["outcomes"])


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
