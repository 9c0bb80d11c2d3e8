"""Comparisons in words: paired differences with two intervals, and what they allow to be said."""

from collections.abc import Iterable, Mapping

from anneal_utils import _checks, statistics
from anneal_utils.benchmark.draws import Drawn

import numpy as np
import pandas as pd

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


def pooled(differences: Mapping[str, np.ndarray], groups: Mapping[str, str], seed: int = 0):
    """(mean [1 + draws] over these problems, the same with problems drawn again).

    Groups of problems weigh alike, and within a group its problems. The second draws the problems
    of each group again, with replacement: what might have come out on other problems of the kind.
    """
    rng = np.random.default_rng(seed)
    by_group: dict[str, list[np.ndarray]] = {}
    for problem, values in differences.items():
        by_group.setdefault(groups[problem], []).append(values)
    these, new = [], []
    for values in by_group.values():
        stack = np.array(values)  # [problems, 1 + draws]
        picks = rng.integers(len(stack), size=stack.shape)
        picks[:, 0] = np.arange(len(stack))
        these.append(stack.mean(axis=0))
        new.append(np.take_along_axis(stack, picks, axis=0).mean(axis=0))
    return np.mean(these, axis=0), np.mean(new, axis=0)


def summary(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float, float]:
    """(estimate, low, high, two-sided p) of ``values`` [1 + draws]; percentiles of the draws."""
    rest = values[1:]
    low, high = np.quantile(rest, [(1 - level) / 2, (1 + level) / 2])
    below = min((rest <= 0).sum(), (rest >= 0).sum())
    return float(values[0]), float(low), float(high), float(min(1, 2 * (below + 1) / values.size))


def verdict(low: float, high: float, margin: float) -> str:
    """What an interval of a log ratio allows to be said; ``margin``: the least effect that matters.

    "lower" and "higher": it lies on one side of 0. "as good": within the margin on both sides,
    whatever the side. "not told apart": all else.
    """
    inside = -np.log1p(margin) < low and high < np.log1p(margin)
    if inside:
        return "as good"
    if high < 0:
        return "lower"
    return "higher" if low > 0 else "not told apart"


def table(
    drawn: Drawn, contrasts: Iterable[Mapping], *, margin: float, level: float = 0.95, **which
):
    """A row for each contrast: its effect in percent, both intervals, p after Holm, the verdicts.

    Columns: name, problems, percent, low, high, p (Holm over the rows), verdict (these problems);
    new_low, new_high, new_verdict (a new problem); and ``lower``, ``higher``: problems in which
    the interval of that problem alone lies on one side.
    """
    if drawn.scale != "log":
        _checks.fail("drawn", drawn.scale, 'must have the scale "log"')
    rows, pvalues = [], []
    for contrast in contrasts:
        found = difference(drawn, contrast["plus"], contrast["minus"], **which)
        these, new = pooled(found, drawn.groups)
        effect, low, high, p = summary(these, level)
        _, new_low, new_high, _ = summary(new, level)
        alone = [summary(values, level) for values in found.values()]
        pvalues.append(p)
        rows.append(
            {
                "name": contrast["name"],
                "problems": len(found),
                **dict(zip(("percent", "low", "high"), percent([effect, low, high]), strict=True)),
                "verdict": verdict(low, high, margin),
                **dict(zip(("new_low", "new_high"), percent([new_low, new_high]), strict=True)),
                "new_verdict": verdict(new_low, new_high, margin),
                "lower": sum(high < 0 for _, _, high, _ in alone),
                "higher": sum(low > 0 for _, low, _, _ in alone),
            }
        )
    frame = pd.DataFrame(rows)
    frame.insert(5, "p", statistics.holm(pvalues))
    return frame


def percent(logs) -> np.ndarray:
    """Log ratios as differences in percent."""
    return 100 * np.expm1(np.asarray(logs, float))
