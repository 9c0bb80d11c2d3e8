"""What a committed notebook has to be: its normal form, and the gates that it has to pass."""

import ast
import base64
import itertools
import json
import re
from pathlib import Path

from tools import edition

import nbformat

INJECTED = ("PROFILE",)  # what papermill sets in the cell after the one tagged `parameters`
KEPT = ("tags", "slideshow")  # cell metadata that an author writes; editors write the rest
MACHINE_PATH = re.compile(
    r"(?:(?<![A-Za-z0-9_.$~/-])|file://)"
    r"/(?:home|root|work|workspace|tmp|var|opt|srv|mnt|private|Users)/\w"
    r"|[A-Za-z]:\\\\?Users"
)
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{6,}")
FIGURE = re.compile(r"figures/(\S+\.png)")
SOLUTION = re.compile(r"^#+ .*\bsolution\b", re.IGNORECASE)


NONE = "There are no notebooks yet."


class Failed(Exception):
    """A sentence for the person at the terminal."""

    code = 1


class Misused(Failed):
    """The call was wrong, not the notebooks."""

    code = 2


def read(path: Path):
    """The notebook at ``path``, format 4."""
    try:
        return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, UnicodeDecodeError):
        raise Failed(f"{path.name}: is not a notebook (no valid JSON)") from None


# ------------------------------------------------------------------------------ normal form


def normalise(notebook):
    """The one form in which a notebook is committed; applied twice it changes nothing.

    Kept: sources, outputs, tags, slide types, cell ids, that the solutions are folded. Dropped:
    papermill's cell, metadata and timings, widget state, the interpreter's patch version. Execution
    counts become 1, 2, 3, ...
    """
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    cells, count = [], 0
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            continue
        kept = {name: cell.metadata[name] for name in KEPT if cell.metadata.get(name)}
        if cell.source.startswith(edition.SOLUTIONS) and cell.metadata.get(edition.FOLDED):
            kept[edition.FOLDED] = True
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type == "code":
            if cell.execution_count is not None:
                count += 1
                cell.execution_count = count
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = cell.execution_count
                if "data" in output:
                    output.data.pop("application/vnd.jupyter.widget-view+json", None)
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _joined(outputs) -> list:
    """Outputs with neighbouring pieces of a stream as one: where it is cut is chance."""
    joined = []
    for output in outputs:
        before = joined[-1] if joined else None
        if before and output.output_type == before.output_type == "stream":
            if output.name == before.name:
                before.text += output.text
                continue
        joined.append(output)
    return joined


def text_of(notebook) -> str:
    """The notebook as the text of its file."""
    return nbformat.writes(notebook, version=4) + "\n"


# ------------------------------------------------------------------------------------ gates


def problems_of(path: Path, executed: Path | None = None) -> list[str]:
    """Everything that keeps the notebook at ``path`` from being committed, a sentence each.

    Its figures have to be those in ``figures`` beside its folder. Where ``executed``, a copy that
    has just been run, is given, those that it has written there will do as well.
    """
    notebook = read(path)
    second = edition.edition_of(_parameters(notebook) or []) >= 2
    shown = _figures_in(notebook)
    fresh = _figures_in(read(executed)) if executed and executed.exists() else []
    found = [
        f"{path.name}: {sentence}"
        for sentence in (
            *_problems_of_whole(path, notebook),
            *_problems_of_figures(path, shown, fresh),
            *(edition.problems_of_whole(path, notebook) if second else ()),
        )
    ]
    heading = section = ""
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            headings = [line for line in cell.source.splitlines() if line.startswith("#")]
            heading = headings[-1] if headings else heading
            sections = [line for line in headings if re.match(r"##? ", line)]
            section = sections[-1] if sections else section
        found += [
            f"{path.name}, cell {number} ({first_line(cell)}): {sentence}"
            for sentence in (
                *_problems_of_cell(cell, heading),
                *(edition.problems_of_cell(cell, section) if second else ()),
            )
        ]
    # Said alone: a cell that was never run, for one, is not normal either.
    if not found and text_of(normalise(notebook)) != path.read_text(encoding="utf-8"):
        found.append(f"{path.name}: is not in normal form (run `make accept`)")
    return found


def _problems_of_whole(path, notebook):
    if path.stat().st_size > 1_500_000:
        yield "larger than 1.5 MB"
    # nbformat makes up ids that are missing, so the file itself is asked.
    ids = [cell.get("id") for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    if None in ids or len(set(ids)) < len(ids):
        yield "has cells without an id of their own"
    counts = [cell.get("execution_count") for cell in notebook.cells]
    counts = [count for count in counts if count is not None]
    if any(later <= earlier for earlier, later in itertools.pairwise(counts)):
        yield "its cells were not run in order"
    defined = parameters_of(notebook)
    if defined is None:
        yield "no cell is tagged `parameters`"
    else:
        for name in sorted(set(INJECTED) - defined):
            yield f"the parameters cell does not define {name}, which is injected"


def _figures_in(notebook) -> list[tuple[str, bytes]]:
    """Name and content of every picture that says which file of ``figures`` it is."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    data = [output.data for output in outputs if "image/png" in output.get("data", {})]
    return [
        (found[1], base64.b64decode(entry["image/png"]))
        for entry in data
        if (found := FIGURE.fullmatch(str(entry.get("text/plain", ""))))
    ]


def _problems_of_figures(path, shown, fresh):
    """A figure that is not what the notebook shows, and one that it does not show at all."""
    folder = path.parent.parent / "figures"
    for name, content in shown:
        file = folder / name
        if not file.exists():
            yield f"shows figures/{name}, which does not exist (run `make run-all`)"
        elif file.read_bytes() not in (content, *[png for other, png in fresh if other == name]):
            yield f"shows another picture than figures/{name} (run `make run-all`, `make accept`)"
    if number := re.match(r"\d+_", path.stem):
        names = {name for name, _ in [*shown, *fresh]}
        for file in sorted(folder.glob(f"{number[0]}*")):
            if file.name not in names:
                yield f"does not show figures/{file.name}, which bears its number (delete it)"


def _problems_of_cell(cell, heading):
    # A line break in JSON is a backslash and an n, which would hide a path behind it.
    if MACHINE_PATH.search(json.dumps(cell).replace("\\n", "\n")):
        yield "holds a path of somebody's machine"
    if cell.cell_type != "code":
        return
    if not cell.source.strip():
        yield "is empty"
        return
    tags = cell.metadata.get("tags", [])
    if len(cell.source.splitlines()) > 40:
        yield "is longer than 40 lines"
    if SOLUTION.match(heading) and "solution" not in tags:
        yield f"stands under {heading!r} and is not tagged `solution`"
    if cell.execution_count is None:
        yield "was never run"
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in tags:
            yield f"ended in {output.ename}"
        if output.get("name") == "stderr":
            yield "wrote to stderr"
        texts = [output.get("text", ""), *output.get("data", {}).values()]
        if any(isinstance(text, str) and ADDRESS.search(text) for text in texts):
            yield "shows an address in memory, another one at each run"
        for mime in output.get("data", {}):
            if mime.startswith("image/"):
                if not str(output.metadata.get(mime, {}).get("alt", "")).strip():
                    yield "shows a figure without alt text"


def parameters_of(notebook) -> set[str] | None:
    """Names that the cell tagged ``parameters`` assigns; None if there is no such cell."""
    statements = _parameters(notebook)
    if statements is None:
        return None
    targets = []
    for statement in statements:
        targets += getattr(statement, "targets", [getattr(statement, "target", None)])
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _parameters(notebook) -> list | None:
    """The statements of the cell tagged ``parameters``."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            return _statements(cell.source)
    return None


def _statements(source: str) -> list:
    try:
        return ast.parse(source).body
    except SyntaxError:  # a magic or a typo: nothing is defined that a run could rely on
        return []


def first_line(cell) -> str:
    """The first line of a cell that is not empty."""
    lines = cell.source.strip().splitlines() or [""]
    return lines[0][:60]


def check(paths: list[Path]) -> None:
    """Print every problem of the notebooks; ``Failed`` if there is one."""
    found = [sentence for path in paths for sentence in problems_of(path)]
    for sentence in found:
        print(sentence)
    if found:
        raise Failed(f"{len(found)} problem(s) in {len(paths)} notebook(s).")
    print(f"{len(paths)} notebook(s) pass every gate." if paths else NONE)
