"""The ledger: verdicts stand only while their measurements do."""

import re
from pathlib import Path

from anneal_utils import claims
from anneal_utils.statistics import Effect
from tools import readme

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEASURED = [claim for claim in claims.LEDGER if claim.verdict]


def passing(finding):
    """A measurement that supports ``finding``."""
    if finding.relation == "equals":
        return finding.bound
    if finding.relation == "within":
        low, high = finding.bound
        middle, width = (low + high) / 2, (high - low) / 10
        return Effect(middle, middle - width, middle + width, 40)
    sign = 1 if finding.relation == "above" else -1
    return Effect(*[finding.bound + sign * x for x in (2, 2 - sign, 2 + sign)], 40)


def failing(finding):
    """A measurement whose estimate supports ``finding`` and whose interval does not."""
    if finding.relation == "equals":
        return "something else"
    good = passing(finding)
    bound = finding.bound[1] if finding.relation == "within" else finding.bound
    if finding.relation == "below" or finding.relation == "within":
        return Effect(good.estimate, good.low, bound + 1e-6, 40)
    return Effect(good.estimate, bound - 1e-6, good.high, 40)


def test_the_ledger_is_whole():
    assert [claim.id for claim in claims.LEDGER] == [f"C{i}" for i in range(1, 16)]
    assert {claim.id for claim in MEASURED} >= {"C1", "C2", "C3", "C5", "C6", "C13", "C14"}
    for claim in MEASURED:
        assert claim.verdict in claims.VERDICTS
        assert claim.contrast and claim.because and claim.findings
        assert (ROOT / "notebooks" / f"{claim.notebook}.ipynb").exists()


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.id)
def test_a_claim_settles_and_each_of_its_findings_can_break_it(claim):
    good = {finding.name: passing(finding) for finding in claim.findings}
    text = str(claims.settle(claim.id, **good))
    assert text.startswith(f"{claim.id}: {claim.verdict}") and claim.sentence in text
    for finding in claim.findings:
        bad = {**good, finding.name: failing(finding)}
        with pytest.raises(claims.ClaimFailed, match=re.escape(finding.statement)) as error:
            claims.settle(claim.id, **bad)
        assert claim.sentence in str(error.value) and finding.name in str(error.value)


def test_findings_must_be_complete_and_known(monkeypatch):
    with pytest.raises(ValueError, match="C2 needs exactly first, tenth"):
        claims.settle("C2", first=0.01)
    with pytest.raises(ValueError, match="claim_id = 'C99'"):
        claims.settle("C99")
    unmeasured = claims.Claim("C0", "A sentence.", "01_learning_rate")
    monkeypatch.setattr(claims, "LEDGER", (*claims.LEDGER, unmeasured))
    with pytest.raises(ValueError, match="has no verdict yet"):
        claims.settle("C0")
    assert "| C0 | A sentence. | not measured yet | 01 |" in claims.markdown_table()
    with pytest.raises(ValueError, match="must be an Effect"):
        claims.settle("C1", replica=1.0, single_pair=0.3, continued=-1.0)


def test_the_readme_shows_the_ledger_and_the_results():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, block in readme.blocks().items():
        assert block and block in text, f"{name} is stale, run: python -m tools.readme"


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.id)
def test_every_verdict_is_settled_in_its_notebook(claim):
    text = (ROOT / "notebooks" / f"{claim.notebook}.ipynb").read_text(encoding="utf-8")
    assert f"{claim.id}: {claim.verdict}" in text


@pytest.mark.parametrize(
    ("relation", "bound"), [("bellow", 0), ("within", (1, 0)), ("above", float("nan"))]
)
def test_a_finding_that_could_not_be_judged_is_refused(relation, bound):
    with pytest.raises(ValueError, match=r"^(relation|bound) = "):
        claims.Finding("name", "statement", relation, bound)


def test_a_verdict_outside_the_list_or_without_findings_is_refused():
    finding = claims.Finding("name", "statement", "above", 0)
    with pytest.raises(ValueError, match="^verdict = 'proven'"):
        claims.Claim("C0", "sentence", "notebook", "", "proven", "", (finding,))
    with pytest.raises(ValueError, match="^findings = "):
        claims.Claim("C0", "sentence", "notebook", "", "supported")
