"""What competes, and on what: problems and schedules as they are written down."""

import contextlib
import itertools
from collections.abc import Iterable

from anneal_utils import _checks, problems, schedules


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


def problem_of(text: str) -> problems.Problem:
    """The problem written ``name`` or ``name:knob=value``."""
    name, variants = parse(text)
    _checks.choice("problem", name, problems.names())
    if len(variants) > 1:
        _checks.fail("problem", text, "must give one value to each knob")
    return problems.load(name, **dict(variants[0]))


def methods_of(given: Iterable[str]) -> dict[str, tuple[str, list[tuple]]]:
    """Schedules as ``{label: (name, variants)}``, checked."""
    methods = {}
    for text in given:
        name, variants = parse(text)
        _checks.choice("schedule", name, schedules.names())
        for variant in variants:
            knobs = dict(variant)
            warmup = knobs.pop("warmup", None)
            schedules.build(name, 1.0, 1000, warmup=warmup, **knobs)  # refuses an unknown knob
        methods[str(text)] = (name, variants)
    return methods
