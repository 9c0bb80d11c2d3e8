"""Reading a range test: when the loss has left, and which rates the common rules suggest."""

from anneal_utils import _checks, _needs

import numpy as np

_LEAST = 10  # losses whose spread is told from noise
WIDTH = 9  # steps of the centred mean under Smith's rule, as in notebook 01


def gone(losses: list[float], factor: float) -> str:
    """Why a sweep with these losses has ended; an empty text if it has not."""
    last = losses[-1]
    if not np.isfinite(last):
        return f"the loss is {last}"
    place = int(np.argmin(losses))
    lowest = losses[place]
    spread = np.ptp(losses[: max(place + 1, _LEAST)])
    if lowest > 0.01 * spread:  # a ratio means something
        if last > factor * lowest:
            return f"the loss {last:.3g} is above {factor:g} times the lowest, {lowest:.3g}"
    elif len(losses) > _LEAST and last - lowest > (factor - 1) * spread:
        return (
            f"the loss {last:.3g} has risen from the lowest, {lowest:.3g}, by more than "
            f"{factor - 1:g} times the spread before, {spread:.3g}"
        )
    return ""


def suggestions(frame, steps: int):
    """The rates that the common rules read from a sweep planned for ``steps``, one row per rule.

    ``frame`` (pandas) has the columns ``rate`` (of the optimizer) and ``loss``. In the result:
    ``rule``, ``rate`` (in the optimizer's unit; NaN where the sweep is too short for the rule),
    ``ratio`` (to the lowest of the suggested rates, without unit: the largest one is how far the
    rules disagree) and ``reads`` (the definition). ``smith_max`` and ``smith_base`` are meant as
    the bounds of a cycle, the others as the peak of a schedule.

    fastai's rules are as it defines them (``fastai/callback/schedule.py``), on its smoothed loss,
    without the first tenth of the planned steps and the last five. Smith's are on a centred mean
    of 9 steps. ``ValueError`` if fewer than three finite losses are left.

    Source: L. N. Smith, arXiv:1506.01186, section 3.3; fast.ai's ``Learner.lr_find``.

    >>> import pandas as pd
    >>> rate = np.geomspace(1e-4, 10, 100)
    >>> loss = 2 - np.exp(-np.log10(rate / 0.1) ** 2)  # lowest at a rate of 0.1
    >>> table = suggestions(pd.DataFrame({"rate": rate, "loss": loss}), 100).set_index("rule")
    >>> round(float(table.rate["smith_max"]), 2)
    0.1
    """
    pd = _needs.package("pandas", "RangeTest.suggest")
    finite = np.isfinite(frame.loss.to_numpy(float))
    first = len(finite) if finite.all() else int(np.argmin(finite))
    rate, loss = (frame[name].to_numpy(float)[:first] for name in ("rate", "loss"))
    kept = slice(steps // 10, max(0, len(frame) - 5))
    rates, losses = rate[kept], _smooth(loss)[kept]
    if len(losses) < 3:
        _checks.fail(
            "frame",
            f"{first} finite losses of {steps} steps",
            f"must have at least {steps // 10 + 8} for a suggestion: start the sweep lower",
        )
    centred = pd.Series(loss).rolling(WIDTH, center=True, min_periods=1).mean()
    highest = rate[centred.argmin()]
    rows = [
        ("smith_max", highest, "where the loss stops falling: its lowest centred mean of 9 steps"),
        ("smith_base", highest / 3, "a third of smith_max"),
        ("minimum", rates[losses.argmin()] / 10, "fastai: a tenth of the rate at the lowest loss"),
        ("steep", rates[_steep(rates, losses)], "fastai: the steepest fall by the rate's log"),
        ("valley", rates[_valley(losses)], "fastai: the middle of the longest fall"),
        ("slide", _slide(rates, losses), "fastai: where slopes 15 steps apart come to agree"),
    ]
    table = pd.DataFrame(rows, columns=["rule", "rate", "reads"])
    table.insert(2, "ratio", table.rate / table.rate.min())
    return table


def plot(frame, steps: int, ax=None):
    """Loss by rate on a log axis with the suggested rates; the axes are returned.

    Too short a sweep is drawn without suggestions.
    """
    pd = _needs.package("pandas", "RangeTest.plot")
    _needs.package("matplotlib", "RangeTest.plot")
    from anneal_utils import plotting  # only for those who draw

    if ax is None:
        _, ax = plotting.panels()
    ax.plot(frame.rate, frame.loss, color="#BBBBB4", linewidth=1, label="loss of the batch")
    centred = frame.loss.rolling(WIDTH, center=True, min_periods=1).mean()
    ax.plot(frame.rate, centred, color=plotting.COLOURS[-1], label=f"mean of {WIDTH} steps")
    try:
        table = suggestions(frame, steps)
    except ValueError:
        table = pd.DataFrame(columns=["rule", "rate", "ratio"])
    styles = zip(plotting.COLOURS[:6], plotting.DASHES, strict=True)
    for row, (colour, dash) in zip(table.itertuples(), styles, strict=False):
        if np.isfinite(row.rate):
            label = f"{row.rule}: {row.rate:.2g}"
            ax.axvline(row.rate, color=colour, linestyle=dash, linewidth=1.4, label=label)
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss")
    differ = f": the rules differ by a factor of {table.ratio.max():.2g}" if len(table) else ""
    ax.set_title(f"Range test{differ}", loc="left")
    losses = frame.loss[np.isfinite(frame.loss)]
    if len(losses):  # the end of a sweep would press the rest flat
        low, high = losses.min(), np.quantile(losses, 0.9)
        room = 0.15 * (high - low) or 1.0
        ax.set_ylim(low - room, high + 2 * room)
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return ax


def _smooth(losses, beta: float = 0.98):
    """fastai's running mean, free of the bias of its start."""
    weights = beta ** np.arange(len(losses))
    totals = [losses[i::-1] @ weights[: i + 1] for i in range(len(losses))]
    return np.array(totals) / np.cumsum(weights)


def _steep(rates, losses) -> int:
    return int(np.argmin(np.diff(losses) / np.diff(np.log(rates))))


def _valley(losses) -> int:
    """A third and a half of a third into the longest run of ever lower losses (not in a row)."""
    length, last = np.ones(len(losses), int), 0
    for i in range(1, len(losses)):
        higher = losses[:i] > losses[i]
        length[i] = 1 + length[:i][higher].max(initial=0)
        if length[i] > length[last]:
            last = i
    third = (length[last] if last else 0) / 3
    return int(last - length[last] * bool(last) + int(third) + int(third / 2))


def _slide(rates, losses, apart: int = 15, least: float = 0.005) -> float:
    """From the end on, the left one of two slopes ``apart`` steps apart that agree first."""
    if len(losses) < apart + 2:
        return float("nan")
    slopes = np.gradient(losses)
    right, left = len(losses) - 1, len(losses) - 1 - apart
    found = rates[left]
    while left >= 0 and abs(slopes[right] - slopes[left]) > least:
        found = rates[left]
        right, left = right - 1, left - 1
    return float(found)
