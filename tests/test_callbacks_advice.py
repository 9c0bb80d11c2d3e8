"""Which rate a range test suggests, by which rule, and its plot."""

from anneal_utils.callbacks import RangeTest, advice

import numpy as np
import pandas as pd
import pytest
from small import assert_refused


def valley(steps=100):
    rate = np.geomspace(1e-4, 10, steps)
    return pd.DataFrame({"rate": rate, "loss": 2 - np.exp(-(np.log10(rate / 0.1) ** 2))})


def test_suggestions_on_a_curve_of_known_shape():
    frame = valley()
    table = advice.suggestions(frame, 100).set_index("rule")
    step = frame.rate[1] / frame.rate[0]
    assert table.rate["smith_max"] == pytest.approx(0.1, rel=step - 1)
    assert table.rate["smith_base"] == pytest.approx(table.rate["smith_max"] / 3)
    assert table.ratio.min() == 1 and (table.rate / table.ratio).nunique() <= 2
    # fastai's reading, step by step: the running mean of its Recorder, cut as lr_find does.
    mean, smooth = 0.0, []
    for n, loss in enumerate(frame.loss, 1):
        mean = 0.98 * mean + 0.02 * loss
        smooth.append(mean / (1 - 0.98**n))
    rate, smooth = frame.rate.to_numpy()[10:-5], np.array(smooth)[10:-5]
    assert table.rate["minimum"] == pytest.approx(rate[smooth.argmin()] / 10)
    slopes = (smooth[1:] - smooth[:-1]) / (np.log(rate[1:]) - np.log(rate[:-1]))
    assert table.rate["steep"] == pytest.approx(rate[slopes.argmin()])
    # The smoothed loss falls from the first step to its minimum: half of the way down.
    fall = int(smooth.argmin()) + 1
    assert table.rate["valley"] == pytest.approx(rate[int(fall / 3) + int(fall / 6) - 1])


def test_valley_is_fastais():
    def published(losses):
        n, lds, start, end = len(losses), [1] * len(losses), 0, 0
        for i in range(1, n):
            for j in range(i):
                if losses[i] < losses[j] and lds[i] < lds[j] + 1:
                    lds[i] = lds[j] + 1
                if lds[end] < lds[i]:
                    end = i
                    start = end - lds[end]
        third = (end - start) / 3
        return start + int(third) + int(third / 2)

    draws = np.random.default_rng(1)
    for _ in range(20):
        losses = draws.normal(size=25) - 0.1 * np.arange(25)
        assert advice._valley(losses) == published(losses)
    assert advice._valley(np.arange(9.0)) == published(np.arange(9.0)) == 0


def test_suggestions_of_a_short_sweep_are_refused_or_not_a_number():
    short = "frame = '12 finite losses of 100 steps': must have"
    assert_refused(lambda: advice.suggestions(valley()[:12], 100), short)
    table = advice.suggestions(valley()[40:70], 100).set_index("rule")
    assert np.isnan(table.rate["slide"]) and table.rate.notna().sum() == 5


def test_the_plot_has_a_log_axis_and_a_mark_for_each_rule():
    test = RangeTest(steps=100)
    frame = valley()
    test._rows = [(n, *row) for n, row in enumerate(frame.itertuples(index=False))]
    ax = test.plot()
    assert ax.get_xscale() == "log" and ax.get_ylabel() == "loss"
    marks = [line.get_xdata()[0] for line in ax.lines[2:]]
    np.testing.assert_allclose(marks, test.suggest().rate)
    test._rows = test._rows[:3]  # too short for advice, still drawn
    assert len(test.plot(ax).lines) == len(ax.lines)
