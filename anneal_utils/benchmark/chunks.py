"""Runs that are computed, kept and read as one, and the tables that come of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from anneal_utils import identity, optimizers, training
from anneal_utils.problems import Problem

import numpy as np
import pandas as pd

FORMAT = 2  # of the results; another number is another meaning of the tables

# What is kept of a run: its identity and what it measured; its labels are the chunk's.
COLUMNS = {
    "run": "str",
    "train_loss": "float64",
    "val_loss": "float64",
    "val_accuracy": "float64",
    "diverged_step": "int64",
}


@dataclass(frozen=True)
class Chunk:
    """Runs that are computed, kept and read as one: a recipe, its peaks, its seeds."""

    problem: str | Problem  # an object never leaves its process
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


def labelled(chunk: Chunk, table: pd.DataFrame) -> pd.DataFrame:
    """The table of a chunk with the peaks and seeds of its runs."""
    runs = chunk.runs("")
    return pd.DataFrame(
        {
            "run": table["run"],
            "peak": [run.peak for run in runs],
            "seed": [run.seed for run in runs],
            **{column: table[column] for column in list(COLUMNS)[1:]},
        }
    )


def judged(table: pd.DataFrame, chance_loss: float) -> pd.DataFrame:
    """The table with ``value``, the held-out loss or the penalty, and ``lost``."""
    lost = (table["diverged_step"] >= 0) | ~np.isfinite(table["val_loss"])
    return table.assign(value=table["val_loss"].where(~lost, chance_loss), lost=lost)


def cell_of(identities: Iterable[str | None]) -> str:
    """The identity of a trial: that of its runs, seed by seed."""
    return identity.digest(list(identities))
