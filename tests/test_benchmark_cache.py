"""The benchmark's cache: nothing stale is read, and nothing known is computed."""

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

from anneal_utils import identity, problems, schedules
from anneal_utils.benchmark import first as benchmark
from anneal_utils.benchmark import plugins

import keras
import pytest
from small_benchmark import ARGUMENTS, SMALL, assert_same, computed, files

pytest_plugins = ["benchmark_fixtures"]


def test_what_is_finished_is_read_and_nothing_is_said(reference, capsys):
    results, cache = reference
    assert results.trials["failures"].any()  # NaN is among what is read back
    before = files(cache)
    again = benchmark.run(**SMALL, cache=cache)
    assert_same(again, results)
    assert again.provenance["runs"]["computed"] == 0 and files(cache) == before
    assert capsys.readouterr().err == ""


def test_the_key_changes_with_everything_that_decides_a_run(monkeypatch, tmp_path, registries):
    cache = benchmark.Cache(tmp_path, "auto")
    given = dict(
        problem="quadratic",
        optimizer="sgd",
        epochs=2,
        schedule="linear",
        knobs=(),
        peaks=(0.1, 0.2),
        seeds=(0, 1),
    )
    other = dict(
        problem="quadratic:noise=2",
        optimizer="adam",
        epochs=3,
        schedule="cosine",
        knobs=(("end", 0.1),),
        peaks=(0.1, 0.2 * (1 + 2e-7)),
        seeds=(0, 2),
    )

    def runs(cache, **changed):
        (names,) = cache.names([benchmark.Chunk(**{**given, **changed})])
        return tuple(name.identity for name in names)

    paths = {runs(cache)} | {runs(cache, **{k: v}) for k, v in other.items()}
    paths.add(runs(benchmark.Cache(tmp_path, "graph")))
    # What rounds to the same rates, of Keras's float32, is the same runs.
    assert runs(cache, peaks=(0.1, 0.2 * (1 + 1e-15))) == runs(cache)
    other_version = {**identity.environment(), "tensorflow": "0.0"}
    monkeypatch.setattr(identity, "environment", lambda: other_version)
    paths.add(runs(benchmark.Cache(tmp_path, "auto")))
    assert len(paths) == len(other) + 3
    # A user's schedule is known by its rates: the same name with other rates is another key.
    for end in (0.5, 0.6):
        schedules.register("user", overwrite=True)(
            lambda peak, steps, end=end: schedules.build("linear", peak, steps, end=end)
        )
        paths.add(runs(benchmark.Cache(tmp_path, "auto"), schedule="user"))
    assert len(paths) == len(other) + 5


def test_a_changed_closure_of_a_loss_is_computed_again(tmp_path, registries):
    delta = 1.0

    @problems.register("robust")
    def robust():
        """A bowl under Huber's loss of its residual; ``delta`` is read while it is traced."""
        bowl = problems.load("quadratic", epochs=2)

        def huber(y, residual):
            return keras.losses.huber(keras.ops.zeros_like(residual), residual, delta)

        return dataclasses.replace(bowl, loss=huber)

    assert computed(tmp_path, problems=["robust"]) > 0
    assert computed(tmp_path, problems=["robust"]) == 0
    delta = 0.01
    assert computed(tmp_path, problems=["robust"]) > 0
    delta = 1.0
    assert computed(tmp_path, problems=["robust"]) == 0  # what it computes is known


def test_a_changed_closure_of_an_optimizer_is_computed_again(tmp_path, registries):
    beta = 0.9
    benchmark.register_optimizer(
        "mine", lambda rate: keras.optimizers.SGD(rate, momentum=beta), centre=0.1
    )
    given = dict(problems=["quadratic:epochs=2"], optimizers=["mine"])
    assert computed(tmp_path, **given) > 0
    assert computed(tmp_path, **given) == 0
    beta = 0.5
    assert computed(tmp_path, **given) > 0


HELPED = """
import helper_of_mine
from anneal_utils import schedules

@schedules.register("helped")
def helped(peak, steps):
    return schedules.build("linear", peak, steps, end=helper_of_mine.END)
"""


def test_a_changed_helper_of_a_plugin_is_computed_again(tmp_path, monkeypatch, registries):
    helper, plugin = tmp_path / "helper_of_mine.py", tmp_path / "helped.py"
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    plugin.write_text(HELPED)
    given = dict(SMALL, problems=["quadratic:epochs=2"], schedules=["helped"], plugins=[plugin])
    for end, cold in ((0.1, True), (0.1, False), (0.2, True)):
        helper.write_text(f"END = {end}")
        sys.modules.pop("helper_of_mine", None)
        plugins.loaded.clear()  # as a new process would begin
        "helped" in schedules.names() and schedules.unregister("helped")
        ran = benchmark.run(**given, cache=tmp_path / "cache").provenance["runs"]
        assert (ran["computed"] > 0) == cold
    monkeypatch.delitem(sys.modules, "helper_of_mine")


def test_another_setting_is_computed_again_and_a_comment_is_not(reference, tmp_path):
    _, cache = reference
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    package = tmp_path / "other" / "anneal_utils"
    shutil.copytree(Path(benchmark.__file__).parents[1], package)
    for module in package.rglob("*.py"):
        module.write_text(f"{module.read_text()}\n# A comment that changes no number.\n")
    command_ = [
        sys.executable,
        "-m",
        "anneal_utils.benchmark",
        "run",
        "--protocol",
        "1",
        *ARGUMENTS,
    ]
    command_ += ["--cache", str(tmp_path), "--out", str(tmp_path / "out")]
    # Of what is computed again a part is enough.
    part = ["--problem", SMALL["problems"][0], "--schedule", "linear"]
    said = {}
    for onednn, given in (("0", []), ("1", part)):
        setting = {"PYTHONPATH": str(package.parent), "TF_ENABLE_ONEDNN_OPTS": onednn}
        said[onednn] = subprocess.run(
            [*command_, *given],
            env={**os.environ, **setting},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    assert said["0"].startswith("0 runs computed, ")
    # As much as if nothing were known.
    given = dict(SMALL, problems=SMALL["problems"][:1], schedules=["linear"])
    cold = benchmark.run(**given, cache=tmp_path / "cold").provenance["runs"]
    assert said["1"].startswith(
        f"{cold['computed']} runs computed, {cold['from_cache']} read from the cache."
    )


OPAQUE = """
import dataclasses
from anneal_utils import problems
import keras, numpy, tensorflow as tf

@problems.register("opaque")
def opaque():
    bowl = problems.load("quadratic", epochs=2)

    def loss(y, residual):
        half = tf.numpy_function(lambda r: numpy.float32(0.5) * r, [residual], tf.float32)
        return keras.ops.sum(residual * keras.ops.reshape(half, keras.ops.shape(residual)), -1)

    return dataclasses.replace(bowl, loss=loss)
"""


def test_what_can_not_be_read_is_computed_and_never_kept(tmp_path, registries):
    plugin = benchmark.Plugin("opaque.py", OPAQUE)
    given = dict(problems=["opaque"], plugins=[plugin])
    assert computed(tmp_path, **given) > 0
    assert computed(tmp_path, **given) > 0
    with pytest.raises(ValueError, match="opaque.* calls Python .*in this process"):
        computed(tmp_path, **given, jobs=2)
    assert not list(tmp_path.iterdir())
