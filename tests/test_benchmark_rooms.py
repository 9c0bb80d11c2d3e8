"""The benchmark's packages: what is public, which room knows which, and that asking is cheap."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

from anneal_utils import benchmark
from anneal_utils.benchmark import first

import pytest

PUBLIC = {
    "Axis": "low=0.0, high=0.0, scale='linear', zero=0.0, choice=()",
    "Cache": "store, mode",
    "Chunk": "problem, optimizer, epochs, schedule, knobs, peaks, seeds",
    "Drawn": "values, groups, scale, families=<factory>",
    "Entry": "load, group, ms, optimizers, methods, trials, tuning, report, downloaded=False",
    "Evidence": "trials, report, provenance, untuned=<factory>, ranges=<factory>",
    "Method": "label, schedule, knobs=<factory>, warmup=True",
    "Plan": "version, entries, methods, warmup, axes, protocol, untuned, reading, contrasts",
    "Plugin": "name, source",
    "Setting": "problem, optimizer, horizon",
    "budget": "evidence, horizon=1.0, families=()",
    "decision": "evidence, reading, *, rule, optimizers=('momentum', 'adamw'), draws=None",
    "design": "trials, seed",
    "difference": "drawn, plus, minus, **which",
    "drawn": "evidence, *, best_of=16, draws=2000, seed=0, scale='log', families=()",
    "learned": "drawn, contrasts, *, level=0.95, **which",
    "left_out": "drawn, contrasts, *, by='group', margin, level=0.95, **which",
    "load": "folder=PosixPath('build/benchmark'), problems=None",
    "main": "arguments=None",
    "parse": "text",
    "pooled": "differences, drawn",
    "profile": "drawn, at, horizon=1.0",
    "range_test": "problem, optimizer, seeds, rules",
    "run": (
        "plan=None, *, problems=None, schedules=None, optimizers=None, horizons=None, trials=None, "
        "tuning_seeds=None, report_seeds=None, out=None, fresh=False, jobs=1, dask=None, "
        "cache=None, plugins=(), mode='auto', progress=None"
    ),
    "save": "evidence, folder",
    "sentences": "evidence, reading, *, rule, draws=None",
    "stale": "evidence, *, sample=None, seed=0",
    "standings": "drawn, *, level=0.95, methods=None, **which",
    "table": "drawn, contrasts, *, margin, level=0.95, **which",
    "usable": "evidence, factor=1.25, horizon=1.0",
    "worst_case": "drawn, horizon=1.0",
}
OTHERS = {"COMMITTED", "EXAMPLES", "OUT", "RUNS_PER_TASK", "Stopped"}
FIRST = {
    "Cache": "store, mode",
    "Chunk": "problem, optimizer, epochs, schedule, knobs, peaks, seeds",
    "Plugin": "name, source",
    "Protocol": (
        "budget=7, tuning_seeds=10, seeds=20, ratio=2.0, extensions=8, scan_schedule='linear', "
        "scan_points=11, scan_ratio=4.0, peaks=None"
    ),
    "Results": "trials, report, provenance",
    "against": "results, baseline='constant', **which",
    "anytime": "results, **which",
    "best_of_k": "results, **which",
    "cube": "report, column='value'",
    "default_problems": "",
    "load": "folder=PosixPath('build/benchmark')",
    "main": "arguments=None",
    "optimizer_names": "",
    "paired": "results, name, baseline, **which",
    "parse": "text",
    "problem": "name",
    "profile": "results, at, **which",
    "ranking": "results, **which",
    "ratios": "report",
    "recommendation": "results",
    "register_optimizer": "name, make=None, *, centre, overwrite=False",
    "regret": "report, chance=None",
    "run": (
        "problems=None, schedules=None, optimizers=('sgd',), *, horizons=(1.0,), "
        "extra_horizons=None, extra_problems=None, jobs=1, dask=None, cache=None, plugins=(), "
        "mode='auto', progress=None, **protocol"
    ),
    "save": "results, folder",
    "select": "table, **which",
    "sensitivity": "results, **which",
    "sensitivity_widths": "trials, factor=1.2",
    "settings": "profile, **given",
    "stale": "results, *, sample=None, seed=0, problems=()",
    "worst_case": "results, **which",
}
FIRST_OTHERS = {
    *("CACHE", "COMMITTED", "DOWNLOADS", "EXAMPLES", "FORMAT", "METHOD", "OUT", "PROFILES"),
    *("RUNS_PER_TASK", "Stopped", "TUNING"),
}
PACKAGES = [(benchmark, PUBLIC, OTHERS), (first, FIRST, FIRST_OTHERS)]


def signature(function) -> str:
    """Names and defaults, without the types."""
    given = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in given.parameters.values()]
    return str(inspect.Signature(bare))[1:-1]


@pytest.mark.parametrize("package, public, others", PACKAGES)
def test_every_public_name_is_there_with_its_signature(package, public, others):
    assert {name: signature(getattr(package, name)) for name in public} == public
    assert set(package.__all__) == {*public, *others}
    assert set(package.__all__) <= set(dir(package))
    for name in others:
        assert hasattr(package, name)
    with pytest.raises(AttributeError, match="has no attribute 'rank'"):
        _ = package.rank
    with pytest.raises(ImportError, match="rank"):
        exec(f"from {package.__name__} import rank")


@pytest.mark.parametrize("package", [benchmark, first])
def test_the_arrows_between_the_rooms_go_one_way(package):
    folder, here = Path(package.__file__).parent, f"{package.__name__}."
    rooms = [room for room in package._ROOMS if "." not in room]  # a room knows those before it
    assert {path.stem for path in folder.glob("*.py")} - {"__main__"} == {*rooms, "__init__"}
    for number, room in enumerate(rooms):
        text = (folder / f"{room}.py").read_text()
        assert len(text.splitlines()) < 400
        known = {
            node.module.removeprefix(here)
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and node.module.startswith(here)
        }
        # The command line alone leads to the first edition's.
        known -= {"first"} if room == "commands" else set()
        assert known <= set(rooms[:number]), room


def test_nothing_slow_is_imported_before_it_is_asked_for():
    """Or Ctrl-C would find nobody who answers, see ``__main__``."""
    code = (
        "import sys\nfrom anneal_utils import benchmark\n"
        "assert not {'keras', 'tensorflow', 'pandas'} & set(sys.modules)\n"
        "assert 'run' in dir(benchmark)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
