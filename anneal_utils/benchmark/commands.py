"""The command line: run, list, show."""

import argparse
import errno
import os
import sys
from pathlib import Path

from anneal_utils import _signals, benchmark, schedules
from anneal_utils.benchmark.analysis import ranking
from anneal_utils.benchmark.plugins import Plugin, load_plugin
from anneal_utils.benchmark.protocol import (
    DOWNLOADS,
    METHOD,
    PROFILES,
    default_problems,
    optimizer_names,
    settings,
)
from anneal_utils.benchmark.results import OUT, Results, load, refuse_other_version, save
from anneal_utils.benchmark.running import run
from anneal_utils.benchmark.tasks import Stopped

import pandas as pd

EXAMPLES = """examples:
  python -m anneal_utils.benchmark run --profile quick
  python -m anneal_utils.benchmark run --problem digits --schedule constant cosine:warmup=0,0.1
  python -m anneal_utils.benchmark run --profile full --jobs 2 --out build/full
  python -m anneal_utils.benchmark run --dask tcp://127.0.0.1:8786
  python -m anneal_utils.benchmark run --plugin mine.py --schedule mine cosine constant
  python -m anneal_utils.benchmark show --optimizer sgd
An interrupted run goes on when the same command is given again.
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message):
        self.exit(2, f"{message[0].upper()}{message[1:].rstrip('.')}.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m anneal_utils.benchmark",
        description=benchmark.__doc__.splitlines()[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    kind = dict(
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    go = commands.add_parser("run", help="compute, or go on computing, and rank", **kind)
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
    names = commands.add_parser("list", help="problems, schedules, optimizers, profiles", **kind)
    names.add_argument("--plugin", nargs="+", default=[], help="files that register more")
    table = commands.add_parser("show", help="the ranking of finished results", **kind)
    table.add_argument("--out", type=Path, default=OUT, help="folder (default build/benchmark)")
    for name in ("problem", "schedule", "optimizer"):
        table.add_argument(f"--{name}", nargs="+")
    table.add_argument("--horizon", type=float)
    table.add_argument("--plugin", nargs="+", default=[], help="files that register more")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 (bad input, a stop) or 130 (Ctrl-C, `kill`)."""
    options = _parser().parse_args(arguments)
    try:
        {"run": _run, "list": _list, "show": _show}[options.command](options)
    except (ValueError, Stopped) as error:
        if _signals.asked():
            return _stopped()
        print(str(error), file=sys.stderr)
        return 2
    except BrokenPipeError:  # `| head`: everything was saved before it was printed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            print(
                "The disk is full: what was finished is kept; make room and start again.",
                file=sys.stderr,
            )
        else:
            print(
                f"{error.strerror or error}: {error.filename or ''}".rstrip(": "), file=sys.stderr
            )
        return 2
    except KeyboardInterrupt:
        return _stopped()
    except Exception:
        if not _signals.asked():
            raise
        return _stopped()  # TensorFlow, cut short while it traces, may raise something else
    return 0


def _stopped() -> int:
    """The end that a signal asks for."""
    _signals.ending()
    print("Stopped: the same command goes on from here.", file=sys.stderr)
    return 130


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
