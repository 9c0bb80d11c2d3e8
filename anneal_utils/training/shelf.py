"""Between a call of the trainer and the store: what is known is answered, what is new is kept."""

from collections.abc import Iterator

from anneal_utils.store import Record, Store
from anneal_utils.training.frames import Outcome
from anneal_utils.training.program import Program


class Shelf:
    """What the store knows of the runs of one call, and what the call adds to it."""

    def __init__(self, store: Store | None, results: list, reads: bool):
        """``results`` are filled in; without ``reads`` everything is computed."""
        self.store, self.results, self.reads = store, results, reads
        self.known: dict[str, dict[str, Record]] = {}  # by program
        self.again: dict[str, list[tuple[int, float]]] = {}  # runs that compute what another does
        self.new: list[tuple[Program, str, Record]] = []
        self.computed = 0

    def __enter__(self):
        """Nothing is looked up yet."""
        return self

    def unknown(self, ready: Iterator, done) -> Iterator:
        """The runs that have to be trained; the others get their results, and are ``done``."""
        for one in ready:
            if self.store and self.reads and one.program.readable:
                record = self._known(one.program).get(one.identity)
                if record is not None:
                    self._answer(one.index, one.program.columns, one.identity, one.peak, record)
                    done()
                    continue
                if one.identity in self.again:
                    self.again[one.identity].append((one.index, one.peak))
                    done()
                    continue
                self.again[one.identity] = []
            self.computed += 1
            yield one

    def put(self, ready, record: Record) -> None:
        """A result, from any thread."""
        if self.store and ready.program.readable:
            self.new.append((ready.program, ready.identity, record))

    def __exit__(self, *error):
        """Answer the runs that were trained as others, and keep what was trained."""
        programs: dict[str, tuple[Program, dict[str, Record]]] = {}
        for program, name, record in self.new:
            programs.setdefault(program.digest, (program, {}))[1][name] = record
            for index, peak in self.again.get(name, ()):
                self._answer(index, program.columns, name, peak, record)
        for program, records in programs.values():
            known = self._known(program)
            records = {name: record for name, record in records.items() if name not in known}
            self.store.write(program.digest, columns_of(program.columns), records)

    def _known(self, program: Program) -> dict[str, Record]:
        if program.digest not in self.known:
            self.known[program.digest] = self.store.read(
                program.digest, columns_of(program.columns)
            )
        return self.known[program.digest]

    def _answer(self, index: int, names: list[str], name: str, peak: float, record: Record):
        self.results[index] = Outcome(name, peak, names, *record)


def columns_of(names: list[str]) -> list[str]:
    """What the store calls the columns of a history, for the names of the loss and the metrics."""
    return ["rate", *(f"{part}_{name}" for part in ("train", "val") for name in names)]
