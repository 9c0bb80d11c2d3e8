"""Run, check and accept the notebooks: ``python -m tools.notebooks run | check | accept``.

``run`` executes every notebook once through papermill, in parallel, into ``build/<profile>/``;
a notebook whose code, module and settings have not changed is not run again. ``check`` holds the
committed notebooks against the gates. ``accept`` takes the executed copies as the committed ones.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
PROFILES = ("quick", "full")
MACHINE_PATH = re.compile(
    r"(?:(?<![A-Za-z0-9_.$~/-])|file://)/(?:home|root|work|tmp|Users|private|mnt)/\w"
    r"|[A-Za-z]:\\\\?Users"
)


class Failed(Exception):
    """A sentence for the person at the terminal."""


def notebooks(names=(), root: Path = ROOT) -> list[Path]:
    """The notebooks to work on, by name or all of them, in the order of the course."""
    found = {path.stem: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    for name in names:
        if Path(name).stem not in found:
            raise Failed(f"No notebook {name!r}; there are: {', '.join(found) or 'none'}.")
    return [found[Path(name).stem] for name in names] if names else list(found.values())


def read(path: Path):
    """The notebook at ``path``, format 4."""
    return nbformat.read(path, as_version=4)


def _write(path: Path, text: str) -> None:
    """Write ``text`` in one step: another process sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


# ------------------------------------------------------------------------------ normal form


def normalise(notebook):
    """The one form in which a notebook is committed; applied twice it changes nothing.

    Kept: sources, outputs, tags, cell ids. Dropped: papermill's cell, metadata and timings,
    widget state, the interpreter's patch version. Execution counts become 1, 2, 3, ...
    """
    notebook = nbformat.from_dict(json.loads(json.dumps(notebook)))
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    cells, count = [], 0
    for cell in notebook.cells:
        if "injected-parameters" in cell.metadata.get("tags", []):
            continue
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type == "code":
            if cell.execution_count is not None:
                count += 1
                cell.execution_count = count
            cell.outputs = _joined(cell.outputs)
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = cell.execution_count
                if "data" in output:
                    output.data.pop("application/vnd.jupyter.widget-view+json", None)
        cells.append(cell)
    notebook.cells = cells
    return notebook


def _joined(outputs) -> list:
    """Outputs with neighbouring pieces of a stream as one: where it is cut is chance."""
    joined = []
    for output in outputs:
        before = joined[-1] if joined else None
        if before and output.output_type == before.output_type == "stream":
            if output.name == before.name:
                before.text += output.text
                continue
        joined.append(output)
    return joined


def text_of(notebook) -> str:
    """The notebook as the text of its file."""
    return nbformat.writes(notebook, version=4) + "\n"


# ------------------------------------------------------------------------------------ gates


def problems_of(path: Path) -> list[str]:
    """Everything that keeps the notebook at ``path`` from being committed, a sentence each."""
    notebook, found = read(path), []

    def say(sentence, number=None, cell=None):
        where = "" if number is None else f", cell {number} ({_first_line(cell)})"
        found.append(f"{path.name}{where}: {sentence}")

    if path.stat().st_size > 1_000_000:
        say("larger than 1 MB")
    counts = []
    for number, cell in enumerate(notebook.cells, 1):
        # A line break in JSON is a backslash and an n, which would hide a path behind it.
        if MACHINE_PATH.search(json.dumps(cell).replace("\\n", "\n")):
            say("holds a path of somebody's machine", number, cell)
        if cell.cell_type != "code":
            continue
        if not cell.source.strip():
            say("is empty", number, cell)
            continue
        if len(cell.source.splitlines()) > 40:
            say("is longer than 40 lines", number, cell)
        counts.append(cell.execution_count)
        if cell.execution_count is None:
            say("was never run", number, cell)
        for output in cell.outputs:
            if output.output_type == "error":
                say(f"ended in {output.ename}", number, cell)
            if output.get("name") == "stderr":
                say("wrote to stderr", number, cell)
            for mime in output.get("data", {}):
                if mime.startswith("image/"):
                    alt = output.metadata.get(mime, {}).get("alt", "")
                    if not str(alt).strip():
                        say("shows a figure without alt text", number, cell)
    run = [count for count in counts if count is not None]
    if run != sorted(run) or len(set(run)) < len(run):
        say("its cells were not run in order")
    defined = parameters_of(notebook)
    if defined is None:
        say("no cell is tagged `parameters`")
    elif "PROFILE" not in defined:
        say("the parameters cell does not define PROFILE, which is injected")
    if not found and text_of(normalise(notebook)) != path.read_text(encoding="utf-8"):
        say("is not in normal form (run `make accept`)")
    return found


def parameters_of(notebook) -> set[str] | None:
    """Names that the cell tagged ``parameters`` assigns; None if there is no such cell."""
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            return set(re.findall(r"^(\w+)\s*(?::[^=]+)?=", cell.source, re.MULTILINE))
    return None


def _first_line(cell) -> str:
    lines = cell.source.strip().splitlines() or [""]
    return lines[0][:60]


def check(paths: list[Path]) -> None:
    """Print every problem of the notebooks; ``Failed`` if there is one."""
    found = [sentence for path in paths for sentence in problems_of(path)]
    for sentence in found:
        print(sentence)
    if found:
        raise Failed(f"{len(found)} problem(s) in {len(paths)} notebook(s).")
    print(f"{len(paths)} notebook(s) pass every gate.")


# ---------------------------------------------------------------------------------- running


def key_of(path: Path, profile: str, root: Path = ROOT) -> str:
    """A hash of everything that decides what the notebook's run gives."""
    digest = hashlib.sha256(f"{profile} {sys.version_info[:2]}".encode())
    for cell in normalise(read(path)).cells:
        digest.update(json.dumps([cell.cell_type, cell.source, cell.metadata]).encode())
    shared = [*sorted((root / "anneal_utils").glob("*.py")), Path(__file__).resolve()]
    for file in [*shared, root / "requirements.txt"]:
        if file.exists():
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def record_of(path: Path, profile: str, root: Path = ROOT) -> dict | None:
    """What is known of the run of exactly this notebook; None if it has to be run."""
    target = root / "build" / profile / path.name
    try:
        record = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        key, figures = record["key"], [root / "figures" / name for name in record["figures"]]
    except (OSError, ValueError, KeyError, TypeError):  # absent or damaged
        return None
    whole = target.exists() and all(figure.exists() for figure in figures)
    return record if whole and key == key_of(path, profile, root) else None


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
                # TensorFlow's C++ log goes to the terminal, not into cells.
                extra_arguments=["--IPKernelApp.capture_fd_output=False"],
            )
        except papermill.PapermillExecutionError as error:
            # papermill counts the parameters it injected, and adds two cells about the error.
            ran = read(Path(folder) / path.name).cells[: error.cell_index + 3]
            added = {"injected-parameters", "papermill-error-cell-tag"}
            own = [c for c in ran if not added.intersection(c.metadata.get("tags", []))]
            told = " ".join(error.evalue.split())[:300]  # `run` prints one line each
            raise Failed(
                f"{path.name}, cell {len(own)} ({_first_line(own[-1])}): {error.ename}: {told}"
            ) from None
        executed = read(Path(folder) / path.name)
        seconds = [
            c.metadata.get("papermill", {}).get("duration") or 0
            for c in executed.cells
            if c.cell_type == "code"
        ]
        names = sorted(file.name for file in figures.iterdir())
        (root / "figures").mkdir(exist_ok=True)
        for name in names:
            partial = root / "figures" / f".{name}.part"
            shutil.copyfile(figures / name, partial)
            partial.replace(root / "figures" / name)
    record = {
        "key": key,
        "seconds": round(time.perf_counter() - start, 1),
        "slowest_cell_seconds": round(max(seconds, default=0), 1),
        "figures": names,
    }
    _write(target, text_of(normalise(executed)))
    _write(target.with_suffix(".json"), json.dumps(record, indent=1))
    return record


def run(names=(), profile: str = "quick", jobs: int | None = None, root: Path = ROOT) -> None:
    """Run what is not up to date, ``jobs`` notebooks at a time, each in its own process."""
    if profile not in PROFILES:
        raise Failed(f"Profile {profile!r} is unknown; there are: {', '.join(PROFILES)}.")
    if jobs is not None and jobs < 1:
        raise Failed(f"jobs = {jobs}: must be at least 1.")
    paths = notebooks(names, root)
    todo = [path for path in paths if record_of(path, profile, root) is None]
    for path in paths:
        if path not in todo:
            print(f"{path.stem}: up to date", flush=True)
    jobs = jobs or min(len(todo), max(1, (os.cpu_count() or 2) // 2)) or 1
    active, failures, waiting = {}, [], list(todo)
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                path = waiting.pop(0)
                active[_start(path, profile, root)] = (path, time.perf_counter())
                print(f"{path.stem}: running ({profile})", flush=True)
            for process in [p for p in active if p.poll() is not None]:
                path, began = active.pop(process)
                seconds = time.perf_counter() - began
                if process.returncode:
                    sentence = process.stdout.read().strip().splitlines()
                    failures.append(
                        sentence[-1]
                        if sentence
                        else f"{path.name}: killed, see {_log_of(path, profile, root)}"
                    )
                    print(f"{path.stem}: FAILED after {seconds:.0f} s", flush=True)
                else:
                    left = len(waiting) + len(active)
                    print(f"{path.stem}: done in {seconds:.0f} s, {left} to go", flush=True)
            time.sleep(0.1)
    finally:
        for process in active:  # Ctrl-C or an error: end the kernels with their runners
            process.terminate()
        for process in active:
            process.wait()
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
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=stderr, text=True, encoding="utf-8"
        )


def accept(names=(), root: Path = ROOT) -> None:
    """Take the executed copies (quick) as the committed notebooks."""
    for path in notebooks(names, root):
        if record_of(path, "quick", root) is None:
            raise Failed(f"{path.stem} has changed since its last run: `make run-all` first.")
        executed = read(root / "build" / "quick" / path.name)
        text = text_of(normalise(executed))
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
    one = commands.add_parser("one", help="run a single notebook in this process")
    for name in ("path", "profile"):
        one.add_argument(name)
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            run(options.names, options.profile, options.jobs, options.root)
        elif options.command == "check":
            check(notebooks(options.names, options.root))
        elif options.command == "accept":
            accept(options.names, options.root)
        else:
            execute(Path(options.path), options.profile, options.root)
    except Failed as sentence:
        print(sentence, flush=True)
        usage = str(sentence).startswith(("No notebook", "Profile", "jobs"))
        return 2 if usage else 1
    except KeyboardInterrupt:
        print("Interrupted; finished notebooks are kept, the next run goes on from there.")
        return 130
    return 0


if __name__ == "__main__":
    # Ended politely (by `run`, a time limit, a cancelled job), it still ends its kernel.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
