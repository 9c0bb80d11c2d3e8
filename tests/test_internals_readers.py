"""Nobody but ``anneal_utils/_internals.py`` reads the insides of Keras, TensorFlow or others."""

import ast
import functools
import json

import keras
from elsewhere import ROOT

HOME = "anneal_utils/_internals.py"

HIDDEN = ("keras.src", "tensorflow.python", "tensorflow.core", "tensorflow.compiler")
# Private by their look, but documented: of the standard library, and of named tuples.
DOCUMENTED = {"os._exit", "sys._getframe", "_asdict", "_fields", "_make", "_replace"}
# The way of processes to end, which the repository's tools share with the package.
ALLOWED = {("tools/notebooks.py", "anneal_utils._signals")}
# TensorFlow's own, though they do not look private.
UNDOCUMENTED = {"call_preflattened", "inference_fn"}


def is_private(name: str) -> bool:
    underscored = name.startswith("_") and not name.endswith("__") and name != "_"
    return underscored or name in UNDOCUMENTED


def room_of(path: str) -> str:
    """A package of anneal_utils is one room; any other file is a room of its own."""
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] == "anneal_utils" and len(parts) > 2 else path


def defined(tree: ast.AST) -> set[str]:
    """The private names that a file gives to things: of functions, classes, values, attributes."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and own(node):
            found.add(node.attr)
    return {name for name in found if is_private(name)}


def own(node: ast.Attribute) -> bool:
    """Whether it is an attribute of ``self``, ``cls`` or ``super()``."""
    of = node.value.func if isinstance(node.value, ast.Call) else node.value
    return isinstance(of, ast.Name) and of.id in ("self", "cls", "super")


@functools.cache
def of_keras() -> frozenset[str]:
    """The private names of Keras's own objects, which are nobody's, whoever has the same."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    optimizers = [model.optimizer, keras.optimizers.Adam(), keras.optimizers.LossScaleOptimizer]
    restarts = keras.optimizers.schedules.CosineDecayRestarts(0.1, 10)
    objects = [*optimizers, model, model.layers[0], model.layers[0].kernel, restarts]
    return frozenset(
        name for thing in objects for name in dir(thing) if is_private(name) and len(name) > 4
    )


def is_hidden(module: str, path: str) -> bool:
    """Whether the file at ``path`` has no business in the module."""
    if module.startswith(HIDDEN):
        return True
    parts = module.split(".")
    private = [i for i, part in enumerate(parts) if is_private(part)]
    if not private:
        return False
    return not path.startswith("/".join(parts[: private[0]]) + "/")


def reaches(path: str, source: str, names: set[str]) -> list[str]:
    """What a file reads of others' insides; ``names`` are the private names of its room."""
    tree, found = ast.parse(source), []
    passing = set()  # "_iterations = passed_on("_iterations")": a subclass has what it inherits
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            given = {t.id for t in node.targets if isinstance(t, ast.Name)}
            values = node.value.args
            passing |= {id(a) for a in values if isinstance(a, ast.Constant) and a.value in given}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if is_hidden(a.name, path)]
        elif isinstance(node, ast.ImportFrom):
            modules = [f"{node.module}.{a.name}" for a in node.names]
            found += [module for module in modules if not node.level and is_hidden(module, path)]
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and not own(node):
            text = ast.unparse(node)
            if not ({text, node.attr} & DOCUMENTED) and (
                node.attr not in names or node.attr in of_keras()
            ):
                found.append(text)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            hidden = node.value.startswith(tuple(f"{module}." for module in HIDDEN))
            if hidden or (node.value in of_keras() and id(node) not in passing):
                found.append(repr(node.value))
    return [what for what in found if (path, what) not in ALLOWED]


def sources() -> dict[str, str]:
    """The Python of the package, the tools, the benchmarks and the notebooks, by path."""
    found = {}
    for folder in ("anneal_utils", "tools", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            found[file.relative_to(ROOT).as_posix()] = file.read_text()
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(file.read_text())["cells"]
        code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        lines = [line for cell in code for line in cell.splitlines() if line[:1] not in "%!"]
        found[f"notebooks/{file.name}"] = "\n".join(lines)
    return found


def test_nobody_else_reads_the_insides_of_others():
    files, names = sources(), {}
    assert HOME in files and len([path for path in files if path.endswith(".ipynb")]) >= 7
    for path, source in files.items():
        names.setdefault(room_of(path), set()).update(defined(ast.parse(source)))
    told = {
        path: reaches(path, source, names[room_of(path)])
        for path, source in files.items()
        if path != HOME
    }
    assert not {path: what for path, what in told.items() if what}
    # and in the one file there is what is looked for
    assert len(reaches(HOME, files[HOME], names[HOME])) > 15


BAD = '''
from keras.src import ops
from keras.src.backend.common import global_state as state
import tensorflow.python.util
from tensorflow.core.framework import types_pb2
from anneal_utils.optimizers._wrapper import unwrap
from anneal_utils.schedules import _parts

def read(model, optimizer):
    """Keras has ``model._flatten_layers``; to mention it is no sin."""
    optimizer._iterations.assign(0)
    model._secret = getattr(optimizer, "_learning_rate")
    model.step.inference_fn(1)
    return unwrap(optimizer)._get_variable_index(0), _parts.real._inner, "keras.src.losses"
'''
GOOD = """
import os
import keras
from anneal_utils import _checks
from anneal_utils.callbacks import _optimizers

class Mine(keras.optimizers.SGD):
    _iterations = passed_on("_iterations")

    def __init__(self, other):
        super().__init__(0.1)
        self._mine, self._iterations = other._mine, 0
        super()._apply_weight_decay([])

    @classmethod
    def leave(cls):
        cls._kept = _optimizers.say
        os._exit(0)
"""


def test_the_search_finds_what_is_there_and_nothing_else():
    path = "anneal_utils/callbacks/bad.py"
    assert sorted(reaches(path, BAD, defined(ast.parse(BAD)))) == sorted(
        [
            *("keras.src.ops", "keras.src.backend.common.global_state", "tensorflow.python.util"),
            "tensorflow.core.framework.types_pb2",
            *("anneal_utils.optimizers._wrapper.unwrap", "anneal_utils.schedules._parts"),
            *("optimizer._iterations", "model._secret", "'_learning_rate'"),
            "model.step.inference_fn",
            *("unwrap(optimizer)._get_variable_index", "_parts.real._inner", "'keras.src.losses'"),
        ]
    )
    assert reaches(path, GOOD, defined(ast.parse(GOOD))) == []
    # the same text, elsewhere: callbacks' own room is not for the optimizers
    told = reaches("anneal_utils/optimizers/good.py", GOOD, defined(ast.parse(GOOD)))
    assert told == ["anneal_utils.callbacks._optimizers"]
    # and a name that the room gives to something of its own does not excuse Keras's
    assert reaches(path, "optimizer._iterations", {"_iterations"}) == ["optimizer._iterations"]
    assert reaches(path, "other._mine", {"_mine"}) == []
