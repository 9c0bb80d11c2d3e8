"""One figure style for the course: bands for seed noise, two cues per line, alt text, one saver.

A figure is made by one of the functions here (or with ``panels``), and shown and saved by
``show``, which refuses a figure without a title, axis labels or alt text, and saves only where a
machine executes the notebook. Opaque light cards are readable on white and on dark pages.
"""

import io
import os
from pathlib import Path

from anneal_utils import _checks, headless
from anneal_utils import statistics as st

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

# Okabe & Ito's colours, which survive colour-blindness; dash and marker are the second cue.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555"]
DASHES = ["-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]

STYLE = {
    "figure.facecolor": "#FAFAF7",
    "axes.facecolor": "#FAFAF7",
    "savefig.facecolor": "#FAFAF7",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#DDDDD6",
    "grid.linewidth": 0.6,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.9,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
}
DPI = 100


def folder() -> Path:
    """Where figures are saved: ``$ANNEAL_FIGURES``, else the repository's ``figures``."""
    given = os.environ.get("ANNEAL_FIGURES")
    return Path(given) if given else Path(__file__).resolve().parent.parent / "figures"


def panels(columns: int = 1, rows: int = 1, *, width: float = 8.0, height: float = 3.8, **options):
    """A figure in the course's style with ``rows`` x ``columns`` axes (inches)."""
    with mpl.rc_context(STYLE):
        return plt.subplots(rows, columns, figsize=(width, height), **options)


def look(index: int) -> dict:
    """Colour, dash and marker number ``index``: the same index looks the same everywhere."""
    return {
        "color": COLOURS[index % len(COLOURS)],
        "linestyle": DASHES[index % len(DASHES)],
        "marker": MARKERS[index % len(MARKERS)],
    }


def show(figure, name: str, title: str, alt: str) -> None:
    """Give the figure its ``title``, display it with ``alt`` text, save ``figures/<name>.png``.

    The title states the finding; the alt text tells what the plotted numbers show.
    ``ValueError`` if either is empty or an axis has no label. In a live kernel nothing is saved:
    ``figures`` keeps the pictures that the committed notebooks tell about.
    """
    for argument, text in (("title", title), ("alt", alt)):
        if not str(text).strip():
            _checks.fail(argument, text, "must be a sentence")
    for axes in figure.axes:
        bar = axes.get_label() == "<colorbar>"  # it has one axis, and so one label
        labels = [bool(axes.get_xlabel()), bool(axes.get_ylabel())]
        if axes.axison and not (any(labels) if bar else all(labels)):
            _checks.fail("figure", axes.get_title() or name, "every axis needs a label with units")
    with mpl.rc_context(STYLE):
        figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    plt.close(figure)
    target = folder() / f"{name}.png"
    if headless():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        partial.write_bytes(buffer.getvalue())
        partial.replace(target)
    _display(buffer.getvalue(), target.name, alt)


def _display(png: bytes, name: str, alt: str) -> None:
    import base64

    from IPython.display import display

    display(
        {"image/png": base64.b64encode(png).decode(), "text/plain": f"figures/{name}"},
        metadata={"image/png": {"alt": alt}},
        raw=True,
    )


# ------------------------------------------------------------------------------------- plots


def curves(
    axes,
    frame: pd.DataFrame,
    metric: str,
    *,
    by: str = "schedule",
    x: str = "step",
    penalty: float | None = None,
):
    """Median over seeds of ``metric`` against ``x``, with a 10-90 % band, one line per ``by``.

    Diverged runs count (``statistics.band``): where more than half left, the line ends, unless
    ``penalty`` gives them a value; the legend tells the share that was lost at the end.
    """
    table = st.band(frame, metric, [by, x], penalty=penalty)
    drawn = table.replace([np.inf, -np.inf], np.nan)
    for index, (label, part) in enumerate(drawn.groupby(by, sort=False)):
        style = look(index)
        style.pop("marker")
        lost = part["lost"].iloc[-1]
        label = f"{label} ({lost:.0%} diverged)" if lost else str(label)
        axes.plot(part[x], part["middle"], label=label, **style)
        axes.fill_between(part[x], part["low"], part["high"], color=style["color"], alpha=0.18)
    axes.set_xlabel({"step": "optimizer step", "epoch": "epoch"}.get(x, x))
    axes.set_ylabel(metric.replace("_", " ").replace("val", "held-out"))
    axes.legend()
    return table


def sensitivity(axes, ends: pd.DataFrame, *, label: str = "final held-out loss", log_y=True):
    """Final value against log peak rate, per schedule: median, 10-90 % band over seeds."""
    table = st.band(ends, "value", ["schedule", "peak"])
    for index, (name, part) in enumerate(table.groupby("schedule", sort=False)):
        style = look(index)
        axes.plot(part["peak"], part["middle"], label=str(name), markersize=4, **style)
        axes.fill_between(part["peak"], part["low"], part["high"], color=style["color"], alpha=0.18)
    axes.set_xscale("log")
    if log_y:
        axes.set_yscale("log")
    axes.set_xlabel("peak learning rate")
    axes.set_ylabel(label)
    if table["schedule"].nunique() > 1:
        axes.legend()
    return table


def rates(axes, tables: dict[str, np.ndarray]):
    """Applied rates against the step, as stairs: what the training used, one line per label."""
    for index, (label, table) in enumerate(tables.items()):
        style = look(index)
        style.pop("marker")
        axes.step(np.arange(len(table)), table, where="post", label=str(label), **style)
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


def intervals(axes, effects: dict[str, st.Effect], label: str):
    """Estimates with their intervals, one row per label, and a zero line."""
    for row, (_, effect) in enumerate(effects.items()):
        error = [[effect.estimate - effect.low], [effect.high - effect.estimate]]
        axes.errorbar(
            effect.estimate,
            row,
            xerr=error,
            fmt=MARKERS[row % 7],
            color=COLOURS[row % 7],
            capsize=4,
        )
    axes.axvline(0, color="#333333", linewidth=1)
    axes.set_yticks(range(len(effects)), list(effects))
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set_xlabel(label)
    axes.set_ylabel(" ")


def heatmap(axes, values, rows, columns, label: str, *, scale: str = "linear"):
    """Cells of ``values`` [rows, columns] with their numbers; dark is low. ``scale``: or "log"."""
    values = np.asarray(values, float)
    image = axes.imshow(values, cmap="cividis", aspect="auto", norm=scale)
    for (i, j), value in np.ndenumerate(values):
        colour = "black" if image.norm(value) > 0.5 else "white"
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
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


# ------------------------------------------------------------------------------- interaction


def explore(draw, *, live: bool | None = None, **controls):
    """Sliders around ``draw(**values)`` in a live kernel; one static drawing when headless.

    ``controls`` are ipywidgets. ``draw`` shows its figure itself, by ``show``.
    """
    if not (not headless() if live is None else live):
        draw(**{name: control.value for name, control in controls.items()})
        return None
    import ipywidgets
    from IPython.display import display

    for control in controls.values():
        if hasattr(control, "continuous_update"):
            control.continuous_update = False  # one retraining per move, not one per pixel

    output = ipywidgets.interactive_output(draw, controls)
    box = ipywidgets.VBox([*controls.values(), output])
    display(box)
    return box
