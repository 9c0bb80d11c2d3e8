"""Near-optimal learning-rate schedules, found by search: what can be had, not what is usual.

A schedule is a rate at each of nine knots, straight between them on a logarithmic axis. CMA-ES
(Hansen 2016, arXiv:1604.00772) moves all nine: each generation trains its candidates on the same
fresh seeds with the many-run trainer and ranks them by the held-out loss of the tune part. What it
finds is reported beside the usual schedules on seeds that nothing was chosen on, on the test part
where there is one. The question, and shapes sought apart from any family's formula, are those of
Naganuma, Agarwala, Kasimbeg & Dahl 2026 (arXiv:2603.10301). Taught in notebook 08.

    found = search.search("digits", "momentum")
    training.grid({"found": found.recipe}, seeds=range(20))
    search.report(found, {"cosine": ("cosine", 0.3)}).table()
    search.flatness(found)

    python -m anneal_utils.search run --problem digits --optimizer momentum
    python -m anneal_utils.search show

Finished runs are kept in the store (see :mod:`anneal_utils.store`), so an interrupted search goes
on where it was: what a generation tries follows from the arguments and the runs before it.
"""

from anneal_utils import _lazy

_ROOMS = {
    "knots": ("places_of",),
    "ends": ("SEEDS",),
    "usual": ("USUAL", "retuned", "tuned"),
    "found": ("Found",),
    "searching": ("search",),
    "reporting": ("ASIDE", "Report", "flatness", "report"),
    "results": ("COMMITTED", "OUT", "Result", "load", "save"),
    "plan": ("Task", "tasks"),
    "running": ("carried_out",),
    "drawing": ("draw",),
    "telling": ("regrets", "sentences", "table", "text", "varied"),
    "commands": ("main",),
}
__getattr__, __dir__, __all__ = _lazy.rooms(__name__, _ROOMS, globals())
