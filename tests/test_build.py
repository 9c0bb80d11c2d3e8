"""The files that build the environment hold together, and the Makefile keeps its word."""

import ast
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import anneal_utils
from anneal_utils import _places
from tools import gates

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from test_notebook_gates import alive, wait_until

ROOT = Path(__file__).resolve().parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
SET_UP = (ROOT / "tools" / "setup.sh").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = (ROOT / "requirements.txt").read_text()
CHANGES = (ROOT / "CHANGELOG.md").read_text()
CONFTEST = runpy.run_path(str(ROOT / "tests" / "conftest.py"))  # notebooks have one too
CORE = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines]
    for name, lines in PROJECT["project"]["optional-dependencies"].items()
}


def of_extra(name):
    """All requirements of an extra, with those of the extras that it names."""
    own = [r for r in EXTRAS[name] if r.name != "anneal-utils"]
    inner = [extra for r in EXTRAS[name] if r.name == "anneal-utils" for extra in sorted(r.extras)]
    return own + [r for extra in inner for r in of_extra(extra)]


DIRECT = list(
    {
        str(requirement): requirement
        for requirement in [
            *CORE,
            *of_extra("all"),
            *map(Requirement, PROJECT["dependency-groups"]["test"]),
        ]
    }.values()
)

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
    assert "://" not in "".join(map(str, DIRECT))


def test_a_plain_install_brings_keras_and_numpy():
    assert sorted(requirement.name for requirement in CORE) == ["keras", "numpy"]
    assert set(EXTRAS) == {"train", "course", "cluster", "all"}
    names = {extra: {r.name for r in of_extra(extra)} for extra in EXTRAS}
    assert names["train"] < names["course"] < names["all"] and "distributed" in names["cluster"]
    assert names["all"] == names["course"] | names["cluster"]
    for name in ("jupyterlab", "papermill", "nbval", "pytest", "distributed"):
        assert name not in names["train"]
    (nbval,) = [r for r in EXTRAS["course"] if r.name == "nbval"]
    assert str(nbval.specifier).startswith("==")  # its rules are what notebooks are compared by


def test_the_light_part_imports_nothing_else():
    # At the top of a file: what is imported inside a function is asked for by who calls it.
    ours = ROOT / "anneal_utils"
    light = [ours / f"{name}.py" for name in ("__init__", "_backend", "_checks", "_internals")]
    light += [ours / f"{name}.py" for name in ("_needs", "_places", "registry")]
    rooms = ("schedules", "callbacks", "optimizers")
    light += [path for room in rooms for path in (ours / room).glob("*.py")]
    allowed = {*sys.stdlib_module_names, "anneal_utils", "keras", "numpy"}
    for path in light:
        for node in ast.parse(path.read_text()).body:
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            assert {module.partition(".")[0] for module in modules} <= allowed, path


def test_there_is_one_version():
    assert PROJECT["project"]["dynamic"] == ["version"] and "version" not in PROJECT["project"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "anneal_utils.__version__"
    }
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert cited["version"] == anneal_utils.__version__
    assert cited["license"] == PROJECT["project"]["license"]
    assert cited["authors"] == PROJECT["project"]["authors"]  # one name, and nobody's
    assert re.search(r"^## (Unreleased|\d+\.\d+\.\d+)$", CHANGES, re.MULTILINE)


def test_what_the_package_reads_is_where_it_says(tmp_path, monkeypatch):
    assert _places.committed() == ROOT / "data" / "benchmark"
    assert _places.caches() == ROOT / "data" / "cache"
    installed = tmp_path / "site-packages" / "anneal_utils"
    monkeypatch.setattr(_places, "_PACKAGE", installed)
    assert _places.committed() == installed / "_data" / "benchmark"
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    places = {
        ("linux", ""): tmp_path / ".cache",
        ("linux", str(tmp_path / "mine")): tmp_path / "mine",
        ("linux", "not/absolute"): tmp_path / ".cache",
        ("darwin", ""): tmp_path / "Library" / "Caches",
        ("win32", ""): tmp_path / "AppData" / "Local",
    }
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    for (platform, cache), place in places.items():
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
        assert _places.caches() == place / "anneal-utils", (platform, cache)


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
        r"\((3, \d+)\) <= sys.version_info\[:2\] <= \((3, \d+)\)", SET_UP
    ).groups()
    assert [low.replace(", ", "."), high.replace(", ", ".")] == [minors[0], minors[-1]]
    assert f"--python-version {minors[0]}" in MAKEFILE  # compiled for the oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + minors[0].replace(".", "")


# --------------------------------------------------------------------------------- Makefile


# `make test` runs these tests: what it tells a make that it starts is not meant for theirs.
OUTSIDE = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}


def make(folder, *arguments, **variables):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env=OUTSIDE | variables,
    )


def copy_of_what_sets_up(folder):
    """A folder that ``make setup`` can be tried in."""
    (folder / "tools").mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "tools/setup.sh"):
        shutil.copy(ROOT / name, folder / name)


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
    copy_of_what_sets_up(tmp_path)
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
    copy_of_what_sets_up(tmp_path)
    tools = tmp_path / "path"  # all that this machine has: no uv, and one Python
    tools.mkdir()
    for name in ("bash", "make", "mkdir", "rm", "chmod", "ln", "mktemp", "mv", "touch"):
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        (tools / name).symlink_to(shutil.which(name))
    (tools / "python3").write_text(f"#!{shutil.which('bash')}\n{python}\n")
    (tools / "python3").chmod(0o755)
    said = make(tmp_path, target, PATH=str(tools))
    assert said.returncode != 0
    own = [line for line in said.stderr.splitlines() if not line.startswith("make")]
    assert len(own) == 1 and sentence in own[0], said.stderr
    assert not list(tmp_path.glob(".venv*"))


def stub_uv(tmp_path):
    """Makefile variables and environment with a uv that installs nothing, and fails if told to."""
    copy_of_what_sets_up(tmp_path)
    uv = tmp_path / "path" / "uv"
    uv.parent.mkdir()
    uv.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do if test "$word" = "$FAILS_AT"; then\n'
        '  test -z "$HANGS" || { echo $$ > hangs.part; mv hangs.part hangs; exec sleep 300; }\n'
        "  exit 3\n"
        "fi; done\n"
        'test "$1" != venv || { for folder; do :; done; mkdir -p "$folder/bin"; }\n'
    )
    uv.chmod(0o755)
    return {"PATH": f"{uv.parent}{os.pathsep}{os.environ['PATH']}", "PYTHON": sys.executable}


@pytest.mark.parametrize("old_make", [(), (".SHELLFLAGS=-c",)])  # 3.81 has no .SHELLFLAGS
@pytest.mark.parametrize("fails_at", ["venv", "-r", "-e", "nowhere"])
def test_a_failed_setup_leaves_no_stamp(tmp_path, fails_at, old_make):
    said = make(tmp_path, "setup", *old_make, FAILS_AT=fails_at, **stub_uv(tmp_path))
    good = fails_at == "nowhere"
    assert (said.returncode == 0) == good, said.stderr
    assert (tmp_path / ".venv" / ".ready").exists() == good
    if good:
        setting = tmp_path / ".venv" / "etc" / "ipython" / "ipython_kernel_config.py"
        assert setting.read_text() == "c.IPKernelApp.capture_fd_output = False\n"
        assert make(tmp_path, "setup", *old_make).stdout.count("Setting up") == 0
    else:
        assert not list(tmp_path.glob(".venv*"))


def in_use(tmp_path, kind, variables):
    """An environment out of date, ``folder`` or ``link``, and a function that tells what it is."""
    venv = tmp_path / ".venv"
    if kind == "folder":  # as an older Makefile built it
        (venv / "bin").mkdir(parents=True)
        (venv / ".ready").touch()
    else:
        assert make(tmp_path, "setup", **variables).returncode == 0
    assert venv.is_symlink() == (kind == "link")
    (venv / "bin" / "tool").write_text("works")
    os.utime(venv / ".ready", (1, 1))

    def state():
        within = sorted(path for path in tmp_path.glob(".venv/**/*"))
        files = {path: path.is_file() and path.read_bytes() for path in within}
        times = (venv / ".ready").stat().st_mtime
        return files, times, venv.resolve(), sorted(tmp_path.glob(".venv*"))

    return state


@pytest.mark.parametrize("kind", ["folder", "link"])
@pytest.mark.parametrize("hangs", ["", "yes"])
@pytest.mark.parametrize("fails_at", ["venv", "-r", "-e"])
def test_a_set_up_that_does_not_end_well_changes_nothing(tmp_path, fails_at, hangs, kind):
    variables = stub_uv(tmp_path)
    state = in_use(tmp_path, kind, variables)
    before = state()
    process = subprocess.Popen(
        ["make", "setup"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=OUTSIDE | variables | {"FAILS_AT": fails_at, "HANGS": hangs},
    )
    if hangs:
        wait_until((tmp_path / "hangs").exists)
        process.terminate()
    _, wrong = process.communicate(timeout=30)  # what hangs would hold the pipes
    assert process.returncode != 0
    own = [line for line in wrong.splitlines() if not line.startswith("make")]
    assert own == ["Not set up: the previous environment in .venv was kept as it was."]
    assert state() == before
    # With what it lacked there again, the same command succeeds.
    said = make(tmp_path, "setup", **variables)
    assert said.returncode == 0 and said.stderr == ""
    assert not (tmp_path / ".venv" / "bin" / "tool").exists()
    assert sorted(tmp_path.glob(".venv*")) == sorted(
        [tmp_path / ".venv", (tmp_path / ".venv").resolve()]
    )
    assert make(tmp_path, "setup", **variables).stdout == ".venv is ready.\n"


def test_a_set_up_removes_its_own_left_over_folders_and_no_others(tmp_path):
    variables = stub_uv(tmp_path)
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine, others = f".venv-made-{ended.pid}-abcdef", [".venv-gpu", f".venv-made-{os.getpid()}-a"]
    for name in (mine, *others):  # of a maker that was killed; of a person; of a maker at work
        (tmp_path / name).mkdir()
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (tmp_path / ".venv").symlink_to(outside)  # somebody's own
    assert make(tmp_path, "setup", **variables).returncode == 0
    now = (tmp_path / ".venv").resolve()
    assert now.parent == tmp_path and outside.is_dir()
    assert {path.name for path in tmp_path.glob(".venv*")} == {".venv", now.name, *others}


def test_activated_shells_go_by_the_link(tmp_path):
    variables = stub_uv(tmp_path)
    uv = tmp_path / "path" / "uv"
    more = 'test "$1" != venv || echo "VIRTUAL_ENV=/x/$folder" > "$folder/bin/activate"\n'
    uv.write_text(uv.read_text() + more)
    assert make(tmp_path, "setup", **variables).returncode == 0
    assert (tmp_path / ".venv/bin/activate").read_text() == "VIRTUAL_ENV=/x/.venv\n"


STUB = """\
#!/bin/sh
sleep 300 &
echo $$ $! > pids.part
mv pids.part pids
wait
"""
HANGS = """\
import os, time
with open("../pids.part", "w") as file:
    file.write(f"{os.getpid()} {os.getppid()}")
os.rename("../pids.part", "../pids")
time.sleep(300)"""


@pytest.mark.faults
@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
@pytest.mark.parametrize("how", ["kill", "kill -INT of the group", "Ctrl-C"])
@pytest.mark.parametrize(
    "target, during", [("run-all", "notebook"), ("test", "notebook"), ("test", "pytest")]
)
def test_what_make_started_ends_with_it(tmp_path, target, during, how):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    copy_of_what_sets_up(tmp_path)
    for name in ("tools", "anneal_utils"):
        leave = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=leave, dirs_exist_ok=True)
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".ready").touch()
    if during == "notebook":
        cells = [new_code_cell('PROFILE = "quick"'), new_code_cell(HANGS)]
        cells[0].metadata["tags"] = ["parameters"]
        (tmp_path / "notebooks").mkdir()
        nbformat.write(new_notebook(cells=cells), tmp_path / "notebooks" / "hangs.ipynb")
    stub = tmp_path / "stub"
    stub.write_text(STUB if during == "pytest" else "#!/bin/sh\ntouch second\n")
    stub.chmod(0o755)
    command = ["make", target, f"BIN={Path(sys.executable).parent}", f"PYTEST={stub}"]
    # `make … &` in a shell that is not interactive: SIGINT is ignored by all that it starts.
    background = ["bash", "-c", '"$@" & echo $!; wait', "bash", *command]
    process = subprocess.Popen(
        command if how == "Ctrl-C" else background,
        cwd=tmp_path,
        env=OUTSIDE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pids = []
    try:
        maker = process.pid if how == "Ctrl-C" else int(process.stdout.readline())
        wait_until((tmp_path / "pids").exists)
        pids = [*map(int, (tmp_path / "pids").read_text().split()), maker]
        assert all(map(alive, pids))
        if how == "kill":
            os.kill(maker, signal.SIGTERM)
        else:
            os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=30)  # whoever is left holds the pipe
        wait_until(lambda: not any(map(alive, pids)), 5)
    finally:
        for pid in filter(alive, [process.pid, *pids]):
            os.kill(pid, signal.SIGKILL)
    assert said.count("Interrupted; finished notebooks are kept") == 1
    assert "Traceback" not in said
    assert not (tmp_path / "second").exists(), "it went on with the second part"


def test_what_checks_computes_and_what_runs_may_look_up():
    made = {
        name: make(ROOT, "--dry-run", *arguments).stdout
        for name, arguments in {
            "test": ["test"],
            "nbval": ["nbval"],
            "run": ["run-all"],
            "fresh": ["run-all", "FRESH=1"],
        }.items()
    }
    assert "run --own-store --then" in made["test"] and "ANNEAL_STORE=off" in made["nbval"]
    assert "--own-store" not in made["run"] and "--fresh" not in made["run"]
    assert "--fresh" in made["fresh"] and "--own-store" not in made["fresh"]


def test_the_tests_need_the_environment_and_what_it_is_made_of():
    made = make(ROOT, "--dry-run", "--always-make", "test").stdout
    assert made.index("tools/setup.sh .venv") < made.index("-m pytest")
    installs = [line for line in SET_UP.splitlines() if "-r requirements.txt" in line]
    assert len(installs) == 2 and all("--require-hashes" in line for line in installs)


# ------------------------------------------------------------------------------- repository


def tracked():
    said = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if said.returncode:
        pytest.skip("not a git checkout")
    return [name for name in said.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_ci_calls_what_the_readme_says():
    script = ROOT / ".ci" / "run"
    assert re.search(r"^make lint$.*^make test$", script.read_text(), re.MULTILINE | re.DOTALL)
    assert script.stat().st_mode & 0o111, "not executable"


def test_what_test_leaves_out_test_all_runs():
    tests = {name: make(ROOT, "--dry-run", name).stdout for name in ("test", "test-all")}
    assert "--everything" in tests["test-all"] and "--everything" not in tests["test"]
    assert tests["test-all"].replace(" --everything", "") == tests["test"]
    markers = [m.partition(":")[0] for m in PROJECT["tool"]["pytest"]["ini_options"]["markers"]]
    assert markers == list(CONFTEST["EXTRA"])


TRIED = """
import pytest

@pytest.mark.wheel
def test_extra():
    pytest.skip(REASON)

def test_plain():
    pytest.skip(REASON)
"""


@pytest.mark.parametrize(
    "options, reason, counted",
    [
        ([], "no browser", "1 skipped, 1 deselected"),
        (["-m", "wheel"], "no browser", "1 skipped, 1 deselected"),
        (["--everything"], "no browser", "1 failed, 1 skipped"),
        (["--everything"], "a browser is not installed", "2 failed"),
        (["--everything"], CONFTEST["PERMITTED"][1], "2 skipped"),
    ],
)
def test_what_is_absent_fails_where_everything_runs(tmp_path, options, reason, counted):
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "test_tried.py").write_text(f"REASON = {reason!r}\n{TRIED}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert counted in said.stdout.splitlines()[-1], said.stdout


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
            if gates.MACHINE_PATH.search(line):
                found.append(f"{name}:{number}: {line.strip()[:80]}")
    assert not found
