"""Every schedule against every other, under one plan, on one machine or on a cluster.

A *method* is a shape with its knobs; it is tuned and compared in *settings*: a problem, an
optimizer, a horizon. What is compared, and how, is a file that was committed before the results,
``data/benchmark/plan.toml``: every method gets the same number of trials from one Sobol design
over peak, warmup and its own knobs; it is chosen on a problem's tune part and reported on the test
part, on fresh seeds; every interval draws the tuning seeds again and so chooses anew. Sources:
Choi et al. 2019 (search spaces), Schmidt et al. 2021 (equal budgets), Dahl et al. 2023 (tuning is
part of a method).

Runs are computed in chunks: in this process, over processes, or on a Dask cluster, with the same
bits. Finished runs are kept in the store (see :mod:`anneal_utils.store`), so an interrupted
benchmark goes on where it was.

    python -m anneal_utils.benchmark run --problem digits --schedule constant linear
    python -m anneal_utils.benchmark show
"""

from anneal_utils import _lazy

_ROOMS = {
    "spaces": ("Axis", "design"),
    "entrants": ("parse",),
    "plan": ("Entry", "Method", "Plan", "Setting"),
    "chunks": ("Chunk",),
    "tuning": (),
    "untuned": ("range_test",),
    "plugins": ("Plugin",),
    "tasks": ("Stopped",),
    "executors": (),
    "finished": ("Cache",),
    "driver": ("RUNS_PER_TASK",),
    "evidence": ("COMMITTED", "Evidence", "OUT", "load", "save"),
    "staleness": ("stale",),
    "running": ("run",),
    "draws": ("Drawn", "drawn"),
    "contrasts": ("difference", "pooled", "table"),
    "variations": ("learned", "left_out"),
    "views": ("budget", "profile", "standings", "usable", "worst_case"),
    "advice": ("decision", "sentences"),
    "report": (),
    "commands": ("EXAMPLES", "main"),
}
__getattr__, __dir__, __all__ = _lazy.rooms(__name__, _ROOMS, globals())
