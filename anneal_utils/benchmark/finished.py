"""Finished chunks on disk, so that an interrupted run goes on where it was."""

import contextlib
import itertools
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from anneal_utils import _files, _places, identity
from anneal_utils.benchmark.chunks import COLUMNS, FORMAT, Chunk
from anneal_utils.benchmark.entrants import problem_of
from anneal_utils.training.trainer import names_of

import pandas as pd

CACHE = _places.caches() / "benchmark"


class Cache:
    """Finished chunks as files ``<key>.parquet`` in one folder; safe for several processes.

    The key is the digest of the identities of the chunk's runs, so of what they compute: a
    changed closure, helper or setting is another key, a new comment or label is not. A chunk
    whose runs can not be read in full has no key and is never kept.
    """

    def __init__(self, folder, mode: str):
        """``folder`` is made when the first chunk is written."""
        self.folder, self.mode = Path(folder), mode
        self._names: dict[Chunk, list] = {}
        for old in self.folder.glob(".*.part"):  # of a process that was killed while writing
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > 3600:
                    old.unlink()

    def names(self, chunks: Iterable[Chunk]) -> list[list]:
        """The (identity, start) of each run of each chunk; trains nothing."""
        chunks = list(chunks)
        groups: dict = {}
        for chunk in chunks:
            if chunk not in self._names:
                groups.setdefault((chunk.problem, chunk.optimizer, chunk.epochs), []).append(chunk)
        for (problem, *_), members in groups.items():
            runs = [run for i, chunk in enumerate(members) for run in chunk.runs(str(i))]
            found = iter(names_of(problem_of(problem), runs, self.mode))
            for chunk in members:
                self._names[chunk] = list(itertools.islice(found, len(chunk)))
        return [self._names[chunk] for chunk in chunks]

    def path(self, chunk: Chunk) -> Path | None:
        """Where the chunk is kept; None where it can not be."""
        identities = [name.identity for name in self.names([chunk])[0]]
        if None in identities:
            return None
        return self.folder / f"{identity.digest(FORMAT, identities)}.parquet"

    def read(self, chunk: Chunk) -> pd.DataFrame | None:
        """The chunk's table, or None: not there, or damaged, which is said."""
        path = self.path(chunk)
        if path is None:
            return None
        try:
            table = _files.unparquet(path.read_bytes(), key=path.stem)
            own = [name.identity for name in self.names([chunk])[0]]
            if list(table) != list(COLUMNS) or list(table["run"]) != own:
                raise ValueError("does not hold what was written")
        except FileNotFoundError:
            return None
        except (ValueError, OSError) as error:
            print(f"{path.name} in the cache {error}: it is computed again.", file=sys.stderr)
            return None
        return table.astype(COLUMNS)

    def write(self, chunk: Chunk, table: pd.DataFrame) -> None:
        """Keep the chunk's table."""
        path = self.path(chunk)
        if path is not None:
            _files.write(path, _files.parquet(table, key=path.stem))
