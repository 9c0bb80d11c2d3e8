"""The plan: everything that decides a comparison, written down and committed before any result."""

import functools
import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from anneal_utils import _checks, _places, identity, optimizers, schedules
from anneal_utils.benchmark.entrants import label_of, problem_of, problems_of
from anneal_utils.benchmark.spaces import AXES, Axis, design
from anneal_utils.problems import Problem

import pandas as pd

COMMITTED = _places.committed() / "plan.toml"
RULES = ("smith_max", "smith_base", "minimum", "steep", "valley", "slide")  # of a range test
GROUPS = ("exact", "tabular", "images", "sequences", "own")


@dataclass(frozen=True)
class Method:
    """What competes: a shape with the knobs that are tuned with its peak, under one label."""

    label: str
    schedule: str
    knobs: Mapping[str, Axis] = field(default_factory=dict)
    warmup: bool = True  # whether its trials vary the warmup


@dataclass(frozen=True)
class Setting:
    """What methods share: a problem (as text), an optimizer, a horizon, and so a program."""

    problem: str
    optimizer: str
    horizon: float


@dataclass(frozen=True)
class Entry:
    """A problem of the plan: how it is loaded, its group, its optimizers with their horizons.

    ``ms``: measured milliseconds of a run at horizon 1. ``methods``: labels. ``trials``,
    ``tuning``, ``report``: numbers of trials and of seeds, where they are not the plan's.
    ``downloaded``: needs a download, so it is measured only where it is asked for by name.
    """

    load: str | Problem
    group: str
    ms: float
    optimizers: Mapping[str, tuple[float, ...]]
    methods: tuple[str, ...]
    trials: int
    tuning: int
    report: int
    downloaded: bool = False


@dataclass(frozen=True)
class Plan:
    """What is fixed before anything is computed; made by :meth:`read`, narrowed by :meth:`select`.

    ``entries``: problems by label. ``methods``: by label. ``axes``: the warmup's, and those of the
    optimizers' own knobs, ``{optimizer: {knob: Axis}}``. ``protocol``, ``untuned``, ``reading``,
    ``contrasts``: as the file has them.
    """

    version: int
    entries: Mapping[str, Entry]
    methods: Mapping[str, Method]
    warmup: Axis
    axes: Mapping[str, Mapping[str, Axis]]
    protocol: Mapping
    untuned: Mapping
    reading: Mapping
    contrasts: tuple[Mapping, ...]

    @classmethod
    def read(cls, path: Path | str = COMMITTED) -> "Plan":
        """The plan in a file; ``ValueError`` says what in it can not be used."""
        try:
            given = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError(f"plan = {str(path)!r}: there is no such file.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise ValueError(f"plan = {str(path)!r}: can not be read ({error}).") from error
        try:
            return _plan_of(given)
        except KeyError as error:
            raise ValueError(f"plan = {str(path)!r}: must have {error}.") from None

    @functools.cached_property
    def digest(self) -> str:
        """Names what the plan says, whatever its comments."""
        return identity.digest(json.dumps(_plain(self), sort_keys=True))

    def of(self, problem: str) -> "Plan":
        """The part that decides about one problem's results: the rest is left out.

        So the results of a problem stay those of the plan when another problem or method is added
        to it, or when results are to be read in another way.
        """
        entry = replace(self.entries[problem], ms=0.0)
        methods = {label: self.methods[label] for label in entry.methods}
        axes = {name: self.axes.get(name, {}) for name in entry.optimizers}
        protocol = {name: value for name, value in self.protocol.items() if name != "minutes"}
        only = dict(entries={problem: entry}, methods=methods, axes=axes, protocol=protocol)
        return replace(self, **only, version=0, contrasts=(), reading={})

    def settings(self, problem: str) -> list[Setting]:
        """The settings of one problem, the longest horizon of each optimizer first."""
        found = self.entries[problem].optimizers
        return [Setting(problem, o, h) for o, hs in found.items() for h in sorted(hs, reverse=True)]

    def knobs(self, method: Method, optimizer: str) -> dict[str, Axis]:
        """The axes of a trial besides its peak, in the order of the design's columns."""
        warmup = self.warmup if method.warmup else Axis(choice=(0.0,))
        return {"warmup": warmup, **self.axes.get(optimizer, {}), **method.knobs}

    def optimizers(self) -> list[str]:
        """All that some problem is trained with."""
        return list(dict.fromkeys(o for entry in self.entries.values() for o in entry.optimizers))

    def select(self, *, problems=None, methods=None, optimizers=None, horizons=None, **numbers):
        """The plan with only these problems, methods, optimizers and horizons.

        What is not in it is added, if it is registered: a problem in a group of its own, a
        schedule with no knob but peak and warmup, an optimizer at horizon 1. ``numbers``:
        ``trials``, ``tuning``, ``report`` in place of the plan's.
        """
        return _narrowed(self, problems, methods, optimizers, horizons, numbers)

    def cost(self) -> pd.DataFrame:
        """What the plan costs at most, unless a range is widened: problem, runs, ms, minutes."""
        rows = []
        for label, entry in self.entries.items():
            cell = entry.trials * entry.tuning + self.protocol["candidates"] * entry.report
            scan = self.protocol["scan_points"] * self.protocol["scan_seeds"]
            each = scan + cell * len(entry.methods)
            horizons = [h for s in entry.optimizers.values() for h in s]
            rules, plain = self.untuned, 0
            if rules:
                arms = [rules["methods"], rules["warmups"], rules["factors"], range(rules["seeds"])]
                arms.append(set(rules["optimizers"]) & set(entry.optimizers))
                plain = math.prod(map(len, arms))
            runs, whole = each * len(horizons) + plain, each * sum(horizons) + plain
            rows.append((label, entry.group, runs, entry.ms, whole))
        table = pd.DataFrame(rows, columns=["problem", "group", "runs", "ms", "minutes"])
        return table.assign(minutes=table["minutes"] * table["ms"] / 60_000)


def _plain(value):
    """A plan as what JSON can hold."""
    if isinstance(value, Problem):
        return value.name
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


PROTOCOL = {  # what [protocol] must hold, and the least of it
    **dict(trials=2, tuning_seeds=2, report_seeds=2, candidates=1, first_tuning_seed=1),
    **dict(scramble=0, scan_points=3, scan_seeds=1, widenings=0),
}


def _plan_of(given: Mapping) -> Plan:
    protocol = dict(given["protocol"])
    for name, least in PROTOCOL.items():
        _checks.count(f"protocol.{name}", protocol[name], low=least)
    for name in ("decades", "scan_ratio", "widen", "minutes"):
        _checks.positive(f"protocol.{name}", protocol[name])
    _checks.number("protocol.edge", protocol["edge"], low=0, high=0.5)
    if protocol["report_seeds"] > protocol["first_tuning_seed"]:
        rule = f"must be <= {protocol['first_tuning_seed']}, where the tuning seeds start"
        _checks.fail("protocol.report_seeds", protocol["report_seeds"], rule)
    design(protocol["trials"], 0)  # refuses what is no power of two
    methods = {label: _method_of(label, told) for label, told in given["methods"].items()}
    axes = {
        optimizer: {k: Axis.read(f"optimizers.{optimizer}.{k}", v) for k, v in knobs.items()}
        for optimizer, knobs in given["optimizers"].items()
    }
    for optimizer in axes:
        _checks.choice("optimizer", optimizer, optimizers.names())
    tiers = given["tiers"]
    entries = {
        label: _entry_of(label, told, tiers, methods, axes, protocol)
        for label, told in given["problems"].items()
    }
    for contrast in given["contrasts"]:
        for term in [*contrast["plus"], *contrast["minus"]]:
            _checks.choice(f"contrast {contrast['name']!r}", term["method"], methods)
            if "optimizer" in term:
                _checks.choice(f"contrast {contrast['name']!r}", term["optimizer"], axes)
    return Plan(
        _checks.count("version", given["version"]),
        entries,
        methods,
        Axis.read("protocol.warmup", protocol.pop("warmup")),
        axes,
        protocol,
        _untuned_of(given.get("untuned", {}), methods, axes),
        _reading_of(given["reading"], entries, axes),
        tuple(given["contrasts"]),
    )


def _method_of(label: str, told: Mapping) -> Method:
    told = dict(told)
    schedule, warmup = told.pop("schedule", label), told.pop("warmup", True)
    _checks.choice(f"methods.{label}.schedule", schedule, schedules.names())
    knobs = {knob: Axis.read(f"methods.{label}.{knob}", axis) for knob, axis in told.items()}
    if len(knobs) > AXES - 3:
        _checks.fail(f"methods.{label}", list(knobs), f"must be at most {AXES - 3} knobs")
    return Method(label, schedule, knobs, warmup)


def _entry_of(label: str, told: Mapping, tiers, methods, axes, protocol) -> Entry:
    told = {**tiers[_checks.choice(f"problems.{label}.tier", told["tier"], tiers)], **told}
    for optimizer, horizons in told["optimizers"].items():
        _checks.choice(f"problems.{label}.optimizers", optimizer, axes)
        for horizon in horizons:
            _checks.positive(f"problems.{label}.optimizers.{optimizer}", horizon)
    chosen = list(methods) if told["methods"] == "all" else told["methods"]
    for method in chosen:
        _checks.choice(f"problems.{label}.methods", method, methods)
    _once(f"problems.{label}.methods", chosen)
    for optimizer, horizons in told["optimizers"].items():
        _once(f"problems.{label}.optimizers.{optimizer}", horizons)
    design(told.get("trials", 2), 0)  # refuses what is no power of two
    return Entry(
        told.get("load", label),
        _checks.choice(f"problems.{label}.group", told["group"], GROUPS),
        _checks.positive(f"problems.{label}.ms", told["ms"]),
        {name: tuple(map(float, some)) for name, some in told["optimizers"].items()},
        tuple(chosen),
        told.get("trials", protocol["trials"]),
        told.get("tuning_seeds", protocol["tuning_seeds"]),
        told.get("report_seeds", protocol["report_seeds"]),
        told.get("downloaded", False),
    )


def _once(argument: str, values) -> None:
    """``ValueError`` where something is given twice."""
    if len(set(values)) < len(list(values)):
        _checks.fail(argument, list(values), "must not repeat")


READING = {"level", "margin", "best_of", "draws", "optimizers", "families"}


def _reading_of(told: Mapping, entries, axes) -> dict:
    for name in READING - set(told):
        raise KeyError(name)
    for name in told:
        _checks.choice("reading", name, READING)
    _checks.number("reading.level", told["level"], low=0.5, high=0.999)
    _checks.positive("reading.margin", told["margin"])
    for name in ("best_of", "draws"):
        _checks.count(f"reading.{name}", told[name], low=1)
    for optimizer in told["optimizers"]:
        _checks.choice("reading.optimizers", optimizer, axes)
    for family in told["families"]:
        for problem in family:
            _checks.choice("reading.families", problem, entries)
    return dict(told)


def _untuned_of(told: Mapping, methods, axes) -> dict:
    if told:
        for name in ("steps", "seeds"):
            _checks.count(f"untuned.{name}", told[name])
        for name in ("low", "high"):
            _checks.positive(f"untuned.{name}", told[name])
        for name, known in (("methods", methods), ("optimizers", axes)):
            for one in told[name]:
                _checks.choice(f"untuned.{name}", one, known)
        for name in ("factors", "warmups"):
            if not isinstance(told[name], list):
                _checks.fail(f"untuned.{name}", told[name], "must be a list of numbers")
        for factor in told["factors"]:
            _checks.positive("untuned.factors", factor)
        for warmup in told["warmups"]:
            _checks.number("untuned.warmups", warmup, low=0, high=0.9)
        _checks.choice("untuned.rule", told["rule"], RULES)
    return dict(told)


def _narrowed(plan: Plan, problems, methods, chosen, horizons, numbers) -> Plan:
    unknown = sorted(set(numbers) - {"trials", "tuning", "report"})
    if unknown:
        _checks.fail("numbers", unknown[0], "must be trials, tuning or report")
    for name, value in numbers.items():
        _checks.count(name, value, low=2)
    design(numbers.get("trials", 2), 0)
    known = dict(plan.methods)
    for name, values in (("schedules", methods), ("optimizers", chosen), ("horizons", horizons)):
        _once(name, values or ())
    for label in methods or ():
        if label not in known:
            known[label] = Method(label, _checks.choice("method", label, schedules.names()))
    entries = {}
    if problems is None:
        problems = [label for label, entry in plan.entries.items() if not entry.downloaded]
    for given in problems_of("problems", problems):
        label = label_of(given)
        if label not in plan.entries:
            problem_of(given)  # refuses what is not registered
        entry = plan.entries.get(label) or Entry(
            given, "own", 0.0, {"momentum": (1.0,)}, tuple(plan.methods), **_numbers(plan)
        )
        optimizer_horizons = dict(entry.optimizers)
        if chosen is not None:
            for name in chosen:
                _checks.choice("optimizer", name, optimizers.names())
            optimizer_horizons = {name: optimizer_horizons.get(name, (1.0,)) for name in chosen}
        if horizons is not None:
            wanted = tuple(_checks.positive("horizon", h) for h in horizons)
            optimizer_horizons = dict.fromkeys(optimizer_horizons, wanted)
        entries[label] = replace(
            entry,
            optimizers=optimizer_horizons,
            methods=entry.methods if methods is None else tuple(methods),
            **numbers,
        )
    used = {name for entry in entries.values() for name in entry.methods}
    return replace(plan, entries=entries, methods={k: v for k, v in known.items() if k in used})


def _numbers(plan: Plan) -> dict[str, int]:
    names = ("trials", "tuning_seeds", "report_seeds")
    return dict(zip(("trials", "tuning", "report"), [plan.protocol[n] for n in names], strict=True))


def epochs_at(epochs: int, horizon: float) -> int:
    """Epochs of a run at a horizon, a multiple of the problem's own."""
    return max(1, math.floor(horizon * epochs + 0.5))
