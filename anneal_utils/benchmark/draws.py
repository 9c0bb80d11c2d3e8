"""What each method reaches, and how else it might have come out: the nested bootstrap.

A method's value in a setting is what a random search of ``best_of`` trials is expected to reach:
the trials are ranked by their mean on the tune part, and the i-th of n (from 0) is the winner of
k of them with probability C(n-1-i, k-1) / C(n, k) (Dodge et al. 2019, there for the loss itself);
the value is the mean report of the trials with these weights. Smooth in the ranks, so that the
bootstrap holds where that of a single winner would not.

A draw repeats all of it with other luck: other trials (the points of the design, the same for all
methods of a setting), other tuning seeds (ranked anew), other report seeds (the seeds of a problem
are the same for all its methods and settings: runs are paired).
"""

from dataclasses import dataclass

from anneal_utils import _checks
from anneal_utils.benchmark.evidence import SETTING, Evidence

import numpy as np
import pandas as pd

SCALES = ("log", "learned")


@dataclass(frozen=True)
class Drawn:
    """Values of methods in settings: as measured, and drawn again.

    ``values``: ``{(problem, optimizer, horizon): frame [1 + draws, methods]}``, row 0 as measured.
    ``groups``: the group of each problem. ``scale``: "log" (mean log loss: differences are ratios)
    or "learned" (loss in shares of what there was to learn: chance minus the best method's loss).
    """

    values: dict[tuple, pd.DataFrame]
    groups: dict[str, str]
    scale: str


def drawn(
    evidence: Evidence, *, best_of: int = 16, draws: int = 2000, seed: int = 0, scale: str = "log"
) -> Drawn:
    """The values of all methods in all settings of the evidence, as measured and drawn again.

    ``best_of``: trials of the search whose expected result is reported, at most those that were
    tried. ``ValueError`` for a ``scale`` other than "log" and "learned".
    """
    _checks.choice("scale", scale, SCALES)
    _checks.count("draws", draws, low=0)
    _checks.count("best_of", best_of)
    values = {}
    reports = dict(iter(evidence.report.groupby(SETTING, sort=False)))
    for number, (problem, settings) in enumerate(evidence.trials.groupby("problem", sort=False)):
        facts = evidence.provenance[problem]
        rng = np.random.default_rng([seed, number])
        seeds: dict = {}  # weights of the problem's seeds, by how many there are
        for where, trials in settings.groupby(SETTING, sort=False):
            trials = trials[trials["widened"] == trials["widened"].max()]
            names, tune, report, chosen = _arrays(trials, reports[where])
            for part in (tune, report):
                seeds.setdefault(part.shape[-1], weights_of(rng, draws, part.shape[-1]))
            points = _counts(rng, draws, tune.shape[1])
            ranks = _winners(tune, seeds[tune.shape[-1]], points, chosen, best_of)
            found = _transformed(report, facts["chance"], scale) @ seeds[report.shape[-1]].T
            table = np.einsum("bmc,mcb->bm", ranks, found)
            if scale == "learned":
                table /= max(facts["chance"] - table[0].min(), np.finfo(float).tiny)
            values[where] = pd.DataFrame(table, columns=names)
    groups = {problem: facts["group"] for problem, facts in evidence.provenance.items()}
    return Drawn(values, groups, scale)


def _arrays(trials: pd.DataFrame, report: pd.DataFrame):
    """(methods, tune [methods, trials, seeds], report [methods, candidates, seeds], candidates).

    ``candidates`` [methods, candidates]: their trials. ``ValueError`` unless all methods have as
    many.
    """
    names = list(dict.fromkeys(trials["schedule"]))
    tune = _cube("trials", trials, names, "tune")
    chosen = [list(dict.fromkeys(report.loc[report["schedule"] == n, "trial"])) for n in names]
    return names, tune, _cube("report", report, names, "test"), np.array(chosen)


def _cube(argument: str, table: pd.DataFrame, names: list, column: str) -> np.ndarray:
    seeds = table["seed"].nunique()
    each = table.groupby("schedule", sort=False).size()
    if set(each) != {len(table) // len(names)} or len(table) % (len(names) * seeds):
        _checks.fail(argument, each.to_dict(), "must hold as many rows of every method")
    # Stable, so that candidates keep their order: the best first.
    ordered = table.assign(method=pd.Categorical(table["schedule"], names))
    number = ordered.groupby(["schedule", "trial"], sort=False).ngroup()
    ordered = ordered.assign(number=number).sort_values(["method", "number", "seed"], kind="stable")
    return ordered[column].to_numpy(float).reshape(len(names), -1, seeds)


def _counts(rng, draws: int, n: int) -> np.ndarray:
    """How often each of n is drawn, [1 + draws, n]; the first row: once each."""
    drawn_ = rng.multinomial(n, np.full(n, 1 / n), size=draws)
    return np.concatenate([np.ones((1, n), int), drawn_])


def weights_of(rng, draws: int, n: int) -> np.ndarray:
    """Weights of n seeds in a mean, [1 + draws, n]: drawn again, the first row as measured."""
    return _counts(rng, draws, n) / n


def _winners(tune, seeds, points, chosen, best_of: int) -> np.ndarray:
    """The probability that a candidate wins a search, [1 + draws, methods, candidates]."""
    means = np.einsum("mts,bs->bmt", tune, seeds)
    n = means.shape[-1]
    order = np.argsort(means, axis=-1, kind="stable")
    counts = np.take_along_axis(np.broadcast_to(points[:, None], means.shape), order, axis=-1)
    after = np.cumsum(counts, axis=-1)
    beyond = _none_of(n, min(best_of, n))  # probability that no trial of the first i is drawn
    weights = np.empty(means.shape)
    np.put_along_axis(weights, order, beyond[after - counts] - beyond[after], axis=-1)
    found = np.take_along_axis(weights, np.broadcast_to(chosen, (len(means), *chosen.shape)), -1)
    # What the candidates do not cover is theirs in proportion; if it is all, the best one's.
    total = found.sum(axis=-1, keepdims=True)
    best = np.take_along_axis(means, np.broadcast_to(chosen, (len(means), *chosen.shape)), -1)
    alone = best == best.min(axis=-1, keepdims=True)
    return np.where(total > 0, found, alone) / np.where(total > 0, total, alone.sum(-1)[..., None])


def _none_of(n: int, k: int) -> np.ndarray:
    """C(n - i, k) / C(n, k) for i = 0 .. n: none of the first i of n is among k drawn."""
    from scipy.special import comb

    return comb(n - np.arange(n + 1), k) / comb(n, k)


def _transformed(report: np.ndarray, chance: float, scale: str) -> np.ndarray:
    # A loss of 0 (an exact quadratic may reach it) has no logarithm.
    return np.log(np.maximum(report, 1e-12)) if scale == "log" else report


def coverage(evidence: Evidence, best_of: int = 16) -> float:
    """Least share of a search's winners that are among the reported candidates, as measured."""
    shares = []
    reports = dict(iter(evidence.report.groupby(SETTING, sort=False)))
    for where, trials in evidence.trials.groupby(SETTING, sort=False):
        trials = trials[trials["widened"] == trials["widened"].max()]
        n, most = trials["trial"].nunique(), reports[where].groupby("schedule")["trial"].nunique()
        shares.append(1 - _none_of(n, min(best_of, n))[most.min()])
    return float(min(shares))
