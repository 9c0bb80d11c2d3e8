"""Fixtures of the benchmark's tests: ``pytest_plugins = ["benchmark_fixtures"]`` in a test file."""

import contextlib

from anneal_utils.benchmark import first as benchmark
from anneal_utils.benchmark import plugins

import pytest
from small_benchmark import SMALL


@pytest.fixture(scope="session")
def reference(tmp_path_factory):
    """The small benchmark computed in this process, with its cache."""
    cache = tmp_path_factory.mktemp("reference")
    return benchmark.run(**SMALL, cache=cache), cache


@pytest.fixture
def registries():
    """What a test registers is gone after it."""
    with contextlib.ExitStack() as stack:
        for registry in plugins.REGISTRIES.values():
            stack.enter_context(registry.kept())
        loaded = dict(plugins.loaded)
        yield
        plugins.loaded.clear()
        plugins.loaded.update(loaded)
