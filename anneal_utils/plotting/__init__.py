"""One figure style for the course: bands for seed noise, two cues per line, alt text, one saver.

A figure is made by one of the functions here (or with ``panels``), and shown and saved by
``show``, which refuses a figure without a title, axis labels or alt text, and saves only where a
machine executes the notebook.
"""

from anneal_utils.plotting.interaction import explore
from anneal_utils.plotting.labels import label_ends, percent_axis
from anneal_utils.plotting.looks import (
    COLOURS,
    DASHES,
    DIVERGING,
    MARKERS,
    SCHEDULES,
    STYLE,
    colour_of,
    look,
    panels,
    style_of,
)
from anneal_utils.plotting.plots import (
    curves,
    describe,
    differences,
    heatmap,
    intervals,
    landscape,
    rates,
    sensitivity,
)
from anneal_utils.plotting.saving import edition, folder, show

__all__ = [
    "COLOURS",
    "DASHES",
    "DIVERGING",
    "MARKERS",
    "SCHEDULES",
    "STYLE",
    "colour_of",
    "curves",
    "describe",
    "differences",
    "edition",
    "explore",
    "folder",
    "heatmap",
    "intervals",
    "label_ends",
    "landscape",
    "look",
    "panels",
    "percent_axis",
    "rates",
    "sensitivity",
    "show",
    "style_of",
]
