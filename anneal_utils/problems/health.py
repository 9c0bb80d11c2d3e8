"""How often people see a doctor: counts, with the deviance as their loss."""

import functools

from anneal_utils import _checks
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, SPLITS, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np
from scipy.special import xlogy
from statsmodels.datasets import randhie

TUNE, TEST = 3400, 6700  # rows; the other 10,090 are trained on
DRAWS = 50
# What people were asked at the beginning: the same in all rows of a person.
BASELINE = ["physlm", "disea", "hlthg", "hlthf", "hlthp"]


def poisson_deviance(y, log_rate):
    """``2 (y log(y / mu) - (y - mu))``, mu = exp(``log_rate``), for counts ``y`` [samples, 1].

    0 where the rate is the count. Twice what the log likelihood lacks to that of the best rate.
    """
    y = keras.ops.cast(y, log_rate.dtype)
    own = y * keras.ops.log(keras.ops.maximum(y, 1.0))  # y log y of a count, 0 for 0
    deviance = 2 * (own - y * log_rate - y + keras.ops.exp(log_rate))
    return keras.ops.mean(deviance, axis=-1)


def constant_deviance(visits: np.ndarray) -> float:
    """Mean Poisson deviance of the best constant rate, which is the mean of ``visits``."""
    visits = visits.astype(float)
    return float(2 * xlogy(visits, visits / visits.mean()).mean())


def neighbours(table) -> np.ndarray:
    """A number for each row, the same for rows that may be of one person: int [rows].

    The table does not say who a row is about, but the rows of a person follow each other and
    have the same ``BASELINE``. So rows that follow each other with one baseline stay together:
    all of a person's, and those of people beside each other who answered alike.
    """
    answers = table[BASELINE].to_numpy(float)
    return np.cumsum(np.r_[True, (answers[1:] != answers[:-1]).any(axis=1)]) - 1


def _draw(visits: np.ndarray, groups: list[np.ndarray], size: int, rng) -> np.ndarray:
    """Rows of some of ``groups``, ``size`` in all: of 50 random draws, the one most like them all.

    Alike is what the best constant loses, which a few people with very many visits decide.
    """
    wanted = constant_deviance(visits[np.concatenate(groups)])
    sizes = np.array([len(rows) for rows in groups])
    draws = []
    for _ in range(DRAWS):
        order = rng.permutation(len(groups))
        first = int((sizes[order].cumsum() <= size).sum())
        chosen, left = list(order[:first]), size - sizes[order[:first]].sum()
        for group in order[first:]:  # smaller ones, until no row is lacking
            if sizes[group] <= left:
                chosen.append(group)
                left -= sizes[group]
            if not left:
                break
        draws.append(np.sort(np.concatenate([groups[group] for group in chosen])))
    return min(draws, key=lambda rows: abs(constant_deviance(visits[rows]) - wanted))


@functools.cache
def _parts() -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Rows of train and tune, rows of test, and which of the former each split tunes on."""
    table = randhie.load_pandas().data
    visits, number = table["mdvis"].to_numpy(), neighbours(table)
    groups = np.split(np.arange(len(number)), np.flatnonzero(np.diff(number)) + 1)
    rng = np.random.default_rng(DATA_SEED)
    test = _draw(visits, groups, TEST, rng)
    others = [rows for rows in groups if not np.isin(rows[0], test)]
    splits = [_draw(visits, others, TUNE, rng) for _ in range(SPLITS)]
    return np.concatenate(others), test, splits


@register("health")
def health(width: int = 32, batch_size: int = 16) -> Problem:
    """How often people saw a doctor in a year, from nine facts about them and their insurance.

    The RAND Health Insurance Experiment as statsmodels bundles it, one row a person and year:
    10,090 training, 3,400 tuning and 6,700 test rows; the rows of a person are in one part. The
    facts are standardised by mean and spread of training and tuning rows together, so that
    all splits see the same numbers. An MLP 9-``width``-``width``-1 with ReLU gives the log of
    the rate; loss is the mean Poisson deviance. Most of it is chance that nobody foresees, and
    the range from the best constant to what can be learned is some ten percent. Rates that are
    too high end in an exponential that overflows. Batches of 16, drawn with replacement, 6 epochs
    of 105 steps: as many rows as there are, since more passes learn the rows by heart.
    """
    width, batch_size = _checks.count("width", width), _checks.count("batch_size", batch_size)
    table = randhie.load_pandas().data
    pool, test, splits = _parts()
    x = table.drop(columns="mdvis").to_numpy(float)
    x = ((x - x[pool].mean(axis=0)) / x[pool].std(axis=0)).astype("float32")
    y = table[["mdvis"]].to_numpy("float32")
    train, tune = np.setdiff1d(pool, splits[0]), splits[0]
    place = np.empty(len(table), int)  # of a row, counted through train and then tune
    place[np.r_[train, tune]] = np.arange(len(pool))
    return Problem(
        "health",
        functools.partial(models.mlp, x.shape[1], (width, width), 1),
        *(x[train], y[train], x[tune], y[tune]),
        x_test=x[test],
        y_test=y[test],
        splits=[place[rows] for rows in splits],
        loss=poisson_deviance,
        batch_size=batch_size,
        epochs=6,
        sampling="replacement",
        steps=105,
        chance_loss=constant_deviance(y[tune]),
        metrics=(),
    )
