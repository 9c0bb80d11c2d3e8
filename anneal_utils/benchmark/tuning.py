"""One setting of the plan as it goes: the scan, the trials, a wider range, the report."""

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from anneal_utils import optimizers
from anneal_utils.benchmark.chunks import Chunk, cell_of
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.benchmark.plan import Entry, Method, Plan, Setting, epochs_at
from anneal_utils.benchmark.spaces import design, rounded
from anneal_utils.problems import Problem
from anneal_utils.training.frames import Outcome, lost_at

import numpy as np
import pandas as pd

CUTS = (0.125, 0.25, 0.5)  # shares of a run at which its tune value is kept as well


@dataclass(frozen=True)
class Trial:
    """What one point of the design means to a method."""

    number: int
    place: float  # of the peak in the range, 0 to 1
    peak: float
    knobs: tuple  # sorted pairs: the shape's, the warmup's, the optimizer's

    def chunk(self, setting: Setting, entry: Entry, epochs: int, method: Method, own, seeds):
        """Its runs; ``own``: which of the knobs are the optimizer's."""
        optimizer = ":".join([setting.optimizer, *(f"{k}={dict(self.knobs)[k]:g}" for k in own)])
        knobs = tuple((k, v) for k, v in self.knobs if k not in own)
        where = (entry.load, optimizer, epochs, method.schedule, knobs)
        return Chunk(*where, (self.peak,), tuple(seeds))


def trials_of(plan: Plan, method: Method, optimizer: str, low: float, high: float, places):
    """The trials of a method: the same places for all, read on the axes that are its own.

    ``low``, ``high``: the range of peaks, log uniform. The columns of ``places`` [trials, AXES]:
    peak, warmup, the optimizer's knobs, the shape's.
    """
    axes = plan.knobs(method, optimizer)
    found = []
    for number, row in enumerate(places):
        peak = rounded(low * (high / low) ** row[0])
        knobs = {name: axis.at(u) for (name, axis), u in zip(axes.items(), row[1:], strict=False)}
        found.append(Trial(number, float(row[0]), peak, tuple(sorted(knobs.items()))))
    return found


def protocol_of(plan: Plan, setting: Setting) -> Iterator:
    """The protocol of one setting, as a generator: yields chunks, is sent what they gave.

    Returns (frame of trials, frame of report), a row for each trial or candidate and seed; every
    round asks for all its chunks at once. All methods share the range of peaks, which is laid
    around the best peak of one scan and is widened for all of them, which then start again, when
    the best trial of one of them lies near an end of it.
    """
    entry, rules = plan.entries[setting.problem], plan.protocol
    problem = problem_of(entry.load)
    epochs = epochs_at(problem.epochs, setting.horizon)
    methods = [plan.methods[label] for label in entry.methods]
    own = tuple(plan.axes.get(setting.optimizer, {}))
    tuning = range(rules["first_tuning_seed"], rules["first_tuning_seed"] + entry.tuning)
    places = design(entry.trials, _scramble(setting, rules["scramble"]))
    where = {**vars(setting), "epochs": epochs}

    centre = yield from _scan(plan, setting, entry, epochs)
    half = 10 ** (rules["decades"] / 2)
    low, high = centre / half, centre * half
    tables = []
    for widened in range(rules["widenings"] + 1):
        trials = {
            m.label: trials_of(plan, m, setting.optimizer, low, high, places) for m in methods
        }
        asked = [(m, trial) for m in methods for trial in trials[m.label]]
        chunks = [t.chunk(setting, entry, epochs, m, own, tuning) for m, t in asked]
        outcomes = yield chunks
        rows = [
            rows_of(problem, chunk, found)
            | {"schedule": m.label, "trial": t.number, "knobs": json.dumps(dict(t.knobs))}
            for (m, t), chunk, found in zip(asked, chunks, outcomes, strict=True)
        ]
        table = table_of(rows).assign(**where, widened=widened)
        tables.append(table)
        ends = [] if widened == rules["widenings"] else list(_near(table, trials, problem, rules))
        if not ends:
            break
        low, high = (
            low / 10 ** rules["widen"] if "low" in ends else low,
            high * 10 ** rules["widen"] if "high" in ends else high,
        )

    # The report, on fresh seeds: the best trials, not the one best alone, since another search
    # of the kind would have had another winner among them.
    asked = [
        (method, trials[method.label][number])
        for method in methods
        for number in candidates(table[table["schedule"] == method.label], rules["candidates"])
    ]
    chunks = [t.chunk(setting, entry, epochs, m, own, range(entry.report)) for m, t in asked]
    outcomes = yield chunks
    rows = [
        rows_of(problem, chunk, found, cuts=True)
        | {"schedule": m.label, "trial": t.number, "knobs": json.dumps(dict(t.knobs))}
        for (m, t), chunk, found in zip(asked, chunks, outcomes, strict=True)
    ]
    report = table_of(rows).assign(**where)
    return pd.concat(tables, ignore_index=True), report


def _scramble(setting: Setting, seed: int) -> int:
    """Of the design of one setting, whose methods share it.

    Another one in each setting, or the luck of one design would be in all of them.
    """
    return zlib.crc32(f"{setting.problem} {setting.optimizer} {setting.horizon:g} {seed}".encode())


def _scan(plan: Plan, setting: Setting, entry: Entry, epochs: int):
    """The best peak of a coarse scan with one schedule at its defaults, billed to all methods."""
    rules = plan.protocol
    usual = optimizers.catalogue.registry.entry(setting.optimizer).facts["centre"]
    points = rules["scan_points"]
    peaks = [rounded(usual * rules["scan_ratio"] ** (k - points // 2)) for k in range(points)]
    seeds = range(rules["first_tuning_seed"], rules["first_tuning_seed"] + rules["scan_seeds"])
    where = (entry.load, setting.optimizer, epochs, rules["scan_schedule"], ())
    (outcomes,) = yield [Chunk(*where, tuple(peaks), tuple(seeds))]
    problem = problem_of(entry.load)
    values = np.array([_values(problem, outcome)[0] for outcome in outcomes])
    return peaks[int(values.reshape(points, -1).mean(axis=1).argmin())]


def _values(problem: Problem, outcome: Outcome) -> tuple[float, float, int]:
    """(tune value, test value, first lost step or -1); lower is better, chance is the cap.

    Where a problem has no test part, its held-out loss is exact and is both.
    """
    name = problem.target.removeprefix("val_")
    left = lost_at(outcome, problem.steps_per_epoch)
    tune = test = outcome.end(problem.target)
    if len(outcome.test):
        test = float(outcome.test[outcome.names.index(name)])
    found = [_capped(problem, value) if left < 0 else problem.chance for value in (tune, test)]
    return found[0], found[1], left


def _capped(problem: Problem, value: float) -> float:
    """``value`` so that lower is better and nothing is worse than having learned nothing."""
    return min(value * problem.sign, problem.chance) if np.isfinite(value) else problem.chance


def rows_of(problem: Problem, chunk: Chunk, outcomes: list[Outcome], cuts: bool = False) -> dict:
    """The columns of one trial: a value for each of its seeds, or one for all."""
    found = [_values(problem, outcome) for outcome in outcomes]
    columns = {
        "peak": chunk.peaks[0],
        "seed": list(chunk.seeds),
        "tune": [tune for tune, _, _ in found],
        "test": [test for _, test, _ in found],
        "lost": [left for _, _, left in found],
        "cell": cell_of(outcome.identity for outcome in outcomes),
    }
    for cut in CUTS if cuts else ():
        columns[f"tune_{cut:g}"] = [_at(problem, outcome, cut) for outcome in outcomes]
    return columns


def _at(problem: Problem, outcome: Outcome, cut: float) -> float:
    """The tune value at a share of the run, NaN where no epoch ends there."""
    epochs = len(outcome.history)
    epoch = epochs_at(epochs, cut) - 1  # where a run that is planned for this share ends
    if abs((epoch + 1) / epochs - cut) > 0.05:
        return float("nan")
    name = problem.target.removeprefix("val_")
    column = 1 + len(outcome.names) + outcome.names.index(name)
    return _capped(problem, float(outcome.history[epoch, column]))


def table_of(rows: list[dict]) -> pd.DataFrame:
    """One frame, a row for each seed of each of ``rows``."""
    lengths = [len(row["seed"]) for row in rows]
    columns = {}
    for name, first in rows[0].items():
        if isinstance(first, list):
            columns[name] = np.concatenate([row[name] for row in rows])
        else:
            columns[name] = np.repeat(np.array([row[name] for row in rows], object), lengths)
    frame = pd.DataFrame(columns).infer_objects()
    return frame.astype(dict.fromkeys(("schedule", "knobs", "cell"), "str"))


def _near(table: pd.DataFrame, trials, problem: Problem, rules) -> Iterator[str]:
    """The ends of the range of peaks near which some method's best trial lies."""
    for label, rows in table.groupby("schedule", sort=False):
        means = rows.groupby("trial")["tune"].mean()
        if means.min() < problem.chance:  # else nothing is best
            place = trials[label][int(means.idxmin())].place
            if place < rules["edge"]:
                yield "low"
            elif place > 1 - rules["edge"]:
                yield "high"


def candidates(rows: pd.DataFrame, most: int) -> list[int]:
    """The ``most`` best trials of one method by their mean tune value, the best first."""
    means = rows.groupby("trial")["tune"].mean().sort_values(kind="stable")
    return [int(number) for number in means.index[:most]]
