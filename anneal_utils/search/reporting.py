"""What a found schedule is worth, on seeds that nothing was chosen on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from anneal_utils import _checks, statistics, training
from anneal_utils.benchmark.chunks import cell_of
from anneal_utils.search.ends import logs_of, losses_of, part_of, trained
from anneal_utils.search.found import Found
from anneal_utils.search.knots import floored, schedule_through
from anneal_utils.search.usual import tuned

import numpy as np
import pandas as pd

FOUND = "found"  # its label among the usual ones
# Labels of what is no usual schedule: other shapes that stand beside the found one.
BASE = "shape found before"  # of the search that this one varies
NO_RISE, NO_FALL = "without its rise", "without its fall"
ASIDE = (BASE, NO_RISE, NO_FALL)


@dataclass(frozen=True, eq=False)
class Report:
    """Losses of a found schedule and of others, by seed.

    ``part``: the part of the problem that they are of. ``losses``: a row per seed, a column per
    schedule, ``"found"`` first. ``tune``: the same runs on the part that all choices were made on
    (the same numbers where a problem has no test part). ``peaks``: of the others (None: a recipe's
    own rates). ``cells``: the digest of the identities of each schedule's runs.
    """

    part: str
    losses: pd.DataFrame = field(repr=False)
    tune: pd.DataFrame = field(repr=False)
    peaks: dict[str, float | None]
    cells: dict[str, str] = field(repr=False)

    def against(self, label: str, *, tune: bool = False) -> statistics.Effect:
        """Percent of loss that the found schedule has more (+) or less (-) than another.

        From the mean log ratio over paired seeds, with its BCa interval: a ratio of geometric
        means. It holds the found schedule and the other's peak as they are. ``tune``: of the losses
        that choices were made on, on seeds that none was made on.
        """
        losses = self._known(label, tune)
        return percent(losses[label], losses[FOUND])

    def over(self, label: str) -> statistics.Effect:
        """Percent of loss that another schedule has more (+) or less (-) than the found one."""
        losses = self._known(label)
        return percent(losses[FOUND], losses[label])

    def _known(self, label: str, tune: bool = False) -> pd.DataFrame:
        _checks.choice("label", label, [one for one in self.losses if one != FOUND])
        return self.tune if tune else self.losses

    def best(self, *, tune: bool = False) -> str:
        """The usual schedule of lowest mean log loss.

        Chosen by the numbers that it is then compared by: that favours it, not the found one.
        """
        usual = [label for label in self.losses if label not in (FOUND, *ASIDE)]
        losses = self.tune if tune else self.losses
        return str(losses[usual].apply(logs_of).mean().idxmin())

    def table(self) -> pd.DataFrame:
        """A row per other schedule, best first: peak, losses, percent with interval, Holm's p."""
        rows = []
        for label in self.losses.drop(columns=FOUND):
            effect = self.against(label)
            rows.append(
                {"schedule": label, "peak": self.peaks[label]}
                | {"loss": float(np.exp(logs_of(self.losses[label]).mean()))}
                | {"found": float(np.exp(logs_of(self.losses[FOUND]).mean()))}
                | {"percent": effect.estimate, "low": effect.low, "high": effect.high}
                | {"seeds": effect.n, "pvalue": effect.pvalue}
            )
        rows.sort(key=lambda row: row["loss"])
        table = pd.DataFrame(rows)
        return table.assign(pvalue=statistics.holm(table["pvalue"]))

    def to_dict(self) -> dict:
        """Everything as plain values, for JSON."""
        tables = {"losses": self.losses, "tune": self.tune}
        told = {name: table.to_dict("list") for name, table in tables.items()}
        seeds = [int(seed) for seed in self.losses.index]
        told = {"part": self.part, "seeds": seeds, **told}
        return told | {"peaks": self.peaks, "cells": self.cells}

    @classmethod
    def from_dict(cls, given: dict) -> "Report":
        """What ``to_dict`` has told; ``ValueError`` where something is missing."""
        try:
            index = pd.Index(given["seeds"], name="seed")
            tables = [pd.DataFrame(given[name], index=index) for name in ("losses", "tune")]
            return cls(given["part"], *tables, dict(given["peaks"]), dict(given["cells"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"given: is not what Report.to_dict gives ({error}).") from error


def percent(baseline: pd.Series, other: pd.Series) -> statistics.Effect:
    """How much higher (+) or lower (-) ``other`` is, in percent, from paired losses by seed."""
    effect = statistics.paired_effect(logs_of(baseline), logs_of(other))
    ends = (100 * np.expm1(value) for value in (effect.estimate, effect.low, effect.high))
    return statistics.Effect(*map(float, ends), effect.n, effect.level, effect.pvalue)


def report(
    found: Found, usual: Mapping | None = None, *, seeds: Iterable[int] = range(40), store=None
) -> Report:
    """Train the found schedule and the usual ones on the same fresh seeds.

    ``usual``: ``{label: (name, peak)}``, ``{label: (name, {knob: value}, peak)}``, or
    ``{label: recipe}`` for a recipe of ``training.grid`` that takes no peak; by default what
    :func:`tuned` finds. Tuned results from elsewhere (the benchmark's) fit in here. ``seeds``: by
    default the benchmark's report seeds. Losses are of the test part where the problem has one.

    ``ValueError`` for seeds that the search has used.
    """
    problem, optimizer = found.setting
    seeds = _fresh(found, seeds)
    if usual is None:
        usual = tuned(problem, optimizer, epochs=found.epochs, store=store)
    if not usual:
        _checks.fail("usual", usual, "must hold at least one")
    recipes = {FOUND: (found.recipe, ())} | {k: _recipe(k, v) for k, v in usual.items()}
    runs = [
        run
        for label, (recipe, peaks) in recipes.items()
        for run in training.grid({label: recipe}, peaks, seeds, optimizer, epochs=found.epochs)
    ]
    outcomes, computed = trained(problem, runs, store=store)
    part, index = part_of(problem), pd.Index(seeds, name="seed")
    names = np.array([outcome.identity for outcome in outcomes]).reshape(len(recipes), len(seeds))
    tables = []
    for one in (part, "val"):
        losses = losses_of(problem, outcomes, one).reshape(names.shape)
        tables.append(pd.DataFrame(dict(zip(recipes, losses, strict=True)), index))
    tables[0].attrs.update(computed=computed, read=len(runs) - computed)
    peaks = {label: peaks[0] if peaks else None for label, (_, peaks) in recipes.items()}
    del peaks[FOUND]
    cells = {label: cell_of(row.tolist()) for label, row in zip(recipes, names, strict=True)}
    return Report(part, *tables, peaks, cells)


def _fresh(found: Found, seeds: Iterable[int]) -> list[int]:
    seeds, (first, end) = list(seeds), found.seeds
    if used := [seed for seed in seeds if first <= seed < end]:
        _checks.fail("seeds", used[:3], f"must be none of the search's, {first} to {end - 1}")
    return seeds


def _recipe(label, given) -> tuple[object, list[float]]:
    """A recipe and its peak, in a list which is empty where it takes none."""
    if label == FOUND:
        _checks.fail("usual", label, "is the label of the found schedule; choose another")
    if not (isinstance(given, tuple | list) and given and isinstance(given[0], str)):
        return given, []
    if len(given) == 2:
        return given[0], [given[1]]
    if len(given) == 3:
        return (given[0], dict(given[1])), [given[2]]
    _checks.fail(f"usual[{label!r}]", given, "must be (name, peak) or (name, {knob: value}, peak)")


def flatness(
    found: Found,
    within: float = 0.01,
    *,
    draws: int = 16,
    widths: Iterable[float] = (0.5, 1.0, 2.0),
    seeds: Iterable[int] = range(20),
    store=None,
) -> pd.DataFrame:
    """How flat the optimum is: schedules around the found one, and what they lose against it.

    ``draws`` schedules from the last generation's distribution around what was found, for each of
    ``widths``, which multiply its standard deviations. A row each: ``width``, ``rate_0`` ..., and
    ``percent`` of loss more (+) or less (-) than the found one with ``low`` and ``high``, over
    paired fresh ``seeds`` on the part that is reported; ``inside``: the estimate is at most
    ``within`` (a share). Single schedules are told apart as badly as their intervals say.
    """
    within = _checks.number("within", within, low=0)
    draws, seeds = _checks.count("draws", draws), _fresh(found, seeds)
    problem, optimizer = found.setting
    rng = np.random.default_rng([found.arguments.get("seed", 0), 4])
    centre, rows, recipes = np.log(found.rates), [], {FOUND: found.recipe}
    for width in [_checks.positive("widths", width) for width in widths]:
        logs = rng.multivariate_normal(centre, width**2 * found.covariance, size=draws)
        for rates in floored(logs, found.floor):
            recipes[str(len(rows))] = schedule_through(found.places, rates, found.steps)
            rows.append({"width": width, **{f"rate_{k}": rate for k, rate in enumerate(rates)}})
    runs = training.grid(recipes, (), seeds, optimizer, epochs=found.epochs)
    losses = losses_of(problem, trained(problem, runs, store=store)[0], part_of(problem))
    base, *others = losses.reshape(len(recipes), len(seeds))
    for row, other in zip(rows, others, strict=True):
        effect = percent(base, other)
        row |= {"percent": effect.estimate, "low": effect.low, "high": effect.high}
        row["inside"] = effect.estimate <= 100 * within
    return pd.DataFrame(rows)
