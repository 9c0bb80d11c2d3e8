"""The search: CMA-ES over the rates at the knots, paired fresh seeds in every generation."""

from collections.abc import Iterable

from anneal_utils import _checks, _needs, headless, schedules, training
from anneal_utils.problems import Problem
from anneal_utils.search.ends import SEEDS, logs_of, losses_of, setting_of, trained
from anneal_utils.search.found import Found
from anneal_utils.search.knots import floored, places_of, rates_along, schedule_through
from anneal_utils.search.usual import tuned

import numpy as np
import pandas as pd
from tqdm.auto import tqdm


def search(
    problem: Problem | str,
    optimizer="momentum",
    *,
    knots: int = 9,
    generations: int = 40,
    population: int = 16,
    seeds: int = 4,
    start="flat",
    sigma: float = 0.5,
    floor: float = 1e-3,
    epochs: int | None = None,
    seed: int = 0,
    progress: bool | None = None,
    store=None,
) -> Found:
    """Search for the schedule of lowest held-out loss; the runs are read from and kept in a store.

    Every generation draws ``population`` candidates from a normal distribution of the log rates at
    ``knots`` knots, trains each on the same ``seeds`` fresh seeds, and moves the distribution
    towards those of lowest value: the mean over seeds of the log of the loss on the tune part,
    a loss never counting as more than that of having learned nothing. At first neighbouring knots
    move together; the distribution unlearns that where it does not serve. No rate is below
    ``floor`` times the largest.

    The result is the mean of the distributions' centres over the last third of the generations.
    No evaluation selects it, so that it is not the luckiest of many candidates, whose value is too
    good by as much as the seeds scatter; the mean over generations takes out most of the last
    centre's own random walk. Its loss is not known from the search: :func:`report` measures it.
    What differs by less than the paired values scatter over ``seeds`` no generation can see: noisy
    problems need more seeds.

    ``problem``: a name, a text ``"digits_noisy:noise=0.4"``, or a ``Problem``. ``optimizer``:
    whatever ``training.grid`` takes as one, or ``{label: it}``. ``start``: ``"flat"`` (constant) or
    another name of the catalogue, at the peak that :func:`tuned` finds on seeds of this search;
    ``(name, peak)``; or a rate for each knot. ``sigma``: first standard deviation of the log rates.
    ``epochs``: the horizon (default: the problem's). ``seed``: of the candidates, and which of
    disjoint blocks of seeds (from ``SEEDS`` x (``seed`` + 1) on) the runs are from. ``store``: as
    in ``training.train``.

    What moves the optimum is varied by the same arguments:

    >>> from functools import partial
    >>> decayed = {"adamw": partial(keras.optimizers.AdamW, weight_decay=0.1)}  # doctest: +SKIP
    >>> search("digits", decayed, epochs=60)  # doctest: +SKIP
    >>> large = dataclasses.replace(problems.load("digits"), batch_size=128)  # doctest: +SKIP
    >>> search(dataclasses.replace(large, name="digits, batch 128"))  # doctest: +SKIP

    ``ValueError`` names the argument that does not fit. CMA-ES: Hansen 2016 (arXiv:1604.00772).
    """
    cma = _needs.package("cma", "anneal_utils.search")
    problem, label, name, make = setting_of(problem, optimizer)
    given = {
        "knots": _checks.count("knots", knots, low=2),
        "generations": _checks.count("generations", generations),
        "population": _checks.count("population", population, low=4),
        "seeds": _checks.count("seeds", seeds),
        "sigma": _checks.positive("sigma", sigma),
        "floor": _checks.number("floor", floor, low=0, high=1, open_low=True),
        "seed": _checks.count("seed", seed, low=0),
    }
    first = SEEDS * (given["seed"] + 1)
    end = first + (given["generations"] + 1) * given["seeds"]
    if end > first + SEEDS:
        _checks.fail("generations", generations, f"must leave {seeds} of {SEEDS} seeds to each")
    epochs = problem.epochs if epochs is None else _checks.count("epochs", epochs)
    places, steps = places_of(knots), epochs * problem.steps_per_epoch
    blocks = np.arange(first, end).reshape(-1, given["seeds"])  # one for the start, then one each
    own = (problem, {name: make}, epochs, store)
    rates, given["start"] = _start(start, places, steps, floor, blocks[0].tolist(), own)

    # CMA-ES looks for z where the log rates are those of the start + basis z.
    origin, basis = np.log(rates), _smooth_basis(len(places))
    rng = np.random.default_rng([given["seed"], 3])
    settings = {
        "popsize": given["population"],
        # Its random numbers are drawn here: NumPy's global generator stays as it is.
        "seed": np.nan,
        "randn": lambda *shape: rng.standard_normal(shape),
        # So it prints nothing, and neither writes nor reads a file.
        "verbose": -10,
        "verb_log": 0,
    }
    strategy = cma.CMAEvolutionStrategy(np.zeros(len(places)), given["sigma"], settings)
    history, computed = [], 0
    show = not headless() if progress is None else progress
    bar = tqdm(blocks[1:].tolist(), disable=not show, delay=5, unit="generation")
    for generation, block in enumerate(bar):
        points = strategy.ask()
        logs = origin + np.array(points) @ basis.T
        values, new = _values(floored(logs, floor), places, steps, block, own)
        strategy.tell(points, values.tolist())
        centre = floored(origin + basis @ strategy.mean, floor)
        computed += new
        history.append(
            {"generation": generation, "mean": values.mean(), "best": values.min()}
            | {"sigma": float(strategy.sigma)}
            | {f"rate_{k}": rate for k, rate in enumerate(centre)}
        )
    table = pd.DataFrame(history)
    table.attrs.update(computed=computed, read=generations * population * seeds - computed)
    last = table.filter(like="rate_").to_numpy()[-max(1, generations // 3) :]
    return Found(
        problem=label,
        optimizer=name,
        epochs=epochs,
        steps=steps,
        places=places,
        rates=floored(np.log(last).mean(axis=0), floor),
        covariance=strategy.sigma**2 * basis @ strategy.sm.covariance_matrix @ basis.T,
        floor=given["floor"],
        history=table,
        seeds=(first, end),
        arguments=given,
        given=(problem, {name: make}),
    )


def _values(candidates, places, steps: int, seeds: list[int], own) -> tuple[np.ndarray, int]:
    """The value of each candidate [candidates, knots], and how many runs were computed."""
    problem, optimizer, epochs, store = own
    recipes = {
        str(number): schedule_through(places, rates, steps)
        for number, rates in enumerate(candidates)
    }
    runs = training.grid(recipes, (), seeds, optimizer, epochs=epochs)
    outcomes, computed = trained(problem, runs, store=store)
    values = logs_of(losses_of(problem, outcomes)).reshape(len(candidates), len(seeds))
    return values.mean(axis=1), computed


def _smooth_basis(knots: int) -> np.ndarray:
    """A factor B of the first covariance B B' of the log rates, [knots, knots].

    A Gaussian kernel over half of the knots, and a little of each knot's own. On the noisy
    quadratic, whose best loss is known, it halves what a short search leaves.
    """
    at = np.linspace(0, 1, knots)
    covariance = np.exp(-0.5 * ((at[:, None] - at) / 0.5) ** 2) + 0.02 * np.eye(knots)
    return np.linalg.cholesky(covariance / 1.02)


def _start(start, places, steps: int, floor: float, seeds: list[int], own):
    """The rates to start from [knots], and how they were told, as a plain value."""
    problem, optimizer, epochs, store = own
    rule = 'must be "flat", a schedule\'s name, (name, peak), or a rate > 0 for each knot'
    if isinstance(start, str):
        told = _checks.choice("start", start, ["flat", *schedules.names()])
        name = "constant" if start == "flat" else start
        _, peak = tuned(problem, optimizer, name, seeds=seeds, epochs=epochs, store=store)[name]
    elif isinstance(start, tuple) and len(start) == 2 and isinstance(start[0], str):
        name, peak = start
        told = [name, float(peak)]
    elif isinstance(start, Iterable):
        told = [_checks.positive("start", rate) for rate in start]
        if len(told) != len(places):
            _checks.fail("start", start, rule)
        return floored(np.log(told), floor), told
    else:
        _checks.fail("start", start, rule)
    rates = rates_along(schedules.build(name, peak, steps), places, steps)
    return floored(np.log(np.maximum(rates, 1e-30)), floor), told
