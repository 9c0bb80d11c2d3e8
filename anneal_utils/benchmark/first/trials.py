"""The protocol as it goes: a scan, the grid, its extension, the report on fresh seeds."""

import json
from collections.abc import Mapping

from anneal_utils import optimizers
from anneal_utils.benchmark.chunks import Chunk, cell_of
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.benchmark.first.planning import Group
from anneal_utils.benchmark.first.protocol import Protocol, as_then
from anneal_utils.benchmark.first.tables import table_of

import numpy as np


def _centred(centre: float, ratio: float, points: int) -> list[float]:
    return [centre * ratio ** (k - (points - 1) // 2) for k in range(points)]


def protocol_of(group: Group, methods: Mapping, protocol: Protocol):
    """The protocol for one group, as a generator: yields chunks, is sent what they gave.

    Returns (rows of trials, frames of report). Every round asks for all its chunks at once.
    """

    def measured(chunks):
        outcomes = yield chunks
        problem = problem_of(as_then(group.problem))
        return [table_of(c, problem, found) for c, found in zip(chunks, outcomes, strict=True)]

    def chunk(name, knobs, peaks, seeds):
        return Chunk(
            as_then(group.problem),
            group.optimizer,
            group.epochs,
            name,
            knobs,
            tuple(peaks),
            tuple(seeds),
        )

    where = group.columns()
    trials = []

    def note(label, knobs, kind, table):
        text = json.dumps(dict(knobs))
        means = table.groupby("peak")[["run", "value", "lost"]].agg(
            run=("run", cell_of), value=("value", "mean"), failures=("lost", "sum")
        )
        for peak, run, value, failures in means.itertuples():
            trials.append(
                {**where, "schedule": label, "knobs": text, "kind": kind, "peak": peak}
                | {"value": value, "failures": int(failures), "runs": len(protocol.tuning())}
                | {"run": run}
            )
        return means["value"].to_dict()

    # The centre: one scan, one schedule, whatever the methods are.
    centre = None
    if protocol.peaks is None:
        start = optimizers.catalogue.registry.entry(group.optimizer).facts["centre"]
        peaks = _centred(start, protocol.scan_ratio, protocol.scan_points)
        (table,) = yield from measured(
            [chunk(protocol.scan_schedule, (), peaks, protocol.tuning())]
        )
        scan = note(protocol.scan_schedule, (), "scan", table)
        centre = min(scan, key=scan.get)

    # The grid: the budget is split over the variants of a method.
    tried: dict[str, dict[tuple, dict[float, float]]] = {}
    wanted = []
    for label, (name, variants) in methods.items():
        for knobs, part in zip(
            variants, np.array_split(range(protocol.budget), len(variants)), strict=True
        ):
            grid = protocol.peaks or _centred(centre, protocol.ratio, len(part))
            wanted.append((label, name, knobs, grid))
    kind, added = "grid", dict.fromkeys(methods, 0)
    while wanted:
        tables = yield from measured(
            [chunk(n, knobs, at, protocol.tuning()) for _, n, knobs, at in wanted]
        )
        for (label, _, knobs, _), table in zip(wanted, tables, strict=True):
            tried.setdefault(label, {}).setdefault(knobs, {}).update(
                note(label, knobs, kind, table)
            )
        # The extension: one peak past the edge on which a method's best trial lies.
        kind, wanted = "extension", []
        for label, (name, _) in methods.items():
            knobs, peak = _best(tried[label])
            beyond = _beyond(tried[label][knobs], peak, protocol.ratio)
            if beyond is not None and added[label] < protocol.extensions:
                added[label] += 1
                wanted.append((label, name, knobs, [beyond]))

    # The report: the tuned peak, fresh seeds.
    best = {label: _best(tried[label]) for label in methods}
    tables = yield from measured(
        [
            chunk(methods[label][0], knobs, [peak], range(protocol.seeds))
            for label, (knobs, peak) in best.items()
        ]
    )
    reports = [
        table.assign(
            **where,
            schedule=label,
            knobs=json.dumps(dict(knobs)),
            trials=sum(map(len, tried[label].values())),
            interior=_beyond(tried[label][knobs], peak, protocol.ratio) is None,
        )
        for (label, (knobs, peak)), table in zip(best.items(), tables, strict=True)
    ]
    return trials, reports


def _best(tried: Mapping) -> tuple[tuple, float]:
    """The (knobs, peak) of the lowest value; the first of equals."""
    cells = {(knobs, peak): v for knobs, row in tried.items() for peak, v in row.items()}
    return min(cells, key=cells.get)


def _beyond(row: Mapping[float, float], peak: float, ratio: float) -> float | None:
    """The next peak past the edge on which ``peak`` lies, or None where it is interior."""
    if peak == min(row):
        return peak / ratio
    return peak * ratio if peak == max(row) else None
