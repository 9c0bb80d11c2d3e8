"""Problems: data, model, loss and batch size as one frozen object.

``load(name)`` gives a problem, ``names()`` lists them. Everything is deterministic and works
without a network; the two downloads (``fashion_mnist``, ``cifar10``) happen only when asked for
and are verified by hash. Taught in notebook 01; the dataset cards are in ``data/README.md``.
"""

import functools
import gzip
import hashlib
import inspect
import os
import pickle
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anneal_utils import _checks

import keras
import numpy as np
from scipy.special import entr
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

DATA_SEED = 20_240  # fixes every synthetic data set and every split; never a run's seed


@dataclass(frozen=True, eq=False)
class Problem:
    """A training problem: everything about a run except optimizer, schedule and seed.

    ``build()`` returns a new, built, uncompiled ``keras.Model``; its initial weights follow
    Keras's global seed. Arrays have the sample axis first and are read-only. ``sampling`` is
    ``"shuffle"`` (each epoch is a permutation, the incomplete last batch is dropped) or
    ``"replacement"`` (each batch is an independent draw, so that ``steps_per_epoch`` is free).
    ``chance_loss`` is the validation loss of a model that has learned nothing: the penalty that
    a diverged run gets wherever a number is needed.
    """

    name: str
    build: Callable[[], keras.Model]
    x_train: np.ndarray = field(repr=False)
    y_train: np.ndarray = field(repr=False)
    x_val: np.ndarray = field(repr=False)
    y_val: np.ndarray = field(repr=False)
    loss: object
    batch_size: int
    epochs: int
    chance_loss: float
    metrics: tuple = ("accuracy",)
    sampling: str = "shuffle"
    steps: int | None = None  # steps per epoch, for sampling="replacement"

    def __post_init__(self):
        """Check the sizes and freeze the arrays; views are copied first."""
        _checks.count("batch_size", self.batch_size)
        _checks.count("epochs", self.epochs)
        _checks.choice("sampling", self.sampling, ("shuffle", "replacement"))
        if self.sampling == "shuffle" and self.steps is not None:
            _checks.fail("steps", self.steps, 'must be None with sampling="shuffle"')
        for name in ("x_train", "y_train", "x_val", "y_val"):
            array = getattr(self, name)
            if array.base is not None:  # others could still change what it is a view of
                array = np.array(array)
                object.__setattr__(self, name, array)
            array.flags.writeable = False
        if self.batch_size > len(self.x_train):
            _checks.fail(
                "batch_size", self.batch_size, f"must be <= {len(self.x_train)} training samples"
            )
        for part in ("train", "val"):
            x, y = getattr(self, f"x_{part}"), getattr(self, f"y_{part}")
            if len(x) != len(y):
                _checks.fail(f"y_{part}", f"{len(y)} rows", f"must have {len(x)}, as x_{part}")

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return self.steps or len(self.x_train) // self.batch_size


_makers: dict[str, Callable[..., Problem]] = {}


def register(name: str):
    """Decorator: add a function that returns a :class:`Problem` under ``name``.

    The function's keyword arguments become knobs of ``load(name, knob=…)``; ``ValueError`` if
    the name is taken.
    """

    if name in _makers:
        _checks.fail("name", name, "is taken; choose another name")

    def add(make):
        _makers[name] = make
        return make

    return add


def names() -> list[str]:
    """Names that ``load`` knows, in the order in which the course meets them."""
    return list(_makers)


def load(name: str, **knobs) -> Problem:
    """The problem called ``name``; the same object again for the same knobs.

    ``ValueError`` for an unknown name or knob; ``describe(name)`` tells the knobs.
    """
    _checks.choice("name", name, _makers)
    allowed = inspect.signature(_makers[name]).parameters
    for knob in knobs:
        if knob not in allowed:
            _checks.fail("knob", knob, f"problem {name!r} takes {', '.join(allowed) or 'no knobs'}")
    return _load(_makers[name], tuple(sorted(knobs.items())))


@functools.lru_cache(maxsize=64)
def _load(make, knobs) -> Problem:
    return make(**dict(knobs))


def describe(name: str) -> str:
    """What the problem is, its knobs and their defaults, as text."""
    _checks.choice("name", name, _makers)
    make = _makers[name]
    return f"{name}{inspect.signature(make)}\n{inspect.cleandoc(make.__doc__ or '')}"


def _mlp(inputs: int, hidden: tuple[int, ...], outputs: int, **last) -> keras.Model:
    layers = [keras.layers.Dense(width, activation="relu") for width in hidden]
    return keras.Sequential([keras.Input((inputs,)), *layers, keras.layers.Dense(outputs, **last)])


# --------------------------------------------------------------------- the article's demo


def _largest_of_three(samples: int, rng) -> tuple[np.ndarray, np.ndarray]:
    x = rng.uniform(size=(samples, 3)).astype("float32")
    return x, np.eye(3, dtype="float32")[x.argmax(axis=1)]


@register("article")
def article() -> Problem:
    """Which of three uniform numbers is the largest: the source article's demo, exactly.

    1,000 training and 100 test points in [0, 1]^3, one-hot classes; an MLP 3-9-9-9-3 with ReLU
    and softmax, categorical cross-entropy, batches of 50, 10 epochs (200 steps).
    """
    rng = np.random.default_rng(DATA_SEED)
    return Problem(
        "article",
        functools.partial(_mlp, 3, (9, 9, 9), 3, activation="softmax"),
        *_largest_of_three(1000, rng),
        *_largest_of_three(100, rng),
        loss="categorical_crossentropy",
        batch_size=50,
        epochs=10,
        chance_loss=float(np.log(3)),
    )


@register("deep_mlp")
def deep_mlp(depth: int = 12, width: int = 16) -> Problem:
    """The article's data under a deep MLP without normalisation: hard to start at a high rate."""
    depth, width = _checks.count("depth", depth), _checks.count("width", width)
    rng = np.random.default_rng(DATA_SEED)
    return Problem(
        "deep_mlp",
        functools.partial(_mlp, 3, (width,) * depth, 3, activation="softmax"),
        *_largest_of_three(1000, rng),
        *_largest_of_three(1000, rng),
        loss="categorical_crossentropy",
        batch_size=50,
        epochs=20,
        chance_loss=float(np.log(3)),
    )


# ---------------------------------------------------------------------------------- digits


class MatmulConv2D(keras.layers.Conv2D):
    """Keras's ``Conv2D`` (stride 1, "same", channels last) computed as shifted slices x matrix.

    The same weights and, up to rounding, the same numbers. On a CPU, inside a compiled training
    loop, XLA's own convolution is many times slower than this matrix product.
    """

    def call(self, inputs):
        """Convolve ``inputs`` of shape [batch, height, width, channels]."""
        height, width = self.kernel_size
        pad = [((size - 1) // 2, size // 2) for size in (height, width)]
        padded = keras.ops.pad(inputs, [(0, 0), *pad, (0, 0)])
        rows, columns = inputs.shape[1:3]
        patches = keras.ops.concatenate(
            [padded[:, i : i + rows, j : j + columns] for i in range(height) for j in range(width)],
            axis=-1,
        )
        kernel = keras.ops.reshape(self.kernel, (-1, self.filters))
        return self.activation(keras.ops.matmul(patches, kernel) + self.bias)


def _cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Reshape((8, 8, 1)),
            MatmulConv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            MatmulConv2D(32, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Flatten(),
            keras.layers.Dense(10),
        ]
    )


def _digits(name: str, build, epochs: int, noise: float = 0.0) -> Problem:
    images, labels = load_digits(return_X_y=True)
    x_train, x_val, y_train, y_val = train_test_split(
        (images / 16).astype("float32"),
        labels.astype("int32"),
        test_size=0.2,
        stratify=labels,
        random_state=DATA_SEED,
    )
    rng = np.random.default_rng(DATA_SEED)
    wrong = rng.choice(len(y_train), size=round(noise * len(y_train)), replace=False)
    # A shift of 1..9 classes: every chosen label really is wrong.
    y_train[wrong] = (y_train[wrong] + rng.integers(1, 10, size=len(wrong))) % 10
    return Problem(
        name,
        build,
        *(x_train, y_train, x_val, y_val),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=32,
        epochs=epochs,
        chance_loss=float(np.log(10)),
    )


@register("digits")
def digits() -> Problem:
    """Real handwritten digits (scikit-learn's bundled set): 1,437 training, 360 held-out images.

    8 x 8 pixels scaled to [0, 1]; an MLP 64-64-10, cross-entropy, batches of 32, 30 epochs of 44
    steps.
    """
    return _digits("digits", functools.partial(_mlp, 64, (64,), 10), epochs=30)


@register("digits_noisy")
def digits_noisy(noise: float = 0.2) -> Problem:
    """Digits with the share ``noise`` of the training labels replaced by a wrong class.

    The held-out labels stay clean.
    """
    noise = _checks.number("noise", noise, low=0, high=0.9)
    return _digits("digits_noisy", functools.partial(_mlp, 64, (64,), 10), 30, noise)


@register("digits_cnn")
def digits_cnn() -> Problem:
    """Digits with a small convolutional network: 16 and 32 filters of 3 x 3, two poolings."""
    return _digits("digits_cnn", _cnn, epochs=10)


# ------------------------------------------------- problems that favour one kind of optimizer


@register("zipf")
def zipf(classes: int = 200, size: int = 40, spread: float = 0.4) -> Problem:
    """Softmax regression on classes as unequal as words in a text: frequency 1 / rank.

    An input is its class's own point, uniform in the unit cube of ``size`` coordinates, plus
    Gaussian noise of standard deviation ``spread``. A linear model from zero sees one pass over a
    stream: batches of 64 drawn from 32,768 samples, 8 epochs of 64 steps; 4,096 held out. Rare
    classes see few gradients, so a plain gradient method learns them late: the heavy-tailed
    setting in which Kunstner et al. 2024 (arXiv:2402.19449) find Adam far ahead of SGD.
    """
    classes, size = _checks.count("classes", classes, low=2), _checks.count("size", size)
    spread = _checks.number("spread", spread, low=0)
    rng = np.random.default_rng(DATA_SEED)
    points = rng.uniform(size=(classes, size))
    share = 1 / np.arange(1, classes + 1)
    share /= share.sum()

    def draw(samples):
        y = rng.choice(classes, size=samples, p=share)
        x = points[y] + spread * rng.standard_normal((samples, size))
        return x.astype("float32"), y.astype("int32")

    return Problem(
        "zipf",
        functools.partial(_linear, size, classes),
        *draw(32_768),
        *draw(4096),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=64,
        epochs=8,
        chance_loss=float(np.log(classes)),
        sampling="replacement",
        steps=64,
    )


@register("wilson")
def wilson(samples: int = 200, majority: float = 0.6, batch_size: int = 20) -> Problem:
    """The separable problem on which adaptive methods fail on unseen data (Wilson et al. 2017).

    The share ``majority`` of the labels is +1, the others are -1. Coordinate 1 is the label, 2
    and 3 are always 1, and every sample has coordinates of its own: one is 1 if its label is +1,
    five are if it is -1. Least squares from zero, 400 steps by default. Held out: ``samples``
    more of the kind, whose own coordinates no gradient has touched. A plain gradient method
    finds the label's coordinate; a method that equalises coordinates answers +1 for everything.
    The paper proves it for full batches, ``batch_size=samples`` (arXiv:1705.08292, section 3.3).
    The output's sign is the answer.
    """
    samples = _checks.count("samples", samples, low=20)
    majority = _checks.number("majority", majority, low=0.5, high=1)
    rng = np.random.default_rng(DATA_SEED)

    def draw(first):
        y = np.where(rng.permutation(samples) < round(majority * samples), 1.0, -1.0)
        x = np.zeros((samples, 3 + 10 * samples), "float32")
        x[:, 0], x[:, 1:3] = y, 1
        for row in range(samples):
            start = 3 + 5 * (first + row)
            x[row, start : start + (1 if y[row] > 0 else 5)] = 1
        return x, y.astype("float32")[:, None]

    return Problem(
        "wilson",
        functools.partial(_linear, 3 + 10 * samples),
        *draw(0),
        *draw(samples),
        loss="mean_squared_error",
        batch_size=_checks.count("batch_size", batch_size),
        epochs=2 * batch_size,
        chance_loss=1.0,
        metrics=(),
    )


# ------------------------------------------------------------------------------- quadratics


class Offset(keras.layers.Layer):
    """One trainable point ``theta``; the output for a sample ``x`` is ``theta - x``."""

    def __init__(self, start, **kwargs):
        """Start from the point ``start``, a sequence of numbers."""
        super().__init__(**kwargs)
        self.start = [float(value) for value in start]

    def build(self, shape):
        """Create ``theta``."""
        start = keras.ops.convert_to_tensor(self.start, "float32")
        self.theta = self.add_weight(
            shape=(len(self.start),), initializer=lambda shape, dtype=None: start, name="theta"
        )

    def call(self, inputs):
        """``theta - x`` for every row of ``inputs``."""
        return self.theta - inputs

    def get_config(self):
        """Configuration for saving."""
        return {**super().get_config(), "start": self.start}


def _point(start) -> keras.Model:
    return keras.Sequential([keras.Input((len(start),)), Offset(start)])


def _quadratic_loss(matrix: np.ndarray):
    """``0.5 r' Q r`` for every residual ``r``; ``matrix`` is Q or, for a diagonal Q, a vector."""
    matrix = np.asarray(matrix, "float32")

    def half_quadratic_form(_, residual):
        curved = residual * matrix if matrix.ndim == 1 else keras.ops.matmul(residual, matrix)
        return 0.5 * keras.ops.sum(residual * curved, axis=-1)

    return half_quadratic_form


def _vector(argument: str, value, size: int | None = None) -> np.ndarray:
    values = [value] if np.ndim(value) == 0 else list(value)
    vector = np.array([_checks.number(argument, float(v), low=0) for v in values])
    if size and len(vector) == 1:
        vector = np.repeat(vector, size)
    if size and len(vector) != size:
        _checks.fail(argument, value, f"must be one number or {size} of them")
    return vector


@register("quadratic")
def quadratic(
    curvature=1.0, noise=1.0, start=1.0, batch_size: int = 1, epochs: int = 30, steps: int = 10
) -> Problem:
    """A noisy quadratic bowl whose every answer is known: loss = 0.5 sum_i h_i theta_i^2.

    ``curvature`` h_i > 0: a number or one per direction (a tuple). ``noise``: standard deviation
    of one sample's gradient, per direction (a batch divides its variance by ``batch_size``).
    ``start``: theta_0. Samples are drawn with replacement from a standardised normal sample, so
    the moments ``s <- (1 - lr h)^2 s + lr^2 noise^2 / batch_size`` hold exactly, on average over
    seeds. The held-out loss is the exact excess loss.
    """
    curvature = _vector("curvature", curvature)
    if not (curvature > 0).all():
        _checks.fail("curvature", curvature.tolist(), "every entry must be > 0")
    noise = _vector("noise", noise, len(curvature))
    start = np.broadcast_to(np.asarray(start, float), curvature.shape)
    rng = np.random.default_rng(DATA_SEED)
    sample = rng.standard_normal((4096, len(curvature)))
    sample = (sample - sample.mean(axis=0)) / sample.std(axis=0)
    x = (sample * noise / curvature).astype("float32")
    origin = np.zeros((1, len(curvature)), "float32")
    return Problem(
        "quadratic",
        functools.partial(_point, tuple(start)),
        *(x, np.zeros((len(x), 1), "float32")),
        *(origin, np.zeros((1, 1), "float32")),
        loss=_quadratic_loss(curvature),
        batch_size=batch_size,
        epochs=epochs,
        chance_loss=float(0.5 * (curvature * start**2).sum()),
        metrics=(),
        sampling="replacement",
        steps=_checks.count("steps", steps),
    )


@register("quadratic_deep")
def quadratic_deep() -> Problem:
    """DeepOBS's ``quadratic_deep``: 100 directions, 90 flat (0..1) and 10 steep (30..60).

    Loss 0.5 (theta - x)' Q (theta - x), x ~ N(0, 0.6^2), 1,000 training and 896 test points,
    start at 1, batches of 128, 100 epochs of 7 steps (Schneider, Balles & Hennig, ICLR 2019).
    Curvatures follow that construction; the random draws are this project's own.
    """
    rng = np.random.RandomState(42)
    eigenvalues = np.concatenate([rng.uniform(0, 1, 90), rng.uniform(30, 60, 10)])
    rotation, triangle = np.linalg.qr(rng.standard_normal((100, 100)))
    rotation *= np.sign(np.diag(triangle))  # Haar measure
    matrix = rotation @ np.diag(eigenvalues) @ rotation.T
    x_train = np.random.RandomState(42).normal(0, 0.6, (1000, 100)).astype("float32")
    x_val = np.random.RandomState(43).normal(0, 0.6, (1000, 100))[:896].astype("float32")
    start = np.ones(100)
    return Problem(
        "quadratic_deep",
        functools.partial(_point, tuple(start)),
        *(x_train, np.zeros((1000, 1), "float32")),
        *(x_val, np.zeros((896, 1), "float32")),
        loss=_quadratic_loss((matrix + matrix.T) / 2),
        batch_size=128,
        epochs=100,
        chance_loss=float(0.5 * start @ matrix @ start + 0.18 * eigenvalues.sum()),
        metrics=(),
    )


@register("least_squares")
def least_squares(
    size: int = 50, condition: float = 1000.0, noise: float = 0.5, rotated: bool = False
) -> Problem:
    """Streaming least squares with an ill-conditioned input covariance.

    Inputs have variances spread evenly on a log scale from 1 down to 1 / ``condition``, along
    the axes or in a random basis (``rotated``); targets are linear with Gaussian noise of
    standard deviation ``noise``. The held-out loss is the mean squared error against noise-free
    targets. The setting of Ge, Kakade, Kidambi & Netrapalli, NeurIPS 2019.
    """
    size = _checks.count("size", size)
    condition = _checks.number("condition", condition, low=1)
    noise = _checks.number("noise", noise, low=0)
    rng = np.random.default_rng(DATA_SEED)
    scale = np.sqrt(np.geomspace(1, 1 / condition, size))
    basis = np.linalg.qr(rng.standard_normal((size, size)))[0] if rotated else np.eye(size)
    weights = basis @ rng.standard_normal(size)

    def draw(samples, noise):
        x = (rng.standard_normal((samples, size)) * scale) @ basis.T
        y = x @ weights + noise * rng.standard_normal(samples)
        return x.astype("float32"), y.astype("float32")[:, None]

    x_val, y_val = draw(4096, 0.0)
    return Problem(
        "least_squares",
        functools.partial(_linear, size),
        *draw(16_384, noise),
        *(x_val, y_val),
        loss="mean_squared_error",
        batch_size=8,
        epochs=40,
        chance_loss=float(np.mean(y_val**2)),
        metrics=(),
        sampling="replacement",
        steps=50,
    )


def _linear(size: int, outputs: int = 1) -> keras.Model:
    layer = keras.layers.Dense(outputs, use_bias=False, kernel_initializer="zeros")
    return keras.Sequential([keras.Input((size,)), layer])


# ----------------------------------------------------------------------- a tiny transformer


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


class Places(keras.layers.Layer):
    """Adds a trainable vector to each place of ``[batch, length, width]``."""

    def __init__(self, **kwargs):
        """Vectors begin Gaussian with standard deviation 0.5."""
        super().__init__(**kwargs)
        self.initializer = keras.initializers.RandomNormal(stddev=0.5)

    def build(self, shape):
        """Create the vectors."""
        self.places = self.add_weight(shape[1:], self.initializer, name="places")

    def call(self, inputs):
        """The inputs, each with its place's vector."""
        return inputs + self.places


def _transformer(symbols: int, length: int, width: int, blocks: int) -> keras.Model:
    """Causal, normalised after each sum as in Vaswani et al. 2017; no output for place 0."""
    layers = keras.layers
    start = keras.initializers.RandomNormal(stddev=0.5)
    text = keras.Input((length,), dtype="int32")
    x = layers.Embedding(symbols, width, embeddings_initializer=start)(text)
    x = Places()(x)
    for block in range(blocks):
        # One head, from plain layers: the kernels of MultiHeadAttention get their gradients, under
        # XLA, as one product for each window and a sum over the windows, which takes longer.
        query, value, key = (
            layers.Dense(width, name=f"{part}_{block}")(x) for part in ("query", "value", "key")
        )
        query = layers.Rescaling(width**-0.5)(query)
        seen = layers.Attention()([query, value, key], use_causal_mask=True)
        x = layers.LayerNormalization()(x + layers.Dense(width)(seen))
        thought = layers.Dense(4 * width, activation="relu")(x)
        x = layers.LayerNormalization()(x + layers.Dense(width)(thought))
    return keras.Model(text, layers.Dense(symbols)(x[:, 1:]))


@register("characters")
def characters(symbols: int = 8, length: int = 5, width: int = 16, blocks: int = 2) -> Problem:
    """A tiny transformer predicts the next character of a source whose entropy rate is known.

    Windows of ``length`` symbols from ``markov_chain(symbols)``; at each place but the first,
    where the last two symbols are known, the next one is to be predicted. Post-norm blocks as in
    Vaswani et al. 2017 (arXiv:1706.03762), one head of attention, cross-entropy, batches of 24
    windows drawn from 8,192, 6 epochs of 30 steps; 512 windows held out. The floor of the
    held-out loss is ``entropy_rate(markov_chain(symbols))``. Notebook 06.
    """
    length = _checks.count("length", length, low=3)
    width, blocks = _checks.count("width", width), _checks.count("blocks", blocks)
    chain = markov_chain(symbols)
    rng = np.random.default_rng([DATA_SEED, 1])  # another stream than the chain's
    train, val = (_windows(chain, count, length + 1, rng) for count in (8192, 512))
    return Problem(
        "characters",
        functools.partial(_transformer, len(chain), length, width, blocks),
        *(train[:, :-1].copy(), train[:, 2:].copy()),
        *(val[:, :-1].copy(), val[:, 2:].copy()),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=24,
        epochs=6,
        chance_loss=float(np.log(len(chain))),
        metrics=(),
        sampling="replacement",
        steps=30,
    )


# --------------------------------------------------------------------------- opt-in downloads

CACHE = Path(__file__).resolve().parent.parent / "data" / "cache"
_FASHION = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"


def _matches(path: Path, digest: str) -> bool:
    """Whether the file has this MD5 (32 digits) or SHA-256 (64)."""
    with open(path, "rb") as stream:
        found = hashlib.file_digest(stream, "md5" if len(digest) == 32 else "sha256")
    return found.hexdigest() == digest


def _fetch(origin: str, file: str, digest: str, download: bool) -> Path:
    """The verified file ``data/cache/<file>``; fetched only if ``download``."""
    path = CACHE / file
    if not path.exists() and not download:
        raise FileNotFoundError(
            f"{file} is not in data/cache: call problems.load(…, download=True) once, with a "
            f"network, or put the file from {origin} there."
        )
    partial = path.with_suffix(path.suffix + f".{os.getpid()}.part")
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        try:
            keras.utils.get_file(partial.name, origin + file, cache_dir=str(CACHE), cache_subdir="")
            if not _matches(partial, digest):
                raise OSError(
                    f"{file} from {origin} does not have the expected hash; nothing was kept."
                )
            partial.replace(path)
        except OSError:
            raise
        except Exception as error:  # Keras wraps whatever the network says
            raise OSError(
                f"{file} could not be downloaded from {origin} ({error}): check the network, or "
                "put the file into data/cache by hand."
            ) from error
        finally:
            partial.unlink(missing_ok=True)
    if not _matches(path, digest):
        raise OSError(f"data/cache/{file} is damaged (wrong hash): delete it and load again.")
    return path


_FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}


@register("fashion_mnist")
def fashion_mnist(download: bool = False) -> Problem:
    """Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), 30 MB, opt-in: an MLP 784-128-10.

    The first 10,000 training and 5,000 test images, pixels in [0, 1]. Fetched once into
    ``data/cache`` when ``download`` is true, checked against the published MD5 sums.
    """
    arrays = []
    for file, digest in _FASHION_FILES.items():
        header = 16 if "images" in file else 8
        with gzip.open(_fetch(_FASHION, file, digest, download)) as stream:
            arrays.append(np.frombuffer(stream.read(), np.uint8, offset=header))
    pixels = [(a.reshape(-1, 784) / 255).astype("float32") for a in arrays[::2]]
    labels = [a.astype("int32") for a in arrays[1::2]]
    return _images("fashion_mnist", 784, pixels[0], labels[0], pixels[1], labels[1])


@register("cifar10")
def cifar10(download: bool = False) -> Problem:
    """CIFAR-10 (Krizhevsky 2009), 170 MB, opt-in: an MLP 3072-128-10.

    The first 10,000 training and 5,000 test images, pixels in [0, 1]. Fetched once into
    ``data/cache`` when ``download`` is true, checked against the SHA-256 that Keras records.
    """
    digest = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
    parts = {}
    with tarfile.open(_fetch(_CIFAR, "cifar-10-python.tar.gz", digest, download)) as archive:
        for part in ("data_batch_1", "test_batch"):
            # The archive's hash was verified above, so the pickle is the published one.
            batch = archive.extractfile(f"cifar-10-batches-py/{part}")
            content = pickle.load(batch, encoding="bytes")
            parts[part] = (
                (content[b"data"] / 255).astype("float32"),
                np.array(content[b"labels"], "int32"),
            )
    return _images("cifar10", 3072, *parts["data_batch_1"], *parts["test_batch"])


def _images(name, size, x_train, y_train, x_val, y_val) -> Problem:
    return Problem(
        name,
        functools.partial(_mlp, size, (128,), 10),
        *(x_train[:10_000], y_train[:10_000], x_val[:5000], y_val[:5000]),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batch_size=64,
        epochs=20,
        chance_loss=float(np.log(10)),
    )
