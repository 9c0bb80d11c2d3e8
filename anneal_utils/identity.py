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
import re
import struct
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from anneal_utils import _internals, _needs

if missing := _needs.tensorflow("anneal_utils.identity"):
    raise ImportError(missing)

import keras
import numpy as np
import tensorflow as tf

# --------------------------------------------------------------------------- digests of values


def digest(*values) -> str:
    """SHA-256 of the values, in their order, as 32 hexadecimal digits.

    Takes None, booleans, ints, floats, text, bytes, NumPy arrays (kind, shape and every bit
    count; their layout in memory does not), TensorFlow tensors with a value, and tuples, lists
    and dicts of these; ``TypeError`` for anything else. A tuple is as a list; the order of a dict
    does not count.

    >>> digest(1, "a") == digest(1, "a"), digest(1) == digest(1.0), digest("a", "b") == digest("ab")
    (True, False, False)
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}), digest(0.0) == digest(-0.0)
    (True, False)
    """
    state = hashlib.sha256()
    _feed(state.update, values)
    return state.hexdigest()[:32]


def _feed(update, value) -> None:
    """Every value as its kind, its length and its bytes, so that no two read alike."""
    if isinstance(value, tf.Tensor):
        value = _array_of(value)
    if isinstance(value, np.ndarray | np.generic):
        _feed_array(update, np.asarray(value))
    elif value is None:
        update(b"None;")
    elif isinstance(value, int):
        update(f"{'bool' if isinstance(value, bool) else 'int'} {value:x};".encode())
    elif isinstance(value, float):
        update(b"float " + struct.pack("<d", value))  # not its text: there are many NaNs
    elif isinstance(value, str):
        _feed_bytes(update, "text", value.encode(errors="surrogatepass"))
    elif isinstance(value, bytes):
        _feed_bytes(update, "bytes", value)
    elif isinstance(value, tuple | list):
        update(f"list {len(value)};".encode())
        for item in value:
            _feed(update, item)
    elif isinstance(value, Mapping):
        update(f"dict {len(value)};".encode())
        for key in sorted(value, key=digest):
            _feed(update, key)
            _feed(update, value[key])
    else:
        raise TypeError(f"{type(value).__name__} has no digest: {value!r}")


def _array_of(tensor: tf.Tensor) -> np.ndarray:
    if not hasattr(tensor, "numpy") or tensor.dtype in (tf.resource, tf.variant):
        raise TypeError(f"a tensor without a value has no digest: {tensor!r}")
    return np.array(tensor.numpy(), object if tensor.dtype == tf.string else None)


def _feed_array(update, array: np.ndarray) -> None:
    update(f"array {array.dtype.name} {array.shape};".encode())
    if array.dtype.names is not None:  # field by field: between them may be bytes of no meaning
        update(f"fields {len(array.dtype.names)};".encode())
        for name in array.dtype.names:
            _feed_bytes(update, "field", name.encode())
            _feed_array(update, array[name])
    elif array.dtype.kind in "OT":  # objects and texts are elsewhere in memory
        _feed(update, array.ravel().tolist())
    else:
        native = array.astype(array.dtype.newbyteorder("=")) if not array.dtype.isnative else array
        update(native.tobytes())


def _feed_bytes(update, kind: str, content: bytes) -> None:
    update(f"{kind} {len(content)};".encode())
    update(content)


# ------------------------------------------------------------------- digests of traced programs

# Attributes that name something for people, or number it by what the process did before.
_METADATA = {
    *("_class", "_gradient_op_type", "_output_shapes", "_user_specified_name"),
    *("container", "message", "shared_name", "tensor_array_name"),
}

_TEXT = tf.string.as_datatype_enum  # the number of its kind in a node

# Operations that hand on what they are given, or stop, but never compute with it.
_CARRIERS = {
    *("While", "StatelessWhile", "If", "StatelessIf", "Case", "StatelessCase", "PartitionedCall"),
    *("StatefulPartitionedCall", "Identity", "IdentityN", "Assert"),
}
# Operations that TensorFlow calls stateful because they call functions or must not be moved;
# their result is decided by what goes in.
_INNOCENT = {
    *("While", "If", "Case", "PartitionedCall", "StatefulPartitionedCall", "Assert"),
    *("StatelessRandomGetKeyCounter", "StatelessRandomGetAlg", "StatelessRandomGetKeyCounterAlg"),
    *("RngReadAndSkip", "RngSkip", "CheckNumerics", "CheckNumericsV2"),
}
# Those that touch variables, whose values the trainer sets.
_OF_VARIABLES = re.compile(
    "(Assign|AssignAdd|AssignSub|Read)VariableOp|_ReadVariablesOp|VariableShape"
    "|Resource(Sparse)?Apply.*|Resource(Gather|Scatter).*|ResourceStridedSliceAssign"
)
# Operations that TensorFlow does not call stateful, though what they give is not in their text:
# Python by its number in this process, the content of files, code by its name.
_OUTSIDE = re.compile(
    "PyFuncStateless|ReadFile|MatchingFiles|(De|En)codeProto.*|XlaCustomCall.*|.*Dataset.*"
    "|RiscRandom.*"
)


def functions(concrete) -> list:
    """The FunctionDefs of a concrete function: its own, then all it calls, by first mention."""
    library = {f.signature.name: f for f in concrete.graph.as_graph_def().library.function}
    found = {concrete.function_def.signature.name: concrete.function_def}
    for function in _growing(found):
        for node in function.node_def:
            mentioned = [f.name for key in sorted(node.attr) for f in _functions_of(node.attr[key])]
            for name in [node.op, *mentioned]:  # an old kind of call is an operation by that name
                if name in library:
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
    words = any(_computes_with_words(node) for function in parts for node in function.node_def)
    return digest(repr([_text(function, numbers, words) for function in parts]))


def _computes_with_words(node) -> bool:
    """Whether a node takes text and does more than to hand it on, or to show it and stop."""
    always, one, several = _takes(node.op)
    return (
        always
        or any(node.attr[name].type == _TEXT for name in one)
        or any(_TEXT in node.attr[name].list.type for name in several)
    )


@functools.cache
def _takes(operation: str) -> tuple[bool, list[str], list[str]]:
    """Whether an operation's inputs are text: surely, if an attribute says so, or a list of it."""
    definition = _internals.operation(operation)
    if definition is None or operation in _CARRIERS:
        return False, [], []
    inputs = definition.input_arg
    return (
        any(argument.type == _TEXT for argument in inputs),
        [argument.type_attr for argument in inputs if argument.type_attr],
        [argument.type_list_attr for argument in inputs if argument.type_list_attr],
    )


def _text(function, numbers: Mapping[str, int], words: bool) -> list:
    """A FunctionDef as plain values, with every name replaced by its place.

    Constant texts are kept if the program computes with ``words``. Else they can only be what a
    failed assertion would tell, in which there are names of layers.
    """
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
            [
                numbers.get(node.op, node.op),
                node.device,
                sources(node.input),
                _values(node, numbers, {*_METADATA, *([] if words else _text_of(node))}),
            ]
            for node in function.node_def
        ],
        sources(function.ret[argument.name] for argument in signature.output_arg),
        sorted(places[name] for name in function.control_ret.values()),
    ]


def _text_of(node) -> list[str]:
    """The attribute of a constant that holds a text."""
    constant = node.op == "Const" and node.attr["dtype"].type == _TEXT
    return ["value"] if constant else []


def _values(node, numbers: Mapping[str, int], hidden: Container[str]) -> list:
    """A node's attributes by name; constants are among them, in full."""
    return [
        (key, _value(node.attr[key], numbers)) for key in sorted(node.attr) if key not in hidden
    ]


def _value(attribute, numbers: Mapping[str, int]) -> bytes:
    """An attribute's content, with functions by number."""
    if _functions_of(attribute):
        attribute = type(attribute).FromString(attribute.SerializeToString())
        for function in _functions_of(attribute):
            function.name = str(numbers.get(function.name, function.name))
    return attribute.SerializeToString(deterministic=True)


def _functions_of(attribute) -> list:
    """The functions that an attribute names."""
    kind = attribute.WhichOneof("value")
    if kind == "func":
        return [attribute.func]
    return list(attribute.list.func) if kind == "list" else []


def stateful(concrete) -> list[str]:
    """Operations of the traced function that keep, or read, what is neither text nor variable.

    The names of the operations, sorted: random kernels with a stream of their own, calls of
    Python, files, queues, tables.
    """
    parts = functions(concrete)
    called = {function.signature.name for function in parts}
    operations = {node.op for function in parts for node in function.node_def} - called
    return sorted(operation for operation in operations if _is_stateful(operation))


def _is_stateful(operation: str) -> bool:
    if operation in _INNOCENT or _OF_VARIABLES.fullmatch(operation):
        return False
    definition = _internals.operation(operation)
    return definition is None or definition.is_stateful or bool(_OUTSIDE.fullmatch(operation))


# ---------------------------------------------------------------- versions, settings, processor

_PREFIXES = (
    *("CUBLAS_", "DNNL_", "NVIDIA_TF32_", "ONEDNN_", "TF_AUTO_", "TF_CONV2D_", "TF_CUDNN_"),
    *("TF_DETERMINISTIC_", "TF_DISABLE_", "TF_ENABLE_", "TF_FP16_", "TF_JIT_", "TF_MATMUL_"),
    *("TF_MLIR_", "TF_NUM_", "TF_ONEDNN_", "TF_OVERRIDE_", "TF_SET_", "TF_USE_", "TF_XLA_", "XLA_"),
)


def _variables() -> dict[str, str]:
    """The environment variables by which TensorFlow chooses kernels, as they are now."""
    return {
        name: value
        for name, value in sorted(os.environ.items())
        # What became of this one, TensorFlow tells.
        if name.startswith(_PREFIXES) and name != "TF_ENABLE_ONEDNN_OPTS"
    }


_VARIABLES = _variables()  # TensorFlow reads most of them once, when it is imported


@functools.cache
def version(package: str) -> str:
    """The installed version of a package, "unknown" where none is."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return "unknown"


def environment() -> dict:
    """What decides the bits of a program besides its text, as a flat dict of texts.

    Architecture, system, kind of device, versions of TensorFlow and Keras, and the settings of
    TensorFlow that choose other kernels, as it tells them itself where it does. A variable that
    was changed since TensorFlow was imported may have come too late: it counts both ways. Not
    the processor's model: see :func:`processor`.
    """
    threads, now = tf.config.threading, _variables()
    settings = {
        "architecture": platform.machine(),
        "system": platform.system(),
        "devices": " ".join(sorted({d.device_type for d in tf.config.list_logical_devices()})),
        "keras": keras.__version__,
        "tensorflow": tf.__version__,
        "oneDNN": _internals.has_onednn(),
        "intra-op threads": threads.get_intra_op_parallelism_threads(),
        "inter-op threads": threads.get_inter_op_parallelism_threads(),
        "deterministic": _internals.is_deterministic(),
        "tensor float 32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "graph optimizer": sorted(tf.config.optimizer.get_experimental_options().items()),
        "jit": tf.config.optimizer.get_jit(),
    }
    changed = {
        f"{name} (later)": now.get(name)
        for name in sorted({*now, *_VARIABLES})
        if now.get(name) != _VARIABLES.get(name)
    }
    return {name: str(value) for name, value in (settings | _VARIABLES | changed).items()}


@functools.cache
def processor() -> str:
    """The processor's model, to be recorded: results of two models are compared by statistics."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
