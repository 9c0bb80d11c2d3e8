"""What a notebook of the second edition has to be, beyond the gates for all (``tools.gates``).

A notebook says which edition it is by ``EDITION = 2`` in its parameters cell. Its alt texts are
short, its exercises hold no answers, its solutions come last and folded, it has one investigation,
key points, and links to the glossary that lead somewhere.
"""

import ast
import re
from pathlib import Path

from anneal_utils.exercises import references

ALT_LIMIT = 250  # characters: a screen reader reads them in one go
CHECKS = ("check", "check_function", "investigate")
FOLDED = "jp-MarkdownHeadingCollapsed"  # JupyterLab shows such a heading without its section
GLOSSARY = re.compile(r"\]\(([^()\s]*glossary\.md)(?:#([^()\s]*))?\)")
SOLUTIONS = "## Solutions"


def edition_of(statements) -> int:
    """The edition that the statements of the parameters cell define; 1 if they do not."""
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            if [getattr(target, "id", "") for target in statement.targets] == ["EDITION"]:
                return statement.value.value
    return 1


def problems_of_whole(path: Path, notebook):
    """Sentences about the notebook as a whole."""
    cells = notebook.cells
    if not any(is_text(cell) and cell.source.startswith("## Key points") for cell in cells):
        yield "has no cell that starts with '## Key points'"
    many = sum("investigation" in tags_of(cell) for cell in cells)
    if many != 1:
        yield f"has {many} cells tagged `investigation`, and needs exactly one"
    heads = [
        i for i, cell in enumerate(cells) if is_text(cell) and cell.source.startswith(SOLUTIONS)
    ]
    if len(heads) != 1:
        yield f"has {len(heads)} cells that start with {SOLUTIONS!r}, and needs exactly one"
    elif not cells[heads[0]].metadata.get(FOLDED):
        yield f"its heading {SOLUTIONS!r} is not folded: the cell's metadata need {FOLDED}: true"
    first = heads[0] if heads else len(cells)
    if any("solution" in tags_of(cell) for cell in cells[:first]):
        yield f"has a cell tagged `solution` before the heading {SOLUTIONS!r}"
    yield from _problems_of_links(path, cells)


def _problems_of_links(path, cells):
    known: dict[Path, set] = {}
    for cell in cells:
        for file, anchor in GLOSSARY.findall(cell.source) if is_text(cell) else ():
            target = path.parent / file
            if target not in known:
                known[target] = anchors(target)
            if anchor not in known[target]:
                yield f"links to {file}#{anchor}, and there is no such heading"


def anchors(page: Path) -> set[str]:
    """The anchors of a Markdown page's headings, as GitHub and JupyterLab make them."""
    if not page.exists():
        return set()
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings
    }


def problems_of_cell(cell, heading: str):
    """Sentences about one cell, which stands under ``heading``."""
    tags = tags_of(cell)
    if heading.startswith(SOLUTIONS):
        if is_text(cell) and not cell.source.startswith((SOLUTIONS, "<details>")):
            yield "is a solution that is not folded: begin it with <details>"
        if not is_text(cell) and "solution" not in tags:
            yield f"stands under {SOLUTIONS!r} and is not tagged `solution`"
    if "exercise" in tags:
        yield from _problems_of_exercise(cell, start="investigation" in tags)
    for output in cell.get("outputs", []):
        for mime, about in output.get("metadata", {}).items():
            if mime.startswith("image/"):
                yield from _problems_of_alt(str(about.get("alt", "")))


def _problems_of_alt(alt):
    if len(alt) > ALT_LIMIT:
        yield f"alt text of {len(alt)} characters, at most {ALT_LIMIT}"
    if re.search(r"\bnp\.", alt):
        yield "alt text with a NumPy type in it: make it a float"
    first = re.split(r"[.:;](?:\s|$)", alt.strip())[0].split()
    if alt.strip() and (len(first) < 3 or first[0][0].isdigit()):
        yield "alt text whose first sentence does not say what is shown"


def _problems_of_exercise(cell, start: bool):
    """An exercise names itself and hands over the reader's answer, which is not there yet."""
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:
        yield "is an exercise that is not Python"
        return
    calls = [node for part in body for node in ast.walk(part) if _checks_an_answer(node)]
    if not calls:
        yield f"is an exercise that calls none of exercises.{', exercises.'.join(CHECKS)}"
    for call in calls:
        plain = len(call.args) == 2 and isinstance(call.args[0], ast.Constant)
        if not plain or not isinstance(call.args[1], ast.Name):
            yield "an exercise is checked by its id and the name of the answer, nothing else"
        elif not start and not _left_open(body, call.args[1].id):
            yield f"is an exercise whose {call.args[1].id} is answered: leave None or ..."
        kind = {"check": references.Answer, "check_function": references.Function}
        if plain and call.func.attr in kind:
            known = references.TABLE.get(call.args[0].value)
            if not isinstance(known, kind[call.func.attr]):
                yield f"exercise {call.args[0].value} has no such reference in the module"
        if any(_gives_away(keyword) for keyword in call.keywords):
            yield "an exercise hands over measured values only: its reference is in the module"


def _checks_an_answer(node) -> bool:
    function = getattr(node, "func", None)
    owner = getattr(getattr(function, "value", None), "id", "")
    return owner == "exercises" and getattr(function, "attr", "") in CHECKS


def _gives_away(keyword) -> bool:
    told = keyword.arg in (None, "expected", "inputs", "tolerance", "why")
    return told or isinstance(keyword.value, ast.Constant | ast.List | ast.Tuple | ast.Dict)


def _left_open(body, name) -> bool:
    """Whether ``name`` is set to None or ..., or is a function that does nothing yet."""
    for part in body:
        if isinstance(part, ast.FunctionDef) and part.name == name:
            return all(
                isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
                for line in part.body
            )
        if isinstance(part, ast.Assign) and [getattr(t, "id", "") for t in part.targets] == [name]:
            value = part.value
            return isinstance(value, ast.Constant) and value.value in (None, ...)
    return False


def is_text(cell) -> bool:
    """Whether the cell is Markdown."""
    return cell.cell_type == "markdown"


def tags_of(cell) -> list:
    """The cell's tags."""
    return cell.metadata.get("tags", [])
