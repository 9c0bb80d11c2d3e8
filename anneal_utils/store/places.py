"""Where the store lies, and how much it may hold, by the environment."""

import os
from pathlib import Path

from anneal_utils import _checks, _places

LIMIT = 2 << 30  # bytes, unless ANNEAL_STORE_LIMIT says otherwise


def standard() -> Path:
    """The store's folder where nothing says otherwise: in a checkout, else the user's caches."""
    return _places.caches() / "store"


def limit() -> int:
    """The limit that the environment gives."""
    given = os.environ.get("ANNEAL_STORE_LIMIT")
    if not given:
        return LIMIT
    if not given.isdecimal():
        _checks.fail("ANNEAL_STORE_LIMIT", given, "must be a whole number of bytes")
    return int(given)
