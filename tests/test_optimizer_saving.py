"""Optimizers in saved models and in new processes."""

from anneal_utils import optimizers, schedules
from anneal_utils.optimizers import AdaBound, AveragedAdamW

import keras
import numpy as np
import pytest
from elsewhere import python
from small import assert_equal, held
from small_optimizers import ALONE, MAKERS, X, Y, small, trained

# ----------------------------------------------------------------------------- saved models


SAVED = {  # settings with a state of their own
    "plain": {},
    "all": {"gradient_accumulation_steps": 3, "use_ema": True, "global_clipnorm": 0.1},
}


@pytest.mark.parametrize("settings", SAVED)
@pytest.mark.parametrize("name", MAKERS)
def test_a_saved_training_goes_on_to_the_last_bit(name, settings, tmp_path):
    refused = ALONE.get(name, set())
    settings = {key: value for key, value in SAVED[settings].items() if key not in refused}
    rate = schedules.build("cosine", 0.05, 40, warmup=0.1)
    model = small()
    trained(MAKERS[name](rate, **settings), model=model, epochs=1)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    assert again.optimizer.get_config() == model.optimizer.get_config()
    for each in (model, again):
        each.fit(X, Y, batch_size=8, epochs=1, shuffle=False, verbose=0)
    assert_equal(held(again, again.optimizer), held(model, model.optimizer))


LOAD = """
import numpy as np
import keras
try:
    keras.saving.load_model({path!r})
except TypeError as error:
    print(error)
{imports}
model = keras.saving.load_model({path!r})
model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=2, shuffle=False, verbose=0)
print(*(float(np.float64(w).sum()).hex() for w in model.get_weights()))
"""


def test_a_new_process_loads_after_one_import(tmp_path):
    path, model = str(tmp_path / "m.keras"), small()
    trained(AdaBound(schedules.build("cosine", 0.1, 100, warmup=0.1)), model=model)
    model.save(path)
    imports = "from anneal_utils import schedules, optimizers"
    out = python("-c", LOAD.format(imports=imports, path=path))
    model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=2, shuffle=False, verbose=0)
    assert "Could not locate class 'AdaBound'" in out
    assert out.splitlines()[-1].split() == [
        float(np.float64(w).sum()).hex() for w in model.get_weights()
    ]

    for text in (optimizers.__doc__, AdaBound.__doc__, AveragedAdamW.__doc__):
        assert imports in text
