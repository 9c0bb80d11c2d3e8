"""Whether results are those of this code, told without training anything."""

import functools
import json
from collections.abc import Iterable, Mapping

from anneal_utils import _checks
from anneal_utils.benchmark.chunks import Chunk, cell_of
from anneal_utils.benchmark.entrants import label_of, parse, problems_of
from anneal_utils.benchmark.finished import Cache
from anneal_utils.benchmark.first.protocol import as_then
from anneal_utils.benchmark.first.results import Results
from anneal_utils.problems import Problem

import pandas as pd


def stale(
    results: Results, *, sample: int | None = None, seed: int = 0, problems=()
) -> pd.DataFrame:
    """Trials and report runs that this code, here and now, would not compute; trains nothing.

    Each row of the results has the identity of what it was computed by; here it is computed anew
    for all of them, or for ``sample`` settings (problem, optimizer, horizon) drawn by ``seed``.
    Columns: table, problem, optimizer, schedule, horizon, peak; no row: the results are those of
    this code. ``problems``: the objects that were given to ``run`` as such; ``ValueError`` where
    one is missing, since its name tells nothing. On another kind of machine, or with other
    versions, all rows are told: compare ``results.provenance["environment"]`` with
    ``identity.environment()``.
    """
    keys = ["problem", "optimizer", "horizon"]
    settings = results.report[keys].drop_duplicates()
    if sample is not None:
        sample = min(_checks.count("sample", sample), len(settings))
        settings = settings.sample(sample, random_state=seed)
    cache = Cache(False, results.provenance["mode"])
    tuning = results.provenance["seeds"]["tuning"]
    objects = _objects(results, set(settings["problem"]), problems)
    called = results.provenance.get("names", {})
    chunk_of = functools.partial(_chunk_of, objects=objects, called=called)
    found = []
    for setting in settings.itertuples(index=False):
        trials, report = (
            table[(table[keys] == list(setting)).all(axis=1)]
            for table in (results.trials, results.report)
        )
        wanted = [
            ("report", chunk_of(part.iloc[0], part["seed"]), list(part["run"]))
            for _, part in report.groupby(["schedule", "knobs", "peak"], sort=False)
        ]
        wanted += [("trials", chunk_of(row, tuning), row["run"]) for _, row in trials.iterrows()]
        names = cache.names([chunk for _, chunk, _ in wanted])
        for (table, chunk, before), named in zip(wanted, names, strict=True):
            now = [name.identity for name in named]
            if before != (now if table == "report" else cell_of(now)):
                label = (*setting[:2], chunk.schedule, setting[2], chunk.peaks[0])
                found.append((table, *label))
    columns = ["table", "problem", "optimizer", "schedule", "horizon", "peak"]
    return pd.DataFrame(found, columns=columns)


def _objects(results: Results, used: set[str], given) -> dict[str, Problem]:
    """The problems of the results that no name stands for, by their labels."""
    known = set(results.provenance.get("objects", ()))
    found = {label_of(one): one for one in problems_of("problems", given)} if given else {}
    for label in found:
        _checks.choice("problems", label, sorted(known))
    missing = sorted((known & used) - set(found))
    if missing:
        rule = (
            f"must hold {missing[0]!r}, which was passed as an object and can not be checked "
            "without it"
        )
        _checks.fail("problems", list(found), rule)
    return found


def _chunk_of(row, seeds: Iterable[int], objects: Mapping, called: Mapping) -> Chunk:
    """The runs behind a row of the results."""
    knobs = tuple(sorted((k, _frozen(v)) for k, v in json.loads(row["knobs"]).items()))
    label, problem = row["schedule"], row["problem"]
    name = called[label] if label in called else parse(label)[0]
    where = (objects.get(problem, as_then(problem)), row["optimizer"], int(row["epochs"]))
    return Chunk(*where, name, knobs, (row["peak"],), tuple(map(int, seeds)))


def _frozen(value):
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
