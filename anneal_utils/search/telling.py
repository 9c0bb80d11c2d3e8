"""What searches have found, as tables and text."""

from collections.abc import Iterable

from anneal_utils.search.plan import AGAIN
from anneal_utils.search.reporting import ASIDE, BASE, FOUND, NO_FALL, NO_RISE
from anneal_utils.search.results import Result

import numpy as np
import pandas as pd

_ENDS = ("percent", "low", "high")
_FLAT = ("inside", "outside")


def table(results: Iterable[Result]) -> pd.DataFrame:
    """A row for each search that varies no other.

    Columns: problem, optimizer, part (of the losses), usual (the usual schedule that is best on the
    tune part); percent, low, high: of loss more (+) or less (-) than that one on the reported part;
    tune_percent, tune_low, tune_high: on the tune part, which both were chosen on; rise_percent,
    rise_low, rise_high and fall_…: of loss that the found shape has more without its rise, or its
    fall (NaN where it has none); rise, half, end: see ``Found.shape``; spread: factor by which
    rates differ in the last generation's distribution (geometric standard deviation, mean over
    knots); inside, outside: the shares of draws from it that lose less, and more, than one per
    cent by their intervals.
    """
    rows = []
    for result in results:
        if result.provenance["of"] is None:
            told, found = result.report, result.found
            best = told.best(tune=True)
            row = {"problem": found.problem, "optimizer": found.optimizer}
            row |= {"part": told.part, "usual": best, **_named("", told.against(best))}
            row |= _named("tune_", told.against(best, tune=True))
            for name, label in (("rise_", NO_RISE), ("fall_", NO_FALL)):
                row |= _named(name, told.over(label) if label in told.losses else None)
            row |= {**found.shape, "spread": float(np.exp(found.spread.mean()))}
            if result.flat is not None:
                near = result.flat[result.flat["width"] == 1.0]
                row |= {"inside": (near["high"] < 1).mean(), "outside": (near["low"] > 1).mean()}
            rows.append(row)
    return pd.DataFrame(rows)


def varied(results: Iterable[Result]) -> pd.DataFrame:
    """A row for each search that varies another one.

    Columns: what (is varied), problem, optimizer, of (the problem and optimizer of the other one);
    percent, low, high: of loss that the shape found there has more here than the one found here,
    its peak tuned anew (for another start: as it is); rise, half, end.
    """
    rows = []
    for result in results:
        known = result.provenance
        if known["of"] is not None:
            found = result.found
            row = {"what": known["what"], "problem": found.problem, "optimizer": found.optimizer}
            row |= {"of": ", ".join(known["of"]), **_named("", result.report.over(BASE))}
            rows.append(row | found.shape)
    return pd.DataFrame(rows)


def regrets(results: Iterable[Result]) -> pd.DataFrame:
    """Percent of loss that each usual schedule has more than the found one, [problems x schedules].

    Of the searches that vary no other, and the schedules that were tuned on all their problems.
    """
    rows = {}
    for result in results:
        if result.provenance["of"] is None:
            usual = [one for one in result.report.losses if one not in (FOUND, *ASIDE)]
            row = {label: result.report.over(label).estimate for label in usual}
            rows[f"{result.found.problem}, {result.found.optimizer}"] = row
    return pd.DataFrame.from_dict(rows, orient="index").dropna(axis="columns")


def _named(prefix: str, effect) -> dict[str, float]:
    ends = (np.nan,) * 3 if effect is None else (effect.estimate, effect.low, effect.high)
    return {f"{prefix}{name}": value for name, value in zip(_ENDS, ends, strict=True)}


def sentences(results: Iterable[Result]) -> list[str]:
    """What the searches say, each sentence from their numbers."""
    results = list(results)
    searched, lost = table(results), regrets(results).median().sort_values()
    found = [
        f"On {len(searched)} problems, percent of loss that the schedule which was found has more "
        "or less than the usual one that is best on tune; intervals hold the luck of the report "
        f"seeds. Below: {_listed(searched[searched['high'] < 0])}. Above: "
        f"{_listed(searched[searched['low'] > 0])}. Median of all: "
        f"{searched['percent'].median():+.1f}. Where it is above by more than 1 % on the part that "
        "both were chosen on, the search has missed what can be had: "
        f"{_listed(searched[searched['tune_low'] > 1], 'tune_')}.",
        f"Loss above that of the found schedule, median over the {len(searched)} problems: "
        + ", ".join(f"{name} {middle:.0f} %" for name, middle in lost.items())
        + ".",
    ]
    changed = varied(results)
    again = changed[changed["what"] == AGAIN] if len(changed) else changed
    if len(again):
        found.append(
            "A second search, from another start and on other seeds: loss of the first one's "
            f"schedule over that of the second, in percent: {_listed(again)}."
        )
    moved = [
        f"{what} {(rows['low'] > 0).sum()} of {len(rows)}{_gained(rows)}"
        for what, rows in (changed.groupby("what", sort=False) if len(changed) else ())
        if what != AGAIN
    ]
    needs = {kind: searched[searched[f"{kind}_low"] > 0] for kind in ("rise", "fall")}
    gains = {kind: searched[searched[f"{kind}_high"] < 0] for kind in needs}
    found.append(
        "Naganuma, Agarwala, Kasimbeg & Dahl (arXiv:2603.10301) searched on linear regression, "
        "CIFAR-10 and Wikitext103: there warmup and decay are robust, usual families are not "
        "optimal, and weight decay can move the shape. Here the found shape, its peak tuned anew, "
        f"loses without its fall on {len(needs['fall'])} of {len(searched)} problems"
        f"{_names(gains['fall'], '; it gains on')}, and without its rise on {len(needs['rise'])}"
        f"{_names(needs['rise'], ':')}{_names(gains['rise'], '; it gains on')}. A shape found "
        "under another condition, its peak tuned anew, loses against the one found there: "
        f"{'; '.join(moved) or 'not measured'}."
    )
    return found


def _gained(rows: pd.DataFrame) -> str:
    gained = (rows["high"] < 0).sum()
    return f" (gains on {gained})" if gained else ""


def _listed(rows: pd.DataFrame, prefix: str = "") -> str:
    told = (
        f"{row.problem} {getattr(row, prefix + 'percent'):+.1f} "
        f"[{getattr(row, prefix + 'low'):.1f}, {getattr(row, prefix + 'high'):.1f}]"
        for row in rows.sort_values(prefix + "percent").itertuples()
    )
    return ", ".join(told) or "none"


def _names(rows: pd.DataFrame, before: str) -> str:
    return f"{before} {', '.join(rows['problem'])}" if len(rows) else ""


def text(results: Iterable[Result]) -> str:
    """What ``show`` prints."""
    results = list(results)
    lines, searched, changed = [], table(results), varied(results)
    if len(searched):
        shown = {name: searched[name] for name in ("problem", "optimizer", "usual")}
        shown["found"] = _effects(searched, "")
        shown["found, tune part"] = _effects(searched, "tune_")
        shown["without its rise"] = _effects(searched, "rise_")
        shown["without its fall"] = _effects(searched, "fall_")
        shown |= _shapes(searched)
        shown["spread"] = searched["spread"].map("{:.2f}".format)
        inside, outside = (searched.get(k, pd.Series(np.nan, searched.index)) for k in _FLAT)
        shown["within 1 %: sure, sure not"] = [
            "-" if pd.isna(a) else f"{a:.0%}, {b:.0%}" for a, b in zip(inside, outside, strict=True)
        ]
        lines += [
            "What a search found: percent of loss more (+) or less (-) than the usual one that is",
            "best on tune, and what the found shape loses without its rise or its fall. Intervals:",
            "fresh paired report seeds; the luck of search and tuning is not in them.",
            "",
            pd.DataFrame(shown).to_string(index=False),
        ]
    if len(changed):
        shown = {name: changed[name] for name in ("what", "problem", "optimizer", "of")}
        shown["the other's shape"] = _effects(changed, "")
        shown |= _shapes(changed)
        lines += [
            "",
            "What moves it: percent of loss that the shape found there has more here, peak tuned.",
            "",
            pd.DataFrame(shown).to_string(index=False),
        ]
    if len(searched):
        lines += ["", *sentences(results)]
    return "\n".join(lines).strip()


def _effects(rows: pd.DataFrame, prefix: str) -> list[str]:
    told = rows[[f"{prefix}{name}" for name in _ENDS]].to_numpy(float)
    return ["-" if np.isnan(m) else f"{m:+.1f} [{a:+.1f}, {b:+.1f}]" for m, a, b in told]


def _shapes(rows: pd.DataFrame) -> dict[str, list[str]]:
    shares = {name: [f"{value:.0%}" for value in rows[name]] for name in ("rise", "half")}
    return shares | {"end": [f"{value:.3f}" for value in rows["end"]]}
