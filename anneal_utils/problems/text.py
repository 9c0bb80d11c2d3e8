"""A source of symbols whose entropy rate is known, and a tiny transformer."""

import functools

from anneal_utils import _checks
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np
from scipy.special import entr


def markov_chain(symbols: int = 8, concentration: float = 0.1) -> np.ndarray:
    """The source of ``characters``: P(next | last two) as float64 [symbols, symbols, symbols].

    Every row is an independent draw from a Dirichlet distribution: few likely next symbols, all
    of them possible.
    """
    symbols = _checks.count("symbols", symbols, low=2)
    concentration = _checks.positive("concentration", concentration)
    rng = np.random.default_rng(DATA_SEED)
    return rng.dirichlet(np.full(symbols, concentration), size=(symbols, symbols))


def entropy_rate(transitions: np.ndarray) -> float:
    """Entropy rate, in nats per symbol, of the chain P(next | last two) = ``transitions``.

    The mean cross-entropy of a predictor that knows the chain: no other is below it, on average.
    """
    return float((_pairs(transitions)[..., None] * entr(transitions)).sum())


def _pairs(transitions: np.ndarray) -> np.ndarray:
    """Stationary probabilities [symbols, symbols] of two symbols in a row."""
    pairs = np.full(transitions.shape[:2], 1 / transitions[..., 0].size)
    for _ in range(10_000):
        before, pairs = pairs, np.einsum("ab,abc->bc", pairs, transitions)
        if np.abs(pairs - before).max() < 1e-15:
            break
    return pairs


def _windows(transitions: np.ndarray, count: int, length: int, rng) -> np.ndarray:
    """``count`` independent stretches of ``length`` symbols, int32 [count, length]."""
    symbols = len(transitions)
    start = rng.choice(symbols**2, size=count, p=_pairs(transitions).ravel())
    text = [start // symbols, start % symbols]
    below = transitions.cumsum(axis=-1)[..., :-1]
    for _ in range(length - 2):
        place = rng.uniform(size=(count, 1))
        text.append((place > below[text[-2], text[-1]]).sum(axis=1))
    return np.stack(text, axis=1).astype("int32")


@register("characters")
def characters(
    symbols: int = 8, length: int = 5, width: int = 16, blocks: int = 2, test: bool | int = True
) -> Problem:
    """A tiny transformer predicts the next character of a source whose entropy rate is known.

    Windows of ``length`` symbols from ``markov_chain(symbols)``; at each place but the first,
    where the last two symbols are known, the next one is to be predicted. Post-norm blocks as in
    Vaswani et al. 2017 (arXiv:1706.03762), one head of attention, cross-entropy, batches of 24
    windows drawn from 8,192, 6 epochs of 30 steps; 512 windows held out, 2,048 in the test part
    (``test=0``: without it).
    The floor of the held-out loss is ``entropy_rate(markov_chain(symbols))``. Notebook 06.
    """
    length = _checks.count("length", length, low=3)
    width, blocks = _checks.count("width", width), _checks.count("blocks", blocks)
    chain = markov_chain(symbols)
    rng = np.random.default_rng([DATA_SEED, 1])  # another stream than the chain's
    train, val = (_windows(chain, count, length + 1, rng) for count in (8192, 512))
    part = None
    if _checks.choice("test", test, (False, True)):
        part = _windows(chain, 2048, length + 1, np.random.default_rng([DATA_SEED, 2]))
    return Problem(
        "characters",
        functools.partial(models.transformer, len(chain), length, width, blocks),
        *(train[:, :-1].copy(), train[:, 2:].copy()),
        *(val[:, :-1].copy(), val[:, 2:].copy()),
        x_test=None if part is None else part[:, :-1].copy(),
        y_test=None if part is None else part[:, 2:].copy(),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=24,
        epochs=6,
        chance_loss=float(np.log(len(chain))),
        metrics=(),
        sampling="replacement",
        steps=30,
    )
