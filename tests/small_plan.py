"""A small plan, as a file has it, and results made by hand; what the tests of the plan share."""

import copy
import json

from anneal_utils.benchmark import Evidence, Plan

import numpy as np
import pandas as pd

TEXT = """
version = 2

[protocol]
minutes = 5
trials = 8
tuning_seeds = 2
report_seeds = 3
candidates = 3
first_tuning_seed = 9000
scramble = 1
decades = 3.0
edge = 0.1
widen = 1.0
widenings = 1
scan_schedule = "linear"
scan_points = 5
scan_ratio = 4.0
scan_seeds = 2
warmup = { low = 0.1, high = 0.5, zero = 0.3333 }

[untuned]
optimizers = ["sgd"]
methods = ["constant", "linear"]
warmups = [0.0, 0.1]
factors = [0.3, 1.0]
seeds = 2
rule = "minimum"
low = 1e-5
high = 10.0
steps = 60

[reading]
level = 0.95
margin = 0.05
best_of = 4
draws = 200
optimizers = ["sgd"]
families = []

[methods]
constant = {}
linear = { end = { low = 0.01, high = 0.3, scale = "log", zero = 0.5 } }
linear_cold = { schedule = "linear", warmup = false }
one_cycle = {}

[optimizers.sgd]
[optimizers.adamw]
weight_decay = { choice = [0.0, 0.1] }

[tiers.small]
methods = ["constant", "linear", "linear_cold", "one_cycle"]
optimizers = { sgd = [1.0, 0.5], adamw = [1.0] }

[problems.bowl]
tier = "small"
load = "quadratic:epochs=4"
group = "exact"
ms = 1.0

[problems.article]
tier = "small"
group = "tabular"
ms = 3.0
methods = ["constant", "linear"]
optimizers = { sgd = [1.0] }

[[contrasts]]
name = "annealing"
plus = [{ method = "linear" }]
minus = [{ method = "constant" }]
"""


def plan_in(folder, text=TEXT, **changed) -> Plan:
    """The plan of ``text`` with some pieces of it changed, read from a file."""
    for old, new in changed.items():
        assert text.count(old) >= 1
        text = text.replace(old, new)
    path = folder / "plan.toml"
    path.write_text(text)
    return Plan.read(path)


def evidence_of(values, groups=("own",), chance=100.0, noise=0.0, rng=None) -> Evidence:
    """Results whose methods end at ``values`` [problems, methods, trials], with noise over seeds.

    4 tuning seeds, 6 report seeds (which share their luck over methods), all trials reported.
    """
    rng = rng or np.random.default_rng(0)
    trials, report, facts = [], [], {}
    for p, methods in enumerate(values):
        label = f"p{p}"
        facts[label] = {"group": groups[p % len(groups)], "normalised": False, "chance": chance}
        luck = rng.normal(0, noise, (2, 6))
        for m, cells in enumerate(methods):
            order = np.argsort(cells, kind="stable")
            for kind, rows, seeds, numbers in (
                (0, trials, range(4), range(len(cells))),
                (1, report, range(6), order),
            ):
                for trial in numbers:
                    for seed in seeds:
                        value = cells[trial] * np.exp(luck[kind, seed] + rng.normal(0, noise))
                        rows.append((label, "sgd", 1.0, f"m{m}", trial, seed, value, value))
    columns = ["problem", "optimizer", "horizon", "schedule", "trial", "seed", "tune", "test"]
    tables = [pd.DataFrame(rows, columns=columns) for rows in (trials, report)]
    tables[0]["widened"] = 0
    tables[1] = tables[1].assign(peak=0.1, knobs='{"warmup": 0.1}')
    return Evidence(*tables, copy.deepcopy(facts))


def knobs_of(row) -> dict:
    """The knobs of a row of the results."""
    return json.loads(row["knobs"])
