"""Schedules, callbacks and optimizers on Keras's other backends, where TensorFlow is not to be had.

Another backend is another process. What it says is held against the values that TensorFlow gives
here: closed values of every schedule of the catalogue, and the rates that ``fit`` applied.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from anneal_utils import _needs, schedules

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PEAK, STEPS = 0.1, 50
TRAINED = ["linear", "step", "cosine_restarts", "one_cycle"]

REFUSE = """
import sys
class Refuse:
    # PyTorch asks whether TensorFlow is there, and takes no for an answer, but no error.
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            frame = sys._getframe()
            while frame := frame.f_back:
                if frame.f_globals.get("__name__", "").startswith("torch."):
                    return None
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
"""

SCRIPT = """
import json, warnings
from anneal_utils import callbacks, optimizers, schedules
import keras, numpy as np

x = np.random.default_rng(0).normal(size=(200, 4)).astype("float32")
y = (x.sum(1) > 0).astype("float32")
told = {"backend": keras.backend.backend(), "closed": {}, "exact": {}, "applied": {}}

def fit(optimizer, *watching, epochs=6, **compiled):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(optimizer, "binary_crossentropy", **compiled)
    history = model.fit(x, y, batch_size=20, epochs=epochs, verbose=0, callbacks=[*watching])
    return model, history.history

def watched(optimizer, *others, **more):
    recorder = callbacks.RateRecorder()
    model, history = fit(optimizer, recorder, *others, **more)
    return recorder, history["loss"][0], history["loss"][-1]

for name in schedules.names():
    rate = schedules.build(name, PEAK, STEPS, warmup=0.1)
    told["closed"][name] = schedules.values(rate, 60).tolist()
    told["exact"][name] = schedules.values(rate, 60, exact=True).tolist()
for name in TRAINED:
    rate = schedules.build(name, PEAK, STEPS, warmup=0.1)
    recorder, *losses = watched(keras.optimizers.SGD(rate), callbacks.HorizonCheck(steps=60))
    told["applied"][name] = [recorder.rates, recorder.updates, losses]

fall = schedules.build("linear", 0.9, 60, end=0.5)
told["optimizers"] = {}
for made in [
    optimizers.AdaBound(0.01), optimizers.SWATS(0.01), optimizers.HypergradientSGD(0.1),
    optimizers.Scheduled(keras.optimizers.SGD(0.1, momentum=0.9), momentum=fall),
    optimizers.LayerRates(keras.optimizers.Adam(0.01), {"kernel": fall}),
    optimizers.LayerRates(keras.optimizers.SGD(0.1), {"*": 0.0}),
    optimizers.AveragedAdamW(0.01),
]:
    averaged = isinstance(made, optimizers.AveragedAdamW)
    others = [optimizers.EvaluateAverage()] if averaged else []
    recorder, *losses = watched(made, *others)
    told["optimizers"][type(made).__name__ + str(len(told["optimizers"]))] = losses

half = schedules.build("linear", PEAK, 60)
recorder, *_ = watched(keras.optimizers.SGD(half, gradient_accumulation_steps=2))
told["accumulated"] = [recorder.rates, recorder.updates]

def state(model):
    return [np.array(v) for v in [*model.variables, *model.optimizer.variables]]

model, _ = fit(keras.optimizers.Adam(0.01), epochs=1)
before = state(model)
sweep = callbacks.RangeTest(1e-4, 10, steps=40)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    model.fit(x, y, batch_size=20, epochs=99, verbose=0, callbacks=[sweep])
told["sweep"] = sweep.rows
told["back"] = all(map(np.array_equal, before, state(model)))

class Stop(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            raise KeyboardInterrupt

def batches():
    for _ in range(4):
        yield x[:20], y[:20]
    raise KeyboardInterrupt

told["interrupted"] = []
for data in [dict(x=x, y=y, batch_size=20, callbacks=[Stop()]), dict(x=batches(), callbacks=[])]:
    sweep = callbacks.RangeTest(1e-4, 10, steps=40)
    data["callbacks"].insert(0, sweep)
    try:
        model.fit(**data, epochs=99, verbose=0)
    except KeyboardInterrupt:
        sweep.restore()
    told["interrupted"].append([len(sweep.rows), all(map(np.array_equal, before, state(model)))])
model.evaluate(x, y, verbose=0)
told["back"] &= all(map(np.array_equal, before[:4], state(model)[:4]))

plateau = callbacks.WarmupPlateau(12, 0.1, monitor="loss", factor=0.5, patience=1, min_delta=10)
told["plateau"] = watched(keras.optimizers.SGD(0.1), plateau)[0].rates

# A schedule put into the optimizer acts in the next fit that is watched.
model, _ = fit(keras.optimizers.SGD(schedules.build("constant", 0.1, 60)), epochs=1)
model.optimizer.learning_rate = schedules.build("constant", 0.01, 60)
recorder = callbacks.RateRecorder()
model.fit(x, y, batch_size=20, epochs=1, verbose=0, callbacks=[recorder])
told["exchanged"] = recorder.rates

told["refused"] = {}
for room in ("training", "benchmark", "search", "identity", "problems", "diagnostics"):
    try:
        # The rooms of some come late.
        __import__(f"anneal_utils.{room}", fromlist=["run", "search"])
    except ImportError as error:
        told["refused"][room] = str(error)
told["imported"] = [name for name in NAMES if name in sys.modules]
print(json.dumps(told))
"""


def run(script, backend, *refused):
    names = f"NAMES, TRAINED, PEAK, STEPS = {refused!r}, {TRAINED!r}, {PEAK!r}, {STEPS!r}\n"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", names + REFUSE + script],
        env={**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )


@functools.cache
def answers(backend):
    absent = ("tensorflow", *(["pandas", "matplotlib", "tqdm"] if backend == "jax" else []))
    done = run(SCRIPT, backend, *absent)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(params=["jax", "torch"])
def told(request):
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return answers(request.param)


def closed(name):
    return schedules.values(schedules.build(name, PEAK, STEPS, warmup=0.1), 60)


def test_every_schedule_has_the_rates_that_it_has_on_tensorflow(told):
    assert list(told["closed"]) == list(told["exact"]) and len(told["closed"]) >= 17
    for name in told["closed"]:
        for table in (told["closed"][name], told["exact"][name]):
            np.testing.assert_allclose(table, closed(name), rtol=2e-5, atol=1e-7, err_msg=name)


@pytest.mark.parametrize("name", TRAINED)
def test_fit_applies_them(told, name):
    rates, updates, (first, last) = told["applied"][name]
    assert len(rates) == 60 and updates == [1] * 60
    np.testing.assert_allclose(rates, closed(name), rtol=2e-5, atol=1e-7)
    ulp = np.spacing(np.float32(PEAK))  # to the rounding of a step that is compiled as a whole
    assert np.abs(np.array(rates) - told["exact"][name]).max() <= 2 * ulp
    assert last < 0.9 * first


def test_the_optimizers_train(told):
    losses = dict(told["optimizers"])
    first, last = losses.pop("LayerRates5")
    assert first == pytest.approx(last, abs=1e-6)  # a multiplier of 0 freezes
    assert len(losses) == 6
    assert all(last < 0.95 * first for first, last in losses.values()), losses


def test_accumulated_batches_are_told_from_updates(told):
    rates, updates = told["accumulated"]
    assert updates == [0, 1] * 30
    fall = schedules.values(schedules.build("linear", PEAK, 60), 60)
    np.testing.assert_allclose(rates, fall, rtol=1e-5, atol=1e-7)


def test_a_sweep_leaves_no_trace(told):
    steps, rates, losses = zip(*told["sweep"], strict=True)
    assert list(steps) == list(range(len(steps))) and 20 < len(steps) <= 40
    np.testing.assert_allclose(rates, np.geomspace(1e-4, 10, 40)[: len(rates)])
    assert min(losses) < losses[0] and told["back"] and told["interrupted"] == [[4, True]] * 2


def test_the_plateau_follows_a_warmup(told):
    rates = np.array(told["plateau"])
    np.testing.assert_allclose(rates[:12], 0.1 * np.arange(1, 13) / 13, rtol=1e-5)
    assert rates[12] == pytest.approx(0.1) and rates[-1] == pytest.approx(0.025)


def test_an_exchanged_schedule_acts(told):
    assert told["exchanged"] == pytest.approx([0.01] * 10)


def test_nobody_has_asked_for_tensorflow(told):
    assert told["imported"] == []
    for room, sentence in told["refused"].items():
        needed = f"anneal_utils.{room} needs TensorFlow: pip install 'anneal-utils[train]'"
        assert sentence == needed
    assert len(told["refused"]) == 6


# ------------------------------------------------------------------------------- what is told


def sentence(code, backend, *refused):
    done = run(code, backend, *refused)
    assert done.returncode != 0
    return done.stderr.splitlines()[-1]


def test_with_tensorflow_installed_the_other_backend_is_named():
    said = sentence("import anneal_utils.training", "jax")
    assert "anneal_utils.training runs on Keras's TensorFlow backend, and Keras runs on jax" in said
    assert "KERAS_BACKEND=tensorflow" in said


def test_without_any_backend_the_ways_are_told():
    said = sentence("from anneal_utils import schedules", "tensorflow", "tensorflow")
    assert "Keras is to run on tensorflow" in said and "KERAS_BACKEND=jax" in said
    assert "anneal-utils[train]" in said


def test_the_command_line_ends_with_the_sentence_alone():
    script = "import runpy\nrunpy.run_module('anneal_utils.benchmark', run_name='__main__')"
    done = run(script, "jax", "tensorflow", "tqdm", "pandas")
    assert done.returncode == 1
    needed = "anneal_utils.benchmark needs TensorFlow: pip install 'anneal-utils[train]'"
    assert done.stderr.strip() == needed


@pytest.mark.parametrize(
    "call, needed",
    [
        ("callbacks.RangeTest().frame", "RangeTest.frame needs pandas"),
        ("callbacks.RangeTest().plot()", "RangeTest.frame needs pandas"),
        ("optimizers.PolyakSGD(0.1).scale_loss(1.0)", "must be tensorflow or torch for PolyakSGD"),
        ("schedules.build('linear', 0.1, 2 ** 31)", "must be < 2 ** 31"),
    ],
)
def test_what_lacks_something_says_so(call, needed):
    script = f"from anneal_utils import callbacks, optimizers, schedules\n{call}"
    assert needed in sentence(script, "jax", "tensorflow", "pandas")


def test_where_it_is_installed_nothing_is_said():
    assert _needs.tensorflow("anyone") == ""
    assert _needs.package("pandas", "anyone").DataFrame
    with pytest.raises(ImportError, match=r"anyone needs nobody: pip install 'anneal-utils"):
        _needs.package("nobody", "anyone")
