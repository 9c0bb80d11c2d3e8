"""Labels that need no legend: names at the ends of lines, axes in per cent."""

from anneal_utils import _checks

import numpy as np
from matplotlib.ticker import FuncFormatter, MaxNLocator

LINE = 1.25  # distance of two labels, in heights of their font
LEADER = {  # from the end of a line to the left end of a label that stands elsewhere
    "arrowstyle": "-",
    "linewidth": 0.6,
    "alpha": 0.6,
    "relpos": (0, 0.5),
    "shrinkA": 1,
    "shrinkB": 0,
}


def label_ends(axes, names: dict[str, str] | None = None, *, size: float = 9.5) -> None:
    """Write the name of each line at its right end, in its colour, instead of a legend.

    ``names``: text by the label that a line was drawn with; by default every labelled line is
    named as it is labelled. Names that would overlap are moved apart, and a thin line leads from
    a moved one to its end. ``ValueError`` for a label that no line has.
    """
    lines = {
        str(line.get_label()): line
        for line in axes.get_lines()
        if not str(line.get_label()).startswith("_")
    }
    names = {label: label for label in lines} if names is None else names
    for label in names:
        _checks.choice("names", label, lines)
    if axes.get_legend():
        axes.get_legend().remove()
    figure = axes.figure
    figure.draw_without_rendering()  # the layout tells how high the axes are
    step = LINE * size / 72 * figure.dpi / axes.get_window_extent().height
    ends = {label: end for label in names if (end := _end(axes, lines[label])) is not None}
    order = sorted(ends, key=lambda label: ends[label][1])
    heights = _apart([ends[label][1] for label in order], step)
    for label, height in zip(order, heights, strict=True):
        colour, (x, y) = lines[label].get_color(), ends[label]
        moved = abs(height - y) > step / 4 or x < 0.9
        axes.annotate(
            names[label],
            xy=(x, y),
            xytext=(1.03, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            color=colour,
            fontsize=size,
            annotation_clip=False,
            arrowprops=LEADER | {"color": colour} if moved else None,
        )


def _end(axes, line) -> tuple[float, float] | None:
    """The last drawn point of a line, as shares of the axes; None if nothing was drawn."""
    points = np.column_stack([np.asarray(part, float) for part in line.get_data()])
    place = axes.transAxes.inverted().transform(axes.transData.transform(points))
    place = place[np.isfinite(place).all(axis=1)]
    if not len(place):
        return None
    return tuple(np.clip(place[-1], 0, 1))


def _apart(heights: list[float], step: float) -> list[float]:
    """Sorted heights, each at least ``step`` above the one before, moved as little as may be.

    Neighbours that are too close become one block around their mean, blocks that meet are joined,
    and a block that reaches out of 0 to 1 is moved inside, if all of them fit.
    """
    top = max(0.0, 1 - (len(heights) - 1) * step)
    # What each wants the lowest one's height to be, if there were no gaps: an increasing sequence
    # of them is all that is asked for (least squares: pool what is out of order).
    blocks: list[tuple[float, int]] = []  # mean wish, members
    for place, height in enumerate(heights):
        blocks.append((height - place * step, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (first, many), (second, more) = blocks[-2:]
            blocks[-2:] = [((first * many + second * more) / (many + more), many + more)]
    wishes = [min(max(wish, 0.0), top) for wish, members in blocks for _ in range(members)]
    return [wish + place * step for place, wish in enumerate(wishes)]


def percent_axis(axes, which: str = "y", note: str = "lower is better") -> None:
    """Ticks as signed per cent; the ``note`` stands small at the axis's lower end.

    The values drawn are per cent already (``statistics.as_percent``).
    """
    axis = {"x": axes.xaxis, "y": axes.yaxis}[_checks.choice("which", which, ("x", "y"))]
    axis.set_major_formatter(FuncFormatter(_signed))
    axis.set_major_locator(MaxNLocator(6))  # the texts are long
    if note:
        arrow = {"x": "\u2190", "y": "\u2193"}[which]
        axes.annotate(
            f"{arrow} {note}",
            xy=(0.01, 0.015),
            xycoords="axes fraction",
            ha="left",
            va="bottom",
            color="#555555",
            fontsize=8.5,
        )


def _signed(value: float, _position=None) -> str:
    """A tick's text; the minus is the typographic one."""
    if abs(value) < 1e-9:
        return "0 %"
    return f"{value:+.3g} %".replace("-", "\u2212")
