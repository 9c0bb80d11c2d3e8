"""Rates at knots: where the knots are, and the schedule through them."""

from anneal_utils import _checks, schedules

import numpy as np

_FAR = 60.0  # |log rate| beyond which exp() is of no use to anyone


def places_of(knots: int) -> np.ndarray:
    """Where ``knots`` knots are, as shares of the horizon, [knots]: from 0 to 1.

    ``(1 - cos(pi k / (knots - 1))) / 2``, the Chebyshev points: closer together at both ends,
    where warmups and cooldowns are. ``ValueError`` for less than two.
    """
    knots = _checks.count("knots", knots, low=2)
    return (1 - np.cos(np.pi * np.arange(knots) / (knots - 1))) / 2


def steps_at(places, steps: int) -> list[int]:
    """The step of each knot; the last one, as in the catalogue, is one after the last step.

    ``ValueError`` where two knots share a step.
    """
    found = [round(float(place) * steps) for place in places]
    if len(set(found)) < len(found):
        _checks.fail("knots", len(found), f"must be fewer, each at a step of {steps} of its own")
    return found


def floored(logs, floor: float) -> np.ndarray:
    """Rates for logarithms of rates [..., knots], none below ``floor`` times the largest.

    Without a floor the logarithm of a rate that should be zero would drift for ever.
    """
    logs = np.clip(np.asarray(logs, float), -_FAR, _FAR)
    return np.exp(np.maximum(logs, logs.max(axis=-1, keepdims=True) + np.log(floor)))


def schedule_through(places, rates, steps: int) -> schedules.Knots:
    """The schedule over ``steps`` steps, straight between its knots in log rate."""
    rates = [float(rate) for rate in rates]
    return schedules.Knots(steps_at(places, steps), rates, shape="exponential")


def rates_along(schedule, places, steps: int) -> np.ndarray:
    """The rates of a schedule at the knots [knots]; at the last, that of the last step."""
    table = schedules.values(schedule, steps).astype(float)
    return table[np.minimum(steps_at(places, steps), steps - 1)]
