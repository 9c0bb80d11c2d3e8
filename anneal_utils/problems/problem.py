"""A problem: data, model, loss and batch size as one frozen object."""

from collections.abc import Callable
from dataclasses import dataclass, field

from anneal_utils import _checks

import keras
import numpy as np


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
