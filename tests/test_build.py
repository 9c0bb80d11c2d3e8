"""The files that build the environment hold together, and the Makefile keeps its word."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tools import notebooks

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.txt").read_text()
DIRECT = [
    Requirement(line)
    for line in [*PROJECT["project"]["dependencies"], *PROJECT["dependency-groups"]["test"]]
]

MACHINES = {
    "linux-x86_64": ("linux", "x86_64", "Linux", "posix"),
    "linux-aarch64": ("linux", "aarch64", "Linux", "posix"),
    "macos-arm64": ("darwin", "arm64", "Darwin", "posix"),
    "windows": ("win32", "AMD64", "Windows", "nt"),
}
PYTHONS = ("3.11", "3.12", "3.13")


def environment(machine, python):
    sys_platform, platform_machine, platform_system, os_name = MACHINES[machine]
    return default_environment() | {
        "sys_platform": sys_platform,
        "platform_machine": platform_machine,
        "platform_system": platform_system,
        "os_name": os_name,
        "python_version": python,
        "python_full_version": f"{python}.9",
    }


def pins():
    """The blocks of requirements.txt: (requirement, its text with the hashes)."""
    blocks = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)
    return [
        (Requirement(block.splitlines()[0].rstrip("\\ ")), block)
        for block in blocks
        if re.match(r"[A-Za-z0-9]", block)
    ]


def version_of(pin):
    (specifier,) = pin.specifier
    assert specifier.operator == "==", pin
    return specifier.version


def pinned(environment):
    """Name and version of every package that is installed there; each pinned once."""
    found = {}
    for pin, _ in pins():
        if pin.marker is None or pin.marker.evaluate(environment):
            name = canonicalize_name(pin.name)
            assert name not in found, f"{name} is pinned twice"
            found[name] = version_of(pin)
    return found


# ------------------------------------------------------------------------------ environment


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_direct_dependency_is_pinned_inside_its_range(machine, python):
    there = environment(machine, python)
    versions = pinned(there)
    wanted = [d for d in DIRECT if d.marker is None or d.marker.evaluate(there)]
    assert len(wanted) >= len(DIRECT) - 1  # markers choose between two TensorFlows, nothing else
    for dependency in wanted:
        version = versions.get(canonicalize_name(dependency.name))
        assert version is not None, f"{dependency.name} is missing: run `make lock`"
        assert dependency.specifier.contains(version), f"{dependency} is pinned at {version}"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    "machine, name",
    [
        ("linux-x86_64", "tensorflow-cpu"),
        ("linux-aarch64", "tensorflow"),
        ("macos-arm64", "tensorflow"),
        ("windows", "tensorflow"),
    ],
)
def test_one_tensorflow_for_each_machine(machine, name, python):
    found = {n for n in pinned(environment(machine, python)) if n.startswith("tensorflow")}
    assert found & {"tensorflow", "tensorflow-cpu"} == {name}


def test_what_builds_the_package_is_pinned_too():
    # `pip install --no-build-isolation -e .` takes its build system from the environment.
    for line in PROJECT["build-system"]["requires"]:
        needed = Requirement(line)
        for machine in MACHINES:
            version = pinned(environment(machine, PYTHONS[0])).get(needed.name)
            assert version is not None and needed.specifier.contains(version), machine


def test_every_pin_has_hashes():
    assert len(pins()) > 100
    for pin, block in pins():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), f"{pin} has no hash"


def test_no_address_in_the_requirements():
    assert all(pin.url is None for pin, _ in pins())
    lines = [line for line in LOCK.splitlines() if not line.lstrip().startswith("#")]
    for word in ("://", "--index", "--extra-index", "--find-links", "--trusted-host", "git+"):
        assert not [line for line in lines if word in line]
    assert "://" not in "".join(PROJECT["project"]["dependencies"])


def test_conda_takes_the_same_python_and_the_same_packages():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (python,) = [e for e in entries if isinstance(e, str) and e.startswith("python")]
    wanted = SpecifierSet(PROJECT["project"]["requires-python"])
    assert SpecifierSet(python.removeprefix("python")) == wanted
    (pip,) = [e["pip"] for e in entries if isinstance(e, dict)]
    assert pip == ["-r requirements.txt"]
    assert [e for e in entries if isinstance(e, str) and not e.startswith("python")] == ["pip"]


def test_every_place_means_the_same_pythons():
    wanted = SpecifierSet(PROJECT["project"]["requires-python"])
    minors = [f"3.{minor}" for minor in range(8, 20) if wanted.contains(f"3.{minor}.9")]
    assert minors == list(PYTHONS)
    low, high = re.search(
        r"\((3, \d+)\) <= sys.version_info\[:2\] <= \((3, \d+)\)", MAKEFILE
    ).groups()
    assert [low.replace(", ", "."), high.replace(", ", ".")] == [minors[0], minors[-1]]
    assert f"--python-version {minors[0]}" in MAKEFILE  # compiled for the oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + minors[0].replace(".", "")


# --------------------------------------------------------------------------------- Makefile


def make(folder, *arguments, **variables):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | variables,
    )


def targets():
    return set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE).group(1).split())


def test_every_target_has_its_line_of_help():
    described = set(re.findall(r"^([a-z-]+):.*## \S", MAKEFILE, re.MULTILINE))
    assert described == targets()
    assert {"help", "setup", "run-all", "test", "benchmark", "lint"} <= described


def test_help_lists_every_target():
    said = make(ROOT, "help")
    assert said.returncode == 0, said.stderr
    listed = re.findall(r"^make (\S+)\s+\S", said.stdout, re.MULTILINE)
    assert set(listed) == targets() and len(listed) == len(targets())
    assert make(ROOT).stdout == said.stdout  # it is what a bare `make` prints


@pytest.mark.parametrize("wrong", ["false", "no-such-python"])
def test_a_wrong_python_is_told_in_one_sentence(tmp_path, wrong):
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    said = make(tmp_path, "setup", f"PYTHON={shutil.which(wrong) or wrong}")
    assert said.returncode != 0
    lines = (said.stdout + said.stderr).splitlines()
    own = [line for line in lines if not line.startswith("make")]
    assert len(own) == 1 and "Python 3.11, 3.12 or 3.13" in own[0], lines
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    "target, python, sentence",
    [
        ("setup", "exit 1", "Python 3.11, 3.12 or 3.13 is needed"),
        ("setup", '[[ "$*" != *venv* ]]', "Python's venv module is missing"),
        ("lock", "exit 0", "uv is needed"),
    ],
)
def test_a_machine_that_lacks_something_is_told_in_one_sentence(tmp_path, target, python, sentence):
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / "path"  # all that this machine has: no uv, and one Python
    tools.mkdir()
    for name in ("bash", "make", "mkdir", "rm"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").write_text(f"#!{shutil.which('bash')}\n{python}\n")
    (tools / "python3").chmod(0o755)
    said = make(tmp_path, target, PATH=str(tools))
    assert said.returncode != 0
    own = [line for line in said.stderr.splitlines() if not line.startswith("make")]
    assert len(own) == 1 and sentence in own[0], said.stderr
    assert not (tmp_path / ".venv" / ".ready").exists()


@pytest.mark.parametrize("old_make", [(), (".SHELLFLAGS=-c",)])  # 3.81 has no .SHELLFLAGS
@pytest.mark.parametrize("fails_at", ["venv", "-r", "-e", "nowhere"])
def test_a_failed_setup_leaves_no_stamp(tmp_path, fails_at, old_make):
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path)
    uv = tmp_path / "path" / "uv"  # installs nothing, and fails where it is told to
    uv.parent.mkdir()
    uv.write_text(
        '#!/bin/sh\nfor word in "$@"; do test "$word" != "$FAILS_AT" || exit 3; done\n'
        "mkdir -p .venv/bin\n"
    )
    uv.chmod(0o755)
    path = f"{uv.parent}{os.pathsep}{os.environ['PATH']}"
    said = make(
        tmp_path, "setup", f"PYTHON={sys.executable}", *old_make, PATH=path, FAILS_AT=fails_at
    )
    good = fails_at == "nowhere"
    assert (said.returncode == 0) == good, said.stderr
    assert (tmp_path / ".venv" / ".ready").exists() == good
    if good:
        setting = tmp_path / ".venv" / "etc" / "ipython" / "ipython_kernel_config.py"
        assert setting.read_text() == "c.IPKernelApp.capture_fd_output = False\n"
        assert make(tmp_path, "setup", *old_make).stdout.count("Setting up") == 0


def test_the_tests_need_the_environment_and_what_it_is_made_of():
    made = make(ROOT, "--dry-run", "--always-make", "test").stdout
    assert "--require-hashes" in made and "-m pytest" in made
    assert made.index("--require-hashes") < made.index("-m pytest")


# ------------------------------------------------------------------------------- repository


def tracked():
    said = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if said.returncode:
        pytest.skip("not a git checkout")
    return [name for name in said.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_ci_calls_what_the_readme_says():
    script = ROOT / ".ci" / "run"
    assert re.search(r"^make test$", script.read_text(), re.MULTILINE)
    assert script.stat().st_mode & 0o111, "not executable"


def test_no_second_lock_file():
    assert not [name for name in tracked() if name.endswith(("uv.lock", "poetry.lock"))]


def test_tracked_files_hold_no_path_of_a_machine():
    found = []
    for name in tracked():
        if name.startswith(".ci/"):
            continue
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or a table
        if name.endswith(".ipynb"):
            text = text.replace("\\n", "\n")
        for number, line in enumerate(text.splitlines(), 1):
            if notebooks.MACHINE_PATH.search(line):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found
