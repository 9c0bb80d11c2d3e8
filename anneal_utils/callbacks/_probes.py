"""How a step that is compiled tells of its updates: what ``RateRecorder`` looks through.

TensorFlow's step writes into variables, whose kind has replicas; that of JAX calls back, in order;
PyTorch computes at once.
"""

import contextlib
import functools

from anneal_utils import _backend, _checks, _internals
from anneal_utils._backend import tf
from anneal_utils.callbacks import _optimizers

import keras
import numpy as np


def of(model):
    """The probe for this backend; ``ValueError`` for replicas that it can not observe."""
    if tf is None:
        return Told(model)
    # Their replicas are elsewhere, or their variables are: not tried, so not promised.
    remote = (
        tf.distribute.experimental.CentralStorageStrategy,
        tf.distribute.MultiWorkerMirroredStrategy,
        tf.distribute.ParameterServerStrategy,
        tf.distribute.TPUStrategy,
    )
    if isinstance(model.distribute_strategy, remote):
        _checks.fail(
            "tf.distribute strategy",
            type(model.distribute_strategy).__name__,
            "must be MirroredStrategy, OneDeviceStrategy or none for RateRecorder",
        )
    return Written(model)


class _Probe:
    """Watches every update of an optimizer in a step; ``used``: there was one."""

    def __init__(self, model):
        self.model, self.used, self._inside, self._before = model, False, 0, {}

    def _watching(self, optimizer) -> dict:
        """Methods that stand for the optimizer's while the step works."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _hooked(self, optimizer):
        """Every update of ``optimizer`` in the block is written down.

        The replicas of a strategy are traced by turns, so this may be nested.
        """
        own = vars(optimizer)
        if not self._inside:
            new = self._watching(optimizer)
            self._before = {name: own.get(name) for name in new}
            own.update(new)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                for name, before in self._before.items():
                    del own[name]
                    if before is not None:
                        own[name] = before


class Written(_Probe):
    """Variables into which the step traced by TensorFlow writes, a place for each batch of a call.

    They are read and written as a whole: under a strategy each replica has its own, of which the
    first one's is read, and variables of that kind know no other way.
    """

    def __init__(self, model):
        super().__init__(model)
        self._places = np.arange(max(1, int(model.steps_per_execution)))
        options = dict(
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        with model.distribute_strategy.scope():
            self._batches = tf.Variable(0, dtype=tf.int64, **options)
            # float64 holds a rate of any of Keras's types as it is
            self._rates = tf.Variable(np.zeros(len(self._places)), dtype=tf.float64, **options)
            self._updates = tf.Variable(np.zeros(len(self._places)), dtype=tf.int64, **options)

    def clear(self):
        """Begin a call."""
        self._batches.assign(0)

    def read(self) -> tuple[list[float], list[int]]:
        """Rates and numbers of updates of the batches of this call."""
        batches = int(self._batches.read_value())
        return (
            self._rates.read_value().numpy()[:batches].tolist(),
            self._updates.read_value().numpy()[:batches].tolist(),
        )

    def around(self, step):
        """``step`` with the observation: while it is traced, or at each call when run eagerly."""

        @functools.wraps(step)
        def observed(data):
            optimizer = _optimizers.innermost(self.model)
            here = self._places == self._batches.read_value()
            self._write(self._rates, here, self._float(optimizer.learning_rate))
            self._write(self._updates, here, 0)
            with self._hooked(optimizer):
                outputs = step(data)
            self._batches.assign_add(1)
            return outputs

        return observed

    def _watching(self, optimizer):
        update = getattr(optimizer, _internals.UPDATE)

        def recorded(grads, variables, learning_rate):
            self.used = True
            here = self._places == self._batches.read_value()
            self._write(self._rates, here, self._float(learning_rate))
            self._write(self._updates, here, self._updates.read_value() + 1)
            return update(grads, variables, learning_rate)

        return {_internals.UPDATE: recorded}

    @staticmethod
    def _write(variable, here, value):
        old = variable.read_value()
        variable.assign(tf.where(here, tf.cast(value, old.dtype), old))

    @staticmethod
    def _float(rate):
        return tf.cast(keras.ops.convert_to_tensor(rate), tf.float64)


class Told(_Probe):
    """What the step tells while it runs, under JAX and PyTorch: (rate or None, updates)."""

    def __init__(self, model):
        super().__init__(model)
        self._events: list[tuple[float | None, int]] = []
        self._rate = float("nan")
        if keras.distribution.distribution() is not None:
            _checks.fail(
                "keras.distribution",
                type(keras.distribution.distribution()).__name__,
                "must be none for RateRecorder: only the step of one device tells of its updates",
            )

    def clear(self):
        """Begin a call."""
        self._wait()
        self._events.clear()
        self._rate = float(_optimizers.innermost(self.model).learning_rate)

    def read(self) -> tuple[list[float], list[int]]:
        """Rates and numbers of updates of the batches of this call."""
        self._wait()
        rates, updates = [], []
        for rate, moved in self._events:
            if rate is None:  # a batch begins
                rates.append(rates[-1] if rates else self._rate)
                updates.append(0)
            else:
                rates[-1] = rate
                updates[-1] += moved
        return rates, updates

    def around(self, step):
        """``step`` with the observation: while it is traced, or at each call."""

        @functools.wraps(step)
        def observed(*args):
            self._tell(None, 0)
            with self._hooked(_optimizers.innermost(self.model)):
                return step(*args)

        return observed

    def _watching(self, optimizer):
        update, apply = getattr(optimizer, _internals.UPDATE), optimizer.apply

        def recorded(grads, variables, learning_rate):
            self.used, moved = True, 1
            if _backend.NAME == "jax" and (every := optimizer.gradient_accumulation_steps):
                # JAX computes an update for each batch and throws away those between.
                moved = (_internals.counter(optimizer) + 1) % every == 0
            self._tell(learning_rate, moved)
            return update(grads, variables, learning_rate)

        def applied(*args, **kwargs):  # a rate also where gradients are accumulated
            self.used |= bool(optimizer.gradient_accumulation_steps)
            self._tell(optimizer.learning_rate, 0)
            return apply(*args, **kwargs)

        return {_internals.UPDATE: recorded, "apply": applied}

    def _tell(self, rate, moved):
        if _backend.NAME != "jax":
            self._events.append((None if rate is None else float(rate), int(moved)))
            return
        import jax

        if rate is None:
            jax.debug.callback(lambda: self._events.append((None, 0)), ordered=True)
            return

        def tell(rate, moved):
            self._events.append((float(rate), int(moved)))

        tensors = keras.ops.convert_to_tensor(rate), keras.ops.convert_to_tensor(moved)
        jax.debug.callback(tell, *tensors, ordered=True)

    @staticmethod
    def _wait():
        if _backend.NAME == "jax":
            import jax

            jax.effects_barrier()
