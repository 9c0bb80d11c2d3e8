"""The protocol: what is the same for every method, and the profiles that choose what competes."""

from collections.abc import Iterable
from dataclasses import dataclass

from anneal_utils import _checks, optimizers
from anneal_utils.benchmark.entrants import problem_of

TUNING = 9000  # tuning seeds start here, report seeds at 0
METHOD = ["problem", "optimizer", "schedule", "horizon"]
DOWNLOADS = ("fashion_mnist", "cifar10")


@dataclass(frozen=True)
class Protocol:
    """What is the same for every method.

    ``budget``: trials of a method, all its knobs included. ``tuning_seeds``: runs of a trial.
    ``seeds``: report runs. ``ratio``: between neighbouring peaks. ``extensions``: trials that may
    be added past an edge of the grid. The scan: ``scan_points`` peaks at ``scan_ratio`` around the
    optimizer's usual rate, with the schedule ``scan_schedule``, once for all methods. ``peaks``: a
    first grid of your own instead, without a scan; then the budget is its length.
    """

    budget: int = 7
    tuning_seeds: int = 10
    seeds: int = 20
    ratio: float = 2.0
    extensions: int = 8
    scan_schedule: str = "linear"
    scan_points: int = 11
    scan_ratio: float = 4.0
    peaks: tuple[float, ...] | None = None

    def __post_init__(self):
        """Check the numbers."""
        if self.peaks is not None:
            if isinstance(self.peaks, str) or not isinstance(self.peaks, Iterable):
                _checks.fail("peaks", self.peaks, "must be a list of at least three rates")
            peaks = tuple(sorted({_checks.positive("peaks", peak) for peak in self.peaks}))
            if len(peaks) < 3:
                _checks.fail("peaks", self.peaks, "must be at least three different rates")
            object.__setattr__(self, "peaks", peaks)
            object.__setattr__(self, "budget", len(peaks))
        _checks.count("budget", self.budget, low=3)  # an interior optimum has two neighbours
        for name in ("seeds", "tuning_seeds"):
            if isinstance(getattr(self, name), Iterable):
                rule = "must be a whole number: how many; which ones is part of the protocol"
                _checks.fail(name, getattr(self, name), rule)
        _checks.count("tuning_seeds", self.tuning_seeds)
        if _checks.count("seeds", self.seeds, low=2) > TUNING:
            _checks.fail("seeds", self.seeds, f"must be <= {TUNING}, where the tuning seeds start")
        for name in ("ratio", "scan_ratio"):
            _checks.number(name, getattr(self, name), low=1, open_low=True)
        _checks.count("extensions", self.extensions, low=0)
        _checks.count("scan_points", self.scan_points)

    def tuning(self) -> list[int]:
        """Seeds of the trials."""
        return list(range(TUNING, TUNING + self.tuning_seeds))


# One protocol for both, so that "quick" gives some of the rows of "full", and the same ones.
PROFILES = {
    "quick": dict(
        problems=["article", "digits"],
        schedules=["constant", "step", "cosine", "linear", "triangular", "one_cycle"],
        optimizers=["sgd"],
        horizons=[1.0],
    ),
    "full": dict(
        problems=None,
        schedules=None,
        optimizers=["sgd", "momentum", "adam"],
        horizons=[1.0],
        # The anytime question: four horizons, one optimizer, the problems that train fast.
        extra_horizons={"momentum": [0.125, 0.25, 0.5]},
        extra_problems=[
            *("article", "deep_mlp", "digits", "digits_noisy", "zipf", "wilson"),
            *("quadratic", "quadratic_deep", "least_squares"),
        ],
    ),
}


# Problems that have another form by now: the knobs that give the one of this edition.
_THEN = {
    **dict.fromkeys(["article", "deep_mlp", "digits", "digits_noisy", "digits_cnn"], "test=0"),
    **dict.fromkeys(["zipf", "characters"], "test=0"),
    "wilson": "",
    "quadratic": "",
    "quadratic_deep": "rotation=haar",
    "least_squares": "fresh=0",
}


def default_problems() -> list[str]:
    """The problems of this edition."""
    return list(_THEN)


def problem(name: str):
    """The problem of this edition that is called ``name`` (or ``name:knob=value``)."""
    return problem_of(as_then(name))


def as_then(problem):
    """What gives the problem of this edition that is called ``problem``; objects are themselves."""
    knobs = _THEN.get(problem.partition(":")[0]) if isinstance(problem, str) else None
    return f"{problem}:{knobs}" if knobs else problem


def optimizer_names() -> list[str]:
    """Names that ``run`` knows as optimizers."""
    return optimizers.names()


register_optimizer = optimizers.register


def settings(profile: str, **given) -> dict:
    """The arguments of :func:`run` for a profile, with those ``given`` (not None) in their place.

    Named optimizers or horizons replace the profile's extra horizons too.
    """
    chosen = dict(PROFILES[_checks.choice("profile", profile, PROFILES)])
    given = {name: value for name, value in given.items() if value is not None}
    if {"optimizers", "horizons"} & set(given):
        chosen.pop("extra_horizons", None)
        chosen.pop("extra_problems", None)
    return chosen | given
