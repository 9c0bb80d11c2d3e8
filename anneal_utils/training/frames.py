"""The tidy frame of a training: one row per run and epoch."""

from typing import NamedTuple

from anneal_utils.problems import Problem
from anneal_utils.training.recipes import Run

import numpy as np
import pandas as pd

COLUMNS = [
    *("run", "problem", "optimizer", "schedule", "peak", "seed", "epoch", "step", "rate"),
    *("train_loss", "val_loss", "val_accuracy", "diverged", "diverged_step"),
]


class Outcome(NamedTuple):
    """What one training gave.

    ``names``: of the loss and the metrics. ``history``: float32 [epochs, 1 + 2 len(names)], the
    rate, the numbers of the training, those held out. ``left``: the first step whose loss was not
    finite, or -1. ``test``: float32 [len(names)], or nothing.
    """

    identity: str
    peak: float
    names: list[str]
    history: np.ndarray
    left: int
    test: np.ndarray
    weights: list | None = None

    def end(self, column: str) -> float:
        """The last value of ``train_…`` or ``val_…``; NaN where there is no such number."""
        part, _, name = column.partition("_")
        if part not in ("train", "val") or name not in self.names:
            return float("nan")
        place = 1 + self.names.index(name) + (part == "val") * len(self.names)
        return float(self.history[-1, place])


def lost_at(outcome: Outcome, steps_per_epoch: int) -> int:
    """The first step whose loss was not finite, or -1.

    Weights may overflow in the very last step of an epoch, which only the held-out loss can see.
    """
    outside = np.flatnonzero(~np.isfinite(outcome.history[:, 1 + len(outcome.names)]))
    if outcome.left >= 0 or not len(outside):
        return outcome.left
    return int(steps_per_epoch * (1 + outside[0]))


def frame_of(problem: Problem, runs: list[Run], outcomes: list[Outcome]) -> pd.DataFrame:
    """The frame of runs of one problem: ``COLUMNS``, then the other metrics."""
    parts = [_part(problem, *pair) for pair in zip(runs, outcomes, strict=True)]
    extra = dict.fromkeys(column for part in parts for column in part if column not in COLUMNS)
    frame = pd.DataFrame(
        {
            column: np.concatenate(
                [np.broadcast_to(part.get(column, np.nan), len(part["step"])) for part in parts]
            )
            for column in [*COLUMNS, *extra]
        }
    )
    for column in ("run", "problem", "optimizer", "schedule"):
        frame[column] = frame[column].astype("str")
    frame["diverged_step"] = frame["diverged_step"].astype("Int64").mask(frame.diverged_step < 0)
    return frame


def _part(problem: Problem, run: Run, outcome: Outcome) -> dict:
    """The columns of one run, or what stands for all of one."""
    history, names = outcome.history, outcome.names
    step = problem.steps_per_epoch * (1 + np.arange(len(history)))
    columns = dict(zip([f"train_{name}" for name in names], history[:, 1:].T, strict=False))
    columns |= dict(
        zip([f"val_{name}" for name in names], history[:, 1 + len(names) :].T, strict=True)
    )
    left = lost_at(outcome, problem.steps_per_epoch)
    gone = np.zeros(len(step), bool)
    if left >= 0:
        gone = (step > left) | ~np.isfinite(columns["val_loss"])
    for name, value in zip(names if len(outcome.test) else [], outcome.test, strict=True):
        column = np.full(len(step), np.nan, "float32")
        column[-1] = value
        columns[f"test_{name}"] = column
    return {
        "run": outcome.identity,
        "problem": problem.name,
        "optimizer": run.optimizer,
        "schedule": run.schedule,
        "peak": outcome.peak,
        "seed": run.seed,
        "epoch": np.arange(len(history)),
        "step": step,
        "rate": history[:, 0],
        "diverged": gone,
        "diverged_step": left,
        **columns,
    }
