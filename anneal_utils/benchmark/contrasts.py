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

    "as good": within the margin on both sides (never, if it is 0). "lower" and "higher": else, on
    one side of 0 (NaN: on none). "not told apart": all else.
    """
    inside = -np.log1p(margin) < low and high < np.log1p(margin)
    if inside:
        return "as good"
    if high < 0:
        return "lower"
    return "higher" if low > 0 else "not told apart"


def differences(drawn: Drawn, contrasts: Iterable[Mapping], **which) -> list[dict]:
    """The differences of each contrast, as :func:`difference` gives them."""
    return [difference(drawn, one["plus"], one["minus"], **which) for one in contrasts]


def effects(found: Iterable[Mapping], drawn: Drawn, *, margin, level=0.95) -> pd.DataFrame:
    """A row for each of ``found``, which are :func:`differences`.

    Columns: effect, low, high (these problems; in the unit of the differences); p (Holm over the
    rows); verdict: "lower" and "higher" only where p says so too.
    """
    rows = [summary(pooled(differences, drawn), level) for differences in found]
    frame = pd.DataFrame(rows, columns=["effect", "low", "high", "p"])
    frame["p"] = statistics.holm(frame["p"])
    words = [verdict(low, high, margin) for low, high in frame[["low", "high"]].values]
    unsure = frame["p"] > 1 - level
    frame["verdict"] = [
        "not told apart" if word in ("lower", "higher") and no else word
        for word, no in zip(words, unsure, strict=True)
    ]
    return frame


def table(drawn: Drawn, contrasts: Iterable[Mapping], *, margin: float, level=0.95, **which):
    """A row for each contrast: its effect in percent, its intervals, p after Holm, the verdicts.

    Columns: name; problems (how many); percent, low, high, p, verdict (as in :func:`effects`);
    kind_low, kind_high, kind_verdict (mean over all problems of these kinds, see :func:`kind`);
    ``lower``, ``higher``: problems whose own interval lies on one side, uncorrected.
    """
    require_scale(drawn, "log")
    contrasts = list(contrasts)
    found = differences(drawn, contrasts, **which)
    frame = effects(found, drawn, margin=margin, level=level).rename(columns={"effect": "percent"})
    ends = ["percent", "low", "high"]
    frame[ends] = percent(frame[ends])
    frame.insert(0, "name", [contrast["name"] for contrast in contrasts])
    frame.insert(1, "problems", [len(of) for of in found])
    kinds = [kind(of, drawn, level) for of in found]
    frame[["kind_low", "kind_high"]] = percent(kinds)
    frame["kind_verdict"] = [verdict(*pair, margin) for pair in kinds]
    alone = [[summary(values, level) for values in of.values()] for of in found]
    frame["lower"] = [sum(high < 0 for _, _, high, _ in of) for of in alone]
    frame["higher"] = [sum(low > 0 for _, low, _, _ in of) for of in alone]
    return frame


def require_scale(drawn: Drawn, scale: str) -> None:
    """``ValueError`` unless the draws are on this one of the ``draws.SCALES``."""
    if drawn.scale != scale:
        _checks.fail("drawn", drawn.scale, f'must have the scale "{scale}"')


def percent(logs) -> np.ndarray:
    """Log ratios as differences in percent."""
    return 100 * np.expm1(np.asarray(logs, float))
