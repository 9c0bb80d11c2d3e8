"""Optimizers that Keras lacks, as Keras optimizers.

They work in ``model.fit``, save and load with the model, and run under the many-run trainer.
:class:`Scheduled` lets any number of any optimizer follow a schedule, and :class:`LayerRates`
gives layers rates of their own.
Each is tested against its paper's formulas in NumPy. They work with each of Keras's backends, but
for ``PolyakSGD`` under JAX; what is said about replicas and bits is said of TensorFlow. Taught in
notebooks 04 and 05.

Whatever setting Keras's base class accepts has its meaning there, or is refused with a
``ValueError`` that names it: the docstring of each class says which.

Keras finds the classes of a saved model by their registered names, so they have to be registered
first. In a new process, before ``keras.saving.load_model``::

    from anneal_utils import schedules, optimizers
"""

from anneal_utils.optimizers._adam import SWATS, AdaBound
from anneal_utils.optimizers._averaged import AveragedAdamW, EvaluateAverage
from anneal_utils.optimizers._losses import HypergradientSGD, PolyakSGD
from anneal_utils.optimizers._wrapper import chain, unwrap
from anneal_utils.optimizers.catalogue import describe, names, origin, register, unregister
from anneal_utils.optimizers.wrappers import LayerRates, Scheduled, layer_decay

__all__ = [
    "SWATS",
    "AdaBound",
    "AveragedAdamW",
    "EvaluateAverage",
    "HypergradientSGD",
    "LayerRates",
    "PolyakSGD",
    "Scheduled",
    "chain",
    "describe",
    "layer_decay",
    "names",
    "origin",
    "register",
    "unregister",
    "unwrap",
]
