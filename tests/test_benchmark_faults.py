"""The benchmark under faults: killed, interrupted, out of disk, beside another."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys

from anneal_utils import _signals
from anneal_utils.benchmark import first as benchmark
from anneal_utils.benchmark.first import commands

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_benchmark import ARGUMENTS, SMALL, assert_same, command, files, kept, until

pytest_plugins = ["benchmark_fixtures"]


@pytest.mark.faults
def test_killed_while_running_it_goes_on(reference, tmp_path):
    results, _ = reference
    cache, out = tmp_path / "cache", tmp_path / "out"
    process = command("run", *ARGUMENTS, "--cache", cache, "--out", out)
    # The first problem's chunks are there, the second one's program is being compiled.
    until(lambda: len(files(cache)) >= 2)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not out.exists()
    before, finished = files(cache), kept(cache)
    again = benchmark.run(**SMALL, cache=cache)
    assert_same(again, results)
    assert before.items() <= files(cache).items()
    count = again.provenance["runs"]
    # A run that two chunks have in common is computed once, and read by the other.
    assert count["from_cache"] >= len(finished) > 0
    assert count["computed"] > 0


def ignore_ctrl_c():
    """As a shell does for what it starts in the background."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@pytest.mark.faults
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", [1, 2])
def test_in_the_background_too_it_is_ended_in_order(tmp_path, jobs, end):
    cache, out = tmp_path / "cache", tmp_path / "out"
    given = [*ARGUMENTS, "--seeds", "300", "--jobs", jobs, "--cache", cache, "--out", out]
    process = command("run", *given, preexec_fn=ignore_ctrl_c, start_new_session=True)
    try:
        until(lambda: files(cache))
        process.send_signal(end)
        said, wrong = process.communicate(timeout=30)  # its workers hold these pipes too
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert (process.returncode, said) == (130, "")
    assert wrong == "Stopped: the same command goes on from here.\n"
    assert files(cache) and not out.exists()


DEAF = """
import signal, time
from anneal_utils import _signals

class Deaf:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

_signals.interruptible()
deaf = Deaf()
try:
    del deaf
    time.sleep(30)
except KeyboardInterrupt:
    print("heard", _signals.asked())
"""


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_an_interrupt_that_python_drops_comes_again():
    """As it does while TensorFlow deletes a function, once in fifty times."""
    ran = subprocess.run([sys.executable, "-c", DEAF], capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("heard True\n", "")


@pytest.mark.parametrize("error", [AssertionError, RuntimeError, ValueError, benchmark.Stopped])
def test_whatever_error_an_interrupt_has_become_it_is_the_end(error, monkeypatch, capsys):
    """As when TensorFlow is cut short while it traces; without a signal an error is an error."""

    def cut_short(**given):
        raise error("Nesting violated")

    monkeypatch.setattr(commands, "run", cut_short)
    monkeypatch.setattr(_signals, "_ending", False)
    if issubclass(error, ValueError | benchmark.Stopped):
        assert benchmark.main(["run"]) == 2
        assert capsys.readouterr().err == "Nesting violated\n"
    else:
        with pytest.raises(error, match="Nesting violated"):
            benchmark.main(["run"])
    monkeypatch.setattr(_signals, "_asked", True)
    assert benchmark.main(["run"]) == 130
    assert capsys.readouterr().err == "Stopped: the same command goes on from here.\n"


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_interrupted_while_it_is_loading_it_says_so():
    process = command("list", preexec_fn=ignore_ctrl_c)
    until(lambda: process.send_signal(signal.SIGINT) or process.poll() is not None)
    assert process.communicate() == ("", "Stopped before it began.\n")
    assert process.returncode == 130


@pytest.mark.faults
def test_two_processes_share_a_cache(reference, tmp_path):
    results, cache = reference
    shared, out = tmp_path / "cache", tmp_path / "out"
    other = command("run", *ARGUMENTS, "--cache", shared, "--out", out)
    until(lambda: files(shared))  # it has begun
    assert_same(benchmark.run(**SMALL, cache=shared), results)
    said, wrong = other.communicate()
    assert other.returncode == 0, wrong
    assert wrong == ""  # no progress bar, no TensorFlow
    assert "runs computed" in said and "cosine" in said
    assert_same(benchmark.load(out), results)
    assert kept(shared) == kept(cache)
    assert not list(shared.rglob("*.part"))


def test_a_damaged_file_is_noticed_and_computed_again(reference, tmp_path, capsys):
    results, cache = reference
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    first, second, third, *_ = paths = sorted(tmp_path.rglob("*.parquet"))
    whole, lost = {path: path.read_bytes() for path in paths}, []
    first.write_bytes(whole[first][:-100])  # truncated
    second.write_bytes(b"")
    table = pd.read_parquet(third)  # altered, by someone who keeps the notes
    said = pq.read_schema(third).metadata
    table["left"] += 1
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(arrow.replace_schema_metadata(said), third)
    for path in (first, second, third):
        lost += pd.read_parquet(io.BytesIO(whole[path]))["run"].tolist()
    again = benchmark.run(**SMALL, cache=tmp_path)
    assert_same(again, results)
    sentences = capsys.readouterr().err.splitlines()
    assert len(sentences) == 3
    for path in (first, second, third):
        (line,) = [line for line in sentences if path.name in line]
        assert line.endswith("its runs are computed again.") and not path.exists()
    assert again.provenance["runs"]["computed"] >= len(lost) > 0
    assert kept(tmp_path) == kept(cache)


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
    before = files(cache)
    assert len(before) == 3 and not list(cache.rglob("*.part"))
    assert benchmark.main(arguments) == 0
    assert files(cache).items() >= before.items()
    assert_same(benchmark.load(out), results)
