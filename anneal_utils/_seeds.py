"""Keras's seed for a while, without a trace."""

import contextlib
import random

import keras
import numpy as np


@contextlib.contextmanager
def seeded(seed: int):
    """Keras's global seed set to ``seed``; Python's and NumPy's own generators put back after."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        keras.utils.set_random_seed(seed)
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
