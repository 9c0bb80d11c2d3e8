"""What was measured, problem by problem: two tables and where they are from, or nothing."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from anneal_utils import _checks, _files, _places

import pandas as pd

FORMAT = 3  # another number is another meaning of the tables
OUT = Path("build") / "benchmark"
COMMITTED = _places.committed() / "results"
SETTING = ["problem", "optimizer", "horizon"]
_TABLES = ("trials", "report", "untuned", "ranges")


@dataclass(frozen=True)
class Evidence:
    """``trials``: a row per trial and tuning seed; ``report``: per candidate and report seed.

    Columns of both: problem, optimizer, horizon (multiple of the problem's epochs), epochs,
    schedule (the method's label), trial (number of the design's point), peak, knobs (JSON, the
    warmup and the optimizer's among them), seed, tune and test (the target on the part a method is
    chosen on, and on the one it is reported on; lower is better, at most chance; the same where
    the held-out loss is exact), lost (first step whose loss was not finite, or -1), cell (digest of
    the identities of the trial's runs). ``trials`` also: widened (0: the first range of peaks; the
    largest of a setting is the one that counts). ``report`` also: tune_0.125, tune_0.25, tune_0.5
    (the tune value at that share of the run).

    ``untuned``: runs at defaults, a row per method, warmup, factor and seed, with the columns of
    ``trials`` and ``factor`` (of the peak, over what a range test suggests). ``ranges``: what each
    rule reads from a range test: problem, optimizer, horizon, seed, rule, rate.

    ``provenance``: ``{problem: facts}``, among them ``plan`` (digest of what the plan says about
    it), ``group``, ``chance``, ``test_samples``, ``environment``, ``minutes``.
    """

    trials: pd.DataFrame
    report: pd.DataFrame
    provenance: dict[str, dict]
    untuned: pd.DataFrame = field(default_factory=pd.DataFrame)
    ranges: pd.DataFrame = field(default_factory=pd.DataFrame)

    def select(self, **which) -> "Evidence":
        """The part that matches, e.g. ``optimizer="adamw"``, ``horizon=1.0``, ``problem=[…]``."""
        which = {k: v if isinstance(v, list | tuple) else [v] for k, v in which.items()}
        for column, wanted in which.items():
            _checks.choice("which", column, [*SETTING, "schedule"])
            for one in wanted:
                _checks.choice(column, one, list(dict.fromkeys(self.report[column])))
        tables = {name: _matching(getattr(self, name), which) for name in _TABLES}
        if tables["report"].empty:
            _checks.fail("which", which, "must match some results")
        kept = dict.fromkeys(tables["report"]["problem"])
        return Evidence(**tables, provenance={name: self.provenance[name] for name in kept})


def _matching(table: pd.DataFrame, which: dict) -> pd.DataFrame:
    for column, wanted in which.items():
        if column in table:  # range tests know no methods; an empty table has no columns
            table = table[table[column].isin(wanted)]
    return table.reset_index(drop=True)


def gathered(parts: Iterable[Evidence]) -> Evidence:
    """Several as one."""
    parts = list(parts)
    tables = {
        name: pd.concat([getattr(part, name) for part in parts], ignore_index=True)
        for name in _TABLES
    }
    facts = {label: known for part in parts for label, known in part.provenance.items()}
    return Evidence(**tables, provenance=facts)


def save(evidence: Evidence, folder) -> None:
    """Write the tables of each problem and, last, its provenance."""
    for label, facts in evidence.provenance.items():
        digests = {}
        for name in _TABLES:
            table = getattr(evidence, name)
            if len(table):
                table = table[table["problem"] == label].reset_index(drop=True)
            if table.empty:
                continue
            digests[name] = _files.content_digest(table)
            _files.write(_path(folder, label, f"{name}.parquet"), _files.parquet(table))
        told = {**facts, "problem": label, "format": FORMAT, "sha256": digests}
        text = json.dumps(told, indent=1) + "\n"
        _files.write(_path(folder, label, "json"), text.encode())


def load(folder=OUT, problems: Iterable[str] | None = None) -> Evidence:
    """The results in ``folder``, of all problems or of these; ``ValueError`` without whole ones."""
    folder = Path(folder)
    labels = known(folder) if problems is None else list(problems)
    if not labels:
        raise ValueError(f"out = {str(folder)!r}: holds no benchmark results.")
    return gathered(_load(folder, label) for label in labels)


def known(folder) -> list[str]:
    """The problems of which the folder holds results."""
    found = {}
    for path in sorted(Path(folder).glob("*.json")):
        facts = _facts(path)
        found[facts.get("problem", path.stem)] = path
    return list(found)


def facts_of(folder, label: str) -> dict | None:
    """The provenance of a problem's results, None where there are none of this format."""
    path = _path(folder, label, "json")
    facts = _facts(path) if path.exists() else {}
    return facts if facts.get("format") == FORMAT and facts.get("problem") == label else None


def _path(folder, label: str, ending: str) -> Path:
    return Path(folder) / f"{quote(label, safe=' =,')}.{ending}"


def _facts(path: Path) -> dict:
    try:
        found = json.loads(path.read_text())
    except (ValueError, OSError) as error:
        raise ValueError(f"out = {str(path.parent)!r}: {path.name} can not be read.") from error
    return found if isinstance(found, dict) else {}


def _load(folder: Path, label: str) -> Evidence:
    facts = facts_of(folder, label)
    if facts is None:
        raise ValueError(
            f"out = {str(folder)!r}: holds no results of {label!r} in format {FORMAT}; run the "
            "benchmark."
        )
    tables = {}
    for name in _TABLES:
        if name not in facts["sha256"]:  # a plan need not ask for all of them
            continue
        path = _path(folder, label, f"{name}.parquet")
        try:
            table = _files.unparquet(path.read_bytes())
            if _files.content_digest(table) != facts["sha256"][name]:
                raise ValueError("belongs to another run")
        except (ValueError, KeyError, OSError) as error:
            reason = "is missing" if isinstance(error, OSError) else str(error)
            raise ValueError(
                f"out = {str(folder)!r}: {path.name} {reason}; run the benchmark again."
            ) from error
        tables[name] = table
    return Evidence(**tables, provenance={label: facts})
