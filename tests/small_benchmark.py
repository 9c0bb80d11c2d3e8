"""A small benchmark and what its tests share; the fixtures are in ``benchmark_fixtures``."""

import dataclasses
import os
import subprocess
import sys
import time

from anneal_utils import store
from anneal_utils.benchmark import first as benchmark
from anneal_utils.benchmark import plugins

import pandas as pd

SMALL = dict(
    problems=["quadratic:epochs=2", "quadratic:curvature=2:epochs=3"],
    schedules=["constant", "cosine", "linear"],
    budget=3,
    tuning_seeds=2,
    seeds=4,
)


ARGUMENTS = [
    *("--problem", *SMALL["problems"], "--schedule", *SMALL["schedules"], "--optimizer", "sgd"),
    *("--horizon", "1", "--budget", "3", "--tuning-seeds", "2", "--seeds", "4"),
]


PLUGIN = '''"""A user's method."""
from anneal_utils import problems, schedules
from anneal_utils.benchmark import first as benchmark
import keras

@schedules.register("mine")
def mine(peak, steps, share=0.5):
    """Half the rate, then a line to zero."""
    return keras.optimizers.schedules.PolynomialDecay(peak, steps, peak * share)

benchmark.register_optimizer("nesterov", lambda rate=0.1: keras.optimizers.SGD(
    rate, momentum=0.9, nesterov=True), centre=0.05)
problems.register("bowl")(lambda: problems.load("quadratic", curvature=3.0, epochs=2))
'''


def in_place_of(kind, name, value):
    """Another thing behind a name of the package, as if the package had it."""
    entry = plugins.REGISTRIES[kind].entry(name)
    plugins.REGISTRIES[kind]._entries[name] = [dataclasses.replace(entry, value=value)]


def assert_same(first, second):
    for name in ("trials", "report"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name), check_exact=True)


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.parquet"))
    }


def kept(folder):
    """What a store holds: {run: bits}."""
    kept_ = store.Store(folder)
    return {
        run: (record.history.tobytes(), record.left)
        for program in kept_.programs()
        for run, record in kept_.read(program).items()
    }


def command(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "anneal_utils.benchmark", "--protocol", "1", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"ANNEAL_HEADLESS": "1"},
        **kwargs,
    )


def until(condition, seconds=120, pause=0.01):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(pause)


def computed(cache, **changed):
    """How many runs a small benchmark had to compute."""
    given = dict(schedules=["linear"], tuning_seeds=1, seeds=2, peaks=[0.01, 0.02, 0.04])
    given["extensions"] = 0
    return benchmark.run(**{**given, **changed}, cache=cache).provenance["runs"]["computed"]


def synthetic(values, interior=True):
    """Results with these losses [problems, schedules, seeds]."""
    names = ["quadratic", "digits"][: len(values)]
    report = [
        dict(problem=p, optimizer="sgd", schedule=s, horizon=1.0, seed=k, value=x, lost=False)
        | dict(trials=3, interior=interior)
        for p, rows in zip(names, values, strict=True)
        for s, row in zip("ab", rows, strict=True)
        for k, x in enumerate(row)
    ]
    trials = [
        dict(problem=p, optimizer="sgd", schedule=s, horizon=1.0, knobs="{}", kind="grid")
        | dict(peak=peak, value=value)
        for p in names
        for s in "ab"
        for peak, value in ((0.1, 2.0), (1.0, 1.0), (10.0, 2.0))
    ]
    return benchmark.Results(pd.DataFrame(trials), pd.DataFrame(report), {})
