"""What a run is: digests of data, traced programs, rates and settings, never of names.

Two trainings are the same when they compute the same thing. So the identity of a run is made of
what is computed: the traced program with all its constants, the data, the weights it starts from,
the order of its batches, its rates, and the versions and settings that decide the last bit. Names,
labels and source texts are left out: renaming a variable or adding a comment changes nothing, and
a closure whose value changed can not hide behind its name. ``training.train`` writes the identity
of each run into the column ``run``; the benchmark keeps its results under it.
"""

import functools
import hashlib
import importlib.metadata
import os
import platform
import types
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config, op_def_registry

# --------------------------------------------------------------------------- digests of values


def digest(*values) -> str:
    """SHA-256 of the values, in their order, as 32 hexadecimal digits.

    Takes None, booleans, numbers, text, bytes, NumPy arrays (kind, shape and every bit count),
    TensorFlow tensors, and tuples, lists and dicts of these; ``TypeError`` for anything else.

    >>> digest(1, "a") == digest(1, "a"), digest(1) == digest(1.0), digest("a", "b") == digest("ab")
    (True, False, False)
    """
    state = hashlib.sha256()
    _feed(state.update, values)
    return state.hexdigest()[:32]


def _feed(update, value) -> None:
    """Every value as its kind, its length and its bytes, so that no two read alike."""
    if isinstance(value, tf.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value)
        update(f"array {value.dtype.name} {value.shape};".encode())
        if value.dtype == object:  # a string tensor
            _feed(update, [bytes(item) for item in value.ravel()])
        else:
            update(np.ascontiguousarray(value).tobytes())
    elif value is None or isinstance(value, bool | int):
        update(f"{type(value).__name__} {value};".encode())
    elif isinstance(value, float):
        update(f"float {value.hex()};".encode())
    elif isinstance(value, str):
        _feed_bytes(update, "text", value.encode())
    elif isinstance(value, bytes):
        _feed_bytes(update, "bytes", value)
    elif isinstance(value, tuple | list):
        update(f"list {len(value)};".encode())
        for item in value:
            _feed(update, item)
    elif isinstance(value, Mapping):
        update(f"dict {len(value)};".encode())
        for key in sorted(value):
            _feed(update, key)
            _feed(update, value[key])
    else:
        raise TypeError(f"{type(value).__name__} has no digest: {value!r}")


def _feed_bytes(update, kind: str, content: bytes) -> None:
    update(f"{kind} {len(content)};".encode())
    update(content)


# ------------------------------------------------------------------- digests of traced programs

# Attributes that name something for people, or number it by what the process did before.
_METADATA = {
    *("_class", "_gradient_op_type", "_output_shapes", "_user_specified_name"),
    *("container", "shared_name", "tensor_array_name"),
}

# Operations that TensorFlow calls stateful because they touch variables (whose values the trainer
# sets), call functions, or must not be moved; their result is decided by what goes in.
_INNOCENT = {
    *("While", "If", "Case", "PartitionedCall", "StatefulPartitionedCall", "Assert"),
    *("StatelessRandomGetKeyCounter", "StatelessRandomGetAlg", "StatelessRandomGetKeyCounterAlg"),
    *("RngReadAndSkip", "RngSkip", "XlaSendToHost"),
}


def functions(concrete) -> list:
    """The FunctionDefs of a concrete function: its own, then all it calls, by first mention."""
    library = {f.signature.name: f for f in concrete.graph.as_graph_def().library.function}
    found = {concrete.function_def.signature.name: concrete.function_def}
    for function in _growing(found):
        for node in function.node_def:
            for key in sorted(node.attr):
                for name in _functions_of(node.attr[key]):
                    found.setdefault(name, library[name])
    return list(found.values())


def _growing(found: dict) -> Iterator:
    """The values of a dict that may grow while they are read."""
    position = 0
    while position < len(found):
        yield list(found.values())[position]
        position += 1


def program(concrete) -> str:
    """Digest of a traced ``ConcreteFunction``: its operations and all constants, without names.

    Nodes and functions are called by the order in which they come. What the function captured
    (variables and large tensors) is not part of its text: see ``concrete.captured_inputs``.

    >>> twice, double = tf.function(lambda x: 2 * x), tf.function(lambda number: 2 * number)
    >>> one, two = (f.get_concrete_function(tf.TensorSpec([])) for f in (twice, double))
    >>> program(one) == program(two)
    True
    """
    parts = functions(concrete)
    numbers = {function.signature.name: number for number, function in enumerate(parts)}
    return digest(repr([_text(function, numbers) for function in parts]))


def _text(function, numbers: Mapping[str, int]) -> list:
    """A FunctionDef as plain values, with every name replaced by its place."""
    signature = function.signature
    places = {argument.name: f"a{i}" for i, argument in enumerate(signature.input_arg)}
    places |= {node.name: f"n{i}" for i, node in enumerate(function.node_def)}

    def sources(references) -> list[str]:
        placed = []
        for reference in references:
            name, colon, output = reference.partition(":")
            placed.append("^" + places[name[1:]] if name[0] == "^" else places[name])
            placed[-1] += colon + output
        # Control inputs are a set, which TensorFlow sorts by name.
        return [p for p in placed if p[0] != "^"] + sorted(p for p in placed if p[0] == "^")

    return [
        [argument.type for argument in signature.input_arg],
        [
            [node.op, node.device, sources(node.input), _values(node, numbers)]
            for node in function.node_def
        ],
        sources(function.ret[argument.name] for argument in signature.output_arg),
        sorted(places[name] for name in function.control_ret.values()),
    ]


def _values(node, numbers: Mapping[str, int]) -> list:
    """A node's attributes by name; constants are among them, in full."""
    return [
        (key, [numbers[name] for name in _functions_of(node.attr[key])])
        if _functions_of(node.attr[key])
        else (key, node.attr[key].SerializeToString(deterministic=True))
        for key in sorted(node.attr)
        if key not in _METADATA
    ]


def _functions_of(value) -> list[str]:
    """Names of the functions that an attribute holds."""
    kind = value.WhichOneof("value")
    if kind == "func":
        return [value.func.name]
    return [function.name for function in value.list.func] if kind == "list" else []


def stateful(concrete) -> list[str]:
    """Operations of the traced function that keep, or read, a state which is no variable.

    The names of the operations, sorted: random kernels with a stream of their own, calls of
    Python, files, queues, tables.
    """
    operations = {node.op for function in functions(concrete) for node in function.node_def}
    return sorted(
        operation
        for operation in operations
        if operation not in _INNOCENT
        and "Variable" not in operation
        and not operation.startswith("Resource")
        and (definition := op_def_registry.get(operation)) is not None
        and definition.is_stateful
    )


# ---------------------------------------------------------------- versions, settings, processor

_PREFIXES = (
    *("DNNL_", "NVIDIA_TF32_", "ONEDNN_", "XLA_", "TF_CUDNN_", "TF_DETERMINISTIC_", "TF_DISABLE_"),
    *("TF_ENABLE_", "TF_JIT_", "TF_MLIR_", "TF_OVERRIDE_", "TF_USE_", "TF_XLA_"),
)
# Read now, since TensorFlow too reads them once, when it is imported.
_VARIABLES = {
    name: value for name, value in sorted(os.environ.items()) if name.startswith(_PREFIXES)
}


@functools.cache
def version(package: str) -> str:
    """The installed version of a package, "unknown" where none is."""
    names = [package, "tensorflow-cpu"] if package == "tensorflow" else [package]
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown"


def environment() -> dict:
    """What decides the bits of a program besides its text, as a flat dict of texts.

    Architecture, system, kind of device, versions of TensorFlow and Keras, and the settings of
    TensorFlow that choose other kernels. Not the processor's model: see :func:`processor`.
    """
    threads = tf.config.threading
    settings = {
        "architecture": platform.machine(),
        "system": platform.system(),
        "devices": " ".join(sorted({d.device_type for d in tf.config.list_logical_devices()})),
        "keras": version("keras"),
        "tensorflow": version("tensorflow"),
        "intra-op threads": threads.get_intra_op_parallelism_threads(),
        "inter-op threads": threads.get_inter_op_parallelism_threads(),
        "deterministic": config.is_op_determinism_enabled(),
        "tensor float 32": tf.config.experimental.tensor_float_32_execution_enabled(),
    }
    return {name: str(value) for name, value in settings.items()} | _VARIABLES


@functools.cache
def processor() -> str:
    """The processor's model, to be recorded: results of two models are compared by statistics."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


# ---------------------------------------------------------------- what surely did not change

_PACKAGES = ("anneal_utils", "builtins", "functools", "keras", "math", "numpy", "tensorflow")
# Objects whose meaning is in their attributes, all of which can be read.
_READABLE = (
    keras.dtype_policies.DTypePolicy,
    keras.initializers.Initializer,
    keras.losses.Loss,
    keras.regularizers.Regularizer,
)


def unchanging(value, depth: int = 8):
    """Something that is equal again only while ``value`` means the same; None if it may change.

    A short way past tracing a program anew. It knows plain values and arrays, and the functions,
    classes and plain objects of the installed packages, whose code does not change. Anything of a
    user's (a lambda, a closure, an object) may mean something else the next time.
    """
    installed = getattr(value, "__module__", "").partition(".")[0] in _PACKAGES
    if depth == 0:
        return None
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return (type(value).__name__, repr(value))
    if isinstance(value, np.ndarray | np.generic):
        return None if np.asarray(value).dtype == object else ("array", digest(value))
    if isinstance(value, tuple | list):
        parts = tuple(unchanging(item, depth - 1) for item in value)
        return None if None in parts else (type(value).__name__, parts)
    if isinstance(value, Mapping):
        return unchanging([part for item in value.items() for part in item], depth)
    if isinstance(value, functools.partial):
        return unchanging((value.func, value.args, value.keywords), depth)
    if isinstance(value, type):
        return (value,) if installed else None
    if isinstance(value, types.FunctionType) and installed:
        closed = tuple(cell.cell_contents for cell in value.__closure__ or ())
        bound = unchanging((closed, value.__defaults__, value.__kwdefaults__), depth - 1)
        return bound and (value.__code__, bound)
    if isinstance(value, _READABLE) and type(value).__module__.partition(".")[0] in _PACKAGES:
        read = unchanging(vars(value), depth - 1)
        return read and (type(value), read)
    return None
