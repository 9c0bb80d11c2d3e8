"""One schedule of each class, and the ways of asking one: by vector, step by step, in a graph."""

from anneal_utils import schedules

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import settings
from hypothesis import strategies as st

K = keras.optimizers.schedules
S = schedules


PEAKS = st.floats(1e-4, 10)
STEPS = st.integers(2, 300)
SHARES = st.floats(0, 1)
RELATIVE = 3e-6  # of the largest rate: a few float32 roundings

# One of each class, every shape and amplitude of it, and classes inside classes.
OBJECTS = {
    **{
        f"cyclical {shape} {amplitude}": S.Cyclical(0.01, 0.3, 41, shape, amplitude, 0.99)
        for shape in ("triangle", "step", "exponential", "cosine")
        for amplitude in ("constant", "halved", "exp_range")
    },
    "cyclical uneven": S.Cyclical(0.01, 0.3, 41, up=12),
    "one-cycle cosine": S.OneCycle(0.3, 90),
    "one-cycle pytorch": S.OneCycle(0.3, 90, 0.31, tail=0.2, convention="pytorch"),
    "one-cycle linear": S.OneCycle(0.3, 90, 0.4, "linear", 10, 100),
    "one-cycle tail": S.OneCycle(0.3, 90, 0.4, "cosine", 10, 100, tail=0.2),
    **{
        f"wsd {shape}": S.WarmupStableDecay(0.3, 90, 0.3, 0.1, shape, 0.01)
        for shape in ("linear", "sqrt", "cosine", "exponential")
    },
    "sigmoid": S.Sigmoid(0.3, 90, 0.01, 8, 0.4),
    "inverse square root": S.InverseSquareRoot(0.3, 7),
    **{f"power {shape}": S.Power(0.3, 90, 7, 0.6, 0.3, shape) for shape in ("linear", "sqrt")},
    "power exponential": S.Power(0.3, 90, 7, 0.6, 0.3, "exponential", 0.01),
    "power law": S.Power(0.3, 90, 7, 0.6, cooldown=0),
    "rex": S.Rex(0.3, 90),
    "knots": S.Knots([2, 12, 30, 89], [0.01, 0.3, 0.2, 0.0]),
    "knots exponential": S.Knots([0, 12, 30, 89], [0.01, 0.3, 0.2, 0.001], "exponential"),
    **{
        f"warmup {shape}": S.Warmup(K.CosineDecay(0.3, 60), 30, shape, 0.01, 3)
        for shape in ("linear", "polynomial", "sine", "exponential")
    },
    "sequential": S.Sequential([S.Rex(0.3, 50), K.ExponentialDecay(0.1, 9, 0.5)], [40]),
    "scale": S.Scale(K.CosineDecay(0.3, 90), K.ExponentialDecay(1.0, 30, 0.5)),
    "scaled": 0.5 * S.Rex(0.6, 90),
    "floor": S.Floor(S.Rex(0.3, 90), 0.05),
    "hold": S.Hold(S.Cyclical(0.01, 0.3, 41), 90),
    "nested": S.Warmup(
        S.Sequential(
            [
                S.Cyclical(0.1, 0.3, 10),
                S.Warmup(S.OneCycle(0.2, 30) * S.Hold(S.Rex(1.0, 40), 20), 5),
            ],
            [30],
        ),
        12,
    ),
}
each_object = pytest.mark.parametrize("schedule", OBJECTS.values(), ids=OBJECTS)


def vector(schedule, steps):
    """The rates at the integer vector ``steps``, in one call."""
    return np.asarray(schedule(tf.constant(steps, tf.int64)))


def compiled(schedule, jit):
    """The rate as ``fit`` computes it: a scalar int64 step inside a compiled function."""
    return tf.function(
        lambda step: tf.cast(schedule(step), tf.float32),
        input_signature=[tf.TensorSpec([], tf.int64)],
        jit_compile=jit,
        autograph=False,
    )


def three_ways(schedule, steps):
    """Rates at ``steps``: eager, in a graph and under XLA, float32 [3, steps]."""
    ways = [lambda step: float(schedule(step)), compiled(schedule, False), compiled(schedule, True)]
    return np.array([[float(way(tf.constant(s, tf.int64))) for s in steps] for way in ways])


def in_graph(schedule, steps, jit=False):
    """The rates as ``fit`` computes them, float32 [steps]."""
    function = compiled(schedule, jit)
    return np.array([function(tf.constant(int(step), tf.int64)).numpy() for step in steps])


def near(actual, expected, largest=None):
    """Within a few float32 roundings of the largest rate."""
    expected = np.asarray(expected, "float64")
    largest = np.abs(expected).max() if largest is None else largest
    np.testing.assert_allclose(actual, expected, rtol=0, atol=RELATIVE * largest)


def by_rule(share, steps):
    """Steps in a share: the nearest whole number, at least one unless the share is 0."""
    return max(1, round(share * steps)) if share else 0


few = settings(deadline=None, max_examples=15, database=None, derandomize=True)
