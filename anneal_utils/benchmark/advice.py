"""A decision, not a winner: what to use, from what is known about one's own case.

Problems of the group "exact" have no say: nobody has one of their own, and a range test of single
samples tells nothing there.
"""

import json
from collections.abc import Mapping

from anneal_utils import _checks
from anneal_utils.benchmark.contrasts import kind, percent, pooled, summary
from anneal_utils.benchmark.draws import Drawn, drawn, seed_weights
from anneal_utils.benchmark.evidence import Evidence
from anneal_utils.benchmark.tuning import CUTS
from anneal_utils.benchmark.views import common, may_be_best, standings

import numpy as np
import pandas as pd

COLUMNS = [
    *("optimizer", "network", "horizon", "tuning", "problems", "schedule", "others", "worse"),
    *("percent", "low", "high", "kind_low", "kind_high", "peak", "peak_low", "peak_high", "warmup"),
    *("warmup_low", "warmup_high", "kind_worse", "unread"),
]


def decision(
    evidence: Evidence, reading: Mapping, *, rule: str, optimizers=("momentum", "adamw"), draws=None
) -> pd.DataFrame:
    """A row for each case: optimizer, network, is the horizon known, can the peak be tuned?

    Columns: ``problems`` (how many speak); ``schedule``: the best as measured; ``others``: those
    that may be the best as well (see ``views.standings``); ``worse``: those that are not.
    ``percent``, ``low``, ``high``, ``kind_low``, ``kind_high``: the schedule's loss over that of
    the best method of each problem, for these problems and for all of these kinds.
    ``peak``, ``peak_low``, ``peak_high``: the peak over what ``rule`` reads from a range test,
    median and quartiles over problems; ``warmup``, ``warmup_low``, ``warmup_high``: the same of
    the share. ``kind_worse``: those that are above the schedule in the mean of all problems of
    these kinds. ``unread``: problems on which no range test could be read.

    ``reading``: as the plan has it. ``rule``: of the plan's range tests.
    """
    draws = reading["draws"] if draws is None else draws
    families = reading.get("families", ())
    sample = drawn(evidence, best_of=reading["best_of"], draws=draws, families=families)
    rows = []
    for optimizer in optimizers:
        for network in ("any", "normalised", "plain"):
            labels = _problems(evidence, optimizer, network)
            if labels:
                case = {"optimizer": optimizer, "network": network, "problems": len(labels)}
                rows.append(case | _tuned(evidence, sample, optimizer, labels, reading, rule))
                if not evidence.untuned.empty:
                    rows.append(case | _untuned(evidence, sample, optimizer, labels, reading))
        found = anytime(evidence, sample, optimizer, reading, draws)
        if found:
            rows.append({"optimizer": optimizer, "network": "any"} | found)
    return pd.DataFrame(rows).reindex(columns=COLUMNS)


def _problems(evidence: Evidence, optimizer: str, network: str) -> list[str]:
    """The problems of a kind of network that were measured with the optimizer at horizon 1."""
    report = evidence.report
    of = report[(report["optimizer"] == optimizer) & (report["horizon"] == 1.0)]["problem"]
    wanted = {"any": (True, False), "normalised": (True,), "plain": (False,)}[network]
    facts = evidence.provenance
    return [
        label
        for label in dict.fromkeys(of)
        if facts[label]["normalised"] in wanted and facts[label]["group"] != "exact"
    ]


def _part(sample: Drawn, optimizer: str, labels) -> Drawn:
    values = {
        where: table
        for where, table in sample.values.items()
        if where[0] in labels and where[1] == optimizer and where[2] == 1.0
    }
    return Drawn(values, sample.groups, sample.scale, sample.families)


def _ends(over: Mapping[str, np.ndarray], sample: Drawn, level: float) -> dict:
    """In percent, what is lost against the best of each problem: never less than nothing."""
    effect, low, high, _ = summary(pooled(over, sample), level)
    ends = percent([effect, low, high, *kind(over, sample, level)])
    ends[[1, 3]] = np.maximum(ends[[1, 3]], 0.0)
    names = ("percent", "low", "high", "kind_low", "kind_high")
    return dict(zip(names, map(float, ends), strict=True))


def _tuned(evidence, sample, optimizer, labels, reading, rule) -> dict:
    part = _part(sample, optimizer, labels)
    level = reading["level"]
    methods = [name for name in common(part) if not name.endswith("_cold")]
    table = standings(part, level=level, methods=methods)
    best = table["schedule"][0]
    same = table[1:]["best"]
    over = {
        where[0]: values[best].to_numpy() - values.to_numpy().min(axis=1)
        for where, values in part.values.items()
    }
    everywhere = table["schedule"][table["kind_low"] > 0]
    return {
        "horizon": "known",
        "tuning": "yes",
        "kind_worse": ", ".join(everywhere),
        "schedule": best,
        "others": ", ".join(table[1:][same]["schedule"]),
        "worse": ", ".join(table[1:][~same]["schedule"]),
        **_ends(over, sample, level),
        **_peaks(evidence, optimizer, labels, best, rule),
    }


def _winners(evidence: Evidence, optimizer: str, schedule: str) -> pd.DataFrame:
    """The best trial of a schedule on each problem at horizon 1: problem, peak, knobs."""
    report = evidence.report
    mine = report[
        (report["optimizer"] == optimizer)
        & (report["horizon"] == 1.0)
        & (report["schedule"] == schedule)
    ]
    return mine.drop_duplicates("problem")[["problem", "peak", "knobs"]]


def _peaks(evidence, optimizer, labels, schedule, rule) -> dict:
    """The tuned peak over a range test's rate, and the warmup, over problems."""
    best = _winners(evidence, optimizer, schedule).set_index("problem").loc[labels]
    shares = [json.loads(knobs)["warmup"] for knobs in best["knobs"]]
    told = _quartiles("warmup", shares)
    ranges = evidence.ranges
    if ranges.empty:
        return told
    own = ranges[(ranges["optimizer"] == optimizer) & (ranges["rule"] == rule)]
    read = own.groupby("problem")["rate"].median().reindex(labels)
    ratio = best["peak"] / read
    unread = ", ".join(ratio.index[ratio.isna()])
    return told | _quartiles("peak", ratio.dropna()) | {"unread": unread}


def _quartiles(name: str, values) -> dict[str, float]:
    """Median and quartiles, NaN of nothing."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75]) if len(values) else [np.nan] * 3
    return {name: float(middle), f"{name}_low": float(low), f"{name}_high": float(high)}


def _untuned(evidence, sample, optimizer, labels, reading) -> dict:
    """The best arm (schedule, warmup, factor) by the mean over groups, judged on other problems.

    Each problem is judged by the arm that is best on the problems of all other families, so that
    no data choose what is reported on them.
    """
    table = evidence.untuned
    table = table[(table["optimizer"] == optimizer) & table["problem"].isin(labels)]
    part = _part(sample, optimizer, list(dict.fromkeys(table["problem"])))
    arms = table.assign(log=np.log(np.maximum(table["test"], 1e-12)))
    keys = ["schedule", "knobs", "factor"]
    seeds = arms.pivot_table(index=keys, columns=["problem", "seed"], values="log")
    draws = len(next(iter(part.values.values()))) - 1
    logs = {}
    for problem in dict.fromkeys(arms["problem"]):
        runs = seeds[problem].to_numpy()  # [arms, seeds]; they are the seeds of the trials
        weights = seed_weights(sample.family(problem), "tune", runs.shape[1], draws)
        logs[problem] = runs @ weights.T  # [arms, 1 + draws]
    over = {
        where[0]: logs[where[0]] - values.to_numpy().min(axis=1)
        for where, values in part.values.items()
    }

    def best_without(family: str | None) -> int:
        others = {p: v[:, 0] for p, v in over.items() if sample.family(p) != family}
        return int(pooled(others or {p: v[:, 0] for p, v in over.items()}, sample).argmin())

    chosen = best_without(None)
    judged = {p: values[best_without(sample.family(p))] for p, values in over.items()}
    schedule, knobs, factor = seeds.index[chosen]
    return {
        "horizon": "known",
        "tuning": "no",
        "problems": len(over),
        "schedule": schedule,
        **_ends(judged, sample, reading["level"]),
        "peak": float(factor),
        "warmup": float(json.loads(knobs)["warmup"]),
    }


def anytime(evidence, sample, optimizer, reading, draws) -> dict | None:
    """Where a run may be stopped at any time: methods tuned for the whole, read at shares of it.

    Over the best method that was planned for each share; on the problems with all horizons.
    """
    report = evidence.report[evidence.report["optimizer"] == optimizer]
    first = report.groupby(["problem", "horizon", "schedule"], sort=False)["trial"].transform(
        "first"
    )
    report = report[report["trial"] == first]
    columns = {**{cut: f"tune_{cut:g}" for cut in CUTS}, 1.0: "tune"}
    over: dict[str, dict[str, np.ndarray]] = {}
    for problem, part in report.groupby("problem", sort=False):
        exact = evidence.provenance[problem]["group"] == "exact"
        if exact or not set(columns) <= set(part["horizon"]):
            continue
        weights = seed_weights(sample.family(problem), "report", part["seed"].nunique(), draws)
        cuts = []
        for cut, column in columns.items():
            planned = part[part["horizon"] == cut].pivot(
                index="schedule", columns="seed", values="tune"
            )
            long = part[part["horizon"] == 1.0].pivot(
                index="schedule", columns="seed", values=column
            )
            if long.isna().to_numpy().any():
                continue  # no epoch ends there
            logs = [np.log(np.maximum(t.to_numpy(), 1e-12)) @ weights.T for t in (long, planned)]
            cuts.append(logs[0] - logs[1].min(axis=0))
        over[problem] = dict(zip(long.index, np.mean(cuts, axis=0), strict=True))
    if not over:
        return None
    methods = [m for m in next(iter(over.values())) if all(m in of for of in over.values())]
    methods = [m for m in methods if not m.endswith("_cold")]
    apart = {m: {problem: of[m] for problem, of in over.items()} for m in methods}
    values = np.array([pooled(apart[m], sample) for m in methods])
    best = methods[int(values[:, 0].argmin())]
    near = [m for m, may in zip(methods, may_be_best(values, reading["level"]), strict=True) if may]
    return {
        "horizon": "unknown",
        "tuning": "yes",
        "problems": len(over),
        "schedule": best,
        "others": ", ".join(m for m in near if m != best),
        "worse": ", ".join(m for m in methods if m not in near and m != best),
        **_ends(apart[best], sample, reading["level"]),
    }


def sentences(evidence: Evidence, reading: Mapping, *, rule: str, draws=None) -> list[str]:
    """The decision in five sentences, written from the results; Markdown."""
    table = decision(evidence, reading, rule=rule, draws=draws).set_index(
        ["optimizer", "network", "horizon", "tuning"]
    )
    _checks.choice("evidence", "momentum", [key[0] for key in table.index])
    told = [_known(table, optimizer) for optimizer in ("momentum", "adamw")]
    rest = (_peak_sentence(table), _plain_sentence(table), _anytime_sentence(table))
    return told + [sentence for sentence in rest if sentence]


def _interval(row) -> str:
    told = f"{row['percent']:.0f} % [{row['low']:.0f}, {row['high']:.0f}]"
    if np.isfinite(row["kind_high"]):
        ends = f"[{row['kind_low']:.0f}, {row['kind_high']:.0f}]"
        told += f", in the mean of all problems of these kinds {ends}"
    return told


def _known(table, optimizer: str) -> str:
    row = table.loc[(optimizer, "any", "known", "yes")]
    names = [row["schedule"], *filter(None, row["others"].split(", "))]
    apart = ", which are not told apart" if len(names) > 1 else ""
    worse = ""
    if row["worse"]:
        also = row["kind_worse"] or "none of them"
        worse = (
            f" Not the best on these problems: {row['worse']}; in the mean of all problems of "
            f"these kinds: {also}."
        )
    return (
        f"**With {optimizer}, a known horizon and a peak that you tune: {_or(names)}**{apart}. "
        f"Over {int(row['problems'])} problems the loss of {row['schedule']} is {_interval(row)} "
        f"above that of the best method of each.{worse}"
    )


def _or(names: list[str]) -> str:
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _peak_sentence(table) -> str | None:
    if not np.isfinite(table["peak"].to_numpy(float)).any():
        return None  # without range tests
    parts, unread = [], {}
    for optimizer in ("momentum", "adamw"):
        row = table.loc[(optimizer, "any", "known", "yes")]
        missing = row["unread"] if isinstance(row["unread"], str) else ""
        unread |= dict.fromkeys(filter(None, missing.split(", ")))
        parts.append(
            f"with {optimizer} {row['peak']:.2g} times (half of the problems: "
            f"{row['peak_low']:.2g} to {row['peak_high']:.2g}) and a warmup of {row['warmup']:.0%} "
            f"(half: {row['warmup_low']:.0%} to {row['warmup_high']:.0%})"
        )
    missing = f" No range test could be read on {', '.join(unread)}." if unread else ""
    return (
        "**Where to begin to look for the peak:** at what a range test gives as the rate where the "
        f"loss stops falling, {'; '.join(parts)}.{missing}"
    )


def _cases(table, horizon: str, tuning: str):
    """(optimizer, row) of those for which there is such a case."""
    for optimizer in ("momentum", "adamw"):
        if (key := (optimizer, "any", horizon, tuning)) in table.index:
            yield optimizer, table.loc[key]


def _plain_sentence(table) -> str | None:
    parts = [
        f"{row['schedule']} with {optimizer} at {row['peak']:.2g} times that rate and a warmup of "
        f"{row['warmup']:.0%}: what was chosen so on the other problems is over "
        f"{int(row['problems'])} problems {_interval(row)} above the best"
        for optimizer, row in _cases(table, "known", "no")
    ]
    return f"**If you can not tune:** {'; '.join(parts)}." if parts else None


def _anytime_sentence(table) -> str | None:
    parts, count = [], 0
    for optimizer, row in _cases(table, "unknown", "yes"):
        names = [row["schedule"], *filter(None, row["others"].split(", "))]
        parts.append(f"{_or(names)} with {optimizer}, {row['schedule']} by {_interval(row)}")
        count = int(row["problems"])
    if not parts:
        return None
    return (
        f"**If the run may be stopped at any time** (over the {count} problems with all horizons): "
        "above what the best method planned for an eighth, a quarter, a half and the whole would "
        f"reach, {'; '.join(parts)}."
    )
