"""What is had without tuning: a range test's peak times a factor, knobs at their defaults."""

import json
from collections.abc import Iterator

from anneal_utils import callbacks
from anneal_utils._seeds import seeded
from anneal_utils.benchmark.chunks import Chunk
from anneal_utils.benchmark.entrants import maker_of, problem_of
from anneal_utils.benchmark.plan import RULES, Plan, Setting, epochs_at
from anneal_utils.benchmark.spaces import rounded
from anneal_utils.benchmark.tuning import rows_of, table_of

import numpy as np
import pandas as pd


def range_test(problem, optimizer: str, seeds, rules) -> pd.DataFrame:
    """Rates that range tests suggest, a row for each rule and seed: seed, rule, rate.

    One sweep a seed with Keras's own ``fit``, from ``low`` to ``high`` in ``steps`` steps of
    ``rules``; see ``callbacks.RangeTest``. NaN where a sweep ended too early to be read.
    """
    found = []
    model = problem.build()  # one, that is compiled once; a sweep puts back all but the weights
    model.compile(maker_of(optimizer)(rules["low"]), problem.loss)
    for seed in seeds:
        with seeded(seed):
            model.set_weights(problem.build().get_weights())
            test = callbacks.RangeTest(rules["low"], rules["high"], rules["steps"])
            x, y, *weight = problem.part("train")
            model.fit(
                *(x, y),
                sample_weight=weight[0] if weight else None,
                batch_size=problem.batch_size,
                epochs=rules["steps"],
                verbose=0,
                callbacks=[test],
            )
        try:
            rates = dict(test.suggest()[["rule", "rate"]].itertuples(index=False))
        except ValueError:
            rates = {}
        found.append({rule: rates.get(rule, np.nan) for rule in RULES} | {"seed": seed})
    return pd.DataFrame(found).melt("seed", list(RULES), "rule", "rate")


def wanted(plan: Plan, setting: Setting) -> bool:
    """Whether the plan asks for it in this setting."""
    rules = plan.untuned
    return (
        bool(rules)
        and setting.horizon == 1.0
        and setting.optimizer in rules["optimizers"]
        and bool({*plan.entries[setting.problem].methods} & {*rules["methods"]})
    )


def protocol_of(plan: Plan, setting: Setting) -> Iterator:
    """The runs of one setting, as a generator: yields chunks, is sent what they gave.

    Returns (frame of range tests, frame of runs); no runs where no sweep can be read. The peak is
    the median over seeds of what the plan's rule suggests, times each of the plan's factors; every
    method that the plan names at its default knobs, with each of the plan's warmups.
    """
    entry, rules = plan.entries[setting.problem], plan.untuned
    problem = problem_of(entry.load)
    epochs = epochs_at(problem.epochs, setting.horizon)
    first = plan.protocol["first_tuning_seed"]
    seeds = range(first, first + rules["seeds"])
    where = {**vars(setting), "epochs": epochs}
    tests = range_test(problem, setting.optimizer, seeds, rules)
    base = float(tests.loc[tests["rule"] == rules["rule"], "rate"].median())
    if np.isnan(base):
        return tests.assign(**where), pd.DataFrame()
    asked = [
        (label, warmup, factor)
        for label in entry.methods
        if label in rules["methods"]
        for warmup in rules["warmups"]
        for factor in rules["factors"]
    ]
    chunks = [
        Chunk(
            *(entry.load, setting.optimizer, epochs, plan.methods[label].schedule),
            *((("warmup", warmup),), (rounded(base * factor),), tuple(seeds)),
        )
        for label, warmup, factor in asked
    ]
    outcomes = yield chunks
    rows = [
        rows_of(problem, chunk, found)
        | {"schedule": label, "factor": factor, "knobs": json.dumps({"warmup": warmup})}
        for (label, warmup, factor), chunk, found in zip(asked, chunks, outcomes, strict=True)
    ]
    return tests.assign(**where), table_of(rows).assign(**where)
