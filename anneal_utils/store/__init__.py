"""Results of trainings on disk, found again by what was computed.

``training.train`` looks every run up by its identity (see :mod:`anneal_utils.identity`) before it
trains, and keeps what it trained: a notebook whose prose changed runs again in seconds, and the
course, the benchmark and a study of your own share what they computed. Weights are not kept.

    python -m anneal_utils.store          # where it is, and how much is in it
    python -m anneal_utils.store clear    # empty it

It is a cache: whatever is missing, damaged or of another format is computed again. It lies in
``data/cache/store`` of a checkout, else in the user's folder for caches; the environment variable
``ANNEAL_STORE`` names another folder, or is ``off``.
"""

import os

from anneal_utils import _checks
from anneal_utils.store.folder import Store
from anneal_utils.store.records import Record

__all__ = ["Record", "Store", "chosen", "default"]


def default() -> "Store | None":
    """The store that ``training.train`` uses: None where ``ANNEAL_STORE`` is ``off``.

    With ``ANNEAL_STORE_FRESH`` set it is written and not read, so that everything is computed.
    """
    if os.environ.get("ANNEAL_STORE") == "off":
        return None
    return Store(fresh=bool(os.environ.get("ANNEAL_STORE_FRESH")))


def chosen(store) -> "Store | None":
    """The store that an argument ``store`` means: None the default, False none, a folder or one."""
    if store is None:
        return default()
    if store is False or isinstance(store, Store):
        return store or None
    if not isinstance(store, str | os.PathLike):
        allowed = "must be None (the default), False (none), a folder, or a store.Store"
        _checks.fail("store", store, allowed)
    return Store(store)
