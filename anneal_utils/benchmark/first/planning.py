"""The plan: which methods compete in which settings, checked before anything is computed."""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass

from anneal_utils import _checks, schedules
from anneal_utils.benchmark.entrants import (
    build,
    label_of,
    listed,
    methods_of,
    once,
    problem_of,
    problems_of,
)
from anneal_utils.benchmark.first.protocol import (
    Protocol,
    as_then,
    default_problems,
    optimizer_names,
)
from anneal_utils.problems import Problem


@dataclass(frozen=True)
class Group:
    """The methods that share a problem, an optimizer and a horizon, and so a compiled program."""

    problem: str | Problem
    optimizer: str
    horizon: float
    epochs: int

    def columns(self) -> dict:
        """What its rows of the results say of it."""
        return {**vars(self), "problem": label_of(self.problem)}


def plan(given, schedules_, optimizers, horizons, extra, protocol):
    """(groups, methods, protocol), all checked before anything is computed.

    ``given``: the problems; ``extra``: more horizons by optimizer, and the problems that get them.
    """
    unknown = sorted(set(protocol) - set(Protocol.__dataclass_fields__))
    if unknown:
        _checks.fail(
            "protocol", unknown[0], "must be one of " + ", ".join(Protocol.__annotations__)
        )
    protocol = Protocol(**protocol)
    chosen = problems_of("problems", default_problems() if given is None else given)
    rule = "must be an optimizer's name or a list of them"
    optimizers = listed("optimizers", optimizers, str, rule)
    once("optimizers", optimizers)
    horizons = _horizons("horizons", horizons)
    once("horizons", horizons)
    more, longer = _extra(*extra, chosen)
    for optimizer in [*optimizers, *more]:
        _checks.choice("optimizer", optimizer, optimizer_names())
    methods = methods_of(schedules.names() if schedules_ is None else schedules_)
    for label, (_, variants) in methods.items():
        if protocol.peaks is not None and len(variants) > 1:
            _checks.fail("peaks", protocol.peaks, f"leave no room for the variants of {label!r}")
        if protocol.budget < 3 * len(variants):
            _checks.fail(
                "budget",
                protocol.budget,
                f"must be >= {3 * len(variants)}, three peaks for each variant of {label!r}",
            )
    groups = []
    for one in chosen:
        problem = problem_of(as_then(one))
        for optimizer in optimizers:
            added = more.get(optimizer, ()) if label_of(one) in longer else ()
            for horizon in sorted({*horizons, *added}):
                epochs = max(1, round(_checks.positive("horizon", horizon) * problem.epochs))
                groups.append(Group(one, optimizer, float(horizon), epochs))
                for name, variants in methods.values():
                    for knobs in variants:
                        build(name, knobs, epochs * problem.steps_per_epoch)
    return groups, methods, protocol


def _horizons(argument: str, given) -> list:
    rule = "must be a number, a multiple of the problem's epochs, or a list of them"
    return listed(argument, given, numbers.Real, rule)


def _extra(horizons, problems, chosen) -> tuple[dict, list[str]]:
    """More horizons by optimizer, and the labels of the problems that get them."""
    horizons = {} if horizons is None else horizons
    if not isinstance(horizons, Mapping):
        _checks.fail("extra_horizons", horizons, "must be a dict {optimizer: horizons}")
    more = {name: _horizons("extra_horizons", values) for name, values in horizons.items()}
    longer = chosen if problems is None else problems_of("extra_problems", problems)
    return more, list(map(label_of, longer))
