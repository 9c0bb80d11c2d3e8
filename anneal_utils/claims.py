"""The ledger: what the source article claims, how it is measured, and what the measurement says.

A claim is a sentence with findings, and a finding is a measurable statement: an interval must
lie above, below or within a bound. ``settle`` holds a measurement against the stored verdict. When
a machine executes the notebook it raises if the measurement no longer supports the verdict, so a
notebook can not say what it does not show; a reader who changed something is told what would be
needed. The claims are data: ``claims.toml``, beside this file.
"""

import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

from anneal_utils import _checks, headless
from anneal_utils.statistics import Effect

VERDICTS = (
    "supported",
    "supported with conditions",
    "contested",
    "contradicted",
    "not at this scale",
)
ARTICLE = "How to Use Learning Rate Annealing with Neural Networks?"


class ClaimFailed(AssertionError):
    """A measurement that no longer supports the stored verdict."""


@dataclass(frozen=True)
class Finding:
    """A statement about a measured value: above, below or within ``bound``, or equal to it."""

    name: str
    statement: str
    relation: str
    bound: object

    def __post_init__(self):
        """Refuse a relation or a bound that could not be judged."""
        _checks.choice("relation", self.relation, ("above", "below", "within", "equals"))
        if self.relation == "within":
            rule = "must be a pair (low, high) of numbers with low < high"
            if not isinstance(self.bound, tuple | list) or len(self.bound) != 2:
                _checks.fail("bound", self.bound, rule)
            low, high = (_checks.number("bound", end) for end in self.bound)
            if not low < high:
                _checks.fail("bound", self.bound, rule)
        elif self.relation != "equals":
            _checks.number("bound", self.bound)

    def holds(self, measured) -> bool:
        """Whether ``measured`` (an Effect; for "equals" any value) supports the statement."""
        if self.relation == "equals":
            return measured == self.bound
        low, high = (measured.low, measured.high)
        if self.relation == "within":
            return self.bound[0] <= low and high <= self.bound[1]
        return low > self.bound if self.relation == "above" else high < self.bound

    def needs(self) -> str:
        """What a measurement must be to support the statement, in words."""
        if self.relation == "equals":
            return f"the value {self.bound}"
        if self.relation == "within":
            return f"an interval that lies within [{self.bound[0]}, {self.bound[1]}]"
        return f"an interval that lies wholly {self.relation} {self.bound}"


@dataclass(frozen=True)
class Claim:
    """A sentence of the article, the contrast that measures it, and the verdict so far."""

    id: str
    sentence: str
    notebook: str
    contrast: str = ""
    verdict: str | None = None
    because: str = ""
    findings: tuple[Finding, ...] = field(default=(), repr=False)

    def __post_init__(self):
        """A verdict is one of VERDICTS, and rests on findings."""
        if self.verdict is not None:
            _checks.choice("verdict", self.verdict, VERDICTS)
            if not self.findings:
                _checks.fail("findings", self.findings, f"{self.id} has a verdict without any")


@dataclass(frozen=True)
class Verdict:
    """A settled claim; its text holds no measured digits, so that it can be compared.

    With ``missed``, the findings that this measurement does not show, the text explains instead.
    """

    claim: Claim
    measured: dict
    missed: tuple[Finding, ...] = ()

    def __str__(self) -> str:
        """One line per claim and one per finding."""
        if self.missed:
            return self._explained()
        seeds = sorted({v.n for v in self.measured.values() if isinstance(v, Effect)})
        count = f" ({' and '.join(map(str, seeds))} seeds)" if seeds else ""
        lines = [f"{self.claim.id}: {self.claim.verdict}{count}. Claim: {self.claim.sentence}"]
        lines += [f"  measured: {finding.statement}" for finding in self.claim.findings]
        return "\n".join(lines)

    def _explained(self) -> str:
        """What was measured, what the verdict would need, and whose measurement it rests on."""
        lines = [
            f"{self.claim.id}: with what you changed, the verdict {self.claim.verdict!r} is not "
            f"shown. Claim: {self.claim.sentence}"
        ]
        for finding in self.claim.findings:
            if finding in self.missed:
                lines += [
                    f"  not shown here: {finding.statement}",
                    f"    measured {self.measured[finding.name]}; it needs {finding.needs()}",
                ]
            else:
                lines.append(f"  measured: {finding.statement}")
        lines.append(
            "The course's own measurement, with the notebook as it is committed, says otherwise: "
            "it shows every one of these findings. What in your change makes the difference?"
        )
        return "\n".join(lines)


def settle(claim_id: str, *, strict: bool | None = None, **measured) -> Verdict:
    """The verdict on a claim from its measured findings.

    One keyword for each finding of the claim: an :class:`Effect`, or the plain value of an exact
    finding. Findings that the measurement does not show are a ``ClaimFailed`` if ``strict``, and
    told by the verdict's text if not; by default it is strict where a machine executes the
    notebook. ``ValueError`` for an unknown claim, a missing or an unknown finding.
    """
    claim = by_id(claim_id)
    if claim.verdict is None:
        _checks.fail("claim_id", claim_id, "has no verdict yet: it has not been measured")
    names = [finding.name for finding in claim.findings]
    if set(names) != set(measured):
        _checks.fail("measured", sorted(measured), f"{claim_id} needs exactly {', '.join(names)}")
    for finding in claim.findings:
        value = measured[finding.name]
        if finding.relation != "equals" and not isinstance(value, Effect):
            _checks.fail(finding.name, value, "must be an Effect: an estimate with its interval")
    missed = tuple(part for part in claim.findings if not part.holds(measured[part.name]))
    if missed and (headless() if strict is None else strict):
        finding = missed[0]
        raise ClaimFailed(
            f"{claim_id} ({claim.sentence}): the verdict {claim.verdict!r} rests on "
            f"{finding.statement!r}, but {finding.name} was measured as {measured[finding.name]} "
            f"and is not {finding.relation} {finding.bound}."
        )
    return Verdict(claim, measured, missed)


def by_id(claim_id: str) -> Claim:
    """The claim with this id."""
    found = {claim.id: claim for claim in LEDGER}
    return found[_checks.choice("claim_id", claim_id, found)]


def markdown_table() -> str:
    """The ledger as the Markdown table of the README."""
    rows = ["| | the article says | measured here | in |", "|---|---|---|---|"]
    for claim in LEDGER:
        verdict = f"**{claim.verdict}**: {claim.because}" if claim.verdict else "not measured yet"
        link = f"[{claim.notebook[:2]}](notebooks/{claim.notebook}.ipynb)"
        where = link if claim.verdict else claim.notebook[:2]
        rows.append(f"| {claim.id} | {claim.sentence} | {verdict} | {where} |")
    return "\n".join(rows) + "\n"


# ------------------------------------------------------------------------------ the ledger's file

FILE = Path(__file__).with_name("claims.toml")
_BOUNDS = (bool, int, float, str, list, dict)  # what TOML has, but for dates and times


def read(path=FILE) -> tuple[Claim, ...]:
    """The claims of a ledger's file, in its order.

    The keys of a ``[[claim]]``, and of its ``[[claim.findings]]``, are the fields of
    :class:`Claim` and :class:`Finding`; a ``bound`` of "within" is an array of two numbers.
    ``ValueError`` names file, claim and key of what is unknown, missing or of the wrong kind.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        reason = f"can not be read ({error.strerror}); the ledger of the course is claims.FILE"
        _checks.fail("path", str(path), reason)
    except ValueError as error:  # no TOML, or no text
        _checks.fail("path", str(path), f"is not a TOML file ({error})")
    if unknown := sorted({*content} - {"claim"}):
        _checks.fail(f"{path.name}, {unknown[0]}", content[unknown[0]], "is an unknown key")
    entries = _tables(path.name, content, "claim")
    found = [_claim(_place(path.name, "claim", "id", entry, i), entry) for i, entry in entries]
    _each_once(path.name, "id", [claim.id for claim in found])
    return tuple(found)


def _claim(place: str, entry: dict) -> Claim:
    given = _fields(place, Claim, entry)
    parts = _tables(place, entry, "findings")
    findings = [_finding(_place(place, "finding", "name", part, i), part) for i, part in parts]
    _each_once(place, "name", [finding.name for finding in findings])
    return _made(place, Claim, {**given, "findings": tuple(findings)})


def _finding(place: str, entry: dict) -> Finding:
    given = _fields(place, Finding, entry)
    bound = given["bound"]
    if not isinstance(bound, _BOUNDS):
        _checks.fail(f"{place}, bound", bound, "must be a number, a truth value, text or a list")
    if given["relation"] == "within" and isinstance(bound, list):
        given["bound"] = tuple(bound)
    return _made(place, Finding, given)


def _place(before: str, what: str, key: str, entry: dict, number: int) -> str:
    """Where an entry is: by its name, or by its number if it has none."""
    return f"{before}, {what} {entry.get(key, f'number {number}')}"


def _tables(place: str, entry: dict, key: str):
    """The tables under a key of an entry, numbered from 1."""
    tables = entry.get(key, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        _checks.fail(f"{place}, {key}", tables, "must be a list of tables")
    return list(enumerate(tables, start=1))


def _fields(place: str, kind: type, entry: dict) -> dict:
    """An entry's values, if they are the fields of the dataclass, and texts where it says so."""
    known = {part.name: part for part in fields(kind)}
    for key in entry:
        if key not in known:
            _checks.fail(f"{place}, {key}", entry[key], f"is none of the keys {', '.join(known)}")
    for name, part in known.items():
        if name in entry:
            if part.type in (str, str | None) and not isinstance(entry[name], str):
                _checks.fail(f"{place}, {name}", entry[name], "must be a text")
        elif part.default is MISSING:
            _checks.fail(f"{place}, {name}", None, "is missing")
    return dict(entry)


def _made(place: str, kind: type, given: dict):
    """The dataclass with the given values; what it refuses is told with its place."""
    try:
        return kind(**given)
    except ValueError as error:
        raise ValueError(f"{place}, {error}") from error


def _each_once(place: str, key: str, names: list[str]) -> None:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        _checks.fail(f"{place}, {key}", twice[0], "is given twice")


LEDGER: tuple[Claim, ...] = read()
