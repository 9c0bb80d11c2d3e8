"""The command line: run, show."""

import argparse
import datetime
import platform
import sys
import time
from pathlib import Path

from anneal_utils import _signals, identity, optimizers, search, training
from anneal_utils.benchmark.chunks import cell_of
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.benchmark.plan import Plan
from anneal_utils.search.reporting import FOUND, report
from anneal_utils.search.results import OUT, Result, load, path_of, read, save
from anneal_utils.search.searching import search as search_for
from anneal_utils.search.usual import TUNING, tuned

import pandas as pd

EXAMPLES = """examples:
  python -m anneal_utils.search run --problem digits least_squares --optimizer momentum
  python -m anneal_utils.search run --problem digits_noisy:noise=0.4 --generations 80
  python -m anneal_utils.search show
An interrupted search goes on when the same command is given again.
"""


def _parser() -> argparse.ArgumentParser:
    kind = dict(
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser = argparse.ArgumentParser(
        prog="python -m anneal_utils.search", description=search.__doc__.splitlines()[0], **kind
    )
    commands = parser.add_subparsers(dest="command", required=True)
    go = commands.add_parser("run", help="search, and report beside the usual schedules", **kind)
    go.add_argument("--problem", nargs="+", metavar="P", help="name, or name:knob=value")
    go.add_argument("--optimizer", nargs="+", metavar="O", default=["momentum"])
    go.add_argument("--knots", type=int, default=9)
    go.add_argument("--generations", type=int, default=40)
    go.add_argument("--population", type=int, default=16, help="candidates of a generation")
    go.add_argument("--seeds", type=int, default=4, help="runs of a candidate")
    go.add_argument("--start", default="flat", help='"flat", or a schedule\'s name')
    go.add_argument("--seed", type=int, default=0, help="of the search")
    go.add_argument("--epochs", type=int, help="the horizon (default: the problem's)")
    go.add_argument("--report-seeds", type=int, default=40, help="report runs of a schedule")
    go.add_argument("--cache", type=Path, help="folder of finished runs (default: the store)")
    go.add_argument("--out", type=Path, default=OUT, help="folder (default build/search)")
    table = commands.add_parser("show", help="what was found, against the best usual", **kind)
    table.add_argument("--out", type=Path, default=OUT, help="folder (default build/search)")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 (bad input) or 130 (Ctrl-C, ``kill``)."""
    options = _parser().parse_args(arguments)
    try:
        {"run": _run, "show": _show}[options.command](options)
    except KeyboardInterrupt:
        return _stopped()
    except (ValueError, OSError) as error:
        if _signals.asked():
            return _stopped()
        print(str(error), file=sys.stderr)
        return 2
    except Exception:
        if not _signals.asked():
            raise
        return _stopped()  # TensorFlow, cut short while it traces, may raise something else
    return 0


def _stopped() -> int:
    _signals.ending()
    print("Stopped: the same command goes on from here.", file=sys.stderr)
    return 130


def _run(options) -> None:
    chosen = options.problem or list(Plan.read().select().entries)
    for problem in chosen:  # all names are checked before the first search
        problem_of(problem)
    for optimizer in options.optimizer:
        optimizers.catalogue.maker(optimizer)
    for problem in chosen:
        for optimizer in options.optimizer:
            known = read(path_of(options.out, problem, optimizer))
            if known is not None and _holds(known, options):
                print(f"{problem}, {optimizer}: is there.", flush=True)
                continue
            result = _one(problem, optimizer, options)
            save(result, options.out)
            print(_line(result), flush=True)


def _given(options) -> dict:
    """The arguments of the search."""
    names = ("knots", "generations", "population", "seeds", "start", "seed")
    return {name: getattr(options, name) for name in names}


def _one(problem: str, optimizer: str, options) -> Result:
    """Tune the usual schedules, search, report."""
    started = time.time()
    common = dict(epochs=options.epochs, store=options.cache)
    usual = tuned(problem, optimizer, **common)
    found = search_for(problem, optimizer, **_given(options), **common)
    told = report(found, usual, seeds=range(options.report_seeds), store=options.cache)
    provenance = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        # Of this call: what an earlier one has computed is read.
        "minutes": round((time.time() - started) / 60, 2),
        "computed": found.history.attrs["computed"],
        "read": found.history.attrs["read"],
        "seeds": {"tuning": TUNING, "search": list(found.seeds), "report": options.report_seeds},
        "versions": {"python": platform.python_version(), "numpy": identity.version("numpy")}
        | {"cma": identity.version("cma")},
        "environment": identity.environment(),
        "machine": {"cores": training.cores(), "processor": identity.processor()},
    }
    return Result(found, told, provenance)


def _holds(known: Result, options) -> bool:
    """Whether a result is of these arguments, and its runs are still what was run."""
    found = known.found
    asked = options.epochs or problem_of(found.problem).epochs
    same = {name: found.arguments.get(name) for name in _given(options)} == _given(options)
    seeds = list(known.report.losses.index)
    if not same or found.epochs != asked or seeds != list(range(options.report_seeds)):
        return False
    problem, optimizer = found.setting
    recipe = {FOUND: found.recipe}
    runs = training.grid(recipe, (), seeds, optimizer, epochs=found.epochs)
    return cell_of(training.identities(problem, runs)) == known.report.cells[FOUND]


def _line(result: Result) -> str:
    told, best = result.report, result.report.best()
    effect = told.against(best)
    return (
        f"{result.found.problem}, {result.found.optimizer}: {effect.estimate:+.1f} % "
        f"[{effect.low:.1f}, {effect.high:.1f}] of {told.part} loss against {best}, tuned; "
        f"{effect.n} seeds, {result.provenance['minutes']} minutes."
    )


def _show(options) -> None:
    rows = []
    for result in load(options.out):
        told, best = result.report, result.report.best()
        effect = told.against(best)
        rows.append(
            {"problem": result.found.problem, "optimizer": result.found.optimizer}
            | {"best usual": best, "part": told.part, "percent": f"{effect.estimate:+.1f}"}
            | {"interval": f"[{effect.low:.1f}, {effect.high:.1f}]", "seeds": effect.n}
            | {"rates": " ".join(f"{rate:.2g}" for rate in result.found.rates)}
        )
    print("Loss of the found schedule against the best usual one, tuned; fresh paired seeds.")
    print(pd.DataFrame(rows).to_string(index=False))
