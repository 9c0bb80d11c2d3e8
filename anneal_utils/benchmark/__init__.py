"""Every schedule against every other, under one protocol, on one machine or on a cluster.

A *method* is an optimizer with a schedule (and its knobs); it competes on a problem at a horizon.
The protocol gives every method the same number of trials: a logarithmic grid of peaks, around a
centre that one coarse scan finds for all methods of the same problem, optimizer and horizon, and
extended past an edge until the best peak lies inside. Tuning seeds and report seeds are disjoint;
the tuned peak alone is run again on the report seeds, the same for all methods; a diverged run
counts as ``problem.chance_loss`` and as a failure. Sources: Choi et al. 2019 (search spaces),
Schneider et al. 2019 (sensitivity), Schmidt et al. 2021 (equal budgets). Taught in notebook 07.

Runs are computed in chunks: in this process, over processes, or on a Dask cluster, with the same
bits. Finished runs are kept in the store (see :mod:`anneal_utils.store`), so an interrupted
benchmark goes on where it was.

    python -m anneal_utils.benchmark run --profile quick
    python -m anneal_utils.benchmark show
"""

import importlib

from anneal_utils import _needs

# A room is imported when something in it is asked for: TensorFlow takes seconds, and the command
# line has to be able to answer a Ctrl-C before that.
_ROOMS = {
    "protocol": (
        *("DOWNLOADS", "METHOD", "PROFILES", "Protocol", "TUNING", "default_problems"),
        *("optimizer_names", "register_optimizer", "settings"),
    ),
    "entrants": ("parse",),
    "chunks": ("Chunk", "FORMAT"),
    "planning": (),
    "trials": (),
    "plugins": ("Plugin",),
    "tasks": ("Stopped",),
    "executors": (),
    "finished": ("CACHE", "Cache"),
    "driver": ("RUNS_PER_TASK",),
    "results": ("COMMITTED", "OUT", "Results", "load", "save"),
    "staleness": ("stale",),
    "running": ("run",),
    "analysis": (
        *("against", "anytime", "best_of_k", "cube", "paired", "profile", "ranking", "ratios"),
        *("regret", "select", "sensitivity", "sensitivity_widths", "worst_case"),
    ),
    "advice": ("recommendation",),
    "commands": ("EXAMPLES", "main"),
}
__all__ = sorted(name for names in _ROOMS.values() for name in names)


def __getattr__(name: str):
    """A public name, or a room, at its first use."""
    for room, names in _ROOMS.items():
        if name == room or name in names:
            if missing := _needs.tensorflow(__name__):
                raise ImportError(missing)
            module = importlib.import_module(f"{__name__}.{room}")
            found = module if name == room else getattr(module, name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names too, before they are used."""
    return sorted({*globals(), *__all__})
