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
    low, high: of loss more (+) or less (-) than that one; rise_percent, rise_low, rise_high and
    fall_…: of loss that the found shape has more without its rise, or its fall (NaN where it has
    none); rise, half, end: see ``Found.shape``; spread: factor by which rates differ in the last
    generation's distribution (geometric standard deviation, mean over knots), and inside: the
    share of draws from it that lose at most one per cent.
    """
    rows = []
    for result in results:
        if result.provenance["of"] is None:
            told, found = result.report, result.found
            best = told.best()
            row = {"problem": found.problem, "optimizer": found.optimizer}
            row |= {"part": told.part, "usual": best, **_named("", told.against(best))}
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


def text(results: Iterable[Result]) -> str:
    """What ``show`` prints."""
    results = list(results)
    lines, searched, changed = [], table(results), varied(results)
    if len(searched):
        shown = {name: searched[name] for name in ("problem", "optimizer", "usual")}
        shown["found"] = _effects(searched, "")
        shown["without its rise"] = _effects(searched, "rise_")
        shown["without its fall"] = _effects(searched, "fall_")
        shown |= _shapes(searched)
        shown["spread"] = searched["spread"].map("{:.2f}".format)
        shown["within 1 %"] = [
            "-" if pd.isna(share) else f"{share:.0%}" for share in searched["inside"]
        ]
        count = len(searched)
        lower, higher = (searched["high"] < 0).sum(), (searched["low"] > 0).sum()
        rises, falls = (searched["rise_low"] > 0).sum(), (searched["fall_low"] > 0).sum()
        lines += [
            "What a search found: percent of loss more (+) or less (-) than the best usual one,",
            "and what the found shape loses without its rise or its fall; fresh paired seeds.",
            "",
            pd.DataFrame(shown).to_string(index=False),
            "",
            f"Lower than the best usual one on {lower} of {count}, higher on {higher}. "
            f"Without its rise it loses on {rises} of {count}, without its fall on {falls}.",
        ]
        lost = regrets(results)
        order = lost.median().sort_values()
        told = (f"{name} {middle:.1f} ({lost[name].max():.0f})" for name, middle in order.items())
        lines += [
            "",
            "Percent of loss more than the found schedule, median over problems (and worst): "
            + ", ".join(told)
            + ".",
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
            "",
        ]
        for what, rows in changed.groupby("what", sort=False):
            lines.append(f"{what}: it loses on {(rows['low'] > 0).sum()} of {len(rows)}.")
    return "\n".join(lines).strip()


def _effects(rows: pd.DataFrame, prefix: str) -> list[str]:
    told = rows[[f"{prefix}{name}" for name in _ENDS]].to_numpy(float)
    return ["-" if np.isnan(m) else f"{m:+.1f} [{a:+.1f}, {b:+.1f}]" for m, a, b in told]


def _shapes(rows: pd.DataFrame) -> dict[str, list[str]]:
    shares = {name: [f"{value:.0%}" for value in rows[name]] for name in ("rise", "half")}
    return shares | {"end": [f"{value:.3f}" for value in rows["end"]]}
