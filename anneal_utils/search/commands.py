"""The command line: run, show."""

import argparse
import sys
from pathlib import Path

from anneal_utils import _checks, _signals, optimizers, schedules, search
from anneal_utils.benchmark.entrants import maker_of, parse, problem_of
from anneal_utils.search.plan import Task, tasks
from anneal_utils.search.results import OUT, Result, load, path_of, read, save
from anneal_utils.search.running import carried_out, holds
from anneal_utils.search.telling import text

EXAMPLES = """examples:
  python -m anneal_utils.search run --problem digits least_squares --optimizer momentum
  python -m anneal_utils.search run --problem digits_noisy:noise=0.4 --generations 80
  python -m anneal_utils.search run      # the plan: an hour or two, by what else the machine does
  python -m anneal_utils.search show --out data/search
An interrupted search goes on when the same command is given again.
"""


# Of a search of one's own; the plan says its own.
_DEFAULTS = {
    "optimizer": ["momentum"],
    "knots": 9,
    "generations": 40,
    "population": 16,
    "seeds": 4,
    "start": "flat",
    "seed": 0,
    "epochs": None,
    "report_seeds": 40,
}


def _parser() -> argparse.ArgumentParser:
    kind = dict(
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser = argparse.ArgumentParser(
        prog="python -m anneal_utils.search", description=search.__doc__.splitlines()[0], **kind
    )
    commands = parser.add_subparsers(dest="command", required=True)
    go = commands.add_parser("run", help="search, and report beside the usual schedules", **kind)
    own = "name, or name:knob=value (default: all that data/search/plan.toml says)"
    go.add_argument("--problem", nargs="+", metavar="P", help=own)
    what = 'of the plan: "problems", or what is varied, as "horizon"'
    go.add_argument("--only", nargs="+", metavar="WHAT", help=what)
    go.add_argument("--optimizer", nargs="+", metavar="O", help="default momentum")
    go.add_argument("--knots", type=int, help="default 9")
    go.add_argument("--generations", type=int, help="default 40")
    go.add_argument("--population", type=int, help="candidates of a generation (default 16)")
    go.add_argument("--seeds", type=int, help="runs of a candidate (default 4)")
    go.add_argument("--start", help='"flat" (default), or a schedule\'s name')
    go.add_argument("--seed", type=int, help="of the search (default 0)")
    go.add_argument("--epochs", type=int, help="the horizon (default: the problem's)")
    go.add_argument("--report-seeds", type=int, help="report runs of a schedule (default 40)")
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
    todo = _asked(options) if options.problem else _planned(options)
    for task in todo:
        known = read(path_of(options.out, task.problem, task.optimizer, task.seed))
        base = None if task.of is None else read(path_of(options.out, *task.of))
        if known is not None and holds(known, task, base):
            print(f"{_name(task)}: is there.", flush=True)
            continue
        result = carried_out(task, base, store=options.cache)
        save(result, options.out)
        print(_line(result), flush=True)


def _asked(options) -> list[Task]:
    """The searches that the arguments describe."""
    if options.only:
        _checks.fail("only", options.only, "is of the plan, and goes without --problem")
    chosen = {**_DEFAULTS, **{k: v for k, v in _own(options).items() if v is not None}}
    optimizers_, epochs = chosen.pop("optimizer"), chosen.pop("epochs")
    rest = dict(seed=chosen.pop("seed"), start=chosen.pop("start"))
    for name, value in chosen.items():
        _checks.count(name, value)
    _checks.choice("start", rest["start"], ["flat", *schedules.names()])
    ending = "" if epochs is None else f":epochs={epochs}"
    problems = [f"{problem}{ending}" for problem in options.problem]
    for problem in problems:  # all names are checked before the first search
        problem_of(problem)
    for optimizer in optimizers_:
        _checks.choice("optimizer", parse(optimizer)[0], optimizers.catalogue.registry.names())
        maker_of(optimizer)
    return [Task(p, o, chosen, **rest) for p in problems for o in optimizers_]


def _own(options) -> dict:
    """The arguments that describe a search of one's own; None where they are not given."""
    return {name: getattr(options, name) for name in _DEFAULTS}


def _planned(options) -> list[Task]:
    """Those of the plan."""
    if said := [name for name, value in _own(options).items() if value is not None]:
        _checks.fail("problem", None, f"must be given with --{said[0].replace('_', '-')}")
    todo = tasks()
    kinds = dict.fromkeys(task.what or "problems" for task in todo)
    for kind in options.only or ():
        _checks.choice("only", kind, list(kinds))
    return [task for task in todo if not options.only or (task.what or "problems") in options.only]


def _name(task: Task) -> str:
    return f"{task.problem}, {task.optimizer}" + (f", seed {task.seed}" if task.seed else "")


def _line(result: Result) -> str:
    told = result.report
    best = told.best(tune=True)
    effect = told.against(best)
    return (
        f"{result.found.problem}, {result.found.optimizer}: {effect.estimate:+.1f} % "
        f"[{effect.low:.1f}, {effect.high:.1f}] of {told.part} loss against {best}, the best usual "
        f"one on tune; {effect.n} seeds, {result.provenance['minutes']} minutes."
    )


def _show(options) -> None:
    print(text(load(options.out)))
