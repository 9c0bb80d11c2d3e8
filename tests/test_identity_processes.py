"""A run has the same name in every process; the settings in force are part of it."""

import inspect
import json
import os
import sys

import anneal_utils
from anneal_utils import identity

import keras
import numpy as np
import pytest
import tensorflow as tf
from elsewhere import TESTS, python
from identity_report import PAIRS, bits, names_of

pytest_plugins = ["small_fixtures"]
pytestmark = pytest.mark.usefixtures("leave_nothing")


def asked(*what, **variables) -> dict:
    """``report`` of another process, with these environment variables."""
    told = python(
        str(TESTS / "identity_report.py"), *what, **{"TF_ENABLE_ONEDNN_OPTS": None, **variables}
    )
    return json.loads(told.splitlines()[-1])


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
