"""The pages of book/: what is printed under a block is what the block prints."""

import re

from tools import pages

import numpy as np
import pytest

NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?")
SHOWN = re.compile(r"^```text\n(.*?)^```", re.DOTALL | re.MULTILINE)


def same(committed: str, fresh: str) -> bool:
    """The same words, and numbers that another processor may have rounded otherwise."""
    if NUMBER.sub("#", committed).split() != NUMBER.sub("#", fresh).split():
        return False
    before, now = (
        np.array([float(x) for x in NUMBER.findall(text)]) for text in (committed, fresh)
    )
    # Shares are whole per cents; what is printed as 0.0 is a difference that has to be none.
    return bool(np.allclose(now, before, rtol=0.1, atol=2 if "%" in committed else 0))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_page_around_fit_prints_what_it_shows():
    text = pages.AROUND_FIT.read_text(encoding="utf-8")
    fresh = pages.executed(text)
    committed, printed = SHOWN.findall(text), SHOWN.findall(fresh)
    assert len(committed) == len(printed) > 8
    for before, now in zip(committed, printed, strict=True):
        assert same(before, now), f"python -m tools.pages\n{before}\n{now}"


def test_a_page_is_compared_by_its_words_and_numbers():
    assert same("loss 0.12, 24% above\n", "loss 0.12, 25%  above\n")
    assert same("rates [0.45 0.3 ]\n", "rates [0.451 0.3 ]\n")
    assert same("by -0% [-1%, +0%]", "by +0% [+0%, +1%]") and not same("by -5%", "by +5%")
    for other in ("loss 0.12, 31% above", "loss 0.12, 24% below", "loss 0.12"):
        assert not same("loss 0.12, 24% above", other)
    assert not same("difference: 0.0", "difference: 1e-07") and not same("at 0.5", "at 0.7")


def test_a_block_is_printed_anew_and_a_silent_one_stays_bare():
    old = "Text.\n\n```python\nx = 2\n```\n\n```python\nprint(x)\n```\n\n```text\n3\n```\n\nMore.\n"
    new = pages.executed(old)
    assert new == old.replace("text\n3", "text\n2") and pages.executed(new) == new
