"""Wrappers that give any Keras optimizer scheduled hyperparameters, or rates per layer.

:class:`Scheduled` lets momentum, ``beta_1``, weight decay and their like follow schedules of the
step, as the rate can; :class:`LayerRates` multiplies the rate of some layers. Both are Keras
optimizers around another one, ``inner_optimizer``, as Keras's ``LossScaleOptimizer`` is, and nest
in any order. While the inner optimizer applies gradients some of its attributes are exchanged;
at any other time it is as it was given.
"""

import contextlib
import fnmatch
import operator
from collections.abc import Iterable
from typing import ClassVar

from anneal_utils import _backend, _checks, _internals
from anneal_utils._backend import tf
from anneal_utils.optimizers._wrapper import Wrapper, unwrap

import keras
import numpy as np

ops = keras.ops
Schedule = keras.optimizers.schedules.LearningRateSchedule
_serializable = keras.saving.register_keras_serializable("anneal_utils")


# ------------------------------------------------------------------ scheduled hyperparameters

_KEPT = ("gradient_accumulation_steps", "ema_overwrite_frequency", "loss_scale_factor")


@_serializable
class Scheduled(Wrapper):
    """Any Keras optimizer, with hyperparameters that follow schedules of the optimizer step.

    ``Scheduled(optimizer, momentum=schedule, weight_decay=schedule, ...)``: each keyword is a
    number of the optimizer's configuration, each value a ``LearningRateSchedule`` that returns
    it, without a unit, for a scalar step; as optax's ``inject_hyperparams``. It is asked at the
    step that the rate's schedule is asked at, so under gradient accumulation it counts batches.
    The optimizer's own number is not used: momentum 0 and weight decay None are replaced too.

    Where a schedule returns tensors the optimizer computes as if it had been given their
    (float32) values as numbers: with a constant one it is the plain optimizer to the last bit
    (but for ``beta_1`` of ``ScheduleFreeAdamW``: TensorFlow compiles a division by a number as a
    multiplication).
    The value at step 0 is checked as the optimizer checks it; later values are not. The rate is
    scheduled in Keras's own way, by giving the optimizer a schedule.

    ``ValueError`` for what is no float of the optimizer, for what it does not read when it
    updates (``initial_accumulator_value``; told at the first step), and for a built optimizer,
    a ``LossScaleOptimizer`` (put it outside) or a ``MultiOptimizer``.

    Cycling the momentum against the rate: Smith 2018 (arXiv:1803.09820). Example::

        fall = keras.optimizers.schedules.PolynomialDecay(0.95, 1000, 0.85)
        model.compile(Scheduled(keras.optimizers.SGD(0.1, momentum=0.95), momentum=fall), "mse")
    """

    schedules: ClassVar[dict] = {}

    def __init__(self, inner_optimizer, *, name=None, **schedules):
        """Wrap an optimizer that is not built; keywords are its hyperparameters."""
        super().__init__(inner_optimizer, name)
        if not schedules:
            _checks.fail("schedules", schedules, "must name a hyperparameter, as momentum=schedule")
        for hyperparameter, schedule in schedules.items():
            _check_schedule(inner_optimizer, hyperparameter, schedule)
        self.schedules = schedules

    def _changes(self):
        step = _internals.counter(unwrap(self))
        return {name: _Number(name, schedule(step)) for name, schedule in self.schedules.items()}

    def build(self, variables):
        """Create the slots; those that a hyperparameter above zero needs are among them."""
        with self._changed():
            super().build(variables)

    def _check_applied(self):
        if self.gradient_accumulation_steps and (tf is None or tf.executing_eagerly()):
            return  # a step that only accumulates reads nothing
        root = unwrap(self)
        for name in self.schedules:
            if not getattr(root, name).read:
                _checks.fail(
                    "hyperparameter",
                    name,
                    f"is not read when {type(root).__name__} updates these variables, so a "
                    "schedule of it changes nothing",
                )

    def get_config(self):
        """Configuration for saving."""
        schedules = {
            name: keras.saving.serialize_keras_object(schedule)
            for name, schedule in self.schedules.items()
        }
        return {**super().get_config(), "schedules": schedules}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The wrapper of a saved configuration."""
        made = keras.saving.deserialize_keras_object(config, custom_objects=custom_objects)
        return cls(made["inner_optimizer"], name=made["name"], **made["schedules"])


def _operators(python, keras_op):
    """Two methods of :class:`_Number`: an operator with the number on its left, on its right."""

    def compute(self, first, second):
        return (python if isinstance(self.value, float) else keras_op)(first, second)

    return (
        lambda self, other: compute(self, self.value, other),
        lambda self, other: compute(self, other, self.value),
    )


class _Number:
    """A hyperparameter of the step in work: computes as ``value``, compares as above zero.

    An optimizer asks at build and at each update whether it uses, say, momentum at all (``if
    self.momentum != 0``), which a tensor of a graph can not answer: a scheduled one is used.
    """

    def __init__(self, name, value):
        self.name, self.read = name, False
        # A Python number stays one, as it would in the plain optimizer.
        plain = isinstance(value, int | float)
        self._value = float(value) if plain else ops.convert_to_tensor(value)

    @property
    def value(self):
        """A number, or a tensor of shape ()."""
        self.read = True
        return self._value

    def __tf_tensor__(self, dtype=None, name=None):
        """For every operation of TensorFlow or Keras."""
        if isinstance(self.value, float):
            return tf.convert_to_tensor(self.value, dtype or keras.config.floatx())
        return self.value if dtype is None else tf.cast(self.value, dtype)

    def __jax_array__(self):
        """For JAX."""
        return ops.convert_to_tensor(self.value)

    if _backend.NAME == "torch":  # elsewhere NumPy is to ask for the operators below

        def __array__(self, dtype=None, copy=None):
            """For PyTorch, which computes at once."""
            return np.asarray(ops.convert_to_numpy(self.value), dtype)

    def __bool__(self):
        return True

    def _above_zero(self, other):
        if isinstance(other, int | float) and other == 0:
            return True
        raise ValueError(
            f"{self.name}: the optimizer compares it with {other!r}, which a schedule can not "
            "answer while the step is traced."
        )

    __ne__ = __gt__ = __ge__ = _above_zero

    def __eq__(self, other):
        return not self._above_zero(other)

    __lt__ = __le__ = __eq__
    __hash__ = object.__hash__

    def __neg__(self):
        return -self.value

    __add__, __radd__ = _operators(operator.add, ops.add)
    __sub__, __rsub__ = _operators(operator.sub, ops.subtract)
    __mul__, __rmul__ = _operators(operator.mul, ops.multiply)
    __truediv__, __rtruediv__ = _operators(operator.truediv, ops.divide)
    __pow__, __rpow__ = _operators(operator.pow, ops.power)


def _check_schedule(optimizer, name: str, schedule) -> None:
    """``ValueError`` unless ``schedule`` can stand for the optimizer's hyperparameter ``name``."""
    root = unwrap(optimizer)
    kind, config = type(root).__name__, root.get_config()
    floats = [key for key, value in config.items() if isinstance(value, float)]
    possible = sorted({*floats, "weight_decay"} - {"learning_rate", *_KEPT})
    if name == "learning_rate":
        _checks.fail("hyperparameter", name, f"is scheduled by giving its schedule to {kind}")
    if not isinstance(schedule, Schedule):
        _checks.fail(name, schedule, "must be a keras LearningRateSchedule")
    if name not in possible or not hasattr(root, name):
        what = f"{kind} has it as {config[name]!r}" if name in config else f"{kind} has none"
        _checks.fail(
            "hyperparameter", name, f"{what}; a float can be scheduled: {', '.join(possible)}"
        )
    if name in getattr(root, "unscheduled", ()):
        _checks.fail(
            "hyperparameter", name, f"must stay a number: {kind} reads it between the updates too"
        )
    while optimizer is not root:
        if name in getattr(optimizer, "schedules", {}):
            _checks.fail("hyperparameter", name, "is scheduled by the inner optimizer already")
        optimizer = optimizer.inner_optimizer
    first = _backend.at(schedule, 0)
    _checks.number(f"{name} at step 0", first)
    try:
        # In a graph of its own, so that nobody else sees this optimizer's variables.
        with contextlib.nullcontext() if tf is None else tf.Graph().as_default():
            type(root).from_config({**config, "learning_rate": 0.1, name: first})
    except ValueError as error:
        _checks.fail(f"{name} at step 0", first, f"is refused by {kind}: {error}")


# ----------------------------------------------------------------------------- rates per layer


@_serializable
class LayerRates(Wrapper):
    """Any Keras optimizer, with the rate of some layers multiplied.

    ``multipliers``: {pattern: multiplier}. A pattern is a name, or names joined by ``/``, that
    stand next to each other in a variable's ``path``; ``*``, ``?`` and ``[...]`` are as in file
    names, within one name. In a model with the path ``model/encoder/dense_1/kernel`` it is
    matched by ``"encoder"``, ``"encoder/dense_1"``, ``"dense_*"`` and ``"kernel"``, not by
    ``"dense"``. What no pattern matches keeps the optimizer's rate.

    A multiplier is a number without a unit, >= 0, or a ``LearningRateSchedule`` of the step that
    the rate's schedule is asked at. It multiplies the rate in the update and in the decoupled
    weight decay, as a parameter group of PyTorch does; where an optimizer makes a rate of its own
    from that (Adafactor's cap), it multiplies before. The number 0 freezes: weight and
    slots stay exactly as they are; its gradient still counts in ``global_clipnorm``.

    ``ValueError`` for a negative multiplier, for an optimizer that finds one rate for all weights
    together (SWATS, Polyak's, hypergradient), and at build for a pattern that matches nothing that
    trains or a variable that two patterns match; nest two wrappers to multiply twice. Example::

        slower = LayerRates(keras.optimizers.AdamW(1e-3), {"encoder": 0.1, "embedding": 0.0})
        model.compile(slower, "mse")
    """

    multipliers: ClassVar[dict] = {}

    def __init__(self, inner_optimizer, multipliers, name=None):
        """Wrap an optimizer that is not built."""
        super().__init__(inner_optimizer, name)
        root = unwrap(inner_optimizer)
        if reason := getattr(root, "alone", None):
            kind = type(root).__name__
            _checks.fail("inner_optimizer", kind, f"must have a rate for each variable: {reason}")
        if not isinstance(multipliers, dict) or not multipliers:
            _checks.fail("multipliers", multipliers, "must be a dict {pattern: multiplier}")
        for pattern, multiplier in multipliers.items():
            if not isinstance(pattern, str) or not all(pattern.split("/")):
                _checks.fail("pattern", pattern, "must be names joined by '/'")
            if not isinstance(multiplier, Schedule):
                _checks.number(f"multipliers[{pattern!r}]", multiplier, low=0)
        self.multipliers = multipliers
        self._pattern_of = []  # of each variable, by its index: None where no pattern matches

    def build(self, variables):
        """Create the slots, and find the pattern of each variable."""
        if self.built:
            return
        paths = [getattr(variable, "path", variable.name) for variable in variables]
        found = [_pattern_of(path, self.multipliers) for path in paths]
        for pattern in self.multipliers:
            if pattern not in found:
                shown = ", ".join(paths[:8]) + (", ..." if len(paths) > 8 else "")
                _checks.fail("pattern", pattern, f"matches no variable that trains: {shown}")
        super().build(variables)
        self._pattern_of = found

    def _changes(self):
        root, current = unwrap(self), None
        update_step, decay = root.update_step, getattr(root, _internals.DECAY)
        get_rate, step = getattr(root, _internals.CURRENT_RATE), _internals.counter(root)
        values = {
            pattern: multiplier(step) if callable(multiplier) else float(multiplier)
            for pattern, multiplier in self.multipliers.items()
        }

        def pattern_of(variable):
            return self._pattern_of[_internals.index_of(root, variable)]

        def times(rate, pattern):
            return rate if pattern is None else ops.multiply(rate, values[pattern])

        @contextlib.contextmanager
        def working_on(pattern):
            nonlocal current
            current = pattern
            try:
                yield
            finally:
                current = None

        def frozen(pattern):
            return isinstance(values.get(pattern), float) and values[pattern] == 0

        def one_step(gradient, variable, learning_rate):
            if not frozen(pattern := pattern_of(variable)):
                with working_on(pattern):
                    update_step(gradient, variable, times(learning_rate, pattern))

        def decay_all(variables):
            for pattern in [None, *values]:
                group = [variable for variable in variables if pattern_of(variable) == pattern]
                if group and not frozen(pattern):
                    with working_on(pattern):
                        decay(group)

        return {
            "update_step": one_step,
            _internals.DECAY: decay_all,
            # Weight decay, and some optimizers in their update, read the rate by themselves.
            _internals.CURRENT_RATE: lambda: times(get_rate(), current),
        }

    def get_config(self):
        """Configuration for saving."""
        multipliers = {
            pattern: keras.saving.serialize_keras_object(multiplier)
            for pattern, multiplier in self.multipliers.items()
        }
        return {**super().get_config(), "multipliers": multipliers}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The wrapper of a saved configuration."""
        return cls(**keras.saving.deserialize_keras_object(config, custom_objects=custom_objects))


def _pattern_of(path: str, patterns: Iterable[str]) -> str | None:
    """The one pattern that matches a variable's path, or None."""
    names, found = path.split("/"), []
    for pattern in patterns:
        parts = pattern.split("/")
        runs = (names[i : i + len(parts)] for i in range(len(names) - len(parts) + 1))
        if any(all(map(fnmatch.fnmatchcase, run, parts)) for run in runs):
            found.append(pattern)
    if len(found) > 1:
        rule = f"both match {path}: patterns must share no variable"
        _checks.fail("patterns", " and ".join(found), rule)
    return found[0] if found else None


def layer_decay(layers: Iterable[str], factor: float) -> dict[str, float]:
    """Multipliers that fall by ``factor`` with each layer before the last, for LayerRates.

    ``layers``: names from input to output; the last one gets 1. Layer-wise decay of the rate:
    Clark et al., ICLR 2020 (arXiv:2003.10555). ``ValueError`` for a factor below 0. Example::

        layer_decay(["encoder", "middle", "head"], 0.5)  # {"encoder": 0.25, "middle": 0.5, ...}
    """
    factor, names = _checks.number("factor", factor, low=0), list(layers)
    return {name: factor ** (len(names) - 1 - i) for i, name in enumerate(names)}
