"""The usual schedules, tuned: what a found one is held against, and where a search starts."""

import json
from collections.abc import Iterable, Mapping

from anneal_utils import _checks, optimizers, training
from anneal_utils.benchmark.entrants import parse
from anneal_utils.benchmark.evidence import Evidence
from anneal_utils.benchmark.plan import Plan
from anneal_utils.search.ends import logs_of, losses_of, setting_of, trained
from anneal_utils.search.knots import schedule_through

import numpy as np

TUNING = 9000  # the seeds on which the usual schedules are tuned start here
# One of each kind: none, two decays to zero, one late and one early decay.
USUAL = ("constant", "linear", "cosine", "wsd", "exponential")
_WIDE, _POINTS, _WIDER = 4.0, 9, 6  # first grid; at most so many trials more past its edges
_NEAR = (2**-1.0, 2**-0.5, 2**0.5, 2.0)  # second grid, around each schedule's best


def centre_of(make) -> float:
    """A usual rate of an optimizer, around which to look: the registered one, else its default."""
    registry = optimizers.catalogue.registry
    if isinstance(make, str) and make in registry:
        return registry.entry(make).facts["centre"]
    try:
        return float(np.asarray(optimizers.catalogue.maker(make)().learning_rate))
    except TypeError:  # a function that needs a rate
        return 0.01


def tuned(
    problem,
    optimizer="momentum",
    schedules: Iterable[str] = USUAL,
    *,
    seeds: Iterable[int] = range(TUNING, TUNING + 8),
    epochs: int | None = None,
    store=None,
) -> dict[str, tuple[str, float]]:
    """``{schedule: (schedule, peak)}`` with the best of equally many peaks for each.

    Nine peaks, four times apart, around the optimizer's usual rate; two more for all schedules
    while any has its best at an edge (three times at most); then four around each one's best, at
    half octaves. By the mean log loss of the tune part over ``seeds``, by default those that the
    benchmark tunes on. ``problem``, ``optimizer`` and ``epochs`` are those of :func:`search`.
    """
    problem, _, label, make = setting_of(problem, optimizer)
    names = [schedules] if isinstance(schedules, str) else list(schedules)
    seeds = list(seeds)
    tried: dict[str, dict[float, float]] = {name: {} for name in names}

    def try_out(peaks: dict[str, list[float]]) -> None:
        runs = [
            run
            for name in names
            for run in training.grid(name, peaks[name], seeds, {label: make}, epochs=epochs)
        ]
        values = logs_of(losses_of(problem, trained(problem, runs, store=store)[0]))
        means = iter(values.reshape(-1, len(seeds)).mean(axis=1))
        for name in names:
            tried[name] |= {peak: next(means) for peak in peaks[name]}

    def best(name: str) -> float:
        return min(tried[name], key=tried[name].get)

    if not names:
        _checks.fail("schedules", names, "must name at least one")
    wide = centre_of(make) * _WIDE ** (np.arange(_POINTS) - _POINTS // 2)
    try_out({name: wide.tolist() for name in names})
    for _ in range(_WIDER // 2):
        edges = min(tried[names[0]]), max(tried[names[0]])
        if not any(best(name) in edges for name in names):
            break
        try_out({name: [edges[0] / _WIDE, edges[1] * _WIDE] for name in names})
    try_out({name: [best(name) * factor for factor in _NEAR] for name in names})
    return {name: (name, best(name)) for name in names}


def candidates_of(evidence: Evidence, problem: str, optimizer: str, most: int, plan: Plan) -> dict:
    """``{method: [(name, {knob: value}, peak)]}``: the best trials of each method, best first.

    From the trials of a benchmark on the problem, by their means on the tune part; of a variation
    ``name:knob=value`` that has not been measured, from those of ``name``. An optimizer with knobs,
    ``adamw:weight_decay=0.03``: from the trials with these.
    """
    name, (knobs,) = parse(optimizer)
    known = list(dict.fromkeys(evidence.trials["problem"]))
    problem = problem if problem in known else parse(problem)[0]
    trials = evidence.select(problem=problem, optimizer=name, horizon=1.0).trials
    trials = trials[trials["widened"] == trials["widened"].max()]
    told = trials["knobs"].map(json.loads)
    trials = trials[[dict(knobs).items() <= one.items() for one in told]]
    if trials.empty:
        _checks.fail("optimizer", optimizer, "must have been tried in the benchmark")
    found = {}
    for label, rows in trials.groupby("schedule", sort=False):
        means = rows.groupby("trial")["tune"].mean().sort_values(kind="stable")
        firsts = rows.drop_duplicates("trial").set_index("trial").loc[means.index[:most]]
        method = plan.methods[label]
        own = {*method.knobs, "warmup"}
        found[label] = [
            (method.schedule, {k: v for k, v in json.loads(text).items() if k in own}, peak)
            for text, peak in zip(firsts["knobs"], firsts["peak"], strict=True)
        ]
    return found


def retuned(
    problem, optimizer, candidates: Mapping, *, factors: Iterable[float], seeds: int, store=None
) -> dict[str, tuple[str, dict, float]]:
    """``{label: (name, {knob: value}, peak)}``: the best of each label's candidates.

    All candidates are trained again on ``seeds`` seeds; then the best of each label with its peak
    times each of the ``factors``. As many runs for every label that has as many candidates; by the
    mean log loss of the tune part.
    """

    def recipe(candidate):
        name, knobs, peak = candidate
        return (name, knobs), [peak]

    first = _best(problem, optimizer, candidates, recipe, seeds, store)
    near = {
        label: [(name, knobs, peak * factor) for factor in [1.0, *factors]]
        for label, (name, knobs, peak) in first.items()
    }
    return _best(problem, optimizer, near, recipe, seeds, store)


def rescaled(problem, optimizer, places, rates, *, centre: float, seeds: int, store=None):
    """The schedule through ``rates`` at ``places``, times the best of 13 factors.

    The factors are half octaves, three octaves to both sides of the one that gives the rates the
    geometric mean ``centre``.
    """
    steps = problem.epochs * problem.steps_per_epoch
    shape = np.asarray(rates) * centre / np.exp(np.mean(np.log(rates)))
    tried = {"shape": [schedule_through(places, shape * 2 ** (k / 2), steps) for k in range(-6, 7)]}
    return _best(problem, optimizer, tried, lambda one: (one, ()), seeds, store)["shape"]


def _best(problem, optimizer, candidates: Mapping, recipe, seeds: int, store) -> dict:
    """The candidate of each label with the lowest mean log loss of the tune part."""
    asked = [(label, one) for label, some in candidates.items() for one in some]
    runs = []
    for number, (_, one) in enumerate(asked):
        given, peaks = recipe(one)
        which = range(TUNING, TUNING + seeds)
        runs += training.grid({str(number): given}, peaks, which, optimizer)
    logs = logs_of(losses_of(problem, trained(problem, runs, store=store)[0]))
    means = logs.reshape(len(asked), seeds).mean(axis=1)
    best: dict = {}
    for (label, one), mean in zip(asked, means, strict=True):
        if label not in best or mean < best[label][0]:
            best[label] = (mean, one)
    return {label: one for label, (_, one) in best.items()}
