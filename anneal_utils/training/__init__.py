"""The many-run trainer, its plain-Keras twin, and three callbacks for ``model.fit``.

A fair comparison of schedules needs thousands of small trainings; a loop of ``model.fit`` pays
Python for every batch. Here one whole training is one compiled program around Keras's own
``train_step``: compiled once, then called once per run with that run's initial weights, table of
rates and batch order. It returns what ``fit`` would return (``fit_one`` is that ``fit``, and the
tests compare the two). Taught in notebook 01.

A run's seed alone decides initial weights, batch order and dropout masks, so runs of equal seed
are paired, and a run gives the same bits alone, among thousands, or on another thread.
"""

from anneal_utils import _needs

if missing := _needs.tensorflow("anneal_utils.training"):
    raise ImportError(missing)

from anneal_utils.callbacks import HorizonCheck, RangeTest, RateRecorder
from anneal_utils.training.frames import COLUMNS
from anneal_utils.training.recipes import Plateau, Run, grid, per_step
from anneal_utils.training.runs import batches, rates, schedule_of, steps_of
from anneal_utils.training.trainer import cores, identities, train
from anneal_utils.training.twin import fit_one

__all__ = [
    "COLUMNS",
    "HorizonCheck",
    "Plateau",
    "RangeTest",
    "RateRecorder",
    "Run",
    "batches",
    "cores",
    "fit_one",
    "grid",
    "identities",
    "per_step",
    "rates",
    "schedule_of",
    "steps_of",
    "train",
]
