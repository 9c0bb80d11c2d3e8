"""A problem: data, model, loss and batch size as one frozen object."""

import functools
import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from anneal_utils import _checks
from anneal_utils.problems import _arrays, _splits, chance

import keras
import numpy as np

PARTS = ("train", "val", "test")
_SAMPLINGS = ("shuffle", "repeat", "replacement", "once")


class _Computed(float):
    """A chance loss that was not given: a problem that is made from another computes its own."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A training problem: everything about a run except optimizer, schedule and seed.

    ``build()`` returns a new, built, uncompiled ``keras.Model``; its initial weights follow
    Keras's global seed. ``loss``, ``loss_weights``, ``metrics`` and ``weighted_metrics`` are what
    ``compile`` takes.

    ``x_…`` and ``y_…``: whatever ``fit`` takes that fits in memory, samples first: arrays, pandas
    tables, tensors, memory maps, or dicts, tuples and lists of them; ``y_…`` may be None. They are
    copied (a memory map that is open for reading only is not) and read-only. ``sample_weight_…``:
    one weight a sample; ``class_weight``: ``{class: weight}`` for the training. Parts:

    - *train* is trained on, in batches of ``batch_size``;
    - *val* (tune) is evaluated after each epoch; feedback rules and tuning read it;
    - *test*, if given, is evaluated once, at the end of a run.

    ``splits``: how often train and val are divided anew: a number (split 0 is the one given, the
    others are drawn, stratified where ``y_train`` is a vector of whole numbers), or a list with the
    rows of *val* in each split, counted through train and then val. A run of ``seed`` belongs to
    split ``seed % splits``.

    ``sampling`` is ``"shuffle"`` (each epoch is a permutation, the incomplete last batch is
    dropped), ``"repeat"`` (the same, with one permutation for all epochs), ``"replacement"``
    (each batch is an independent draw, so that the ``steps`` per epoch are free) or ``"once"``
    (a stream: no run sees a sample twice, so that it must not need more than there are).
    ``evaluation_batch_size``: samples evaluated at once; default: all.

    ``target``: the column that methods are compared by, ``"val_loss"`` or a metric's
    ``"val_…"``, with its ``direction``, ``"min"`` or ``"max"``. ``chance_loss`` is the held-out
    loss of a model that has learned nothing, the penalty of a diverged run: when not given, that
    of the best constant output, else the median of untrained models (see ``problems.chance``).

    ``ValueError`` names the argument that does not fit.
    """

    name: str
    build: Callable[[], keras.Model]
    x_train: object = field(repr=False)
    y_train: object = field(repr=False)
    x_val: object = field(repr=False)
    y_val: object = field(repr=False)
    loss: object
    batch_size: int
    epochs: int
    # No default in the class itself: what is absent is computed.
    chance_loss: float = field(default_factory=lambda: None, repr=False)
    metrics: object = ("accuracy",)
    sampling: str = "shuffle"
    steps: int | None = None
    x_test: object = field(default=None, repr=False)
    y_test: object = field(default=None, repr=False)
    splits: object = field(default=1, repr=False)
    sample_weight_train: object = field(default=None, repr=False)
    sample_weight_val: object = field(default=None, repr=False)
    sample_weight_test: object = field(default=None, repr=False)
    class_weight: Mapping | None = None
    weighted_metrics: object = ()
    loss_weights: object = None
    evaluation_batch_size: int | None = None
    target: str = "val_loss"
    direction: str | None = None

    def __post_init__(self):
        """Check what can be checked without a model, and take the data over."""
        if not callable(self.build):
            _checks.fail("build", self.build, "must be a function that returns a new keras.Model")
        for name in ("batch_size", "epochs", "steps", "evaluation_batch_size"):
            value = getattr(self, name)
            if value is not None or name in ("batch_size", "epochs"):
                object.__setattr__(self, name, _checks.count(name, value))
        _checks.choice("sampling", self.sampling, _SAMPLINGS)
        if self.sampling in ("shuffle", "repeat") and self.steps is not None:
            _checks.fail("steps", self.steps, f'must be None with sampling="{self.sampling}"')
        for name in ("metrics", "weighted_metrics"):
            value = getattr(self, name)
            single = isinstance(value, str | keras.metrics.Metric) or callable(value)
            object.__setattr__(self, name, (value,) if single else value or ())
        self._check_target()
        for part in PARTS:
            self._take(part)
        self._check_parts()
        self._check_classes()
        if self.batch_size > self.samples("train"):
            rule = f"must be <= {self.samples('train')} training samples"
            _checks.fail("batch_size", self.batch_size, rule)
        self.check_epochs(self.epochs)
        object.__setattr__(self, "_rows", _splits.rows(self))
        if self.chance_loss is None or isinstance(self.chance_loss, _Computed):
            object.__delattr__(self, "chance_loss")  # computed when it is asked for
        else:
            _checks.number("chance_loss", self.chance_loss)

    def __getattr__(self, name):
        """``chance_loss``, where it was not given."""
        if name != "chance_loss" or "y_val" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        object.__setattr__(self, name, _Computed(chance.chance_loss(self)))
        return vars(self)[name]

    def __deepcopy__(self, memo):
        """Nothing of it can change."""
        return self

    def __setstate__(self, state):
        """Arrays that were pickled come back open to all."""
        vars(self).update(state)
        for part in PARTS:
            for name in (f"x_{part}", f"y_{part}", f"sample_weight_{part}"):
                if state[name] is not None:
                    for _, array in _arrays.leaves(name, state[name]):
                        array.flags.writeable = False

    def _check_target(self) -> None:
        if not isinstance(self.target, str) or not self.target.startswith("val_"):
            _checks.fail("target", self.target, 'must be "val_loss" or a metric\'s "val_…"')
        if self.direction is None and not self.target.endswith("loss"):
            rule = f'must be "min" or "max": which way is {self.target} better?'
            _checks.fail("direction", self.direction, rule)
        if self.direction is not None:
            _checks.choice("direction", self.direction, ("min", "max"))
        if self.direction == "max" and self.target.endswith("loss"):
            _checks.fail("direction", self.direction, f'must be "min" or None for {self.target}')

    def _take(self, part: str) -> None:
        """Own the arrays of a part, and see that they go together."""
        for name in (f"x_{part}", f"y_{part}", f"sample_weight_{part}"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _arrays.own(name, value))
                if not _arrays.size(getattr(self, name)):
                    _checks.fail(name, "0 rows", "must hold at least one sample")
        if getattr(self, f"x_{part}") is None:
            if part == "test" and self.y_test is None and self.sample_weight_test is None:
                return
            _checks.fail(f"x_{part}", None, "must be an array, or a structure of arrays")
        size = self.samples(part)
        for name in (f"y_{part}", f"sample_weight_{part}"):
            value = getattr(self, name)
            if value is not None and _arrays.size(value) != size:
                rows = f"{_arrays.size(value)} rows"
                _checks.fail(name, rows, f"must have {size}, as x_{part}")

    def _check_parts(self) -> None:
        """The other parts have the form of the training data."""
        for name in ("x", "y"):
            train = getattr(self, f"{name}_train")
            for part in PARTS[1:]:
                other = getattr(self, f"{name}_{part}")
                if part == "test" and self.x_test is None:
                    continue
                if (other is None) != (train is None):
                    _checks.fail(f"{name}_{part}", other, f"must be there if {name}_train is")
                if train is not None and _shape(other) != _shape(train):
                    rule = f"must have the form of {name}_train, {_arrays.form(train)}"
                    _checks.fail(f"{name}_{part}", _arrays.form(other), rule)

    def _check_classes(self) -> None:
        """``class_weight`` by the rules of ``fit``."""
        if self.class_weight is None:
            return
        if self.sample_weight_train is not None:
            rule = "must be None beside sample_weight_train, as in fit"
            _checks.fail("class_weight", self.class_weight, rule)
        if not isinstance(self.y_train, np.ndarray):
            rule = "needs one array of classes as y_train"
            _checks.fail("class_weight", self.class_weight, rule)
        whole = isinstance(self.class_weight, Mapping) and all(
            isinstance(key, numbers.Integral) for key in self.class_weight
        )
        if not whole or self.y_train.dtype.kind not in "biuf":
            rule = "must be {number of a class: weight}, and y_train numbers"
            _checks.fail("class_weight", self.class_weight, rule)

    def class_weights(self, y: np.ndarray) -> np.ndarray:
        """The weight that ``class_weight`` gives to each sample with the targets ``y``."""
        if y.ndim > 1:
            y = y.argmax(axis=-1) if y.shape[-1] != 1 else y[..., 0]
        classes, place = np.unique(np.round(y).astype("int32"), return_inverse=True)
        weights = [self.class_weight.get(int(one), 1.0) for one in classes]
        return np.array(weights, keras.config.floatx())[place.reshape(len(y))]

    @classmethod
    def from_dataset(cls, name, build, train, val, test=None, **rest) -> "Problem":
        """A problem from batched ``tf.data`` datasets that end and fit in memory.

        Their elements are ``(x, y)`` or ``(x, y, sample weight)``, in batches as ``fit`` takes
        them; ``batch_size`` is that of the first batch of ``train`` unless it is given. ``rest``:
        the other arguments.
        """
        for part, dataset in zip(PARTS, (train, val, test), strict=True):
            if dataset is not None:
                given, size = _splits.read_dataset(part, dataset)
                rest |= given
                if part == "train":
                    rest.setdefault("batch_size", size)
        rest.setdefault("y_train", None)
        rest.setdefault("y_val", None)
        return cls(name, build, **rest)

    def samples(self, part: str) -> int:
        """Number of samples of ``"train"``, ``"val"`` or ``"test"`` (0: there is none)."""
        _checks.choice("part", part, PARTS)
        x = getattr(self, f"x_{part}")
        return 0 if x is None else _arrays.size(x)

    def part(self, name: str) -> tuple:
        """``(x, y)`` or ``(x, y, sample weight)`` of a part, as given: that of split 0."""
        _checks.choice("part", name, PARTS)
        weight = getattr(self, f"sample_weight_{name}")
        if name == "train" and self.class_weight is not None:
            weight = self.class_weights(self.y_train)
        pair = (getattr(self, f"x_{name}"), getattr(self, f"y_{name}"))
        return pair if weight is None else (*pair, weight)

    def rows(self, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Which rows of train and val together a run of this seed trains on and is tuned on.

        None without splits: then they are the given parts.
        """
        return self._rows[seed % len(self._rows)] if self._rows else None

    def data(self) -> dict[str, tuple]:
        """All that runs read: ``{part: (x, y) or (x, y, sample weight)}``.

        With splits, train and val are the same rows, of which :meth:`rows` tells a run its own.
        """
        parts = {name: self.part(name) for name in PARTS if self.samples(name)}
        return _splits.pooled(self, parts) if self._rows else parts

    def arrays(self) -> list[np.ndarray]:
        """Every array of the problem's data."""
        parts = [part for one in self.data().values() for part in one if part is not None]
        return [array for part in parts for _, array in _arrays.leaves("", part)]

    @functools.cached_property
    def chance(self) -> float:
        """What a model scores that has learned nothing, in the target, lower being better."""
        if self.target == "val_loss":
            return self.chance_loss
        name = self.target.removeprefix("val_")
        return chance.untrained(self)[name] * self.sign

    @property
    def sign(self) -> float:
        """By what the target is multiplied so that lower is better."""
        return -1.0 if self.direction == "max" else 1.0

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in one epoch."""
        return self.steps or self.samples("train") // self.batch_size

    def check_epochs(self, epochs: int) -> None:
        """``ValueError`` where a stream, ``sampling="once"``, has too few samples for a run."""
        most = self.samples("train") // (self.steps_per_epoch * self.batch_size)
        if self.sampling == "once" and epochs > most:
            size = f"{self.samples('train')} samples, each seen once"
            rule = (
                f"must be <= {most}: {self.steps_per_epoch} batches of {self.batch_size} an epoch"
            )
            _checks.fail("epochs", epochs, f"{rule} out of {size}")


def _shape(value) -> str:
    """The containers and shapes of a sample; kinds may differ (int32 and int64 labels)."""
    return repr(_arrays.mapped("", value, lambda _, array: array.shape[1:]))
