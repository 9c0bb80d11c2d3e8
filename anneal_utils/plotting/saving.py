"""Showing and saving a figure: nothing without title, labels and alt text, no file when live."""

import base64
import io
import os
from pathlib import Path

from anneal_utils import _checks, headless
from anneal_utils.plotting.looks import STYLE

import matplotlib as mpl
from matplotlib import pyplot as plt

DPI = 100
SHARP_DPI = 150  # one and a half pixels for each of the page's
_edition = 1


def edition(number: int) -> None:
    """From here on ``show`` makes figures of this edition of the course (1 or 2).

    The second edition's are one and a half times as sharp, in at most 256 colours, which takes
    no more bytes; they are displayed at the same size.
    """
    global _edition
    _edition = _checks.choice("number", number, (1, 2))


def folder() -> Path:
    """Where figures are saved: ``$ANNEAL_FIGURES``, else the repository's ``figures``."""
    given = os.environ.get("ANNEAL_FIGURES")
    return Path(given) if given else Path(__file__).resolve().parents[2] / "figures"


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
        sharp = _edition > 1
        png = _in_few_colours(_png(figure, SHARP_DPI)) if sharp else _png(figure, DPI)
        width = round(figure.get_figwidth() * DPI) if sharp else None  # of the page's pixels
    plt.close(figure)
    target = folder() / f"{name}.png"
    if headless():
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        partial.write_bytes(png)
        partial.replace(target)
    _display(png, target.name, alt, width)


def _png(figure, dpi: int) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def _in_few_colours(png: bytes) -> bytes:
    """The picture with a palette of at most 256 colours: lines and text need few."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    few = picture.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    few.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _display(png: bytes, name: str, alt: str, width: int | None) -> None:
    from IPython.display import display

    display(
        {"image/png": base64.b64encode(png).decode(), "text/plain": f"figures/{name}"},
        metadata={"image/png": {"alt": alt} | ({"width": width} if width else {})},
        raw=True,
    )
