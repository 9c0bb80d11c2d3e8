"""English prose, character by character."""

import functools
import importlib.resources
import re

from anneal_utils import _checks
from anneal_utils.problems import models
from anneal_utils.problems.catalogue import DATA_SEED, SPLITS, register
from anneal_utils.problems.problem import Problem

import keras
import numpy as np

SYMBOLS = " abcdefghijklmnopqrstuvwxyz.,-':"


def clean(text: str) -> str:
    """The text in the 32 ``SYMBOLS``: lower case, anything else and rows of signs as a space."""
    text = re.sub(r"[^a-z.,\-':]", " ", text.lower())
    text = re.sub(r"([.,\-':])\1+", " ", text)
    return re.sub(r" +", " ", text).strip()


def documents() -> dict[str, str]:
    """The descriptions of scikit-learn's data sets by name, cleaned."""
    folder = importlib.resources.files("sklearn.datasets.descr")
    files = sorted(file.name for file in folder.iterdir() if file.name.endswith(".rst"))
    read = {name: (folder / name).read_text(encoding="utf-8") for name in files}
    return {name.removesuffix(".rst"): clean(text) for name, text in read.items()}


def parts() -> tuple[list[str], list[str]]:
    """Names of the documents for train and tune, and of those for test.

    Test takes documents, in an order drawn once, until it has a third of all characters.
    """
    texts = documents()
    order = np.random.default_rng(DATA_SEED).permutation(sorted(texts)).tolist()
    sizes = np.cumsum([len(texts[name]) for name in order])
    count = int((sizes < sizes[-1] / 3).sum()) + 1
    return sorted(order[count:]), sorted(order[:count])


def _windows(names: list[str], length: int) -> np.ndarray:
    """The documents cut into stretches of ``length``, none of which overlap: int32."""
    texts = documents()
    number = {symbol: i for i, symbol in enumerate(SYMBOLS)}
    rows = [
        [number[symbol] for symbol in texts[name][start : start + length]]
        for name in names
        for start in range(0, len(texts[name]) - length + 1, length)
    ]
    return np.array(rows, "int32").reshape(-1, length)


@register("english")
def english(length: int = 32, context: int = 6, width: int = 64) -> Problem:
    """The next character of English prose, from the ``context`` last ones.

    The descriptions of scikit-learn's data sets in 32 symbols, some 35,000 characters, cut into
    windows of ``length`` and one characters that do not overlap: a fifth of them for tuning, the
    others for training. Test is other documents, a third of the text, and harder. A vector of 10
    numbers for each symbol, a layer of ``width`` units over those of the context, a softmax
    (Bengio et al. 2003, JMLR 3, 1137-1155). Cross-entropy in nats per character; chance is the
    best constant, the frequencies of the held-out symbols. Batches of 8 windows, 6 epochs of 64
    steps with the texts of scikit-learn 1.9; other versions have other texts.
    """
    length, width = _checks.count("length", length), _checks.count("width", width)
    context = _checks.count("context", context)
    if context > length:
        _checks.fail("context", context, f"must be <= length, {length}")
    learned, unread = parts()
    windows = np.random.default_rng(DATA_SEED).permutation(_windows(learned, length + 1))
    tune, train = np.split(windows, [len(windows) // 5])
    test = _windows(unread, length + 1)
    return Problem(
        "english",
        functools.partial(models.reader, len(SYMBOLS), length, context, 10, width),
        *(train[:, :-1], train[:, context:]),
        *(tune[:, :-1], tune[:, context:]),
        x_test=test[:, :-1],
        y_test=test[:, context:],
        splits=SPLITS,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=8,
        epochs=6,
        metrics=(),
    )
