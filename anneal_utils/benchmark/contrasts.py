"""Comparisons in words: paired differences with two intervals, and what they allow to be said."""

from collections.abc import Iterable, Mapping

from anneal_utils import _checks, statistics
from anneal_utils.benchmark.draws import Drawn

import numpy as np
import pandas as pd
from scipy import stats

VERDICTS = ("lower", "higher", "as good", "not told apart")


def difference(drawn: Drawn, plus: Iterable[Mapping], minus: Iterable[Mapping], **which):
    """``{problem: differences [1 + draws]}``: the sum of ``plus`` minus the sum of ``minus``.

    A term is ``{"method": label}``, in the mean over the optimizers that have been compared on the
    problem, or ``{"method": label, "optimizer": name}``. ``which``: ``horizon`` (default 1),
    ``optimizers``, ``problems``: only these. Problems that lack a term are left out; ``ValueError``
    where none has them all.
    """
    horizon = which.pop("horizon", 1.0)
    optimizers, problems = which.pop("optimizers", None), which.pop("problems", None)
    if which:
        _checks.fail("which", next(iter(which)), "must be horizon, optimizers or problems")
    tables: dict[str, dict[str, pd.DataFrame]] = {}
    for (problem, optimizer, at), table in drawn.values.items():
        wanted = optimizers is None or optimizer in optimizers
        if at == horizon and wanted and (problems is None or problem in problems):
            tables.setdefault(problem, {})[optimizer] = table
    signed = [(term, 1) for term in plus] + [(term, -1) for term in minus]
    found = {}
    for problem, of in tables.items():
        needed = {term["method"] for term, _ in signed if "optimizer" not in term}
        shared = [table for table in of.values() if needed <= set(table.columns)]
        named = [
            term["optimizer"] in of and term["method"] in of[term["optimizer"]]
            for term, _ in signed
            if "optimizer" in term
        ]
        if all(named) and (shared or not needed):
            found[problem] = sum(
                sign
                * (
                    of[term["optimizer"]][term["method"]].to_numpy()
                    if "optimizer" in term
                    else np.mean([table[term["method"]].to_numpy() for table in shared], axis=0)
                )
                for term, sign in signed
            )
    if not found:
        _checks.fail("terms", [term for term, _ in signed], "must have been compared somewhere")
    return found


def pooled(differences: Mapping[str, np.ndarray], drawn: Drawn) -> np.ndarray:
    """The mean over these problems, [1 + draws].

    Groups of problems weigh alike; within a group its families, within a family its problems.
    """
    return np.mean([np.mean(some, axis=0) for some in _families(differences, drawn)], axis=0)


def _families(differences: Mapping[str, np.ndarray], drawn: Drawn) -> list[np.ndarray]:
    """The means of the families of each group, a list of [families, 1 + draws]."""
    groups: dict[str, dict[str, list[np.ndarray]]] = {}
    for problem, values in differences.items():
        families = groups.setdefault(drawn.groups[problem], {})
        families.setdefault(drawn.family(problem), []).append(values)
    return [np.array([np.mean(some, axis=0) for some in of.values()]) for of in groups.values()]


def kind(differences: Mapping[str, np.ndarray], drawn: Drawn, level: float = 0.95):
    """Interval (low, high) of the mean over all problems of these kinds, of which we have a sample.

    By Student's t from the families' means as measured, stratified by group (Welch and
    Satterthwaite's degrees of freedom): it holds what differs from problem to problem and the luck
    of each. NaN where a group has one family: one tells nothing of the others.
    """
    parts = [values[:, 0] for values in _families(differences, drawn)]
    if min(map(len, parts)) < 2:
        return float("nan"), float("nan")
    spread = np.array([part.var(ddof=1) / len(part) for part in parts]) / len(parts) ** 2
    mean, total = float(np.mean([part.mean() for part in parts])), spread.sum()
    if total == 0:
        return mean, mean
    freedom = total**2 / sum(s**2 / (len(p) - 1) for s, p in zip(spread, parts, strict=True))
    half = float(stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(total))
    return mean - half, mean + half


def summary(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float, float]:
    """(estimate, low, high, two-sided p) of ``values`` [1 + draws].

    Percentiles of the draws, moved so that their mean is what was measured (see ``draws``).
    """
    rest = values[1:] - values[1:].mean() + values[0]
    low, high = np.quantile(rest, [(1 - level) / 2, (1 + level) / 2])
    below = min((rest <= 0).sum(), (rest >= 0).sum())
    return float(values[0]), float(low), float(high), float(min(1, 2 * (below + 1) / values.size))


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval of a log ratio allows to be said; ``margin``: the least effect that matters.

    "as good": within the margin on both sides. "lower" and "higher": else, on one side of 0 (NaN:
    on none). "not told apart": all else.
    """
    inside = -np.log1p(margin) < low and high < np.log1p(margin)
    if inside:
        return "as good"
    if high < 0:
        return "lower"
    return "higher" if low > 0 else "not told apart"


def table(drawn: Drawn, contrasts: Iterable[Mapping], *, margin: float, level=0.95, **which):
    """A row for each contrast: its effect in percent, its intervals, p after Holm, the verdicts.

    Columns: name; problems (how many); percent, low, high (these problems); p (Holm over the rows);
    verdict: "lower" and "higher" only where p says so too; kind_low, kind_high, kind_verdict (mean
    over all problems of these kinds, see :func:`kind`); ``lower``, ``higher``: problems whose own
    interval lies on one side, uncorrected.
    """
    require_logs(drawn)
    rows, pvalues = [], []
    for contrast in contrasts:
        found = difference(drawn, contrast["plus"], contrast["minus"], **which)
        effect, low, high, p = summary(pooled(found, drawn), level)
        ends = kind(found, drawn, level)
        alone = [summary(values, level) for values in found.values()]
        pvalues.append(p)
        rows.append(
            {
                "name": contrast["name"],
                "problems": len(found),
                **dict(zip(("percent", "low", "high"), percent([effect, low, high]), strict=True)),
                "verdict": verdict(low, high, margin),
                **dict(zip(("kind_low", "kind_high"), percent(ends), strict=True)),
                "kind_verdict": verdict(*ends, margin),
                "lower": sum(high < 0 for _, _, high, _ in alone),
                "higher": sum(low > 0 for _, low, _, _ in alone),
            }
        )
    frame = pd.DataFrame(rows)
    frame.insert(5, "p", statistics.holm(pvalues))
    unsure = frame["verdict"].isin(["lower", "higher"]) & (frame["p"] > 1 - level)
    frame["verdict"] = frame["verdict"].where(~unsure, "not told apart")
    return frame


def require_logs(drawn: Drawn) -> None:
    """``ValueError`` unless differences are ratios of losses."""
    if drawn.scale != "log":
        _checks.fail("drawn", drawn.scale, 'must have the scale "log"')


def percent(logs) -> np.ndarray:
    """Log ratios as differences in percent."""
    return 100 * np.expm1(np.asarray(logs, float))
