"""The benchmark gives the same table wherever it runs, and a worker has to have what is here."""

import contextlib
import json
import signal
import subprocess
import sys

from anneal_utils import _signals, identity, problems, schedules
from anneal_utils.benchmark import driver, plugins
from anneal_utils.benchmark import first as benchmark
from anneal_utils.benchmark.first import running

import keras
import pytest
from small_benchmark import PLUGIN, SMALL, assert_same, computed, in_place_of, kept, until

pytest_plugins = ["benchmark_fixtures"]


def test_two_processes_give_the_same_table(reference, tmp_path, monkeypatch):
    results, cache = reference
    monkeypatch.setattr(driver, "RUNS_PER_TASK", 10)  # many tasks
    assert_same(benchmark.run(**SMALL, jobs=2, cache=tmp_path), results)
    assert kept(tmp_path) == kept(cache)


@pytest.mark.processes
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


@pytest.mark.processes
def test_dask_gives_the_same_table_though_a_worker_is_killed(
    reference, cluster, tmp_path, monkeypatch, registries
):
    from distributed import Client

    results, cache = reference
    address, workers = cluster
    monkeypatch.setattr(driver, "RUNS_PER_TASK", 10)
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
    assert kept(tmp_path / "cache") == kept(cache)
    monkeypatch.undo()
    # A user's file reaches the worker that is left.
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    mine = dict(SMALL, schedules=["mine", "linear"], plugins=[plugin])
    far = benchmark.run(**mine, dask=address, cache=tmp_path / "far")
    assert_same(far, benchmark.run(**mine, cache=tmp_path / "near"))


def test_a_plugin_that_overwrites_is_undone_when_its_text_changes(tmp_path, registries):
    cosine = schedules.catalogue.registry["cosine"]
    text = "from anneal_utils import schedules\n"
    over = (
        '@schedules.register("cosine", overwrite=True)\ndef mine(peak, steps):\n    return peak\n'
    )
    plugins.load_plugin(benchmark.Plugin("over.py", text + over))
    assert schedules.catalogue.registry["cosine"] is not cosine
    plugins.load_plugin(benchmark.Plugin("over.py", text))
    assert schedules.catalogue.registry["cosine"] is cosine


def test_what_only_this_process_knows_is_refused_for_others(tmp_path, registries):
    schedules.register("local")(lambda peak, steps: schedules.build("linear", peak, steps))
    local = dict(SMALL, schedules=["local"], cache=tmp_path)
    assert len(benchmark.run(**local).report) == 8
    with pytest.raises(ValueError, match=r"schedule = 'local': .* pass it as a plugin"):
        benchmark.run(**local, jobs=2)


def test_a_schedule_that_was_overwritten_here_is_refused_for_others(tmp_path, registries):
    given = dict(SMALL, schedules=["cosine"], cache=tmp_path)
    schedules.register("cosine", overwrite=True)(
        lambda peak, steps: schedules.build("constant", peak, steps)
    )
    with pytest.raises(ValueError, match=r"schedule = 'cosine': .* pass it as a plugin"):
        benchmark.run(**given, jobs=2)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def worker():
    """Another process, of a pool of one; to start one takes seconds."""
    from joblib.externals.loky import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as pool:
        yield pool


def here_and_there(what, monkeypatch):
    """Something behind a known name, here; the sentence with which a worker refuses it."""
    if what == "schedule":
        in_place_of("schedule", "cosine", schedules.catalogue.registry["constant"])
        return "^Schedule 'cosine' is something else in a worker"
    if what == "environment":
        other = {**identity.environment(), "tensorflow": "0.0"}
        monkeypatch.setattr(identity, "environment", lambda: other)
        return "other settings than this process: tensorflow is 2.* there and 0.0 here"
    if what == "problem":
        in_place_of("problem", "quadratic", lambda epochs=2: problems.tabular.wilson())
    else:
        in_place_of("optimizer", "sgd", keras.optimizers.Adam)
    return "^Problem 'quadratic:epochs=2' or optimizer 'sgd' is something else"


@pytest.mark.parametrize("what", ["schedule", "problem", "optimizer", "environment"])
def test_what_a_worker_has_otherwise_is_refused(what, worker, tmp_path, monkeypatch, registries):
    """Not by the registries: something behind a known name is other here than in the workers."""

    @contextlib.contextmanager
    def executor_of(jobs, dask):
        yield worker, 2, 1, "a worker"

    monkeypatch.setattr(running, "executor_of", executor_of)
    sentence = here_and_there(what, monkeypatch)
    with pytest.raises(benchmark.Stopped, match=sentence):
        computed(tmp_path, problems=["quadratic:epochs=2"], schedules=["cosine"], jobs=2)
    assert not list(tmp_path.iterdir())


def test_a_refusal_of_a_worker_ends_the_processes_too(tmp_path, monkeypatch, registries):
    from joblib.externals.loky import get_reusable_executor

    sentence = here_and_there("schedule", monkeypatch)
    given = dict(max_workers=2, timeout=60, initializer=_signals.leave_to_parent)
    pool = get_reusable_executor(**given)  # the one that is used below
    with pytest.raises(benchmark.Stopped, match=sentence):
        computed(tmp_path, problems=["quadratic:epochs=2"], schedules=["cosine"], jobs=2)
    with pytest.raises(RuntimeError, match="shutdown"):
        pool.submit(int)
    assert not list(tmp_path.iterdir())
