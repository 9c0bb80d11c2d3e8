"""The plan: which methods compete in which settings, checked before anything is computed."""

from dataclasses import dataclass

from anneal_utils import _checks, schedules
from anneal_utils.benchmark.entrants import methods_of, problem_of
from anneal_utils.benchmark.protocol import Protocol, default_problems, optimizer_names


@dataclass(frozen=True)
class Group:
    """The methods that share a problem, an optimizer and a horizon, and so a compiled program."""

    problem: str
    optimizer: str
    horizon: float
    epochs: int


def plan(names, texts, optimizers, horizons, extra, protocol):
    """(groups, methods, protocol), all checked before anything is computed."""
    unknown = sorted(set(protocol) - set(Protocol.__dataclass_fields__))
    if unknown:
        _checks.fail(
            "protocol", unknown[0], "must be one of " + ", ".join(Protocol.__annotations__)
        )
    protocol = Protocol(**protocol)
    names = default_problems() if names is None else list(names)
    texts = schedules.names() if texts is None else list(texts)
    optimizers, horizons = list(optimizers), list(horizons)
    extra, longer = dict(extra[0] or {}), names if extra[1] is None else list(extra[1])
    for argument, values in (
        ("problems", names),
        ("schedules", texts),
        ("optimizers", optimizers),
        ("horizons", horizons),
    ):
        if not values:
            _checks.fail(argument, values, "must hold at least one")
        if len(set(values)) < len(values):
            _checks.fail(argument, values, "must not repeat")
    for optimizer in [*optimizers, *extra]:
        _checks.choice("optimizer", optimizer, optimizer_names())
    methods = methods_of(texts)
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
    for name in names:
        problem = problem_of(name)
        for optimizer in optimizers:
            more = extra.get(optimizer, ()) if name in longer else ()
            for horizon in sorted({*horizons, *more}):
                epochs = max(1, round(_checks.positive("horizon", horizon) * problem.epochs))
                groups.append(Group(name, optimizer, float(horizon), epochs))
                steps = epochs * problem.steps_per_epoch
                for schedule, variants in methods.values():
                    for knobs in map(dict, variants):
                        warmup = knobs.pop("warmup", None)
                        schedules.build(schedule, 1.0, steps, warmup=warmup, **knobs)
    return groups, methods, protocol
