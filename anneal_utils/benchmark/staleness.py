"""Whether results are those of this code, told without training anything."""

import inspect
import json
import random
from collections.abc import Iterable

from anneal_utils import _checks, optimizers, schedules
from anneal_utils.benchmark.chunks import Chunk, cell_of
from anneal_utils.benchmark.evidence import SETTING, Evidence
from anneal_utils.benchmark.finished import Cache

import pandas as pd

COLUMNS = ["table", *SETTING, "schedule", "trial"]


def stale(evidence: Evidence, *, sample: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Trials and candidates that this code, here and now, would not compute; trains nothing.

    Each has the digest of the identities of its runs; here it is computed anew for all of them, or
    for ``sample`` of them in one setting of each problem, drawn by ``seed``. Columns: table,
    problem, optimizer, horizon, schedule, trial; no row: the results are those of this code. On
    another kind of machine, or with other versions, all are told: compare
    ``provenance[problem]["environment"]`` with ``identity.environment()``. ``ValueError`` for a
    problem that was given as an object.
    """
    found = []
    for problem, facts in evidence.provenance.items():
        if facts["load"] is None:
            rule = "was given as an object, of which results keep no more than its name"
            _checks.fail("problem", problem, rule)
        cache = Cache(False, facts["mode"])
        rows = evidence.report[evidence.report["problem"] == problem]
        settings = rows[SETTING].drop_duplicates()
        if sample is not None:
            settings = settings.sample(random_state=seed)
        for where in settings.itertuples(index=False, name=None):
            cells = list(_cells(evidence, where, facts))
            if sample is not None:
                cells = random.Random(seed).sample(cells, min(sample, len(cells)))
            names = cache.names([chunk for _, chunk, _ in cells])
            for (label, _, before), named in zip(cells, names, strict=True):
                if before != cell_of(name.identity for name in named):
                    found.append(label)
    return pd.DataFrame(found, columns=COLUMNS)


def _cells(evidence: Evidence, where: tuple, facts: dict) -> Iterable[tuple]:
    """(label, chunk, digest) of each trial and candidate of a setting."""
    for name in ("trials", "report"):
        table = getattr(evidence, name)
        table = table[(table[SETTING] == list(where)).all(axis=1)]
        keys = ["schedule", "trial", *(["widened"] if name == "trials" else [])]
        for (schedule, trial, *_), rows in table.groupby(keys, sort=False):
            chunk = _chunk(rows, where[1], facts["load"], facts["schedules"][schedule])
            yield (name, *where, schedule, trial), chunk, rows["cell"].iloc[0]


def _chunk(rows: pd.DataFrame, optimizer: str, load: str, schedule: str) -> Chunk:
    """The runs behind the rows of one trial."""
    first = rows.iloc[0]
    knobs = json.loads(first["knobs"])
    taken = {"warmup", *inspect.signature(schedules.catalogue.registry[schedule]).parameters}
    own = [f"{name}={value:g}" for name, value in knobs.items() if name not in taken]
    _checks.choice("optimizer", optimizer, optimizers.names())
    text = ":".join([optimizer, *own])
    mine = tuple(sorted((name, value) for name, value in knobs.items() if name in taken))
    where = (load, text, int(first["epochs"]), schedule, mine, (float(first["peak"]),))
    return Chunk(*where, tuple(map(int, rows["seed"])))
