"""One look for each schedule, names at the ends of lines, per cent, and sharper pictures."""

import io
import itertools
import warnings

from anneal_utils import plotting, schedules
from anneal_utils import statistics as st
from anneal_utils.plotting import labels, saving

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.text import Text
from PIL import Image

# Machado, Oliveira & Fernandes (2009), severity 1, on linear RGB.
BLIND = {
    "no red": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "no green": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "both": np.eye(3),
}
XYZ = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def linear(colour):
    rgb = np.array(mpl.colors.to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    x, y, z = np.cbrt(np.clip(XYZ @ np.clip(rgb, 0, 1), 1e-6, None) / XYZ.sum(axis=1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# ------------------------------------------------------------------------- looks of schedules


def test_every_schedule_of_the_catalogue_has_a_look_of_its_own():
    assert set(schedules.names()) <= set(plotting.SCHEDULES)
    looks = [plotting.style_of(name) for name in [*plotting.SCHEDULES, "of my own"]]
    assert len({look["marker"] for look in looks}) == len(looks)
    assert len({(look["color"], str(look["linestyle"])) for look in looks}) == len(looks)
    assert plotting.colour_of("linear") == plotting.style_of("linear")["color"]


@pytest.mark.parametrize("eye", BLIND)
def test_two_schedules_that_look_alike_in_colour_differ_in_their_dash(eye):
    for one, other in itertools.combinations(plotting.SCHEDULES, 2):
        first, second = plotting.style_of(one), plotting.style_of(other)
        apart = [np.array(BLIND[eye]) @ linear(look["color"]) for look in (first, second)]
        if np.linalg.norm(lab(apart[0]) - lab(apart[1])) < 12:
            assert str(first["linestyle"]) != str(second["linestyle"]), (one, other)


def test_every_colour_can_be_read_on_the_card():
    def light(colour):
        return linear(colour) @ [0.2126, 0.7152, 0.0722]

    card = light(plotting.STYLE["figure.facecolor"])
    for name in plotting.SCHEDULES:
        assert (card + 0.05) / (light(plotting.colour_of(name)) + 0.05) > 3, name


def test_plots_take_the_looks_of_schedules():
    frame = pd.DataFrame(
        [(name, step, seed, 1.0) for name in ("wsd", "step") for step in (1, 2) for seed in (0, 1)],
        columns=["schedule", "step", "seed", "val_loss"],
    )
    ends = frame.rename(columns={"step": "peak", "val_loss": "value"})
    _, axes = plotting.panels(4)
    plotting.curves(axes[0], frame, "val_loss", style=plotting.style_of)
    plotting.sensitivity(axes[1], ends, style=plotting.style_of)
    plotting.rates(axes[2], {name: np.ones(3) for name in ("wsd", "step")}, style=plotting.style_of)
    effect = st.Effect(0.1, 0.0, 0.2, 9)
    plotting.intervals(axes[3], {"wsd": effect, "step": effect}, "x", style=plotting.style_of)
    wanted = [plotting.colour_of(name) for name in ("wsd", "step")]
    for one in axes[:3]:
        assert [line.get_color() for line in one.get_lines()] == wanted
    assert [bars[0].get_color() for bars in axes[3].containers] == wanted


# ------------------------------------------------------------------------------------- labels


def drawn(ends, **options):
    """A figure of lines that end at these heights, labelled."""
    figure, axes = plotting.panels()
    for name, end in ends.items():
        axes.plot([0, 1], [0, end], label=name)
    axes.legend()
    plotting.label_ends(axes, **options)
    figure.draw_without_rendering()
    return figure, axes


def boxes(axes):
    return [Text.get_window_extent(text) for text in axes.texts]  # without what leads to it


def test_lines_are_named_at_their_ends_in_their_colour():
    _, axes = drawn({"low": 1.0, "high": 9.0, "middle": 5.0})
    assert axes.get_legend() is None
    assert [text.get_text() for text in axes.texts] == ["low", "middle", "high"]
    for text in axes.texts:
        (line,) = [line for line in axes.get_lines() if line.get_label() == text.get_text()]
        end = axes.transData.transform(line.get_xydata()[-1])
        box = Text.get_window_extent(text)
        assert text.get_color() == line.get_color() and text.arrow_patch is None
        assert box.x0 > end[0] and abs((box.y0 + box.y1) / 2 - end[1]) < 5


@pytest.mark.parametrize(
    "ends",
    [
        [1.0, 1.0, 1.0, 1.0],
        [0.0, 0.01, 0.02, 9.0],
        [8.97, 8.98, 8.99, 9.0, 0.0],
        [1.0, 1.1, 5.0, 5.0, 5.1, 9.0],
    ],
)
def test_names_do_not_overlap_and_stay_inside(ends):
    figure, axes = drawn({f"line {i}": end for i, end in enumerate(ends)})
    found = boxes(axes)
    assert len(found) == len(ends)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(found, 2))
    for box in found:
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1


def test_a_line_that_breaks_off_is_led_to_and_an_empty_one_is_not_named():
    figure, axes = plotting.panels()
    axes.plot([0, 1, 2, 3, 4], [1, 2, np.nan, np.nan, np.inf], label="lost")
    axes.plot([0, 4], [np.nan, np.nan], label="nothing")
    axes.plot([0, 4], [1, 1.5], label="whole")
    axes.axhline(1)  # without a label
    plotting.label_ends(axes)
    lost, whole = sorted(axes.texts, key=lambda text: text.get_text())
    assert lost.arrow_patch is not None and whole.get_text() == "whole"
    figure.draw_without_rendering()
    end = axes.transAxes.transform(lost.xy)
    np.testing.assert_allclose(axes.transData.inverted().transform(end), [1, 2], atol=0.02)


def test_names_can_be_given_and_must_be_those_of_lines():
    _, axes = drawn({"a": 1.0, "b": 9.0}, names={"b": "the best"})
    assert [text.get_text() for text in axes.texts] == ["the best"]
    with pytest.raises(ValueError, match="names = 'c'"):
        plotting.label_ends(axes, {"c": "none"})


@pytest.mark.parametrize(
    "heights, wanted",
    [
        ([], []),
        ([0.5], [0.5]),
        ([0.2, 0.8], [0.2, 0.8]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.0, 0.0, 0.0], [0.0, 0.1, 0.2]),
        ([1.0, 1.0, 1.0], [0.8, 0.9, 1.0]),
        ([0.5, 0.5, 0.62], [0.44, 0.54, 0.64]),  # the third is met, and joins
    ],
)
def test_heights_are_moved_apart_as_little_as_may_be(heights, wanted):
    assert labels._apart(heights, 0.1) == pytest.approx(wanted)


# ----------------------------------------------------------------------------------- per cent


def test_an_axis_in_per_cent_is_signed_and_says_what_is_better():
    _, axes = plotting.panels(2)
    plotting.percent_axis(axes[0])
    plotting.percent_axis(axes[1], "x", note="")
    told = axes[0].yaxis.get_major_formatter()
    assert [told(value) for value in (-12.5, 0, 1e-12, 5, 150)] == [
        "−12.5 %",
        "0 %",
        "0 %",
        "+5 %",
        "+150 %",
    ]
    assert [text.get_text() for text in axes[0].texts] == ["↓ lower is better"]
    assert axes[1].xaxis.get_major_formatter()(5) == "+5 %" and not axes[1].texts
    with pytest.raises(ValueError, match="which = 'z'"):
        plotting.percent_axis(axes[0], "z")


def test_intervals_of_log_ratios_are_drawn_in_per_cent_beside_a_band_of_no_matter():
    _, axes = plotting.panels()
    half = st.Effect(np.log(0.5), np.log(0.25), np.log(1.5), 9)
    plotting.intervals(axes, {"linear": half}, "change", percent=True, band=5)
    (bars,) = axes.containers
    assert bars[0].get_xdata() == pytest.approx([-50])
    segment = bars[2][0].get_segments()[0]
    np.testing.assert_allclose(segment[:, 0], [-75, 50])
    band = axes.patches[0]
    assert (band.get_x(), band.get_width()) == (-5, 10)
    assert axes.xaxis.get_major_formatter()(-50) == "−50 %"


def test_a_map_around_no_effect_is_white_there_and_equally_far_on_both_sides():
    _, axes = plotting.panels()
    plotting.heatmap(axes, [[-40, 0, 5]], ["r"], "abc", "change", centre=0, text="{:+.0f} %")
    image = axes.images[0]
    assert [float(image.norm(value)) for value in (-40, 0, 40)] == pytest.approx([0, 0.5, 1])
    assert min(image.to_rgba(0.0)[:3]) > 0.94  # nearly white
    blue, brown = image.to_rgba(-40), image.to_rgba(40)
    assert blue[2] > blue[0] and brown[0] > brown[2]
    assert [text.get_text() for text in axes.texts] == ["−40 %", "+0 %", "+5 %"]
    assert [text.get_color() for text in axes.texts] == ["white", "black", "black"]


# ------------------------------------------------------------------------------ sharper pictures


def busy():
    figure, axes = plotting.panels()
    for index in range(6):
        x = np.linspace(0, 1, 300)
        axes.plot(x, np.sin(9 * x + index), label=f"line {index}", **plotting.look(index))
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend()
    return figure


def test_the_second_editions_figures_are_sharper_and_no_larger(monkeypatch, tmp_path):
    displayed = []
    monkeypatch.setenv("ANNEAL_FIGURES", str(tmp_path))
    monkeypatch.setattr("IPython.display.display", lambda data, **given: displayed.append(given))
    monkeypatch.setattr(saving, "_edition", 1)
    for number in (1, 2):
        plotting.edition(number)
        for name in ("one", "two"):
            plotting.show(busy(), f"{name}_{number}", "A finding", "Lines that go up and down.")
    pngs = {file.stem: file.read_bytes() for file in tmp_path.iterdir()}
    assert pngs["one_2"] == pngs["two_2"]  # the same figure is the same bytes
    assert len(pngs["one_2"]) < len(pngs["one_1"])
    first, second = (Image.open(io.BytesIO(pngs[f"one_{number}"])) for number in (1, 2))
    assert second.size == (first.width * 1.5, first.height * 1.5) and second.mode == "P"
    assert second.convert("RGB").getpixel((2, second.height - 2)) == (0xFA, 0xFA, 0xF7)
    full = saving._png(busy(), saving.SHARP_DPI)
    both = [Image.open(io.BytesIO(png)) for png in (full, saving._in_few_colours(full))]
    gap = np.abs(np.subtract(*[np.asarray(picture.convert("RGB"), int) for picture in both]))
    assert gap.mean() < 0.2  # of 255: the colours are those that were drawn
    about = [given["metadata"]["image/png"] for given in displayed]
    assert [entry.get("width") for entry in about] == [None, None, 800, 800]  # of the page
    with pytest.raises(ValueError, match="number = 3"):
        plotting.edition(3)


# ------------------------------------------------------- what a reader may set in a notebook


@pytest.mark.parametrize("edition", [1, 2])
def test_one_seed_one_peak_or_nothing_but_lost_runs_still_make_a_figure(
    monkeypatch, tmp_path, edition
):
    monkeypatch.setenv("ANNEAL_FIGURES", str(tmp_path))
    monkeypatch.setattr("IPython.display.display", lambda *data, **given: None)
    monkeypatch.setattr(saving, "_edition", edition)
    lost = pd.DataFrame(
        {"schedule": "constant", "step": [1, 2], "seed": 0, "val_loss": [np.nan, np.nan]}
    )
    ends = pd.DataFrame({"schedule": "constant", "peak": [1000.0], "seed": 0, "value": 2.3})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure, axes = plotting.panels(2)
        table = plotting.curves(axes[0], lost, "val_loss")
        plotting.label_ends(axes[0])
        plotting.sensitivity(axes[1], ends)
        alt = plotting.describe(table, "schedule", "step")
        plotting.show(figure, "lost", "Everything diverged", alt)
    assert "constant: diverged throughout" in alt
    assert [file.name for file in tmp_path.iterdir()] == ["lost.png"]
