"""Figures: what is refused, what is stored, what the alt text says."""

import base64

from anneal_utils import plotting
from anneal_utils import statistics as st

import ipywidgets
import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """Figures go to a temporary folder; what would be displayed is collected."""
    displayed = []
    monkeypatch.setenv("ANNEAL_FIGURES", str(tmp_path))
    monkeypatch.setattr(
        "IPython.display.display", lambda data, **options: displayed.append((data, options))
    )
    return displayed


def live(monkeypatch):
    """From here on somebody reads the notebook; no machine executes it."""
    for name in ("PYTEST_CURRENT_TEST", "ANNEAL_HEADLESS"):
        monkeypatch.delenv(name, raising=False)


def labelled():
    figure, axes = plotting.panels()
    axes.plot([0, 1])
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    return figure


def test_a_figure_is_saved_and_displayed_with_its_alt_text(shown, tmp_path):
    plotting.show(labelled(), "one", "A finding", "A line that rises from 0 to 1.")
    data, options = shown[0]
    png = (tmp_path / "one.png").read_bytes()
    assert base64.b64decode(data["image/png"]) == png and png.startswith(b"\x89PNG")
    assert options["metadata"] == {"image/png": {"alt": "A line that rises from 0 to 1."}}
    assert data["text/plain"] == "figures/one.png"
    assert [file.name for file in tmp_path.iterdir()] == ["one.png"]


def test_the_same_figure_is_the_same_bytes(shown, tmp_path):
    for name in ("one", "two"):
        plotting.show(labelled(), name, "A finding", "alt")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize("title, alt", [("", "alt"), ("title", " ")])
def test_a_figure_without_title_or_alt_text_is_refused(shown, title, alt):
    with pytest.raises(ValueError, match="must be a sentence"):
        plotting.show(labelled(), "one", title, alt)
    assert not shown


def test_a_figure_without_axis_labels_is_refused(shown):
    figure, _ = plotting.panels()
    with pytest.raises(ValueError, match="label"):
        plotting.show(figure, "one", "A finding", "alt")


def test_curves_draw_the_quantiles_over_seeds():
    frame = pd.DataFrame(
        [("a", step, seed, step + seed) for step in (1, 2) for seed in range(11)],
        columns=["schedule", "step", "seed", "val_loss"],
    )
    _, axes = plotting.panels()
    table = plotting.curves(axes, frame, "val_loss")
    assert axes.lines[0].get_ydata().tolist() == [6, 7]
    assert table.low.tolist() == [2, 3] and table.high.tolist() == [10, 11]
    text = plotting.describe(table, "schedule", "step")
    assert "a: loss from 6 to 7, lowest 6 at step 1" in text


def test_rates_are_drawn_as_applied():
    applied = np.array([0.1, 0.1, 0.05])
    _, axes = plotting.panels()
    plotting.rates(axes, {"run": applied})
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), applied)


def test_each_line_has_a_second_cue():
    looks = [plotting.look(i) for i in range(6)]
    assert len({look["color"] for look in looks}) == 6
    assert len({look["marker"] for look in looks}) == 6
    assert len({str(look["linestyle"]) for look in looks}) == 6


def test_other_plots_show_their_numbers():
    effects = {"a": st.Effect(1.0, 0.5, 1.5, 10), "b": st.Effect(-1.0, -2.0, 0.1, 10)}
    figure, axes = plotting.panels(3, width=10)
    plotting.intervals(axes[0], effects, "difference")
    plotting.differences(axes[1], np.arange(20.0), effects["a"], "difference")
    ends = pd.DataFrame({"schedule": "s", "peak": [0.1, 1.0] * 3, "seed": 0, "value": 1.0})
    plotting.sensitivity(axes[2], ends)
    assert [tick.get_text() for tick in axes[0].get_yticklabels()] == ["a", "b"]
    assert axes[2].get_xscale() == "log"
    figure.canvas.draw()


def test_explore_draws_once_when_headless_and_again_on_every_move_when_live():
    seen = []
    slider = ipywidgets.FloatSlider(value=0.5, min=0, max=2)
    assert plotting.explore(lambda x: seen.append(x), x=slider) is None
    assert seen == [0.5]
    box = plotting.explore(lambda x: seen.append(x), live=True, x=slider)
    slider.value = 1.25
    assert box is not None and seen[-1] == 1.25 and slider.continuous_update is False


def test_a_live_kernel_displays_its_figures_and_leaves_the_saved_ones_alone(
    shown, tmp_path, monkeypatch
):
    def draw(x):
        plotting.show(labelled(), "one", f"At {x}", "alt")

    slider = ipywidgets.FloatSlider(value=0.5, min=0, max=2)
    plotting.explore(draw, x=slider)  # headless: this is the committed picture
    saved = (tmp_path / "one.png").read_bytes()
    live(monkeypatch)
    plotting.explore(draw, x=slider)
    slider.value = 1.25
    pictures = [data["image/png"] for data, _ in shown if isinstance(data, dict)]
    assert len(pictures) == 3 and len(set(pictures)) == 2  # at 0.5 twice, at 1.25
    plotting.show(labelled(), "one", "Outside the slider", "alt")
    plotting.show(labelled(), "two", "A new one", "alt")
    assert shown[-1][0]["text/plain"] == "figures/two.png"
    assert [file.name for file in tmp_path.iterdir()] == ["one.png"]
    assert (tmp_path / "one.png").read_bytes() == saved


def test_curves_tell_how_many_runs_diverged():
    frame = pd.DataFrame(
        {
            "schedule": ["s"] * 6,
            "step": [1, 1, 1, 2, 2, 2],
            "val_loss": [1.0, 1.0, 1.0, 0.5, 0.4, np.nan],
        }
    )
    _, axes = plotting.panels()
    table = plotting.curves(axes, frame, "val_loss")
    assert axes.get_legend_handles_labels()[1] == ["s (33% diverged)"]
    assert table.middle.tolist() == [1.0, 0.5]  # the lost run counts as high
    lost = table.assign(middle=np.inf)
    assert "s: diverged throughout" in plotting.describe(lost, "schedule", "step")


def test_a_heatmap_shows_every_number_and_its_scale_needs_a_label(shown):
    for label in ("loss", ""):
        figure, axes = plotting.panels()
        plotting.heatmap(axes, [[1.0, 2.0], [3.0, 4.0]], ["a", "b"], [0.1, 0.5], label)
        assert [text.get_text() for text in axes.texts] == ["1.00", "2.00", "3.00", "4.00"]
        axes.set_xlabel("x")
        axes.set_ylabel("y")
        if label:
            plotting.show(figure, "map", "title", "alt")
        else:
            with pytest.raises(ValueError, match="label"):
                plotting.show(figure, "map", "title", "alt")
