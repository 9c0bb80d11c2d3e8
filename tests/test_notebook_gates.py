"""The notebook runner, the gates and the replay, each on notebooks of a few lines."""

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

from tools import gates
from tools import notebooks as tool

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
HOME = "/" + "home/somebody/course"  # in two pieces: this file holds no machine's path either

# Leaves a line at each run, one figure for the repository and one in its output.
WORK = """\
import os
from IPython.display import display
with open("../runs.log", "a") as log:
    log.write(PROFILE + "\\n")
with open(os.path.join(os.environ.get("ANNEAL_FIGURES", ".."), "line.svg"), "w") as figure:
    figure.write("<svg/>")
display({"image/png": "aGVsbG8=", "text/plain": "a figure"}, raw=True,
        metadata={"image/png": {"alt": "A falling line."}})"""
# Its output reaches papermill in pieces that are cut by the clock.
TALK = "import time\nfor i in range(4):\n    print(i, flush=True)\n    time.sleep(0.15)"


def code(source, *outputs, count=None, tags=(), **metadata):
    cell = new_code_cell(source, outputs=list(outputs), execution_count=count)
    cell.metadata = nbformat.from_dict(metadata | ({"tags": list(tags)} if tags else {}))
    return cell


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def notebook(*cells):
    cells = [new_markdown_cell("# A title"), *cells]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells)


def parameters(count=1):
    return code('PROFILE = "quick"', count=count, tags=["parameters"])


def write(root, name, content, normal=True):
    """A notebook in ``root/notebooks``, in normal form unless told otherwise."""
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tool.text_of(tool.normalise(content) if normal else content), encoding="utf-8")
    return path


def source_of_good():
    return notebook(
        parameters(None), code(WORK), code(TALK), code("1 + 1"), code("PROFILE.upper()")
    )


def runs(root):
    log = root / "runs.log"
    return log.read_text().split() if log.exists() else []


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of one good notebook that was run and accepted, and its first executed copy."""
    root = tmp_path_factory.mktemp("course")
    write(root, "good", source_of_good())
    tool.run(root=root, jobs=1)
    first = (root / "build" / "quick" / "good.ipynb").read_bytes()
    tool.accept(root=root)
    return root, first


@pytest.fixture
def copied(course, tmp_path):
    """A copy of the course that a test may spoil."""
    return Path(shutil.copytree(course[0], tmp_path / "course"))


@pytest.fixture
def started(monkeypatch):
    """The notebooks that ``run`` would have started; nothing is executed."""
    names = []

    def start(path, profile, root):
        names.append(path.stem)
        return subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE, text=True)

    monkeypatch.setattr(tool, "_start", start)
    return names


# ---------------------------------------------------------------------------------- running


def test_a_run_leaves_the_copy_its_record_and_the_figures(course):
    root, _ = course
    assert runs(root) == ["quick"]
    assert (root / "figures" / "line.svg").read_text() == "<svg/>"
    record = json.loads((root / "build" / "quick" / "good.json").read_text())
    assert record["figures"] == ["line.svg"]
    assert record["seconds"] >= record["slowest_cell_seconds"] >= 0.6
    assert 30 < record["peak_mb"] < 2000
    assert not list(root.rglob("*.part"))


def test_a_good_notebook_passes_every_gate(course, capsys):
    root, _ = course
    assert gates.problems_of(root / "notebooks" / "good.ipynb") == []
    assert tool.main([f"--root={root}", "check"]) == 0
    assert "1 notebook(s) pass every gate." in capsys.readouterr().out


def test_accepted_is_what_was_executed(course):
    root, first = course
    committed = tool.read(root / "notebooks" / "good.ipynb")
    assert (root / "notebooks" / "good.ipynb").read_bytes() == first
    assert [c.source for c in committed.cells] == [c.source for c in source_of_good().cells]
    code_cells = committed.cells[1:]
    assert [c.execution_count for c in code_cells] == [1, 2, 3, 4, 5]
    assert [o.text for o in code_cells[2].outputs] == ["0\n1\n2\n3\n"]
    assert code_cells[3].outputs[0].execution_count == 4
    assert code_cells[0].metadata == {"tags": ["parameters"]}


def test_accepting_twice_changes_nothing(copied, capsys):
    assert tool.main([f"--root={copied}", "accept"]) == 0
    assert capsys.readouterr().out == "good: unchanged\n"


def test_accept_refuses_what_was_not_run(copied, capsys):
    write(copied, "good", notebook(parameters(), code("2 + 2")))
    assert tool.main([f"--root={copied}", "accept"]) == 1
    assert "Not run since the last change: good." in capsys.readouterr().out


def test_an_unchanged_notebook_is_not_run_again(copied, capsys):
    assert tool.main([f"--root={copied}", "run"]) == 0
    assert capsys.readouterr().out == "good: up to date\n"
    assert runs(copied) == ["quick"]


LOOKS = """\
from anneal_utils import store
found = store.default()
before = len(found.read("a" * 32))
found.write("a" * 32, ["rate"], {"b" * 32: store.Record([[1.0]], -1)})
with open("../stores.log", "a") as log:
    log.write(f"{found.folder} {before} {len(store.Store().read('a' * 32))}\\n")"""


def test_each_way_to_run_has_its_store(tmp_path, monkeypatch):
    """The shared one; an empty one of its own each time; or none that is read."""
    shared, copy = tmp_path / "shared", tmp_path / "build" / "quick" / "one.ipynb"
    monkeypatch.setenv("ANNEAL_STORE", str(shared))
    write(tmp_path, "one", notebook(parameters(None), code(LOOKS)))

    def seen(*options):
        """Notebooks run so far; of the last its folder, and runs read before and after it wrote."""
        assert tool.main([f"--root={tmp_path}", "run", *options]) == 0
        lines = (tmp_path / "stores.log").read_text().splitlines()
        return len(lines), *lines[-1].split()

    assert seen() == (1, str(shared), "0", "1")
    assert seen("--own-store")[0] == 1  # up to date
    copy.unlink()
    _, own, *counts = seen("--own-store")
    assert Path(own).parent == tmp_path / "build" and counts == ["0", "1"]
    copy.unlink()
    _, other, *counts = seen("--own-store")
    assert other != own and counts == ["0", "1"]
    assert not list((tmp_path / "build").glob("store-*"))
    assert seen("--fresh") == (4, str(shared), "0", "1")  # run, though up to date
    copy.unlink()
    assert seen() == (5, str(shared), "1", "1")
    assert os.environ["ANNEAL_STORE"] == str(shared) and "ANNEAL_STORE_FRESH" not in os.environ


def test_two_runs_give_the_same_bytes(course, copied):
    (copied / "figures" / "line.svg").unlink()
    tool.run(root=copied, jobs=1)
    assert runs(copied) == ["quick", "quick"]
    assert (copied / "figures" / "line.svg").exists()
    assert (copied / "build" / "quick" / "good.ipynb").read_bytes() == course[1]


def rewrite(text):
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    "file, spoil",
    [
        ("notebooks/good.ipynb", lambda p: p.write_text(p.read_text().replace("1 + 1", "1 + 2"))),
        ("figures/line.svg", Path.unlink),
        ("build/quick/good.ipynb", Path.unlink),
        ("build/quick/good.json", Path.unlink),
        ("build/quick/good.json", rewrite("{")),
        ("build/quick/good.json", rewrite("[]")),
        ("build/quick/good.json", rewrite('{"key": "another", "figures": []}')),
        ("build/quick/good.json", lambda p: p.write_bytes(b"\xff\xfe")),
        ("requirements.txt", rewrite("numpy==1.0")),
        ("anneal_utils/new.py", rewrite("x = 1")),
        ("anneal_utils/room/new.py", rewrite("x = 1")),
        ("anneal_utils/claims.toml", rewrite("x = 1")),
        ("data/results/new.csv", rewrite("1")),
    ],
)
def test_a_change_or_a_damage_runs_it_again(copied, started, file, spoil):
    tool.run(root=copied)
    assert started == []
    (copied / file).parent.mkdir(parents=True, exist_ok=True)
    spoil(copied / file)
    tool.run(root=copied)
    assert started == ["good"]


def test_downloads_and_prose_do_not_run_it_again(copied, started):
    (copied / "data" / "cache").mkdir(parents=True)
    (copied / "data" / "cache" / "digits.npz").write_text("downloaded")
    (copied / "data" / "README.md").write_text("A card.")
    tool.run(root=copied)
    assert started == []


def test_another_profile_is_another_run(copied, started):
    tool.run(profile="full", root=copied)
    assert started == ["good"]


def test_outputs_and_the_notes_of_an_editor_do_not_run_it_again(copied, started):
    path = copied / "notebooks" / "good.ipynb"
    content = tool.read(path)
    content.metadata["language_info"] = {"name": "python", "version": "3.99"}
    content.cells[1].metadata["editable"] = True
    content.cells[3].outputs = []
    write(copied, "good", content, normal=False)
    tool.run(root=copied)
    assert started == []


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Run in the profile ``full``: a notebook that fails, after a good run, and a sound one."""
    root = tmp_path_factory.mktemp("failed")
    broken = 'step()\nif done:\n    raise ValueError("two\\nlines")'
    start = WORK + "\ndone = 0\ndef step():\n    global done\n    done = len(log_of) - 1"
    cells = code(start + "\nlog_of = [0]"), code(broken), code("log_of = [0, 0]"), code(broken)
    write(root, "bad", notebook(parameters(None), *cells, code("open('../after', 'w')")))
    sound = code(WORK.replace("runs.log", "sound.log").replace("line", "sound")), code("PROFILE")
    write(root, "sound", notebook(parameters(None), *sound), normal=False)  # names no kernel
    stale = root / "build" / "full" / "bad.ipynb"
    stale.parent.mkdir(parents=True)
    stale.write_text("what an earlier run left")
    command = [sys.executable, "-m", "tools.notebooks", f"--root={root}", "run"]
    command += ["--profile", "full", "--jobs", "2"]
    return root, subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_failure_names_notebook_cell_and_error(failed):
    _, said = failed
    assert said.returncode == 1
    # Cells 4 and 6 have the same source; the second of them fails.
    assert said.stdout.splitlines()[-1] == "bad.ipynb, cell 6 (step()): ValueError: two lines"
    assert re.search(r"^bad: FAILED after \d+ s$", said.stdout, re.MULTILINE)
    assert said.stderr == ""


def test_a_failure_leaves_no_copy_and_no_figure(failed):
    root, _ = failed
    assert runs(root) == ["full"]  # it had drawn its figure before it failed
    assert not (root / "after").exists()
    assert not list(root.rglob("line.svg")) and not list(root.rglob("*.part"))
    assert not (root / "build" / "full" / "bad.ipynb").exists()
    assert not (root / "build" / "full" / "bad.json").exists()


def test_a_failure_does_not_stop_the_others(failed):
    root, said = failed
    assert re.search(r"^sound: done in \d+ s", said.stdout, re.MULTILINE)
    assert (root / "sound.log").read_text() == "full\n"  # the profile is injected
    # Figures of `full` do not replace the committed ones.
    assert (root / "build" / "full" / "figures" / "sound.svg").exists()
    assert not (root / "figures").exists()
    executed = tool.read(root / "build" / "full" / "sound.ipynb")
    assert executed.cells[-1].outputs[0].data["text/plain"] == "'full'"
    assert executed.cells[1].source == 'PROFILE = "quick"'


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")


def wait_until(condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize(
    "end, inherited",
    [
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGINT, signal.SIG_IGN),  # as shells start background jobs
        (signal.SIGTERM, signal.SIG_IGN),
        (signal.SIGKILL, signal.SIG_DFL),
    ],
)
def test_an_interrupted_run_leaves_nothing_half_written(tmp_path, end, inherited):
    root = tmp_path / "course"
    pid = "with open('../pid.part', 'w') as file:\n    file.write(str(os.getpid()))\n"
    slow = code(WORK), code(pid + "os.rename('../pid.part', '../pid')"), code(TALK + "\n" * 2)
    slow[-1].source += "time.sleep(300)"
    write(root, "slow", notebook(parameters(None), *slow))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "tools.notebooks", f"--root={root}", "run"]
    runner = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        stderr=subprocess.PIPE,
        env=os.environ | {"TMPDIR": str(temporary)},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, inherited),
    )
    try:
        wait_until((root / "pid").exists)
        kernel = int((root / "pid").read_text())
        assert alive(kernel)
        # Ctrl-C reaches the whole group; what kills without a word takes `run` alone.
        (os.killpg if end == signal.SIGINT else os.kill)(runner.pid, end)
        time.sleep(0.1)
        with contextlib.suppress(ProcessLookupError):  # who is impatient changes nothing
            os.kill(runner.pid, end)
        said, wrong = runner.communicate(timeout=30)
        assert wrong == ""
        if end == signal.SIGKILL:
            wait_until(lambda: not list(temporary.glob("*/figures")))  # its worker tidies up
        else:
            assert runner.returncode == 130
            assert said.splitlines()[-1].startswith("Interrupted")
        wait_until(lambda: not alive(kernel), 10)
    finally:  # should the test fail, nothing of it stays (a kernel ends with its parent)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
    assert not list(root.rglob("*.part")) and not (root / "figures").exists()
    assert [p.name for p in (root / "build" / "quick").iterdir()] == ["slow.log"]
    assert not list(temporary.glob("*/figures")), "the unfinished figures were left behind"


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_interrupted_while_it_is_loading_it_says_so(tmp_path):
    command = [sys.executable, "-m", "tools.notebooks", f"--root={tmp_path}", "run"]
    runner = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    wait_until(lambda: runner.send_signal(signal.SIGINT) or runner.poll() is not None)
    assert runner.communicate() == ("", "Interrupted before anything was begun.\n")
    assert runner.returncode == 130


@pytest.mark.parametrize(
    "notebook, then, code", [(None, 0, 0), (None, 3, 1), ("{", 0, 1), ("{", 3, 1), ("crash", 0, 1)]
)
def test_what_comes_then_is_run_whatever_the_notebooks_did(tmp_path, capfd, notebook, then, code):
    if notebook is not None:
        (tmp_path / "notebooks").mkdir()
        (tmp_path / "notebooks" / "bad.ipynb").write_text(notebook)
    if notebook == "crash":  # nothing can be written there
        (tmp_path / "build").write_text("a file")
    after = [sys.executable, "-c", f"print('after', flush=True); raise SystemExit({then})", "-q"]
    assert tool.main([f"--root={tmp_path}", "run", "--then", *after]) == code
    said, wrong = capfd.readouterr()
    assert said.splitlines().count("after") == 1
    assert ("Traceback" in wrong) == (notebook == "crash")


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["run", "nothing"], "No notebook 'nothing'; there are: good."),
        (["check", "nothing"], "No notebook 'nothing'; there are: good."),
        (["accept", "nothing"], "No notebook 'nothing'; there are: good."),
        (["run", "--profile", "slow"], "Profile 'slow' is unknown; there are: quick, full."),
        (["run", "--jobs", "0"], "jobs = 0: must be at least 1."),
    ],
)
def test_a_wrong_call_is_told_apart_from_a_failure(copied, capsys, arguments, sentence):
    assert tool.main([f"--root={copied}", *arguments]) == 2
    assert capsys.readouterr().out.strip() == sentence


def test_a_notebook_may_be_named_with_its_ending(copied):
    assert tool.notebooks(["good.ipynb"], copied) == tool.notebooks(["good"], copied)


# ------------------------------------------------------------------------------ normal form


def test_the_normal_form_is_normal():
    messy = notebook(
        parameters(7),
        code("PROFILE = 'x'", count=8, tags=["injected-parameters"]),
        code("print(1)", stream("1\n"), stream("2\n"), stream("no\n", "stderr"), count=9, note=1),
        code("never run"),
        code("2", new_output("execute_result", {"text/plain": "2"}, execution_count=12), count=12),
    )
    messy.metadata["papermill"] = {"duration": 3.2}
    once = tool.normalise(messy)
    assert tool.text_of(tool.normalise(once)) == tool.text_of(once)
    read_back = nbformat.reads(tool.text_of(once), as_version=4)
    assert tool.text_of(tool.normalise(read_back)) == tool.text_of(once)
    assert [c.execution_count for c in once.cells[1:]] == [1, 2, None, 3]
    assert [o.text for o in once.cells[2].outputs] == ["1\n2\n", "no\n"]
    messy.cells[0].metadata = {"slideshow": {"slide_type": "slide"}, "editable": True}
    assert tool.normalise(messy).cells[0].metadata == {"slideshow": {"slide_type": "slide"}}
    assert once.cells[2].metadata == {} and "papermill" not in once.metadata
    assert messy.cells[1].execution_count == 7, "the argument was changed"


# ------------------------------------------------------------------------------------ gates


def figure(alt):
    metadata = {"image/png": {"alt": alt}} if alt is not None else {}
    return new_output("display_data", {"image/png": "aGVsbG8="}, metadata=metadata)


def shown(text):
    return new_output("execute_result", {"text/plain": text}, execution_count=2)


def error():
    return new_output("error", ename="KeyError", evalue="'x'", traceback=[])


FORTY = "\n".join(f"x{i} = {i}" for i in range(40))
GATES = {
    "never run": ([parameters(), code("x = 1")], "cell 3 (x = 1): was never run"),
    "twice": ([parameters(), code("x = 1", count=1)], "its cells were not run in order"),
    "backwards": ([parameters(2), code("x = 1", count=1)], "its cells were not run in order"),
    "error": ([parameters(), code("x", error(), count=2)], "cell 3 (x): ended in KeyError"),
    "stderr": ([parameters(), code("x", stream("!", "stderr"), count=2)], "wrote to stderr"),
    "no alt": ([parameters(), code("x", figure(None), count=2)], "a figure without alt text"),
    "empty alt": ([parameters(), code("x", figure(" "), count=2)], "a figure without alt text"),
    "path in code": ([parameters(), code(f"x = '{HOME}'", count=2)], "somebody's machine"),
    "path in prose": ([parameters(), new_markdown_cell(f"See {HOME}.")], "somebody's machine"),
    "path in output": ([parameters(), code("x", stream(HOME), count=2)], "somebody's machine"),
    "path on line 2": ([parameters(), code("x", stream(f"1\n{HOME}"), count=2)], "machine"),
    "file address": ([parameters(), code(f"'file://{HOME}'", count=2)], "somebody's machine"),
    "path in metadata": ([parameters(), code("x", count=2, at=HOME)], "somebody's machine"),
    "Windows path": ([parameters(), code("r'C:" + r"\Users\me'", count=2)], "machine"),
    "too long": ([parameters(), code(FORTY + "\nx = 1", count=2)], "longer than 40 lines"),
    "empty": ([parameters(), code(" ", count=2)], "cell 3 (): is empty"),
    "over 1.5 MB": ([parameters(), code("x", stream("x" * 1_500_000), count=2)], "than 1.5 MB"),
    "no parameters": ([code("PROFILE = 1", count=1)], "no cell is tagged `parameters`"),
    "address": ([parameters(), code("x", stream("<f at 0x7f5c3a10>"), count=2)], "in memory"),
    "address shown": ([parameters(), code("x", shown("<f at 0x7f5c3a10>"), count=2)], "in memory"),
    "solution": (
        [parameters(), new_markdown_cell("Text\n### Solution 1"), code("x = 1", count=2)],
        "cell 4 (x = 1): stands under '### Solution 1' and is not tagged `solution`",
    ),
    "a comment is no parameter": (
        [code("# PROFILE = 1\nPROFILES = 2", count=1, tags=["parameters"])],
        "does not define PROFILE",
    ),
    "no PROFILE": ([code("SEEDS = 3", count=1, tags=["parameters"])], "does not define PROFILE"),
}


@pytest.mark.parametrize("name", GATES)
def test_a_gate_stops_its_problem_and_no_other_speaks(tmp_path, name, capsys):
    cells, sentence = GATES[name]
    path = write(tmp_path, "bad", notebook(*cells), normal=False)
    (found,) = gates.problems_of(path)
    assert found.startswith("bad.ipynb") and sentence in found
    assert tool.main([f"--root={tmp_path}", "check"]) == 1
    assert capsys.readouterr().out == f"{found}\n1 problem(s) in 1 notebook(s).\n"


@pytest.mark.parametrize(
    "source",
    [FORTY, "'data/home/x', '~/work/x', '../tmp/x'", "'https://example.org/home/page'", "a /root"],
)
def test_a_gate_lets_the_harmless_pass(tmp_path, source):
    outputs = [stream("told"), figure("A falling line.")]
    path = write(tmp_path, "fine", notebook(parameters(), code(source, *outputs, count=2)))
    assert gates.problems_of(path) == []


def test_a_gate_lets_tagged_solutions_and_wanted_errors_pass(tmp_path):
    cells = [
        new_markdown_cell("### Solution\nIn two cells."),
        code("x = 1", count=2, tags=["solution"]),
        new_markdown_cell("Further."),
        code("x", error(), count=3, tags=["raises-exception", "solution"]),
        new_markdown_cell("### After the solutions' end"),
        code("y: int = 1", count=4),
    ]
    typed = code('PROFILE: str = "quick"', count=1, tags=["parameters"])
    assert gates.problems_of(write(tmp_path, "fine", notebook(typed, *cells))) == []


def picture(content, name="01_line.png"):
    data = {"image/png": base64.b64encode(content).decode(), "text/plain": f"figures/{name}"}
    return new_output("display_data", data, metadata={"image/png": {"alt": "A falling line."}})


def with_figure(root, shown=b"first", file=b"first", name="01_line.png"):
    """A notebook that shows one figure, and the figure's file."""
    (root / "figures").mkdir(exist_ok=True)
    if file is not None:
        (root / "figures" / name).write_bytes(file)
    return write(root, "01_one", notebook(parameters(), code("x", picture(shown), count=2)))


def test_the_figures_of_a_notebook_are_those_that_it_shows(tmp_path):
    path = with_figure(tmp_path)
    (tmp_path / "figures" / "02_other.png").write_bytes(b"of another notebook")
    assert gates.problems_of(path) == []
    (tmp_path / "figures" / "01_orphan.png").write_bytes(b"left over")
    (found,) = gates.problems_of(path)
    assert found.startswith("01_one.ipynb: does not show figures/01_orphan.png")


@pytest.mark.parametrize(
    "file, words",
    [
        (b"swapped", "shows another picture than figures/01_line.png"),
        (b"", "shows another picture than figures/01_line.png"),
        (None, "shows figures/01_line.png, which does not exist"),
    ],
)
def test_a_swapped_figure_is_stopped(tmp_path, capsys, file, words):
    with_figure(tmp_path, file=file)
    assert tool.main([f"--root={tmp_path}", "check"]) == 1
    told = capsys.readouterr().out
    assert told.startswith("01_one.ipynb: ") and words in told and "1 problem(s)" in told


def test_a_figure_that_was_just_made_anew_is_not_swapped(tmp_path):
    path = with_figure(tmp_path, file=b"second")
    ran = notebook(parameters(), code("x", picture(b"second"), count=2))
    executed = tmp_path / "executed.ipynb"
    executed.write_text(tool.text_of(ran))
    assert gates.problems_of(path, executed) == []
    assert len(gates.problems_of(path, tmp_path / "absent.ipynb")) == 1
    (tmp_path / "figures" / "01_line.png").write_bytes(b"third")
    assert len(gates.problems_of(path, executed)) == 1


def test_the_figures_of_the_course_are_those_of_its_notebooks():
    for path in tool.notebooks():
        assert [found for found in gates.problems_of(path) if "figures/" in found] == []


@pytest.mark.parametrize("spoil", [lambda cell: cell.pop("id"), lambda cell: cell.update(id="two")])
def test_every_cell_needs_an_id_of_its_own(tmp_path, spoil):
    path = write(tmp_path, "bad", notebook(parameters(), code("x = 1", count=2)))
    content = json.loads(path.read_text())
    content["cells"][0]["id"] = "two"
    spoil(content["cells"][1])
    path.write_text(json.dumps(content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nbformat's, about the same
        found = gates.problems_of(path)
    assert "bad.ipynb: has cells without an id of their own" in found


def test_what_is_no_notebook_is_told(tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "broken.ipynb").write_text("{")
    assert tool.main([f"--root={tmp_path}", "check"]) == 1
    assert capsys.readouterr().out == "broken.ipynb: is not a notebook (no valid JSON)\n"


@pytest.mark.parametrize("command", ["run", "check", "accept"])
def test_no_notebooks_yet(tmp_path, capsys, command):
    assert tool.main([f"--root={tmp_path}", command]) == 0
    assert capsys.readouterr().out == "There are no notebooks yet.\n"


@pytest.mark.parametrize("change", ["metadata", "count", "bytes", "path"])
def test_what_is_not_normal_is_stopped(tmp_path, change):
    content = tool.normalise(notebook(parameters(), code("x = 1", count=2)))
    if change == "metadata":
        content.cells[1].metadata["collapsed"] = True
    elif change == "path":
        content.metadata["papermill"] = {"input_path": HOME}
    elif change == "count":
        content.cells[2].execution_count = 9
    path = write(tmp_path, "bad", content, normal=False)
    if change == "bytes":
        path.write_text(json.dumps(json.loads(path.read_text()), indent=4))
    (found,) = gates.problems_of(path)
    assert found == "bad.ipynb: is not in normal form (run `make accept`)"


# ----------------------------------------------------------------------------------- replay


def pytest_there(root, *arguments):
    """``pytest notebooks …`` in ``root`` with the course's conftest; the outcome of each test."""
    shutil.copy(ROOT / "notebooks" / "conftest.py", root / "notebooks")
    command = [sys.executable, "-m", "pytest", "-rA", "--color=no", "-p", "no:cacheprovider"]
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    said = subprocess.run(
        [*command, *arguments, "notebooks"],
        cwd=root,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    words = r"^(PASSED|FAILED|ERROR|SKIPPED) notebooks/(\w+)\.ipynb::(gates|copy|Cell \d+)"
    found = re.findall(words, said.stdout, re.MULTILINE)
    return said, [(name, test, outcome) for outcome, name, test in found]


@pytest.fixture(scope="module")
def replayed(tmp_path_factory):
    """One replay of notebooks whose executed copies differ from them in one thing each."""
    root = tmp_path_factory.mktemp("replay")

    def pair(name, committed, executed, tags=()):
        """A committed last cell and an executed one; None: there is no executed copy."""
        path = write(root, name, notebook(parameters(), code(*committed, count=2, tags=tags)))
        if executed is not None:
            ran = notebook(parameters(), code(*executed, count=2, tags=tags))
            (root / "build").mkdir(exist_ok=True)
            (root / "build" / path.name).write_text(tool.text_of(ran))

    told, else_ = ("x", stream("1\n")), ("x", stream("2\n"))
    pair("equal", told, told)
    pair("pieces", ("x", stream("1\n2\n")), ("x", stream("1\n"), stream("2\n")))
    pair("changed", told, else_)
    pair("silent", told, ("x",))
    pair("ignored", told, else_, ["nbval-ignore-output"])
    pair("raised", told, ("x", error()), ["nbval-ignore-output"])
    pair("wanted", ("x", error()), ("x", error()), ["raises-exception"])
    pair("skipped", told, else_, ["nbval-skip"])
    pair("missing", told, None)
    pair("sources", told, ("y", stream("1\n")))
    pair("longer", told, told)
    longer = tool.read(root / "build" / "longer.ipynb")
    longer.cells.append(code("z", count=3))
    (root / "build" / "longer.ipynb").write_text(tool.text_of(longer))
    pair("unrun", told, told)
    unrun = tool.read(root / "build" / "unrun.ipynb")
    unrun.cells[-1].execution_count = None  # where papermill stopped
    (root / "build" / "unrun.ipynb").write_text(tool.text_of(unrun))
    pair("ungated", ("x", figure(None)), ("x", figure(None)))
    return pytest_there(root, "--executed", "build")


@pytest.mark.parametrize(
    "name, gates, first, second, sentence",
    [
        ("equal", "PASSED", "PASSED", "PASSED", None),
        ("pieces", "PASSED", "PASSED", "PASSED", None),
        ("changed", "PASSED", "PASSED", "FAILED", "Outputs differ"),
        ("silent", "PASSED", "PASSED", "FAILED", "Missing output fields"),
        ("ignored", "PASSED", "PASSED", "PASSED", None),
        ("raised", "PASSED", "PASSED", "FAILED", "The cell raised"),
        ("wanted", "PASSED", "PASSED", "PASSED", None),
        ("skipped", "PASSED", "PASSED", None, None),
        ("unrun", "PASSED", "PASSED", "FAILED", "The cell was never run"),
        ("ungated", "FAILED", "PASSED", "PASSED", "shows a figure without alt text"),
    ],
)
def test_replay(replayed, name, gates, first, second, sentence):
    said, outcomes = replayed
    mine = [(test, outcome) for notebook, test, outcome in outcomes if notebook == name]
    wanted = [("Cell 0", first), ("Cell 1", second), ("gates", gates)]
    assert sorted(mine) == [pair for pair in wanted if pair[1]]  # skipped ones have no line
    assert sentence is None or sentence in said.stdout
    assert said.returncode == 1


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("missing", "missing.ipynb was not executed: run `make run-all` first."),
        ("sources", "sources.ipynb: the executed copy has other sources"),
        ("longer", "longer.ipynb: the executed copy has other sources"),
    ],
)
def test_without_its_copy_a_notebook_fails_once(replayed, name, sentence):
    said, outcomes = replayed
    mine = [(test, outcome) for notebook, test, outcome in outcomes if notebook == name]
    assert sorted(mine) == [("copy", "FAILED"), ("gates", "PASSED")]
    assert sentence in said.stdout


def test_replay_tells_sentences_not_tracebacks(replayed):
    assert "Traceback (most recent call last)" not in replayed[0].stdout
    lines = replayed[0].stdout.splitlines()
    assert not [line for line in lines if "conftest.py:" in line and "SKIPPED" not in line]


def test_nbval_as_it_comes(copied):
    said, outcomes = pytest_there(copied, "--nbval", "--nbval-current-env")
    assert said.returncode == 0, said.stdout
    assert outcomes == [("good", f"Cell {number}", "PASSED") for number in range(5)]
    assert runs(copied) == ["quick", "quick"]


def test_running_and_replaying_at_once_is_refused(copied):
    said, outcomes = pytest_there(copied, "--nbval", "--executed", "build/quick")
    assert said.returncode == pytest.ExitCode.USAGE_ERROR and outcomes == []
    assert "leave --nbval out" in said.stderr


def test_without_an_option_notebooks_are_not_collected(copied):
    said, outcomes = pytest_there(copied)
    assert said.returncode == pytest.ExitCode.NO_TESTS_COLLECTED and outcomes == []
