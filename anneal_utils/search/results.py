"""Results of searches: one small JSON for each problem and optimizer, written and read whole."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from anneal_utils import _files, _places
from anneal_utils.search.found import Found
from anneal_utils.search.reporting import Report

import pandas as pd

FORMAT = 3
OUT = Path("build") / "search"
COMMITTED = _places.committed("search")


@dataclass(frozen=True)
class Result:
    """What was found, what it is worth, how flat it is there (or None), where all are from.

    ``flat``: as :func:`flatness` gives it. ``provenance``: among others ``task``, the digest of
    what was asked for, and ``of`` and ``what``: the search that this one varies, and how.
    """

    found: Found
    report: Report
    flat: pd.DataFrame | None
    provenance: dict

    @property
    def key(self) -> tuple[str, str, int]:
        """Problem, optimizer, seed of the search."""
        return self.found.problem, self.found.optimizer, self.found.arguments["seed"]


def path_of(folder, problem: str, optimizer: str, seed: int = 0) -> Path:
    """The file of a problem, an optimizer and the seed of the search."""
    again = f"-seed={seed}" if seed else ""
    name = re.sub(r"[^\w.,=-]+", "_", f"{problem}-{optimizer}{again}")
    return Path(folder) / f"{name}.json"


def save(result: Result, folder) -> Path:
    """Write a result, whole or not at all; returns where."""
    path = path_of(folder, *result.key)
    content = {
        "format": FORMAT,
        "found": result.found.to_dict(),
        "report": result.report.to_dict(),
        "flat": None if result.flat is None else result.flat.to_dict("list"),
        "provenance": result.provenance,
    }
    _files.write(path, (json.dumps(content, indent=None, allow_nan=False) + "\n").encode())
    return path


def read(path: Path) -> Result | None:
    """The result in a file, None where there is no file; ``ValueError`` if it can not be read."""
    try:
        given = json.loads(path.read_text())
        if given["format"] != FORMAT:
            raise ValueError(f"is of format {given['format']}, this version reads {FORMAT}")
        found, told = Found.from_dict(given["found"]), Report.from_dict(given["report"])
        flat = None if given["flat"] is None else pd.DataFrame(given["flat"])
        return Result(found, told, flat, dict(given["provenance"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        told = f"{path.name} in {path.parent} can not be read: {error}"
        raise ValueError(f"{told}; delete it, and the search writes it anew.") from error


def load(folder=OUT) -> list[Result]:
    """All results in ``folder``, by file name; ``ValueError`` where there are none."""
    found = [read(path) for path in sorted(Path(folder).glob("*.json"))]
    if not found:
        raise ValueError(f"out = {str(folder)!r}: holds no results of searches.")
    return found
