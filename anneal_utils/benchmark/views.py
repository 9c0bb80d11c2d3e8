"""What the results say, as tables: standings, worst cases, budgets, usable ranges, horizons."""

from anneal_utils import _checks, statistics
from anneal_utils.benchmark.contrasts import difference, percent, pooled, summary, verdict
from anneal_utils.benchmark.draws import Drawn
from anneal_utils.benchmark.evidence import SETTING, Evidence
from anneal_utils.benchmark.tuning import CUTS

import numpy as np
import pandas as pd


def common(drawn: Drawn, horizon: float = 1.0) -> list[str]:
    """Methods that were compared in every setting of the horizon, in the plan's order."""
    tables = [table for (_, _, at), table in drawn.values.items() if at == horizon]
    if not tables:
        _checks.fail("horizon", horizon, "must be one of the results")
    return [name for name in tables[0] if all(name in table for table in tables)]


def standings(drawn: Drawn, *, margin: float, level: float = 0.95, methods=None, **which):
    """Methods, best first, each by its paired difference to the first one.

    The first is the one whose mean over groups of problems is lowest as measured. Columns:
    schedule; percent, low, high (loss over the first one's, these problems); verdict; new_low,
    new_high (a new problem); first, new_first (share of draws in which the method is the first).
    ``methods``: default, those of :func:`common`. ``which``: as in ``contrasts.difference``.
    """
    methods = common(drawn, which.get("horizon", 1.0)) if methods is None else list(methods)
    means = {
        name: pooled(difference(drawn, [{"method": name}], [], **which), drawn.groups)
        for name in methods
    }
    these = np.array([means[name][0] for name in methods])
    new = np.array([means[name][1] for name in methods])
    leader = int(these[:, 0].argmin())
    rows = []
    for i, name in enumerate(methods):
        effect, low, high, _ = summary(these[i] - these[leader], level)
        _, new_low, new_high, _ = summary(new[i] - new[leader], level)
        rows.append(
            {
                "schedule": name,
                **dict(zip(("percent", "low", "high"), percent([effect, low, high]), strict=True)),
                "verdict": "first" if i == leader else verdict(low, high, margin),
                **dict(zip(("new_low", "new_high"), percent([new_low, new_high]), strict=True)),
                "first": float((these[:, 1:].argmin(axis=0) == i).mean()),
                "new_first": float((new[:, 1:].argmin(axis=0) == i).mean()),
            }
        )
    return pd.DataFrame(rows).sort_values("percent", kind="stable", ignore_index=True)


def worst_case(drawn: Drawn, horizon: float = 1.0) -> pd.DataFrame:
    """Methods, the safest first: the largest loss over the best method's in any setting.

    Columns: schedule, percent, problem, optimizer (of that setting), safest (share of draws in
    which the method's worst setting is the mildest).
    """
    methods = common(drawn, horizon)
    tables = {where: t[methods].to_numpy() for where, t in drawn.values.items()}
    settings = [where for where in tables if where[2] == horizon]
    stack = np.array([tables[where] for where in settings])  # [settings, 1 + draws, methods]
    over = stack - stack.min(axis=-1, keepdims=True)
    worst, where = over.max(axis=0), over[:, 0].argmax(axis=0)
    safest = np.bincount(worst[1:].argmin(axis=1), minlength=len(methods)) / (len(worst) - 1)
    rows = {
        "schedule": methods,
        "percent": percent(worst[0]),
        "problem": [settings[i][0] for i in where],
        "optimizer": [settings[i][1] for i in where],
        "safest": safest,
    }
    return pd.DataFrame(rows).sort_values("percent", kind="stable", ignore_index=True)


def profile(drawn: Drawn, at, horizon: float = 1.0) -> pd.DataFrame:
    """Share of settings in which a method is within a factor of the best, [factors x methods]."""
    methods = common(drawn, horizon)
    settings = [where for where in drawn.values if where[2] == horizon]
    logs = np.array([drawn.values[where][methods].iloc[0] for where in settings])
    ratios = np.exp(logs - logs.min(axis=1, keepdims=True))
    shares = statistics.performance_profile(ratios, at)
    return pd.DataFrame(shares.T, pd.Index(list(at), name="factor"), methods)


def _final(evidence: Evidence) -> pd.DataFrame:
    """Trials of the last range of each setting, seeds in the mean."""
    trials = evidence.trials
    last = trials.groupby(SETTING, sort=False)["widened"].transform("max")
    keys = [*SETTING, "schedule", "trial"]
    return trials[trials["widened"] == last].groupby(keys, sort=False)[["tune", "test"]].mean()


def budget(evidence: Evidence, horizon: float = 1.0) -> pd.DataFrame:
    """Expected loss of the best of k trials over the lowest of the setting, [k x methods].

    The trial is chosen on the tune part and valued on the test part; geometric mean over settings,
    groups weighing alike; in percent.
    """
    curves: dict[str, dict[str, list]] = {}
    for (problem, _, at), rows in _final(evidence).groupby(level=SETTING, sort=False):
        if at != horizon:
            continue
        lowest = np.log(np.maximum(rows["test"].min(), 1e-12))
        group = evidence.provenance[problem]["group"]
        for name, part in rows.groupby(level="schedule", sort=False):
            ordered = np.log(np.maximum(part.sort_values("tune")["test"].to_numpy(), 1e-12))
            curve = statistics.expected_best_by_rank(ordered) - lowest
            curves.setdefault(name, {}).setdefault(group, []).append(curve)
    groups = {group for of in curves.values() for group in of}
    whole = {name: of for name, of in curves.items() if set(of) == groups}
    table = {
        n: np.mean([np.mean(c, axis=0) for c in of.values()], axis=0) for n, of in whole.items()
    }
    frame = pd.DataFrame({name: percent(curve) for name, curve in table.items()})
    return frame.set_index(pd.RangeIndex(1, len(frame) + 1, name="k"))


def usable(evidence: Evidence, factor: float = 1.25, horizon: float = 1.0) -> pd.DataFrame:
    """How forgiving a method is, by setting: against one target that all methods share.

    Columns: problem, optimizer, schedule; ``share``: of the random trials (peak over the whole
    range, warmup and knobs too) that end within ``factor`` times the best trial of any method;
    ``sensitivity``: mean over the trials of min(loss, chance) minus the method's lowest, in shares
    of what there was to learn (after Wortsman et al. 2023, there over peaks alone).
    """
    rows = []
    for (problem, optimizer, at), part in _final(evidence).groupby(level=SETTING, sort=False):
        if at == horizon:
            lowest, chance = part["tune"].min(), evidence.provenance[problem]["chance"]
            for name, own in part["tune"].groupby(level="schedule", sort=False):
                share = float((own <= factor * lowest).mean())
                sensitivity = float((own.mean() - own.min()) / max(chance - lowest, 1e-12))
                rows.append((problem, optimizer, name, share, sensitivity))
    return pd.DataFrame(rows, columns=["problem", "optimizer", "schedule", "share", "sensitivity"])


def anytime(evidence: Evidence, optimizer: str) -> pd.DataFrame:
    """What a run cut off holds against one planned for that horizon, method by method.

    Problems with every horizon alone. Columns: problem, schedule, share (of the long run), planned
    and cut (log tune loss, mean over the report seeds of the best trial). Of a long run (horizon
    1) the tune value at that share; of the planned one its end.
    """
    report = evidence.report[evidence.report["optimizer"] == optimizer]
    first = report.groupby([*SETTING, "schedule"], sort=False)["trial"].transform("first")
    best = report[report["trial"] == first]
    rows = []
    for problem, part in best.groupby("problem", sort=False):
        of = dict(iter(part.groupby("horizon")))
        if not set(CUTS) <= set(of):
            continue
        for cut in CUTS:
            for name, long in of[1.0].groupby("schedule", sort=False):
                planned = of[cut][of[cut]["schedule"] == name]["tune"]
                pair = [
                    np.log(np.maximum(v, 1e-12)).mean() for v in (planned, long[f"tune_{cut:g}"])
                ]
                rows.append((problem, name, cut, *map(float, pair)))
    return pd.DataFrame(rows, columns=["problem", "schedule", "share", "planned", "cut"])
