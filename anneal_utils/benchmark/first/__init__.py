"""The first edition's protocol, kept for comparison while the course still shows its results.

A *method* is an optimizer with a schedule (and its knobs); it competes on a problem at a horizon.
Every method gets the same number of trials: a logarithmic grid of peaks, around a centre that one
coarse scan finds for all methods of the same problem, optimizer and horizon, and extended past an
edge until the best peak lies inside. Tuning seeds and report seeds are disjoint; the tuned peak
alone is run again on the report seeds, the same for all methods; a diverged run counts as
``problem.chance`` and as a failure. Knobs stand at their defaults, warmup too: that, and intervals
that hold the tuned peaks fixed, is what the second protocol mends. Taught in notebook 07.

    python -m anneal_utils.benchmark run --protocol 1 --profile quick
    python -m anneal_utils.benchmark show --protocol 1
"""

from anneal_utils import _lazy

_SHARED = "anneal_utils.benchmark"
_ROOMS = {
    f"{_SHARED}.entrants": ("parse",),
    "protocol": (
        *("DOWNLOADS", "METHOD", "PROFILES", "Protocol", "TUNING", "default_problems"),
        *("optimizer_names", "problem", "register_optimizer", "settings"),
    ),
    f"{_SHARED}.chunks": ("Chunk",),
    "planning": (),
    "tables": ("FORMAT",),
    "trials": (),
    f"{_SHARED}.plugins": ("Plugin",),
    f"{_SHARED}.tasks": ("Stopped",),
    f"{_SHARED}.finished": ("CACHE", "Cache"),
    f"{_SHARED}.driver": ("RUNS_PER_TASK",),
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
__getattr__, __dir__, __all__ = _lazy.rooms(__name__, _ROOMS, globals())
