"""What a trial may vary, and one Sobol design from which the trials of all methods come."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from anneal_utils import _checks

import numpy as np

AXES = 8  # of the design: the peak, the warmup, the optimizer's knob, and up to five of a shape
SCALES = ("linear", "log", "whole")


@dataclass(frozen=True)
class Axis:
    """The values that one knob may take, along [0, 1).

    ``choice``: one of these, in equal parts. Else from ``low`` to ``high``, on a ``scale`` that is
    "linear", "log" or "whole" (numbers, in equal parts), after a first part ``zero`` of the axis
    on which the value is 0.
    """

    low: float = 0.0
    high: float = 0.0
    scale: str = "linear"
    zero: float = 0.0
    choice: tuple = ()

    @classmethod
    def read(cls, name: str, given) -> "Axis":
        """The axis as a plan writes it; ``ValueError`` says what is wrong with ``name``."""
        if not isinstance(given, Mapping):
            rule = "must be a table: low and high (scale, zero), or choice"
            _checks.fail(name, given, rule)
        for key in given:
            _checks.choice(f"{name}: key", key, cls.__dataclass_fields__)
        axis = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
        if "choice" in given:
            if not isinstance(given["choice"], list) or not given["choice"]:
                _checks.fail(f"{name}.choice", given["choice"], "must be a list of values")
            return axis
        for key in ("low", "high"):
            if key not in given:
                _checks.fail(name, dict(given), "must have low and high, or choice")
        _checks.choice(f"{name}.scale", axis.scale, SCALES)
        _checks.number(f"{name}.zero", axis.zero, low=0, high=1)
        _checks.number(f"{name}.low", axis.low, low=0, open_low=axis.scale == "log")
        _checks.number(f"{name}.high", axis.high, low=axis.low)
        return axis

    def at(self, place: float):
        """The value at a place in [0, 1), numbers to four digits, as results are read by people."""
        if self.choice:
            return self.choice[int(place * len(self.choice))]
        if place < self.zero:
            return 0.0
        u = (place - self.zero) / (1 - self.zero)
        if self.scale == "whole":
            return int(self.low + math.floor(u * (self.high - self.low + 1)))
        if self.scale == "log":
            return rounded(self.low * (self.high / self.low) ** u)
        return rounded(self.low + (self.high - self.low) * u)


def rounded(value: float, digits: int = 4) -> float:
    """``value`` to so many significant digits."""
    return float(f"{value:.{digits}g}")


def design(trials: int, seed: int) -> np.ndarray:
    """Places in [0, 1), [trials, AXES]: a scrambled Sobol sequence (Owen 1998; SciPy's).

    ``trials`` is a power of two, for which the sequence is balanced: every axis has one place in
    each of ``trials`` equal parts.
    """
    from scipy.stats import qmc

    _checks.count("trials", trials, low=2)
    if trials & (trials - 1):
        _checks.fail("trials", trials, "must be a power of two, for which the design is balanced")
    return qmc.Sobol(AXES, scramble=True, rng=np.random.default_rng(seed)).random(trials)
