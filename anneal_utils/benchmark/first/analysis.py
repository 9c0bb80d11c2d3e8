"""What the results say: ranks, regret, profiles, curves, paired differences."""

from collections.abc import Iterable, Mapping

from anneal_utils import _checks, statistics
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.benchmark.first.protocol import METHOD, as_then
from anneal_utils.benchmark.first.results import Results

import numpy as np
import pandas as pd


def cube(report: pd.DataFrame, column: str = "value") -> tuple[np.ndarray, list, list]:
    """``report`` as (values [settings, methods, seeds], settings, schedules).

    A setting is a (problem, optimizer, horizon); ``ValueError`` unless every schedule was run on
    every one of them with the same seeds.
    """
    _checks.choice("column", column, report.columns)
    keys = ["problem", "optimizer", "horizon"]
    settings = list(report[keys].drop_duplicates().itertuples(index=False, name=None))
    names, seeds = list(dict.fromkeys(report["schedule"])), sorted(set(report["seed"]))
    wide = report.set_index([*keys, "schedule", "seed"])[column]
    if len(wide) != len(settings) * len(names) * len(seeds) or not wide.index.is_unique:
        _checks.fail("report", f"{len(wide)} rows", "must hold every method with the same seeds")
    index = pd.MultiIndex.from_tuples(
        [(*s, name, seed) for s in settings for name in names for seed in seeds]
    )
    values = wide.reindex(index).to_numpy(float)
    return values.reshape(len(settings), len(names), len(seeds)), settings, names


def regret(report: pd.DataFrame, chance: Mapping | None = None) -> pd.DataFrame:
    """Normalised regret of each schedule in each setting, [settings x schedules].

    (mean loss - best schedule's mean loss) / (chance - best), so 0 is the best schedule and 1 has
    learned nothing. ``chance``: ``{problem: loss of a model that has learned nothing}``, as
    results have it in ``provenance["chance"]``; a problem that is not in it is asked itself.
    """
    values, settings, names = cube(report)
    means = values.mean(axis=2)
    index = pd.MultiIndex.from_tuples(settings, names=["problem", "optimizer", "horizon"])
    return pd.DataFrame(_regret(means, _chances(settings, chance)), index, names)


def _regret(means: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Regret of mean losses [..., settings, schedules], with the chance losses [settings, 1]."""
    best = means.min(axis=-1, keepdims=True)
    # Where no schedule has learned anything there is no scale: 1 for all but the best.
    gap = np.where(chance > best, chance - best, np.inf)
    return np.where(chance > best, (means - best) / gap, means > best)


def _chances(settings, known: Mapping | None) -> np.ndarray:
    """The chance losses, [settings, 1]; results from before they were kept ask the problems."""
    known = known or {}
    asked = dict.fromkeys(problem for problem, *_ in settings)
    losses = {p: known[p] if p in known else problem_of(as_then(p)).chance for p in asked}
    return np.array([[losses[problem]] for problem, *_ in settings])


def ratios(report: pd.DataFrame) -> pd.DataFrame:
    """Mean loss over the best schedule's mean loss, [settings x schedules], for a profile."""
    values, settings, names = cube(report)
    means = values.mean(axis=2)
    index = pd.MultiIndex.from_tuples(settings, names=["problem", "optimizer", "horizon"])
    return pd.DataFrame(means / means.min(axis=1, keepdims=True), index, names)


def ranking(results: Results, **which) -> pd.DataFrame:
    """Schedules, best first: mean rank with its interval, regret, width, failures, trials.

    ``which`` selects rows, e.g. ``optimizer="sgd"``, ``horizon=1.0``, ``problem="digits"``; the
    default horizon is 1, or the only one. ``width``: decades of peaks within 1.2 times the best
    tuning loss, mean over settings. ``interior``: share of settings whose tuned peak is inside.
    """
    report, trials = select(results.report, **which), select(results.trials, **which)
    values, _, names = cube(report)
    lost, _, _ = cube(report, "lost")
    ranks = statistics.mean_ranks(values)
    means = report.groupby("schedule")
    regrets = regret(report, results.provenance.get("chance"))[names].to_numpy()
    widths = sensitivity_widths(trials)
    return (
        pd.DataFrame(
            {
                "schedule": names,
                "rank": [effect.estimate for effect in ranks],
                "low": [effect.low for effect in ranks],
                "high": [effect.high for effect in ranks],
                "regret": [
                    statistics.interquartile_mean(column) if len(column) > 1 else float(column[0])
                    for column in regrets.T
                ],
                "width": [widths[name] for name in names],
                "failures": lost.mean(axis=(0, 2)),
                "trials": means["trials"].mean()[names].to_numpy(),
                "interior": means["interior"].mean()[names].to_numpy(),
            }
        )
        .sort_values("rank", kind="stable")
        .reset_index(drop=True)
    )


def select(table: pd.DataFrame, **which) -> pd.DataFrame:
    """The rows of ``trials`` or ``report`` that match; horizon 1 (or the only one) by default."""
    horizons = sorted(set(table["horizon"]))
    which.setdefault("horizon", horizons[0] if len(horizons) == 1 else 1.0)
    for column, wanted in which.items():
        _checks.choice("which", column, METHOD)
        found = list(dict.fromkeys(table[column]))
        wanted = wanted if isinstance(wanted, list | tuple) else [wanted]
        for one in wanted:
            _checks.choice(column, one, found)
        table = table[table[column].isin(wanted)]
    if table.empty:
        _checks.fail("which", which, "must match some runs")
    return table


def sensitivity_widths(trials: pd.DataFrame, factor: float = 1.2) -> dict[str, float]:
    """``statistics.robustness_width`` of the best variant of each schedule, mean over settings."""
    trials = trials[trials["kind"] != "scan"]
    widths: dict[str, list[float]] = {}
    for (schedule, *_), rows in trials.groupby(["schedule", "problem", "optimizer", "horizon"]):
        rows = rows[rows["knobs"] == rows.loc[rows["value"].idxmin(), "knobs"]]
        width = statistics.robustness_width(rows["peak"], rows["value"], factor)
        widths.setdefault(schedule, []).append(width)
    return {schedule: float(np.mean(found)) for schedule, found in widths.items()}


def sensitivity(results: Results, **which) -> pd.DataFrame:
    """The trials of every method in order of their peaks, scan left out: curves to draw."""
    trials = select(results.trials, **which)
    keys = [*METHOD, "knobs", "peak"]
    return trials[trials["kind"] != "scan"].sort_values(keys).reset_index(drop=True)


def profile(results: Results, at: Iterable[float], **which) -> pd.DataFrame:
    """Share of settings in which a schedule's mean loss is within a factor of the best.

    [factors ``at`` x schedules]; see ``statistics.performance_profile``.
    """
    table, at = ratios(select(results.report, **which)), list(at)
    shares = statistics.performance_profile(table, at)
    return pd.DataFrame(shares.T, pd.Index(at, name="factor"), table.columns)


def best_of_k(results: Results, **which) -> pd.DataFrame:
    """Expected regret of the best of k trials, [k x schedules], mean over settings.

    The trials are those of the grid, as many for every method, drawn without order. Regret is
    (loss - lowest loss of the setting) / (chance - lowest), at most 1: a trial that ends above
    chance has learned nothing.
    """
    trials = select(results.trials, **which)
    trials, curves = trials[trials["kind"] == "grid"], {}
    for (problem, *_), setting in trials.groupby(["problem", "optimizer", "horizon"], sort=False):
        lowest = setting["value"].min()
        ((chance,),) = _chances([(problem,)], results.provenance.get("chance"))
        for schedule, rows in setting.groupby("schedule", sort=False):
            scaled = (rows["value"] - lowest) / max(chance - lowest, np.finfo(float).tiny)
            curve = statistics.expected_best(np.minimum(scaled, 1.0))
            curves.setdefault(schedule, []).append(curve)
    table = pd.DataFrame({schedule: np.mean(found, axis=0) for schedule, found in curves.items()})
    return table.set_index(pd.RangeIndex(1, len(table) + 1, name="k"))


def anytime(results: Results, **which) -> pd.DataFrame:
    """``ranking`` at each horizon, one under the other: every run was planned for its horizon.

    Choose an ``optimizer`` where they were not all run at all horizons.
    """
    every = sorted(set(results.report["horizon"]))
    horizons = sorted(set(select(results.report, horizon=every, **which)["horizon"]))
    return pd.concat(
        [ranking(results, **{**which, "horizon": h}).assign(horizon=h) for h in horizons],
        ignore_index=True,
    )


def against(results: Results, baseline: str = "constant", **which) -> pd.DataFrame:
    """P(a run ends below a run of ``baseline``) for every other schedule, over all settings."""
    values, _, names = cube(select(results.report, **which))
    base = values[:, names.index(_checks.choice("baseline", baseline, names))]
    rows = []
    for i, name in enumerate(names):
        if name != baseline:
            effect = statistics.improvement(values[:, i], base)
            rows.append((name, effect.estimate, effect.low, effect.high))
    return pd.DataFrame(rows, columns=["schedule", "estimate", "low", "high"])


def worst_case(results: Results, **which) -> pd.DataFrame:
    """Schedules, the safest first: largest regret over the settings, and how sure the order is.

    Columns: schedule, regret, problem, optimizer, horizon (of that setting), first (share of
    2,000 resamplings of the report seeds, the same for all methods, in which the schedule's
    worst regret is the smallest). The tuned peaks are held fixed.
    """
    report = select(results.report, **which)
    known = results.provenance.get("chance")
    table = regret(report, known)
    values, settings, names = cube(report)
    chance = _chances(settings, known)
    draws = np.random.default_rng(0).integers(values.shape[2], size=(2000, values.shape[2]))
    means = np.stack([values[:, :, draw].mean(axis=2) for draw in draws])
    winners = _regret(means, chance).max(axis=1).argmin(axis=1)
    worst = table.to_numpy().argmax(axis=0)
    rows = {
        "schedule": names,
        "regret": table.to_numpy().max(axis=0),
        **{key: [settings[i][k] for i in worst] for k, key in enumerate(table.index.names)},
        "first": np.bincount(winners, minlength=len(names)) / len(draws),
    }
    return pd.DataFrame(rows).sort_values("regret", kind="stable").reset_index(drop=True)


def paired(results: Results, name: str, baseline: str, **which) -> pd.DataFrame:
    """Log loss of ``name`` minus that of ``baseline`` in each setting, paired by seed.

    Columns: problem, optimizer, horizon, estimate, low, high (95 % BCa interval of the mean).
    """
    values, settings, names = cube(select(results.report, **which))
    for given in (name, baseline):
        _checks.choice("schedule", given, names)
    # A loss of 0 (an exact quadratic may reach it) has no logarithm.
    logs = np.log(np.maximum(values, 1e-12))
    effects = [
        statistics.paired_effect(setting[names.index(baseline)], setting[names.index(name)])
        for setting in logs
    ]
    columns = ["problem", "optimizer", "horizon", "estimate", "low", "high"]
    rows = [(*s, e.estimate, e.low, e.high) for s, e in zip(settings, effects, strict=True)]
    return pd.DataFrame(rows, columns=columns)
