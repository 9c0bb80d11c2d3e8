"""Fixtures of several files: ``pytest_plugins = ["small_fixtures"]`` in a test file."""

import keras
import pytest
from small import forget, policy


@pytest.fixture
def half_precision():
    """Keras's mixed_float16 policy, put back after."""
    with policy("mixed_float16"):
        yield


@pytest.fixture
def floatx():
    """A function that sets Keras's floatx, and the policy that goes with it; put back after."""
    before = keras.config.floatx()

    def use(kind):
        keras.config.set_floatx(kind)
        keras.config.set_dtype_policy(kind)

    with policy(keras.config.dtype_policy()):
        yield use
    keras.config.set_floatx(before)


@pytest.fixture
def leave_nothing():
    """What one test has compiled is in no other's way."""
    yield
    forget()
