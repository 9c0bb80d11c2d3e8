"""Whether results are those of this code, told without training anything."""

import json
from collections.abc import Iterable

from anneal_utils import _checks
from anneal_utils.benchmark.chunks import Chunk, cell_of
from anneal_utils.benchmark.entrants import parse
from anneal_utils.benchmark.finished import CACHE, Cache
from anneal_utils.benchmark.results import Results

import pandas as pd


def stale(results: Results, *, sample: int | None = None, seed: int = 0) -> pd.DataFrame:
    """Trials and report runs that this code, here and now, would not compute; trains nothing.

    Each row of the results has the identity of what it was computed by; here it is computed anew
    for all of them, or for ``sample`` settings (problem, optimizer, horizon) drawn by ``seed``.
    Columns: table, problem, optimizer, schedule, horizon, peak; no row: the results are those of
    this code. On another kind of machine, or with other versions, all of them are told: compare
    ``results.provenance["environment"]`` with ``identity.environment()``.
    """
    keys = ["problem", "optimizer", "horizon"]
    settings = results.report[keys].drop_duplicates()
    if sample is not None:
        sample = min(_checks.count("sample", sample), len(settings))
        settings = settings.sample(sample, random_state=seed)
    cache = Cache(CACHE, results.provenance["mode"])
    tuning = results.provenance["seeds"]["tuning"]
    found = []
    for setting in settings.itertuples(index=False):
        trials, report = (
            table[(table[keys] == list(setting)).all(axis=1)]
            for table in (results.trials, results.report)
        )
        wanted = [
            ("report", _chunk_of(part.iloc[0], part["seed"]), list(part["run"]))
            for _, part in report.groupby(["schedule", "knobs", "peak"], sort=False)
        ]
        wanted += [("trials", _chunk_of(row, tuning), row["run"]) for _, row in trials.iterrows()]
        names = cache.names([chunk for _, chunk, _ in wanted])
        for (table, chunk, before), named in zip(wanted, names, strict=True):
            now = [name.identity for name in named]
            if before != (now if table == "report" else cell_of(now)):
                label = (*setting[:2], chunk.schedule, setting[2], chunk.peaks[0])
                found.append((table, *label))
    columns = ["table", "problem", "optimizer", "schedule", "horizon", "peak"]
    return pd.DataFrame(found, columns=columns)


def _chunk_of(row, seeds: Iterable[int]) -> Chunk:
    """The runs behind a row of the results."""
    knobs = tuple(sorted(json.loads(row["knobs"]).items()))
    name = parse(row["schedule"])[0]
    where = (row["problem"], row["optimizer"], int(row["epochs"]))
    return Chunk(*where, name, knobs, (row["peak"],), tuple(map(int, seeds)))
