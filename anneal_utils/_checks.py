"""Argument checks shared by the package: every message names the argument, the value, the rule."""

import math
import numbers
from collections.abc import Iterable


def fail(argument: str, value, allowed: str):
    """Raise the ``ValueError`` that every bad argument of this package gets."""
    raise ValueError(f"{argument} = {value!r}: {allowed}.")


def number(argument: str, value, *, low=-math.inf, high=math.inf, open_low=False) -> float:
    """``value`` as a finite float in ``[low, high]`` (``(low, high]`` with ``open_low``)."""
    bound = f"{'>' if open_low else '>='} {low:g}" if math.isfinite(low) else ""
    upper = f"<= {high:g}" if math.isfinite(high) else ""
    rule = "must be a finite number " + " and ".join(filter(None, [bound, upper]))
    # numpy scalars register as numbers.Real; booleans do too and are refused by name.
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        fail(argument, value, rule.strip())
    try:
        result = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        fail(argument, value, rule.strip())
    below = result <= low if open_low else result < low
    if not math.isfinite(result) or below or result > high:
        fail(argument, value, rule.strip())
    return result


def positive(argument: str, value) -> float:
    """``value`` as a finite float above zero."""
    return number(argument, value, low=0.0, open_low=True)


def count(argument: str, value, *, low: int = 1) -> int:
    """``value`` as a whole number of at least ``low`` (``20.0`` is taken, ``2.5`` is not)."""
    rule = f"must be a whole number >= {low}"
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        fail(argument, value, rule)
    whole = isinstance(value, numbers.Integral)  # of any size: only others may be infinite
    if not (whole or math.isfinite(value)) or int(value) != value or value < low:
        fail(argument, value, rule)
    return int(value)


def choice(argument: str, value, allowed: Iterable):
    """``value`` if it is one of ``allowed``."""
    options = list(allowed)
    if value not in options:
        fail(argument, value, "must be one of " + ", ".join(map(repr, options)))
    return value
