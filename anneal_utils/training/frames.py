"""The tidy frame of a training: one row per run and epoch."""

from anneal_utils.problems import Problem
from anneal_utils.training.runs import Run

import numpy as np
import pandas as pd

COLUMNS = [
    *("run", "problem", "optimizer", "schedule", "peak", "seed", "epoch", "step", "rate"),
    *("train_loss", "val_loss", "val_accuracy", "diverged", "diverged_step"),
]


def frame_of(problem: Problem, runs: list[Run], results) -> pd.DataFrame:
    """The frame from ``(identity, peak, history, left, weights)`` of every run.

    ``history``: float32 [epochs, rate and losses and accuracy]; ``left``: the first step whose
    loss was not finite, or -1.
    """
    per_epoch = problem.steps_per_epoch
    parts = []
    for run, (identity, peak, history, left, _) in zip(runs, results, strict=True):
        step = per_epoch * (1 + np.arange(len(history)))
        rate, train_loss, val_loss = history[:, :3].T
        # Weights may overflow in the very last step, which only the validation loss can see.
        outside = np.flatnonzero(~np.isfinite(val_loss))
        if left < 0 and len(outside):
            left = int(step[outside[0]])
        gone = (step > left) | ~np.isfinite(val_loss) if left >= 0 else np.zeros(len(step), bool)
        parts.append(
            {
                "run": identity,
                "problem": problem.name,
                "optimizer": run.optimizer,
                "schedule": run.schedule,
                "peak": peak,
                "seed": run.seed,
                "epoch": np.arange(len(history)),
                "step": step,
                "rate": rate,
                "train_loss": train_loss,
                "val_loss": val_loss,
                "val_accuracy": history[:, 3] if history.shape[1] > 3 else np.nan,
                "diverged": gone,
                "diverged_step": left,
            }
        )
    frame = pd.DataFrame(
        {
            column: np.concatenate(
                [np.broadcast_to(part[column], len(part["step"])) for part in parts]
            )
            for column in COLUMNS
        }
    )
    for column in ("run", "problem", "optimizer", "schedule"):
        frame[column] = frame[column].astype("str")
    frame["diverged_step"] = frame["diverged_step"].astype("Int64").mask(frame.diverged_step < 0)
    return frame
