"""A run is what it computes: its identity changes with that, and with nothing else."""

import contextlib
import dataclasses
import doctest
import functools
import hashlib
import inspect
import itertools
import json
import math
import os
import struct
import subprocess
import sys
import types

if "tensorflow first" in sys.argv:
    import tensorflow  # noqa: F401

import anneal_utils
from anneal_utils import identity, optimizers, problems, training
from anneal_utils.training import program as programs
from anneal_utils.training import starts
from anneal_utils.training.program import program_of
from anneal_utils.training.unchanging import unchanging

import hypothesis.extra.numpy as hnp
import keras
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow.python.framework import function

if "threads" in sys.argv:  # as many as there are anyhow, so that the bits are the same
    tf.config.threading.set_intra_op_parallelism_threads(training.cores())

L = keras.layers
SGD = keras.optimizers.SGD
digest = identity.digest

# ------------------------------------------------------------------------------- digests

NAN, OTHER_NAN = struct.unpack("<2d", b"\x01\0\0\0\0\0\xf8\x7f\x02\0\0\0\0\0\xf8\x7f")
LEAVES = [
    *(None, True, False, 0, 1, -1, 2**80, 0.0, -0.0, 1.0, NAN, OTHER_NAN, math.inf),
    *("", "1", "a", "ab", "None", "int 1;", "text 1;a", "\ud800", b"", b"1", b"a", b"ab"),
]
leaves = st.sampled_from(LEAVES)
keys = st.sampled_from([0, 2, "", "a", "b", 0.5, b"a", (1, 2)])
arrays = st.sampled_from(["<i4", ">i4", "<f4", ">f8", "bool", "S2", "<U2", "complex64"]).flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=2))
)
values = st.recursive(
    leaves | arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=2),
    max_leaves=6,
)


def exactly(value):
    """The value as something that is equal to another's only if both are the same."""
    if isinstance(value, np.ndarray):
        kind = value.dtype.newbyteorder("<")
        return (str(kind), value.shape, value.astype(kind).tobytes())
    if isinstance(value, float):
        return ("float", struct.pack("<d", value))
    if isinstance(value, list | tuple):
        return ("list", tuple(map(exactly, value)))
    if isinstance(value, dict):
        return ("dict", frozenset((exactly(k), exactly(v)) for k, v in value.items()))
    return (type(value), value)


def copied(value):
    """An equal value that lies elsewhere, in another order."""
    if isinstance(value, np.ndarray):
        sparse = np.repeat(value[..., None], 2, axis=-1)[..., 0]
        swapped = value.astype(value.dtype.newbyteorder())
        return (np.asfortranarray(value), sparse, swapped)[value.size % 3]
    if isinstance(value, list):
        return tuple(map(copied, value))
    if isinstance(value, dict):
        return {key: copied(value[key]) for key in reversed(value)}
    return value


@settings(max_examples=200, deadline=None)
@given(values)
def test_equal_values_have_equal_digests(value):
    assert digest(value) == digest(copied(value)) == digest(value)


@settings(max_examples=400, deadline=None)
@given(values, values)
def test_digests_are_equal_only_for_equal_values(first, second):
    assert (digest(first) == digest(second)) == (exactly(first) == exactly(second))
    assert (digest(first, second) == digest(second, first)) == (exactly(first) == exactly(second))
    # Nothing runs together: one level more or less, one value more or less.
    nested = [(first, second), ([first, second],), ([first], second), (first, second, []), (first,)]
    assert len({digest(*several) for several in nested}) == len(nested)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["", "a", "b", "ab", "ba", "text 1;", "0"]), max_size=4))
def test_boundaries_between_texts_count(texts):
    joined = "".join(texts)
    splits = [[joined[:i], joined[i:]] for i in range(len(joined) + 1)]
    assert len({digest(*split) for split in [*splits, [joined], [joined, "", ""]]}) == (
        len(joined) + 3
    )


@pytest.mark.parametrize("kind", ["text", "bytes", "list", "int", "field", ""])
def test_no_text_can_pose_as_the_beginning_of_another(kind):
    for head in (f"{kind};", f"{kind} 1;", f"{kind} 2;"):
        for first, second in [
            ((f"a{head}b", "c"), ("a", f"b{head}c")),
            ((f"a{head}b",), ("a", "b")),
        ]:
            assert digest(*first) != digest(*second)
            assert digest(*map(str.encode, first)) != digest(*map(str.encode, second))


def array_of(content, kind):
    return np.array(content, kind)


LONG = "more than sixteen letters"
PADDED = np.dtype([("a", "u1"), ("b", "u2")], align=True)  # with a byte between that means nothing
DIFFERENT = [
    *LEAVES,
    *([], [[]], {}, [{}], [None], [1], [1.0], [True], [[1]], [1, 1], [0, 1], [1, 0], {0: 1}),
    *({"a": 1}, {"a": 1.0}, {"a": {"b": 1}}, {"a": [], "b": 1}, ["a", 1], [["a", 1]], {"a": "1"}),
    *(array_of(1, kind) for kind in ("i1", "i4", "i8", "u4", "f2", "f4", "f8", "?", "c8", object)),
    *(array_of(0, "f4"), array_of(-0.0, "f4"), array_of(NAN, "f8"), array_of(OTHER_NAN, "f8")),
    *(array_of(content, "i4") for content in ([1], [[1]], [1, 1], [1 << 24])),
    *(np.zeros(shape, "f4") for shape in ((0,), (0, 1), (1, 0), (0, 0))),
    *(np.zeros(0, "i4"), np.zeros(0, object), np.arange(4), np.arange(4).reshape(2, 2)),
    *(np.arange(4).reshape(2, 2).T, array_of(["a"], "U1"), array_of(["a"], "S1")),
    *(array_of([content], object) for content in ("a", b"a", "1", None, b"\0", 2, True, LONG)),
    *(array_of(texts, object) for texts in (["a", "bc"], ["ab", "c"], ["abc", ""])),
    *(array_of([text, "b"], np.dtypes.StringDType()) for text in (LONG, LONG[::-1])),
    *(array_of(["2020"], "M8[s]"), array_of(["2020"], "M8[ns]")),
    *(np.zeros(1, [fields]) for fields in (("a", "f4"), ("a", "i4"), ("b", "f4"))),
    *(array_of([(1, text)], [("a", "f4"), ("b", object)]) for text in ("a", "b")),
    *(array_of([number], ml_dtypes.bfloat16) for number in (1, 2)),
    *(array_of([1], ml_dtypes.float8_e4m3fn), array_of([1], "f2")),
]


def test_different_values_have_different_digests():
    found = {}
    for value in DIFFERENT:
        found.setdefault(digest(value), []).append(value)
    assert [same for same in found.values() if len(same) > 1] == []


@pytest.mark.parametrize(
    "first, second",
    [
        ([1, (2, "a")], (1, [2, "a"])),
        ({"a": 1, 2: 3, None: 4}, {None: 4, 2: 3, "a": 1}),
        ({math.nan: 1, 0.5: 2, 1.0: 3}, {1.0: 3, math.nan: 1, 0.5: 2}),
        (tf.constant([1.0, 2.0]), np.array([1, 2], "f4")),
        (tf.constant(["a", "b"]), np.array([b"a", b"b"], object)),
        (tf.constant([1, 2], tf.bfloat16), np.array([1, 2], ml_dtypes.bfloat16)),
        (np.arange(6).reshape(2, 3).T, np.asfortranarray(np.arange(6).reshape(2, 3).T)),
        (np.arange(12)[::2], np.arange(0, 12, 2)),
        (np.arange(6)[::-1], np.arange(5, -1, -1)),
        (np.float32(2), np.array(2, "f4")),
        (np.array([1, 2], ">i8"), np.array([1, 2], "<i8")),
        (np.array([LONG], np.dtypes.StringDType()), np.array([LONG], np.dtypes.StringDType())),
        (np.frombuffer(b"\1\2\3\4", PADDED), np.frombuffer(b"\1\7\3\4", PADDED)),
    ],
)
def test_the_way_a_value_is_kept_does_not_count(first, second):
    assert digest(first) == digest(second)


def symbolic():
    found = []
    tf.function(lambda x: found.append(x)).get_concrete_function(tf.TensorSpec([]))
    return found[0]


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: 1j, lambda: {1}, lambda: frozenset(), object, lambda: print, lambda: math),
        *(lambda: range(3), lambda: bytearray(b"a"), lambda: iter([]), lambda: SGD, SGD),
        *(lambda: tf.Variable(1.0), lambda: keras.Variable(1.0), lambda: tf.Variable(1.0).handle),
        *(symbolic, lambda: tf.TensorSpec([]), lambda: tf.ragged.constant([[1], [1, 2]])),
        *(lambda: tf.float32, lambda: np.array([object()]), lambda: pd.Series([1])),
    ],
)
def test_what_can_not_be_read_has_no_digest(make):
    for value in (make(), [make()], {"a": make()}):
        with pytest.raises(TypeError, match="has no digest"):
            digest(value)


def test_a_digest_is_of_fixed_length_and_known():
    assert digest() == hashlib.sha256(b"list 0;").hexdigest()[:32]
    assert {len(digest(value)) for value in LEAVES} == {32}


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(identity) == doctest.TestResults(failed=0, attempted=5)


# ------------------------------------------------------------- the same in every process

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(48, 64)).astype("float32")
TOKENS = RNG.integers(0, 20, size=(48, 6)).astype("int32")
LABELS = RNG.integers(0, 3, size=48).astype("int32")
TARGETS = np.eye(3, dtype="float32")[LABELS]


def tiny(build, x=IMAGES, y=LABELS, **given):
    """A small problem: two epochs of four steps."""
    base = {
        "name": "tiny",
        "build": build,
        "x_train": x[:32].copy(),
        "y_train": y[:32].copy(),
        "x_val": x[32:].copy(),
        "y_val": y[32:].copy(),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "batch_size": 8,
        "epochs": 2,
        "chance_loss": math.log(3),
        "metrics": (),
    }
    return problems.Problem(**{**base, **given})


def dense(**settings):
    return lambda: keras.Sequential([keras.Input((64,)), L.Dense(3, **settings)])


def one(optimizer="sgd", recipe=0.1, *, seeds=(3,), peaks=(0.1,), **settings):
    return training.grid({"c": recipe}, peaks, seeds, optimizer, **settings)


class Asserting(L.Layer):
    """Its assertions would tell the names of what they have seen."""

    def call(self, x):
        tf.debugging.assert_equal(x, tf.identity(x, name=f"{NAMES or 'none'}_seen"))
        return tf.debugging.check_numerics(x, f"in {self.name}")


class Nested(L.Layer):
    """Functions in functions, a condition, and a gradient that is not the derivative."""

    @tf.function
    def twice(self, x):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: 2 * x, lambda: 3 * x)

    def call(self, x):
        @tf.custom_gradient
        def sign(x):
            return tf.sign(x), lambda gradient: gradient / 2

        return sign(self.twice(x))


NAMES = ""  # what the layers of the zoo are called by


def zoo(*layers, size=(64,)):
    """A build function; the layers get other names in another process."""

    def build():
        made = [layer() for layer in layers]
        if NAMES:
            for number, layer in enumerate(made):
                layer.name = f"{NAMES}_{number}"
        model = keras.Sequential([keras.Input(size, name=NAMES or None), *made, L.Dense(3)])
        model.name = NAMES or model.name
        return model

    return build


def small():
    return L.Dense(4)


ZOO = {
    "shallow": lambda: problems.load("deep_mlp", depth=3),
    "transformer": lambda: problems.load("characters", blocks=1),
    "batch_norm": lambda: tiny(zoo(small, L.BatchNormalization, lambda: L.Dropout(0.5))),
    "gru": lambda: tiny(zoo(lambda: L.Embedding(20, 5), lambda: L.GRU(4), size=(6,)), TOKENS),
    "asserting": lambda: tiny(zoo(small, Asserting, Nested)),
}
OPTIMIZERS = {
    "momentum": lambda rate: SGD(rate, momentum=0.9),
    "clipped": lambda rate: keras.optimizers.AdamW(rate, global_clipnorm=0.1),
    "averaged": optimizers.AveragedAdamW,
}
PAIRS = [
    *(("article", "sgd"), ("digits", "momentum"), ("digits_cnn", "adam"), ("shallow", "sgd")),
    *(("transformer", "adam"), ("gru", "clipped"), ("asserting", "averaged")),
    *(("batch_norm", "schedulefreeadamw"), ("batch_norm", "adafactor"), ("batch_norm", "muon")),
]


def names_of(pairs) -> dict:
    """For each problem and optimizer: digest of the graph, of the program, and of a run."""
    found = {}
    for name, optimizer in pairs:
        problem = ZOO[name]() if name in ZOO else problems.load(name)
        runs = one(OPTIMIZERS.get(optimizer, optimizer))
        program = program_of(problem, runs[0], problem.epochs, "auto")
        assert program.readable
        found[f"{name} {optimizer}"] = [identity.program(program.concrete), program.digest]
        if name not in ZOO and optimizer not in OPTIMIZERS:  # the others would be traced anew
            found[f"{name} {optimizer}"] += training.identities(problem, runs)
    return found


def bits() -> str:
    """Digest of numbers whose last bits depend on the kernels that computed them."""
    rng, found = np.random.default_rng(0), []
    for shapes, f in [
        ([(600, 600)] * 2, tf.matmul),
        ([(1000, 1000)] * 2, tf.matmul),
        ([(8, 16, 16, 8), (3, 3, 8, 8)], lambda x, y: tf.nn.conv2d(x, y, 1, "SAME")),
    ]:
        found.append(tf.function(f)(*(tf.constant(rng.normal(size=s), "float32") for s in shapes)))
    return digest(found)


def report(*what):
    """What the tests ask of another process, as JSON on its last line."""
    global NAMES
    if "history" in what:
        NAMES = "other"
        training.train(ZOO["batch_norm"](), one(OPTIMIZERS["momentum"]), mode="graph")
        made = [L.Dense(3), keras.optimizers.Adam(), keras.losses.Huber(), L.BatchNormalization()]
        model = keras.Sequential([keras.Input((64,)), made[0]])
        model.compile("adam", "mse")
        model.train_on_batch(IMAGES, TARGETS)
        keras.backend.clear_session()
    pairs = PAIRS[::-1] if "history" in what else PAIRS[:1]
    found = {
        "names": names_of(pairs),
        "environment": identity.environment(),
        "inherited": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "bits": bits(),
    }
    if "later" in what:
        os.environ["XLA_FLAGS"] = "--xla_cpu_enable_fast_math=true"
        found["later"] = identity.environment()
        tf.config.optimizer.set_experimental_options({"constant_folding": False})
        found["optimized"] = identity.environment()
    print(json.dumps(found))


def asked(*what, **variables) -> dict:
    """``report`` of another process, with these environment variables."""
    clean = {name: v for name, v in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    ended = subprocess.run(
        [sys.executable, __file__, *what],
        env={**clean, **variables},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def changed(first: dict, second: dict) -> set:
    """Names of the settings that differ."""
    return {name for name, _ in first.items() ^ second.items()}


def test_names_are_the_same_in_another_process_with_another_history():
    harmless = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_CLI_CONFIG_FILE": "x", "PYTHONHASHSEED": "17"}
    same = {"TF_ENABLE_ONEDNN_OPTS": "1" if identity.environment()["oneDNN"] == "True" else "0"}
    other = asked("history", **harmless, **same)
    mine = names_of(PAIRS)
    assert other["names"] == mine
    assert other["environment"] == identity.environment()
    for column in ([names[i] for names in mine.values()] for i in (0, 1)):
        assert len(set(column)) == len(PAIRS)


def test_settings_are_part_of_a_name_as_they_are_in_force():
    """With TensorFlow imported before this package, the package's setting comes too late."""
    flags = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false", "TF_NUM_INTEROP_THREADS": "2"}
    other, mine = asked("tensorflow first", "threads", "later", **flags), identity.environment()
    assert changed(mine, other["environment"]) - {"oneDNN"} == {"intra-op threads", *flags}
    # oneDNN is on, for most processors, where nobody says otherwise; the bits know.
    same = other["environment"]["oneDNN"] == mine["oneDNN"]
    assert same == (other["bits"] == bits())
    assert other["inherited"] is None  # so that what it starts computes as it does
    # The same graph is another program, and another run.
    (graph, *names), (other_graph, *others) = (
        next(iter(found.values())) for found in (names_of(PAIRS[:1]), other["names"])
    )
    assert graph == other_graph and not set(names) & set(others)
    # What is set after TensorFlow was imported is in force or not: it has no name of either.
    assert changed(other["environment"], other["later"]) == {"XLA_FLAGS (later)"}
    assert changed(other["later"], other["optimized"]) == {"graph optimizer"}


def test_the_package_sets_one_dnn_only_before_tensorflow_is_there(monkeypatch):
    for gone, expected in (([], None), (["tensorflow"], "0")):
        monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
        with monkeypatch.context() as patch:
            for module in gone:
                patch.delitem(sys.modules, module)
            exec(inspect.getsource(anneal_utils), {"__name__": "anneal_utils"})
        assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected


def test_the_environment_is_text_and_not_the_processor(monkeypatch):
    found = identity.environment()
    assert all(isinstance(part, str) for item in found.items() for part in item)
    assert found["tensorflow"] == tf.__version__ and found["keras"] == keras.__version__
    assert identity.processor() and identity.processor() not in " ".join(found.values())
    for name in ("TF_CPP_MIN_LOG_LEVEL", "TF_CLI_CONFIG_FILE", "TF_ENABLE_ONEDNN_OPTS", "PATH"):
        monkeypatch.setenv(name, "7")
    assert identity.environment() == found


def test_a_version_that_is_not_there():
    assert identity.version("numpy") == np.__version__
    assert identity.version("no such package") == "unknown"


# ------------------------------------------------------------------ what a program's text holds


def text_of(f):
    """The digest of the function of one vector."""
    traced = tf.function(f, autograph=False).get_concrete_function(tf.TensorSpec([4]))
    return identity.program(traced)


def nested(factor, **settings):
    @tf.function(**settings)
    def inner(x):
        return factor * tf.sin(x)

    return lambda x: inner(x) + 1


def looped(factor):
    return lambda x: tf.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, factor * x), (0, x))[1]


def branched(factor):
    return lambda x: tf.cond(x[0] > 0, lambda: x, lambda: factor * x)


def mapped(factor):
    return lambda x: tf.map_fn(lambda entry: factor * entry, x)


def told(text):
    return lambda x: x * tf.strings.to_number(text)


def looked_up(text):
    return lambda x: tf.where(tf.equal(tf.constant(["a", "b"]), text)[:, None], x, 0)


def gradient(factor):
    @tf.custom_gradient
    def sign(x):
        return tf.sign(x), lambda gradient: factor * gradient

    def f(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = sign(x)
        return tape.gradient(y, x)

    return f


def assigned(*order):
    variable = tf.Variable(1.0)
    changes = [lambda: variable.assign_add(1.0), lambda: variable.assign(3 * variable)]

    def f(x):
        for number in order:
            changes[number]()
        return x + variable

    return f


def old_call(factor, name="called"):
    @function.Defun(tf.float32, func_name=f"{name}_{factor:g}".replace(".", "_"))
    def called(x):
        return factor * tf.sin(x)

    return lambda x: called(x) + 1


def placed(device):
    def f(x):
        with tf.device(device):
            return tf.sin(x)

    return f


@pytest.mark.parametrize(
    "make, one, other",
    [
        *((make, 2.0, 2.0000002) for make in (nested, looped, branched, mapped, gradient)),
        *((old_call, 2.0, 3.0), (told, "1.0", "2.0"), (looked_up, "a", "b")),
        (placed, "/cpu:0", None),
    ],
)
def test_everything_that_a_program_computes_with_is_in_its_digest(make, one, other):
    assert text_of(make(one)) == text_of(make(one)) != text_of(make(other))


def test_the_order_of_changes_and_the_way_of_compiling_are_in_a_programs_digest():
    assert text_of(assigned(0, 1)) == text_of(assigned(0, 1)) != text_of(assigned(1, 0))
    assert text_of(nested(2.0)) != text_of(nested(2.0, jit_compile=True))
    assert text_of(lambda x: x[0] - x[1]) != text_of(lambda x: x[1] - x[0])
    assert text_of(lambda x: tf.sin(x) - x) != text_of(lambda x: x - tf.sin(x))
    assert text_of(lambda x: (x, 2 * x)) != text_of(lambda x: (2 * x, x))


def test_names_are_not_in_a_programs_digest():
    def asserting(name):
        def f(x):
            tf.debugging.assert_equal(x, tf.identity(x, name=name), message=name)
            return tf.debugging.check_numerics(tf.sin(x, name=name), name)

        return f

    def renamed(x):
        return looped(2.0)(x)

    assert text_of(asserting("a")) == text_of(asserting("b"))
    assert text_of(old_call(2.0, "a")) == text_of(old_call(2.0, "b"))
    assert text_of(renamed) == text_of(looped(2.0))


# ----------------------------------------------------------- every ingredient, and only those


class Constant(L.Layer):
    """Multiplies by the mean of a constant matrix."""

    def __init__(self, matrix, **kwargs):
        super().__init__(**kwargs)
        self.matrix = matrix

    def call(self, x):
        return x * tf.cast(keras.ops.mean(self.matrix), x.dtype)


MATRIX = RNG.normal(size=(200, 200)).astype("float32")
NEXT = MATRIX.copy()
NEXT[-1, -1] = np.nextafter(MATRIX[-1, -1], np.float32(9))
OUTSIDE = tf.Variable(1.0)


def model(activation=None, factor=0.01, stddev=0.1, start=None, more=(), name=None):
    """A build function of one layer, and ``more``, with all that may change."""

    def build():
        layer = L.Dense(
            3,
            activation,
            kernel_initializer=start or keras.initializers.RandomNormal(stddev=stddev),
            kernel_regularizer=keras.regularizers.L2(factor),
            name=name and f"{name}_1",
        )
        others = [make() for make in more]
        return keras.Sequential([keras.Input((64,), name=name), layer, *others], name=name)

    return build


def constant(matrix):
    return model(more=[lambda: Constant(matrix)])


def trial(build=None, optimizer="sgd", recipe=0.1, *, mode="auto", wrap=None, grid=None, **given):
    """A problem, a run and a mode, as arguments of ``identity_of``."""
    given = {"y": TARGETS, "loss": keras.losses.Huber(1.0), **given}
    return tiny(build or model(), **given), one(optimizer, recipe, **(grid or {})), mode, wrap


def identity_of(problem, runs, mode, within=None) -> str:
    """The one run's identity, read while ``within`` is in force."""
    with within() if within else contextlib.nullcontext():
        return training.identities(problem, runs, mode=mode)[0]


@contextlib.contextmanager
def policy(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    yield
    keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def outside(value):
    OUTSIDE.assign(value)
    yield
    OUTSIDE.assign(1.0)


@contextlib.contextmanager
def setting(**changes):
    known = identity.environment
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "environment", lambda: {**known(), **changes})
        yield


def scaled(factor):
    return lambda y, answer: factor * keras.losses.mean_squared_error(y, answer)


def by_variable(y, answer):
    return OUTSIDE * keras.losses.mean_squared_error(y, answer)


def smooth(smoothing):
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)


def moved(array, *place):
    """A copy with one entry changed in the last place."""
    copy = array.copy()
    copy[place] = np.nextafter(copy[place], np.float32(9))
    return copy


def sgd(**knobs):
    return lambda rate: SGD(rate, **knobs)


def adam(**knobs):
    return lambda rate: keras.optimizers.AdamW(rate, **knobs)


def adagrad(start):
    return lambda rate: keras.optimizers.Adagrad(rate, initial_accumulator_value=start)


X, Y, X_VAL, Y_VAL = IMAGES[:32], TARGETS[:32], IMAGES[32:], TARGETS[32:]
PLAIN = functools.partial(problems.models.mlp, 64, (4,), 3)
# Each is another computation than all others, by one ingredient from at least one of them.
TRIALS = {
    "as it is": lambda: trial(),
    # The data.
    "one pixel": lambda: trial(x_train=moved(X, 3, 5)),
    "one label": lambda: trial(y_train=moved(Y, 3, 1)),
    "one held-out pixel": lambda: trial(x_val=moved(X_VAL, 3, 5)),
    "one held-out label": lambda: trial(y_val=moved(Y_VAL, 3, 1)),
    "other samples": lambda: trial(x_train=X[:24].copy(), y_train=Y[:24].copy()),
    # The program: the model.
    "activation": lambda: trial(model(activation="tanh")),
    "regularizer": lambda: trial(model(factor=0.02)),
    "dropout": lambda: trial(model(more=[lambda: L.Dropout(0.1)])),
    "more dropout": lambda: trial(model(more=[lambda: L.Dropout(0.2)])),
    "matrix": lambda: trial(constant(MATRIX)),
    "last place of a matrix": lambda: trial(constant(NEXT)),
    "tensor": lambda: trial(constant(tf.constant(MATRIX))),
    "last place of a tensor": lambda: trial(constant(tf.constant(NEXT))),
    "half precision": lambda: trial(wrap=lambda: policy("mixed_bfloat16")),
    # The loss.
    "huber": lambda: trial(loss=keras.losses.Huber(0.01)),
    "closure": lambda: trial(loss=scaled(1.0)),
    "constant in a closure": lambda: trial(loss=scaled(1.0000001)),
    "variable": lambda: trial(loss=by_variable),
    "value of a variable": lambda: trial(loss=by_variable, wrap=lambda: outside(2.0)),
    "smoothing": lambda: trial(loss=smooth(0.1)),
    "more smoothing": lambda: trial(loss=smooth(0.2)),
    "metric": lambda: trial(metrics=("accuracy",)),
    # The optimizer.
    "momentum": lambda: trial(optimizer=sgd(momentum=0.9)),
    "clipnorm": lambda: trial(optimizer=sgd(clipnorm=0.1)),
    "adamw": lambda: trial(optimizer=adam()),
    "beta": lambda: trial(optimizer=adam(beta_1=0.8)),
    "weight decay": lambda: trial(optimizer=adam(weight_decay=0.1)),
    # Sizes and mode.
    "epochs": lambda: trial(epochs=3),
    "horizon": lambda: trial(grid={"epochs": 4}),
    "batch size": lambda: trial(batch_size=16),
    "replacement": lambda: trial(sampling="replacement", steps=4),
    "graph": lambda: trial(model(stddev=0.0), mode="graph"),
    # The start.
    "seed": lambda: trial(grid={"seeds": [4]}),
    "scale of an initializer": lambda: trial(model(stddev=0.2)),
    "class of an initializer": lambda: trial(model(start="he_normal")),
    "no start": lambda: trial(model(stddev=0.0)),
    "no start, other batches": lambda: trial(model(stddev=0.0), grid={"seeds": [4]}),
    "slots": lambda: trial(optimizer=adagrad(0.1)),
    "other slots": lambda: trial(optimizer=adagrad(0.2)),
    # The rates: of a model that need not be traced again for each.
    "plain": lambda: trial(PLAIN),
    "rate": lambda: trial(PLAIN, recipe=0.2),
    "shape": lambda: trial(PLAIN, recipe="linear"),
    "peak": lambda: trial(PLAIN, recipe="linear", grid={"peaks": [0.2]}),
    "warmup": lambda: trial(PLAIN, recipe="linear", grid={"warmup": 0.25}),
    "knob": lambda: trial(PLAIN, recipe=("step", {"drops": 2})),
    "other knob": lambda: trial(PLAIN, recipe=("step", {"drops": 3})),
    "function": lambda: trial(PLAIN, recipe=lambda epoch: 0.1 / (2 + epoch)),
    "plateau": lambda: trial(PLAIN, recipe=training.Plateau()),
    "factor": lambda: trial(PLAIN, recipe=training.Plateau(factor=0.2)),
    "patience": lambda: trial(PLAIN, recipe=training.Plateau(patience=9)),
    "min_delta": lambda: trial(PLAIN, recipe=training.Plateau(min_delta=1e-3)),
    "cooldown": lambda: trial(PLAIN, recipe=training.Plateau(cooldown=1)),
    "min_rate": lambda: trial(PLAIN, recipe=training.Plateau(min_rate=1e-3)),
    # Where it is computed.
    "version": lambda: trial(PLAIN, wrap=lambda: setting(tensorflow="0.0")),
    "flags": lambda: trial(PLAIN, wrap=lambda: setting(XLA_FLAGS="--a_flag=true")),
}


def forget():
    """Nothing is remembered of the programs and starts that there were."""
    for memory in (programs._programs, programs._quick, starts._weights, starts._starts):
        memory.clear()


@pytest.fixture(autouse=True)
def leave_nothing():
    """What one test has compiled is in no other's way."""
    yield
    forget()


@pytest.fixture(scope="module")
def recorded():
    """The identity of every trial, and all digests that were made on the way: (caller, call)."""
    calls = []

    def noted(*values):
        caller = sys._getframe(1)
        calls.append(((caller.f_code.co_name, caller.f_lineno), values, digest(*values)))
        return calls[-1][-1]

    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity, "digest", noted)
        found = {name: identity_of(*make()) for name, make in TRIALS.items()}
    forget()
    return found, calls


def test_every_ingredient_changes_the_identity(recorded):
    found, _ = recorded
    same = [names for names in pairs(found) if found[names[0]] == found[names[1]]]
    assert same == [] and None not in found.values()


def pairs(names):
    return list(itertools.combinations(names, 2))


def replayed(found, calls, forgetful) -> list[str]:
    """The identities, had ``forgetful(caller, values)`` been used in the place of ``digest``."""
    renamed = {}

    def now(value):
        return renamed.get(value, value) if isinstance(value, str) else value

    for caller, parts, result in calls:
        renamed[result] = forgetful(caller, tuple(map(now, parts)))
    return [now(name) for name in found.values()]


def test_no_ingredient_of_an_identity_could_be_left_out(recorded):
    """Whatever a digest on the way to an identity is given, some trial depends on that alone."""
    found, calls = recorded
    assert replayed(found, calls, lambda caller, values: digest(*values)) == list(found.values())
    assert len(set(replayed(found, calls, lambda caller, values: "nothing"))) == 1
    # The calls whose results reach an identity, and what else they were given.
    needed, places = set(found.values()), set()
    for caller, parts, result in reversed(calls):
        if result in needed:
            needed |= {part for part in parts if isinstance(part, str)}
            places |= {(caller, place) for place in range(len(parts))}
    spare = set()
    for caller, place in places:

        def without(where, values, caller=caller, place=place):
            kept = values if where != caller else (*values[:place], *values[place + 1 :])
            return digest(*kept)

        if len(set(replayed(found, calls, without))) == len(found):
            spare |= {parts[place] for where, parts, _ in calls if where == caller}
    assert len(places) > 12
    assert spare <= {"graph", "xla"}  # which the loops of a program tell as well


class Maker:
    """A maker that is an object with settings."""

    momentum = 0.0

    def __call__(self, rate):
        return SGD(rate, momentum=self.momentum)


def elsewhere(rate):
    """Has another name and place, and comes to the same."""
    factor = 2.0 / 2  # a comment
    return SGD(learning_rate=rate * factor if not callable(rate) else rate)


elsewhere.__module__ = "another.module"


@pytest.mark.parametrize(
    "make",
    [
        lambda: trial(name="another", chance_loss=7.0, grid={"epochs": 2, "warmup": 0}),
        lambda: trial(model(name="another"), loss=keras.losses.Huber(1.0, name="another")),
        lambda: trial(functools.partial(model().__call__), mode="xla"),
        lambda: trial(x_train=np.asfortranarray(X), x_val=np.repeat(X_VAL, 2, axis=0)[::2]),
        lambda: trial(loss=lambda y, answer: keras.losses.huber(y, answer)),
        lambda: trial(recipe=lambda epoch: 0.1),
        lambda: trial(recipe=keras.optimizers.schedules.PolynomialDecay(0.1, 9, 0.1)),
        lambda: trial(optimizer=SGD),
        lambda: trial(optimizer={"label": sgd()}),
        lambda: trial(optimizer=elsewhere),
        lambda: trial(optimizer=Maker()),
        lambda: trial(optimizer=functools.partial(SGD, name="another")),
    ],
)
def test_what_is_not_computed_does_not_change_the_identity(recorded, make):
    assert identity_of(*make()) == recorded[0]["as it is"]


# ------------------------------------------------------------ what changes is trained as it is


def losses(frame):
    return frame[["train_loss", "val_loss"]].to_numpy()


SCALE = 1.0  # read by functions below


class MySGD(SGD):
    """A user's optimizer."""

    factor = 1.0

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(self.factor * gradient, variable, learning_rate)


class MyInitializer(keras.initializers.Initializer):
    """A user's initializer."""

    scale = 0.1

    def __call__(self, shape, dtype=None):
        return self.scale * keras.ops.ones(shape, dtype)


def plain(**settings):
    return functools.partial(problems.models.mlp, 64, (), 3, **settings)


def knobs(settings, rate):
    return SGD(rate, **settings)


def closure_of_the_optimizer(patch):
    momentum = 0.0

    def change():
        nonlocal momentum
        momentum = 0.9

    return trial(plain(), lambda rate: SGD(rate, momentum=momentum)), change


def closure_of_the_loss(patch):
    factor = 1.0

    def change():
        nonlocal factor
        factor = 3.0

    return trial(plain(), loss=lambda y, answer: scaled(factor)(y, answer)), change


def closure_of_the_model(patch):
    settings = {"stddev": 0.1}
    return trial(lambda: model(**settings)()), lambda: settings.update(stddev=0.5)


def width_of_the_model(patch):
    width = [2]

    def build():
        return keras.Sequential([keras.Input((64,)), L.Dense(width[0]), L.Dense(3)])

    return trial(build), lambda: width.__setitem__(0, 5)


def attribute_of_a_module(patch):
    module = types.ModuleType("knobs")
    module.momentum = 0.0
    maker = lambda rate: SGD(rate, momentum=module.momentum)  # noqa: E731
    return trial(plain(), maker), lambda: setattr(module, "momentum", 0.9)


def attribute_of_a_maker(patch):
    maker = Maker()
    return trial(plain(), maker), lambda: setattr(maker, "momentum", 0.9)


def attribute_of_an_optimizer_class(patch):
    return trial(plain(), MySGD), lambda: patch.setattr(MySGD, "factor", 3.0)


def method_of_an_optimizer_class(patch):
    def update_step(self, gradient, variable, learning_rate):
        SGD.update_step(self, 5 * gradient, variable, learning_rate)

    return trial(plain(), MySGD), lambda: patch.setattr(MySGD, "update_step", update_step)


def dict_in_a_partial(patch):
    settings = {"momentum": 0.0}
    maker = functools.partial(knobs, settings)
    return trial(plain(), maker), lambda: settings.update(momentum=0.9)


def keywords_of_a_partial(patch):
    maker = functools.partial(SGD, momentum=0.0)
    return trial(plain(), maker), lambda: maker.keywords.update(momentum=0.9)


def defaults_of_a_function(patch):
    def maker(rate, momentum=0.0):
        return SGD(rate, momentum=momentum)

    return trial(plain(), maker), lambda: setattr(maker, "__defaults__", (0.9,))


def knob_of_a_keras_loss(patch):
    loss = keras.losses.Huber(1.0)
    return trial(plain(), loss=loss), lambda: loss._fn_kwargs.update(delta=0.01)


def function_of_a_keras_loss(patch):
    loss = keras.losses.Huber(1.0)
    return trial(plain(), loss=loss), lambda: setattr(loss, "fn", lambda *_, **__: scaled(7)(*_))


def a_loss_that_wraps_one_of_keras(patch):
    @functools.wraps(keras.losses.mean_squared_error)
    def loss(y, answer):
        return SCALE * keras.losses.mean_squared_error(y, answer)

    assert loss.__module__.startswith("keras.")
    return trial(plain(), loss=loss), lambda: patch.setitem(globals(), "SCALE", 3.0)


def matrix_of_a_loss(patch):
    matrix = np.ones(3, "float32")
    return trial(plain(), loss=problems.quadratics._quadratic_loss(matrix)), lambda: matrix.fill(3)


def knob_of_a_keras_regularizer(patch):
    regularizer = keras.regularizers.L2(0.1)
    build = plain(kernel_regularizer=regularizer)
    return trial(build), lambda: setattr(regularizer, "l2", 1.0)


def attribute_of_an_initializer_class(patch):
    build = plain(kernel_initializer=MyInitializer())
    return trial(build), lambda: patch.setattr(MyInitializer, "scale", 0.2)


def name_that_keras_knows(patch):
    known = keras.saving.get_custom_objects()
    patch.setitem(known, "mine", MyInitializer)
    build = plain(kernel_initializer="mine")
    return trial(build), lambda: patch.setitem(known, "mine", keras.initializers.GlorotNormal)


def registered_activation(patch):
    known, name = keras.saving.get_custom_objects(), "mine>activation"
    config = dict(module="builtins", class_name="function", config=name, registered_name=name)
    patch.setitem(known, name, keras.ops.tanh)
    return trial(plain(activation=config)), lambda: patch.setitem(known, name, keras.ops.relu)


def file_of_a_model(patch, path):
    build = functools.partial(keras.models.load_model, path, compile=False)
    first, second = (plain(kernel_initializer="he_normal")() for _ in range(2))
    first.save(path)
    return trial(build), lambda: second.save(path)


def value_of_a_variable(patch):
    variable = tf.Variable(1.0)
    loss = lambda y, answer: variable * scaled(1.0)(y, answer)  # noqa: E731
    return trial(plain(), loss=loss), lambda: variable.assign(3.0)


def floatx(patch):
    patch.callback(keras.config.set_floatx, "float32")
    return trial(plain()), lambda: keras.config.set_floatx("float64")


def epsilon(patch):
    patch.callback(keras.config.set_epsilon, keras.config.epsilon())
    build = plain(activation="sigmoid")
    return trial(build, loss="kl_divergence"), lambda: keras.config.set_epsilon(0.2)


def dtype_policy(patch):
    patch.callback(keras.config.set_dtype_policy, "float32")
    return trial(plain()), lambda: keras.config.set_dtype_policy("float64")


CHANGES = [
    *(closure_of_the_optimizer, closure_of_the_loss, closure_of_the_model, width_of_the_model),
    *(attribute_of_a_module, attribute_of_a_maker, attribute_of_an_optimizer_class),
    *(method_of_an_optimizer_class, dict_in_a_partial, keywords_of_a_partial),
    *(defaults_of_a_function, knob_of_a_keras_loss, function_of_a_keras_loss),
    *(a_loss_that_wraps_one_of_keras, matrix_of_a_loss, knob_of_a_keras_regularizer),
    *(attribute_of_an_initializer_class, name_that_keras_knows, registered_activation),
    *(file_of_a_model, value_of_a_variable, floatx, epsilon, dtype_policy),
]


class Patch(pytest.MonkeyPatch):
    """Also calls functions at its end."""

    def __init__(self):
        super().__init__()
        self.stack = contextlib.ExitStack()
        self.callback = self.stack.callback


@pytest.fixture
def patch():
    made = Patch()
    yield made
    made.undo()
    made.stack.close()


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: case.__name__)
def test_a_change_between_two_trainings_is_trained(case, patch, tmp_path):
    more = [str(tmp_path / "model.keras")] if case is file_of_a_model else []
    (problem, runs, *_), change = case(patch, *more)
    first = training.train(problem, runs, mode="graph")
    change()
    second = training.train(problem, runs, mode="graph")
    forget()  # as in another process
    pd.testing.assert_frame_equal(
        second, training.train(problem, runs, mode="graph"), check_exact=True
    )
    assert first.run[0] != second.run[0]
    if case is not floatx:  # the frame's single precision may not show it
        assert not np.array_equal(losses(first), losses(second))


def test_the_changed_run_is_that_of_fit_and_of_another_maker():
    momentum = 0.0
    problem, runs, *_ = trial(plain(), lambda rate: SGD(rate, momentum=momentum))
    before = training.train(problem, runs, mode="graph")
    momentum = 0.9
    frame = training.train(problem, runs, mode="graph")
    other = training.train(problem, one(sgd(momentum=0.9)), mode="graph")
    pd.testing.assert_frame_equal(frame, other, check_exact=True)
    pd.testing.assert_frame_equal(frame, training.fit_one(problem, runs[0])[1], check_exact=True)
    assert not np.array_equal(losses(frame), losses(before))


# ------------------------------------------------------------------- what surely did not change


def settings_of(value):
    """What ``unchanging`` gives, for a value that it knows."""
    found = unchanging(value)
    assert found is not None and hash(found) == hash(unchanging(value))
    return found


@pytest.mark.parametrize("name", problems.names()[:-2])  # without the downloads
def test_the_problems_of_the_catalogue_are_known_not_to_change(name):
    problem = problems.load(name)
    parts = (problem.build, problem.loss, problem.metrics)
    assert settings_of(parts) == unchanging(parts)


KNOWN = [
    *LEAVES[:-9],
    *("sgd", SGD, keras.optimizers.Adam, optimizers.SWATS, keras.losses.Huber, b"a"),
    *((), [], {}, (1,), [1], {1: 2}, [1, 2], [[1, 2]], (1, 2), {"a": [1]}, ("a", [1])),
    *(np.zeros(2), np.zeros(3), np.zeros(2, "f4"), np.array([0.0, -0.0])),
    *(np.float32(2), np.float64(2), np.int8(2)),
    *(keras.losses.mean_squared_error, keras.losses.mean_absolute_error, keras.losses.huber),
    *(keras.activations.relu, keras.initializers.Zeros(), keras.initializers.Ones()),
    *(plain(), plain(activation="relu"), functools.partial(problems.models.mlp, 64, (5,), 3)),
    *(functools.partial(SGD, momentum=m) for m in (0, 0.0, 0.9, False, [0.9])),
    *(keras.losses.Huber(delta) for delta in (1.0, 0.5)),
    *(problems.quadratics._quadratic_loss(np.full(2, x)) for x in (1, 2)),
    *(keras.initializers.RandomNormal(stddev=x, seed=1) for x in (0.1, 0.2)),
    *(keras.initializers.RandomNormal(seed=2), keras.initializers.HeNormal(seed=2)),
    *(keras.regularizers.L2(factor) for factor in (0.1, 0.2)),
    *(
        functools.partial(problems.models.mlp, 64, knob=knob)
        for knob in ({"a": 1}, ["a", 1], ("a", 1))
    ),
]


def test_what_is_known_not_to_change_is_told_apart():
    found = [settings_of(value) for value in KNOWN]
    assert len(set(found)) == len(found)
    for make in (
        plain,
        lambda: keras.losses.Huber(2.0),
        lambda: functools.partial(SGD, momentum=1),
    ):
        assert settings_of(make()) == settings_of(make())


class OwnLoss(keras.losses.Loss):
    def call(self, y, answer):
        return SCALE * keras.ops.mean((y - answer) ** 2, axis=-1)


class Disguised(OwnLoss):
    __module__, __qualname__ = "keras.src.losses.losses", "Huber"


class OwnPartial(functools.partial):
    def __call__(self, rate):
        return SGD(rate, momentum=SCALE)


class Texts(str):
    pass


class Numbers(float):
    pass


class Lists(list):
    pass


class Pairs(tuple):
    pass


class Dicts(dict):
    pass


class Arrays(np.ndarray):
    pass


@dataclasses.dataclass
class Settings:
    momentum: float = 0.0


def wrapped(function):
    return functools.wraps(function)(lambda *values: SCALE * function(*values))


def executed(**names):
    exec("def loss(y, answer): return factor * (y - answer)", names)
    return names["loss"]


def unfilled():
    def inner():
        return later

    inner.__module__ = "keras.src.losses.losses"
    if inner is None:
        later = 1
    return inner


def with_default(value):
    """One of the package's functions, as if a user had set its default."""
    function = types.FunctionType(problems.models.mlp.__code__, vars(problems), "_mlp", (value,))
    function.__kwdefaults__ = problems.models.mlp.__kwdefaults__
    return function


def with_closure(value):
    """One of the package's functions, as if a user had called its maker."""
    code = problems.quadratics._quadratic_loss(1.0).__code__
    return types.FunctionType(code, vars(problems), "loss", None, (types.CellType(value),))


def altered(instance, **attributes):
    vars(instance).update(attributes)
    return instance


def recursive():
    values = []
    values.append(values)
    return values


UNKNOWN = {
    "lambda": lambda: lambda rate: SGD(rate),
    "function": lambda: scaled,
    "closure": lambda: scaled(1.0),
    "disguised function": lambda: elsewhere,
    "wrapping function": lambda: wrapped(keras.losses.mean_squared_error),
    "executed function": executed,
    "executed function in disguise": lambda: executed(__name__="keras.src.losses.losses"),
    "unfilled closure": unfilled,
    "bound method": lambda: Maker().__call__,
    "method of a keras object": lambda: keras.losses.Huber().call,
    "built-in function": lambda: [].append,
    "generator": lambda: (x for x in ()),
    "iterator": lambda: iter([1]),
    "object": Maker,
    "dataclass": Settings,
    "class": lambda: Maker,
    "optimizer class": lambda: MySGD,
    "disguised class": lambda: Disguised,
    "module": lambda: math,
    "text": lambda: Texts("sgd"),
    "number": lambda: Numbers(1),
    "list": lambda: Lists(),
    "tuple": lambda: Pairs(),
    "dict": lambda: Dicts(),
    "set": lambda: {1},
    "array": lambda: np.zeros(2).view(Arrays),
    "array of objects": lambda: np.array([Maker()]),
    "variable": lambda: tf.Variable(1.0),
    "keras variable": lambda: keras.Variable(1.0),
    "tensor": lambda: tf.constant(1.0),
    "traced function": lambda: tf.function(scaled(1.0)),
    "layer": lambda: L.Dense(3),
    "model": lambda: plain()(),
    "optimizer": SGD,
    "metric": keras.metrics.MeanSquaredError,
    "schedule": lambda: keras.optimizers.schedules.CosineDecay(0.1, 3),
    "random generator": lambda: np.random.default_rng(0),
    "seed generator": lambda: keras.random.SeedGenerator(0),
    "initializer with a seed generator": lambda: keras.initializers.RandomNormal(
        seed=keras.random.SeedGenerator(0)
    ),
    "initializer": MyInitializer,
    "initializer of a tensor": lambda: keras.initializers.Constant(tf.constant(1.0)),
    "loss": OwnLoss,
    "disguised loss": Disguised,
    "keras loss around a function": lambda: altered(keras.losses.Huber(), fn=scaled(1.0)),
    "keras loss with an object": lambda: altered(keras.losses.Huber(), _fn_kwargs={"x": Maker()}),
    "keras loss with a method": lambda: altered(keras.losses.Huber(), call=scaled(1.0)),
    "keras loss with a layer": lambda: altered(keras.losses.Huber(), layer=L.Dense(3)),
    "partial of a lambda": lambda: functools.partial(lambda rate: SGD(rate)),
    "partial with an object": lambda: functools.partial(SGD, knob=Maker()),
    "partial with a lambda": lambda: functools.partial(problems.models.mlp, activation=lambda x: x),
    "own kind of partial": lambda: OwnPartial(SGD),
    "function with an object in its closure": lambda: with_closure(Maker()),
    "function with an object as default": lambda: with_default(Maker()),
    "reader of a file": lambda: functools.partial(keras.models.load_model, "model.keras"),
    "reader of an array": lambda: functools.partial(np.load, "array.npy"),
    "model of a text": lambda: functools.partial(keras.models.model_from_json, "{}"),
    "configuration": lambda: {"class_name": "Huber", "config": {}},
    "deep": lambda: functools.reduce(lambda inner, _: [inner], range(20), 1),
    "recursive": recursive,
}


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_anything_of_a_users_may_change(make):
    value = make()
    for holder in (value, (value,), [1, value], {"a": value}, functools.partial(SGD, value)):
        assert unchanging(holder) is None
    with contextlib.suppress(TypeError):  # not hashable
        assert unchanging({value: 1}) is None


def test_names_that_stand_for_registered_objects_may_change(monkeypatch):
    known = keras.saving.get_custom_objects()
    assert unchanging("mine>loss") and unchanging(plain())
    monkeypatch.setitem(known, "mine>loss", scaled(1.0))
    assert unchanging("mine>loss") is None and unchanging(["sgd", "mine>loss"]) is None
    assert unchanging("sgd") and unchanging(plain())
    # A name without a package may be one of Keras's own, also inside of Keras.
    monkeypatch.setitem(known, "zeros", keras.initializers.Ones)
    assert unchanging("sgd") is None and unchanging(plain()) is None
    monkeypatch.delitem(known, "zeros")
    with keras.saving.custom_object_scope({"glorot_uniform": keras.initializers.Ones}):
        assert unchanging(plain()) is None
    assert unchanging(plain())


def test_settings_of_keras_change_what_everything_means():
    def found():
        return unchanging(plain())

    before = found()
    for read, set_to, value in [
        (keras.config.floatx, keras.config.set_floatx, "float64"),
        (keras.config.epsilon, keras.config.set_epsilon, 1e-3),
        (keras.config.dtype_policy, keras.config.set_dtype_policy, "mixed_bfloat16"),
        (keras.config.image_data_format, keras.config.set_image_data_format, "channels_first"),
    ]:
        known = read()
        set_to(value)
        assert found() not in (before, None)
        set_to(known)
    assert found() == before


# ----------------------------------------------------- schedules, and what can not be read in full


@dataclasses.dataclass
class DecaySchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Not hashable, as dataclasses are."""

    start: float = 0.1

    def __call__(self, step):
        return self.start / (1 + tf.cast(step, tf.float32))

    def get_config(self):
        return dataclasses.asdict(self)


@dataclasses.dataclass
class DecayFunction:
    """Not hashable, and a function of the epoch."""

    start: float = 0.1

    def __call__(self, epoch):
        return self.start / (1 + epoch)


@dataclasses.dataclass
class DecayMaker:
    """Not hashable, and a function of the rate."""

    momentum: float = 0.9

    def __call__(self, rate):
        return SGD(rate, momentum=self.momentum)


def test_what_is_not_hashable_trains():
    recipes = {"schedule": DecaySchedule(), "function": DecayFunction()}
    problem, *_ = trial(plain())
    runs = training.grid(recipes, seeds=[1, 2], optimizer=DecayMaker())
    frame = training.train(problem, runs, mode="graph")
    rates = frame.pivot_table("rate", "epoch", "schedule")
    np.testing.assert_allclose(rates.function, [0.1, 0.1 / 2], rtol=1e-6)
    np.testing.assert_allclose(rates.schedule, [0.1 / 4, 0.1 / 8], rtol=1e-6)
    assert frame.run.nunique() == 4
    assert list(frame.run[::2]) == training.identities(problem, runs, mode="graph")
    recipes["schedule"].start = 0.2
    later = training.identities(problem, runs, mode="graph")
    same = [name == before for name, before in zip(later, frame.run[::2], strict=True)]
    assert same == [False, False, True, True]


def test_a_random_function_of_the_epoch_draws_for_each_run():
    rng = np.random.default_rng(1)
    problem, *_ = trial(plain())
    runs = training.grid({"random": lambda epoch: rng.uniform(0.01, 0.1)}, seeds=range(3))
    frame = training.train(problem, runs, mode="graph")
    assert frame.rate.nunique() == len(frame) == 6
    assert frame.run.nunique() == 3
    first, second = (training.identities(problem, runs, mode="graph") for _ in range(2))
    assert len({*first, *second, *frame.run}) == 9
    # The same draws are the same runs.
    rng.bit_generator.state = np.random.default_rng(1).bit_generator.state
    assert training.identities(problem, runs, mode="graph") == list(frame.run[::2])


def python(function):
    """A loss that calls Python; what Python gives has no gradient here."""

    def loss(y, answer):
        given = function(tf.stop_gradient(answer))
        given.set_shape(answer.shape)
        return keras.losses.mean_squared_error(y, answer + given)

    return loss


class Lookup(L.Layer):
    """Multiplies by what a table says of the first number."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        content = tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1]), tf.constant([1.0, 2.0]))
        self.table = tf.lookup.StaticHashTable(content, 1.0)

    def call(self, x):
        return x * self.table.lookup(tf.cast(x[:, :1] > 0.5, tf.int32))


def unreadable(folder):
    path = folder / "factor.txt"
    path.write_text("2.0")

    def scaled_by_file(y, answer):
        factor = tf.strings.to_number(tf.io.read_file(str(path)))
        return factor * keras.losses.mean_squared_error(y, answer)

    def table():
        return keras.Sequential([keras.Input((64,)), Lookup(), L.Dense(3)])

    def half(x):
        return np.float32(0.5) * x

    return {
        "EagerPyFunc": dict(loss=python(lambda x: tf.py_function(lambda x: x / 2, [x], x.dtype))),
        "PyFunc": dict(loss=python(lambda x: tf.numpy_function(half, [x], x.dtype))),
        "PyFuncStateless": dict(
            loss=python(lambda x: tf.numpy_function(half, [x], x.dtype, stateful=False))
        ),
        "ReadFile": dict(loss=scaled_by_file),
        "LookupTableFindV2": dict(build=table),
    }


@pytest.mark.parametrize(
    "operation", ["EagerPyFunc", "PyFunc", "PyFuncStateless", "ReadFile", "LookupTableFindV2"]
)
def test_what_can_not_be_read_trains_and_has_no_identity(operation, tmp_path):
    problem, *_ = trial(**{"build": plain(), **unreadable(tmp_path)[operation]})
    runs = one(seeds=(1, 2))
    first, second = (training.train(problem, runs, mode=mode) for mode in ("auto", "graph"))
    assert training.identities(problem, runs, mode="graph") == [None, None]
    assert len({*first.run, *second.run}) == 4
    np.testing.assert_array_equal(losses(first), losses(second))


def test_a_run_that_can_not_be_read_is_another_each_time(tmp_path):
    problem, *_ = trial(**{"build": plain(), **unreadable(tmp_path)["PyFuncStateless"]})
    names = {training.train(problem, one()).run[0] for _ in range(2)}
    assert len(names) == 2
    assert training.identities(problem, one()) == [None]


def test_operations_without_a_state_outside_their_text():
    """Of all that TensorFlow has: neither too much is trusted, nor too little."""

    def found(f):
        return identity.stateful(tf.function(f, autograph=False).get_concrete_function())

    seed, x = tf.constant([1, 2]), tf.ones([3, 3])
    variable, generator = tf.Variable(x), keras.random.SeedGenerator(1)
    rng = tf.random.Generator.from_seed(1)
    for readable in [
        lambda: tf.random.stateless_normal([2], seed),
        lambda: keras.random.dropout(x, 0.5, seed=generator),
        lambda: rng.normal([2]),
        lambda: variable.assign_add(x).scatter_nd_add([[0, 0]], [1.0]),
        lambda: tf.while_loop(lambda i: i < 3, lambda i: [i + 1], [0]),
        lambda: tf.cond(x[0, 0] > 0, lambda: x, lambda: 2 * x),
        lambda: tf.function(tf.sin)(x),
        lambda: tf.debugging.check_numerics(x, "x"),
        lambda: tf.debugging.assert_equal(variable, x) and None,
    ]:
        assert found(readable) == []
    for outside in [
        lambda: tf.random.normal([2]),
        lambda: tf.timestamp(),
        lambda: tf.io.matching_files("*"),
        lambda: tf.data.Dataset.range(3).reduce(np.int64(0), lambda a, b: a + b),
        lambda: tf.numpy_function(np.sin, [x], tf.float32, stateful=False),
        lambda: tf.io.read_file("x"),
        lambda: tf.raw_ops.FIFOQueueV2(component_types=[tf.float32]),
        lambda: tf.raw_ops.ResourceConditionalAccumulator(
            dtype=tf.float32, shape=[], container="", shared_name="a"
        ),
        lambda: tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[]),
    ]:
        assert found(outside) != []


if __name__ == "__main__":
    report(*sys.argv[1:])
