"""What all optimizers around another optimizer share."""

import contextlib
import functools

from anneal_utils import _checks, _internals

import keras

_ABSENT = object()


def chain(optimizer) -> list:
    """The optimizer and what it wraps, outermost first."""
    links = [optimizer]
    while (inner := getattr(links[-1], "inner_optimizer", None)) is not None:
        links.append(inner)
    return links


def unwrap(optimizer):
    """The innermost optimizer: the one that has the rate, the step count and the slots."""
    return chain(optimizer)[-1]


def _passed_on(name: str) -> property:
    """An attribute that is the inner optimizer's."""

    def read(self):
        return getattr(self.inner_optimizer, name)

    def write(self, value):
        # Keras's constructor writes defaults before there is an inner optimizer.
        if "inner_optimizer" in vars(self):
            setattr(self.inner_optimizer, name, value)

    return property(read, write)


class Wrapper(keras.optimizers.Optimizer):
    """An optimizer around another one, of which it exchanges attributes while that one works."""

    # Keras, its callbacks and the many-run trainer read these of a model's optimizer. The private
    # ones have no public way: a schedule's counter, the rate's source, the averages of EMA.
    _iterations = _passed_on("_iterations")
    _learning_rate = _passed_on("_learning_rate")
    _trainable_variables = _passed_on("_trainable_variables")
    _trainable_variables_indices = _passed_on("_trainable_variables_indices")
    _model_variables_moving_average = _passed_on("_model_variables_moving_average")
    weight_decay = _passed_on("weight_decay")
    clipnorm = _passed_on("clipnorm")
    clipvalue = _passed_on("clipvalue")
    global_clipnorm = _passed_on("global_clipnorm")
    use_ema = _passed_on("use_ema")
    ema_momentum = _passed_on("ema_momentum")
    ema_overwrite_frequency = _passed_on("ema_overwrite_frequency")
    loss_scale_factor = _passed_on("loss_scale_factor")
    gradient_accumulation_steps = _passed_on("gradient_accumulation_steps")

    def __init__(self, inner_optimizer, name=None):
        """``ValueError`` for an optimizer that can not be wrapped."""
        _check_inner(inner_optimizer)
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer
        self._inside, self._before = 0, {}

    def __getattr__(self, name):
        """What only the inner optimizer has, such as ``momentum`` or ``to_average``."""
        if name.startswith("_") or "inner_optimizer" not in vars(self):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.inner_optimizer, name)

    def __setattr__(self, name, value):
        """What is the inner optimizer's is set there, as it is read there."""
        inner = vars(self).get("inner_optimizer")
        own = name.startswith("_") or name in vars(self) or hasattr(type(self), name)
        if inner is not None and name in self.scheduled():
            _checks.fail(name, value, "must be left to its schedule")
        if inner is None or own or not hasattr(inner, name):
            super().__setattr__(name, value)
        else:
            setattr(inner, name, value)

    def scheduled(self) -> set[str]:
        """Names of all hyperparameters that follow a schedule, here or in a wrapper inside."""
        return {name for link in chain(self) for name in getattr(link, "schedules", {})}

    def _changes(self) -> dict:
        """New values of the innermost optimizer's attributes, for the step that comes."""
        raise NotImplementedError

    def _check_applied(self) -> None:
        """``ValueError`` where the step that was just done shows a mistake."""

    @contextlib.contextmanager
    def _changed(self):
        """The innermost optimizer with its attributes exchanged.

        Under a distribution strategy every replica comes here, one at a time and all before any
        leaves: the first one changes the optimizer, the last one changes it back.
        """
        root = unwrap(self)
        if not self._inside:
            new = self._changes()
            if hasattr(root, _internals.PARALLEL):
                new[_internals.PARALLEL] = functools.partial(_one_by_one, root)
            self._before = {name: vars(root).get(name, _ABSENT) for name in new}
            for name, value in new.items():
                setattr(root, name, value)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                for name, value in self._before.items():
                    if value is _ABSENT:
                        delattr(root, name)
                    else:
                        setattr(root, name, value)
                self._before = {}

    def build(self, variables):
        """Create the slots."""
        if self.built:
            return
        self.inner_optimizer.build(variables)
        self.built = True

    def apply(self, grads, trainable_variables=None):
        """Apply gradients, one tensor per variable, as the inner optimizer does."""
        if not self.built and trainable_variables is not None:
            self.build(list(trainable_variables))
        with self._changed():
            self.inner_optimizer.apply(grads, trainable_variables)
            if len(grads):
                self._check_applied()

    @property
    def variables(self):
        """The inner optimizer's variables: a wrapper keeps no state."""
        return self.inner_optimizer.variables

    @property
    def iterations(self):
        """Updates done."""
        return self.inner_optimizer.iterations

    @property
    def learning_rate(self):
        """The rate of the inner optimizer, a number or what its schedule says now."""
        return self.inner_optimizer.learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate):
        self.inner_optimizer.learning_rate = learning_rate

    def scale_loss(self, loss):
        """The loss that Keras differentiates."""
        return self.inner_optimizer.scale_loss(loss)

    def finalize_variable_values(self, var_list):
        """Put averages in the place of the weights, where the inner optimizer keeps some."""
        self.inner_optimizer.finalize_variable_values(var_list)

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        """As for the inner optimizer."""
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def set_weights(self, weights):
        """Set the inner optimizer's variables."""
        self.inner_optimizer.set_weights(weights)

    def get_config(self):
        """Configuration for saving."""
        inner = keras.saving.serialize_keras_object(self.inner_optimizer)
        return {"name": self.name, "inner_optimizer": inner}


def _one_by_one(optimizer, gradients, variables, learning_rate):
    """Keras's update of a variable, which the wrappers exchange, for each of them."""
    for gradient, variable in zip(gradients, variables, strict=True):
        optimizer.update_step(gradient, variable, learning_rate)


def _check_inner(optimizer) -> None:
    """``ValueError`` for what can not be wrapped."""
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        _checks.fail("inner_optimizer", optimizer, "must be a keras.optimizers.Optimizer")
    name, root = type(optimizer).__name__, unwrap(optimizer)
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        _checks.fail(
            "inner_optimizer",
            name,
            "goes outside, LossScaleOptimizer(wrapper(optimizer)): under the mixed_float16 policy "
            "compile would put a second one around the wrapper",
        )
    if isinstance(root, keras.optimizers.MultiOptimizer):
        _checks.fail(
            "inner_optimizer",
            name,
            "has optimizers with rates and counters of their own: wrap each of those",
        )
    if optimizer.built:
        _checks.fail(
            "inner_optimizer", name, "is built: wrap an optimizer before it gets its variables"
        )
