"""The stricter gates of the second edition, each on a notebook with one fault."""

import copy
from pathlib import Path

from tools import edition, gates
from tools import notebooks as tool

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

ROOT = Path(__file__).resolve().parent.parent
GLOSSARY = "# Glossary\n\n## seed\n\nA number.\n\n## edge of stability\n\nA place.\n"
PARAMETERS = 'PROFILE = "quick"\nEDITION = 2'


def text(source, **metadata):
    return new_markdown_cell(source, metadata=metadata)


def code(source, *tags, outputs=()):
    cell = new_code_cell(source, outputs=list(outputs))
    cell.metadata = nbformat.from_dict({"tags": list(tags)} if tags else {})
    return cell


def figure(alt):
    about = {"image/png": {"alt": alt}}
    return new_output("display_data", {"image/png": "aGVsbG8="}, metadata=about)


def good():
    """The cells of a small notebook without a fault, by name."""
    exercise = "answer = None\n\nexercises.check('1.2', answer, sd=spread)"
    function = "def edge(h): ...\n\n\nexercises.check_function('1.1', edge)"
    design = "knobs = {'end': 0.1}\neffect = run(knobs)\nexercises.investigate('1.4', effect)"
    links = "A [seed](../book/glossary.md#seed), [edge](../book/glossary.md#edge-of-stability)."
    return {
        "title": text("# A title"),
        "parameters": code(PARAMETERS, "parameters"),
        "links": text(links),
        "figure": code("show()", outputs=[figure("Final loss against the rate: a valley.")]),
        "exercise": code(exercise, "exercise"),
        "function": code(function, "exercise"),
        "investigation": code(design, "exercise", "investigation"),
        "points": text("## Key points\n\n- One."),
        "solutions": text("## Solutions", **{edition.FOLDED: True}),
        "told": text("<details><summary>1.1</summary>Because.</details>"),
        "solution": code("exercises.check('1.2', 3, sd=spread)", "solution"),
        "references": text("## References\n\n- A paper."),
    }


def problems(root, cells):
    cells = copy.deepcopy(list(cells.values()))
    count = 0
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
        if cell.cell_type == "code":
            count += 1
            cell.execution_count = count
    for folder in ("book", "notebooks"):
        (root / folder).mkdir(exist_ok=True)
    (root / "book" / "glossary.md").write_text(GLOSSARY)
    path = root / "notebooks" / "01_one.ipynb"
    path.write_text(tool.text_of(tool.normalise(new_notebook(cells=cells))))
    return gates.problems_of(path)


def alt(words):
    return {"figure": code("show()", outputs=[figure(words)])}


def exercise(source):
    return {"exercise": code(source, "exercise")}


FAULTS = {
    "long alt": (
        alt("A valley of losses. " + "x" * 231),
        "alt text of 251 characters, at most 250",
    ),
    "NumPy": (alt("Final loss against rate: np.float64(3.0)."), "alt text with a NumPy type"),
    "number first": (alt("3 of 4 runs ended."), "does not say what is shown"),
    "too short": (alt("Losses. They fall from 3 to 2."), "does not say what is shown"),
    "expected": (exercise("answer = None\nexercises.check('1.2', answer, 3)"), "nothing else"),
    "value": (exercise("exercises.check('1.2', None)"), "nothing else"),
    "reasons": (exercise("a = None\nexercises.check('1.2', a, why=WHY)"), "measured values only"),
    "number": (exercise("a = None\nexercises.check('1.2', a, sd=0.1)"), "measured values only"),
    "answered": (exercise("a = 3\nexercises.check('1.2', a)"), "whose a is answered"),
    "written": (
        exercise("def f(x):\n    return 1\nexercises.check_function('1.1', f)"),
        "whose f is answered",
    ),
    "unknown": (exercise("a = None\nexercises.check('9.9', a)"), "9.9 has no such reference"),
    "no function": (
        exercise("a = None\nexercises.check_function('1.2', a)"),
        "1.2 has no such reference",
    ),
    "unchecked": (exercise("answer = None"), "calls none of exercises.check"),
    "no points": ({"points": text("## In the end")}, "no cell that starts with '## Key points'"),
    "no investigation": ({"investigation": text("None.")}, "has 0 cells tagged `investigation`"),
    "two": ({"links": code("x = 1", "investigation")}, "has 2 cells tagged `investigation`"),
    "open": ({"told": text("Because.")}, "a solution that is not folded"),
    "all open": ({"solutions": text("## Solutions")}, "is not folded: the cell's metadata"),
    "untagged": ({"solution": code("x = 1")}, "is not tagged `solution`"),
    "early": ({"links": code("x = 1", "solution")}, "before the heading '## Solutions'"),
    "no solutions": (
        {"solutions": text("## Answers"), "solution": text("None.")},
        "has 0 cells that start with '## Solutions'",
    ),
    "dead link": ({"links": text("[x](../book/glossary.md#sede)")}, "#sede, and there is no such"),
    "no anchor": ({"links": text("[x](../book/glossary.md)")}, "there is no such heading"),
    "elsewhere": ({"links": text("[x](book/glossary.md#seed)")}, "there is no such heading"),
}


def test_a_notebook_without_a_fault_passes(tmp_path):
    assert problems(tmp_path, good()) == []


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_alone_and_in_the_second_edition_only(tmp_path, name):
    change, words = FAULTS[name]
    cells = good() | change
    (found,) = problems(tmp_path, cells)
    assert found.startswith("01_one.ipynb") and words in found
    first = {"parameters": code('PROFILE = "quick"', "parameters")}
    assert problems(tmp_path, cells | first) == []


def test_the_normal_form_keeps_solutions_folded_and_no_other_heading():
    cells = [text(f"## {name}", **{edition.FOLDED: True}) for name in ("Solutions", "References")]
    kept = tool.normalise(new_notebook(cells=cells)).cells
    assert [dict(cell.metadata) for cell in kept] == [{edition.FOLDED: True}, {}]
