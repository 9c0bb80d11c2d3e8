"""What differs between Keras's backends, for schedules, callbacks and optimizers.

They are made of Keras's own operations. ``tf`` is TensorFlow where Keras runs on it and None
elsewhere: what asks TensorFlow for something (a strategy, a graph) asks ``tf is None`` first.
"""

import contextlib

try:
    import keras
except ModuleNotFoundError as missing:
    if missing.name not in ("tensorflow", "jax", "torch"):
        raise
    raise ImportError(
        f"Keras is to run on {missing.name}, which is not installed: install a backend and name "
        "it, as `pip install jax` and KERAS_BACKEND=jax; TensorFlow comes with "
        "pip install 'anneal-utils[train]'"
    ) from None

import numpy as np

NAME = keras.backend.backend()
if NAME == "tensorflow":
    import tensorflow as tf
else:
    tf = None

# Of a step: JAX has no whole numbers of 64 bits unless it is told to.
STEP = "int32" if NAME == "jax" else "int64"


def outside():
    """A context outside of whatever step is being compiled."""
    if tf is not None:
        return tf.init_scope()
    if NAME == "jax":
        import jax

        return jax.ensure_compile_time_eval()
    return contextlib.nullcontext()


def copy(value):
    """A tensor of its own with ``value``: JAX gives what two variables share away twice."""
    return keras.ops.copy(value) if NAME == "jax" else value


def at(schedule, step: int) -> float:
    """The schedule's rate at ``step``, as a number, also while a step is being compiled."""
    with outside():
        if tf is not None:
            # Not float(): inside a tf.function that word may have been made an operation.
            return np.asarray(schedule(tf.constant(step, tf.int64)), float).item()
        return float(schedule(keras.ops.convert_to_tensor(step, STEP)))


def one_by_one(schedule, steps: int, dtype: str) -> np.ndarray:
    """The rates of steps 0 .. ``steps`` - 1 as ``fit`` computes them: for one step at a time."""
    if tf is not None:

        @tf.function(autograph=False)
        def loop():
            return tf.map_fn(
                lambda step: tf.cast(schedule(step), dtype),
                tf.range(steps, dtype=tf.int64),
                fn_output_signature=tf.as_dtype(dtype),
            )

        # A concrete function: TensorFlow warns when many different functions are called like this.
        return loop.get_concrete_function()().numpy()
    if NAME == "jax":
        import jax

        def rate(step):
            return keras.ops.cast(schedule(step), "float32")

        table = jax.jit(lambda all_steps: jax.lax.map(rate, all_steps))(
            keras.ops.arange(steps, dtype=STEP)
        )
        return np.asarray(table, dtype)
    rates = [at(schedule, step) for step in range(steps)]  # as PyTorch does in fit
    return np.array(rates, dtype)
