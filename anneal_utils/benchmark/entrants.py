"""What competes, and on what: problems and schedules as they are given, by text or as objects."""

import contextlib
import functools
import itertools
from collections.abc import Iterable, Mapping

from anneal_utils import _checks, optimizers, problems, schedules

import numpy as np


def listed(argument: str, given, kinds, rule: str) -> list:
    """``given`` as a list of ``kinds``; one of them alone is a list of one."""
    if isinstance(given, kinds):
        return [given]
    if isinstance(given, Iterable) and not isinstance(given, Mapping | str | bytes):
        given = list(given)
        if all(isinstance(one, kinds) for one in given):
            return given
    _checks.fail(argument, given, rule)


def once(argument: str, values: list) -> None:
    """``ValueError`` unless there is something, and nothing twice."""
    if not values:
        _checks.fail(argument, values, "must hold at least one")
    if len(set(values)) < len(values):
        _checks.fail(argument, values, "must not repeat")


# ------------------------------------------------------------------------------ as they are written


def _value(text: str):
    """``text`` as a number where it is one."""
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return text


def parse(text: str) -> tuple[str, list[tuple]]:
    """``name:knob=value,value:knob=value`` as (name, every combination of knobs as sorted pairs).

    ``cosine`` has one variant, ``cosine:warmup=0,0.1`` two, which share the method's budget.
    """
    name, *parts = str(text).split(":")
    choices = []
    for part in parts:
        knob, equals, values = part.partition("=")
        if not (knob and equals and values):
            _checks.fail("knob", part, "must be written knob=value, or knob=value,value")
        choices.append([(knob, _value(value)) for value in values.split(",")])
    return name, [tuple(sorted(combination)) for combination in itertools.product(*choices)]


# ---------------------------------------------------------------------------------------- problems


def problem_of(given: str | problems.Problem) -> problems.Problem:
    """The problem written ``name`` or ``name:knob=value``; an object is what it is."""
    if isinstance(given, problems.Problem):
        return given
    name, variants = parse(given)
    _checks.choice("problem", name, problems.names())
    if len(variants) > 1:
        _checks.fail("problem", given, "must give one value to each knob")
    return problems.load(name, **dict(variants[0]))


def label_of(given: str | problems.Problem) -> str:
    """What a problem is called in the results."""
    return given.name if isinstance(given, problems.Problem) else str(given)


def problems_of(argument: str, given) -> list[str | problems.Problem]:
    """Texts and objects, as they were given; an object that is registered becomes its text."""
    rule = "must be a problem's name, a Problem, or a list of these"
    found = list(map(_settled, listed(argument, given, str | problems.Problem, rule)))
    labels = list(map(label_of, found))
    objects: dict[str, problems.Problem] = {}
    for one in found:
        if not isinstance(one, str) and objects.setdefault(one.name, one) is not one:
            rule = f"are two different problems called {one.name!r}; give one another name"
            _checks.fail(argument, labels, rule)
    once(argument, labels)
    return found


def _settled(given: str | problems.Problem) -> str | problems.Problem:
    """An object under a name that is its own, or the text that stands for it."""
    if isinstance(given, str):
        return given
    if not isinstance(given.name, str) or not given.name:
        _checks.fail("problem.name", given.name, "must be a non-empty text")
    if given.name.partition(":")[0] not in problems.names():
        return given
    with contextlib.suppress(ValueError, OSError):
        if problem_of(given.name) is given:
            return given.name
    _checks.fail(
        "problem",
        given.name,
        "is the name of a registered problem, and this object is another one: pass the text "
        "(name, or name:knob=value), or the object under a name of its own",
    )


# -------------------------------------------------------------------------------------- optimizers


def maker_of(text: str):
    """The maker of the optimizer written ``name`` or ``name:knob=value``.

    The same object for the same text, since runs of one maker share a program.
    """
    name, variants = parse(text)
    if len(variants) > 1:
        _checks.fail("optimizer", text, "must give one value to each knob")
    make = optimizers.catalogue.registry[name]
    return _with_knobs(make, variants[0], repr(variants[0])) if variants[0] else make


@functools.lru_cache(maxsize=256)
def _with_knobs(make, knobs, written):
    """The optimizer with knobs; ``written`` tells 0 from 0.0, which trace to other programs."""
    return functools.partial(make, **dict(knobs))


# --------------------------------------------------------------------------------------- schedules


def methods_of(given) -> dict[str, tuple[str, list[tuple]]]:
    """Schedules as ``{label: (name, variants)}``, checked.

    ``given``: a text, a pair ``(name, {knob: value})``, a list of these, or ``{label: one}``.
    """
    if isinstance(given, Mapping):
        labelled = [(_label(label), *_method(recipe)) for label, recipe in given.items()]
    else:
        single = isinstance(given, str) or _is_pair(given)
        if not (single or isinstance(given, Iterable)):
            _checks.fail("schedules", given, _RULE)
        labelled = [(None, *_method(recipe)) for recipe in ([given] if single else given)]
    labels = [own if label is None else label for label, own, _, _ in labelled]
    once("schedules", labels)
    methods = {}
    for label, (_, _, name, variants) in zip(labels, labelled, strict=True):
        _checks.choice("schedule", name, schedules.names())
        other = label.partition(":")[0]
        if other != name and other in schedules.names():
            rule = f"is the label of a {name!r}; choose one that is no other schedule's name"
            _checks.fail("schedules", label, rule)
        for variant in variants:
            build(name, variant, 1000)  # refuses an unknown knob
        methods[label] = (name, variants)
    return methods


def build(name: str, knobs: Iterable[tuple], steps: int):
    """The schedule with these knobs, "warmup" among them, for a peak of 1."""
    knobs = dict(knobs)
    return schedules.build(name, 1.0, steps, warmup=knobs.pop("warmup", None), **knobs)


_RULE = (
    "must be a schedule's name, a pair (name, {knob: value}), a list of these or a dict "
    "{label: one of these}; what follows other rules is given a name by schedules.register"
)


def _is_pair(recipe) -> bool:
    return (
        isinstance(recipe, tuple)
        and len(recipe) == 2
        and isinstance(recipe[0], str)
        and isinstance(recipe[1], Mapping)
    )


def _label(label) -> str:
    if not str(label):
        _checks.fail("schedules", label, "must have a label")
    return str(label)


def _method(recipe) -> tuple[str, str, list[tuple]]:
    """What a schedule is called if nobody labels it, its name, its variants."""
    if isinstance(recipe, str):
        return str(recipe), *parse(recipe)
    if not _is_pair(recipe):
        _checks.fail("schedules", recipe, _RULE)
    name, knobs = recipe[0], tuple(sorted((str(k), _plain(k, v)) for k, v in recipe[1].items()))
    return ":".join([name, *(f"{knob}={value}" for knob, value in knobs)]), name, [knobs]


def _plain(knob: str, value):
    """A knob's value as a results file can hold it."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return tuple(_plain(knob, one) for one in value)
    if not (value is None or isinstance(value, bool | int | float | str)):
        _checks.fail(f"knob {knob}", value, "must be a number, a text, or a list of these")
    return value
