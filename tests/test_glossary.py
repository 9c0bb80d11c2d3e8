"""The glossary: every word has its heading, a few sentences and one example that is right."""

import math
import re
from pathlib import Path

from anneal_utils import claims, schedules
from tools import edition

import numpy as np
import pytest

PAGE = Path(__file__).resolve().parent.parent / "book" / "glossary.md"
ENTRIES = dict(re.findall(r"^## (.+)\n\n(.+)\n", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
TERMS = """
    learning-rate peak schedule annealing warmup horizon step epoch batch seed pairing interval
    log-ratio regret sharpness hessian edge-of-stability gradient-noise noise-floor momentum
    adaptive-optimizer weight-decay tuning trial tune-part test-part diverged-run verdict
"""


def test_every_term_can_be_linked_to():
    assert edition.anchors(PAGE) == {"glossary", *TERMS.split()}
    assert len(ENTRIES) == len(TERMS.split())


@pytest.mark.parametrize("term", ENTRIES)
def test_an_entry_is_a_few_sentences_with_one_example(term):
    text = ENTRIES[term]
    sentences = re.findall(r"[.:](?:\s|$)", text)
    assert 2 <= len(sentences) <= 9 and len(text) < 700
    assert text.count("Example: ") == 1


def test_what_the_examples_compute():
    warm = schedules.values(schedules.build("constant", 0.6, 100, warmup=0.05), 100)
    np.testing.assert_allclose(warm[:6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], rtol=1e-6)
    linear = schedules.values(schedules.build("linear", 0.2, 100), 100)
    assert linear[50] == pytest.approx(0.1) and "0.1 at step 50" in ENTRIES["peak"]
    capped = (3 * 0.2 + math.log(10)) / 4
    assert f"{capped:.2f}" == "0.73" and "about 0.73" in ENTRIES["diverged run"]
    floors = [0.5 * rate / (2 - rate) for rate in (0.2, 0.1)]
    assert f"{floors[0]:.3f}" == "0.056" and 0.4 < floors[1] / floors[0] < 0.5
    assert math.expm1(-0.69) == pytest.approx(-0.5, abs=0.01)
    assert all(verdict in ENTRIES["verdict"] for verdict in claims.VERDICTS)
