"""The usual schedules, tuned: what a found one is held against, and where a search starts."""

from collections.abc import Iterable

from anneal_utils import _checks, optimizers, training
from anneal_utils.search.ends import logs_of, losses_of, setting_of, trained

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
