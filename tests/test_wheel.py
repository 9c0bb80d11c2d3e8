"""The wheel, installed with JAX alone in an environment of its own, as a user would have it."""

import json
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.wheel

ROOT = Path(__file__).resolve().parent.parent
ABSENT = {"tensorflow", "tensorflow-cpu", "jupyterlab", "papermill", "nbval", "pytest", "pandas"}

TRAIN = """
import json, os, sys
os.environ["KERAS_BACKEND"] = "jax"
from anneal_utils import _places, callbacks, optimizers, schedules
import anneal_utils, keras, numpy as np

x = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
y = (x.sum(1) > 0).astype("float32")
steps = schedules.horizon(x, 32, 6)
rate = schedules.build("linear", 0.5, steps, warmup=0.1)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, "sigmoid")])
fall = schedules.build("linear", 0.9, steps, end=0.5)
made = optimizers.Scheduled(keras.optimizers.SGD(rate, momentum=0.9), momentum=fall)
model.compile(made, "binary_crossentropy")
recorder = callbacks.RateRecorder()
losses = model.fit(x, y, batch_size=32, epochs=6, verbose=0, callbacks=[recorder]).history["loss"]
try:
    from anneal_utils import training
except ImportError as error:
    told = str(error)
print(json.dumps(dict(
    place=anneal_utils.__file__, version=anneal_utils.__version__, steps=steps, losses=losses,
    rates=recorder.rates, table=schedules.values(rate, steps).tolist(), told=told,
    results=sorted(path.name for path in _places.committed().iterdir()),
    cache=str(_places.caches()), tensorflow="tensorflow" in sys.modules,
)))
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with sdist and wheel, built from a copy of what git knows, without a network."""
    folder = tmp_path_factory.mktemp("dist")
    known = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\0")
    copy = folder / "checkout"
    for name in filter(None, known):
        if (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((ROOT / name).read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(copy)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return folder


def test_the_wheel_holds_the_package_and_its_results_only(dist, record_property):
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for source in (ROOT / "data" / "benchmark").rglob("*"):
            if source.is_file():
                name = source.relative_to(ROOT / "data").as_posix()
                assert archive.read(f"anneal_utils/_data/{name}") == source.read_bytes()
        (metadata,) = [n for n in names if n.endswith("METADATA")]
        text = archive.read(metadata).decode()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"anneal_utils"}
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "anneal_utils").rglob("*.py")}
    assert sources <= set(names) and "anneal_utils/py.typed" in names
    assert "anneal_utils/claims.toml" in names
    others = set(names) - sources
    assert not [n for n in others if n.endswith((".ipynb", ".sh", ".py")) or "test" in n.lower()]
    needed = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra)", text, re.MULTILINE)
    assert sorted(needed) == ["keras", "numpy"]
    record_property(wheel.name, f"{wheel.stat().st_size / 1e6:.2f} MB, {len(names)} files")


def test_the_sdist_makes_the_same_wheel(dist):
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "LICENSE", "CHANGELOG.md"} <= names
    assert any(name.startswith("data/benchmark/") for name in names)
    assert not [n for n in names if n.startswith(("tests/", "tools/", "notebooks/"))]


def test_it_trains_with_jax_alone(dist, tmp_path, record_property):
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin") / "python")
    outside = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "KERAS_BACKEND")}
    (wheel,) = dist.glob("*.whl")
    pip = [python, "-m", "pip", "--disable-pip-version-check"]

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, env=outside, capture_output=True, text=True)

    installed = run(*pip, "install", "-q", "--retries", "1", str(wheel), "jax")
    if installed.returncode:
        unreachable = r"(?i)connection|resolution|timed out|retrying|network|proxy"
        if re.search(unreachable, installed.stderr):
            pytest.skip("no package index can be reached, so nothing could be installed: not run")
        pytest.fail(installed.stderr[-3000:])
    there = {
        entry["name"].lower() for entry in json.loads(run(*pip, "list", "--format=json").stdout)
    }
    assert "anneal-utils" in there and not there & ABSENT, there
    with_jax = sorted(there - {"pip", "setuptools"})
    record_property("installed with JAX", f"{len(with_jax)} packages: {' '.join(with_jax)}")
    done = run(python, "-c", TRAIN)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert Path(told["place"]).is_relative_to(tmp_path) and not told["tensorflow"]
    assert told["rates"] == pytest.approx(told["table"], rel=1e-5, abs=1e-7)
    assert told["steps"] == len(told["rates"]) == 60
    # a warmup of 6 steps to the peak, then straight to 0 at step 60
    straight = [0.5 * min((t + 1) / 7, (60 - t) / 54) for t in range(60)]
    assert told["rates"] == pytest.approx(straight, rel=1e-4, abs=1e-6)
    assert told["losses"][-1] < 0.8 * told["losses"][0]
    assert (
        told["told"] == "anneal_utils.training needs TensorFlow: pip install 'anneal-utils[train]'"
    )
    assert told["results"] == sorted(path.name for path in (ROOT / "data" / "benchmark").iterdir())
    assert Path(told["cache"]).name == "anneal-utils"
    assert f"{told['version']}-" in wheel.name
