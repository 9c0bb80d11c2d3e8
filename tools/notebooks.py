"""Run, check and accept the notebooks: ``python -m tools.notebooks run | check | accept``.

``run`` executes every notebook once through papermill, in parallel, into ``build/<profile>/``;
a notebook whose code, module and settings have not changed is not run again. ``check`` holds the
committed notebooks against the gates. ``accept`` takes the executed copies as the committed ones.
"""

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from anneal_utils import _signals

if __name__ == "__main__":
    _signals.exit_with("Interrupted before anything was begun.")

from tools import edition, gates
from tools.gates import (
    NONE,
    Failed,
    Misused,
    check,
    first_line,
    normalise,
    read,
    text_of,
)
from tools.processes import end_group, end_with_parent, peak_mb

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ("quick", "full")


def notebooks(names=(), root: Path = ROOT) -> list[Path]:
    """The notebooks to work on, by name or all of them, in the order of the course."""
    found = {path.stem: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    for name in names:
        if Path(name).stem not in found:
            raise Misused(f"No notebook {name!r}; there are: {', '.join(found) or 'none'}.")
    return [found[Path(name).stem] for name in names] if names else list(found.values())


def _write(path: Path, text: str) -> None:
    """Write ``text`` in one step: another process sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


# ---------------------------------------------------------------------------------- running


def key_of(path: Path, profile: str, root: Path = ROOT) -> str:
    """A hash of everything that decides what the notebook's run gives."""
    digest = hashlib.sha256(f"{profile} {sys.version_info[:2]}".encode())
    for cell in normalise(read(path)).cells:
        digest.update(json.dumps([cell.cell_type, cell.source, cell.metadata]).encode())
    package = sorted((root / "anneal_utils").rglob("*"))
    shared = [file for file in package if file.suffix in (".py", ".toml")]
    # The cache, with many files in it, is not even looked into.
    parts = [part for part in sorted((root / "data").glob("*")) if part.name != "cache"]
    data = [file for part in parts for file in (part, *sorted(part.rglob("*.*")))]
    results = [file for file in data if file.suffix not in ("", ".md")]
    for file in (Path(__file__), Path(gates.__file__), Path(edition.__file__)):
        digest.update(file.read_bytes())
    for file in [*shared, *results, root / "requirements.txt"]:
        if file.is_file():
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()


def record_of(path: Path, profile: str, root: Path = ROOT) -> dict | None:
    """What is known of the run of exactly this notebook; None if it has to be run."""
    target = root / "build" / profile / path.name
    try:
        record = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        key = record["key"]
        figures = [_gallery(profile, root) / name for name in record["figures"]]
    except (OSError, ValueError, KeyError, TypeError):  # absent or damaged
        return None
    whole = target.exists() and all(figure.exists() for figure in figures)
    return record if whole and key == key_of(path, profile, root) else None


def _gallery(profile: str, root: Path) -> Path:
    """Where a profile's figures belong: those of `quick` are committed, like its notebooks."""
    return root / "figures" if profile == "quick" else root / "build" / profile / "figures"


def execute(path: Path, profile: str, root: Path = ROOT) -> dict:
    """Run one notebook through papermill, in this process; returns its record.

    Executed copy, record and figures appear only when the whole notebook has succeeded.
    """
    import papermill

    start = time.perf_counter()
    key = key_of(path, profile, root)
    target = root / "build" / profile / path.name
    for stale in (target.with_suffix(".json"), target):  # a failed run leaves no older copy either
        stale.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures"
        figures.mkdir()
        os.environ.update(ANNEAL_HEADLESS="1", ANNEAL_FIGURES=str(figures))
        try:
            papermill.execute_notebook(
                path,
                Path(folder) / path.name,
                parameters={"PROFILE": profile},
                cwd=path.parent,
                progress_bar=False,
                request_save_on_cell_execute=False,
                kernel_name="python3",
                language="python",
                # TensorFlow's C++ log goes to the terminal, not into cells.
                extra_arguments=["--IPKernelApp.capture_fd_output=False"],
            )
        except papermill.PapermillExecutionError as error:
            # papermill counts the parameters it injected, and adds two cells about the error.
            ran = read(Path(folder) / path.name).cells[: error.cell_index + 3]
            added = {"injected-parameters", "papermill-error-cell-tag"}
            own = [c for c in ran if not added.intersection(c.metadata.get("tags", []))]
            where = f"cell {len(own)} ({first_line(own[-1])})"
            told = f"{error.ename}: {_one_line(error.evalue)}"
            raise Failed(f"{path.name}, {where}: {told}") from None
        except Exception as error:  # the kernel died, or never started
            raise Failed(f"{path.name}: {type(error).__name__}: {_one_line(error)}") from error
        executed = read(Path(folder) / path.name)
        seconds = [
            c.metadata.get("papermill", {}).get("duration") or 0
            for c in executed.cells
            if c.cell_type == "code"
        ]
        names = sorted(file.name for file in figures.iterdir())
        gallery = _gallery(profile, root)
        gallery.mkdir(parents=True, exist_ok=True)
        for name in names:
            partial = gallery / f".{name}.part"
            shutil.copyfile(figures / name, partial)
            partial.replace(gallery / name)
    record = {
        "key": key,
        "seconds": round(time.perf_counter() - start, 1),
        "slowest_cell_seconds": round(max(seconds, default=0), 1),
        "peak_mb": peak_mb(),
        "figures": names,
    }
    _write(target, text_of(normalise(executed)))
    _write(target.with_suffix(".json"), json.dumps(record, indent=1))
    return record


def _one_line(message) -> str:
    return " ".join(str(message).split())[:300]


@contextlib.contextmanager
def _store(root: Path, own: bool, fresh: bool):
    """Where the notebooks started meanwhile look trainings up (see ``anneal_utils.store``)."""
    changes = {"ANNEAL_STORE_FRESH": "1"} if fresh else {}
    if own:
        (root / "build").mkdir(exist_ok=True)
        changes["ANNEAL_STORE"] = tempfile.mkdtemp(prefix="store-", dir=root / "build")
    before = {name: os.environ.pop(name, None) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name in changes:
            del os.environ[name]
        os.environ.update({name: value for name, value in before.items() if value is not None})
        if own:
            shutil.rmtree(changes["ANNEAL_STORE"], ignore_errors=True)


def run(
    names=(),
    profile: str = "quick",
    jobs: int | None = None,
    root: Path = ROOT,
    *,
    own_store: bool = False,
    fresh: bool = False,
) -> None:
    """Run what is not up to date, ``jobs`` notebooks at a time, each in its own process.

    ``own_store``: the trainings are looked up in a store that starts empty and goes afterwards,
    so that everything is computed once. ``fresh``: run everything, and read no store at all.
    """
    if profile not in PROFILES:
        raise Misused(f"Profile {profile!r} is unknown; there are: {', '.join(PROFILES)}.")
    if jobs is not None and jobs < 1:
        raise Misused(f"jobs = {jobs}: must be at least 1.")
    paths = notebooks(names, root)
    if not paths:
        print(NONE)
    waiting = [path for path in paths if fresh or record_of(path, profile, root) is None]
    for path in paths:
        if path not in waiting:
            print(f"{path.stem}: up to date", flush=True)
    jobs = jobs or max(1, (os.cpu_count() or 2) // 2)
    active, failures = {}, []
    stack = contextlib.ExitStack()
    try:
        if waiting:
            stack.enter_context(_store(root, own_store, fresh))
        while waiting or active:
            while waiting and len(active) < jobs:
                path = waiting.pop(0)
                active[_start(path, profile, root)] = (path, time.perf_counter())
                print(f"{path.stem}: running ({profile})", flush=True)
            for process in [p for p in active if p.poll() is not None]:
                path, began = active.pop(process)
                seconds = time.perf_counter() - began
                told = process.stdout.read().strip().splitlines() or [""]
                if process.returncode:
                    log = _log_of(path, profile, root)
                    failures.append(told[-1] or f"{path.name}: killed, see {log}")
                    print(f"{path.stem}: FAILED after {seconds:.0f} s", flush=True)
                else:
                    left = f"{len(waiting) + len(active)} to go"
                    print(f"{path.stem}: done in {seconds:.0f} s{told[-1]}; {left}", flush=True)
            time.sleep(0.1)
    except KeyboardInterrupt:
        _signals.ending()
        raise
    finally:
        for process in active:  # Ctrl-C or an error: end the kernels with their runners
            process.terminate()
        for process in active:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()  # its kernel sees it and ends too
        stack.close()
    if failures:
        raise Failed("\n".join(failures))


def _log_of(path: Path, profile: str, root: Path) -> Path:
    return root / "build" / profile / f"{path.stem}.log"


def _start(path: Path, profile: str, root: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tools.notebooks", f"--root={root}", "one", str(path), profile]
    log = _log_of(path, profile, root)  # kernels and TensorFlow talk a lot
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w", encoding="utf-8") as stderr:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C reaches `run` alone, which ends its workers in order
        )


def then(command: list[str]) -> int:
    """Run ``command`` to its end, or end it and all that it started; 0 if it succeeded, else 1."""
    # A group of its own, so that Ctrl-C reaches it through here, and `kill` all of it.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return 1 if process.wait() else 0
    except KeyboardInterrupt:
        _signals.ending()
        end_group(process)
        raise


def accept(names=(), root: Path = ROOT) -> None:
    """Take the executed copies (quick) as the committed notebooks."""
    paths = notebooks(names, root)
    stale = [path.stem for path in paths if record_of(path, "quick", root) is None]
    if stale:
        raise Failed(f"Not run since the last change: {', '.join(stale)}. `make run-all` first.")
    if not paths:
        print(NONE)
    for path in paths:
        text = text_of(normalise(read(root / "build" / "quick" / path.name)))
        if text != path.read_text(encoding="utf-8"):
            _write(path, text)
            print(f"{path.stem}: accepted", flush=True)
        else:
            print(f"{path.stem}: unchanged", flush=True)


def main(arguments=None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("run", "run every notebook that is not up to date"),
        ("check", "hold the committed notebooks against the gates"),
        ("accept", "take the executed copies as the committed notebooks"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("names", nargs="*", help="notebooks, e.g. 02_step_decay; default all")
        if name == "run":
            command.add_argument("--profile", default="quick", help="quick (default) or full")
            command.add_argument("--jobs", type=int, help="notebooks at a time")
            command.add_argument(
                "--own-store", action="store_true", help="compute, with an empty store under build/"
            )
            command.add_argument(
                "--fresh",
                action="store_true",
                help="run all, and read no store",
            )
            command.add_argument(
                "--then",
                nargs=argparse.REMAINDER,
                metavar="COMMAND",
                help="run this afterwards, whether or not a notebook failed; stands last",
            )
    one = commands.add_parser("one", help="run a single notebook in this process")
    for name in ("path", "profile"):
        one.add_argument(name)
    options = parser.parse_args(arguments)
    command = getattr(options, "then", None)
    try:
        try:
            code = _told(options)
        except Exception:  # a fault of the runner itself does not keep the rest from being run
            if not command:
                raise
            traceback.print_exc()
            code = 1
        return max(code, then(command)) if command else code
    except KeyboardInterrupt:
        _signals.ending()
        print("Interrupted; finished notebooks are kept, the next run goes on from there.")
        return 130


def _told(options) -> int:
    """Do what the command line says; a failure is printed, and its code returned."""
    try:
        if options.command == "run":
            run(
                options.names,
                options.profile,
                options.jobs,
                options.root,
                own_store=options.own_store,
                fresh=options.fresh,
            )
        elif options.command == "check":
            check(notebooks(options.names, options.root))
        elif options.command == "accept":
            accept(options.names, options.root)
        else:
            end_with_parent()
            record = execute(Path(options.path), options.profile, options.root)
            peak = f", peak {record['peak_mb']} MB" if record["peak_mb"] else ""
            print(f"{peak}, slowest cell {record['slowest_cell_seconds']} s")
    except Failed as sentence:
        print(sentence, flush=True)
        return sentence.code
    return 0


if __name__ == "__main__":
    # Ended politely (by `run`, a time limit, a cancelled job), it still ends its kernels.
    _signals.interruptible()
    sys.exit(main())
