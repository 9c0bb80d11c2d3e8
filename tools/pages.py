"""Write what the pages of book/ take from the code: ``python -m tools.pages``.

``equivalents.md`` is made of the package's own table. In ``around_fit.md`` every Python block is
run, in order, and what it prints stands below it.
"""

import contextlib
import io
import itertools
import json
import os
import re
import tempfile
from pathlib import Path

from anneal_utils import schedules

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENTS = ROOT / "book" / "equivalents.md"
AROUND_FIT = ROOT / "book" / "around_fit.md"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n.*?^```\n)?", re.DOTALL | re.MULTILINE)
INTRODUCTION = """\
# The same rates elsewhere

A schedule that is known from one library is often wanted in another, and the same words do not
always mean the same rates. Below, each call has the rates of the call of this package beside it, at
every step of a run of 100 steps with the largest rate 0.1. For other numbers ask
`schedules.equivalents(name, peak, steps)`.

How the others are stepped: `optimizer` is one whose rate is the largest rate, and its scheduler is
stepped once after every optimizer step (timm's by `step_update`, with `t_in_epochs=False`). optax's
and Keras's schedules are functions of the step; fastai's bare ones of the share of the run that is
done, and `learn` has as many batches to an epoch as the run has steps.

How this package counts: step 0 is the first; a decay reaches its end at step 100, one after the
last, and stays there; a warmup of W steps has the rate peak × (t + 1) / (W + 1) at step t, inside
the 100 steps. Where another library counts in another way, the last column says so.

The tests hold every line: optax and Keras are asked, and what PyTorch, transformers, timm and
fastai answered is kept beside the tests, step by step, for two settings
({versions}).

Any schedule can be had as a plain function of the step, too, with nothing imported but `math`:

```python
from anneal_utils import schedules

print(schedules.code(schedules.build("cosine", peak=0.1, steps=100)))
```
"""


def equivalents() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION.replace("{versions}", versions())]
    for name, rows in itertools.groupby(schedules.equivalents(), lambda row: row["schedule"]):
        lines = [f"## {name}", ""]
        if name in schedules.names():
            lines += [f"`{schedules.describe(name)}`", ""]
        lines += ["| library | call | `schedules.` | differs |", "|---|---|---|---|"]
        lines += [
            f"| {row['library']} | `{row['call']}` | `{row['ours']}` | {row['differs']} |"
            for row in rows
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def versions() -> str:
    """The versions that were asked, from the record of what they answered."""
    records = json.loads((ROOT / "tests" / "peers.json").read_text(encoding="utf-8"))
    found = {record["library"]: record["version"] for record in records}
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def executed(text: str) -> str:
    """The page ``text`` with what each Python block prints below it, in one process, in order."""
    space: dict = {}

    def run(block: re.Match) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block[1], "page", "exec"), space)
        shown = printed.getvalue()
        return f"```python\n{block[1]}```\n" + (f"\n```text\n{shown}```\n" if shown else "")

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        return BLOCK.sub(run, text)


if __name__ == "__main__":
    os.environ["ANNEAL_HEADLESS"] = "1"
    EQUIVALENTS.write_text(equivalents(), encoding="utf-8")
    AROUND_FIT.write_text(executed(AROUND_FIT.read_text(encoding="utf-8")), encoding="utf-8")
