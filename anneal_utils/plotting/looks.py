"""How the course's figures look: one style, and colour, dash and marker of each line.

Opaque light cards are readable on white and on dark pages.
"""

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.colors import LinearSegmentedColormap

# Okabe & Ito's colours, which survive colour-blindness; dash and marker are the second cue.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555"]
DASHES = ["-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)), (0, (8, 2)), (0, (3, 1, 1, 1))]
MARKERS = ["o", "s", "^", "D", "v", "P", "X"]

# A schedule looks the same in the whole course. Kin share a colour and differ by their dash, and
# where two colours are alike to a colour-blind eye, the dashes differ too.
_SOLID, _DASHED, _DOTTED, _MIXED, _LONG, _DOUBLE = DASHES
SCHEDULES = {
    "constant": ("#333333", _SOLID, "o"),
    "step": ("#D55E00", _SOLID, "s"),
    "plateau": ("#D55E00", _DOUBLE, "P"),
    "exponential": ("#882255", _SOLID, "^"),
    "inverse_time": ("#882255", _DASHED, "<"),
    "inverse_sqrt": ("#AA4499", _MIXED, ">"),
    "power": ("#AA4499", _DOTTED, "p"),
    "linear": ("#0072B2", _SOLID, "D"),
    "polynomial": ("#0072B2", _DASHED, "d"),
    "cosine": ("#008F68", _SOLID, "v"),
    "sigmoid": ("#008F68", _DASHED, "h"),
    "cosine_restarts": ("#008F68", _MIXED, "X"),
    "wsd": ("#A06F00", _LONG, "*"),
    "triangular": ("#6B7A00", _DASHED, "1"),
    "triangular2": ("#6B7A00", _DOTTED, "2"),
    "exp_range": ("#6B7A00", _MIXED, "3"),
    "one_cycle": ("#332288", _SOLID, "8"),
    "rex": ("#8C564B", _DOUBLE, "H"),
}
# From blue by white to brown; its middle is lighter than either end, for printers too.
DIVERGING = LinearSegmentedColormap.from_list("effect", ["#0B4F8A", "#F7F7F2", "#8A4B08"])
OTHER = ("#707070", _DOTTED, "x")  # a schedule of the reader's own

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


def style_of(name: str) -> dict:
    """Colour, dash and marker of a schedule, the same in every figure.

    A schedule that is not in the catalogue is grey and dotted.
    """
    return dict(zip(("color", "linestyle", "marker"), SCHEDULES.get(name, OTHER), strict=True))


def colour_of(name: str) -> str:
    """The colour of a schedule; its dash and marker, by ``style_of``, are the second cue."""
    return SCHEDULES.get(name, OTHER)[0]
