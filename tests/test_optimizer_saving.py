"""Optimizers in saved models, in new processes and on two replicas."""

import os
import subprocess
import sys
from pathlib import Path

from anneal_utils import optimizers, schedules
from anneal_utils.optimizers import AdaBound, AveragedAdamW

import keras
import numpy as np
import pytest
from test_optimizer_settings import ALONE, MAKERS, X, Y, assert_equal, small, trained

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
    assert_equal(again.get_weights(), model.get_weights())
    assert_equal(
        [v.numpy() for v in again.optimizer.variables],
        [v.numpy() for v in model.optimizer.variables],
    )


ROOT = Path(__file__).parent.parent
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


def new_process(code):
    """(exit code, standard output, standard error) of a new Python that can import the package."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def test_a_new_process_loads_after_one_import(tmp_path):
    path, model = str(tmp_path / "m.keras"), small()
    trained(AdaBound(schedules.build("cosine", 0.1, 100, warmup=0.1)), model=model)
    model.save(path)
    imports = "from anneal_utils import schedules, optimizers"
    code, out, err = new_process(LOAD.format(imports=imports, path=path))
    assert code == 0, err
    model.fit(np.ones((8, 3)), np.ones((8, 1)), epochs=2, shuffle=False, verbose=0)
    assert "Could not locate class 'AdaBound'" in out
    assert out.splitlines()[-1].split() == [
        float(np.float64(w).sum()).hex() for w in model.get_weights()
    ]

    for text in (optimizers.__doc__, AdaBound.__doc__, AveragedAdamW.__doc__):
        assert imports in text


# ------------------------------------------------------------------------------- two replicas


REPLICAS = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import sys
sys.path.insert(0, {tests!r})
from test_optimizer_settings import *
from anneal_utils.optimizers import EvaluateAverage
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

def both(name, **settings):
    found = []
    for scope in (strategy.scope, tf.init_scope):
        average = [EvaluateAverage()] if name == "averaged" else []
        with scope():
            model = small()
            model.compile(MAKERS[name](**settings), "mse", jit_compile=False)
        model.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0, validation_data=(X, Y),
                  callbacks=average)
        found.append(model.get_weights())
    return found

def refused(name, message, **settings):
    with strategy.scope(), pytest.raises(ValueError, match=message):
        MAKERS[name](**settings).build(small().trainable_variables)

for name in ("sgd", "adabound", "averaged"):
    assert_close(*both(name))
for name in WHOLE:
    refused(name, "^tf.distribute strategy = 'MirroredStrategy, 2 replicas': must have one")
for argument in (*CLIPPED, "gradient_accumulation_steps"):
    for name in ("adabound", "averaged"):
        value = REFUSED[argument]
        refused(name, f"^{{argument}} = .*: must be None with 2 replicas", **{{argument: value}})
"""


def test_two_replicas_are_one_device_with_the_whole_batch():
    code, _, err = new_process(REPLICAS.format(tests=str(Path(__file__).parent)))
    assert code == 0, err
