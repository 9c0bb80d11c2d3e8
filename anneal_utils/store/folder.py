"""A folder of records: any number of processes read and write it at once, without locks.

There is one folder per traced program, and in it parquet files that are written whole, by names
that nobody else uses, and never changed. Where they become many they are merged; the new one is
there before the old go.
"""

import os
import re
import sys
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from anneal_utils import _checks, _files
from anneal_utils._cache import Recent
from anneal_utils.store import places
from anneal_utils.store.records import Record, packed, unpacked

import numpy as np

_MANY = 32  # files in a program's folder; with more, they are merged
_LARGE = 32 << 20  # bytes of a file that is not merged any more
_UNIT = 64 << 10  # bytes written, for each of which `_WRITTEN` grows by one
_OLD = 60  # seconds after which a half-written file is one that a killed process left
_WRITTEN = ".written"  # its size tells how much was written since the store was last measured
_PROGRAM = re.compile("[0-9a-f]{32}")
_NAME = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.parquet")  # when it was written, and chance
_PARTIAL = re.compile(rf"\.{_NAME.pattern}\.\d+\.\d+\.part")

_recent = Recent(64 << 20)  # what was read of files, which never change


class Store:
    """Records by program and identity, in ``folder`` (default: see the module), under ``limit``.

    ``limit`` is in bytes (default: ``ANNEAL_STORE_LIMIT``, else 2 GiB): the files used longest ago
    go first. ``fresh``: what is there is not read, but computed and written anew. A folder that
    can not be read or written is one warning per process, and no error; if it can not be written
    and the store is ``strict``, an ``OSError``.
    """

    def __init__(
        self, folder=None, limit: int | None = None, *, fresh: bool = False, strict: bool = False
    ):
        """Nothing is created before something is written."""
        given = folder or os.environ.get("ANNEAL_STORE")
        folder = Path(given).expanduser() if given and given != "off" else places.standard()
        self.folder = folder.absolute()
        self.limit = places.limit() if limit is None else _checks.count("limit", limit, low=0)
        self.fresh, self.strict = fresh, strict

    def __repr__(self):
        return f"Store({str(self.folder)!r}, limit={self.limit})"

    def read(self, program: str, columns: Sequence[str] | None = None) -> dict[str, Record]:
        """All records of a program by identity; with ``columns``, of histories with just these."""
        folder, wanted = self._of(program), None if columns is None else tuple(columns)
        records: dict[str, Record] = {}
        for _ in range(0 if self.fresh else 5):
            whole = True
            for path in _paths(folder):
                try:
                    names, found = _content(path)
                except FileNotFoundError:  # merged or cleared just now: see what is there instead
                    whole = False
                    continue
                with suppress(OSError):
                    os.utime(path)  # the limit spares what was used last
                if wanted is None or names == wanted:
                    records.update(found)
            if whole:
                break
        return records

    def write(self, program: str, columns: Sequence[str], records: Mapping[str, Record]) -> None:
        """Keep records, whose histories have these columns, as one more file."""
        folder = self._of(program)
        for identity, record in records.items():
            shape = np.shape(record.history)
            if len(shape) != 2 or shape[1] != len(columns):
                allowed = f"must have one column for each of {', '.join(columns)}"
                _checks.fail(f"the shape of the history of {identity}", shape, allowed)
        if not records:
            return
        try:
            self._put(folder, columns, records, time.time_ns())
            self._merge(folder)
            self._hold_limit()
        except OSError as error:
            if self.strict:
                raise
            _warn_once(self.folder, error)

    def programs(self) -> list[str]:
        """The programs of which there are records, in any order."""
        return [entry.name for entry in _entries(self.folder) if _is_program(entry)]

    def runs(self) -> int:
        """How many runs of all programs there are; this is not a use of them."""
        count = 0
        for program in self.programs():
            known: set[str] = set()
            for path in _paths(self.folder / program):
                with suppress(FileNotFoundError):
                    known.update(_content(path)[1])
            count += len(known)
        return count

    def size(self) -> int:
        """Bytes of all files."""
        return sum(size for _, size, _ in self._measured())

    def foreign(self) -> list[Path]:
        """What lies in the folder and was not written by a store."""
        found = []
        for entry in _entries(self.folder):
            if _is_program(entry):
                inside = (e for e in _entries(entry.path) if not _is_own(e))
                found += [Path(e.path) for e in inside]
            elif entry.name != _WRITTEN:
                found.append(Path(entry.path))
        return found

    def clear(self) -> None:
        """Delete everything that a store wrote, and nothing else; ``ValueError`` beside others."""
        if found := self.foreign():
            _checks.fail(
                "folder",
                str(self.folder),
                f"must be a store's alone to be cleared, and holds {found[0].name}",
            )
        for name in self.programs():
            for _, _, path in self._measured([name]):  # without what is half-written now
                _delete(path)
            _delete_folder(self.folder / name)
        _delete(self.folder / _WRITTEN)

    def _of(self, program: str) -> Path:
        if not isinstance(program, str) or not _PROGRAM.fullmatch(program):
            _checks.fail("program", program, "must be a digest of 32 hexadecimal digits")
        return self.folder / program

    def _put(self, folder: Path, columns, records: Mapping[str, Record], when: int) -> None:
        content = packed(columns, records)
        path = folder / f"{when:016x}-{uuid.uuid4().hex[:16]}.parquet"
        for tries_left in (2, 1, 0):
            try:
                _files.write(path, content)
                break
            # The folder was cleared between its making and its use, or while it was being made.
            except (FileNotFoundError, FileExistsError):
                if not tries_left:
                    raise
        with suppress(FileNotFoundError), open(self.folder / _WRITTEN, "ab") as stream:
            stream.write(b"." * -(-len(content) // _UNIT))

    def _merge(self, folder: Path) -> None:
        """Make one file of the program's smaller ones, where there are many."""
        groups: dict[tuple, list[Path]] = {}
        paths = _paths(folder)
        if len(paths) <= _MANY:
            return
        for path in paths:
            with suppress(FileNotFoundError):
                if path.stat().st_size < _LARGE:
                    names, found = _content(path)
                    if found:  # not of another format
                        groups.setdefault(names, []).append(path)
        for names, several in groups.items():
            if len(several) <= _MANY:
                continue
            records: dict[str, Record] = {}
            merged = []
            for path in several:
                with suppress(FileNotFoundError):  # another process is doing the same
                    records.update(_content(path)[1])
                    merged.append(path)
            # By the time of the newest: what is written meanwhile still counts as newer.
            self._put(folder, names, records, int(several[-1].name[:16], 16))
            for path in merged:
                _delete(path)

    def _hold_limit(self) -> None:
        """Delete what was used longest ago, if the store may have outgrown its limit.

        All files are measured only when a sixteenth of the limit was written since the last time,
        and then as much is freed: so the limit holds in between.
        """
        slack = self.limit // 16
        written = self.folder / _WRITTEN
        with suppress(FileNotFoundError):  # cleared just now
            if written.stat().st_size * _UNIT > slack:
                self._free(self.limit - slack)
                written.write_bytes(b"")

    def _free(self, most: int) -> None:
        """Delete files, longest unused first, until at most so many bytes are left."""
        measured = sorted(self._measured(), key=lambda one: one[0])
        total = sum(size for _, size, _ in measured)
        for _, size, path in measured:
            if total <= most:
                break
            _delete(path)
            total -= size
            _delete_folder(path.parent)

    def _measured(self, programs=None) -> Iterator[tuple[float, int, Path]]:
        """(last use, bytes, path) of every file; old half-written ones are deleted on the way."""
        for name in self.programs() if programs is None else programs:
            for entry in _entries(self.folder / name):
                with suppress(FileNotFoundError):
                    known = entry.stat(follow_symlinks=False)
                    if _NAME.fullmatch(entry.name):
                        yield known.st_mtime, known.st_size, Path(entry.path)
                    elif _is_own(entry) and known.st_mtime < time.time() - _OLD:
                        _delete(Path(entry.path))


def _content(path: Path) -> tuple[tuple, dict[str, Record]]:
    """Columns and records of a file; none if it can not be read, ``FileNotFoundError`` if gone."""
    known = _recent.get(str(path))
    if known is not None and path.exists():
        return known
    try:
        content = path.read_bytes()
        found = unpacked(content)
    except FileNotFoundError:
        raise
    except OSError as error:
        _warn_once(path.parent.parent, error)
        return (), {}
    except ValueError as error:
        print(f"{path.name} in the store {error}: its runs are computed again.", file=sys.stderr)
        _delete(path)
        return (), {}
    # In memory a record is an object or two more than its bytes.
    return _recent.put(str(path), found, 2 * len(content) + 500 * len(found[1]))


def _entries(folder) -> list[os.DirEntry]:
    """What is in a folder; nothing where there is none."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _warn_once(folder, error)
        return []


def _paths(folder: Path) -> list[Path]:
    """The files of a program, in the order in which they were written."""
    return sorted(folder / e.name for e in _entries(folder) if _NAME.fullmatch(e.name))


def _is_program(entry: os.DirEntry) -> bool:
    return bool(_PROGRAM.fullmatch(entry.name)) and entry.is_dir(follow_symlinks=False)


def _is_own(entry: os.DirEntry) -> bool:
    named = _NAME.fullmatch(entry.name) or _PARTIAL.fullmatch(entry.name)
    return bool(named) and entry.is_file(follow_symlinks=False)


def _delete(path: Path) -> None:
    with suppress(OSError):  # gone, or not ours to delete
        path.unlink()


def _delete_folder(path: Path) -> None:
    with suppress(OSError):  # not empty
        path.rmdir()


_warned = False


def _warn_once(folder, error: OSError) -> None:
    global _warned
    if not _warned:
        _warned = True
        told = error.strerror or error
        warnings.warn(f"The store in {folder} can not be used: {told}.", stacklevel=4)
