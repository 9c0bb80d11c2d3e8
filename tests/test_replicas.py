"""Two replicas of TensorFlow are one device with the whole batch; one process asks for all."""

import functools
import json

from elsewhere import TESTS, python


@functools.cache
def failures() -> dict:
    """What fails on two replicas, by subject."""
    script = str(TESTS / "two_replicas.py")
    return json.loads(python(script, "callbacks", "wrappers", "optimizers").splitlines()[-1])


def test_two_replicas():
    assert failures()["callbacks"] is None, failures()["callbacks"]


def test_two_replicas_are_one():
    assert failures()["wrappers"] is None, failures()["wrappers"]


def test_two_replicas_are_one_device_with_the_whole_batch():
    assert failures()["optimizers"] is None, failures()["optimizers"]
