"""The benchmark: its protocol, its cache under faults, and the same table wherever it runs."""

import contextlib
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from anneal_utils import _files, benchmark, identity, problems, schedules, statistics, training

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

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
from anneal_utils import benchmark, problems, schedules
import keras

@schedules.register("mine")
def mine(peak, steps, share=0.5):
    """Half the rate, then a line to zero."""
    return keras.optimizers.schedules.PolynomialDecay(peak, steps, peak * share)

benchmark.register_optimizer("nesterov", lambda rate=0.1: keras.optimizers.SGD(
    rate, momentum=0.9, nesterov=True), centre=0.05)
problems.register("bowl")(lambda: problems.load("quadratic", curvature=3.0, epochs=2))
'''


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """The small benchmark computed in this process, with its cache."""
    cache = tmp_path_factory.mktemp("reference")
    return benchmark.run(**SMALL, cache=cache), cache


@pytest.fixture
def registries():
    """What a test registers is gone after it."""
    with contextlib.ExitStack() as stack:
        for registry in benchmark._REGISTRIES.values():
            stack.enter_context(registry.kept())
        loaded = dict(benchmark._loaded)
        yield
        benchmark._loaded.clear()
        benchmark._loaded.update(loaded)


def in_place_of(kind, name, value):
    """Another thing behind a name of the package, as if the package had it."""
    entry = benchmark._REGISTRIES[kind].entry(name)
    benchmark._REGISTRIES[kind]._entries[name] = [dataclasses.replace(entry, value=value)]


def assert_same(first, second):
    for name in ("trials", "report"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(second, name), check_exact=True)


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def command(*arguments, **kwargs):
    return subprocess.Popen(
        [sys.executable, "-m", "anneal_utils.benchmark", *map(str, arguments)],
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


# ------------------------------------------------------------------------------------ protocol


def test_every_method_has_the_same_trials_and_says_how_many_more(reference):
    results, _ = reference
    trials, report = results.trials, results.report
    keys = ["problem", "schedule"]
    own = trials[trials["kind"] != "scan"].groupby(keys)
    assert (trials[trials["kind"] == "grid"].groupby(keys).size() == SMALL["budget"]).all()
    assert (own.size() == report.groupby(keys)["trials"].first()).all()
    # One scan for all methods of a problem, with one schedule.
    scans = trials[trials["kind"] == "scan"]
    assert set(scans["schedule"]) == {"linear"} and len(scans) == 2 * 11
    # The grids of all methods are the same peaks.
    for _, rows in trials[trials["kind"] == "grid"].groupby("problem"):
        assert rows.groupby("schedule")["peak"].apply(tuple).nunique() == 1


def test_the_tuned_peak_is_the_best_trial_and_lies_inside(reference):
    results, _ = reference
    trials = results.trials[results.trials["kind"] != "scan"].groupby(["problem", "schedule"])
    for method, rows in results.report.groupby(["problem", "schedule"]):
        tried = trials.get_group(method)
        best = tried.loc[tried["value"].idxmin(), "peak"]
        assert set(rows["peak"]) == {best}
        assert rows["interior"].all() and tried["peak"].min() < best < tried["peak"].max()


def test_an_edge_is_extended_until_the_cap(tmp_path):
    grid = dict(peaks=[1e-3, 2e-3, 4e-3], tuning_seeds=1, seeds=2)
    one = dict(problems=["quadratic:epochs=1"], schedules=["constant"])
    free, capped = (benchmark.run(**one, **grid, extensions=cap, cache=tmp_path) for cap in (12, 2))
    assert free.report["interior"].all() and not capped.report["interior"].any()
    assert set(capped.report["trials"]) == {5}
    added = free.trials[free.trials["kind"] == "extension"]
    assert len(added) == free.report["trials"].iloc[0] - 3 > 2
    assert np.allclose(added["peak"], 4e-3 * 2.0 ** np.arange(1, len(added) + 1))
    assert not (free.trials["kind"] == "scan").any()


def test_tuning_and_report_seeds_are_disjoint_and_paired(reference, monkeypatch, tmp_path):
    results, _ = reference
    assert not set(results.provenance["seeds"]["tuning"]) & set(results.report["seed"])
    for _, rows in results.report.groupby(["problem", "schedule"]):
        assert list(rows["seed"]) == list(range(SMALL["seeds"]))
    with pytest.raises(ValueError, match="seeds = 9001"):
        benchmark.Protocol(seeds=9001)
    asked = []
    train = training.train

    def spy(problem, runs, **kwargs):
        asked.extend(runs)
        return train(problem, runs, **kwargs)

    monkeypatch.setattr(training, "train", spy)
    benchmark.run(**SMALL, cache=tmp_path)
    tuned = {r.peak for r in asked if r.seed >= benchmark.TUNING}
    assert {r.peak for r in asked if r.seed < benchmark.TUNING} <= tuned
    assert {r.seed for r in asked} == {0, 1, 2, 3, 9000, 9001}


def test_the_report_is_what_the_trainer_says(reference):
    results, _ = reference
    row = results.report.iloc[5]
    problem = problems.load("quadratic", epochs=2)
    runs = training.grid([row["schedule"]], [row["peak"]], [row["seed"]])
    end = training.train(problem, runs).iloc[-1]
    assert (end["val_loss"], end["train_loss"]) == (row["val_loss"], row["train_loss"])


def test_a_diverged_run_costs_the_chance_loss_and_is_counted(tmp_path):
    results = benchmark.run(
        problems=["quadratic:epochs=30"],
        schedules=["constant"],
        peaks=[1e3, 2e3, 4e3],
        tuning_seeds=2,
        seeds=2,
        extensions=0,
        cache=tmp_path,
    )
    chance = problems.load("quadratic", epochs=30).chance_loss
    assert (results.trials["failures"] == 2).all() and (results.trials["value"] == chance).all()
    assert results.report["lost"].all() and (results.report["value"] == chance).all()
    assert (results.report["diverged_step"] >= 0).all()
    assert benchmark.ranking(results)["failures"].tolist() == [1.0]


def test_variants_compete_inside_one_budget(tmp_path):
    results = benchmark.run(
        problems=["quadratic:epochs=2"],
        schedules=["constant", "linear:warmup=0,0.3"],
        budget=7,
        tuning_seeds=1,
        seeds=2,
        cache=tmp_path,
    )
    grid = results.trials[results.trials["kind"] == "grid"]
    assert grid.groupby("schedule").size().to_dict() == {"constant": 7, "linear:warmup=0,0.3": 7}
    assert grid.groupby("knobs").size().to_dict() == {
        "{}": 7,
        '{"warmup": 0}': 4,
        '{"warmup": 0.3}': 3,
    }
    assert results.report.groupby("schedule").size().eq(2).all()
    assert results.report.query("schedule != 'constant'")["knobs"].nunique() == 1


def test_a_slice_gives_the_same_rows(reference, tmp_path):
    results, _ = reference
    part = benchmark.run(**{**SMALL, "schedules": ["cosine"]}, cache=tmp_path)
    for name in ("trials", "report"):
        whole = getattr(results, name)
        rows = whole[(whole["schedule"] == "cosine") | (whole.get("kind") == "scan")]
        pd.testing.assert_frame_equal(getattr(part, name), rows.reset_index(drop=True))


def test_horizons_are_multiples_of_the_epochs(tmp_path):
    results = benchmark.run(
        problems=["quadratic:epochs=4"],
        schedules=["constant"],
        horizons=[0.25, 2],
        extra_horizons={"adam": [1]},
        **dict(budget=3, tuning_seeds=1, seeds=2),
        cache=tmp_path,
    )
    assert set(zip(results.report["horizon"], results.report["epochs"], strict=True)) == {
        (0.25, 1),
        (2.0, 8),
    }


def test_the_profiles_can_be_planned():
    for profile in benchmark.PROFILES:
        given = benchmark.settings(profile)
        names, texts = given.pop("problems"), given.pop("schedules")
        wanted = given.pop("horizons")
        extra = given.pop("extra_horizons", None), given.pop("extra_problems", None)
        groups, methods, _ = benchmark._plan(
            names, texts, given.pop("optimizers"), wanted, extra, given
        )
        assert groups and methods
    # That was "full": the widest.
    assert len(methods) >= 14 and len({group.optimizer for group in groups}) >= 3
    assert len({group.problem for group in groups}) >= 8
    assert len({group.horizon for group in groups}) >= 4
    assert not set(benchmark.default_problems()) & set(benchmark.DOWNLOADS)
    assert set(benchmark.DOWNLOADS) < set(problems.names())
    assert not {"extra_horizons", "extra_problems"} & set(
        benchmark.settings("full", optimizers=["sgd"])
    )
    long = {group.problem for group in groups if group.horizon != 1.0}
    assert long == set(benchmark.PROFILES["full"]["extra_problems"])
    # "quick" is a part of "full": the same protocol, fewer methods.
    quick, full = benchmark.PROFILES["quick"], benchmark.PROFILES["full"]
    assert set(quick) < set(full) and set(quick["optimizers"]) < set(full["optimizers"])
    assert set(quick["horizons"]) <= set(full["horizons"])


# ------------------------------------------------------------------- the same table everywhere


def test_two_processes_give_the_same_table(reference, tmp_path, monkeypatch):
    results, cache = reference
    monkeypatch.setattr(benchmark, "RUNS_PER_TASK", 10)  # many tasks
    assert_same(benchmark.run(**SMALL, jobs=2, cache=tmp_path), results)
    assert files(tmp_path) == files(cache)


def test_a_users_file_is_ranked_here_and_over_processes(tmp_path, registries):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    mine = dict(
        problems=["bowl"],
        schedules=["mine:share=0.5,0.1", "constant"],
        optimizers=["nesterov"],
        **dict(budget=6, tuning_seeds=1, seeds=2),
        plugins=[plugin],
    )
    here = benchmark.run(**mine, cache=tmp_path / "here")
    assert_same(benchmark.run(**mine, jobs=2, cache=tmp_path / "there"), here)
    assert "mine:share=0.5,0.1" in set(benchmark.ranking(here)["schedule"])
    assert list(here.provenance["plugins"]) == ["mine.py"]
    # Another text under the same name is another method.
    plugin.write_text(PLUGIN.replace("share)", "share * 0.1)"))
    changed = benchmark.run(**mine, cache=tmp_path / "here")
    assert changed.provenance["runs"]["computed"] > 0
    with pytest.raises(AssertionError):
        assert_same(changed, here)


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler and two workers as processes on the loopback: its address and their ids."""
    pytest.importorskip("distributed")
    where = tmp_path / "scheduler.json"
    log = open(tmp_path / "log", "w")

    def start(module, *arguments):
        return subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *arguments, "--no-dashboard"],
            stdout=log,
            stderr=log,
        )

    scheduler = start(
        "dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(where)
    )
    workers = {}
    try:
        until(where.exists)
        address = json.loads(where.read_text())["address"]
        for name in ("one", "two"):
            workers[name] = start(
                *("dask_worker", address, "--name", name, "--host", "127.0.0.1"),
                *("--nthreads", "1", "--no-nanny", "--local-directory", str(tmp_path / name)),
            )
        yield address, workers
    finally:
        for process in [*workers.values(), scheduler]:
            process.kill()
            process.wait()
        log.close()


def test_dask_gives_the_same_table_though_a_worker_is_killed(
    reference, cluster, tmp_path, monkeypatch, registries
):
    from distributed import Client

    results, cache = reference
    address, workers = cluster
    monkeypatch.setattr(benchmark, "RUNS_PER_TASK", 10)
    write, killed = benchmark.Cache.write, []
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)
        names = {w: d["id"] for w, d in client.scheduler_info(n_workers=-1)["workers"].items()}

        def kill_then_write(self, chunk, table):
            busy = [w for w, tasks in client.processing().items() if tasks]
            if busy and not killed:  # it has work of ours: the table must not miss it
                killed.append(names[busy[0]])
                workers[killed[0]].send_signal(signal.SIGKILL)
                workers[killed[0]].wait()
            write(self, chunk, table)

        monkeypatch.setattr(benchmark.Cache, "write", kill_then_write)
        assert_same(benchmark.run(**SMALL, dask=address, cache=tmp_path / "cache"), results)
        assert len(killed) == 1 and workers[killed[0]].returncode == -signal.SIGKILL
        until(lambda: len(client.scheduler_info(n_workers=-1)["workers"]) == 1)
    assert files(tmp_path / "cache") == files(cache)
    monkeypatch.undo()
    # A user's file reaches the worker that is left.
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    mine = dict(SMALL, schedules=["mine", "linear"], plugins=[plugin])
    far = benchmark.run(**mine, dask=address, cache=tmp_path / "far")
    assert_same(far, benchmark.run(**mine, cache=tmp_path / "near"))


# -------------------------------------------------------------------------------------- faults


def test_killed_while_running_it_goes_on(reference, tmp_path):
    results, _ = reference
    cache, out = tmp_path / "cache", tmp_path / "out"
    process = command("run", *ARGUMENTS, "--cache", cache, "--out", out)
    # The first problem's chunks are there, the second one's program is being compiled.
    until(lambda: len(list(cache.glob("*.parquet"))) >= 2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not out.exists()
    before = {path: path.stat().st_mtime_ns for path in cache.glob("*.parquet")}
    again = benchmark.run(**SMALL, cache=cache)
    assert_same(again, results)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    count = again.provenance["runs"]
    assert count["from_cache"] == sum(len(pd.read_parquet(path)) for path in before) > 0
    assert count["computed"] > 0


def ignore_ctrl_c():
    """As a shell does for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", [1, 2])
def test_in_the_background_too_it_is_ended_in_order(tmp_path, jobs, end):
    cache, out = tmp_path / "cache", tmp_path / "out"
    given = [*ARGUMENTS, "--seeds", "300", "--jobs", jobs, "--cache", cache, "--out", out]
    process = command("run", *given, preexec_fn=ignore_ctrl_c, start_new_session=True)
    try:
        until(lambda: list(cache.glob("*.parquet")))
        process.send_signal(end)
        said, wrong = process.communicate(timeout=30)  # its workers hold these pipes too
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, said) == (130, "")
    assert wrong == "Stopped: the same command goes on from here.\n"
    assert list(cache.glob("*.parquet")) and not out.exists()


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_interrupted_while_it_is_loading_it_says_so():
    process = command("list", preexec_fn=ignore_ctrl_c)
    until(lambda: process.send_signal(signal.SIGINT) or process.poll() is not None)
    assert process.communicate() == ("", "Stopped before it began.\n")
    assert process.returncode == 130


def test_two_processes_share_a_cache(reference, tmp_path):
    results, cache = reference
    shared, out = tmp_path / "cache", tmp_path / "out"
    other = command("run", *ARGUMENTS, "--cache", shared, "--out", out)
    until(lambda: list(shared.glob("*.parquet")))  # it has begun
    assert_same(benchmark.run(**SMALL, cache=shared), results)
    said, wrong = other.communicate()
    assert other.returncode == 0, wrong
    assert wrong == ""  # no progress bar, no TensorFlow
    assert "runs computed" in said and "cosine" in said
    assert_same(benchmark.load(out), results)
    assert files(shared) == files(cache)  # and no half-written file is left


def test_what_is_finished_is_read_and_nothing_is_said(reference, capsys):
    results, cache = reference
    assert results.trials["failures"].any()  # NaN is among what is read back
    before = files(cache)
    again = benchmark.run(**SMALL, cache=cache)
    assert_same(again, results)
    assert again.provenance["runs"]["computed"] == 0 and files(cache) == before
    assert capsys.readouterr().err == ""


def test_a_damaged_file_is_noticed_and_computed_again(reference, tmp_path, capsys):
    results, cache = reference
    whole = files(cache)
    for name, content in whole.items():
        (tmp_path / name).write_bytes(content)
    paths = sorted(tmp_path.iterdir())
    paths[0].write_bytes(whole[paths[0].name][:-100])  # truncated
    paths[1].write_bytes(b"")
    table = pd.read_parquet(paths[2])  # altered, by someone who keeps the notes
    said = pq.read_schema(paths[2]).metadata
    table.loc[0, "val_loss"] += 1e-9
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(arrow.replace_schema_metadata(said), paths[2])
    paths[3].write_bytes(whole[paths[4].name])  # another chunk's
    content = bytearray(whole[paths[5].name])
    content[len(content) // 3] ^= 255  # a flipped byte
    paths[5].write_bytes(content)
    sizes = sum(len(_files.unparquet(whole[p.name], key=p.stem)) for p in paths[:4])
    again = benchmark.run(**SMALL, cache=tmp_path)
    assert_same(again, results)
    sentences = capsys.readouterr().err.splitlines()
    for path in paths[:4]:
        (line,) = [line for line in sentences if path.name in line]
        assert line.endswith("it is computed again.")
    assert len(sentences) <= 5  # the flipped byte may sit where nothing is read
    assert again.provenance["runs"]["computed"] >= sizes
    assert files(tmp_path).keys() == whole.keys()
    assert {p.name: p.read_bytes() for p in paths[:4]} == {p.name: whole[p.name] for p in paths[:4]}


def test_a_full_disk_is_said_and_loses_nothing(reference, tmp_path, monkeypatch, capsys):
    results, _ = reference
    cache, out = tmp_path / "cache", tmp_path / "out"
    sync, left = os.fsync, [3]

    def full(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    arguments = ["run", *ARGUMENTS, "--cache", str(cache), "--out", str(out)]
    assert benchmark.main(arguments) == 2
    monkeypatch.undo()
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and "disk is full" in said[0]
    kept = files(cache)
    assert len(kept) == 3 and not [name for name in kept if name.endswith(".part")]
    assert benchmark.main(arguments) == 0
    assert files(cache).items() >= kept.items()
    assert_same(benchmark.load(out), results)


def test_the_key_changes_with_everything_that_decides_a_run(monkeypatch, tmp_path, registries):
    cache = benchmark.Cache(tmp_path, "auto")
    given = dict(
        problem="quadratic",
        optimizer="sgd",
        epochs=2,
        schedule="linear",
        knobs=(),
        peaks=(0.1, 0.2),
        seeds=(0, 1),
    )
    other = dict(
        problem="quadratic:noise=2",
        optimizer="adam",
        epochs=3,
        schedule="cosine",
        knobs=(("end", 0.1),),
        peaks=(0.1, 0.2 * (1 + 2e-7)),
        seeds=(0, 2),
    )
    paths = {cache.path(benchmark.Chunk(**given))}
    paths |= {cache.path(benchmark.Chunk(**{**given, k: v})) for k, v in other.items()}
    paths.add(benchmark.Cache(tmp_path, "graph").path(benchmark.Chunk(**given)))
    # What rounds to the same rates, of Keras's float32, is the same runs.
    close = benchmark.Chunk(**{**given, "peaks": (0.1, 0.2 * (1 + 1e-15))})
    assert cache.path(close) == cache.path(benchmark.Chunk(**given))
    other_version = {**identity.environment(), "tensorflow": "0.0"}
    monkeypatch.setattr(identity, "environment", lambda: other_version)
    paths.add(benchmark.Cache(tmp_path, "auto").path(benchmark.Chunk(**given)))
    assert len(paths) == len(other) + 3
    # A user's schedule is known by its rates: the same name with other rates is another key.
    for end in (0.5, 0.6):
        schedules.register("user", overwrite=True)(
            lambda peak, steps, end=end: schedules.build("linear", peak, steps, end=end)
        )
        again = benchmark.Cache(tmp_path, "auto")
        paths.add(again.path(benchmark.Chunk(**{**given, "schedule": "user"})))
    assert len(paths) == len(other) + 5


# ------------------------------------------------------------------- nothing stale, nothing cold


def computed(cache, **changed):
    """How many runs a small benchmark had to compute."""
    given = dict(schedules=["linear"], tuning_seeds=1, seeds=2, peaks=[0.01, 0.02, 0.04])
    return benchmark.run(**{**given, **changed}, cache=cache).provenance["runs"]["computed"]


def test_a_changed_closure_of_a_loss_is_computed_again(tmp_path, registries):
    delta = 1.0

    @problems.register("robust")
    def robust():
        """A bowl under Huber's loss of its residual; ``delta`` is read while it is traced."""
        bowl = problems.load("quadratic", epochs=2)

        def huber(y, residual):
            return keras.losses.huber(keras.ops.zeros_like(residual), residual, delta)

        return dataclasses.replace(bowl, loss=huber)

    assert computed(tmp_path, problems=["robust"]) > 0
    assert computed(tmp_path, problems=["robust"]) == 0
    delta = 0.01
    assert computed(tmp_path, problems=["robust"]) > 0
    delta = 1.0
    assert computed(tmp_path, problems=["robust"]) == 0  # what it computes is known


def test_a_changed_closure_of_an_optimizer_is_computed_again(tmp_path, registries):
    beta = 0.9
    benchmark.register_optimizer(
        "mine", lambda rate: keras.optimizers.SGD(rate, momentum=beta), centre=0.1
    )
    given = dict(problems=["quadratic:epochs=2"], optimizers=["mine"])
    assert computed(tmp_path, **given) > 0
    assert computed(tmp_path, **given) == 0
    beta = 0.5
    assert computed(tmp_path, **given) > 0


HELPED = """
import helper_of_mine
from anneal_utils import schedules

@schedules.register("helped")
def helped(peak, steps):
    return schedules.build("linear", peak, steps, end=helper_of_mine.END)
"""


def test_a_changed_helper_of_a_plugin_is_computed_again(tmp_path, monkeypatch, registries):
    helper, plugin = tmp_path / "helper_of_mine.py", tmp_path / "helped.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    plugin.write_text(HELPED)
    given = dict(SMALL, problems=["quadratic:epochs=2"], schedules=["helped"], plugins=[plugin])
    for end, cold in ((0.1, True), (0.1, False), (0.2, True)):
        helper.write_text(f"END = {end}")
        sys.modules.pop("helper_of_mine", None)
        benchmark._loaded.clear()  # as a new process would begin
        "helped" in schedules.names() and schedules.unregister("helped")
        ran = benchmark.run(**given, cache=tmp_path / "cache").provenance["runs"]
        assert (ran["computed"] > 0) == cold
    monkeypatch.delitem(sys.modules, "helper_of_mine")


def test_another_setting_is_computed_again_and_a_comment_is_not(reference, tmp_path):
    _, cache = reference
    for name, content in files(cache).items():
        (tmp_path / name).write_bytes(content)
    package = tmp_path / "other" / "anneal_utils"
    shutil.copytree(Path(benchmark.__file__).parent, package)
    for module in package.rglob("*.py"):
        module.write_text(f"{module.read_text()}\n# A comment that changes no number.\n")
    command_ = [sys.executable, "-m", "anneal_utils.benchmark", "run", *ARGUMENTS]
    command_ += ["--cache", str(tmp_path), "--out", str(tmp_path / "out")]
    said = {}
    for onednn in ("0", "1"):
        setting = {"PYTHONPATH": str(package.parent), "TF_ENABLE_ONEDNN_OPTS": onednn}
        said[onednn] = subprocess.run(
            command_, env={**os.environ, **setting}, capture_output=True, text=True, check=True
        ).stdout
    assert said["0"].startswith("0 runs computed, ")
    assert said["1"].endswith(said["1"][said["1"].index(" read from") :])
    assert said["1"].split(" runs computed, ")[1].startswith("0 read from the cache")


OPAQUE = """
import dataclasses
from anneal_utils import problems
import keras, numpy, tensorflow as tf

@problems.register("opaque")
def opaque():
    bowl = problems.load("quadratic", epochs=2)

    def loss(y, residual):
        half = tf.numpy_function(lambda r: numpy.float32(0.5) * r, [residual], tf.float32)
        return keras.ops.sum(residual * keras.ops.reshape(half, keras.ops.shape(residual)), -1)

    return dataclasses.replace(bowl, loss=loss)
"""


def test_what_can_not_be_read_is_computed_and_never_kept(tmp_path, registries):
    plugin = benchmark.Plugin("opaque.py", OPAQUE)
    given = dict(problems=["opaque"], plugins=[plugin])
    assert computed(tmp_path, **given) > 0
    assert computed(tmp_path, **given) > 0
    with pytest.raises(ValueError, match="opaque.* calls Python .*in this process"):
        computed(tmp_path, **given, jobs=2)
    assert not list(tmp_path.iterdir())


def test_a_schedule_that_was_overwritten_here_is_refused_for_others(tmp_path, registries):
    given = dict(SMALL, schedules=["cosine"], cache=tmp_path)
    schedules.register("cosine", overwrite=True)(
        lambda peak, steps: schedules.build("constant", peak, steps)
    )
    with pytest.raises(ValueError, match=r"schedule = 'cosine': .* pass it as a plugin"):
        benchmark.run(**given, jobs=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("what", ["schedule", "problem", "optimizer", "environment"])
def test_what_a_worker_has_otherwise_is_refused(what, tmp_path, monkeypatch, registries):
    """Not by the registries: something behind a known name is other here than in the workers."""
    if what == "schedule":
        in_place_of("schedule", "cosine", schedules.catalogue.registry["constant"])
    elif what == "problem":
        in_place_of("problem", "quadratic", lambda epochs=2: problems.tabular.wilson())
    elif what == "optimizer":
        in_place_of("optimizer", "sgd", keras.optimizers.Adam)
    else:
        other = {**identity.environment(), "tensorflow": "0.0"}
        monkeypatch.setattr(identity, "environment", lambda: other)
    sentence = {
        "schedule": "^Schedule 'cosine' is something else in a worker",
        "problem": "^Problem 'quadratic:epochs=2' or optimizer 'sgd' is something else",
        "optimizer": "^Problem 'quadratic:epochs=2' or optimizer 'sgd' is something else",
        "environment": "other settings than this process: tensorflow is 2.* there and 0.0 here",
    }[what]
    with pytest.raises(benchmark.Stopped, match=sentence):
        computed(tmp_path, problems=["quadratic:epochs=2"], schedules=["cosine"], jobs=2)
    assert not list(tmp_path.iterdir())


def test_results_know_the_code_that_they_are_of(reference, monkeypatch):
    results, _ = reference
    assert benchmark.stale(results).empty
    one = results.report.copy()
    one.loc[3, "run"] = one.loc[4, "run"]
    trials = results.trials.assign(run=results.trials["run"].where(results.trials.index != 2, "x"))
    told = benchmark.stale(dataclasses.replace(results, report=one, trials=trials))
    assert sorted(told["table"]) == ["report", "trials"]
    # Another program behind the same names: every row of that problem is told.
    monkeypatch.setattr(
        problems.models, "point", lambda start: problems.models.linear(len(start), 1)
    )
    problems.catalogue.made.cache_clear()
    told = benchmark.stale(results)
    problems.catalogue.made.cache_clear()
    assert len(told) and set(told["problem"]) == {
        p for p in set(results.report["problem"]) if p.startswith("quadratic")
    }


# ------------------------------------------------------------------------------------- plugins


def test_a_plugin_that_overwrites_is_undone_when_its_text_changes(tmp_path, registries):
    cosine = schedules.catalogue.registry["cosine"]
    text = "from anneal_utils import schedules\n"
    over = (
        '@schedules.register("cosine", overwrite=True)\ndef mine(peak, steps):\n    return peak\n'
    )
    benchmark._load_plugin(benchmark.Plugin("over.py", text + over))
    assert schedules.catalogue.registry["cosine"] is not cosine
    benchmark._load_plugin(benchmark.Plugin("over.py", text))
    assert schedules.catalogue.registry["cosine"] is cosine


def test_what_only_this_process_knows_is_refused_for_others(tmp_path, registries):
    schedules.register("local")(lambda peak, steps: schedules.build("linear", peak, steps))
    local = dict(SMALL, schedules=["local"], cache=tmp_path)
    assert len(benchmark.run(**local).report) == 8
    with pytest.raises(ValueError, match=r"schedule = 'local': .* pass it as a plugin"):
        benchmark.run(**local, jobs=2)


# -------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["--problem", "mnist"], r"problem = 'mnist': must be one of"),
        (["--problem", "digits_noisy:noise=2"], r"noise = 2"),
        (["--problem", "digits:depth=2"], r"knob = 'depth'"),
        (["--schedule", "cosinus"], r"schedule = 'cosinus': must be one of"),
        (["--schedule", "cosine:end"], r"knob = 'end': must be written"),
        (["--schedule", "cosine:endd=1"], r"knob = 'endd'"),
        (["--schedule", "cosine", "cosine"], r"schedules = .*must not repeat"),
        (["--schedule", "step:drops=100"], r"drops = 100"),
        (["--schedule", "cosine:end=0,0.1,0.2"], r"budget = 3: must be >= 9"),
        (["--schedule"], r"(?i)argument --schedule: expected at least one argument"),
        (["--optimizer", "sgdd"], r"optimizer = 'sgdd'"),
        (["--budget", "2"], r"budget = 2: must be a whole number >= 3"),
        (["--budget", "few"], r"(?i)argument --budget: invalid int value"),
        (["--seeds", "1"], r"seeds = 1"),
        (["--tuning-seeds", "0"], r"tuning_seeds = 0"),
        (["--horizon", "0"], r"horizon = 0"),
        (["--horizon", "nan"], r"horizon = nan"),
        (["--ratio", "1"], r"ratio = 1"),
        (["--extensions", "-1"], r"extensions = -1"),
        (["--peak", "0", "0.1", "0.2"], r"peaks = 0"),
        (["--peak", "0.1", "0.2"], r"peaks = .*at least three"),
        (["--jobs", "0"], r"jobs = 0"),
        (["--profile", "huge"], r"(?i)argument --profile: invalid choice: 'huge'"),
        (["--plugin", "nowhere.py"], r"plugin = 'nowhere.py': No such file"),
        (["--dask", "tcp://127.0.0.1:1"], r"No Dask scheduler answers at tcp://127.0.0.1:1"),
        (["--dask", "nonsense://x"], r"No Dask scheduler answers"),
        (["--fast"], r"(?i)unrecognized arguments: --fast"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(tmp_path, capsys, arguments, sentence):
    places = ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    base = ["run", *ARGUMENTS, *places]
    try:
        code = benchmark.main([*base, *arguments])
    except SystemExit as end:  # argparse
        code = end.code
    said = capsys.readouterr()
    assert code == 2 and said.out == ""
    assert len(said.err.splitlines()) == 1 and re.search(sentence, said.err), said.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["1 / 0", "not python", "import no_such_module"])
def test_a_broken_plugin_is_one_sentence(tmp_path, capsys, text):
    plugin = tmp_path / "broken.py"
    plugin.write_text(PLUGIN.replace("mine", "broken") + text)
    for _ in range(2):  # what it had registered is gone
        assert benchmark.main(["list", "--plugin", str(plugin)]) == 2
        assert re.match(r"plugin = 'broken.py': \w+Error: ", capsys.readouterr().err)
    assert "broken" not in schedules.names() and "bowl" not in problems.names()


def test_results_of_another_version_stay(reference, tmp_path, capsys):
    benchmark.save(reference[0], tmp_path)
    path = tmp_path / "provenance.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 99'))
    before = files(tmp_path)
    cache = tmp_path.parent / "unused"
    calls = (["show"], ["run", *ARGUMENTS, "--cache", str(cache)])
    for call in calls:
        assert benchmark.main([*call, "--out", str(tmp_path)]) == 2
        said = capsys.readouterr()
        assert len(said.err.splitlines()) == 1 and "format 99" in said.err and not said.out
    with pytest.raises(ValueError, match="format 99"):
        benchmark.save(reference[0], tmp_path)
    assert files(tmp_path) == before and not cache.exists()


def test_altered_or_missing_results_are_noticed(reference, tmp_path, capsys):
    assert benchmark.main(["show", "--out", str(tmp_path)]) == 2
    assert "holds no benchmark results" in capsys.readouterr().err
    benchmark.save(reference[0], tmp_path)
    assert_same(benchmark.load(tmp_path), reference[0])
    report = tmp_path / "report.parquet"
    whole = report.read_bytes()
    for content in (whole[:-10], (tmp_path / "trials.parquet").read_bytes()):
        report.write_bytes(content)
        with pytest.raises(ValueError, match="report.parquet"):
            benchmark.load(tmp_path)
    report.unlink()
    with pytest.raises(ValueError, match="report.parquet is missing"):
        benchmark.load(tmp_path)


def test_show_prints_the_ranking_and_list_the_names(reference, tmp_path, capsys):
    benchmark.save(reference[0], tmp_path)
    assert benchmark.main(["show", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["schedule", "rank", "regret"]
    ranked = benchmark.ranking(reference[0])
    assert [line.split()[0] for line in lines[2:]] == list(ranked["schedule"])
    assert benchmark.main(["show", "--out", str(tmp_path), "--problem", "nothing"]) == 2
    assert "problem = 'nothing'" in capsys.readouterr().err
    assert benchmark.main(["list"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in [*problems.names(), *schedules.names(), "momentum"])


def test_help_has_examples(capsys):
    with pytest.raises(SystemExit) as end:
        benchmark.main(["run", "--help"])
    said = capsys.readouterr().out
    assert end.value.code == 0 and "examples:" in said
    for option in ("problem", "schedule", "optimizer", "budget", "seeds", "horizon", "jobs"):
        assert f"--{option}" in said
    assert "--dask" in said and "--out" in said and "--profile" in said


# ------------------------------------------------------------------------------------ analysis


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


def test_the_ranking_of_known_values():
    results = synthetic([[[0.1, 0.1, 0.1], [0.3, 0.3, 0.3]], [[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]])
    table = benchmark.ranking(results).set_index("schedule")
    assert table["rank"].to_dict() == {"a": 1.0, "b": 2.0}
    assert (table["low"] == table["rank"]).all() and (table["high"] == table["rank"]).all()
    chance = [problems.load(n).chance_loss for n in ("quadratic", "digits")]
    regrets = [0.2 / (chance[0] - 0.1), 1.0 / (chance[1] - 1.0)]
    assert table.loc["a", "regret"] == 0 and np.isclose(table.loc["b", "regret"], np.mean(regrets))
    assert np.allclose(benchmark.ratios(results.report)["b"], [3.0, 2.0])
    assert np.allclose(table["width"], 2 * 0.2)  # lines from 1 to 2 reach 1.2 at a fifth
    with pytest.raises(ValueError, match="every method with the same seeds"):
        benchmark.cube(results.report.iloc[1:])
    with pytest.raises(ValueError, match="horizon = 2"):
        benchmark.ranking(results, horizon=2.0)


def test_ranks_have_an_interval_when_seeds_disagree(reference):
    table = benchmark.ranking(reference[0], problem=SMALL["problems"][0])
    assert (table["low"] <= table["rank"]).all() and (table["rank"] <= table["high"]).all()
    assert (table["low"] < table["high"]).any()
    assert np.isclose(table["rank"].sum(), 6)
    assert statistics.mean_ranks(benchmark.cube(reference[0].report)[0])[0].n == SMALL["seeds"]


def test_the_curves_of_known_values():
    results = synthetic([[[0.1, 0.1, 0.1], [0.3, 0.3, 0.3]], [[1.0, 1.0, 1.0], [1.5, 1.5, 1.5]]])
    assert benchmark.profile(results, [1, 2, 3]).to_dict("list") == {
        "a": [1.0, 1.0, 1.0],
        "b": [0.0, 0.5, 1.0],
    }
    best = benchmark.best_of_k(results)
    # One of (2, 1, 2): the lowest is found in a third, two thirds, all of the draws. Digits: its
    # chance is log 10; the quadratic's is 0.5, so there every trial counts as 1 but the best.
    digits = 1 / (np.log(10) - 1)
    expected = [(share + digits * share) / 2 for share in (2 / 3, 1 / 3, 0)]
    assert np.allclose(best["a"], expected) and list(best.index) == [1, 2, 3]
    table = benchmark.against(results, "b")
    assert table.to_dict("records") == [{"schedule": "a", "estimate": 1.0, "low": 1.0, "high": 1.0}]
    curve = benchmark.sensitivity(results, problem="digits")
    assert list(curve["peak"]) == [0.1, 1.0, 10.0] * 2
    later = results.report.assign(horizon=2.0, value=1.0 + (results.report["schedule"] == "a"))
    trials = pd.concat([results.trials, results.trials.assign(horizon=2.0)])
    both = benchmark.Results(trials, pd.concat([results.report, later]), {})
    order = benchmark.anytime(both).groupby("horizon")["schedule"].apply(list)
    assert order.to_dict() == {1.0: ["a", "b"], 2.0: ["b", "a"]}


def test_no_schedule_is_advised_for_its_rank():
    results = benchmark.load(benchmark.COMMITTED)
    advised = " ".join(benchmark.recommendation(results))
    leaders = {benchmark.ranking(results)["schedule"][0]} | {
        benchmark.ranking(results, optimizer=name)["schedule"][0]
        for name in results.provenance["optimizers"]
    }
    safest = benchmark.worst_case(results)["schedule"][0]
    assert len(leaders) > 1  # the order depends on the optimizer
    for name in leaders - {"linear", "constant", safest}:
        assert name not in advised


def test_the_recommendation_says_what_the_results_say():
    results = synthetic([[[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]], [[1.0, 1.1, 1.2], [0.9, 0.8, 1.0]]])
    named = {"a": "linear", "b": "constant"}
    results = benchmark.Results(
        results.trials.replace({"schedule": named}), results.report.replace({"schedule": named}), {}
    )
    first, shape, worst, caution = benchmark.recommendation(results)
    assert "in 1 of 2 settings (2 problems, 1 optimizers; in 0 of them by less" in first
    assert "above it in 1: digits with sgd. Before annealing is blamed" in first
    assert "with and without a warmup" in first and "cannot tell apart" in shape
    # Digits: a loses (1.1 - 0.9) / (log 10 - 0.9). The bowl (chance 0.5): b loses 0.2 / 0.3.
    lost = benchmark.worst_case(results)
    assert list(lost["schedule"]) == ["linear", "constant"]
    assert np.allclose(lost["regret"], [0.2 / (np.log(10) - 0.9), 0.2 / 0.3])
    assert list(lost["problem"]) == ["digits", "quadratic"] and list(lost["first"]) == [1, 0]
    assert "least worst case: linear.** " in worst and "14.3%" in worst and "67%" in worst
    assert "no order of the shapes" in caution
    table = benchmark.paired(results, "linear", "constant")
    assert np.allclose(
        table["estimate"][1], np.log([1.0, 1.1, 1.2]).mean() - np.log([0.9, 0.8, 1.0]).mean()
    )
    assert (table["high"][0] < 0) and (table["low"][1] > 0)
    with pytest.raises(ValueError, match="schedule = 'constant'"):
        report = results.report[results.report["schedule"] == "linear"]
        benchmark.recommendation(benchmark.Results(results.trials[:3], report, {}))


# ------------------------------------------------------------------------ the committed results

# Their data are integers or uniform draws: the same bits on every processor.
EXACT = {"article", "deep_mlp", "digits", "digits_noisy", "digits_cnn"}


def test_the_committed_results_are_those_of_this_code():
    """One setting of every problem, identities only; `python -m anneal_utils.benchmark run` mends.

    Versions are part of it: an update of TensorFlow or Keras asks for new results.
    """
    results = benchmark.load(benchmark.COMMITTED)
    before, here = results.provenance["environment"], identity.environment()
    kind = ("architecture", "system", "devices")
    if any(before[name] != here[name] for name in kind):
        pytest.skip("the results are of another kind of machine, where every bit may differ")
    keys = ["problem", "optimizer", "horizon"]
    settings = results.report[keys].drop_duplicates()
    if results.provenance["machine"]["processor"] != identity.processor():
        settings = settings[settings["problem"].isin(EXACT)]
    some = settings.groupby("problem").sample(1, random_state=0)
    part = dataclasses.replace(
        results,
        report=results.report.merge(some, on=keys),
        trials=results.trials.merge(some, on=keys),
    )
    assert part.report["problem"].nunique() >= len(EXACT)
    told = benchmark.stale(part)
    assert told.empty, told.to_string()
    # and it can fail: an identity of one row put into another is told
    swapped = part.report.assign(run=part.report["run"].to_numpy()[::-1])
    one = swapped.merge(some.head(1), on=keys)
    assert not benchmark.stale(dataclasses.replace(part, report=one)).empty
