"""The table that comes of the runs of a chunk."""

from anneal_utils.benchmark.chunks import Chunk
from anneal_utils.problems import Problem
from anneal_utils.training.frames import Outcome, lost_at

import numpy as np
import pandas as pd

FORMAT = 2  # of the results; another number is another meaning of the tables


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
