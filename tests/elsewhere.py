"""Python processes of their own, for what one process can have only once."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent


def python(*arguments: str, **environment: str | None) -> str:
    """What a new Python prints, which has the package and these helpers; it must end well.

    An environment variable of None is not there.
    """
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, TESTS)))}
    variables |= environment
    done = subprocess.run(
        [sys.executable, *arguments],
        env={name: value for name, value in variables.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
