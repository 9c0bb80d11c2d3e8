"""Runs that are computed, kept and read as one."""

from collections.abc import Iterable
from dataclasses import dataclass

from anneal_utils import identity, training
from anneal_utils.benchmark.entrants import maker_of
from anneal_utils.problems import Problem


@dataclass(frozen=True)
class Chunk:
    """Runs that are computed, kept and read as one: a recipe, its peaks, its seeds."""

    problem: str | Problem  # an object never leaves its process
    optimizer: str  # name, or name:knob=value
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
            {self.optimizer: maker_of(self.optimizer)},
            epochs=self.epochs,
            warmup=warmup,
        )


def cell_of(identities: Iterable[str | None]) -> str:
    """The identity of a trial: that of its runs, seed by seed."""
    return identity.digest(list(identities))
