"""What a contrast hangs on: one group, one problem, the scale on which losses are compared."""

from collections.abc import Iterable, Mapping

from anneal_utils import _checks
from anneal_utils.benchmark.contrasts import differences, effects, percent, require_scale
from anneal_utils.benchmark.draws import Drawn

import pandas as pd

_ENDS = ["percent", "low", "high"]


def left_out(
    drawn: Drawn, contrasts: Iterable[Mapping], *, by: str = "group", margin, level=0.95, **which
) -> pd.DataFrame:
    """Each contrast again without each group of problems, or (``by="problem"``) each problem.

    Columns: name, without (the group or the problem), percent, low, high, verdict, as in
    ``contrasts.table`` of what is left (Holm over the contrasts). A contrast that was measured
    nowhere else has no row. ``ValueError`` for another ``by``.
    """
    _checks.choice("by", by, ("group", "problem"))
    require_scale(drawn, "log")
    contrasts = list(contrasts)
    found = differences(drawn, contrasts, **which)
    problems = dict.fromkeys(problem for of in found for problem in of)
    parts = {problem: drawn.groups[problem] if by == "group" else problem for problem in problems}
    columns = ["name", "without", *_ENDS, "verdict"]
    frames = []
    for label in dict.fromkeys(parts.values()):
        rest = [{p: values for p, values in of.items() if parts[p] != label} for of in found]
        kept = [number for number, of in enumerate(rest) if of]
        if not kept:
            continue
        frame = effects([rest[number] for number in kept], drawn, margin=margin, level=level)
        frame = frame.rename(columns={"effect": "percent"}).set_axis(kept)
        frame[_ENDS] = percent(frame[_ENDS])
        names = [contrasts[number]["name"] for number in kept]
        frames.append(frame.assign(name=names, without=label)[columns])
    if not frames:
        return pd.DataFrame(columns=columns)
    return pd.concat(frames).sort_index(kind="stable", ignore_index=True)


def learned(
    drawn: Drawn, contrasts: Iterable[Mapping], *, level: float = 0.95, **which
) -> pd.DataFrame:
    """The contrasts in points: hundredths of what there was to learn on each problem.

    A ratio of losses is large where the lowest loss is near 0, however little of the learning it
    is; a point weighs alike everywhere. ``drawn``: with the scale "learned". Columns: name, points,
    low, high, verdict ("lower", "higher" or "not told apart": of the sign alone, after Holm).
    """
    require_scale(drawn, "learned")
    contrasts = list(contrasts)
    frame = effects(differences(drawn, contrasts, **which), drawn, margin=0.0, level=level)
    frame[["effect", "low", "high"]] *= 100
    frame.insert(0, "name", [contrast["name"] for contrast in contrasts])
    return frame.rename(columns={"effect": "points"}).drop(columns="p")
