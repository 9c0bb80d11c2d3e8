"""What each method reaches, and how else it might have come out: the nested bootstrap.

A method's value in a setting is what a random search of ``best_of`` trials is expected to reach:
the trials are ranked by their mean on the tune part, and the i-th of n (from 0) is the winner of
k of them with probability C(n-1-i, k-1) / C(n, k) (Dodge et al. 2019, there for the loss itself);
the value is the mean report of the trials with these weights. Smooth in the ranks, so that the
bootstrap holds where that of a single winner would not.

A draw repeats all of it with other luck: other trials (the points of the design, the same for all
methods of a setting), other tuning seeds (ranked anew), other report seeds. The seeds of a problem
are the same for all its methods and settings, since runs are paired; problems that share their
data are a family and share them too. Drawn with replacement, the best trial is absent more often
than in a search of other points, so draws lie above what was measured, more so for a method with
few good trials: intervals are read from their spread, around what was measured (``contrasts``).
"""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from anneal_utils import _checks
from anneal_utils.benchmark.evidence import SETTING, Evidence

import numpy as np
import pandas as pd

SCALES = ("log", "learned")
SEEDS = ("tune", "report")  # those that trials ran with, and those that candidates ran with again


@dataclass(frozen=True)
class Drawn:
    """Values of methods in settings: as measured, and drawn again.

    ``values``: ``{(problem, optimizer, horizon): frame [1 + draws, methods]}``, row 0 as measured.
    ``groups``, ``families``: the group and the family of each problem. ``scale``: "log" (mean log
    loss: differences are ratios) or "learned" (loss in shares of what there was to learn: chance
    minus the loss of the best method of those that were given).
    """

    values: dict[tuple, pd.DataFrame]
    groups: dict[str, str]
    scale: str
    families: dict[str, str] = field(default_factory=dict)

    def family(self, problem: str) -> str:
        """Of the problem; its own where it shares its data with no other."""
        return self.families.get(problem, problem)


def drawn(
    evidence: Evidence,
    *,
    best_of: int = 16,
    draws: int = 2000,
    seed: int = 0,
    scale: str = "log",
    families: Iterable[Iterable[str]] = (),
) -> Drawn:
    """The values of all methods in all settings of the evidence, as measured and drawn again.

    ``best_of``: trials of the search whose expected result is reported, at most those that were
    tried. ``families``: lists of problems that share their data. ``ValueError`` for a ``scale``
    other than "log" and "learned", and for values below 0, which have no logarithm.
    """
    _checks.choice("scale", scale, SCALES)
    _checks.count("draws", draws, low=1)
    _checks.count("best_of", best_of)
    values = {}
    reports = dict(iter(evidence.report.groupby(SETTING, sort=False)))
    of = {problem: str(sorted(family)) for family in map(set, families) for problem in family}
    for problem, settings in evidence.trials.groupby("problem", sort=False):
        facts = evidence.provenance[problem]
        rng = np.random.default_rng([seed, zlib.crc32(problem.encode())])
        family = of.get(problem, problem)
        seeds: dict = {}  # weights, by which seeds and how many
        for where, trials in settings.groupby(SETTING, sort=False):
            trials = trials[trials["widened"] == trials["widened"].max()]
            names, tune, report, chosen = _arrays(trials, reports[where])
            for key in (("tune", tune.shape[-1]), ("report", report.shape[-1])):
                if key not in seeds:
                    seeds[key] = seed_weights(family, *key, draws, seed)
            points = _counts(rng, draws, tune.shape[1])
            ranks = _winners(tune, seeds["tune", tune.shape[-1]], points, chosen, best_of)
            found = _transformed(report, scale) @ seeds["report", report.shape[-1]].T
            table = np.einsum("bmc,mcb->bm", ranks, found)
            if scale == "learned":
                table /= max(facts["chance"] - table[0].min(), np.finfo(float).tiny)
            values[where] = pd.DataFrame(table, columns=names)
    groups = {problem: facts["group"] for problem, facts in evidence.provenance.items()}
    return Drawn(values, groups, scale, of)


def _arrays(trials: pd.DataFrame, report: pd.DataFrame):
    """(methods, tune [methods, trials, seeds], report [methods, candidates, seeds], candidates).

    ``candidates`` [methods, candidates]: their trials. ``ValueError`` unless all methods have as
    many.
    """
    names = list(dict.fromkeys(trials["schedule"]))
    trials = trials.sort_values("trial", kind="stable")  # a row's place is its trial's number
    tune = _cube("trials", trials, names, "tune")
    if trials["trial"].max() + 1 != tune.shape[1]:
        _checks.fail("trials", sorted(set(trials["trial"])), "must be counted from 0, none missing")
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


def seed_weights(family: str, kind: str, n: int, draws: int, seed: int = 0) -> np.ndarray:
    """Weights of n seeds in a mean, [1 + draws, n]: drawn again, the first row as measured.

    ``family``: as ``Drawn.family`` names it; its problems have the same weights. ``kind``: "tune"
    or "report", which are drawn apart even where there are as many.
    """
    _checks.choice("kind", kind, SEEDS)
    rng = np.random.default_rng([seed, zlib.crc32(family.encode()), SEEDS.index(kind)])
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


def _transformed(report: np.ndarray, scale: str) -> np.ndarray:
    if scale == "log" and not (report >= 0).all():
        _checks.fail("report", float(np.nanmin(report)), "must be losses >= 0 for a log scale")
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
