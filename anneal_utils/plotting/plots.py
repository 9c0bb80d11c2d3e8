"""The course's plots: bands for seed noise, two cues per line, alt text from the numbers."""

from anneal_utils import statistics as st
from anneal_utils.plotting.labels import percent_axis
from anneal_utils.plotting.looks import COLOURS, DASHES, DIVERGING, look

import numpy as np
import pandas as pd
from matplotlib.colors import CenteredNorm


def curves(
    axes,
    frame: pd.DataFrame,
    metric: str,
    *,
    by: str = "schedule",
    x: str = "step",
    penalty: float | None = None,
    style=None,
):
    """Median over seeds of ``metric`` against ``x``, with a 10-90 % band, one line per ``by``.

    Diverged runs count (``statistics.band``): where more than half left, the line ends, unless
    ``penalty`` gives them a value; the legend tells the share that was lost at the end.
    ``style``: the look by label, such as ``style_of``; by default by position.
    """
    table = st.band(frame, metric, [by, x], penalty=penalty)
    drawn = table.replace([np.inf, -np.inf], np.nan)
    for index, (label, part) in enumerate(drawn.groupby(by, sort=False)):
        cues = look(index) if style is None else style(label)
        cues.pop("marker")
        lost = part["lost"].iloc[-1]
        label = f"{label} ({lost:.0%} diverged)" if lost else str(label)
        axes.plot(part[x], part["middle"], label=label, **cues)
        axes.fill_between(part[x], part["low"], part["high"], color=cues["color"], alpha=0.18)
    axes.set_xlabel({"step": "optimizer step", "epoch": "epoch"}.get(x, x))
    axes.set_ylabel(metric.replace("_", " ").replace("val", "held-out"))
    axes.legend()
    return table


def sensitivity(
    axes, ends: pd.DataFrame, *, label: str = "final held-out loss", log_y=True, style=None
):
    """Final value against log peak rate, per schedule: median, 10-90 % band over seeds.

    ``style``: the look by schedule, such as ``style_of``; by default by position.
    """
    table = st.band(ends, "value", ["schedule", "peak"])
    for index, (name, part) in enumerate(table.groupby("schedule", sort=False)):
        cues = look(index) if style is None else style(name)
        axes.plot(part["peak"], part["middle"], label=str(name), markersize=4, **cues)
        axes.fill_between(part["peak"], part["low"], part["high"], color=cues["color"], alpha=0.18)
    axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    axes.set_xlabel("peak learning rate")
    axes.set_ylabel(label)
    if table["schedule"].nunique() > 1:
        axes.legend()
    return table


def rates(axes, tables: dict[str, np.ndarray], *, style=None):
    """Applied rates against the step, as stairs: what the training used, one line per label.

    ``style``: the look by label, such as ``style_of``; by default by position.
    """
    for index, (label, table) in enumerate(tables.items()):
        cues = look(index) if style is None else style(label)
        cues.pop("marker")
        axes.step(np.arange(len(table)), table, where="post", label=str(label), **cues)
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("learning rate")
    axes.legend()


def differences(axes, values, effect: st.Effect, label: str):
    """Histogram of paired differences, a zero line, and the mean with its interval."""
    axes.hist(values, bins=30, color=COLOURS[0], alpha=0.55)
    axes.axvline(0, color="#333333", linewidth=1)
    axes.axvline(effect.estimate, color=COLOURS[1], linestyle=DASHES[1])
    axes.axvspan(effect.low, effect.high, color=COLOURS[1], alpha=0.3)
    axes.set_xlabel(label)
    axes.set_ylabel("seeds (count)")


def intervals(
    axes, effects: dict[str, st.Effect], label: str, *, percent=False, band=None, style=None
):
    """Estimates with their intervals, one row per label, and a zero line.

    ``percent``: effects on log losses, drawn as changes in per cent. ``band``: a half-width, in
    the axis's unit, that is shaded around zero, such as 5 for a change that matters little.
    ``style``: the look by label, such as ``style_of``; by default by position.
    """
    if percent:
        effects = {name: st.as_percent(effect) for name, effect in effects.items()}
        percent_axis(axes, "x")
    if band is not None:
        axes.axvspan(-band, band, color="#E4E4DC", zorder=0)
    for row, (name, effect) in enumerate(effects.items()):
        cues = look(row) if style is None else style(name)
        error = [[effect.estimate - effect.low], [effect.high - effect.estimate]]
        axes.errorbar(
            effect.estimate,
            row,
            xerr=error,
            fmt=cues["marker"],
            color=cues["color"],
            capsize=4,
        )
    axes.axvline(0, color="#333333", linewidth=1)
    axes.set_yticks(range(len(effects)), list(effects))
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.set_ylabel(" ")


def heatmap(axes, values, rows, columns, label: str, *, scale="linear", centre=None, text="{:.2f}"):
    """Cells of ``values`` [rows, columns] with their numbers; dark is low. ``scale``: or "log".

    With a ``centre``, the value of no effect, it is white; below is blue and above is brown, both
    equally far. ``text`` formats the numbers, for instance "{:+.0f} %".
    """
    values = np.asarray(values, float)
    cmap, norm = "cividis", scale
    if centre is not None:
        cmap, norm = DIVERGING, CenteredNorm(centre)
    image = axes.imshow(values, cmap=cmap, aspect="auto", norm=norm)
    for (i, j), value in np.ndenumerate(values):
        far = (
            abs(image.norm(value) - 0.5) > 0.35 if centre is not None else image.norm(value) <= 0.5
        )
        colour = "white" if far else "black"
        told = text.format(value)
        if centre is not None:
            told = told.replace("-", "\u2212")
        axes.text(j, i, told, ha="center", va="center", color=colour, fontsize=9)
    axes.set_yticks(range(len(rows)), [str(row) for row in rows])
    axes.set_xticks(range(len(columns)), [str(column) for column in columns])
    axes.grid(False)
    axes.figure.colorbar(image, ax=axes).set_label(label)


def landscape(axes, loss, paths: dict[str, np.ndarray], extent: float = 1.2):
    """Contours of ``loss(x, y)`` with the paths [steps, 2] that descents took over it."""
    grid = np.linspace(-extent, extent, 121)
    x, y = np.meshgrid(grid, grid)
    axes.contour(x, y, np.log10(loss(x, y) + 1e-4), levels=12, colors="#B8B8AE", linewidths=0.8)
    for index, (label, path) in enumerate(paths.items()):
        style = look(index)
        axes.plot(*path.T, label=label, markersize=3.5, linewidth=1.3, **style)
    axes.plot(0, 0, "k*", markersize=10)
    axes.set_xlim(-extent, extent)
    axes.set_ylim(-extent, extent)
    axes.grid(False)
    axes.set_xlabel("first weight")
    axes.set_ylabel("second weight")
    axes.legend(loc="lower left")


def describe(table: pd.DataFrame, by: str, x: str, unit: str = "loss") -> str:
    """Alt text from the plotted numbers: where each line starts, ends and is lowest."""
    parts = []
    for label, part in table.groupby(by, sort=False):
        part = part[np.isfinite(part["middle"])]
        if part.empty:
            parts.append(f"{label}: diverged throughout")
            continue
        lowest = part.loc[part["middle"].idxmin()]
        parts.append(
            f"{label}: {unit} from {part['middle'].iloc[0]:.3g} to {part['middle'].iloc[-1]:.3g}, "
            f"lowest {lowest['middle']:.3g} at {x} {lowest[x]:.3g}"
        )
    return f"Lines of the median over seeds with 10 to 90 % bands against {x}. " + "; ".join(parts)
