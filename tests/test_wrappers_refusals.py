"""What can not be scheduled, multiplied or wrapped is refused by name."""

from anneal_utils.optimizers import (
    SWATS,
    AveragedAdamW,
    HypergradientSGD,
    LayerRates,
    PolyakSGD,
    Scheduled,
    layer_decay,
)

import keras
import numpy as np
import pytest
from small import assert_refused
from small_wrappers import FALL, both, constant, fit

optimizers = keras.optimizers


def built():
    optimizer = sgd()
    optimizer.build([keras.Variable([1.0])])
    return optimizer


def sgd(**settings):
    return optimizers.SGD(0.1, **settings)


def rates(multipliers):
    return lambda: LayerRates(sgd(), multipliers)


WHOLE = (SWATS, PolyakSGD, HypergradientSGD)  # a rate for all weights together
REFUSED = {
    "schedules = {}: must name": lambda: Scheduled(sgd()),
    "inner_optimizer = 'sgd': must be": lambda: Scheduled("sgd", momentum=FALL),
    "inner_optimizer = 'SGD': is built": lambda: Scheduled(built(), momentum=FALL),
    "inner_optimizer = 'MultiOptimizer': has optimizers with rates and counters of their own: "
    "wrap each": lambda: Scheduled(
        optimizers.MultiOptimizer(optimizers.OptimizerMap(sgd())), momentum=FALL
    ),
    "inner_optimizer = 'LossScaleOptimizer': goes outside": lambda: Scheduled(
        optimizers.LossScaleOptimizer(sgd()), momentum=FALL
    ),
    "momentum = 0.9: must be a keras": lambda: Scheduled(sgd(), momentum=0.9),
    "hyperparameter = 'learning_rate': is": lambda: Scheduled(sgd(), learning_rate=FALL),
    "hyperparameter = 'momentum': Adam has none; a float can be scheduled: "
    "beta_1, beta_2, ema_momentum, eps": lambda: Scheduled(optimizers.Adam(0.1), momentum=FALL),
    "hyperparameter = 'nesterov': SGD has it as False": lambda: Scheduled(sgd(), nesterov=FALL),
    "hyperparameter = 'clipnorm': SGD has it as None": lambda: Scheduled(sgd(), clipnorm=FALL),
    "hyperparameter = 'loss_scale_factor': SGD has it as 2.0": lambda: Scheduled(
        sgd(loss_scale_factor=2.0), loss_scale_factor=FALL
    ),
    "hyperparameter = 'beta_1': must stay a number": lambda: Scheduled(
        AveragedAdamW(0.05), beta_1=constant(0.5)
    ),
    "momentum at step 0 = 1.5: is refused by SGD: `momentum` must be a float between": lambda: (
        Scheduled(sgd(), momentum=constant(1.5))
    ),
    "momentum at step 0 = nan: ": lambda: Scheduled(sgd(), momentum=constant(np.nan)),
    "hyperparameter = 'momentum': is scheduled by": lambda: Scheduled(both(), momentum=FALL),
    "hyperparameter = 'initial_accumulator_value': is not read when Adagrad updates": lambda: fit(
        Scheduled(optimizers.Adagrad(0.1), initial_accumulator_value=FALL)
    ),
    "hyperparameter = 'ema_momentum': is not read": lambda: fit(
        Scheduled(sgd(), ema_momentum=FALL)
    ),
    **{
        f"inner_optimizer = '{kind.__name__}': must have": lambda kind=kind: LayerRates(
            kind(0.1), {"first": 0.5}
        )
        for kind in WHOLE
    },
    "multipliers = {}: must be a dict": rates({}),
    "multipliers['a'] = -1: must be a finite number >= 0": rates({"a": -1}),
    "multipliers['a'] = 'b': must be": rates({"a": "b"}),
    "pattern = 'a//b': must be": rates({"a//b": 1}),
    "pattern = 3: must be": rates({3: 1}),
    "pattern = 'fir': matches no variable that trains: net/first": lambda: fit(
        LayerRates(sgd(), {"fir": 1})
    ),
    "patterns = 'first and bias': both match net/first/bias": lambda: fit(
        LayerRates(sgd(), {"first": 1, "bias": 2})
    ),
    "factor = -1: must be": lambda: layer_decay(["a"], -1),
}


@pytest.mark.parametrize("start", REFUSED)
def test_bad_input_is_named(start):
    assert_refused(REFUSED[start], start)


def test_an_optimizer_that_branches_on_the_value_is_refused():
    class Branching(optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            if self.momentum > 0.5:
                super().update_step(gradient, variable, learning_rate)

    branching = Scheduled(Branching(0.1), momentum=FALL)
    assert_refused(lambda: fit(branching), "momentum: the optimizer compares it with 0.5")
