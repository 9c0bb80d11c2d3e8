"""Digests of values: equal for equal values, different for different ones, and for nothing else."""

import doctest
import hashlib
import math
import struct

from anneal_utils import identity

import hypothesis.extra.numpy as hnp
import keras
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from small_identity import LEAVES, NAN, OTHER_NAN

SGD = keras.optimizers.SGD
digest = identity.digest


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
