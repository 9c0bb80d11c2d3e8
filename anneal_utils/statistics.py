"""Thin, named wrappers over SciPy and statsmodels for paired comparisons over seeds.

Every number that a notebook reports is an :class:`Effect`: an estimate with its interval and its
count. Taught in notebook 01.
"""

import itertools
import math
import warnings
from dataclasses import dataclass

from anneal_utils import _checks

import numpy as np
import pandas as pd
from scipy import stats

# What tells runs apart: their identity, which is what they computed, and their labels, since one
# computation may be shown under two names.
RUN = ["run", "problem", "optimizer", "schedule", "peak", "seed"]


@dataclass(frozen=True)
class Effect:
    """An estimate with its confidence interval ``[low, high]`` from ``n`` seeds (or pairs)."""

    estimate: float
    low: float
    high: float
    n: int
    level: float = 0.95
    pvalue: float | None = None

    def __str__(self) -> str:
        """For a table or a title: +0.0263 [0.0251, 0.0275], n = 200."""
        return f"{self.estimate:+.3g} [{self.low:.3g}, {self.high:.3g}], n = {self.n}"


def as_percent(effect: Effect) -> Effect:
    """An effect on a log loss, or a log ratio of losses, as a change in per cent."""
    ends = [100 * math.expm1(value) for value in (effect.estimate, effect.low, effect.high)]
    return Effect(*ends, effect.n, effect.level, effect.pvalue)


SEEDS = "one seed has no interval; it takes at least two, and twenty tell more: set SEEDS higher"


def _finite(argument: str, values, alone: str = SEEDS) -> np.ndarray:
    """At least two finite numbers; ``alone``: what to say of a single one."""
    values = np.asarray(values, float)
    if values.ndim == 1 and len(values) == 1:
        _checks.fail(argument, values.tolist(), alone)
    if values.ndim != 1 or len(values) < 2:
        _checks.fail(argument, f"shape {values.shape}", "must be at least two numbers")
    if not np.isfinite(values).all():
        _checks.fail(
            argument,
            f"{int((~np.isfinite(values)).sum())} values that are not finite",
            "a diverged run needs a penalty: use final(..., penalty=problem.chance_loss)",
        )
    return values


def mean_effect(values, level: float = 0.95) -> Effect:
    """Mean with its BCa bootstrap interval (10,000 resamples, fixed stream)."""
    values = _finite("values", values)
    if np.ptp(values) == 0:  # no spread: BCa is undefined, the interval is a point
        return Effect(*[float(values[0])] * 3, len(values), level)
    for method in ("BCa", "percentile"):
        with warnings.catch_warnings():
            # BCa's correction is 0 / 0 when the values differ by rounding alone, or nearly so.
            warnings.simplefilter("ignore", stats.DegenerateDataWarning)
            warnings.simplefilter("ignore", RuntimeWarning)
            result = stats.bootstrap(
                (values,),
                np.mean,
                n_resamples=9999,
                confidence_level=level,
                method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval
        if np.isfinite([result.low, result.high]).all():
            break
    return Effect(float(values.mean()), float(result.low), float(result.high), len(values), level)


def paired_effect(baseline, other, level: float = 0.95) -> Effect:
    """Mean of ``other - baseline`` over paired seeds, BCa interval, Wilcoxon p-value.

    Series are aligned on their index (the seed); differing seeds are a ``ValueError``.
    """
    if isinstance(baseline, pd.Series) and isinstance(other, pd.Series):
        if set(baseline.index) != set(other.index) or not baseline.index.is_unique:
            _checks.fail("other", sorted(other.index)[:5], "must hold the seeds of baseline")
        other = other.loc[baseline.index]
    baseline, other = _finite("baseline", baseline), _finite("other", other)
    if len(baseline) != len(other):
        _checks.fail("other", f"{len(other)} values", f"must be {len(baseline)}, as baseline")
    difference = other - baseline
    effect = mean_effect(difference, level)
    pvalue = float(stats.wilcoxon(difference).pvalue) if difference.any() else 1.0
    return Effect(effect.estimate, effect.low, effect.high, effect.n, level, pvalue)


def proportion(successes: int, n: int, level: float = 0.95) -> Effect:
    """A share with its Wilson interval."""
    from statsmodels.stats.proportion import proportion_confint

    n = _checks.count("n", n)
    successes = _checks.count("successes", successes, low=0)
    if successes > n:
        _checks.fail("successes", successes, f"must be <= n = {n}")
    low, high = proportion_confint(successes, n, 1 - level, method="wilson")
    return Effect(successes / n, float(low), float(high), n, level)


def holm(pvalues) -> np.ndarray:
    """Holm-adjusted p-values, in the given order.

    Not statsmodels' ``multipletests``, which collects garbage at every call (0.3 s).
    """
    given = np.asarray(list(pvalues), float)
    order, n = np.argsort(given, kind="stable"), len(given)
    found = np.empty(n)
    found[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(n, 0, -1)), 1.0)
    return found


def chance_below(first, second, level: float = 0.95) -> Effect:
    """P(an unpaired run of ``first`` ends below an unpaired run of ``second``).

    The mean over all pairs of different seeds; ties count half. The interval resamples seeds.
    """
    first, second = _finite("first", first), _finite("second", second)
    if len(first) != len(second):
        _checks.fail("second", f"{len(second)} values", f"must be {len(first)}, as first")
    wins = (first[:, None] < second) + 0.5 * (first[:, None] == second)
    n, rng = len(first), np.random.default_rng(0)

    def share(rows):
        weight = np.bincount(rows, minlength=n).astype(float)
        pairs = np.outer(weight, weight)
        np.fill_diagonal(pairs, 0)  # the same seed twice would be a paired run
        return (pairs * wins).sum() / max(pairs.sum(), 1e-12)

    draws = [share(rng.integers(n, size=n)) for _ in range(999)]
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Effect(float(share(np.arange(n))), float(low), float(high), n, level)


def seeds_needed(gap: float, sd: float, power: float = 0.9, alpha: float = 0.05) -> int:
    """Seeds for a paired t-test to find a mean difference ``gap`` of spread ``sd``."""
    from statsmodels.stats.power import TTestPower

    gap, sd = _checks.positive("gap", gap), _checks.positive("sd", sd)
    size = min(gap / sd, 5.0)  # above, statsmodels' root finder fails; 5 needs only three seeds
    n = TTestPower().solve_power(effect_size=size, power=power, alpha=alpha)
    return max(2, int(np.ceil(np.squeeze(n))))


def final(frame: pd.DataFrame, metric: str = "val_loss", *, penalty: float) -> pd.DataFrame:
    """The last epoch of each run, with ``value`` = ``metric`` or, if diverged, ``penalty``.

    ``penalty`` is the problem's ``chance_loss``: a run that left counts as having learned
    nothing. A loss above it is kept as it is, and either is ``failed``. Runs are told apart by
    their identity: ten runs that differ in warmup or knobs are ten rows, whatever their labels.
    ``ValueError`` where a run is in the frame twice.
    """
    _checks.choice("metric", metric, frame.columns)
    keys = [key for key in RUN if key in frame]  # a table made by hand may have labels alone
    _refuse_repeated(frame, keys)
    frame = frame.reset_index(drop=True)  # idxmax names rows by index, which may repeat
    last = frame.loc[frame.groupby(keys, sort=False)["epoch"].idxmax()].reset_index(drop=True)
    lost = last.diverged | ~np.isfinite(last[metric])
    value = last[metric].where(~lost, penalty).astype(float)
    return last.assign(value=value, lost=lost, failed=lost | (value >= penalty))


def _refuse_repeated(frame: pd.DataFrame, keys: list[str]) -> None:
    """A run that is in the frame twice would count twice."""
    twice = frame.duplicated([*keys, "epoch"])
    if twice.any():
        _checks.fail(
            "frame",
            frame.loc[twice, keys].iloc[0].to_dict(),
            "is in the frame twice; drop one, or give the two different labels",
        )


def _refuse_mixed(argument: str, value, table: pd.DataFrame, by: list[str]) -> None:
    """Runs of one seed in one group of ``by``: they differ in what ``by`` does not tell."""
    several = table.duplicated([*by, "seed"], keep=False)
    if several.any():
        left = [label for label in RUN[1:-1] if label in table and label not in by]
        labels = [label for label in left if table[several][label].nunique() > 1]
        advice = (
            f"also choose {labels}"
            if labels
            else "these differ in what no label tells (warmup, knobs, horizon, optimizer or "
            "problem): give them different labels"
        )
        _checks.fail(argument, value, f"must leave one run per seed; {advice}")


def by_seed(ends: pd.DataFrame, **which) -> pd.Series:
    """``value`` by seed of the rows of ``final`` that match, e.g. ``schedule="cosine"``."""
    for column, wanted in which.items():
        match = np.isclose(ends[column], wanted) if column == "peak" else ends[column] == wanted
        ends = ends[match]
    if ends.empty:
        _checks.fail("which", which, "must match some runs")
    _refuse_mixed("which", which, ends, [])
    return ends.set_index("seed")["value"].sort_index()


def best_peaks(ends: pd.DataFrame) -> pd.DataFrame:
    """Per schedule: the peak of lowest mean ``value``, that mean, and whether it is interior.

    A single peak is the best of one, so not interior. ``ValueError`` if every run failed.
    """
    for column in ("problem", "optimizer"):
        if ends[column].nunique() > 1:
            found = sorted(ends[column].unique())
            _checks.fail("ends", f"{column} {found}", f"must hold one {column}; select it first")
    if "run" in ends:  # a table made by hand may hold anything
        _refuse_mixed("ends", f"{len(ends)} rows", ends, ["schedule", "peak"])
    if "failed" in ends and ends["failed"].all():
        tried = ", ".join(f"{peak:g}" for peak in sorted(ends["peak"].unique()))
        rule = "no run learned anything, so none is best; try lower peaks, or longer runs"
        _checks.fail("ends", f"peaks {tried}", rule)
    means = ends.groupby(["schedule", "peak"], sort=False)["value"].mean().reset_index()
    best = means.loc[means.groupby("schedule", sort=False)["value"].idxmin()]
    edges = means.groupby("schedule")["peak"].agg(["min", "max"])
    best = best.join(edges, on="schedule")
    inside = (best["peak"] > best["min"]) & (best["peak"] < best["max"])
    return best.assign(interior=inside).drop(columns=["min", "max"]).set_index("schedule")


def band(
    frame: pd.DataFrame, metric: str, by: list[str], *, penalty: float | None = None
) -> pd.DataFrame:
    """10 %, 50 % and 90 % quantiles of ``metric`` over seeds, for each group ``by``.

    Diverged runs count: their values that are not finite become ``penalty`` (by default they
    are above everything), so a group that mostly diverged has an infinite middle. ``lost`` is
    the share of such values in the group. ``ValueError`` where a group holds two runs of a seed.
    """
    _checks.choice("metric", metric, frame.columns)
    for column in by:
        _checks.choice("by", column, frame.columns)
    if "run" in frame:  # a table made by hand may hold anything
        _refuse_mixed("by", by, frame, by)
    lost = ~np.isfinite(frame[metric])
    full = frame[metric].where(~lost, np.inf if penalty is None else penalty)
    groups = frame.assign(**{metric: full, "lost": lost}).groupby(by, sort=False)
    # "lower" and "higher" data points: interpolation between a number and infinity is neither.
    table = pd.concat(
        [groups[metric].quantile(q, interpolation="nearest") for q in (0.1, 0.5, 0.9)], axis=1
    )
    table = table.set_axis(["low", "middle", "high"], axis=1)
    return table.assign(lost=groups["lost"].mean()).reset_index()


# ------------------------------------------------------------------- many methods, many problems


def interquartile_mean(values) -> float:
    """Mean of the middle half: one lost run neither decides it nor vanishes (Agarwal et al. 2021).

    ``scipy.stats.trim_mean`` with a quarter cut from each end (whole values: n // 4).
    """
    return float(stats.trim_mean(_finite("values", values), 0.25))


def _cube(argument: str, values) -> np.ndarray:
    values = np.asarray(values, float)
    if values.ndim != 3 or min(values.shape, default=0) < 1 or not np.isfinite(values).all():
        _checks.fail(
            argument,
            f"shape {values.shape}",
            "must be finite numbers [problems, methods, seeds], all three at least 1",
        )
    return values


def mean_ranks(values, level: float = 0.95, draws: int = 2000) -> list[Effect]:
    """Mean rank of each method over problems (1 is best), from losses [problems, methods, seeds].

    Methods are ranked on each problem by their mean over seeds; ties share their mean rank. The
    interval resamples the seeds of each problem, the same for all methods, since runs are paired.
    The problems are taken as they are: it says nothing about problems that are not here.
    """
    values = _cube("values", values)
    many, _, n = values.shape
    rng = np.random.default_rng(0)

    def ranks(seeds):
        means = np.stack([values[i][:, seeds[i]].mean(axis=1) for i in range(many)])
        return stats.rankdata(means, axis=1).mean(axis=0)

    estimate = ranks(np.tile(np.arange(n), (many, 1)))
    sample = np.stack([ranks(rng.integers(n, size=(many, n))) for _ in range(draws)])
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [
        Effect(float(e), float(a), float(b), n, level)
        for e, a, b in zip(estimate, low, high, strict=True)
    ]


def improvement(first, second, level: float = 0.95, draws: int = 2000) -> Effect:
    """P(a run of ``first`` ends below a run of ``second``), mean over problems; ties count half.

    Losses [problems, seeds]. The interval resamples seeds within each problem, the two methods
    apart (Agarwal et al. 2021). For one problem and paired seeds see :func:`chance_below`.
    """
    first, second = _cube("first", [first])[0], _cube("second", [second])[0]
    if len(first) != len(second):
        _checks.fail("second", f"{len(second)} problems", f"must be {len(first)}, as first")
    wins = (first[:, :, None] < second[:, None]) + 0.5 * (first[:, :, None] == second[:, None])
    many, n, m = wins.shape
    rng, rows = np.random.default_rng(0), np.arange(many)[:, None, None]
    sample = [
        wins[
            rows,
            rng.integers(n, size=(many, n))[:, :, None],
            rng.integers(m, size=(many, m))[:, None],
        ].mean()
        for _ in range(draws)
    ]
    low, high = np.quantile(sample, [(1 - level) / 2, (1 + level) / 2])
    return Effect(float(wins.mean()), float(low), float(high), n, level)


def performance_profile(ratios, at) -> np.ndarray:
    """Share of problems on which each method is within a factor of the best, [methods, len(at)].

    ``ratios`` [problems, methods]: a method's loss (or steps to a target) over the best method's
    on that problem, so >= 1; infinity for a miss. ``at``: the factors (Dolan & Moré 2002).
    """
    ratios = np.asarray(ratios, float)
    if ratios.ndim != 2 or not ratios.size or not (ratios >= 1).all():
        _checks.fail("ratios", f"shape {ratios.shape}", "must be [problems, methods], all >= 1")
    return (ratios[:, :, None] <= np.asarray(at, float)).mean(axis=0)


def expected_best(values) -> np.ndarray:
    """Expected lowest loss of k trials drawn without replacement, for k = 1 .. n (Dodge 2019)."""
    return expected_best_by_rank(np.sort(np.asarray(values, float)))


def expected_best_by_rank(values) -> np.ndarray:
    """Expected value of the best of k trials, for k = 1 .. n, from values in order of preference.

    The order may come from other numbers than the values, as when trials are chosen on one part of
    the data and valued on another. The i-th of n (from 0) is the best of k drawn without
    replacement with probability C(n-1-i, k-1) / C(n, k).
    """
    from scipy.special import comb

    values = np.asarray(values, float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        _checks.fail("values", f"shape {values.shape}", "must be finite numbers, at least one")
    n = len(values)
    i, k = np.arange(n), np.arange(1, n + 1)[:, None]
    return (comb(n - 1 - i, k - 1) / comb(n, k)) @ values


def robustness_width(peaks, values, factor: float = 1.2) -> float:
    """Decades of peaks around the best one whose loss is at most ``factor`` times the best loss.

    The curve is read as straight lines over the logarithm of the peak. Where it stays below up
    to an edge of the grid the width is what was measured, so a lower bound.
    """
    alone = "one peak has no width; try at least two, a factor of two apart"
    peaks, values = np.asarray(peaks, float), _finite("values", values, alone)
    if peaks.shape != values.shape or not (peaks > 0).all() or len(set(peaks)) < len(peaks):
        _checks.fail("peaks", f"shape {peaks.shape}", "must be > 0, distinct, one for each value")
    factor = _checks.number("factor", factor, low=1)
    order = np.argsort(peaks)
    x, y = np.log10(peaks[order]), values[order]
    best = int(y.argmin())
    bound = y[best] * factor if y[best] > 0 else y[best]
    ends = []
    for side in (range(best, -1, -1), range(best, len(y))):
        end = x[best]
        for inner, outer in itertools.pairwise(side):
            if y[outer] > bound:
                end = x[inner] + (x[outer] - x[inner]) * (bound - y[inner]) / (y[outer] - y[inner])
                break
            end = x[outer]
        ends.append(end)
    return float(ends[1] - ends[0])
