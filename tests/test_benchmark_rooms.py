"""The benchmark's package: what is public, which room knows which, and that asking is cheap."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

from anneal_utils import benchmark

import pytest

PUBLIC = {
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
OTHERS = {
    *("CACHE", "COMMITTED", "DOWNLOADS", "EXAMPLES", "FORMAT", "METHOD", "OUT", "PROFILES"),
    *("RUNS_PER_TASK", "Stopped", "TUNING"),
}
FOLDER = Path(benchmark.__file__).parent
ROOMS = list(benchmark._ROOMS)  # in this order: a room knows those before it


def signature(function) -> str:
    """Names and defaults, without the types."""
    given = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in given.parameters.values()]
    return str(inspect.Signature(bare))[1:-1]


def test_every_public_name_is_there_with_its_signature():
    assert {name: signature(getattr(benchmark, name)) for name in PUBLIC} == PUBLIC
    assert set(benchmark.__all__) == {*PUBLIC, *OTHERS}
    assert set(benchmark.__all__) <= set(dir(benchmark))
    for name in OTHERS:
        assert hasattr(benchmark, name)
    with pytest.raises(AttributeError, match="has no attribute 'rank'"):
        _ = benchmark.rank
    with pytest.raises(ImportError, match="rank"):
        exec("from anneal_utils.benchmark import rank")


def test_the_arrows_between_the_rooms_go_one_way():
    assert {path.stem for path in FOLDER.glob("*.py")} == {*ROOMS, "__init__", "__main__"}
    for number, room in enumerate(ROOMS):
        text = (FOLDER / f"{room}.py").read_text()
        assert len(text.splitlines()) < 400
        known = {
            node.module.rpartition(".")[2]
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and node.module.startswith("anneal_utils.benchmark")
        }
        assert known <= set(ROOMS[:number]), room


def test_nothing_slow_is_imported_before_it_is_asked_for():
    """Or Ctrl-C would find nobody who answers, see ``__main__``."""
    code = (
        "import sys\nfrom anneal_utils import benchmark\n"
        "assert not {'keras', 'tensorflow', 'pandas'} & set(sys.modules)\n"
        "assert 'run' in dir(benchmark)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
