"""The horizon is what ``fit`` counts, and every printed snippet trains down to its end."""

import doctest
import functools
import importlib
import pkgutil
import re
from pathlib import Path

from anneal_utils import schedules

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat import read
from small import assert_refused, policy

# Keras warns where an epoch is cut short, and that a data set is not shuffled: both are meant here.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Your input ran out of data"),
    pytest.mark.filterwarnings("ignore:`shuffle=True` was passed"),
]
ROOT = Path(__file__).resolve().parent.parent


def arrays(rows):
    return np.zeros((rows, 3), "float32"), np.zeros((rows, 1), "float32")


def compiled(**settings):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    optimizer = keras.optimizers.SGD(0.01, **settings)
    model.compile(optimizer, "mse", jit_compile=False)
    return model


one_model = functools.cache(compiled)  # compiled once for all cases of its optimizer


def counted(*data, settings=(), **fit):
    """How far one ``fit`` moves the counter that schedules read."""
    model = one_model(**dict(settings))
    counter = model.optimizer._iterations
    counter.assign(0)
    model.fit(*data, verbose=0, **fit)
    return int(counter)


class Batches(keras.utils.PyDataset):
    """Four batches of sixteen rows."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return arrays(16)


class Endless(Batches):
    num_batches = None


def stream():
    while True:
        yield arrays(16)


def dataset(rows=63):
    return tf.data.Dataset.from_tensor_slices(arrays(rows)).batch(16)


def unknown(rows=63):
    return dataset(rows).filter(lambda x, y: True)


# ------------------------------------------------------------------------------ equals fit


@pytest.mark.parametrize(
    "rows, given, steps",
    [
        (63, dict(batch_size=32, epochs=10), 20),
        (60, dict(batch_size=32, epochs=50), 100),
        (20, dict(batch_size=32, epochs=10), 10),
        (100, dict(batch_size=32, epochs=10), 40),
        (100, dict(batch_size=32, epochs=10, validation_split=0.2), 30),
        (63, dict(batch_size=32, epochs=10, validation_split=0.5), 10),
        (64, dict(batch_size=32, epochs=10), 20),
        (63, dict(epochs=2), 4),
        (63, dict(), 2),
        (100, dict(epochs=3, steps_per_epoch=10), 30),  # then Keras makes ten batches
        (10, dict(batch_size=1, validation_split=np.float32(0.1)), 9),  # 9.0, not 8.999...
        (63, dict(batch_size=16, epochs=4, steps_per_epoch=3), 8),  # 3, 1, 3, 1
        (63, dict(batch_size=16, epochs=4, steps_per_epoch=9), 16),
    ],
)
def test_arrays_are_counted_as_fit_counts_them(rows, given, steps):
    assert schedules.horizon(rows, **given) == steps
    assert schedules.horizon(arrays(rows)[0], **given) == steps
    assert counted(*arrays(rows), **given) == steps


@settings(max_examples=25, deadline=None)
@given(
    rows=st.integers(2, 70),
    batch_size=st.none() | st.integers(1, 40),
    epochs=st.integers(1, 4),
    split=st.sampled_from([0.0, 0.1, 0.2, 0.37, 0.5]),
    steps_per_epoch=st.none() | st.integers(1, 9),
)
def test_any_sizes(rows, batch_size, epochs, split, steps_per_epoch):
    given_ = dict(
        batch_size=batch_size,
        epochs=epochs,
        validation_split=split,
        steps_per_epoch=steps_per_epoch,
    )
    if rows * (1 - split) < 1:
        return
    assert schedules.horizon(rows, **given_) == counted(*arrays(rows), **given_)


@pytest.mark.parametrize(
    "make, given, steps",
    [
        (dataset, {}, 4),
        (dataset, dict(epochs=3), 12),
        (dataset, dict(epochs=3, batch_size=5), 12),  # a data set has batches of its own
        (dataset, dict(epochs=4, steps_per_epoch=3), 8),
        (lambda: dataset().repeat(), dict(epochs=4, steps_per_epoch=3), 12),
        (
            lambda: unknown().apply(tf.data.experimental.assert_cardinality(4)),
            dict(epochs=3),
            12,
        ),
        (Batches, dict(epochs=3), 12),
        (Batches, dict(epochs=4, steps_per_epoch=3), 8),
        (Endless, dict(epochs=4, steps_per_epoch=3), 12),
        (stream, dict(epochs=4, steps_per_epoch=3), 12),
    ],
)
def test_data_sets_are_counted_as_fit_counts_them(make, given, steps):
    assert schedules.horizon(make(), **given) == steps
    assert counted(make(), **given) == steps


@pytest.mark.parametrize(
    "x",
    [
        63,
        np.int64(63),
        63.0,
        np.zeros((63, 3)),
        pd.DataFrame(np.zeros((63, 3))),
        tf.zeros((63, 3)),
        [np.zeros((63, 3)), np.zeros((63, 2))],
        {"a": np.zeros(63), "b": {"c": np.zeros((63, 2))}},
        (np.zeros((63, 3)), None),
    ],
    ids=lambda x: type(x).__name__,
)
def test_whatever_fit_takes_as_arrays(x):
    assert schedules.horizon(x, 32, 10) == 20


def test_accumulation_counts_batches_not_updates():
    # One update for every four batches; schedules read the counter of the batches.
    model = compiled(gradient_accumulation_steps=4)
    model.fit(*arrays(63), batch_size=16, epochs=4, verbose=0)
    assert int(model.optimizer.iterations) == 4
    assert int(model.optimizer._iterations) == schedules.horizon(63, 16, 4) == 16


def test_under_accumulation_the_horizon_in_updates_ends_a_quarter_of_the_way():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(256, 3)).astype("float32")
    y = (x @ np.array([[1.0], [-2.0], [0.5]])).astype("float32")
    batches = schedules.horizon(x, 16, 8)
    assert batches == 128
    losses = {}
    for steps in (batches // 4, batches):
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        rate = schedules.build("linear", 0.02, steps)
        model.compile(keras.optimizers.SGD(rate, gradient_accumulation_steps=4), "mse")
        model.fit(x, y, batch_size=16, epochs=8, verbose=0)
        losses[steps] = model.evaluate(x, y, verbose=0)
        assert float(rate(batches - 1)) > 0 or steps < batches
    assert losses[batches] < 0.5 * losses[batches // 4]


def test_under_mixed_float16_a_step_that_overflows_is_not_counted():
    with policy("mixed_float16"):
        model = compiled()
    x, y = arrays(63)
    for target, passed in ((0.0, True), (1e4, False)):
        counter = model.optimizer.inner_optimizer._iterations  # what the schedule reads
        counter.assign(0)
        model.set_weights([np.zeros_like(weight) for weight in model.get_weights()])
        model.fit(x + 1, y + target, batch_size=16, epochs=2, verbose=0)
        assert (int(counter) == schedules.horizon(63, 16, 2)) == passed


def test_why_unknown_length_is_refused():
    # In a graph Keras counts one step more than there are batches, in each epoch.
    assert counted(unknown(), epochs=1) == 5
    assert counted(dataset(), epochs=1) == 4


# ------------------------------------------------------------------------------- bad input


def horizon(*arguments, **settings):
    return lambda: schedules.horizon(*arguments, **settings)


ENDLESS = "steps_per_epoch = None: must be given with a "
REFUSED = {
    "x = 0: must be a whole number >= 1": horizon(0, 32, 1),
    "epochs = -1000": horizon(10**400, 32, -(10**400)),
    "validation_split = 1000": horizon(63, 32, 1, validation_split=10**400),
    "x = 2.5: must be a whole number": horizon(2.5, 32, 1),
    "x = True: must be a whole number": horizon(True, 32, 1),
    "x = 'arrays of 0 rows': must have": horizon(np.zeros((0, 3)), 32, 1),
    "x = 'digits': must be arrays": horizon("digits", 32, 1),
    "x = None: must be arrays": horizon(None, 32, 1),
    "x = 'a list': must be arrays": horizon([1, 2, 3], 32, 1),
    "x = 'a ndarray': must be arrays": horizon(np.array(63), 32, 1),
    "x = 'a EagerTensor': must be arrays": horizon(tf.constant(63), 32, 1),
    "x = 'a type': must be arrays": horizon(np.ndarray, 32, 1),
    "x = 'a range': must be arrays": horizon(range(9), steps_per_epoch=3),
    "x = 'a OwnedIterator': must be arrays": horizon(iter(dataset()), steps_per_epoch=3),
    "number of batches in x = 0: must be": horizon(dataset().take(0)),
    "number of batches in x = 0: must be a": horizon(dataset().take(0), steps_per_epoch=3),
    "x = 'arrays of [3, 4] rows': must all have the same number of rows": horizon(
        [np.zeros(3), np.zeros(4)], 32, 1
    ),
    "batch_size = 0: must be": horizon(63, 0, 1),
    "epochs = 0: must be": horizon(63, 32, 0),
    "steps_per_epoch = 0: must be": horizon(63, 32, 1, steps_per_epoch=0),
    "validation_split = 1.0: must be": horizon(63, 32, 1, validation_split=1.0),
    "validation_split = -0.1: must be": horizon(63, 32, 1, validation_split=-0.1),
    "validation_split = 0.2: must leave some of 1 rows on each side": horizon(
        1, 32, 1, validation_split=0.2
    ),
    "validation_split = 1e-20: must leave some of 3 rows on each side": horizon(
        3, 32, 1, validation_split=1e-20
    ),
    "validation_split = 0.2: must be 0 unless": horizon(dataset(), validation_split=0.2),
    f"{ENDLESS}_FilterDataset that does not tell how many batches it has (or tell it: dataset."
    "apply(tf.data.experimental.assert_cardinality(batches)))": horizon(unknown(), epochs=3),
    f"{ENDLESS}_RepeatDataset that does not end": horizon(dataset().repeat(), epochs=3),
    f"{ENDLESS}generator that does not tell": horizon(stream(), epochs=3),
    f"{ENDLESS}Endless that does not end": horizon(Endless(), epochs=3),
    "x = 'PyDataset': must define": horizon(keras.utils.PyDataset(), epochs=3),
}


@pytest.mark.parametrize("start", REFUSED)
def test_bad_input_is_named(start):
    assert_refused(REFUSED[start], start)


# -------------------------------------------------------------------------------- snippets


def fenced(text):
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def snippets():
    """Every Python snippet that is printed for a reader's own ``model.fit``."""
    found = {}
    for path in (ROOT / "README.md", ROOT / "data" / "README.md"):
        for number, code in enumerate(fenced(path.read_text(encoding="utf-8"))):
            found[f"{path.parent.name}/{path.name} {number}"] = code
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [c.source for c in read(path, as_version=4).cells if c.cell_type == "markdown"]
        for number, code in enumerate(fenced("\n".join(cells))):
            found[f"{path.stem} {number}"] = code
    for path in sorted((ROOT / "anneal_utils").rglob("*.py")):
        for number, code in enumerate(fenced(path.read_text(encoding="utf-8"))):
            found[f"{path.name} {number}"] = code
    return found


SNIPPETS = snippets()
SCHEDULED = {name: code for name, code in SNIPPETS.items() if "schedules.build(" in code}


def test_there_are_snippets_in_every_notebook_that_promises_one():
    assert {name.split("_")[0] for name in SCHEDULED if name[0].isdigit()} >= {
        f"{number:02}" for number in range(2, 8)
    }
    assert any("README.md" in name for name in SCHEDULED)


@pytest.mark.parametrize("name", SNIPPETS)
def test_no_snippet_counts_batches_by_itself(name):
    code = SNIPPETS[name]
    assert not re.search(r"len\(\w+\)\s*//|//\s*batch_size", code), code
    if "schedules.build(" in code:
        assert "schedules.horizon(" in code and not re.search(r"steps\s*=\s*\d", code), code


def of_a_reader(rows, epochs):
    """What the snippets take for granted: Keras, a model, data, and the numbers of fit."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 4)).astype("float32")
    y = rng.integers(0, 3, size=rows).astype("int32")
    layers = [keras.Input((4,)), keras.layers.Dense(3, activation="softmax")]
    model = keras.Sequential(layers)
    model.compile("sgd", "sparse_categorical_crossentropy")
    return dict(keras=keras, model=model, x=x, y=y, batch_size=32, epochs=epochs)


@pytest.mark.parametrize("name", sorted(set(SNIPPETS) - set(SCHEDULED)))
def test_every_other_snippet_runs(name):
    exec(compile(SNIPPETS[name], name, "exec"), of_a_reader(63, 4))


# The rows are awkward: an incomplete batch, less than one batch, more than a few.
@pytest.mark.parametrize("rows, epochs", [(63, 10), (60, 5), (20, 6), (100, 4)])
@pytest.mark.parametrize("name", SCHEDULED)
def test_a_snippet_trains_exactly_to_its_horizon(name, rows, epochs):
    space = of_a_reader(rows, epochs)
    model = space["model"]
    fits, fit = [], model.fit

    def remembered(*data, **given):
        """The model's own ``fit``; what moved after it is what the schedule was asked."""
        before = int(model.optimizer._iterations)
        fit(*data, **{**given, "verbose": 0})
        fits.append((model.optimizer, int(model.optimizer._iterations) - before))

    model.fit = remembered
    exec(compile(SCHEDULED[name], name, "exec"), space)
    optimizer, steps = fits[0]
    assert steps == space["steps"] > 0
    rate = optimizer._learning_rate
    assert isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
    table = schedules.values(rate, steps + 1)
    assert (table[:steps] > 0).all(), "a step was spent on a rate of zero"
    assert table[steps] <= 0.2 * table.max(), "training stops before the schedule is through"


MODULES = [
    f"anneal_utils.schedules.{module.name}" for module in pkgutil.iter_modules(schedules.__path__)
]


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name):
    module = importlib.import_module(name)
    ran = doctest.testmod(module, extraglobs={"horizon": schedules.horizon})
    public = [f for f in vars(module).values() if getattr(f, "__module__", "") == name]
    told = [f for f in public if f.__name__[0] != "_" and ">>>" in (f.__doc__ or "")]
    assert ran.failed == 0 and ran.attempted >= len(told)
    assert told or name.endswith(("._parts", ".plain"))
