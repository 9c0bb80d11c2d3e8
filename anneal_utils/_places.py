"""Where the package reads its results and keeps what it has fetched or computed."""

import os
import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def _checkout() -> Path | None:
    """``data`` of the repository, if the package lies in one; None where it is installed."""
    root = _PACKAGE.parent
    ours = (root / "pyproject.toml").is_file() and (root / "data" / "benchmark").is_dir()
    return root / "data" if ours else None


def committed(kind: str = "benchmark") -> Path:
    """Results of a kind that the package comes with: in the repository, or in the wheel."""
    return (_checkout() or _PACKAGE / "_data") / kind


def caches() -> Path:
    """The folder for downloads and finished runs, which need not exist yet.

    ``data/cache`` in the repository; elsewhere the user's folder for caches, as the system has it
    (``$XDG_CACHE_HOME`` or ``~/.cache``, ``~/Library/Caches``, ``%LOCALAPPDATA%``).
    """
    if data := _checkout():
        return data / "cache"
    home = Path.home()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "anneal-utils"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "anneal-utils"
    named = os.environ.get("XDG_CACHE_HOME", "")  # by its standard, what is not absolute is void
    return (Path(named) if os.path.isabs(named) else home / ".cache") / "anneal-utils"
