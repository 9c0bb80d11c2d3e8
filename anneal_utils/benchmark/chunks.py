"""Runs that are computed, kept and read as one, and the tables that come of them."""

from collections.abc import Iterable
from dataclasses import dataclass

from anneal_utils import identity, optimizers, training
from anneal_utils.problems import Problem
from anneal_utils.training.frames import Outcome, lost_at

import numpy as np
import pandas as pd

FORMAT = 2  # of the results; another number is another meaning of the tables


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


def table_of(chunk: Chunk, problem: Problem, outcomes: list[Outcome]) -> pd.DataFrame:
    """The chunk's runs, a row each: what they ended with, and how that is judged.

    ``diverged_step``: -1 for none. ``value``: the problem's target, lower being better; of a run
    that was ``lost``, what a model scores that has learned nothing.
    """
    runs, per_epoch = chunk.runs(""), problem.steps_per_epoch
    wanted = ["train_loss", "val_loss", "val_accuracy"]
    if problem.target not in wanted:
        wanted.append(problem.target)
    table = pd.DataFrame(
        {
            "run": [outcome.identity for outcome in outcomes],
            "peak": [run.peak for run in runs],
            "seed": [run.seed for run in runs],
            **{column: [outcome.end(column) for outcome in outcomes] for column in wanted},
            "diverged_step": [lost_at(outcome, per_epoch) for outcome in outcomes],
        }
    )
    table["run"] = table["run"].astype("str")
    lost = (table["diverged_step"] >= 0) | ~np.isfinite(table[problem.target])
    value = table[problem.target] * problem.sign
    return table.assign(value=value.where(~lost, problem.chance), lost=lost)


def cell_of(identities: Iterable[str | None]) -> str:
    """The identity of a trial: that of its runs, seed by seed."""
    return identity.digest(list(identities))
