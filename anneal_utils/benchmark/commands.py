"""The command line: run, list, show, cost; ``--protocol 1`` is the first edition's."""

import argparse
import errno
import itertools
import os
import sys
from pathlib import Path

from anneal_utils import _signals, benchmark, optimizers, problems, schedules
from anneal_utils.benchmark import evidence, report
from anneal_utils.benchmark.plan import COMMITTED, Plan
from anneal_utils.benchmark.plugins import Plugin, load_plugin
from anneal_utils.benchmark.running import run
from anneal_utils.benchmark.tasks import Stopped

EXAMPLES = """examples:
  python -m anneal_utils.benchmark run --problem digits --schedule constant linear
  python -m anneal_utils.benchmark run --jobs 2 --out build/full
  python -m anneal_utils.benchmark run --dask tcp://127.0.0.1:8786
  python -m anneal_utils.benchmark run --plugin mine.py --schedule mine linear constant
  python -m anneal_utils.benchmark cost
  python -m anneal_utils.benchmark show --optimizer adamw --more
  python -m anneal_utils.benchmark run --protocol 1 --profile quick
An interrupted run goes on when the same command is given again; a problem that is done is in the
folder and is not computed again.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message):
        """End with the reason."""
        self.exit(2, f"{message[0].upper()}{message[1:].rstrip('.')}.\n")


def parser() -> argparse.ArgumentParser:
    """The parser of the present protocol."""
    whole = Parser(
        prog="python -m anneal_utils.benchmark",
        description=benchmark.__doc__.split("\n\n    python", 1)[0],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = whole.add_subparsers(dest="command", required=True)
    kind = dict(
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )

    def add(name: str, told: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=told, **kind)
        one.add_argument("--plugin", nargs="+", default=[], help="files that register more")
        return one

    def narrowed(one: argparse.ArgumentParser) -> None:
        one.add_argument("--problem", nargs="+", metavar="P", help="label, name or name:knob=value")
        one.add_argument("--schedule", nargs="+", metavar="S", help="method of the plan, or name")
        one.add_argument("--optimizer", nargs="+", metavar="O", help=", ".join(optimizers.names()))
        one.add_argument("--horizon", nargs="+", type=float, metavar="H", help="times the epochs")

    go = add("run", "compute, or go on computing, and compare")
    price = add("cost", "what the plan costs, problem by problem")
    for one in (go, price):
        narrowed(one)
        one.add_argument("--plan", type=Path, default=COMMITTED, help="default: the committed one")
        one.add_argument("--trials", type=int, help="of every method; a power of two")
        one.add_argument("--tuning-seeds", type=int, help="runs of every trial")
        one.add_argument("--seeds", type=int, help="report runs of every candidate")
    modes = ("auto", "graph", "xla")
    go.add_argument("--mode", choices=modes, default="auto", help="of training (default: auto)")
    go.add_argument("--jobs", type=int, default=1, help="processes (default: this one, threads)")
    go.add_argument("--dask", metavar="ADDRESS", help="of a running scheduler")
    go.add_argument("--cache", type=Path, help="folder of finished runs (default: the store)")
    go.add_argument("--fresh", action="store_true", help="also what the folder has already")
    go.add_argument("--protocol", type=int, choices=(1, 2), default=2, help="1: first edition's")
    table = add("show", "what finished results say")
    narrowed(table)
    told = "also worst cases, loss by budget, usable ranges, profiles, more intervals"
    table.add_argument("--more", action="store_true", help=told)
    for one in (go, table):
        one.add_argument("--out", type=Path, default=evidence.OUT, help=f"default {evidence.OUT}")
    add("list", "problems, schedules, optimizers, the plan")
    return whole


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code: 0, 2 (bad input, a stop) or 130 (Ctrl-C, `kill`)."""
    given, arguments = sys.argv[1:] if arguments is None else arguments, []
    for one in given:
        arguments += one.split("=") if one.startswith("--protocol=") else [one]
    if (place := _first(arguments)) is None:
        chosen, handlers = parser(), {"run": _run, "list": _list, "show": _show, "cost": _cost}
    else:
        from anneal_utils.benchmark.first import commands as first

        del arguments[place : place + 2]
        chosen, handlers = first.parser(), first.HANDLERS
    options = chosen.parse_args(arguments)
    try:
        handlers[options.command](options)
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


def _first(arguments: list[str]) -> int | None:
    """Where ``--protocol 1`` stands, if it does."""
    pairs = itertools.pairwise(arguments)
    return next((i for i, pair in enumerate(pairs) if pair == ("--protocol", "1")), None)


def _stopped() -> int:
    """The end that a signal asks for."""
    _signals.ending()
    print("Stopped: the same command goes on from here.", file=sys.stderr)
    return 130


def _given(options) -> dict:
    return dict(
        problems=options.problem,
        schedules=options.schedule,
        optimizers=options.optimizer,
        horizons=options.horizon,
        trials=options.trials,
        tuning_seeds=options.tuning_seeds,
        report_seeds=options.seeds,
    )


def _run(options) -> None:
    found = run(
        options.plan,
        **_given(options),
        out=options.out,
        fresh=options.fresh,
        jobs=options.jobs,
        dask=options.dask,
        cache=options.cache,
        mode=options.mode,
        plugins=options.plugin,
    )
    computed = sum(facts["runs"]["computed"] for facts in found.provenance.values())
    read = sum(facts["runs"]["from_cache"] for facts in found.provenance.values())
    print(f"{computed} runs computed, {read} read from the store.")
    print(report.text(found, Plan.read(options.plan)))


def _cost(options) -> None:
    _plugins(options)
    table = benchmark.running.planned(options.plan, **_given(options)).cost()
    print(table.to_string(index=False, float_format="{:.1f}".format))
    print(f"{table['runs'].sum()} runs, {table['minutes'].sum():.0f} minutes.")


def _show(options) -> None:
    _plugins(options)
    which = dict(problem=options.problem, schedule=options.schedule, optimizer=options.optimizer)
    which = {name: value for name, value in which.items() if value is not None}
    if options.horizon is not None:
        which["horizon"] = options.horizon
    print(report.text(evidence.load(options.out).select(**which), more=options.more))


def _list(options) -> None:
    _plugins(options)
    plan = Plan.read()
    print("problems of the plan: " + ", ".join(plan.entries))
    print("problems: " + ", ".join(problems.names()))
    print("methods of the plan: " + ", ".join(plan.methods))
    print("schedules: " + ", ".join(schedules.names()))
    print("optimizers: " + ", ".join(optimizers.names()))
    print(f"plan: version {plan.version}, {plan.digest}")


def _plugins(options) -> None:
    for path in options.plugin:
        load_plugin(Plugin.read(path))
