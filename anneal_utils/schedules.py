"""The schedules that Keras lacks, and a catalogue of all of them normalised to peak and horizon.

A schedule is a pure function of the optimizer step: asked twice, in any order, on a number or a
vector of steps, from a plot or inside ``tf.function``, it gives the same rate. What Keras has
(exponential, piecewise constant, inverse time, polynomial, cosine) is used, not rewritten. Every
class here is float32, saves and loads inside a ``.keras`` model, and is exact about which step it
is for the first 16 million steps.

``build(name, peak, steps)`` gives any schedule of the catalogue; ``horizon`` counts its steps as
``model.fit`` does; ``names()`` lists the catalogue; ``describe(name)`` tells formula and source;
``@register("name")`` adds one; ``values`` tabulates any schedule. Bad arguments raise
``ValueError``. Taught in notebooks 02 to 06.
"""

import inspect
import itertools
import math
import numbers
import types
from collections.abc import Callable, Iterable

from anneal_utils import _checks

import keras
import numpy as np
import tensorflow as tf
from keras.optimizers import schedules as keras_schedules

ops = keras.ops
Schedule = keras_schedules.LearningRateSchedule
_serializable = keras.saving.register_keras_serializable("anneal_utils")


def _step(step):
    """``step`` (any integer or float, scalar or vector) as float32."""
    return ops.cast(step, "float32")


def _floor_divide(step, period: int):
    """``floor(step / period)`` for whole steps, the same in eager mode, in a graph and under XLA.

    A graph divides by a constant by multiplying with its rounded reciprocal, so that 83 / 83 is
    0.99999994 and its floor 0: Keras's ``CosineDecayRestarts(83)`` restarts one step late in
    ``fit``. Half a step more keeps the quotient away from the whole numbers.
    """
    return ops.floor((step + 0.5) / period)


def _share(argument: str, value) -> float:
    """``value`` as a share of the horizon in [0, 1)."""
    share = _checks.number(argument, value, low=0)
    if share >= 1:
        _checks.fail(argument, value, "must be a share of the horizon in [0, 1)")
    return share


def _descent(shape: str, u):
    """A fall from 1 at u = 0 to 0 at u = 1."""
    if shape == "linear":
        return 1 - u
    if shape == "sqrt":
        return 1 - ops.sqrt(u)
    return 0.5 * (1 + ops.cos(math.pi * u))


class _Configured(Schedule):
    """A schedule whose constructor arguments are its attributes: that is its configuration."""

    def get_config(self):
        """The constructor's arguments."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}


# ----------------------------------------------------------------------------- new schedules


@_serializable
class Cyclical(_Configured):
    """Cycles between ``low`` and ``high``, ``period`` steps each (Smith, WACV 2017).

    ``shape``: ``"triangle"`` rises for half a period and falls for half (an odd period's apex
    lies between two steps, ``(high - low) / period`` above both); ``"step"``, ``"exponential"``
    and ``"cosine"`` jump to ``high`` and decay towards ``low`` inside each cycle (``"step"`` on
    ``stairs`` equal treads, the last one at ``low``; ``"exponential"`` needs ``low`` > 0).
    ``amplitude``: ``"constant"`` (Smith's triangular), ``"halved"`` after every cycle
    (triangular2) or ``"exp_range"`` (times ``gamma ** step``). Same rates as PyTorch's
    ``CyclicLR`` with equal halves. Notebook 04.
    """

    def __init__(
        self, low, high, period, shape="triangle", amplitude="constant", gamma=1.0, stairs=4
    ):
        self.low = _checks.number("low", low, low=0)
        self.high = _checks.positive("high", high)
        if self.low > self.high:
            _checks.fail("low", low, f"must be <= high = {high!r}")
        self.period = _checks.count("period", period, low=2)
        self.shape = _checks.choice("shape", shape, ("triangle", "step", "exponential", "cosine"))
        if shape == "exponential" and self.low == 0:
            _checks.fail("low", low, 'must be > 0 with shape="exponential"')
        self.amplitude = _checks.choice("amplitude", amplitude, ("constant", "halved", "exp_range"))
        self.gamma = _checks.number("gamma", gamma, low=0, high=1, open_low=True)
        self.stairs = _checks.count("stairs", stairs, low=2)

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        cycle = _floor_divide(step, self.period)
        done = step - cycle * self.period  # steps inside the cycle, a whole number
        u = done / self.period
        if self.shape == "triangle":
            height = 1 - ops.abs(2 * u - 1)
        elif self.shape == "step":
            # One division of whole numbers: 1 - tread / last may come out below 0 under XLA.
            last = self.stairs - 1
            height = (last - _floor_divide(done * self.stairs, self.period)) / last
        elif self.shape == "exponential":
            ratio = self.low / self.high
            height = (ops.power(ratio, u) - ratio) / (1 - ratio) if ratio < 1 else 0 * u
        else:
            height = _descent("cosine", u)
        if self.amplitude == "halved":
            height = height * ops.power(0.5, cycle)
        elif self.amplitude == "exp_range":
            # Not power(gamma, step): gamma, close to 1, would be rounded to float32 first.
            height = height * ops.exp(math.log(self.gamma) * step)
        return self.low + (self.high - self.low) * height


@_serializable
class OneCycle(_Configured):
    """One rise to ``peak`` and one fall far below the start (Smith & Topin 2018).

    The rise takes ``warmup`` of ``steps``, from ``peak / start_divisor``; the fall ends at
    ``peak / start_divisor / final_divisor`` at step ``steps``. With ``tail`` > 0 the fall first
    returns to the start and goes to the end in the last ``tail`` of the steps, which is the
    paper's own cycle. ``shape``: ``"cosine"`` or ``"linear"``, of every phase.

    The peak is at step ``int(warmup * steps)`` and the end at ``steps``: optax's and fastai's
    convention (PyTorch has both one step earlier). The divisors are optax's and PyTorch's
    (fastai's final divisor is the product of both). ``shape="cosine"`` is optax's
    ``cosine_onecycle_schedule``; ``"linear"`` with ``tail=0.15`` its
    ``linear_onecycle_schedule``. Notebook 04.
    """

    def __init__(
        self,
        peak,
        steps,
        warmup=0.3,
        shape="cosine",
        start_divisor=25.0,
        final_divisor=1e4,
        tail=0.0,
    ):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps, low=2)
        self.warmup = _share("warmup", warmup)
        self.shape = _checks.choice("shape", shape, ("cosine", "linear"))
        self.start_divisor = _checks.number("start_divisor", start_divisor, low=1)
        self.final_divisor = _checks.number("final_divisor", final_divisor, low=1)
        self.tail = _share("tail", tail)
        if self.tail and int((1 - self.tail) * self.steps) <= int(self.warmup * self.steps):
            _checks.fail("tail", tail, f"must leave steps between it and warmup = {warmup!r}")

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        start = self.peak / self.start_divisor
        knots = [(0, start), (int(self.warmup * self.steps), self.peak)]
        if self.tail:
            knots.append((int((1 - self.tail) * self.steps), start))
        knots.append((self.steps, start / self.final_divisor))
        rate = self.peak
        for (begin, first), (end, last) in itertools.pairwise(knots):
            if begin < end:
                u = ops.clip((step - begin) / (end - begin), 0.0, 1.0)
                phase = last + (first - last) * _descent(self.shape, u)
                rate = ops.where(step < begin, rate, phase)
        return rate


@_serializable
class WarmupStableDecay(_Configured):
    """Linear warmup, a plateau at ``peak``, then a cooldown to ``end`` (Hägele et al. 2024).

    ``cooldown`` is the share of ``steps`` spent going down; ``warmup`` the share going up (the
    first step has rate ``peak / (W + 1)``). ``shape`` of the cooldown: ``"linear"``, ``"sqrt"``
    (1 - sqrt(u)) or ``"cosine"``. ``end`` (a rate) is reached at step ``steps``. Notebook 06.
    """

    def __init__(self, peak, steps, cooldown=0.2, warmup=0.0, shape="linear", end=0.0):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)
        self.cooldown = _checks.number("cooldown", cooldown, low=0, high=1, open_low=True)
        self.warmup = _share("warmup", warmup)
        if sum(self._phases()) > self.steps:
            _checks.fail(
                "warmup", warmup, f"must leave room for cooldown = {cooldown!r} of {steps!r} steps"
            )
        self.shape = _checks.choice("shape", shape, ("linear", "sqrt", "cosine"))
        self.end = _checks.number("end", end, low=0, high=self.peak)

    def _phases(self) -> tuple[int, int]:
        """Steps going up and steps going down."""
        return round(self.warmup * self.steps), max(1, round(self.cooldown * self.steps))

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        rise, fall = self._phases()
        u = ops.clip((step - (self.steps - fall)) / fall, 0.0, 1.0)
        rate = self.end + (self.peak - self.end) * _descent(self.shape, u)
        return rate * ops.minimum((step + 1) / (rise + 1), 1.0) if rise else rate


@_serializable
class Sigmoid(_Configured):
    """A falling S-curve from exactly ``peak`` at step 0 to exactly ``end`` at ``steps``.

    s(u) = 1 / (1 + exp(steepness (u - middle))), rescaled to its end points. After Nakamura et
    al., Electronics 2021; the parametrisation is this project's. Notebooks 03 and 06.
    """

    def __init__(self, peak, steps, end=0.0, steepness=10.0, middle=0.5):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)
        self.end = _checks.number("end", end, low=0, high=self.peak)
        # Outside this range s(0) - s(1), or s itself, is lost in float32.
        self.steepness = _checks.number("steepness", steepness, low=0.1, high=80)
        self.middle = _checks.number("middle", middle, low=0, high=1)

    def __call__(self, step):
        """The rate at ``step``."""
        u = ops.clip(_step(step) / self.steps, 0.0, 1.0)
        first, last = (1 / (1 + math.exp(self.steepness * (x - self.middle))) for x in (0, 1))
        s = ops.sigmoid(self.steepness * (self.middle - u))
        return self.end + (self.peak - self.end) * ops.clip((s - last) / (first - last), 0.0, 1.0)


@_serializable
class InverseSquareRoot(_Configured):
    """``peak * sqrt(timescale / (timescale + step))``: half the rate after 3 timescales.

    The decay of Vaswani et al. 2017 without its warmup (put ``Warmup`` around it), shifted so
    that it starts at ``peak``. Notebook 03.
    """

    def __init__(self, peak, timescale):
        self.peak = _checks.positive("peak", peak)
        self.timescale = _checks.positive("timescale", timescale)

    def __call__(self, step):
        """The rate at ``step``."""
        return self.peak * ops.sqrt(self.timescale / (self.timescale + _step(step)))


@_serializable
class Power(_Configured):
    """The power scheduler: a power law in the step, capped at ``peak``, then a cooldown to zero.

    ``min(peak, peak * (step / hold) ** -exponent)``: constant for ``hold`` steps, then falling
    as the power law by which the best constant rate falls with the length of training; over the
    last ``cooldown`` share of ``steps`` it goes on to zero (``cooldown`` 0: it does not), with
    ``shape`` ``"linear"``, ``"sqrt"`` (1 - sqrt(u)) or ``"cosine"``. After Shen et al. 2024
    (arXiv 2408.13359), where ``exponent`` is 0.51 and the cooldown, a tenth to a fifth of the run,
    is exponential; in steps, not tokens. Notebook 06.
    """

    def __init__(self, peak, steps, hold, exponent=0.51, cooldown=0.2, shape="linear"):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)
        self.hold = _checks.positive("hold", hold)
        self.exponent = _checks.number("exponent", exponent, low=0)
        self.cooldown = _checks.number("cooldown", cooldown, low=0, high=1)
        self.shape = _checks.choice("shape", shape, ("linear", "sqrt", "cosine"))

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        fall = round(self.cooldown * self.steps)
        trunk = ops.minimum(step, float(self.steps - fall)) if fall else step
        rate = self.peak * ops.power(ops.maximum(trunk / self.hold, 1.0), -self.exponent)
        if not fall:
            return rate
        u = ops.clip((step - (self.steps - fall)) / fall, 0.0, 1.0)
        return rate * _descent(self.shape, u)


@_serializable
class Rex(_Configured):
    """``peak * (1 - u) / (1 - u / 2)``, u = step / steps (Chen, Wolfe & Kyrillidis 2021).

    Above the linear decay all the way, zero at step ``steps``. Notebook 03.
    """

    def __init__(self, peak, steps):
        self.peak = _checks.positive("peak", peak)
        self.steps = _checks.count("steps", steps)

    def __call__(self, step):
        """The rate at ``step``."""
        u = ops.clip(_step(step) / self.steps, 0.0, 1.0)
        return self.peak * (1 - u) / (1 - 0.5 * u)


def _schedule(argument: str, value) -> Schedule:
    if not isinstance(value, Schedule):
        _checks.fail(argument, value, "must be a Keras LearningRateSchedule")
    return value


def _first(schedule: Schedule) -> float:
    """The schedule's rate at step 0."""
    with tf.init_scope():  # eager, also when a schedule is constructed inside a graph
        return float(schedule(tf.constant(0, tf.int64)))


class _Composed(_Configured):
    """A schedule made of schedules: they are serialised with it."""

    def get_config(self):
        """Configuration, inner schedules included."""
        return {
            name: keras.saving.serialize_keras_object(value)
            if name in ("schedule", "schedules")
            else value
            for name, value in super().get_config().items()
        }

    @classmethod
    def from_config(cls, config):
        """The schedule from its configuration."""
        inner = {
            name: keras.saving.deserialize_keras_object(config[name])
            for name in ("schedule", "schedules")
            if name in config
        }
        return cls(**{**config, **inner})


@_serializable
class Warmup(_Composed):
    """A rise to ``schedule``'s first rate during ``steps``, then ``schedule``, shifted.

    ``start`` is the rate at step 0, at most the schedule's first one. ``shape`` of the rise g(u):
    ``"linear"`` u, ``"polynomial"`` u ** ``power``, ``"sine"`` sin(pi u / 2), ``"exponential"``
    geometric (``start`` > 0). As in Keras's ``CosineDecay(warmup_target=...)`` the warmup comes
    before the schedule's own steps, which are shifted, not cut. Notebook 06.
    """

    def __init__(self, schedule, steps, shape="linear", start=0.0, power=2.0):
        self.schedule = _schedule("schedule", schedule)
        self.steps = _checks.count("steps", steps)
        self.shape = _checks.choice("shape", shape, ("linear", "polynomial", "sine", "exponential"))
        self.start = _checks.number("start", start, low=0)
        if shape == "exponential" and self.start == 0:
            _checks.fail("start", start, 'must be > 0 with shape="exponential"')
        self.power = _checks.positive("power", power)
        first = _first(schedule)
        if self.start > first * (1 + 1e-6):
            _checks.fail("start", start, f"must be <= the schedule's first rate {first:g}")

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        target = ops.cast(self.schedule(ops.zeros_like(step)), "float32")
        u = ops.clip(step / self.steps, 0.0, 1.0)
        if self.shape == "exponential":
            rise = self.start * ops.power(target / self.start, u)
        else:
            if self.shape == "polynomial":
                u = ops.power(u, self.power)
            elif self.shape == "sine":
                u = ops.sin(0.5 * math.pi * u)
            rise = self.start + (target - self.start) * u
        # Both branches are evaluated: the unused one must stay finite, so its step is clamped.
        main = self.schedule(ops.maximum(step - self.steps, 0.0))
        return ops.where(step < self.steps, rise, ops.cast(main, "float32"))


@_serializable
class Sequential(_Composed):
    """``schedules`` one after the other; each restarts its own step count at its boundary.

    ``boundaries`` (increasing steps, one fewer than schedules): schedule i + 1 acts from
    ``boundaries[i]`` on, as in optax's ``join_schedules``. Notebook 06.
    """

    def __init__(self, schedules, boundaries):
        for argument, value in (("schedules", schedules), ("boundaries", boundaries)):
            if isinstance(value, str) or not isinstance(value, Iterable):
                _checks.fail(argument, value, "must be a list")
        self.schedules = [_schedule("schedules", schedule) for schedule in schedules]
        self.boundaries = [_checks.count("boundaries", boundary) for boundary in boundaries]
        if not self.schedules:
            _checks.fail("schedules", schedules, "must hold at least one schedule")
        if self.boundaries != sorted(set(self.boundaries)):
            _checks.fail("boundaries", boundaries, "must increase")
        if len(self.boundaries) != len(self.schedules) - 1:
            _checks.fail("boundaries", boundaries, f"must be {len(self.schedules) - 1} steps")

    def __call__(self, step):
        """The rate at ``step``."""
        step = _step(step)
        rate = ops.cast(self.schedules[0](step), "float32")
        # Every piece is evaluated at every step: clamped, so that none sees a negative step.
        for boundary, schedule in zip(self.boundaries, self.schedules[1:], strict=True):
            later = ops.cast(schedule(ops.maximum(step - boundary, 0.0)), "float32")
            rate = ops.where(step < boundary, rate, later)
        return rate


# -------------------------------------------------------------------------------- evaluation


def values(schedule, steps: int, *, exact: bool = False, dtype: str = "float32") -> np.ndarray:
    """The rates of steps 0 .. ``steps`` - 1 as ``dtype`` [steps], for a Keras schedule or a number.

    The schedules that ``build`` makes are called once, with the vector of all steps, and checked
    against single calls at a few of them. The processor's vector instructions for powers and
    cosines differ from the scalar ones in the last bits; ``exact``, and any schedule that refuses
    vectors or is not known here, takes a compiled loop over the steps instead, whose bits are
    those that ``fit`` sees (without XLA), at 5 to 20 times the time.
    """
    steps = _checks.count("steps", steps)
    if isinstance(schedule, numbers.Real):
        return np.full(steps, _checks.number("schedule", schedule, low=0), dtype)
    if not isinstance(schedule, Schedule):
        _checks.fail("schedule", schedule, "must be a number or a Keras LearningRateSchedule")
    if not exact and _vectorises(schedule):
        table = np.asarray(ops.cast(schedule(tf.range(steps, dtype=tf.int64)), dtype))
        probes = sorted({0, steps // 2, steps - 1})
        single = [float(schedule(tf.constant(i, tf.int64))) for i in probes]
        # Relative to the largest rate: a decay to zero ends in the rounding of its cosine.
        if np.allclose(table[probes], single, rtol=1e-5, atol=1e-6 * float(table.max())):
            return table

    @tf.function(autograph=False)
    def loop():
        return tf.map_fn(
            lambda step: tf.cast(schedule(step), dtype),
            tf.range(steps, dtype=tf.int64),
            fn_output_signature=tf.as_dtype(dtype),
        )

    # A concrete function: TensorFlow warns when many different functions are called like this.
    return loop.get_concrete_function()().numpy()


def _vectorises(schedule) -> bool:
    """Whether a call on a vector of steps gives the rates that ``fit`` applies, up to rounding.

    Not known of a user's class, and false for what rounds ``step / constant`` down: in a graph,
    as in ``fit``, such a schedule may jump one step later than in eager mode.
    """
    if isinstance(schedule, _Composed):
        inner = schedule.schedules if isinstance(schedule, Sequential) else [schedule.schedule]
        return all(map(_vectorises, inner))
    plain = (keras_schedules.PiecewiseConstantDecay, keras_schedules.PolynomialDecay)
    stairs = (keras_schedules.ExponentialDecay, keras_schedules.InverseTimeDecay)
    return (
        (type(schedule) in plain and not getattr(schedule, "cycle", False))
        or (type(schedule) in stairs and not schedule.staircase)
        or (type(schedule) is keras_schedules.CosineDecay and schedule.warmup_target is None)
        or (isinstance(schedule, _Configured) and type(schedule).__module__ == __name__)
    )


# -------------------------------------------------------------------------------- the horizon


def horizon(
    x,
    batch_size: int | None = None,
    epochs: int = 1,
    *,
    validation_split: float = 0.0,
    steps_per_epoch: int | None = None,
) -> int:
    """How often ``model.fit`` asks the schedule: the ``steps`` of ``build``, for these arguments.

    The arguments are those of ``fit``, with ``fit``'s defaults. ``x``: training inputs as ``fit``
    takes them (an array, a table, a tensor, or lists, tuples and dicts of them), the number of
    their rows, a ``tf.data.Dataset``, a ``keras.utils.PyDataset``, or a generator, which needs
    ``steps_per_epoch``. Data sets come in batches of their own: ``batch_size`` says nothing
    about them, here as in ``fit``. Leave ``validation_split`` out where ``fit`` gets
    ``validation_data``, which overrules it.

    >>> horizon(63, batch_size=32, epochs=10)  # fit trains on the last, incomplete batch too
    20
    >>> horizon(63, batch_size=32, epochs=10, validation_split=0.5)  # on 31 of the rows
    10

    What is counted are *batches*, as the optimizer's own counter does that schedules read. Under
    ``gradient_accumulation_steps=k`` that is k times the number of updates, and still the right
    horizon. Under ``mixed_float16`` a step whose gradients overflow is not counted, and training
    ends a little before the horizon, as it does when it is stopped early. A run that is resumed
    with ``initial_epoch`` goes on counting: give the epochs of the whole run.

    With ``steps_per_epoch`` below the number of batches each epoch goes on where the last one
    stopped, and is cut short at the end of the data, as in ``fit``. (If the model was compiled
    with ``steps_per_execution``, give a multiple of it.) Data of unknown length are trusted to
    last. The many-run trainer of this package drops an incomplete batch and counts for itself.

    ``ValueError`` for what is no data and for sizes that cannot be trained on, and without
    ``steps_per_epoch`` for data of unknown length. With a ``tf.data.Dataset`` of unknown
    cardinality (after ``filter``, for one) ``fit`` in a graph counts one step more than there are
    batches in every epoch: give the data set its length, with ``assert_cardinality``.
    """
    epochs = _checks.count("epochs", epochs)
    if steps_per_epoch is not None:
        steps_per_epoch = _checks.count("steps_per_epoch", steps_per_epoch)
    if _checks.number("validation_split", validation_split, low=0) >= 1:
        _checks.fail("validation_split", validation_split, "must be a share of the rows, in [0, 1)")
    rows = _rows(x)
    if rows is None and validation_split:
        _checks.fail(
            "validation_split", validation_split, "must be 0 unless x is arrays, as in fit"
        )
    if rows is None:
        batches = _batches(x, steps_per_epoch)
    else:
        # Keras's own rounding, in the precision in which it is asked.
        trained = math.floor(rows * (1.0 - validation_split)) if validation_split else rows
        if trained == 0 or (validation_split and trained == rows):
            _checks.fail(
                "validation_split", validation_split, f"must leave some of {rows} rows on each side"
            )
        if batch_size is None:  # Keras's own defaults
            batch_size = math.ceil(trained / steps_per_epoch) if steps_per_epoch else 32
        batches = math.ceil(trained / _checks.count("batch_size", batch_size))
    if steps_per_epoch is None:
        return epochs * batches
    if batches is None:
        return epochs * steps_per_epoch
    # One pass over the data takes several epochs, and the last of them may be short.
    passes, rest = divmod(epochs, math.ceil(batches / steps_per_epoch))
    return passes * batches + min(rest * steps_per_epoch, batches)


def _rows(x) -> int | None:
    """Rows of ``x`` if it is a number of rows or arrays, else None."""
    if isinstance(x, numbers.Real):
        return _checks.count("x", x)
    rows = set()
    for leaf in keras.tree.flatten(x):
        if leaf is not None:
            try:
                rows.add(int(leaf.shape[0]))
            except (AttributeError, TypeError, IndexError):  # no array, or a scalar
                return None
    if len(rows) > 1:
        _checks.fail("x", f"arrays of {sorted(rows)} rows", "must all have the same number of rows")
    if 0 in rows:
        _checks.fail("x", "arrays of 0 rows", "must have at least one row")
    return rows.pop() if rows else None


def _batches(x, steps_per_epoch: int | None) -> int | None:
    """Batches in one pass over the data set ``x``; None if they do not end, or are not known."""
    batches, why = None, "does not end"
    if isinstance(x, keras.utils.PyDataset):
        try:
            batches = x.num_batches
        except NotImplementedError:
            _checks.fail(
                "x", type(x).__name__, "must define __len__ or num_batches, as fit needs it"
            )
    elif isinstance(x, types.GeneratorType):
        why = "does not tell how many batches it has"
    elif hasattr(x, "element_spec") and hasattr(x, "cardinality"):  # tf.data
        batches = int(x.cardinality() if callable(x.cardinality) else x.cardinality)
        if batches == -2:
            why = (
                "does not tell how many batches it has (or tell it: "
                "dataset.apply(tf.data.experimental.assert_cardinality(batches)))"
            )
        batches = None if batches < 0 else batches  # -1: infinite, -2: unknown
    else:
        _checks.fail(
            "x",
            x if x is None or isinstance(x, str) else f"a {type(x).__name__}",
            "must be arrays, a number of rows, a tf.data.Dataset, a PyDataset or a generator",
        )
    if batches is not None:
        return _checks.count("number of batches in x", batches)
    if steps_per_epoch is None:
        _checks.fail("steps_per_epoch", None, f"must be given with a {type(x).__name__} that {why}")
    return None


# ------------------------------------------------------------------------------ the catalogue

_catalogue: dict[str, Callable[..., Schedule]] = {}


def register(name: str, *, overwrite: bool = False):
    """Decorator: add ``function(peak, steps, **knobs) -> LearningRateSchedule`` as ``name``.

    It then appears in ``names()``, the grids, the benchmark and the plots, with ``warmup=`` like
    every other. Knobs need defaults. The first line of its docstring is its description.
    ``ValueError`` if the name is taken, unless ``overwrite``.
    """
    if not isinstance(name, str) or not name:
        _checks.fail("name", name, "must be a non-empty text")
    if name in _catalogue and not overwrite:
        _checks.fail("name", name, "is taken; choose another, or pass overwrite=True")

    def add(function):
        _catalogue[name] = function
        return function

    return add


def unregister(name: str) -> None:
    """Undo ``register``: take a user's ``name`` out, or give an overwritten one back its own."""
    function = _catalogue[_checks.choice("name", name, _catalogue)]
    if name not in _own:
        del _catalogue[name]
    elif function is _own[name]:
        _checks.fail("name", name, "belongs to the catalogue and was not registered by you")
    else:
        _catalogue[name] = _own[name]


def names() -> list[str]:
    """The catalogue's names: from constant to rex, then those that were registered."""
    return list(_catalogue)


def describe(name: str) -> str:
    """One line about the schedule: its formula and source."""
    function = _catalogue[_checks.choice("name", name, _catalogue)]
    return (inspect.getdoc(function) or name).splitlines()[0]


def build(name: str, peak: float, steps: int, *, warmup: float = 0.0, **knobs) -> Schedule:
    """The schedule ``name`` with largest rate ``peak`` over the horizon of ``steps`` steps.

    ``steps`` counts optimizer steps 0 .. ``steps`` - 1, one for each batch that ``fit`` trains on,
    also under gradient accumulation: take it from :func:`horizon`, which counts as ``fit`` does.
    A decay reaches its end, zero for most, at step ``steps``, one after the last: no step is
    wasted on a rate of 0. ``peak`` is applied at some step, except by ``exp_range``, whose first
    apex is already shrunk a little.

    >>> rate = build("linear", peak=0.1, steps=horizon(63, batch_size=32, epochs=2))
    >>> [round(float(rate(step)), 3) for step in range(5)]
    [0.1, 0.075, 0.05, 0.025, 0.0]

    ``warmup``: share of the horizon, [0, 1), that rises linearly first, *inside* the horizon:
    with W = round(warmup * steps), step 0 has rate peak / (W + 1), and the schedule itself takes
    steps W .. ``steps``. (The warmup of a triangular cycle ends at the cycle's low: the first
    rate takes the place of the peak.) ``one_cycle`` rises by itself: there ``warmup`` is another
    word for its knob ``rise``.

    ``knobs`` are the keyword arguments of the registered function. ``end`` is always the share
    of the peak left at the horizon, ``low`` the share of the peak between cycles, ``cycles`` how
    many of them. ``ValueError`` names a knob that ``name`` does not take and those it takes.
    """
    function = _catalogue[_checks.choice("name", name, _catalogue)]
    peak, steps = _checks.positive("peak", peak), _checks.count("steps", steps)
    warmup = _share("warmup", warmup)
    parameters = list(inspect.signature(function).parameters.values())[2:]
    known = [p.name for p in parameters]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        for knob in knobs:
            if knob not in known:
                allowed = ", ".join(known) or "no knobs"
                _checks.fail("knob", knob, f"schedule {name!r} takes {allowed}")
    if function is _one_cycle and warmup:
        if "rise" in knobs:
            _checks.fail("warmup", warmup, "is one_cycle's rise; give one of the two")
        return function(peak, steps, rise=warmup, **knobs)
    rise = round(warmup * steps)
    if rise >= steps:
        _checks.fail("warmup", warmup, f"must leave at least one of {steps} steps")
    schedule = _schedule(f"schedule {name!r}", function(peak, steps - rise, **knobs))
    return Warmup(schedule, rise, start=_first(schedule) / (rise + 1)) if rise else schedule


def _fraction(argument: str, value) -> float:
    """``value`` as a share of the peak, [0, 1]."""
    return _checks.number(argument, value, low=0, high=1)


@register("constant")
def _constant(peak, steps):
    """peak: the same rate at every step (the baseline of every comparison)."""
    return keras_schedules.PolynomialDecay(peak, steps, end_learning_rate=peak)


@register("step")
def _step_decay(peak, steps, drops=4, factor=0.5):
    """peak * factor ** floor((drops + 1) t / T): equally spaced drops (after He et al. 2016)."""
    drops = _checks.count("drops", drops)
    factor = _checks.number("factor", factor, low=0, high=1, open_low=True)
    if drops >= steps:
        _checks.fail("drops", drops, f"must be < steps = {steps}")
    starts = [math.ceil(steps * k / (drops + 1)) for k in range(1, drops + 1)]
    # Keras changes the rate one step after the boundary: start - 1 drops at start.
    return keras_schedules.PiecewiseConstantDecay(
        [start - 1 for start in starts], [peak * factor**k for k in range(drops + 1)]
    )


@register("exponential")
def _exponential(peak, steps, end=0.01):
    """peak * end ** (t / T) (common practice; its staircase: Ge et al. 2019)."""
    end = _checks.number("end", end, low=0, high=1, open_low=True)
    return keras_schedules.ExponentialDecay(peak, steps, end)


@register("inverse_time")
def _inverse_time(peak, steps, end=0.01):
    """peak / (1 + (1 / end - 1) t / T) (after Robbins & Monro 1951)."""
    end = _checks.number("end", end, low=0, high=1, open_low=True)
    return keras_schedules.InverseTimeDecay(peak, steps, 1 / end - 1)


@register("inverse_sqrt")
def _inverse_sqrt(peak, steps, timescale=0.05):
    """peak / sqrt(1 + t / (timescale T)) (Vaswani et al. 2017, without their warmup)."""
    return InverseSquareRoot(peak, _checks.positive("timescale", timescale) * steps)


@register("polynomial")
def _polynomial(peak, steps, power=2.0, end=0.0):
    """peak * (end + (1 - end) (1 - t / T) ** power) (Chen et al. 2017: power 0.9).

    Stop at the horizon: with a fractional power and ``jit_compile=True`` Keras's schedule may be
    NaN from step T on, where 1 - t / T comes out just below 0.
    """
    return keras_schedules.PolynomialDecay(
        peak, steps, peak * _fraction("end", end), _checks.positive("power", power)
    )


@register("linear")
def _linear(peak, steps, end=0.0):
    """peak * (end + (1 - end) (1 - t / T)) (Defazio et al. 2023: optimal in the worst case)."""
    return keras_schedules.PolynomialDecay(peak, steps, peak * _fraction("end", end), 1.0)


@register("cosine")
def _cosine(peak, steps, end=0.0):
    """peak * (end + (1 - end) (1 + cos(pi t / T)) / 2) (Loshchilov & Hutter 2017)."""
    return keras_schedules.CosineDecay(peak, steps, alpha=_fraction("end", end))


@register("sigmoid")
def _sigmoid(peak, steps, end=0.0, steepness=10.0, middle=0.5):
    """1 / (1 + exp(steepness (t / T - middle))), from peak to end (after Nakamura et al. 2021)."""
    return Sigmoid(peak, steps, peak * _fraction("end", end), steepness, middle)


@register("wsd")
def _wsd(peak, steps, cooldown=0.2, shape="linear", end=0.0):
    """peak, then a fall to end over the last share ``cooldown`` of T (Hägele et al. 2024)."""
    return WarmupStableDecay(peak, steps, cooldown, 0.0, shape, peak * _fraction("end", end))


@register("power")
def _power(peak, steps, exponent=0.51, hold=0.1, cooldown=0.2, shape="linear"):
    """min(peak, peak (t / (hold T)) ** -exponent), then down to 0 (after Shen et al. 2024)."""
    hold = _checks.number("hold", hold, low=0, high=1, open_low=True)
    return Power(peak, steps, hold * steps, exponent, cooldown, shape)


def _period(steps, cycles) -> int:
    """The smallest even period of which ``cycles`` fill the horizon: even, so the apex is hit."""
    cycles = _checks.count("cycles", cycles)
    if 2 * cycles > steps:
        _checks.fail("cycles", cycles, f"must be <= steps / 2 = {steps // 2}")
    return 2 * math.ceil(steps / (2 * cycles))


@register("triangular")
def _triangular(peak, steps, cycles=3, low=0.1):
    """low + (1 - low) (1 - |2 u - 1|), times peak; u: place in the cycle, 0 to 1 (Smith 2017)."""
    return Cyclical(_fraction("low", low) * peak, peak, _period(steps, cycles))


@register("triangular2")
def _triangular2(peak, steps, cycles=3, low=0.1):
    """Triangles from low to peak whose height is halved after each cycle (Smith 2017)."""
    return Cyclical(_fraction("low", low) * peak, peak, _period(steps, cycles), amplitude="halved")


@register("exp_range")
def _exp_range(peak, steps, cycles=3, low=0.1, end=0.1):
    """Triangles from low to peak whose height shrinks as end ** (t / T) (Smith 2017)."""
    end = _checks.number("end", end, low=0, high=1, open_low=True)
    return Cyclical(
        _fraction("low", low) * peak,
        peak,
        _period(steps, cycles),
        amplitude="exp_range",
        gamma=end ** (1 / steps),
    )


@register("cosine_restarts")
def _cosine_restarts(peak, steps, cycles=3, end=0.0, growth=1.0):
    """The cosine decay ``cycles`` times over, each ``growth`` times longer (SGDR, L&H 2017)."""
    cycles, end = _checks.count("cycles", cycles), _fraction("end", end)
    growth = _checks.number("growth", growth, low=1)
    lengths = np.cumsum(growth ** np.arange(cycles))
    starts = [0, *(round(steps * float(x / lengths[-1])) for x in lengths)]
    decays = [stop - start for start, stop in itertools.pairwise(starts)]
    if min(decays) < 1:
        _checks.fail("cycles", cycles, f"must leave a step to each cycle of {steps} steps")
    # Not CosineDecayRestarts, which restarts a step late at some periods (see _floor_divide),
    # and which cannot end a last, shorter cycle at the horizon.
    return Sequential(
        [keras_schedules.CosineDecay(peak, length, alpha=end) for length in decays], starts[1:-1]
    )


@register("one_cycle")
def _one_cycle(
    peak, steps, rise=0.3, shape="cosine", start_divisor=25.0, final_divisor=1e4, tail=0.0
):
    """From peak / start_divisor up to peak at rise T, then almost to 0 (Smith & Topin 2018)."""
    return OneCycle(peak, steps, _share("rise", rise), shape, start_divisor, final_divisor, tail)


@register("rex")
def _rex(peak, steps):
    """peak * (1 - t / T) / (1 - t / (2 T)) (Chen, Wolfe & Kyrillidis 2021)."""
    return Rex(peak, steps)


_own = dict(_catalogue)
