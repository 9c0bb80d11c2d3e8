"""What searches have found, as tables and text."""

from collections.abc import Iterable

from anneal_utils.search.reporting import ASIDE, BASE, FOUND, NO_FALL, NO_RISE
from anneal_utils.search.results import Result

import numpy as np
import pandas as pd

_ENDS = ("percent", "low", "high")


def table(results: Iterable[Result]) -> pd.DataFrame:
    """A row for each search that varies no other.

    Columns: problem, optimizer, part (of the losses), usual (the best usual schedule); percent,
    low, high: of loss more (+) or less (-) than that one; tune_percent, tune_low, tune_high: the
    same on the part that both were chosen on, against the best usual one there; rise_percent,
    rise_low, rise_high and fall_…: of loss that the found shape has more without its rise, or its
    fall (NaN where it has none); rise, half, end: see ``Found.shape``; spread: factor by which
    rates differ in the last generation's distribution (geometric standard deviation, mean over
    knots), and inside: the share of draws from it that lose at most one per cent.
    """
    rows = []
    for result in results:
        if result.provenance["of"] is None:
            told, found = result.report, result.found
            best = told.best()
            row = {"problem": found.problem, "optimizer": found.optimizer}
            row |= {"part": told.part, "usual": best, **_named("", told.against(best))}
            row |= _named("tune_", told.against(told.best(tune=True), tune=True))
            for name, label in (("rise_", NO_RISE), ("fall_", NO_FALL)):
                row |= _named(name, told.over(label) if label in told.losses else None)
            flat = result.flat
            near = None if flat is None else flat.loc[flat["width"] == 1.0, "inside"].mean()
            row |= {**found.shape, "spread": float(np.exp(found.spread.mean())), "inside": near}
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

    Of the searches that vary no other; NaN where a schedule was not tuned on a problem.
    """
    rows = {}
    for result in results:
        if result.provenance["of"] is None:
            usual = [one for one in result.report.losses if one not in (FOUND, *ASIDE)]
            row = {label: result.report.over(label).estimate for label in usual}
            rows[f"{result.found.problem}, {result.found.optimizer}"] = row
    return pd.DataFrame.from_dict(rows, orient="index")


def _named(prefix: str, effect) -> dict[str, float]:
    ends = (np.nan,) * 3 if effect is None else (effect.estimate, effect.low, effect.high)
    return {f"{prefix}{name}": value for name, value in zip(_ENDS, ends, strict=True)}


def sentences(results: Iterable[Result]) -> list[str]:
    """What the searches say, each sentence from their numbers."""
    results = list(results)
    searched, lost = table(results), regrets(results).median().sort_values()
    missed = searched[searched["tune_low"] > 0]
    found = [
        f"On {len(searched)} problems, percent of loss that the schedule which was found has more "
        f"or less than the best usual one. Below, by its interval: "
        f"{_listed(searched[searched['high'] < 0])}. Above: "
        f"{_listed(searched[searched['low'] > 0])}. Median of all: "
        f"{searched['percent'].median():+.1f}. On the part that both were chosen on it is above on "
        f"{_listed(missed, 'tune_')}: there the search has missed what can be had; elsewhere what "
        "is lost on the reported part is lost by choosing.",
        "Loss above that of the found schedule, median over problems: "
        + ", ".join(f"{name} {middle:.0f} %" for name, middle in lost.items() if middle < 30)
        + "; all others 30 % and more.",
    ]
    needed = {kind: searched[f"{kind}_low"] > 0 for kind in ("rise", "fall")}
    changed = varied(results)
    moved = [
        f"{what} {(rows['low'] > 0).sum()} of {len(rows)}"
        for what, rows in (changed.groupby("what", sort=False) if len(changed) else ())
    ]
    found.append(
        "Naganuma, Agarwala, Kasimbeg & Dahl (arXiv:2603.10301) searched on linear regression, "
        "CIFAR-10 and Wikitext103: there warmup and decay are robust, usual families are not "
        "optimal, and weight decay can move the shape. Here the found shape loses without its fall "
        f"on {needed['fall'].sum()} of {len(searched)} problems and without its rise on "
        f"{needed['rise'].sum()}"
        f"{_named_problems(searched[needed['rise']])}. A shape found under another condition "
        f"loses, its peak tuned anew: {'; '.join(moved) or 'not measured'}."
    )
    return found


def _listed(rows: pd.DataFrame, prefix: str = "") -> str:
    told = (
        f"{row.problem} {getattr(row, prefix + 'percent'):+.1f} "
        f"[{getattr(row, prefix + 'low'):.1f}, {getattr(row, prefix + 'high'):.1f}]"
        for row in rows.sort_values(prefix + "percent").itertuples()
    )
    return ", ".join(told) or "none"


def _named_problems(rows: pd.DataFrame) -> str:
    return f" ({', '.join(rows['problem'])})" if len(rows) else ""


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
        shown["within 1 %"] = [
            "-" if pd.isna(share) else f"{share:.0%}" for share in searched["inside"]
        ]
        lines += [
            "What a search found: percent of loss more (+) or less (-) than the best usual one,",
            "and what the found shape loses without its rise or its fall; fresh paired seeds.",
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
