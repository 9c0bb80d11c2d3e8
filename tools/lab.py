"""A learner's copy of the course: ``python -m tools.lab``, which `make lab` calls.

JupyterLab opens ``build/lab``, so that what a reader tries never changes the committed notebooks;
the pages of ``book/``, which they link to, lie beside it. A copy that the reader has changed is
never written over.
"""

import argparse
import hashlib
import json
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORD = ".copied.json"  # what was copied last time: a digest for each notebook


def copy(root: Path = ROOT, *, fresh: bool = False) -> list[str]:
    """Copy ``notebooks/*.ipynb`` to ``build/lab``; returns a line on each changed copy.

    A copy that differs from what was copied last time is kept; with ``fresh`` it is set aside as
    ``NAME.mine.ipynb`` (``NAME.mine2.ipynb``, ... if there is one) and copied anew.
    """
    folder = root / "build" / "lab"
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / RECORD
    try:
        copied = dict(json.loads(record.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # absent or damaged: every copy may be the reader's
        copied = {}
    if (root / "book").is_dir():
        shutil.copytree(root / "book", root / "build" / "book", dirs_exist_ok=True)
    told = []
    for source in sorted((root / "notebooks").glob("*.ipynb")):
        target, content = folder / source.name, source.read_bytes()
        if target.exists() and _digest(target.read_bytes()) not in (
            copied.get(source.name),
            _digest(content),
        ):
            if not fresh:
                new = (
                    ""
                    if _digest(content) == copied.get(source.name)
                    else ", older than the course's"
                )
                told.append(f"{source.name}: yours is kept{new}; FRESH=1 sets it aside")
                continue
            aside = _free(target)
            target.rename(aside)
            told.append(f"{source.name}: yours is {aside.name} now")
        target.write_bytes(content)
        copied[source.name] = _digest(content)
        record.write_text(json.dumps(copied, indent=1), encoding="utf-8")
    return told


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _free(target: Path) -> Path:
    """The first name beside ``target`` that is not taken."""
    number = 1
    while (aside := target.with_suffix(f".mine{number if number > 1 else ''}.ipynb")).exists():
        number += 1
    return aside


def main(arguments=None) -> None:
    """Copy, and say what was kept."""
    parser = argparse.ArgumentParser(prog="python -m tools.lab", description=__doc__)
    parser.add_argument("--fresh", action="store_true", help="set changed copies aside")
    for line in copy(fresh=parser.parse_args(arguments).fresh):
        print(line)


if __name__ == "__main__":
    main()
