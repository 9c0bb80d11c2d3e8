"""A picture of what a search has found: the schedule, its family, and the usual one."""

from anneal_utils import _needs, schedules
from anneal_utils.search.knots import schedule_through
from anneal_utils.search.results import Result

import numpy as np


def draw(result: Result, within: float = 1.0, ax=None):
    """Draw the found schedule, the schedules around it that lose little, and the best usual one.

    The family: those that :func:`flatness` has drawn and whose loss is, by the estimate, at most
    ``within`` per cent above that of the found one; none where the result holds no draws. The usual
    one is the best on the tune part, with its knobs and peak tuned. Rates against the share of the
    horizon, on a logarithmic axis. ``ax``: matplotlib's; default, a new one. Returns it.

    >>> result = load(COMMITTED)[0]  # doctest: +SKIP
    >>> draw(result).figure.savefig("found.png")  # doctest: +SKIP
    """
    plt = _needs.package("matplotlib.pyplot", "anneal_utils.search.draw")
    ax = plt.subplots()[1] if ax is None else ax
    found, told = result.found, result.report
    share = np.arange(found.steps) / found.steps

    def line(schedule, **style):
        rates = schedules.values(schedule, found.steps).astype(float)
        ax.plot(share, np.where(rates > 0, rates, np.nan), **style)

    family = []
    if result.flat is not None:
        near = result.flat[result.flat["percent"] <= within]
        family = near.filter(like="rate_").to_numpy()
    for number, rates in enumerate(family):
        label = None if number else f"{len(family)} of {len(result.flat)} within {within:g} %"
        schedule = schedule_through(found.places, rates, found.steps)
        line(schedule, color="#56B4E9", alpha=0.5, linewidth=0.8, label=label)
    best = told.best(tune=True)
    name, knobs, peak = _recipe(result.provenance["usual"][best])
    knobs = dict(knobs)
    warmup = knobs.pop("warmup", None)
    usual = schedules.build(name, peak, found.steps, warmup=warmup, **knobs)
    line(usual, color="#D55E00", linestyle="--", label=f"{best}, the best usual one on tune")
    line(found.recipe, color="#0072B2", linewidth=2.2, label="found")
    ax.plot(found.places, found.rates, "o", color="#0072B2", markersize=4)
    ax.set_yscale("log")
    ax.set_ylim(0.5 * found.floor * found.rates.max(), None)
    ax.set_xlabel("share of the horizon")
    ax.set_ylabel("learning rate")
    ax.set_title(f"{found.problem}, {found.optimizer}", loc="left")
    ax.legend(frameon=False, fontsize="small")
    return ax


def _recipe(usual: list) -> tuple[str, dict, float]:
    """Name, knobs and peak of a usual schedule as results hold it, with knobs or without."""
    return (usual[0], {}, usual[1]) if len(usual) == 2 else tuple(usual)
