"""The store: every bit comes back, nothing that was damaged does, and nobody waits for a lock."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

from anneal_utils import _files, _places, problems, store, training
from anneal_utils.store import Record, Store, __main__, folder, places, records
from anneal_utils.training.program import Program

import hypothesis.extra.numpy as hnp
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

PROGRAM, OTHER = "a" * 32, "b" * 32
COLUMNS = ("rate", "train_loss")


@pytest.fixture(autouse=True)
def afresh(monkeypatch):
    """Every test reads files, not what an earlier one remembered, and may warn once."""
    folder._recent.clear()
    monkeypatch.setattr(folder, "_warned", False)


def name(number):
    return f"{number:032x}"


def record(number=0.0, epochs=3, left=-1, columns=2):
    return Record(np.full((epochs, columns), number, "float32"), left)


def files(path):
    return sorted(file for file in Path(path).rglob("*") if file.is_file())


def parquets(path):
    return [file for file in files(path) if file.suffix == ".parquet"]


def bits(one):
    return one.history.tobytes(), one.history.shape, one.left, one.last.tobytes()


def same(first, second):
    return {k: bits(r) for k, r in first.items()} == {k: bits(r) for k, r in second.items()}


# ------------------------------------------------------------------------------------- records

patterns = hnp.arrays("uint32", st.tuples(st.integers(0, 4), st.just(2)))
ends = hnp.arrays("uint32", st.integers(0, 3))
identities = st.integers(0, 2**128 - 1).map(name)
any_record = st.builds(
    lambda history, left, last: Record(history.view("float32"), left, last.view("float32")),
    patterns,
    st.integers(-1, 2**31),
    ends,
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(identities, any_record, min_size=1, max_size=5))
def test_every_bit_comes_back(kept):
    columns, found = records.unpacked(records.packed(COLUMNS, kept))
    assert columns == COLUMNS and list(found) == list(kept)
    assert same(found, kept)
    assert all(r.history.dtype == r.last.dtype == np.float32 for r in found.values())


def test_special_numbers_come_back_from_a_folder(tmp_path):
    odd = np.array([0x7FC00001, 0xFFC12345, 0x7F800001, 0x80000000, 0x00000001, 0xFF800000], "u4")
    kept = {name(1): Record(odd.view("f4").reshape(3, 2), 7, odd[:1].view("f4"))}
    Store(tmp_path).write(PROGRAM, COLUMNS, kept)
    assert same(Store(tmp_path).read(PROGRAM), kept)


def test_programs_lengths_and_columns_do_not_mix(tmp_path):
    shelf = Store(tmp_path)
    shelf.write(PROGRAM, COLUMNS, {name(1): record(1, epochs=3), name(2): record(2, epochs=5)})
    shelf.write(PROGRAM, ("rate", "val_loss"), {name(1): record(9)})
    shelf.write(OTHER, COLUMNS, {name(3): record(3)})
    found = shelf.read(PROGRAM, COLUMNS)
    assert {k: (r.history.shape, r.history[0, 0]) for k, r in found.items()} == {
        name(1): ((3, 2), 1),
        name(2): ((5, 2), 2),
    }
    assert shelf.read(PROGRAM, ["rate", "val_loss"])[name(1)].history[0, 0] == 9
    assert not shelf.read(PROGRAM, ("rate",)) and not shelf.read("c" * 32)
    assert list(shelf.read(OTHER)) == [name(3)]


def test_what_was_written_last_counts(tmp_path):
    for number in range(5):
        Store(tmp_path).write(PROGRAM, COLUMNS, {name(1): record(number), name(2): record(7)})
    found = Store(tmp_path).read(PROGRAM)
    assert found[name(1)].history[0, 0] == 4 and found[name(2)].history[0, 0] == 7


def test_nothing_is_created_before_something_is_written(tmp_path):
    shelf = Store(tmp_path / "new")
    assert not shelf.read(PROGRAM) and not shelf.programs() and not shelf.size()
    shelf.write(PROGRAM, COLUMNS, {})
    shelf.clear()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda s: s.read("../../etc"), "program = '../../etc'"),
        (lambda s: s.write(PROGRAM.upper(), COLUMNS, {}), "program = 'AAAA"),
        (lambda s: s.write(PROGRAM, ("rate",), {name(1): record()}), "one column for each of rate"),
        (lambda s: Store(s.folder, -1), "limit = -1"),
        (lambda s: store.chosen(True), "store = True"),
        (lambda s: store.chosen(3), "store = 3"),
    ],
)
def test_bad_arguments_are_named(tmp_path, call, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        call(Store(tmp_path))


# ------------------------------------------------------------------ damage, formats, other people


def damaged(content, kind):
    if kind == "truncated":
        return content[: len(content) // 2]
    if kind == "empty":
        return b""
    if kind == "text":
        return b"not a parquet file at all"
    if kind == "foreign":
        return _files.parquet(pd.DataFrame({"a": [1]}))
    return _altered(content)  # a whole file, but not what its digest says


def _altered(content):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(content))
    lefts = pa.array([5] * len(table), pa.int64())
    sink = pa.BufferOutputStream()
    changed = table.set_column(table.schema.get_field_index("left"), "left", lefts)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), sink)
    return sink.getvalue().to_pybytes()


KINDS = ["truncated", "empty", "text", "foreign", "other content"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_told_and_goes_and_the_others_count(tmp_path, capsys, kind):
    shelf = Store(tmp_path)
    shelf.write(PROGRAM, COLUMNS, {name(1): record(1)})
    victim = parquets(tmp_path)[0]
    shelf.write(PROGRAM, COLUMNS, {name(2): record(2)})
    victim.write_bytes(damaged(victim.read_bytes(), kind))
    folder._recent.clear()
    assert list(shelf.read(PROGRAM)) == [name(2)]
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and victim.name in told and "computed again" in told
    assert not victim.exists()
    assert list(shelf.read(PROGRAM)) == [name(2)] and not capsys.readouterr().err


def test_no_changed_byte_gives_other_numbers():
    """Whatever byte is changed: the file is refused, or of no known format, or says the same."""
    rng = np.random.default_rng(0)
    kept = {
        name(k): Record(rng.random((9, 2), "float32"), k, rng.random(2, "float32")) for k in (1, 2)
    }
    content, refused = records.packed(COLUMNS, kept), 0
    for position in range(0, len(content), 5):
        changed = bytearray(content)
        changed[position] ^= rng.integers(1, 256)
        try:
            columns, found = records.unpacked(bytes(changed))
        except ValueError:
            refused += 1
        else:
            assert not found or same(found, kept) or columns != COLUMNS
    assert refused > 100


def test_another_format_is_as_if_it_were_not_there_and_stays(tmp_path, monkeypatch, capsys):
    shelf = Store(tmp_path)
    monkeypatch.setattr(records, "FORMAT", "2")
    shelf.write(PROGRAM, COLUMNS, {name(1): record(1)})
    monkeypatch.undo()
    folder._recent.clear()
    monkeypatch.setattr(folder, "_MANY", 2)
    assert not shelf.read(PROGRAM)
    for number in range(2, 8):
        shelf.write(PROGRAM, COLUMNS, {name(number): record(number)})
    assert sorted(shelf.read(PROGRAM)) == [name(number) for number in range(2, 8)]
    monkeypatch.setattr(records, "FORMAT", "2")
    folder._recent.clear()
    assert list(shelf.read(PROGRAM)) == [name(1)] and not capsys.readouterr().err


def test_a_file_that_goes_while_it_is_read_is_no_error(tmp_path, monkeypatch):
    """Another process merges between the listing and the reading: all is found all the same."""
    shelf = Store(tmp_path)
    for number in range(3):
        shelf.write(PROGRAM, COLUMNS, {name(number): record(number)})
    real, merged = folder._paths, []

    def listing(path):
        found = real(path)
        if not merged:
            merged.append(True)
            everything = {k: r for p in found for k, r in folder._content(p)[1].items()}
            shelf._put(path, COLUMNS, everything, time.time_ns())
            for file in found:
                file.unlink()
        return found

    monkeypatch.setattr(folder, "_paths", listing)
    assert sorted(shelf.read(PROGRAM)) == [name(number) for number in range(3)]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_one_warning(tmp_path):
    shelf = Store(tmp_path / "s")
    shelf.write(PROGRAM, COLUMNS, {name(1): record(1)})
    (tmp_path / "s" / PROGRAM).chmod(0o500)
    with pytest.warns(UserWarning, match="can not be used"):
        shelf.write(PROGRAM, COLUMNS, {name(2): record(1)})
    assert list(shelf.read(PROGRAM)) == [name(1)]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), PermissionError(13, "No")]
)
def test_a_disk_that_does_not_take_it_is_one_warning(tmp_path, monkeypatch, error):
    def refuse(path, content):
        raise error

    monkeypatch.setattr(_files, "write", refuse)
    with pytest.warns(UserWarning, match=f"can not be used: {error.strerror}") as told:
        for number in range(3):
            Store(tmp_path).write(PROGRAM, COLUMNS, {name(number): record(1)})
    assert len(told) == 1


def test_a_file_in_the_place_of_the_folder_is_one_warning(tmp_path):
    (tmp_path / "file").write_text("mine")
    shelf = Store(tmp_path / "file")
    with pytest.warns(UserWarning, match="can not be used"):
        shelf.write(PROGRAM, COLUMNS, {name(1): record(1)})
    assert not shelf.read(PROGRAM) and (tmp_path / "file").read_text() == "mine"


# --------------------------------------------------------------------------- many files, the limit


def test_many_files_become_one(tmp_path):
    shelf = Store(tmp_path)
    expected = {}
    for number in range(folder._MANY + 1):
        added = {name(number): record(number), name(999): record(number)}
        expected.update(added)
        shelf.write(PROGRAM, COLUMNS, added)
        assert len(parquets(tmp_path)) <= folder._MANY
    assert len(parquets(tmp_path)) == 1
    folder._recent.clear()
    assert same(shelf.read(PROGRAM, COLUMNS), expected)


def test_a_merged_file_does_not_hide_what_was_written_meanwhile(tmp_path, monkeypatch):
    shelf = Store(tmp_path)
    for number in range(4):
        shelf.write(PROGRAM, COLUMNS, {name(1): record(number)})
    monkeypatch.setattr(folder, "_MANY", 2)
    real = shelf._put

    def put(path, columns, kept, when):
        monkeypatch.setattr(shelf, "_put", real)
        shelf._put(path, columns, {name(1): record(100)}, time.time_ns())  # another process
        shelf._put(path, columns, kept, when)

    monkeypatch.setattr(shelf, "_put", put)
    shelf._merge(tmp_path / PROGRAM)
    assert len(parquets(tmp_path)) == 2
    assert shelf.read(PROGRAM)[name(1)].history[0, 0] == 100


def test_the_limit_spares_what_was_used_last(tmp_path):
    one = {name(1): Record(np.random.default_rng(0).random((300, 2), "float32"), -1)}
    size = len(records.packed(COLUMNS, one))
    shelf = Store(tmp_path, limit=5 * size)
    programs = [name(number) for number in range(8)]
    for program in programs[:4]:
        shelf.write(program, COLUMNS, one)
        time.sleep(0.02)
    assert sorted(shelf.programs()) == programs[:4]
    shelf.read(programs[0])  # used now
    time.sleep(0.02)
    for program in programs[4:6]:
        shelf.write(program, COLUMNS, one)
        time.sleep(0.02)
    assert programs[0] in shelf.programs() and programs[1] not in shelf.programs()
    assert programs[5] in shelf.programs()
    assert shelf.size() <= shelf.limit


def test_a_write_does_not_look_at_every_file(tmp_path, monkeypatch):
    shelf = Store(tmp_path)
    measured = []
    monkeypatch.setattr(shelf, "_measured", lambda: measured.append(True) or iter(()))
    for number in range(20):
        shelf.write(name(number), COLUMNS, {name(1): record(1)})
    assert not measured
    with open(tmp_path / folder._WRITTEN, "ab") as stream:  # others wrote 128 MiB
        stream.write(b"." * (shelf.limit // 16 // folder._UNIT))
    shelf.write(PROGRAM, COLUMNS, {name(1): record(1)})
    assert measured == [True]
    shelf.write(PROGRAM, COLUMNS, {name(1): record(1)})
    assert measured == [True]


def test_what_a_killed_process_left_goes_after_a_while(tmp_path):
    shelf = Store(tmp_path, limit=10**6)
    shelf.write(PROGRAM, COLUMNS, {name(1): record(1)})
    whole = parquets(tmp_path)[0]
    old, young = (whole.with_name(f".{whole.name}.{pid}.1.part") for pid in (1, 2))
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - 100,) * 2)
    assert list(shelf.read(PROGRAM)) == [name(1)]
    shelf.write(PROGRAM, COLUMNS, {name(2): record(1)})
    assert not old.exists() and young.exists()
    shelf.clear()
    assert not parquets(tmp_path) and young.exists()
    os.utime(young, (time.time() - 100,) * 2)
    shelf.clear()
    assert not files(tmp_path)


# ------------------------------------------------------------------------------- many processes

WRITER = """
import sys, numpy as np
from anneal_utils.store import Store, Record
folder, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
shelf = Store(folder)
for i in range(first, first + count):
    history = np.full((40, 2), i, "float32")
    shelf.write("a" * 32, ("rate", "train_loss"), {f"{i:032x}": Record(history, i)})
    shelf.read("a" * 32)
print("done", flush=True)
"""


def start(code, *arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


@pytest.mark.processes
def test_several_processes_write_and_merge_at_once(tmp_path):
    count = folder._MANY + 18  # each of them merges, more than once together
    writers = [start(WRITER, tmp_path, i * 1000, count) for i in range(4)]
    for writer in writers:
        out, err = writer.communicate(timeout=120)
        assert writer.returncode == 0 and out.endswith("done\n") and not err, err
    found = Store(tmp_path).read(PROGRAM)
    expected = [i * 1000 + k for i in range(4) for k in range(count)]
    assert sorted(found) == sorted(map(name, expected))
    assert all(one.left == one.history[0, 0] == int(key, 16) for key, one in found.items())
    assert len(parquets(tmp_path)) <= folder._MANY + 4


@pytest.mark.faults
def test_clearing_while_others_write_is_no_error(tmp_path):
    writers = [start(WRITER, tmp_path, i * 1000, 60) for i in range(2)]
    while any(writer.poll() is None for writer in writers):
        Store(tmp_path).clear()
        time.sleep(0.002)
    for writer in writers:
        _, err = writer.communicate()
        assert writer.returncode == 0 and not err, err


@pytest.mark.faults
@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_killed_while_writing(tmp_path):
    """Whatever is there after kill -9 is whole, and the next process writes on."""
    for round_ in range(4):
        writer = start(WRITER, tmp_path, round_ * 10_000, 10_000)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.06 * round_)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Store(tmp_path).read(PROGRAM)
    assert found and all(one.left == int(key, 16) for key, one in found.items())
    before = len(found)
    Store(tmp_path).write(PROGRAM, COLUMNS, {name(10**9): record(1)})
    assert len(Store(tmp_path).read(PROGRAM)) == before + 1


# --------------------------------------------------------------------------- places, command line


def test_where_it_lies(tmp_path, monkeypatch):
    checkout = Path(places.__file__).parents[2]
    assert places.standard() == checkout / "data" / "cache" / "store"
    monkeypatch.setenv("ANNEAL_STORE", str(tmp_path / "mine"))
    assert store.default().folder == store.chosen(None).folder == tmp_path / "mine"
    monkeypatch.setenv("ANNEAL_STORE", "off")
    assert store.default() is None and store.chosen(None) is None
    assert store.chosen(tmp_path).folder == tmp_path  # said here, so not off
    monkeypatch.setenv("ANNEAL_STORE", "")
    assert store.default().folder == places.standard() and store.chosen(False) is None


@pytest.mark.parametrize(
    "platform, variable, folder_, expected",
    [
        ("linux", "XDG_CACHE_HOME", "caches", "caches"),
        ("linux", "XDG_CACHE_HOME", "", ".cache"),
        ("darwin", "XDG_CACHE_HOME", "caches", "Library/Caches"),
        ("win32", "LOCALAPPDATA", "local", "local"),
        ("win32", "LOCALAPPDATA", "", "AppData/Local"),
    ],
)
def test_without_a_checkout_it_is_the_users_cache(
    tmp_path, monkeypatch, platform, variable, folder_, expected
):
    package = tmp_path / "site-packages" / "anneal_utils"
    monkeypatch.setattr(_places, "_PACKAGE", package)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    monkeypatch.setenv(variable, str(tmp_path / folder_) if folder_ else "")
    assert places.standard() == tmp_path / expected / "anneal-utils" / "store"
    # Somebody else's project around it is not ours.
    package.mkdir(parents=True)
    for text in ('[project]\nname = "theirs"\n', "not toml ["):
        (package.parent / "pyproject.toml").write_text(text)
        assert places.standard() == tmp_path / expected / "anneal-utils" / "store"


def test_the_limit_of_the_environment(monkeypatch):
    assert Store().limit == 2 * 2**30
    monkeypatch.setenv("ANNEAL_STORE_LIMIT", "12345")
    assert Store().limit == 12345 and Store(limit=7).limit == 7
    monkeypatch.setenv("ANNEAL_STORE_LIMIT", "2 GB")
    with pytest.raises(ValueError, match="ANNEAL_STORE_LIMIT = '2 GB': must be a whole number"):
        Store()


def command(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "anneal_utils.store", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_the_command_line(tmp_path):
    there = {"ANNEAL_STORE": str(tmp_path / "s"), "ANNEAL_STORE_LIMIT": "3000000"}
    Store(tmp_path / "s").write(PROGRAM, COLUMNS, {name(1): record(), name(2): record()})
    Store(tmp_path / "s").write(PROGRAM, COLUMNS, {name(2): record()})
    Store(tmp_path / "s").write(OTHER, COLUMNS, {name(1): record()})
    shown = command(**there)
    assert shown.returncode == 0 and not shown.stderr
    facts = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert facts["folder"] == str(tmp_path / "s")
    assert facts["programs"] == "2" and facts["runs"] == "3"
    assert re.fullmatch(r"0\.0 MB of at most 3\.0 MB", facts["size"])
    cleared = command("clear", **there)
    assert cleared.returncode == 0 and not files(tmp_path) and not cleared.stderr
    assert "runs      0" in cleared.stdout


def test_bad_arguments_of_the_command_line_are_one_sentence(capsys, monkeypatch):
    for arguments in (["empty"], ["--all"], ["clear", "now"]):
        with pytest.raises(SystemExit) as ended:
            __main__.main(arguments)
        assert ended.value.code == 2
        out, err = capsys.readouterr()
        assert not out and err.count("\n") == 1 and "Traceback" not in err
    assert __main__.main([]) == 0 and "is off" in capsys.readouterr().out
    monkeypatch.setenv("ANNEAL_STORE", "/nowhere")
    monkeypatch.setenv("ANNEAL_STORE_LIMIT", "-1")
    assert __main__.main([]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("place", ["thesis.tex", f"{PROGRAM}/notes.txt", "mine/a.parquet"])
def test_clear_refuses_a_folder_that_holds_other_things(tmp_path, monkeypatch, capsys, place):
    Store(tmp_path).write(PROGRAM, COLUMNS, {name(1): record()})
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("years of work")
    before = files(tmp_path)
    monkeypatch.setenv("ANNEAL_STORE", str(tmp_path))
    assert __main__.main(["clear"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and Path(place).parts[-1 if "notes" in place else 0] in told
    assert files(tmp_path) == before


def test_clear_does_not_follow_links(tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    Store(tmp_path / "elsewhere").write(PROGRAM, COLUMNS, {name(1): record()})
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / PROGRAM).symlink_to(tmp_path / "elsewhere" / PROGRAM)
    monkeypatch.setenv("ANNEAL_STORE", str(tmp_path / "s"))
    assert __main__.main(["clear"]) == 2
    assert parquets(tmp_path / "elsewhere")


# -------------------------------------------------------------------------------------- training

RNG = np.random.default_rng(0)
X = RNG.uniform(size=(48, 6)).astype("float32")
Y = RNG.integers(0, 3, 48).astype("int32")


def tiny(scale=1.0, **changes):
    """Two epochs of two steps; ``scale`` hides in a closure."""
    entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    given = {
        "name": "tiny",
        "build": lambda: keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]),
        "x_train": X[:32].copy(),
        "y_train": Y[:32].copy(),
        "x_val": X[32:].copy(),
        "y_val": Y[32:].copy(),
        "loss": lambda true, predicted: scale * entropy(true, predicted),
        "batch_size": 16,
        "epochs": 2,
        "chance_loss": 1.1,
    }
    return problems.Problem(**{**given, **changes})


def grid(schedules=None, optimizer="sgd", seeds=(0, 1), **settings):
    return training.grid(schedules or {"c": 0.1}, seeds=seeds, optimizer=optimizer, **settings)


def counts(frame):
    return frame.attrs["computed"], frame.attrs["read"]


def trained(shelf, problem=None, runs=None, **settings):
    return training.train(problem or tiny(), runs or grid(), store=shelf, **settings)


@pytest.fixture
def refuse_to_train(monkeypatch):
    """A call after which a run that is trained fails."""

    def call(*_):
        raise AssertionError("this was to be read")

    return lambda: monkeypatch.setattr(Program, "call", call)


def everything():
    """Runs of two programs in no order, among them a diverging one and one with feedback."""
    plateau = training.Plateau(patience=1, min_delta=100.0)
    recipes = {
        "cosine": "cosine",
        "plateau": plateau,
        "number": 0.05,
        "epoch": lambda epoch: 0.1 / (epoch + 1),
        "lost": 1e38,
    }
    runs = [
        *training.grid(recipes, peaks=[0.1, 0.2], seeds=range(3)),
        *training.grid(recipes, peaks=[0.2], seeds=range(2), optimizer="adam", epochs=3),
    ]
    return [runs[i] for i in np.random.default_rng(3).permutation(len(runs))]


@pytest.mark.parametrize("mode", ["graph", "xla"])
def test_a_frame_that_was_read_is_the_frame_that_was_computed(tmp_path, refuse_to_train, mode):
    problem, runs = tiny(metrics=("accuracy",)), everything()
    plain = trained(False, problem, runs, mode=mode)
    assert plain.diverged.any() and plain.diverged_step.notna().any()
    first = trained(tmp_path, problem, runs, mode=mode)
    refuse_to_train()
    folder._recent.clear()
    again = trained(tmp_path, problem, runs, mode=mode)
    assert counts(plain) == counts(first) == (len(runs), 0) and counts(again) == (0, len(runs))
    for frame in (first, again):
        pd.testing.assert_frame_equal(plain, frame, check_exact=True, check_dtype=True)
        for column in ("rate", "train_loss", "val_loss", "val_accuracy"):
            assert frame[column].to_numpy().tobytes() == plain[column].to_numpy().tobytes()
    assert len(Store(tmp_path).programs()) == 2 and len(parquets(tmp_path)) == 2


def test_a_known_program_is_not_compiled(tmp_path, refuse_to_train):
    runs = grid(seeds=range(4))
    expected = trained(tmp_path, tiny(2.5), runs)
    program_module = sys.modules[Program.__module__]
    program_module._programs.clear()  # as in a new process
    program_module._quick.clear()
    refuse_to_train()
    frame = trained(tmp_path, tiny(2.5), runs)
    pd.testing.assert_frame_equal(frame, expected, check_exact=True)
    assert counts(frame) == (0, 4)


def test_only_what_is_missing_is_trained(tmp_path):
    known = trained(tmp_path, runs=grid(seeds=[1, 3]))
    frame = trained(tmp_path, runs=grid(seeds=range(5)))
    assert counts(frame) == (3, 2)
    plain = trained(False, runs=grid(seeds=range(5)))
    pd.testing.assert_frame_equal(frame, plain, check_exact=True)
    assert set(known.run) < set(frame.run)
    assert counts(trained(tmp_path, runs=grid(seeds=range(5)))) == (0, 5)


MISSES = {
    "closure": lambda: (tiny(scale=1.5), grid(), {}),
    "rate": lambda: (tiny(), grid({"c": 0.1000001}), {}),
    "feedback": lambda: (tiny(), training.grid([training.Plateau()], [0.1], [0, 1]), {}),
    "seeds": lambda: (tiny(), grid(seeds=[2, 3]), {}),
    "mode": lambda: (tiny(), grid(), {"mode": "graph"}),
    "epochs": lambda: (tiny(), grid(epochs=3), {}),
    "optimizer": lambda: (tiny(), grid(optimizer="momentum"), {}),
    "batch size": lambda: (tiny(batch_size=8), grid(), {}),
    "training data": lambda: (tiny(x_train=np.nextafter(X[:32], 2)), grid(), {}),
    "held-out data": lambda: (tiny(y_val=(Y[32:] + 1) % 3), grid(), {}),
    "metrics": lambda: (tiny(metrics=()), grid(), {}),
}


@pytest.mark.parametrize("what", MISSES)
def test_whatever_changes_a_result_is_a_miss(tmp_path, what):
    assert counts(trained(tmp_path, mode="xla")) == (2, 0)
    problem, runs, settings = MISSES[what]()
    frame = trained(tmp_path, problem, runs, **{"mode": "xla", **settings})
    assert counts(frame) == (2, 0)
    pd.testing.assert_frame_equal(
        frame, trained(False, problem, runs, **{"mode": "xla", **settings}), check_exact=True
    )


def test_new_labels_are_a_hit_and_are_in_the_frame(tmp_path, refuse_to_train):
    first = trained(tmp_path, tiny(), grid({"old": 0.1}, {"sgd": "sgd"}))
    refuse_to_train()
    frame = trained(tmp_path, tiny(name="renamed"), grid({"new": 0.1}, {"mine": "sgd"}))
    assert counts(frame) == (0, 2)
    assert set(frame.schedule) == {"new"} and set(frame.optimizer) == {"mine"}
    assert set(frame.problem) == {"renamed"}
    labels = ["schedule", "optimizer", "problem"]
    pd.testing.assert_frame_equal(frame.drop(columns=labels), first.drop(columns=labels))


def test_runs_that_are_the_same_are_trained_once(tmp_path):
    runs = grid({"a": 0.1, "b": 0.1, "c": lambda epoch: 0.1, "d": 0.2})
    frame = trained(tmp_path, runs=runs)
    assert counts(frame) == (4, 4)
    plain = trained(False, runs=runs)
    assert counts(plain) == (8, 0)
    pd.testing.assert_frame_equal(frame, plain, check_exact=True)


def test_weights_are_computed_and_histories_are_kept(tmp_path):
    weights, frame = trained(tmp_path, return_weights=True)
    assert counts(frame) == (2, 0) and counts(trained(tmp_path)) == (0, 2)
    again, twice = trained(tmp_path, return_weights=True)
    assert counts(twice) == (2, 0) and len(parquets(tmp_path)) == 1  # nothing new to keep
    pd.testing.assert_frame_equal(frame, twice, check_exact=True)
    for ours, theirs in zip(weights, again, strict=True):
        assert all(map(np.array_equal, ours, theirs))


def test_what_can_not_be_read_is_never_kept(tmp_path):
    def loss(true, predicted):
        error = predicted - tf.one_hot(tf.cast(tf.reshape(true, [-1]), tf.int32), 3)
        half = tf.py_function(lambda x: x / 2, [tf.reduce_mean(error**2)], tf.float32)
        return tf.ensure_shape(half, [])

    runs = [*grid(), *grid()]
    for _ in range(2):
        assert counts(trained(tmp_path, tiny(loss=loss), runs, mode="graph")) == (4, 0)
    assert not files(tmp_path)


@pytest.mark.parametrize("error", [OSError("broken"), KeyboardInterrupt()])
def test_what_was_finished_is_kept_when_a_call_is_cut_short(tmp_path, monkeypatch, error):
    calls, whole = [], Program.call

    def breaks(program, *arguments):
        calls.append(None)
        if len(calls) == 6:
            raise error
        return whole(program, *arguments)

    monkeypatch.setattr(Program, "call", breaks)
    runs = grid(seeds=range(30))
    with pytest.raises(type(error)):
        trained(tmp_path, runs=runs, threads=1)
    monkeypatch.undo()
    assert len(parquets(tmp_path)) == 1
    frame = trained(tmp_path, runs=runs)
    assert frame.attrs["read"] >= 5 and sum(counts(frame)) == 30
    pd.testing.assert_frame_equal(frame, trained(False, runs=runs), check_exact=True)


ENDLESS = """
import sys, keras, numpy as np
from anneal_utils import problems, training
x = np.random.default_rng(0).uniform(size=(64, 6)).astype("float32")
y = np.arange(64, dtype="int32") % 3
problem = problems.Problem(
    name="p", build=lambda: keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)]),
    x_train=x, y_train=y, x_val=x, y_val=y,
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    batch_size=16, epochs=2, chance_loss=1.1)
runs = training.grid({"c": 0.1}, seeds=range(int(sys.argv[1])))
training.train(problem, runs[:2], progress=False)
print("ready", flush=True)
frame = training.train(problem, runs, progress=False)
print(frame.attrs["computed"], frame.attrs["read"], float(frame.val_loss.sum()).hex())
"""


@pytest.mark.faults
def test_another_process_reads_it_and_ctrl_c_keeps_what_was_finished(tmp_path):
    there = {"env": {**os.environ, "ANNEAL_STORE": str(tmp_path / "s")}}
    endless = start(ENDLESS, 100_000, **there)
    assert endless.stdout.readline() == "ready\n"
    time.sleep(2)
    endless.send_signal(signal.SIGINT)
    _, err = endless.communicate(timeout=60)
    assert "KeyboardInterrupt" in err
    assert Store(tmp_path / "s").runs() >= 20
    out, err = start(ENDLESS, 20, **there).communicate(timeout=60)
    assert out.splitlines()[1].startswith("0 20 "), out + err
    off = {"env": {**os.environ, "ANNEAL_STORE": "off"}}
    plain, _ = start(ENDLESS, 20, **off).communicate(timeout=60)
    assert plain.split()[1:3] == ["20", "0"] and plain.split()[3] == out.split()[3]


def test_a_damaged_file_is_computed_again(tmp_path, capsys):
    expected = trained(tmp_path)
    parquets(tmp_path)[0].write_bytes(b"PAR1 nothing PAR1")
    folder._recent.clear()
    frame = trained(tmp_path)
    assert counts(frame) == (2, 0) and "computed again" in capsys.readouterr().err
    pd.testing.assert_frame_equal(frame, expected, check_exact=True)
    assert counts(trained(tmp_path)) == (0, 2)


def test_a_store_that_can_not_be_used_stops_no_training(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.warns(UserWarning, match="can not be used") as told:
        frames = [trained(tmp_path / "file" / "s") for _ in range(2)]
    assert len(told) == 1
    assert [counts(frame) for frame in frames] == [(2, 0)] * 2


def test_the_environment_chooses(tmp_path, monkeypatch):
    monkeypatch.setenv("ANNEAL_STORE", str(tmp_path))
    assert counts(trained(None)) == (2, 0) and counts(trained(None)) == (0, 2)
    assert counts(trained(False)) == (2, 0) and counts(trained(Store(tmp_path))) == (0, 2)
    before = parquets(tmp_path)
    monkeypatch.setenv("ANNEAL_STORE_FRESH", "1")
    assert counts(trained(None)) == (2, 0)
    assert len(parquets(tmp_path)) == len(before) + 1  # computed, and kept
    monkeypatch.setenv("ANNEAL_STORE", "off")
    assert counts(trained(None)) == (2, 0)
    with pytest.raises(ValueError, match="store = 1"):
        trained(1)


def test_the_counts_are_no_part_of_the_frame(tmp_path):
    computed, read = trained(tmp_path), trained(tmp_path)
    assert counts(computed) != counts(read)
    assert computed.equals(read)
    pd.testing.assert_frame_equal(computed, read)
    assert len(pd.concat([computed, read])) == 2 * len(read)
    assert counts(read[read.epoch == 1]) == (0, 2)
    # Nor of a file: the same results give the same bytes, whoever computed them.
    assert _files.parquet(computed) == _files.parquet(read)
    assert counts(read) == (0, 2)
