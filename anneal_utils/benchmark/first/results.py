"""Results: two tables and where they are from, written and read whole."""

import json
from dataclasses import dataclass
from pathlib import Path

from anneal_utils import _checks, _files, _places
from anneal_utils.benchmark.first.tables import FORMAT

import pandas as pd

OUT = Path("build") / "benchmark"
COMMITTED = _places.committed() / "first"  # results of the full profile


@dataclass(frozen=True)
class Results:
    """``trials``: a row per tuning cell; ``report``: a row per method and seed; ``provenance``.

    ``trials``: problem, optimizer, horizon (multiple of the problem's epochs), epochs, schedule,
    knobs (JSON), kind ("scan", "grid" or "extension"), peak, value (mean over the tuning seeds of
    the held-out loss, penalty included), failures, runs. ``report``: the same method columns, peak,
    seed, train_loss, val_loss, val_accuracy, value (held-out loss or penalty), lost,
    diverged_step (-1: none), trials (grid and extensions), interior.

    In ``provenance``, among others: ``chance`` (the loss of having learned nothing, by problem),
    ``objects`` (problems that were given as objects), ``names`` (of the schedules, by label).
    """

    trials: pd.DataFrame
    report: pd.DataFrame
    provenance: dict


_NAMES = ("trials", "report")


def save(results: Results, folder) -> None:
    """Write ``trials.parquet``, ``report.parquet`` and, last, ``provenance.json``.

    ``ValueError`` where the folder holds results of another version; they stay.
    """
    folder = Path(folder)
    refuse_other_version(folder)
    digests = {name: _files.content_digest(getattr(results, name)) for name in _NAMES}
    for name in _NAMES:
        _files.write(folder / f"{name}.parquet", _files.parquet(getattr(results, name)))
    text = json.dumps({**results.provenance, "sha256": digests}, indent=1) + "\n"
    _files.write(folder / "provenance.json", text.encode())


def load(folder=OUT) -> Results:
    """The results in ``folder``; ``ValueError`` where there are none, or not whole ones."""
    folder = Path(folder)
    provenance = _provenance(folder)
    tables = {}
    for name in _NAMES:
        try:
            tables[name] = _files.unparquet((folder / f"{name}.parquet").read_bytes())
            if _files.content_digest(tables[name]) != provenance["sha256"][name]:
                raise ValueError("belongs to another run")
        except (ValueError, KeyError, OSError) as error:
            reason = "is missing" if isinstance(error, OSError) else str(error)
            raise ValueError(
                f"out = {str(folder)!r}: {name}.parquet {reason}; run the benchmark again."
            ) from error
    return Results(**tables, provenance=provenance)


def _provenance(folder: Path) -> dict:
    path = folder / "provenance.json"
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"out = {str(folder)!r}: holds no benchmark results.") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"out = {str(folder)!r}: provenance.json can not be read.") from error
    version = found.get("format") if isinstance(found, dict) else None
    if version != FORMAT:
        _checks.fail(
            "out",
            str(folder),
            f"holds results of format {version}, this version reads format {FORMAT}; "
            "choose another folder or run the benchmark again",
        )
    return found


def refuse_other_version(folder: Path) -> None:
    """``ValueError`` where the folder holds results of another version."""
    if (folder / "provenance.json").exists():
        _provenance(folder)


def plain_text(table: pd.DataFrame) -> pd.DataFrame:
    """Text columns of one kind, so that a table read back is the same table."""
    for column in table.columns:
        if table[column].dtype.kind not in "biuf":
            table[column] = table[column].astype("str")
    return table.reset_index(drop=True)
