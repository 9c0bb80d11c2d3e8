"""The command line: run, list, show."""

import argparse
import sys
from pathlib import Path

from anneal_utils import schedules
from anneal_utils.benchmark import commands, first
from anneal_utils.benchmark.commands import Parser
from anneal_utils.benchmark.first.analysis import ranking
from anneal_utils.benchmark.first.protocol import (
    DOWNLOADS,
    METHOD,
    PROFILES,
    default_problems,
    optimizer_names,
    settings,
)
from anneal_utils.benchmark.first.results import OUT, Results, load, refuse_other_version, save
from anneal_utils.benchmark.first.running import run
from anneal_utils.benchmark.plugins import Plugin, load_plugin

import pandas as pd

EXAMPLES = """examples:
  python -m anneal_utils.benchmark run --protocol 1 --profile quick
  python -m anneal_utils.benchmark run --protocol 1 --problem digits --schedule cosine:warmup=0,0.1
  python -m anneal_utils.benchmark run --protocol 1 --profile full --jobs 2 --out build/full
  python -m anneal_utils.benchmark run --protocol 1 --dask tcp://127.0.0.1:8786
  python -m anneal_utils.benchmark run --protocol 1 --plugin mine.py --schedule mine cosine constant
  python -m anneal_utils.benchmark show --protocol 1 --optimizer sgd
An interrupted run goes on when the same command is given again.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the first protocol."""
    parser = Parser(
        prog="python -m anneal_utils.benchmark",
        description=first.__doc__.splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    added = parser.add_subparsers(dest="command", required=True)
    kind = dict(
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    go = added.add_parser("run", help="compute, or go on computing, and rank", **kind)
    go.add_argument("--profile", choices=list(PROFILES), default="quick", help="default: quick")
    go.add_argument("--problem", nargs="+", metavar="P", help="name, or name:knob=value")
    go.add_argument(
        "--schedule",
        nargs="+",
        metavar="S",
        help="name, or name:knob=value,value (variants share the budget)",
    )
    go.add_argument("--optimizer", nargs="+", metavar="O", help=", ".join(optimizer_names()))
    go.add_argument("--horizon", nargs="+", type=float, metavar="H", help="times the epochs")
    go.add_argument("--budget", type=int, help="trials of every method")
    go.add_argument("--peak", nargs="+", type=float, help="a first grid instead of the scan")
    go.add_argument("--seeds", type=int, help="report runs of every method")
    go.add_argument("--tuning-seeds", type=int, help="runs of every trial")
    go.add_argument("--ratio", type=float, help="between neighbouring peaks (default 2)")
    go.add_argument("--extensions", type=int, help="most trials past an edge (default 8)")
    modes = ("auto", "graph", "xla")
    go.add_argument("--mode", choices=modes, default="auto", help="of training (default: auto)")
    go.add_argument("--jobs", type=int, default=1, help="processes (default: this one, threads)")
    go.add_argument("--dask", metavar="ADDRESS", help="of a running scheduler")
    go.add_argument("--cache", type=Path, help="folder of finished runs (default: the store)")
    go.add_argument("--plugin", nargs="+", default=[], help="files that register more")
    go.add_argument("--out", type=Path, default=OUT, help="folder (default build/benchmark)")
    names = added.add_parser("list", help="problems, schedules, optimizers, profiles", **kind)
    names.add_argument("--plugin", nargs="+", default=[], help="files that register more")
    table = added.add_parser("show", help="the ranking of finished results", **kind)
    table.add_argument("--out", type=Path, default=OUT, help="folder (default build/benchmark)")
    for name in ("problem", "schedule", "optimizer"):
        table.add_argument(f"--{name}", nargs="+")
    table.add_argument("--horizon", type=float)
    table.add_argument("--plugin", nargs="+", default=[], help="files that register more")
    return parser


def _run(options) -> None:
    refuse_other_version(options.out)
    wanted = settings(
        options.profile,
        problems=options.problem,
        schedules=options.schedule,
        optimizers=options.optimizer,
        horizons=options.horizon,
        budget=options.budget,
        peaks=options.peak,
        seeds=options.seeds,
        tuning_seeds=options.tuning_seeds,
        ratio=options.ratio,
        extensions=options.extensions,
    )
    results = run(
        **wanted,
        jobs=options.jobs,
        dask=options.dask,
        cache=options.cache,
        mode=options.mode,
        plugins=options.plugin,
    )
    save(results, options.out)
    count = results.provenance["runs"]
    print(f"{count['computed']} runs computed, {count['from_cache']} read from the cache.")
    _print(results)


def _show(options) -> None:
    for path in options.plugin:
        load_plugin(Plugin.read(path))
    given = {name: getattr(options, name) for name in METHOD}
    _print(load(options.out), **{k: v for k, v in given.items() if v is not None})


def _print(results: Results, **which) -> None:
    horizons = results.provenance["horizons"]
    if "horizon" not in which and len(horizons) > 1 and 1.0 not in horizons:
        which["horizon"] = horizons[-1]
    table = ranking(results, **which)
    problems_, seeds = results.provenance["problems"], results.provenance["protocol"]["seeds"]
    chosen = which.get("problem", problems_)
    print(f"{len(chosen)} problems, {seeds} report seeds; rank 1 is best, interval over seeds.")
    text = {
        "schedule": table["schedule"],
        "rank": [
            f"{r:.2f} [{a:.2f}, {b:.2f}]" for r, a, b in table[["rank", "low", "high"]].values
        ],
        "regret": table["regret"].map("{:.3f}".format),
        "width": table["width"].map("{:.2f}".format),
        "failures": table["failures"].map("{:.1%}".format),
        "trials": table["trials"].map("{:.1f}".format),
        "interior": table["interior"].map("{:.0%}".format),
    }
    print(pd.DataFrame(text).to_string(index=False))


def _list(options) -> None:
    for path in options.plugin:
        load_plugin(Plugin.read(path))
    print("problems: " + ", ".join(default_problems()))
    print("  (with a download: " + ", ".join(DOWNLOADS) + ")")
    print("schedules: " + ", ".join(schedules.names()))
    print("optimizers: " + ", ".join(optimizer_names()))
    for name, profile in PROFILES.items():
        shown = {k: "all" if v is None else v for k, v in profile.items()}
        print(f"profile {name}: " + "; ".join(f"{k} {v}" for k, v in shown.items()))


def main(arguments: list[str] | None = None) -> int:
    """The command line with ``--protocol 1``."""
    given = sys.argv[1:] if arguments is None else arguments
    return commands.main(["--protocol", "1", *given])


HANDLERS = {"run": _run, "list": _list, "show": _show}
