"""A learner's copy: made, renewed while it is untouched, never written over."""

import shutil
import subprocess
from pathlib import Path

from tools import lab

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def course(tmp_path):
    """A course of two notebooks, copied once; files need no content for that."""
    (tmp_path / "notebooks").mkdir()
    for name in ("01_one", "02_two"):
        (tmp_path / "notebooks" / f"{name}.ipynb").write_text(f"{name}, first edition")
    assert lab.copy(tmp_path) == []
    return tmp_path


def copies(root):
    """What the reader has, by name."""
    return {file.name: file.read_text() for file in (root / "build" / "lab").glob("*.ipynb")}


def publish(root, text):
    (root / "notebooks" / "01_one.ipynb").write_text(text)


def test_the_course_is_copied_and_what_nobody_touched_is_renewed(course):
    both = {f"{name}.ipynb": f"{name}, first edition" for name in ("01_one", "02_two")}
    assert copies(course) == both
    publish(course, "second edition")
    assert lab.copy(course) == []
    assert copies(course) == both | {"01_one.ipynb": "second edition"}


def test_a_changed_copy_is_kept_and_a_line_says_so(course):
    mine = course / "build" / "lab" / "01_one.ipynb"
    mine.write_text("mine")
    assert lab.copy(course) == ["01_one.ipynb: yours is kept; FRESH=1 sets it aside"]
    publish(course, "second edition")
    for _ in range(2):  # what was copied last time is still the first edition
        (line,) = lab.copy(course)
        assert "yours is kept, older than the course's" in line
    assert copies(course)["01_one.ipynb"] == "mine"
    assert (course / "notebooks" / "01_one.ipynb").read_text() == "second edition"


def test_fresh_sets_changed_copies_aside_and_loses_none(course):
    mine = course / "build" / "lab" / "01_one.ipynb"
    for text, name in (("mine", "01_one.mine.ipynb"), ("again", "01_one.mine2.ipynb")):
        mine.write_text(text)
        assert lab.copy(course, fresh=True) == [f"01_one.ipynb: yours is {name} now"]
    assert copies(course) == {
        "01_one.ipynb": "01_one, first edition",
        "01_one.mine.ipynb": "mine",
        "01_one.mine2.ipynb": "again",
        "02_two.ipynb": "02_two, first edition",
    }
    assert lab.copy(course, fresh=True) == []


@pytest.mark.parametrize("damage", ["", "{", "3", None])
def test_without_its_record_every_copy_may_be_the_readers(course, damage):
    record = course / "build" / "lab" / lab.RECORD
    record.unlink() if damage is None else record.write_text(damage)
    publish(course, "second edition")
    (line,) = lab.copy(course)
    assert line.startswith("01_one.ipynb: yours is kept")
    assert copies(course)["01_one.ipynb"] == "01_one, first edition"


def test_the_pages_that_notebooks_link_to_lie_beside_the_copy(course):
    (course / "book").mkdir()
    for text in ("one", "two"):
        (course / "book" / "glossary.md").write_text(text)
        lab.copy(course)
        link = course / "build" / "lab" / ".." / "book" / "glossary.md"
        assert link.read_text() == text


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_lab_copies_and_then_opens_the_copy():
    def said(*given):
        run = subprocess.run(
            ["make", "-n", "-o", ".venv/.ready", "lab", *given],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        return run.stdout

    assert "-m tools.lab\n" in said() and "jupyter lab --ServerApp.root_dir=build" in said()
    assert "-m tools.lab --fresh\n" in said("FRESH=1")


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_clean_leaves_a_readers_copy(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for _ in range(2):  # where there is no build yet, too
        done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for name in ("lab", "quick"):
            (tmp_path / "build" / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / "build" / name / "01_one.ipynb").write_text("mine")
    done = subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, text=True)
    assert [file.name for file in (tmp_path / "build").iterdir()] == ["lab"]
    assert (tmp_path / "build" / "lab" / "01_one.ipynb").read_text() == "mine"
