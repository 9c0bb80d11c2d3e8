"""Problems of every form that fit takes, trained by the many-run trainer and by fit alike."""

import dataclasses
import re
import warnings

from anneal_utils import problems, training
from anneal_utils.problems import Problem

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

L = keras.layers
RNG = np.random.default_rng(7)
N, M, T = 48, 20, 30  # train, val, test
A, B = RNG.normal(size=(N + M + T, 3)), RNG.normal(size=(N + M + T, 2))
NUMBER = (A.sum(axis=1) + B[:, 0])[:, None]
CLASS = (NUMBER[:, 0] > 0).astype(int) + (NUMBER[:, 0] > 1)
PARTS = {"train": slice(0, N), "val": slice(N, N + M), "test": slice(N + M, None)}


def cut(structure, rows):
    if structure is None:
        return None
    return tf.nest.map_structure(lambda array: array[rows], structure)


def problem(build, x, y, loss="mse", *, test=False, weights=None, **rest):
    given = {}
    for part, rows in PARTS.items():
        if part != "test" or test:
            given |= {f"x_{part}": cut(x, rows), f"y_{part}": cut(y, rows)}
            if weights is not None:
                given[f"sample_weight_{part}"] = cut(weights, rows)
    rest = {"metrics": (), "batch_size": 16, "epochs": 3, **rest}
    return Problem("mine", build, loss=loss, **given, **rest)


def plain(outputs=1):
    return lambda: keras.Sequential([keras.Input((3,)), L.Dense(4, "tanh"), L.Dense(outputs)])


def named():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    return keras.Model({"a": a, "b": b}, L.Dense(1)(L.Concatenate()([a, b])))


def pair():
    a, b = keras.Input((3,)), keras.Input((2,))
    return keras.Model([a, b], L.Dense(1)(L.Concatenate()([a, b])))


def two_heads():
    a = keras.Input((3,), name="a")
    hidden = L.Dense(4, "tanh")(a)
    return keras.Model(
        a, {"number": L.Dense(1, name="number")(hidden), "sort": L.Dense(3, name="sort")(hidden)}
    )


@keras.saving.register_keras_serializable("tests")
class Reconstruction(L.Layer):
    def call(self, inputs):
        x, output = inputs
        self.add_loss(keras.ops.mean(keras.ops.square(x - output)))
        return output


def autoencoder():
    a = keras.Input((3,))
    return keras.Model(a, Reconstruction()([a, L.Dense(3)(L.Dense(1)(a))]))


sparse = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
FORMS = {
    "dict": lambda **k: problem(named, {"a": A, "b": B}, NUMBER, **k),
    "list": lambda **k: problem(pair, [A, B], NUMBER, **k),
    "tuple": lambda **k: problem(pair, (A, B), NUMBER, **k),
    "pandas": lambda **k: problem(
        plain(), pd.DataFrame(A, columns=list("abc")), pd.Series(NUMBER[:, 0]), **k
    ),
    "tensors": lambda **k: problem(plain(), tf.constant(A), tf.constant(NUMBER), **k),
    "two outputs": lambda **k: problem(
        two_heads,
        A,
        {"number": NUMBER, "sort": CLASS},
        {"number": "mse", "sort": sparse},
        metrics={"number": ["mae"], "sort": ["accuracy"]},
        loss_weights={"number": 0.3, "sort": 1.0},
        **k,
    ),
    "no targets": lambda **k: problem(autoencoder, A, None, None, **k),
    "metrics": lambda **k: problem(
        lambda: keras.Sequential([keras.Input((3,)), L.Dense(1, "sigmoid")]),
        A,
        (NUMBER > 0).astype("float32"),
        "binary_crossentropy",
        metrics=("accuracy", "AUC", "mae"),
        weighted_metrics=["mse"],
        **k,
    ),
    "a metric named accuracy": lambda **k: problem(
        lambda: keras.Sequential([keras.Input((3,)), L.Dense(1, "sigmoid")]),
        A,
        (NUMBER > 0).astype("float32"),
        "binary_crossentropy",
        metrics=keras.metrics.BinaryAccuracy(name="accuracy"),
        **k,
    ),
    "sample weights": lambda **k: problem(
        plain(), A, NUMBER, weights=RNG.uniform(size=N + M + T), weighted_metrics=["mae"], **k
    ),
    "class weights": lambda **k: problem(
        plain(3), A, CLASS, sparse, class_weight={0: 1.0, 1: 5.0}, metrics=["accuracy"], **k
    ),
}


def same(mine, plain):
    """The frames of a training and of its twin, to the last bit."""
    shared = [column for column in plain if column != "run"]
    assert sorted(mine) == sorted(plain)
    pd.testing.assert_frame_equal(mine[shared], plain[shared], check_exact=True)


@pytest.mark.parametrize("variant", ["plain", "test and batches", "splits"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_data_trains_as_fit_does(form, variant):
    more = {
        "plain": {},
        "test and batches": dict(test=True, evaluation_batch_size=8),
        "splits": dict(splits=3, test=True),
    }[variant]
    mine = FORMS[form](**more)
    run = training.grid({"line": lambda epoch: 0.1 / (1 + epoch)}, seeds=[4])[0]
    frame = training.train(mine, [run], mode="graph")
    _, twin = training.fit_one(mine, run)
    same(frame, twin)
    assert np.isfinite(frame[["train_loss", "val_loss"]]).all(axis=None)
    assert frame["val_loss"].iloc[-1] != frame["val_loss"].iloc[0]
    quick = training.train(mine, [run])
    numbers = [c for c in quick if c.startswith(("train_", "val_", "test_"))]
    np.testing.assert_allclose(quick[numbers], frame[numbers], rtol=2e-4, atol=1e-5)


def test_what_fit_would_say_on_the_arrays_themselves():
    """Not by the twin, which takes the arrays from the problem: by fit on the caller's own."""
    mine = FORMS["class weights"](batch_size=N)  # one batch an epoch, so order does not matter
    run = training.grid({"c": 0.1}, seeds=[3])[0]
    frame = training.train(mine, [run], mode="graph")
    keras.utils.set_random_seed(3)
    model = mine.build()
    model.compile(keras.optimizers.SGD(0.1), sparse, metrics=["accuracy"])
    log = model.fit(
        A[:N],
        CLASS[:N],
        batch_size=N,
        epochs=3,
        shuffle=False,
        class_weight={0: 1.0, 1: 5.0},
        validation_data=(A[N : N + M], CLASS[N : N + M]),
        verbose=0,
    ).history
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(frame[f"train_{name}"], log[name], rtol=1e-5)
        np.testing.assert_allclose(frame[f"val_{name}"], log[f"val_{name}"], rtol=1e-5)


def test_every_metric_is_a_column_under_kerass_name():
    frame = training.train(FORMS["metrics"](test=True), training.grid({"c": 0.1}))
    kinds = [f"{part}_{m}" for m in ("accuracy", "AUC", "mae", "mse") for part in ("train", "val")]
    assert {*kinds, *(k.replace("val_", "test_") for k in kinds if "val" in k)} <= set(frame)
    assert frame[kinds].notna().all(axis=None)
    assert frame["test_AUC"].isna().tolist() == [True, True, False]
    assert (
        training.train(FORMS["a metric named accuracy"](), training.grid({"c": 0.1}))[
            ["train_accuracy", "val_accuracy"]
        ]
        .notna()
        .all(axis=None)
    )


def test_a_seed_belongs_to_a_split_and_one_program_serves_them_all(monkeypatch):
    mine = FORMS["dict"](splits=3)
    made = []
    real = training.trainer.program_of
    monkeypatch.setattr(training.trainer, "program_of", lambda *a: made.append(a) or real(*a))
    frame = training.train(mine, training.grid({"c": 0.1}, seeds=range(6)))
    assert len(made) == 1
    rows = [mine.rows(seed) for seed in range(6)]
    for seed in range(3):
        assert rows[seed][1] is rows[seed + 3][1]
        assert sorted([*rows[seed][0], *rows[seed][1]]) == list(range(N + M))
    assert len({tuple(tune) for _, tune in rows}) == 3
    np.testing.assert_array_equal(rows[0][1], np.arange(N, N + M))  # split 0 is the given one
    # Seeds of split 0 train as without splits.
    one = training.train(FORMS["dict"](), training.grid({"c": 0.1}, seeds=[0, 3]))
    both = frame[frame["seed"].isin([0, 3])]
    np.testing.assert_allclose(both["val_loss"], one["val_loss"], rtol=1e-5)
    assert not set(both["run"]) & set(one["run"])


def test_splits_are_stratified_or_as_given():
    classes = problem(plain(3), A, CLASS, sparse, splits=4)
    counts = [np.bincount(CLASS[classes.rows(seed)[1]], minlength=3) for seed in range(1, 4)]
    assert np.ptp(counts, axis=0).max() <= 1
    chosen = [np.arange(M), np.arange(M) * 2]
    given = problem(plain(), A, NUMBER, splits=chosen)
    for seed, rows in enumerate(chosen):
        np.testing.assert_array_equal(given.rows(seed)[1], rows)
    again = dataclasses.replace(given, epochs=2)
    np.testing.assert_array_equal(again.rows(1)[1], chosen[1])


def test_the_identity_knows_splits_tests_and_weights():
    run = training.grid({"c": 0.1}, seeds=[2])
    kinds = [{}, {"test": True}, {"splits": 2}, {"splits": 3}, {"weights": np.ones(N + M + T)}]
    kinds += [{"weights": np.full(N + M + T, 2.0)}, {"class_weight": {0: 2.0}}]
    kinds += [{"evaluation_batch_size": 7}]
    found = [
        training.identities(problem(plain(3), A, CLASS, sparse, **kind), run)[0] for kind in kinds
    ]
    assert len(set(found)) == len(kinds)


@pytest.mark.parametrize("part", ["x_train", "y_val", "sample_weight_train"])
def test_the_callers_arrays_stay_the_callers(part):
    a, number, weights = A.astype("float32"), NUMBER.astype("float32"), np.ones(N + M + T, "f4")
    mine = problem(plain(), a, number, weights=weights)
    before = np.array(getattr(mine, part))
    for array in (a, number, weights):
        assert array.flags.writeable
        array[:] = 5
    np.testing.assert_array_equal(getattr(mine, part), before)
    with pytest.raises(ValueError, match="read-only"):
        getattr(mine, part)[0] = 1


def test_a_memory_map_that_is_read_only_is_not_copied(tmp_path):
    np.save(tmp_path / "a.npy", A.astype("float32"))
    kept = np.load(tmp_path / "a.npy", mmap_mode="r")
    mine = problem(plain(), kept, NUMBER)
    assert np.shares_memory(mine.x_train, kept)
    open_to_all = np.load(tmp_path / "a.npy", mmap_mode="r+")
    assert not np.shares_memory(problem(plain(), open_to_all, NUMBER).x_train, open_to_all)
    run = training.grid({"c": 0.1})
    same(training.train(mine, run), training.train(problem(plain(), A, NUMBER), run))


def test_datasets_that_fit_in_memory():
    def of(rows, *more):
        arrays = ({"a": A[rows], "b": B[rows]}, NUMBER[rows], *more)
        return tf.data.Dataset.from_tensor_slices(arrays).batch(16)

    mine = Problem.from_dataset(
        *("mine", named, of(PARTS["train"]), of(PARTS["val"]), of(PARTS["test"])),
        loss="mse",
        epochs=3,
        metrics=(),
    )
    assert mine.batch_size == 16 and mine.samples("test") == T
    same(
        training.train(mine, training.grid({"c": 0.1})),
        training.train(FORMS["dict"](test=True), training.grid({"c": 0.1})),
    )


TEXTS = np.array(["low", "high", "mid"])[CLASS]


def reader():
    text = keras.Input((), dtype="string")
    codes = L.StringLookup(vocabulary=["low", "mid", "high"], output_mode="one_hot")(text)
    return keras.Model(text, L.Dense(3)(codes))


def test_texts_train_in_graph_mode_with_one_warning():
    mine = problem(reader, TEXTS, CLASS, sparse)
    run = training.grid({"c": 0.5}, seeds=[0])
    from anneal_utils.training import program

    program._warned.clear()
    with pytest.warns(UserWarning, match="XLA can not compile .*: trained in graph mode"):
        frame = training.train(mine, run)
    assert frame["val_loss"].is_monotonic_decreasing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training.train(problem(reader, TEXTS, CLASS, sparse, epochs=2), run)
    same(frame, training.fit_one(mine, run[0])[1])


@keras.saving.register_keras_serializable("tests")
class AsLongAsItSays(L.Layer):
    """A shape that the numbers in it decide."""

    def call(self, x):
        length = tf.cast(tf.abs(x[0, 0]), tf.int32) + 1
        return x + 0 * tf.reduce_sum(tf.cast(tf.range(length), tf.float32))


def test_what_xla_finds_out_too_late_is_trained_in_graph_mode_too():
    def build():
        return keras.Sequential([keras.Input((3,)), AsLongAsItSays(), L.Dense(1)])

    mine, runs = problem(build, A, NUMBER), training.grid({"c": 0.1}, seeds=range(3))
    with pytest.warns(UserWarning, match="XLA can not compile 'mine' .*: trained in graph mode"):
        frame = training.train(mine, runs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = training.train(mine, runs)
    same(again, frame)
    same(frame, training.train(mine, runs, mode="graph"))
    with pytest.raises(tf.errors.InvalidArgumentError):
        training.train(mine, runs, mode="xla")


def test_even_what_can_not_be_read_is_tried_under_xla_only_once(monkeypatch):
    """Its digest is another at each try, so that by it nothing would be known the next time."""
    from anneal_utils.training import program

    def build():
        return keras.Sequential([keras.Input((3,)), AsLongAsItSays(), L.Dense(1), L.Dense(1)])

    monkeypatch.setattr(program, "_uncompilable", set())  # as in a new process
    monkeypatch.setattr(program, "_warned", set())
    named, tries = program.Program._name, []

    def unread(self, *given):
        named(self, *given)
        self.readable, self.digest = False, f"try {len(tries)}"
        tries.append(self)
        assert len(tries) < 4, "it goes on for ever"

    monkeypatch.setattr(program.Program, "_name", unread)
    mine, runs = problem(build, A, NUMBER), training.grid({"c": 0.1})
    with pytest.warns(UserWarning, match="XLA can not compile 'mine'"):
        frame = training.train(mine, runs)
    assert len(tries) == 2 and frame["val_loss"].notna().all()


# ------------------------------------------------------------------------------- chance losses


def by_hand(build, loss, y):
    return float(keras.losses.get(loss)(tf.constant(y), tf.constant(build)).numpy().mean())


CHANCES = {
    "mse": (lambda: problem(plain(), A, NUMBER), np.var(NUMBER[N : N + M])),
    "mae": (
        lambda: problem(plain(), A, NUMBER, "mae"),
        np.abs(NUMBER[N : N + M] - np.median(NUMBER[N : N + M])).mean(),
    ),
    "classes": (
        lambda: problem(plain(3), A, CLASS, sparse),
        -sum(p * np.log(p) for p in np.bincount(CLASS[N : N + M]) / M),
    ),
    "yes or no": (
        lambda: problem(plain(), A, (NUMBER > 0) * 1.0, "binary_crossentropy"),
        -sum(p * np.log(p) for p in np.bincount(NUMBER[N : N + M, 0] > 0) / M),
    ),
}


@pytest.mark.parametrize("kind", CHANCES)
def test_the_chance_loss_is_that_of_the_best_constant(kind):
    make, expected = CHANCES[kind]
    assert make().chance_loss == pytest.approx(expected, rel=1e-5)


def test_no_constant_is_below_the_chance_loss():
    mine = problem(plain(), A, NUMBER, "mae", weights=RNG.uniform(size=N + M + T))
    y, weight = mine.y_val, mine.sample_weight_val
    loss = keras.losses.MeanAbsoluteError()
    others = [float(loss(y, np.full_like(y, c), sample_weight=weight)) for c in np.linspace(-3, 3)]
    assert mine.chance_loss <= min(others) + 1e-6


def test_without_a_formula_untrained_models_tell_chance():
    mine = FORMS["two outputs"]()
    losses = []
    for seed in range(5):
        keras.utils.set_random_seed(seed)
        model = mine.build()
        model.compile(loss=mine.loss, loss_weights=mine.loss_weights)
        losses.append(model.evaluate(mine.x_val, mine.y_val, verbose=0, batch_size=M)[0])
    assert mine.chance_loss == pytest.approx(np.median(losses), rel=1e-5)
    assert FORMS["dict"](chance_loss=2.5).chance_loss == 2.5


# ----------------------------------------------------------------------------------- bad input

BAD = {
    "x_train[0] = 'a list of float'": lambda: Problem(
        *("mine", plain(), A[:2].tolist(), NUMBER[:2], A, NUMBER),
        loss="mse",
        batch_size=1,
        epochs=1,
    ),
    "x_train = 'a list of int'": lambda: Problem(
        *("mine", plain(), [1, 2], NUMBER[:2], A, NUMBER), loss="mse", batch_size=1, epochs=1
    ),
    "x_train = '_TensorSliceDataset'": lambda: Problem(
        *("mine", plain(), tf.data.Dataset.from_tensor_slices(A), NUMBER, A, NUMBER),
        loss="mse",
        batch_size=1,
        epochs=1,
    ),
    "y_train = '47 rows'": lambda: Problem(
        *("mine", plain(), A[:N], NUMBER[: N - 1], A, NUMBER), loss="mse", batch_size=1, epochs=1
    ),
    "x_train['b'] = '9 rows'": lambda: Problem(
        *("mine", named, {"a": A[:N], "b": B[:9]}, NUMBER[:N], {"a": A, "b": B}, NUMBER),
        loss="mse",
        batch_size=1,
        epochs=1,
    ),
    "x_val = \"'float32": lambda: Problem(
        *("mine", plain(), A, NUMBER, B, NUMBER), loss="mse", batch_size=1, epochs=1
    ),
    "y_val = None": lambda: Problem(
        *("mine", plain(), A, NUMBER, A, None), loss="mse", batch_size=1, epochs=1
    ),
    "x_train = 'an array of objects'": lambda: problem(
        plain(), pd.DataFrame({"a": TEXTS, "b": A[:, 0]}), NUMBER
    ),
    "batch_size = 64": lambda: problem(plain(), A, NUMBER, batch_size=64),
    "class_weight = {0: 2.0}": lambda: problem(
        plain(3), A, CLASS, sparse, class_weight={0: 2.0}, weights=A[:, 0]
    ),
    "splits[0] = '3 rows'": lambda: problem(plain(), A, NUMBER, splits=[[1, 2, 3]]),
    "splits = 0": lambda: problem(plain(), A, NUMBER, splits=0),
    "direction = None": lambda: problem(plain(), A, NUMBER, target="val_auc"),
    "target = 'loss'": lambda: problem(plain(), A, NUMBER, target="loss"),
    "build = 'dense'": lambda: problem("dense", A, NUMBER),
    "train = 'list'": lambda: Problem.from_dataset("m", plain(), [1], [2], loss="mse", epochs=1),
    "train = 'an infinite dataset'": lambda: Problem.from_dataset(
        *("m", plain(), tf.data.Dataset.from_tensor_slices(A).batch(4).repeat(), None),
        loss="mse",
        epochs=1,
    ),
    "problem.target = 'val_mae'": lambda: training.train(
        problem(plain(), A, NUMBER, target="val_mae", direction="min"), training.grid({"c": 0.1})
    ),
    "metric 'f1_score'": lambda: training.train(
        problem(
            plain(3),
            A,
            np.eye(3)[CLASS],
            keras.losses.CategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.F1Score()],
        ),
        training.grid({"c": 0.1}),
    ),
}


@pytest.mark.parametrize("sentence", BAD)
def test_bad_data_are_refused_by_name(sentence):
    with pytest.raises(ValueError, match="^" + re.escape(sentence)):
        BAD[sentence]()


def test_a_problem_is_trained_by_its_name_too():
    runs = training.grid("cosine", 0.1)
    same(training.train("article", runs), training.train(problems.load("article"), runs))
