"""What the package reads of Keras's and TensorFlow's insides: all of it is in this file.

A function for each private thing, with what it is and why no public way leads to it;
``tests/test_internals.py`` asks all of them of the installed versions. TensorFlow is imported
where it is asked, so what is Keras's alone works with any of its backends.

An optimizer of this package overrides and calls the protected methods of the class that it
inherits from: that is what they are for, and they are not listed here.
"""

import functools

import keras
from keras.src.backend.common import global_state
from keras.src.random.seed_generator import GLOBAL_SEED_GENERATOR

# ---------------------------------------------------------------------------------------- Keras

# The modules of Keras that only compute: they read no file, and nothing that was set elsewhere,
# but for Keras's settings. Its public functions and classes tell these as their modules.
COMPUTING = (
    *("keras.src.activations", "keras.src.constraints", "keras.src.dtype_policies"),
    *("keras.src.initializers", "keras.src.losses", "keras.src.metrics", "keras.src.ops"),
    *("keras.src.optimizers", "keras.src.regularizers"),
)

# Names of an optimizer's methods, by which one from outside is put in their place on the object.
# Each real update comes to this one: the public ``apply`` also takes gradients that are
# accumulated, and ``update_step`` is called for every weight.
UPDATE = "_backend_update_step"
# What it calls with PyTorch for all variables at once, in the place of ``update_step``.
PARALLEL = "_parallel_update_step"
# Decoupled weight decay of the given variables; it has no public counterpart.
DECAY = "_apply_weight_decay"
# The rate as decay and some updates read it: the public ``learning_rate`` is a property of the
# class, which no object can have changed.
CURRENT_RATE = "_get_current_learning_rate"


def counter(optimizer) -> keras.Variable:
    """The variable that the optimizer's schedule reads.

    The public ``iterations`` counts updates; under gradient accumulation the rate follows this
    private one, which counts batches.
    """
    return optimizer._iterations


def rate_source(optimizer):
    """A schedule, a variable with a number, or a function, as the optimizer was given it.

    The public ``learning_rate`` is only its value of now.
    """
    return optimizer._learning_rate


def index_of(optimizer, variable) -> int:
    """The place of a variable among those that the optimizer was built for.

    Variables can not be compared with ``==``, and a strategy hands over other objects than those
    that ``build`` was given; the optimizer knows them all, and tells it by no public method.
    """
    return optimizer._get_variable_index(variable)


def work_alone(optimizer) -> None:
    """Have the optimizer leave out the sum of gradients over replicas, of which there is one.

    TensorFlow registers a gradient for it at every trace, which keeps the traced graph, and the
    variables and data that it captured, until the process ends. No setting turns it off.
    """
    optimizer._all_reduce_sum_gradients = list


def layers_of(model, *, include_self: bool = True) -> list:
    """The model, unless ``include_self`` is false, and all its layers, at whatever depth.

    The public ``layers`` has those of the first depth, and not what a layer keeps in itself.
    """
    return list(model._flatten_layers(include_self=include_self))


def metrics_of(model, logs: dict) -> dict:
    """What an epoch of ``fit`` reports, if its last step has reported ``logs``.

    The results of the metrics, or the logs where they have other names. ``fit`` itself calls this
    method, and ``get_metrics_result`` alone gives another answer for a ``train_step`` of one's own.
    """
    return model._get_metrics_result_or_logs(logs)


def value_of(variable: keras.Variable):
    """The backend's own variable (TensorFlow's, with TensorFlow) in a Keras variable.

    The public ``value`` is a tensor of another kind within an autocast scope, and another object
    within a stateless one.
    """
    return variable._value


def interrupted(model) -> bool:
    """Whether a fit under JAX is in the middle of an epoch, with the weights in its own hands.

    At the end it puts them into the model's variables, also after an error. Asking a callback for
    its ``model``, the public way, does so at once, and does not tell whether there was need.
    """
    return not getattr(model, "_jax_state_synced", True)


def forget_fit(model) -> None:
    """Have JAX's fit leave the model's variables as they are, when it ends or goes on."""
    model._jax_state_synced = True


def global_seeds() -> keras.Variable | None:
    """The state of Keras's own generator, from which layers without a seed may draw; or None.

    None while nobody has drawn. The public functions can only set it anew.
    """
    generator = global_state.get_global_attribute(GLOBAL_SEED_GENERATOR)
    return None if generator is None else generator.state


def names_in_scope() -> dict:
    """What ``keras.saving.custom_object_scope`` has put under a name; it tells nobody else."""
    return global_state.get_global_attribute("custom_objects_scope_dict", {})


# ----------------------------------------------------------------------------------- TensorFlow


def operation(name: str):
    """The OpDef of an operation (its arguments, its attributes, ``is_stateful``), None if unknown.

    ``tf.raw_ops`` has the operations as functions, which tell neither types nor state.
    """
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(name)


def lacks_xla_kernel(name: str) -> bool:
    """Whether an operation has a kernel for this processor, and none that XLA could compile.

    Compiling is the only public way to find out. Operations without any kernel are functions.
    """
    _wake_xla()
    devices = _kernels(name)
    return "CPU" in devices and "XLA_CPU_JIT" not in devices


def _kernels(name: str) -> set[str]:
    from tensorflow.python.framework import kernels

    return {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(name).kernel}


@functools.cache
def _wake_xla() -> None:
    """Have TensorFlow register the kernels of XLA, which it does when it first compiles."""
    import tensorflow as tf

    if "XLA_CPU_JIT" not in _kernels("AddV2"):
        tf.function(lambda x: x + 1.0, jit_compile=True)(tf.constant(0.0))


def read_only_inputs(graph) -> set[int]:
    """The places of those inputs of a traced graph that are resources which it only reads.

    TensorFlow finds them for its control dependencies; a graph says it by no public method.
    """
    from tensorflow.python.framework import auto_control_deps_utils

    return set(auto_control_deps_utils.get_read_only_resource_input_indices_graph(graph))


def call_flat(concrete, tensors: list):
    """Call a ``ConcreteFunction`` with flat tensors: its arguments, then what it captured.

    So a call can bring variables of its own in the place of those that were captured; the public
    call always adds the function's own. Nothing is put on a gradient tape.
    """
    return concrete.inference_fn.call_preflattened(tensors)


def is_deterministic() -> bool:
    """Whether ``tf.config.experimental.enable_op_determinism`` was called, which only sets it."""
    from tensorflow.python.framework import config

    return config.is_op_determinism_enabled()


def has_onednn() -> bool:
    """Whether oneDNN's kernels are at work: by build, processor and a variable read at import."""
    from tensorflow.python.util import _pywrap_util_port

    return _pywrap_util_port.IsMklEnabled()
