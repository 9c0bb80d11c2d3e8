"""Results as text, for the command line."""

from collections.abc import Mapping
from dataclasses import replace

from anneal_utils.benchmark import contrasts, variations, views
from anneal_utils.benchmark.advice import decision
from anneal_utils.benchmark.draws import Drawn, coverage, drawn
from anneal_utils.benchmark.evidence import Evidence
from anneal_utils.benchmark.plan import Plan

import numpy as np
import pandas as pd

FACTORS = (1.05, 1.1, 1.25, 2.0)  # of the performance profile
TRIALS = (1, 2, 4, 8, 16, 32)  # of the expected loss by budget


def text(evidence: Evidence, plan: Plan | None = None, more: bool = False) -> str:
    """What ``show`` prints: standings at the longest horizon, contrasts and what they hang on.

    ``plan``: how the results are read; default, the committed one. ``more``: also worst cases, the
    expected loss by budget, usable ranges, the performance profile, the intervals of the
    contrasts without each group, and the decision page.
    """
    plan = plan or Plan.read()
    reading = plan.reading
    level, margin, best_of = reading["level"], reading["margin"], reading["best_of"]
    horizon = max(evidence.report["horizon"])
    part = evidence.select(horizon=horizon)
    sample = drawn(part, best_of=best_of, draws=reading["draws"], families=reading["families"])
    problems, optimizers = (
        list(dict.fromkeys(part.report[column])) for column in ("problem", "optimizer")
    )
    primary = [name for name in reading["optimizers"] if name in optimizers] or optimizers
    count = f"{len(problems)} problem{'s' * (len(problems) > 1)}"
    lines = [
        f"{count} ({', '.join(problems)}), {', '.join(primary)}, horizon {horizon:g}. Value: what "
        f"a search of {best_of} trials is expected to reach on the test part; "
        f"{coverage(part, best_of):.1%} of its winners were run again on fresh seeds.",
        f"Loss over the first one's, {level:.0%} intervals for these problems and for the mean of "
        "all of these kinds (none where a kind has one family); best: may be the best.",
        "",
    ]
    which = dict(horizon=horizon, optimizers=primary)
    methods = views.common(sample, horizon)
    lines.append(_shown(views.standings(sample, level=level, methods=methods, **which)))
    asked, left = [], []
    for contrast in plan.contrasts:
        terms = [*contrast["plus"], *contrast["minus"]]
        known = all(t["method"] in methods for t in terms)
        known = known and all(t.get("optimizer", primary[0]) in primary for t in terms)
        (asked if known else left).append(contrast)
    part = part.select(optimizer=primary)
    if asked and horizon == 1.0:
        given = dict(margin=margin, level=level, **which)
        found = contrasts.table(sample, asked, **given)
        groups = variations.left_out(sample, asked, by="group", **given)
        single = variations.left_out(sample, asked, by="problem", **given)
        told = _shown(found.assign(verdict=_verdicts(found, single)))
        lines += ["", f"Primary contrasts (as good: within {margin:.0%}):", told]
        if left:
            lines.append("Not measured here: " + "; ".join(c["name"] for c in left) + ".")
        lines += _without(found, groups, single)
        lines += _otherwise(part, asked, found, reading, which)
        if more:
            lines += ["", "Without one group, with intervals (a word: another verdict):"]
            lines.append(_aligned(_by_group(found, groups, ends=True)))
    if more:
        values = {where: table for where, table in sample.values.items() if where[1] in primary}
        lines += _more(part, replace(sample, values=values), horizon, reading["families"])
        lines += _decision(evidence, plan)
    return "\n".join(lines)


def _verdicts(found: pd.DataFrame, single: pd.DataFrame) -> list[str]:
    """The verdicts; where one or two problems alone decide on a difference, with their names."""
    told = []
    for name, verdict in found[["name", "verdict"]].values:
        rest = single[(single["name"] == name) & (single["verdict"] != verdict)]["without"]
        hangs = verdict in ("lower", "higher") and 0 < len(rest) <= 2
        told.append(f"{verdict}, hangs on {' and '.join(rest)}" if hangs else verdict)
    return told


def _decision(evidence: Evidence, plan: Plan) -> list[str]:
    """The decision page: a line for each case."""
    table = evidence.report
    table = table[(table["horizon"] == 1.0) & ~table["schedule"].str.endswith("_cold")]
    exact = [p for p, facts in evidence.provenance.items() if facts["group"] == "exact"]
    known = set(table[~table["problem"].isin(exact)]["optimizer"])
    primary = [name for name in plan.reading["optimizers"] if name in known]
    if not primary:  # nothing that the page is made of
        return []
    table = decision(evidence, plan.reading, rule=plan.untuned["rule"], optimizers=primary)
    rows = []
    for row in table.to_dict("records"):
        others = row["others"] if isinstance(row["others"], str) else ""
        shown = {"optimizer": row["optimizer"], "network": row["network"]}
        shown |= {"horizon": row["horizon"], "tuned": row["tuning"], "problems": row["problems"]}
        shown["schedule"] = " or ".join(filter(None, [row["schedule"], others]))
        shown["% above the best"] = f"{row['percent']:.0f} [{row['low']:.0f}, {row['high']:.0f}]"
        ends = row["kind_low"], row["kind_high"]
        kinds = "[{:.0f}, {:.0f}]".format(*ends) if np.isfinite(ends).all() else "-"
        shown["of these kinds"] = kinds
        for name, form in (("peak", "{:.2g}"), ("warmup", "{:.0%}")):
            values = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
            told = [form.format(value) for value in values if np.isfinite(value)]
            shown[name] = (
                told[0] + (f" [{told[1]}, {told[2]}]" if told[1:] else "") if told else "-"
            )
        rows.append(shown)
    title = (
        "Decision: what to use in each case (tuned: the peak; peak: over what a range test reads "
        "as the rate where the loss stops falling, with quartiles over problems):"
    )
    return ["", title, _aligned(rows)]


def _by_group(found: pd.DataFrame, groups: pd.DataFrame, ends: bool = False) -> list[dict]:
    """A row per contrast, a column for each group that is left out."""
    rows = []
    for name, verdict in found[["name", "verdict"]].values:
        own = groups[groups["name"] == name].to_dict("records")
        cells = {f"no {row['without']}": _estimate(row, verdict, ends) for row in own}
        rows.append({"name": name} | cells)
    return rows


def _without(found: pd.DataFrame, groups: pd.DataFrame, single: pd.DataFrame) -> list[str]:
    """A line per contrast: without each group, and without each problem."""
    rows = []
    whole = found.to_dict("records")
    for own, cells in zip(whole, _by_group(found, groups), strict=True):
        row = {"name": own["name"], "all": _estimate(own)} | cells
        left = single[single["name"] == own["name"]]
        if len(left):
            changed = list(left[left["verdict"] != own["verdict"]]["without"])
            low, high = left["percent"].min(), left["percent"].max()
            row["one problem less"] = f"{low:+.1f} to {high:+.1f}"
            row["changed by"] = f"{len(changed)}: {', '.join(changed)}" if changed else "none"
        rows.append(row)
    title = "What they hang on: without one group, without one problem (a word: another verdict):"
    return ["", title, _aligned(rows)]


def _otherwise(part: Evidence, asked, found: pd.DataFrame, reading: Mapping, which) -> list[str]:
    """A line per contrast: on the scale of what there was to learn, and with other budgets."""
    given = dict(draws=reading["draws"], families=reading["families"])
    level, best_of = reading["level"], reading["best_of"]
    sample = drawn(part, best_of=best_of, scale="learned", **given)
    points = variations.learned(sample, asked, level=level, **which)
    others = sorted({max(1, best_of // 2), part.trials["trial"].max() + 1} - {best_of})
    budgets = {}
    for k in others:
        sample = drawn(part, best_of=k, **given)
        budgets[k] = contrasts.table(sample, asked, margin=reading["margin"], level=level, **which)
    rows = []
    for i, (name, verdict) in enumerate(found[["name", "verdict"]].values):
        row = {
            "name": name,
            "points of what there was to learn": _estimate(points.iloc[i], ends=True),
        }
        for k, table in budgets.items():
            row[f"% for a search of {k}"] = _estimate(table.iloc[i], verdict, ends=True)
        rows.append(row)
    covered = ", ".join(f"{coverage(part, k):.1%} (of {k})" for k in others)
    title = (
        "Read otherwise (points: the sign alone is judged; winners that were run again: "
        f"{covered}; a word: another verdict):"
    )
    return ["", title, _aligned(rows)]


def _more(part: Evidence, sample: Drawn, horizon: float, families) -> list[str]:
    """Worst cases, budgets, usable ranges, the performance profile."""
    worst = views.worst_case(sample, horizon)
    safest = worst["safest"].map("{:.0%}".format)
    worst = worst.assign(percent=worst["percent"].map("{:+.1f}".format), safest=safest)
    budget = views.budget(part, horizon, families).T
    usable = views.usable(part, horizon=horizon).groupby(["schedule", "optimizer"])
    medians = usable[["share", "sensitivity"]].median().unstack("optimizer")
    medians.columns = [f"{optimizer}: {column}" for column, optimizer in medians.columns]
    profile = views.profile(sample, FACTORS, horizon).T
    return [
        "",
        "Worst case: the largest loss over the best method's in any setting, in percent; safest: "
        "how often, drawn again, no other method's is smaller:",
        worst.to_string(index=False),
        "",
        "Expected loss of the best of k trials over the setting's best trial, in percent:",
        _numbers(budget[[k for k in TRIALS if k in budget]], "{:+.1f}"),
        "",
        "Medians over problems. share: of random trials within 1.25 times the best of any method; "
        "sensitivity: what a random trial loses, in shares of what there was to learn:",
        _numbers(medians.loc[budget.index], "{:.2f}"),
        "",
        "Share of settings within a factor of the best method:",
        _numbers(profile, "{:.0%}"),
    ]


def _numbers(table: pd.DataFrame, written: str) -> str:
    """With the labels of its rows."""
    return table.map(written.format).rename_axis(index=None).to_string()


def _aligned(rows: list[dict]) -> str:
    """A column for each key; a row may lack some."""
    return pd.DataFrame(rows).fillna("-").to_string(index=False)


def _estimate(row: Mapping, but: str = "", ends: bool = False) -> str:
    """In percent or points, with its interval or not, and its verdict, if it is another one."""
    told = [f"{row['points' if 'points' in row else 'percent']:+.1f}"]
    if ends:
        told.append(_interval(row["low"], row["high"]))
    if row["verdict"] != but:
        told.append(row["verdict"])
    return " ".join(told)


def _interval(low: float, high: float) -> str:
    return f"[{low:+.1f}, {high:+.1f}]" if np.isfinite([low, high]).all() else "-"


def _shown(table: pd.DataFrame) -> str:
    """A table with its intervals as people read them."""
    pairs = [table[["low", "high"]].values, table[["kind_low", "kind_high"]].values]
    these, kinds = ([_interval(low, high) for low, high in pair] for pair in pairs)
    shown = {table.columns[0]: table.iloc[:, 0], "%": table["percent"].map("{:+.1f}".format)}
    shown |= {"these problems": these, "of these kinds": kinds}
    if "best" in table:
        shown["best"] = ["yes" if may else "" for may in table["best"]]
    if "p" in table:
        shown["verdict"] = table["verdict"]
        shown["p (Holm)"] = table["p"].map("{:.3f}".format)
        shown["lower / higher / of"] = [
            f"{low} / {high} / {of}"
            for low, high, of in table[["lower", "higher", "problems"]].values
        ]
    return pd.DataFrame(shown).to_string(index=False)
