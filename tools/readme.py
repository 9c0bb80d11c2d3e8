"""Write what README.md takes from the ledger and the results: ``python -m tools.readme``."""

import re
from pathlib import Path

from anneal_utils import claims
from anneal_utils.benchmark import first as benchmark

README = Path(__file__).resolve().parent.parent / "README.md"


def blocks() -> dict[str, str]:
    """The text that belongs between each pair of markers."""
    sentences = benchmark.recommendation(benchmark.load(benchmark.COMMITTED))
    return {
        "verdicts": claims.markdown_table(),
        "recommendation": "".join(f"- {sentence}\n" for sentence in sentences),
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
