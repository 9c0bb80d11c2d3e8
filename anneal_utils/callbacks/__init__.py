"""Callbacks for ``model.fit``: rates that were applied, horizons that do not fit, the range test.

``RateRecorder`` records what moved the weights, ``HorizonCheck`` says when training and schedule
differ in length, ``RangeTest`` sweeps the rate and puts the model back, ``WarmupPlateau`` lowers
it on a plateau after a warmup. What Keras does not let them do right is refused with a
``ValueError`` that names it. They work with each of Keras's backends.
"""

from anneal_utils.callbacks.horizon import HorizonCheck
from anneal_utils.callbacks.plateau import WarmupPlateau
from anneal_utils.callbacks.range_test import RangeTest
from anneal_utils.callbacks.recorder import RateRecorder

__all__ = ["HorizonCheck", "RangeTest", "RateRecorder", "WarmupPlateau"]
