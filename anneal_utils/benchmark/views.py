"""What the results say, as tables: standings, worst cases, budgets, usable ranges."""

from anneal_utils import _checks, statistics
from anneal_utils.benchmark.contrasts import (
    difference,
    kind,
    percent,
    pooled,
    require_scale,
    summary,
)
from anneal_utils.benchmark.draws import Drawn
from anneal_utils.benchmark.evidence import SETTING, Evidence

import numpy as np
import pandas as pd


def common(drawn: Drawn, horizon: float = 1.0) -> list[str]:
    """Methods that were compared in every setting of the horizon, in the plan's order."""
    tables = [table for (_, _, at), table in drawn.values.items() if at == horizon]
    if not tables:
        _checks.fail("horizon", horizon, "must be one of the results")
    found = [name for name in tables[0] if all(name in table for table in tables)]
    if not found:
        _checks.fail("evidence", "no method", "must hold one that was compared in every setting")
    return found


def standings(drawn: Drawn, *, level: float = 0.95, methods=None, **which) -> pd.DataFrame:
    """Methods, best first, and which of them may be the best.

    Columns: schedule; percent, low, high: loss over that of the first one, these problems;
    kind_low, kind_high: the same for all problems of these kinds; best: whether the method may be
    the best. That is a confidence set: with the chance ``level`` the best one is in it (Hsu 1981,
    multiple comparisons with the best, here by the draws' largest standardised difference).
    ``methods``: default, those of :func:`common`. ``which``: as in ``contrasts.difference``.
    """
    require_scale(drawn, "log")
    methods = common(drawn, which.get("horizon", 1.0)) if methods is None else list(methods)
    apart = {name: difference(drawn, [{"method": name}], [], **which) for name in methods}
    values = np.array([pooled(apart[name], drawn) for name in methods])
    leader = methods[int(values[:, 0].argmin())]
    may_be = may_be_best(values, level)
    rows = []
    for i, name in enumerate(methods):
        over = {problem: apart[name][problem] - apart[leader][problem] for problem in apart[name]}
        effect, low, high, _ = summary(pooled(over, drawn), level)
        ends = percent([effect, low, high, *kind(over, drawn, level)])
        columns = ("percent", "low", "high", "kind_low", "kind_high")
        rows.append({"schedule": name, **dict(zip(columns, ends, strict=True)), "best": may_be[i]})
    return pd.DataFrame(rows).sort_values("percent", kind="stable", ignore_index=True)


def may_be_best(values: np.ndarray, level: float) -> list[bool]:
    """Whether each method [methods, 1 + draws] may be the one with the lowest mean."""
    found = []
    for i in range(len(values)):
        over = np.delete(values[i] - values, i, axis=0)
        if not len(over):
            return [True]
        luck = over[:, 1:] - over[:, 1:].mean(axis=1, keepdims=True)
        spread = np.maximum(luck.std(axis=1), 1e-12)
        bound = np.quantile((luck / spread[:, None]).max(axis=0), level)
        found.append(bool((over[:, 0] / spread).max() <= bound))
    return found


def worst_case(drawn: Drawn, horizon: float = 1.0) -> pd.DataFrame:
    """Methods, the safest first: the largest loss over the best method's in any setting.

    Columns: schedule, percent, problem, optimizer (of that setting), safest (share of draws in
    which the method's worst setting is the mildest).
    """
    require_scale(drawn, "log")
    methods = common(drawn, horizon)
    settings = [where for where in drawn.values if where[2] == horizon]
    # [settings, 1 + draws, methods]
    stack = np.array([drawn.values[where][methods].to_numpy() for where in settings])
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
    require_scale(drawn, "log")
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


def budget(evidence: Evidence, horizon: float = 1.0, families=()) -> pd.DataFrame:
    """Expected loss of the best of k trials over the best trial of the setting, [k x methods].

    A trial is chosen on the tune part and valued on the test part, that of the setting too: the
    lowest test loss of so many trials would be luck. Geometric mean over settings; groups weigh
    alike, and in a group its ``families`` (lists of problems that share data; another problem is
    its own); in percent. Methods that were tried in every setting, up to the smallest number of
    trials.
    """
    shared = {problem: str(sorted(family)) for family in map(set, families) for problem in family}
    curves: dict[str, dict[str, dict[str, list]]] = {}
    settings = [
        (problem, rows)
        for (problem, _, at), rows in _final(evidence).groupby(level=SETTING, sort=False)
        if at == horizon
    ]
    everywhere = [set(rows.index.get_level_values("schedule")) for _, rows in settings]
    shortest = min(
        len(part) for _, rows in settings for _, part in rows.groupby(level="schedule", sort=False)
    )
    for problem, rows in settings:
        best = np.log(max(rows["test"].loc[rows["tune"].idxmin()], 1e-12))
        group, family = evidence.provenance[problem]["group"], shared.get(problem, problem)
        for name, part in rows.groupby(level="schedule", sort=False):
            if all(name in of for of in everywhere):
                ordered = np.log(np.maximum(part.sort_values("tune")["test"].to_numpy(), 1e-12))
                curve = statistics.expected_best_by_rank(ordered)[:shortest] - best
                families_ = curves.setdefault(name, {}).setdefault(group, {})
                families_.setdefault(family, []).append(curve)

    def mean(some):
        return np.mean(list(some), axis=0)

    table = {
        name: percent(mean(mean(mean(c) for c in of.values()) for of in groups.values()))
        for name, groups in curves.items()
    }
    frame = pd.DataFrame(table)
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
