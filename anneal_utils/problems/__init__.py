"""Problems: data, model, loss and batch size as one frozen object.

``load(name)`` gives a problem, ``names()`` lists them, ``@register("name")`` adds one. Everything
is deterministic and works without a network; the two downloads (``fashion_mnist``, ``cifar10``)
happen only when asked for and are verified by hash. Taught in notebook 01; the dataset cards are
in ``data/README.md``.
"""

from anneal_utils import _needs

if missing := _needs.tensorflow("anneal_utils.problems"):
    raise ImportError(missing)

from anneal_utils.problems.catalogue import (
    DATA_SEED,
    describe,
    load,
    names,
    origin,
    register,
    unregister,
)
from anneal_utils.problems.problem import Problem

# The rooms register their problems in this order, which is the course's.
from anneal_utils.problems import classic, images, tabular, quadratics, text, sequences  # isort: skip
from anneal_utils.problems import health, photograph, english, downloads  # isort: skip
from anneal_utils.problems.downloads import CACHE
from anneal_utils.problems.models import MatmulConv1D, MatmulConv2D
from anneal_utils.problems.text import entropy_rate, markov_chain

__all__ = [
    "CACHE",
    "DATA_SEED",
    "MatmulConv1D",
    "MatmulConv2D",
    "Problem",
    "classic",
    "describe",
    "downloads",
    "english",
    "entropy_rate",
    "health",
    "images",
    "load",
    "markov_chain",
    "names",
    "origin",
    "photograph",
    "quadratics",
    "register",
    "sequences",
    "tabular",
    "text",
    "unregister",
]
