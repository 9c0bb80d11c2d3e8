"""The ledger: verdicts stand only while their measurements do."""

import re
import tomllib
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


@pytest.mark.parametrize("claim", MEASURED, ids=lambda claim: claim.id)
def test_where_a_reader_changed_something_a_claim_explains_instead_of_stopping(claim, monkeypatch):
    good = {finding.name: passing(finding) for finding in claim.findings}
    broken = claim.findings[-1]
    bad = {**good, broken.name: failing(broken)}
    with pytest.raises(claims.ClaimFailed):  # pytest is a machine
        claims.settle(claim.id, **bad)
    for name in ("PYTEST_CURRENT_TEST", "ANNEAL_HEADLESS"):
        monkeypatch.delenv(name, raising=False)
    found = claims.settle(claim.id, **bad)
    text = str(found)
    assert found.missed == (broken,)
    assert f"not shown here: {broken.statement}\n    measured {bad[broken.name]}; it needs" in text
    assert text.count("not shown here") == 1
    assert text.count("  measured: ") == len(claim.findings) - 1
    assert "The course's own measurement" in text and "says otherwise" in text
    assert claims.settle(claim.id, **good) == claims.settle(claim.id, **good, strict=True)
    with pytest.raises(claims.ClaimFailed):
        claims.settle(claim.id, **bad, strict=True)


@pytest.mark.parametrize(
    "relation, bound, words",
    [
        ("above", 0.5, "an interval that lies wholly above 0.5"),
        ("below", -1, "an interval that lies wholly below -1"),
        ("within", (0.9, 1.1), "an interval that lies within [0.9, 1.1]"),
        ("equals", True, "the value True"),
    ],
)
def test_what_a_finding_needs(relation, bound, words):
    assert claims.Finding("name", "A statement", relation, bound).needs() == words


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


# ------------------------------------------------------------------------------ the ledger's file

CLAIM = """
[[claim]]
id = "C7"
sentence = "A sentence."
notebook = "01_learning_rate"
verdict = "supported"

[[claim.findings]]
name = "floor"
statement = "the floor is lower"
relation = "within"
bound = [-1, 0.5]
"""


def ledger(folder, text):
    (folder / "mine.toml").write_text(text, encoding="utf-8")
    return folder / "mine.toml"


def test_a_ledger_is_read_as_it_is_written(tmp_path):
    (claim,) = claims.read(ledger(tmp_path, CLAIM))
    finding = claims.Finding("floor", "the floor is lower", "within", (-1, 0.5))
    assert claim == claims.Claim(
        "C7", "A sentence.", "01_learning_rate", "", "supported", "", (finding,)
    )
    assert claims.read(claims.FILE) == claims.LEDGER
    unmeasured = CLAIM.replace('verdict = "supported"', "").partition("[[claim.findings]]")[0]
    assert claims.read(ledger(tmp_path, unmeasured))[0].verdict is None


def test_bounds_are_of_the_kinds_that_their_relations_need():
    """A pair, a number (never a truth value), or for "equals" whatever the notebooks measure."""
    kinds = {"above": (int, float), "below": (int, float), "within": (tuple,)}
    kinds["equals"] = (bool, float, dict, list)
    seen = {(f.relation, type(f.bound)) for claim in claims.LEDGER for f in claim.findings}
    assert all(kind in kinds[relation] for relation, kind in seen)
    assert {kind for relation, kind in seen if relation == "equals"} == {*kinds["equals"]}
    entries = tomllib.loads(claims.FILE.read_text(encoding="utf-8"))["claim"]
    bounds = [finding["bound"] for entry in entries for finding in entry["findings"]]
    assert len(bounds) == sum(len(claim.findings) for claim in claims.LEDGER) > 70


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("verdict =", "verdikt =", "claim C7, verdikt = 'supported': is none of the keys id, se"),
        ("relation =", "relations =", "claim C7, finding floor, relations = 'within': is none of"),
        ('id = "C7"', "", "claim number 1, id = None: is missing"),
        ("bound = [-1, 0.5]", "", "claim C7, finding floor, bound = None: is missing"),
        ('name = "floor"', "", "claim C7, finding number 1, name = None: is missing"),
        ('"A sentence."', "7", "claim C7, sentence = 7: must be a text"),
        ('"the floor is lower"', "true", "claim C7, finding floor, statement = True: must be a te"),
        ('"supported"', '"proven"', "claim C7, verdict = 'proven': must be one of 'supported'"),
        ('"within"', '"bellow"', "claim C7, finding floor, relation = 'bellow': must be one of"),
        ('"within"', "2", "claim C7, finding floor, relation = 2: must be a text"),
        ('"within"', '"above"', "claim C7, finding floor, bound = [-1, 0.5]: must be a finite"),
        ("[-1, 0.5]", "0.5", "claim C7, finding floor, bound = 0.5: must be a pair"),
        ("[-1, 0.5]", "[0.5, -1]", "claim C7, finding floor, bound = (0.5, -1): must be a pair"),
        ("[-1, 0.5]", "[1, 2, 3]", "claim C7, finding floor, bound = (1, 2, 3): must be a pair"),
        ("[-1, 0.5]", '["a", 1]', "claim C7, finding floor, bound = 'a': must be a finite number"),
        ("[-1, 0.5]", "[false, 1]", "claim C7, finding floor, bound = False: must be a finite"),
        ("[-1, 0.5]", "[nan, 1]", "claim C7, finding floor, bound = nan: must be a finite number"),
        ("[-1, 0.5]", "2026-01-01", "claim C7, finding floor, bound = datetime.date(2026, 1, 1)"),
        ("[[claim.findings]]", "[claim.findings]", "claim C7, findings = {'name': 'floor'"),
        ("[[claim.findings]]", "[[claim.finding]]", "claim C7, finding = [{'name': 'floor'"),
        (CLAIM, CLAIM + CLAIM, "id = 'C7': is given twice"),
        (CLAIM, CLAIM + CLAIM[CLAIM.index("[[claim.f") :], "claim C7, name = 'floor': is given tw"),
        (CLAIM, "[claim]\nid = 1", "claim = {'id': 1}: must be a list of tables"),
        (CLAIM, "year = 2026" + CLAIM, "year = 2026: is an unknown key"),
    ],
)
def test_a_malformed_entry_is_refused_by_name(old, new, told, tmp_path):
    assert old in CLAIM
    with pytest.raises(ValueError) as error:
        claims.read(ledger(tmp_path, CLAIM.replace(old, new)))
    assert str(error.value).startswith(f"mine.toml, {told}")


@pytest.mark.parametrize("content", [b"claim = [", b"\xff\xfe"])
def test_what_is_no_ledger_is_refused_by_name(content, tmp_path):
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(ValueError, match=r"^path = .*mine\.toml.*is not a TOML file"):
        claims.read(tmp_path / "mine.toml")
    with pytest.raises(ValueError, match=r"^path = .*none\.toml.*can not be read .*claims\.FILE"):
        claims.read(tmp_path / "none.toml")


def test_the_package_carries_the_ledger():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    carried = project["tool"]["setuptools"]["package-data"]["anneal_utils"]
    assert claims.FILE.parent == Path(claims.__file__).parent
    assert any(claims.FILE.match(pattern) for pattern in carried)
