"""Which schedule to use, in sentences written from the results."""

from anneal_utils import _checks
from anneal_utils.benchmark.first.analysis import paired, ranking, select, worst_case
from anneal_utils.benchmark.first.results import Results


def recommendation(results: Results) -> list[str]:
    """Which schedule to use, in sentences written from the results; each holds its evidence.

    For results that hold the schedules constant and linear at horizon 1. The README and notebook
    07 print them. The caution is part of the text: under this protocol warmup is not a knob of
    every method, so a first place may be one of warmup and not of shape.
    """
    table = ranking(results).set_index("schedule")
    for name in ("constant", "linear"):
        _checks.choice("schedule", name, list(table.index))
    report = select(results.report)
    settings = report[["problem", "optimizer"]].drop_duplicates()
    gain = paired(results, "linear", "constant")
    lower, higher = gain[gain["high"] < 0], gain[gain["low"] > 0]
    barely = (lower["estimate"] > -0.01).sum()
    blamed = ", ".join(f"{row.problem} with {row.optimizer}" for row in higher.itertuples())
    if blamed:
        blamed = f": {blamed}. Before annealing is blamed there, add a warmup (notebook 07, 7.8)"
    near = (table["regret"] <= 0.01).sum()
    worst = worst_case(results)
    safest, others = worst.iloc[0], worst[1:].sort_values("first", ascending=False, kind="stable")
    constant = worst.set_index("schedule")["regret"]["constant"]
    return [
        f"**Use a decay to zero, tuned with and without a warmup.** Tuned linear decay, here "
        f"without any, ends below a tuned constant rate in {len(lower)} of {len(gain)} settings "
        f"({settings['problem'].nunique()} problems, {settings['optimizer'].nunique()} "
        f"optimizers; in {barely} of them by less than one per cent) and above it in "
        f"{len(higher)}{blamed}.",
        f"**Which shape, these results cannot tell apart.** {near} of {len(table)} schedules stay "
        f"within one per cent of what there was to learn (regret, interquartile mean over "
        f"settings), and they differ in warmup as well as in shape: a first place here may be "
        f"the warmup's.",
        f"**The least worst case: {safest['schedule']}.** Its largest regret over all settings is "
        f"{safest['regret']:.1%} of what there was to learn; a constant rate's is {constant:.0%}. "
        f"With the seeds drawn again {safest['schedule']} keeps this place in "
        f"{safest['first']:.0%} of the draws, {others['schedule'].iloc[0]} has it in "
        f"{others['first'].iloc[0]:.0%}. The same caution: peaks as tuned, warmup not shared.",
        "**A comparison with warmup inside every method's budget is being made.** Until its "
        "results are in, no order of the shapes is advised.",
    ]
