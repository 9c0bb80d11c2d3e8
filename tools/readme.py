"""Write what README.md takes from the ledger and the results: ``python -m tools.readme``."""

import re
from pathlib import Path

from anneal_utils import benchmark, claims, search
from anneal_utils.benchmark import Plan

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks() -> dict[str, str]:
    """The text that belongs between each pair of markers."""
    plan, found = Plan.read(), benchmark.load(benchmark.COMMITTED)
    sentences = benchmark.sentences(found, plan.reading, rule=plan.untuned["rule"])
    planned = [label for label, entry in plan.entries.items() if not entry.downloaded]
    if missing := [label for label in planned if label not in found.provenance]:
        known = len(planned) - len(missing)
        sentences.append(
            f"Measured so far: {known} of the plan's {len(planned)} problems; to come: "
            f"{', '.join(missing)}."
        )
    return {
        "verdicts": claims.markdown_table(),
        "recommendation": "".join(f"- {sentence}\n" for sentence in sentences),
        "search": "".join(f"- {one}\n" for one in search.sentences(search.load(search.COMMITTED))),
    }


def main() -> None:
    """Replace what stands between the markers."""
    text = README.read_text(encoding="utf-8")
    for name, block in blocks().items():
        pattern = rf"(<!-- {name}:.*?-->\n).*?(<!-- end of {name} -->)"
        text, count = re.subn(pattern, lambda m, b=block: m[1] + b + m[2], text, flags=re.DOTALL)
        if count != 1:
            raise SystemExit(f"README.md has lost its markers of {name}.")
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
