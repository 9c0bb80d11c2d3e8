"""The plan of the searches: which problems, with how much of everything, and what is varied.

Written before the results, as that of the benchmark; every result carries the digest of its task.
"""

import json
import tomllib
from dataclasses import asdict, dataclass
from hashlib import sha256

from anneal_utils import _checks, _places
from anneal_utils.benchmark.entrants import maker_of, parse, problem_of

PATH = _places.committed("search") / "plan.toml"
AGAIN = "another start"  # what is varied in an [[again]]
_SEARCH = ("knots", "generations", "population", "seeds")
_USUAL = ("candidates", "tuning_seeds", "factors")
_REST = ("report_seeds", "flat_draws", "flat_seeds", "flat_widths")
_EACH = {*_SEARCH, *_USUAL, *_REST}
_MAY = {"floor"}  # of the search, where another one than usual is asked for


@dataclass(frozen=True)
class Task:
    """One search and what its result is held against.

    ``problem``, ``optimizer``: as the command line has them. ``given``: how much of everything.
    ``seed``, ``start``: of the search. ``of``: (problem, optimizer) of the task that this one
    varies, None where it varies none; ``what``: what is varied.
    """

    problem: str
    optimizer: str
    given: dict
    seed: int = 0
    start: object = "flat"
    of: tuple[str, str] | None = None
    what: str | None = None

    @property
    def digest(self) -> str:
        """Of all that it says."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def search(self) -> dict:
        """The arguments of :func:`search` besides problem and optimizer."""
        names = [*_SEARCH, *(_MAY & set(self.given))]
        return {name: self.given[name] for name in names} | dict(seed=self.seed, start=self.start)


def tasks(path=None) -> list[Task]:
    """All searches of a plan file, in the order in which they are to be run.

    ``ValueError`` says where the file is wrong. A task comes after the one that it varies.
    """
    path = PATH if path is None else path
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path.name} of the searches can not be read: {error}") from error
    parts = {"version", "search", "varied", "problems", "again", "variations"}
    _known("the plan", content, parts)
    common, varied = content.get("search", {}), content.get("varied", {})
    _known("[search]", common, _EACH)
    _known("[varied]", varied, _EACH)
    missing = sorted(_EACH - set(common))
    if missing:
        _checks.fail("[search]", sorted(common), f"must also say {', '.join(missing)}")
    found: dict[tuple, Task] = {}

    def add(where: str, problem: str, optimizer: str, own: dict, **rest) -> None:
        _checked(where, problem, optimizer)
        task = Task(problem, optimizer, {**common, **own}, **rest)
        key = (problem, optimizer, task.seed)
        if key in found:
            _checks.fail(where, key, "is in the plan already")
        if task.of is not None and (*task.of, 0) not in found:
            _checks.fail(where, task.of, "must be searched before it is varied")
        found[key] = task

    own: dict[str, dict] = {}
    for problem, entry in content.get("problems", {}).items():
        where = f"[problems.{problem}]"
        _known(where, entry, {"optimizer"} | _EACH | _MAY)
        own[problem] = {name: value for name, value in entry.items() if name != "optimizer"}
        add(where, problem, entry.get("optimizer", "momentum"), own[problem])
    for number, entry in enumerate(content.get("again", [])):
        where = f"[[again]] {number + 1}"
        _known(where, entry, {"problem", "optimizer", "start"})
        problem, optimizer = entry["problem"], entry.get("optimizer", "momentum")
        known = own.get(problem, {})
        start = entry.get("start", "flat")
        rest = dict(of=(problem, optimizer), what=AGAIN, seed=1, start=start)
        add(where, problem, optimizer, known, **rest)
    for number, entry in enumerate(content.get("variations", [])):
        where = f"[[variations]] {number + 1}"
        _known(where, entry, {"what", "problem", "optimizer", "problems", "optimizers"})
        base = entry["problem"], entry.get("optimizer", "momentum")
        known = own.get(parse(base[0])[0], {}) | varied
        for problem in entry.get("problems", [base[0]]):
            for optimizer in entry.get("optimizers", [base[1]]):
                add(where, problem, optimizer, known, of=base, what=entry["what"])
    return list(found.values())


def _known(where: str, given: dict, allowed: set) -> None:
    for name in given:
        _checks.choice(where, name, sorted(allowed))


def _checked(where: str, problem: str, optimizer: str) -> None:
    try:
        problem_of(problem)
        maker_of(optimizer)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
