"""Finished runs in a store, so that an interrupted benchmark goes on where it was."""

import itertools
from collections.abc import Iterable

from anneal_utils.benchmark.chunks import Chunk
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.store import Record, Store, chosen, places
from anneal_utils.training.frames import Outcome
from anneal_utils.training.trainer import Name, names_of

CACHE = places.standard()  # an old name, for one release: the folder of the store


class Cache:
    """Finished runs by what they compute, in the store that ``training.train`` uses too.

    A changed closure, helper or setting is another run, a new comment or label is not. Runs whose
    program can not be read in full are never kept.
    """

    def __init__(self, store, mode: str):
        """``store``: None (the default one), False (nothing is kept), a folder or a ``Store``."""
        found = chosen(store)
        # A full disk ends a benchmark, which would else compute for hours what is then lost.
        self.store = found and Store(found.folder, found.limit, fresh=found.fresh, strict=True)
        self.mode = mode
        self._names: dict[Chunk, list[Name]] = {}
        self._known: dict[str, dict[str, Record]] = {}

    def names(self, chunks: Iterable[Chunk]) -> list[list[Name]]:
        """What each run of each chunk is called; trains nothing."""
        chunks = list(chunks)
        groups: dict = {}
        for chunk in chunks:
            if chunk not in self._names:
                groups.setdefault((chunk.problem, chunk.optimizer, chunk.epochs), []).append(chunk)
        for (problem, *_), members in groups.items():
            runs = [run for i, chunk in enumerate(members) for run in chunk.runs(str(i))]
            found = iter(names_of(problem_of(problem), runs, self.mode))
            for chunk in members:
                self._names[chunk] = list(itertools.islice(found, len(chunk)))
        return [self._names[chunk] for chunk in chunks]

    def read(self, chunks: Iterable[Chunk]) -> list[list[Outcome] | None]:
        """What the runs of each chunk gave; None where one of them is not known."""
        self._known.clear()  # another process may have finished some since
        return [self._read(chunk) for chunk in chunks]

    def _read(self, chunk: Chunk) -> list[Outcome] | None:
        (names,) = self.names([chunk])
        if not self.store or any(name.identity is None for name in names):
            return None
        program, columns = names[0].program, names[0].columns
        if program not in self._known:
            self._known[program] = self.store.read(program, columns)
        known = self._known[program]
        if any(name.identity not in known for name in names):
            return None
        numbers = [
            column.removeprefix("train_") for column in columns if column.startswith("train_")
        ]
        runs = chunk.runs("")
        return [
            Outcome(name.identity, run.peak, numbers, *known[name.identity])
            for name, run in zip(names, runs, strict=True)
        ]

    def write(self, chunks: Iterable[Chunk], outcomes: Iterable[list[Outcome]]) -> None:
        """Keep what the runs of chunks gave, each under its program: a knob's values differ in it.

        Under another's name they would not be found, and be computed again.
        """
        new: dict[tuple[str, tuple[str, ...]], dict[str, Record]] = {}
        for chunk, several in zip(chunks, outcomes, strict=True):
            (names,) = self.names([chunk])
            for name, one in zip(names, several, strict=True):
                if name.identity is not None:
                    records = new.setdefault((name.program, name.columns), {})
                    records[name.identity] = Record(one.history, one.left, one.test)
        for (program, columns), records in new.items() if self.store else ():
            self.store.write(program, columns, records)
