"""Where the store lies, and how much it may hold, by the environment."""

import os
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

from anneal_utils import _checks

LIMIT = 2 << 30  # bytes, unless ANNEAL_STORE_LIMIT says otherwise


def standard() -> Path:
    """The store's folder where nothing says otherwise: in a checkout, else the user's caches."""
    root = Path(__file__).resolve().parent.parent.parent
    with suppress(OSError, tomllib.TOMLDecodeError):
        told = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
        if told.get("project", {}).get("name") == "anneal-utils":
            return root / "data" / "cache" / "store"
    if sys.platform == "win32":
        caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        caches = Path.home() / "Library" / "Caches"
    else:
        caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return caches / "anneal-utils" / "store"


def limit() -> int:
    """The limit that the environment gives."""
    given = os.environ.get("ANNEAL_STORE_LIMIT")
    if not given:
        return LIMIT
    if not given.isdecimal():
        _checks.fail("ANNEAL_STORE_LIMIT", given, "must be a whole number of bytes")
    return int(given)
