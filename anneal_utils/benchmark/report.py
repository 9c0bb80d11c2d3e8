"""Results as text, for the command line."""

from anneal_utils.benchmark import contrasts, views
from anneal_utils.benchmark.draws import coverage, drawn
from anneal_utils.benchmark.evidence import Evidence
from anneal_utils.benchmark.plan import Plan

import pandas as pd


def text(evidence: Evidence) -> str:
    """What ``show`` prints: standings at the longest horizon, and the plan's contrasts."""
    plan = Plan.read()
    level, margin = plan.reading["level"], plan.reading["margin"]
    best_of = plan.reading["best_of"]
    horizon = max(evidence.report["horizon"])
    sample = drawn(evidence, best_of=best_of, draws=plan.reading["draws"])
    problems = list(dict.fromkeys(evidence.report["problem"]))
    optimizers = list(dict.fromkeys(evidence.report["optimizer"]))
    lines = [
        f"{len(problems)} problems ({', '.join(problems)}), {', '.join(optimizers)}, horizon "
        f"{horizon:g}. Value: what a search of {best_of} trials is expected to reach on the test "
        f"part; {coverage(evidence, best_of):.1%} of its winners were run again on fresh seeds.",
        f"Loss over the first one's, {level:.0%} intervals for these problems and for a new one "
        f"of the kind; as good: within {margin:.0%}.",
        "",
    ]
    table = views.standings(sample, margin=margin, level=level, horizon=horizon)
    lines.append(_shown(table))
    known = set(table["schedule"])
    asked = [c for c in plan.contrasts if _terms(c) <= known and len(optimizers) > 1]
    if asked and horizon == 1.0:
        found = contrasts.table(sample, asked, margin=margin, level=level)
        lines += ["", "Primary contrasts:", _shown(found)]
    return "\n".join(lines)


def _terms(contrast) -> set[str]:
    return {term["method"] for term in [*contrast["plus"], *contrast["minus"]]}


def _shown(table: pd.DataFrame) -> str:
    """A table with its intervals as people read them."""
    pairs = [table[["low", "high"]].values, table[["new_low", "new_high"]].values]
    these, new = ([f"[{low:+.1f}, {high:+.1f}]" for low, high in pair] for pair in pairs)
    shown = {table.columns[0]: table.iloc[:, 0], "%": table["percent"].map("{:+.1f}".format)}
    shown |= {"these problems": these, "verdict": table["verdict"], "a new problem": new}
    for column in ("first", "new_first"):
        if column in table:
            shown[column] = table[column].map("{:.0%}".format)
    if "p" in table:
        shown["p (Holm)"] = table["p"].map("{:.3f}".format)
        shown["lower / higher / of"] = [
            f"{low} / {high} / {of}"
            for low, high, of in table[["lower", "higher", "problems"]].values
        ]
    return pd.DataFrame(shown).to_string(index=False)
