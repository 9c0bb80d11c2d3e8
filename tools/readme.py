"""Write the verdict table of README.md from the ledger: ``python -m tools.readme``."""

import re
from pathlib import Path

from anneal_utils import claims

README = Path(__file__).resolve().parent.parent / "README.md"


def main() -> None:
    """Replace what stands between the two markers."""
    text = README.read_text(encoding="utf-8")
    pattern = r"(<!-- verdicts:.*?-->\n).*?(<!-- end of verdicts -->)"
    table = claims.markdown_table()
    new, count = re.subn(pattern, lambda m: m[1] + table + m[2], text, flags=re.DOTALL)
    if count != 1:
        raise SystemExit("README.md has lost its verdict markers.")
    README.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()
