"""Results as text, for the command line."""

from anneal_utils.benchmark import contrasts, views
from anneal_utils.benchmark.draws import coverage, drawn
from anneal_utils.benchmark.evidence import Evidence
from anneal_utils.benchmark.plan import Plan

import numpy as np
import pandas as pd


def text(evidence: Evidence, plan: Plan | None = None) -> str:
    """What ``show`` prints: standings at the longest horizon, and the plan's contrasts.

    ``plan``: how the results are read; default, the committed one.
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
        f"Loss over the first one's, {level:.0%} intervals for these problems and for all of these "
        "kinds (none where a kind has one family); best: may be the best.",
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
    if asked and horizon == 1.0:
        found = contrasts.table(sample, asked, margin=margin, level=level, **which)
        lines += ["", f"Primary contrasts (as good: within {margin:.0%}):", _shown(found)]
        if left:
            lines.append("Not measured here: " + "; ".join(c["name"] for c in left) + ".")
    return "\n".join(lines)


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
