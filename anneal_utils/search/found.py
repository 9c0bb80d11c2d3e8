"""What a search has found."""

from dataclasses import dataclass, field
from functools import cached_property

from anneal_utils import _checks, schedules
from anneal_utils.problems import Problem
from anneal_utils.search.ends import setting_of
from anneal_utils.search.knots import schedule_through

import numpy as np
import pandas as pd


@dataclass(frozen=True, eq=False)
class Found:
    """A schedule that a search has found, and how.

    ``problem``, ``optimizer``: labels. ``epochs``, ``steps``: the horizon. ``places`` [knots]:
    shares of the horizon. ``rates`` [knots]. ``covariance`` [knots, knots]: of the logarithms of
    the rates, in the last generation's distribution; ``floor``: no rate is below this share of the
    largest. ``history``: a row per generation: ``mean`` and ``best`` of its candidates' values
    (mean over seeds of the log loss), ``sigma`` (step size, in log rate), and the centre of its
    distribution, ``rate_0`` .... ``seeds``: the first seed that the search used, and the one after
    the last. ``arguments``: those of :func:`search`, as plain values.
    """

    problem: str
    optimizer: str
    epochs: int
    steps: int
    places: np.ndarray
    rates: np.ndarray
    covariance: np.ndarray = field(repr=False)
    floor: float
    history: pd.DataFrame = field(repr=False)
    seeds: tuple[int, int]
    arguments: dict = field(repr=False)
    given: tuple | None = field(default=None, repr=False)  # problem and optimizer, as objects

    @cached_property
    def setting(self) -> tuple[Problem, dict]:
        """The problem and ``{label: optimizer}``, as objects."""
        if self.given is not None:
            return self.given
        problem, _, name, make = setting_of(self.problem, self.optimizer)
        return problem, {name: make}

    @property
    def spread(self) -> np.ndarray:
        """Standard deviation of the log rate at each knot in the last generation, [knots]."""
        return np.sqrt(np.diag(self.covariance))

    @cached_property
    def recipe(self) -> schedules.Knots:
        """The schedule, for ``training.grid({"found": found.recipe}, seeds=...)``."""
        return self.schedule()

    def schedule(self, steps: int | None = None) -> schedules.Knots:
        """The schedule as a Keras one, over its own horizon or stretched to ``steps`` steps."""
        return schedule_through(self.places, self.rates, self.steps if steps is None else steps)

    @property
    def shape(self) -> dict[str, float]:
        """The shape in three numbers, shares of the horizon and of the largest rate.

        ``rise``: where the rate first is nine tenths of its largest. ``half``: where it falls below
        half of its largest for good (1: nowhere). ``end``: the last rate.
        """
        share = np.linspace(0, 1, 1001)
        rate = np.exp(np.interp(share, self.places, np.log(self.rates)))
        rate /= rate.max()
        above = np.flatnonzero(rate >= 0.5)[-1]
        return {
            "rise": float(share[np.argmax(rate >= 0.9)]),
            "half": float(share[above]),
            "end": float(rate[-1]),
        }

    def to_dict(self) -> dict:
        """Everything as plain values, for JSON; of the problem and the optimizer the labels."""
        arrays = {name: getattr(self, name).tolist() for name in ("places", "rates", "covariance")}
        return {
            **{name: getattr(self, name) for name in ("problem", "optimizer", "epochs", "steps")},
            **arrays,
            "floor": self.floor,
            "history": self.history.to_dict("list"),
            "seeds": list(self.seeds),
            "arguments": self.arguments,
        }

    @classmethod
    def from_dict(cls, given: dict, problem=None, optimizer=None) -> "Found":
        """What ``to_dict`` has told; equal to the last bit.

        ``problem`` and ``optimizer``: those that are no registered names, given again.
        ``ValueError`` where their labels are others, or something is missing.
        """
        try:
            known = {name: given[name] for name in ("problem", "optimizer", "epochs", "steps")}
            for name in ("places", "rates", "covariance"):
                known[name] = np.array(given[name], float)
            known |= {"floor": given["floor"], "history": pd.DataFrame(given["history"])}
            known |= {"seeds": tuple(given["seeds"]), "arguments": dict(given["arguments"])}
        except (KeyError, TypeError) as error:
            raise ValueError(f"given: is not what Found.to_dict gives ({error}).") from error
        if problem is None and optimizer is None:
            return cls(**known)
        problem, label, name, make = setting_of(
            known["problem"] if problem is None else problem,
            known["optimizer"] if optimizer is None else optimizer,
        )
        for argument, mine in (("problem", label), ("optimizer", name)):
            if mine != known[argument]:
                _checks.fail(argument, mine, f"must be {known[argument]!r}, as in the search")
        return cls(**known, given=(problem, {name: make}))
