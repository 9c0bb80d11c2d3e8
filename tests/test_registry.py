"""Names that are registered, overwritten, taken out, described and traced to who added them."""

import types

from anneal_utils import optimizers, problems, registry, schedules, training

import keras
import numpy as np
import pytest

KINDS = {
    "schedule": (schedules, "cosine", lambda: lambda peak, steps: keras_line(peak, steps)),
    "problem": (problems, "digits", lambda: lambda: problems.load("article")),
    "optimizer": (optimizers, "adam", lambda: lambda rate=0.1: keras.optimizers.SGD(rate)),
}


def keras_line(peak, steps):
    return keras.optimizers.schedules.PolynomialDecay(peak, steps, 0.0)


def add(kind, name, made, **more):
    module = KINDS[kind][0]
    if kind == "optimizer":
        return module.register(name, made, centre=0.1, **more)
    return module.register(name, **more)(made)


@pytest.fixture(autouse=True)
def undone():
    with (
        schedules.catalogue.registry.kept(),
        problems.catalogue.registry.kept(),
        optimizers.catalogue.registry.kept(),
    ):
        yield


@pytest.mark.parametrize("kind", KINDS)
def test_three_kinds_of_things_are_registered_in_one_manner(kind):
    module, own, maker = KINDS[kind]
    before = module.names()
    made = maker()
    made.__doc__ = "What it is.\n\nMore."
    assert add(kind, "mine", made) is made
    assert module.names() == [*before, "mine"]
    assert "What it is." in module.describe("mine")
    assert module.origin("mine").startswith(f"{__name__}, line ")
    assert module.origin(own).startswith(f"anneal_utils.{module.__name__.split('.')[1]}")
    module.unregister("mine")
    assert module.names() == before
    for call in (module.unregister, module.describe, module.origin):
        with pytest.raises(ValueError, match="^name = 'mine'"):
            call("mine")


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_package_has_is_overwritten_only_on_purpose_and_comes_back(kind):
    module, own, maker = KINDS[kind]
    known = module.catalogue.registry[own]
    with pytest.raises(ValueError, match=rf"^name = '{own}': is taken \(by anneal_utils\."):
        add(kind, own, maker())
    made = add(kind, own, maker(), overwrite=True)
    assert module.catalogue.registry[own] is made and not module.catalogue.registry.is_own(own)
    order = module.names()
    module.unregister(own)
    assert module.catalogue.registry[own] is known and module.names() == order
    with pytest.raises(ValueError, match=f"^name = '{own}': belongs to anneal_utils"):
        module.unregister(own)


CELLS = {
    "schedule": """
@schedules.register("mine")
def mine(peak, steps):
    return {0}
""",
    "problem": """
@problems.register("mine")
def mine():
    return {0}
""",
    "optimizer": """
@(lambda make: optimizers.register("mine", make, centre=0.1))
def mine(rate=0.1):
    return {0}
""",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_notebook_cell_that_registers_runs_again(kind):
    """The second text stands for a cell that was edited in between."""
    notebook = types.ModuleType("__main__")
    names = dict(vars(notebook), schedules=schedules, problems=problems, optimizers=optimizers)
    module = KINDS[kind][0]
    for answer in (1, 2):
        exec(CELLS[kind].format(answer), names)
        made = module.catalogue.registry["mine"]
        assert made(*([0.1, 10] if kind == "schedule" else [])) == answer
    assert module.origin("mine").startswith("__main__, line ")
    elsewhere = dict(names, __name__="another_notebook")
    with pytest.raises(ValueError, match=r"^name = 'mine': is taken \(by __main__, line"):
        exec(CELLS[kind].format(3), elsewhere)
    assert module.catalogue.registry["mine"] is made
    module.unregister("mine")
    assert "mine" not in module.names(), "its own first version does not come back"


def test_another_function_of_one_module_does_not_take_a_name_by_chance():
    def one():
        pass

    def two():
        pass

    colours = registry.Registry("colour")
    colours.register("red", one)
    with pytest.raises(ValueError, match="^name = 'red': is taken"):
        colours.register("red", two)
    colours.register("red", two, overwrite=True)
    assert colours["red"] is two


@pytest.mark.parametrize("name", ["", None, 3, len])
def test_a_name_is_a_text(name):
    with pytest.raises(ValueError, match="^name = .*non-empty text"):
        registry.Registry("colour").register(name, 1)


def test_a_module_is_forgotten_and_who_brought_it_is_known():
    colours = registry.Registry("colour")
    names = {"__name__": "plugin", "colours": colours}
    with registry.adding("plugin.py"):
        exec("colours.register('red', int); colours.register('blue', str)", names)
    colours.register("green", list)
    assert colours.entry("red").owner == "plugin.py" and colours.entry("green").owner is None
    colours.forget("plugin")
    assert colours.names() == ["green"] and "red" not in colours


def test_a_registered_optimizer_is_an_optimizer_of_the_grid():
    optimizers.register("heavy", lambda rate: keras.optimizers.SGD(rate, momentum=0.5), centre=0.1)
    runs = training.grid("constant", 0.05, optimizer="heavy")
    assert runs[0].optimizer == "heavy"
    bowl = problems.load("quadratic", epochs=2)
    frame = training.train(bowl, runs)
    same = training.train(
        bowl,
        training.grid(
            "constant", 0.05, optimizer=lambda rate: keras.optimizers.SGD(rate, momentum=0.5)
        ),
    )
    assert (frame["run"] == same["run"]).all()
    # Another meaning of the name is another run, even in a process that has seen the first.
    optimizers.register("heavy", keras.optimizers.Adam, centre=0.1, overwrite=True)
    other = training.train(bowl, training.grid("constant", 0.05, optimizer="heavy"))
    assert not np.array_equal(other["val_loss"], frame["val_loss"])
    with pytest.raises(ValueError, match="^optimizer = 'heavyy': must be one of 'sgd'"):
        training.grid("constant", 0.05, optimizer="heavyy")
    with pytest.raises(ValueError, match="^centre = 0"):
        optimizers.register("none", keras.optimizers.SGD, centre=0)
