"""Things by name: schedules, problems and optimizers are added, replaced and taken out alike.

A :class:`Registry` remembers for each name what it stands for and who added it. What the package
itself has can be replaced by a user, never lost: taking the replacement out brings it back.
"""

import contextlib
import contextvars
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from anneal_utils import _checks

_PACKAGE = __name__.partition(".")[0]
_owner: contextvars.ContextVar = contextvars.ContextVar("owner", default=None)


@dataclass(frozen=True)
class Entry:
    """What a name stands for, where that was registered, and what is to be known besides."""

    value: object
    module: str
    line: int
    owner: str | None = None  # of the file that was being loaded, see ``adding``
    facts: dict = field(default_factory=dict)


class Registry:
    """Names of one ``kind`` of things, in the order in which they were added.

    >>> colours = Registry("colour")
    >>> @colours.register("red")
    ... def red():
    ...     '''The colour of a stop sign.'''
    >>> colours.names(), colours.describe("red")
    (['red'], 'The colour of a stop sign.')
    """

    def __init__(self, kind: str):
        """No names yet."""
        self.kind = kind
        self._entries: dict[str, list[Entry]] = {}  # the last of a name counts

    def register(self, name: str, value=None, *, overwrite: bool = False, depth: int = 1, **facts):
        """Add ``value`` as ``name``; without a value, a decorator of what is to be added.

        The same function registered again from the same module, as by a notebook cell that is run
        twice, takes its own place. ``ValueError`` for any other name that is taken, unless
        ``overwrite``. ``facts`` are kept beside it; ``depth`` frames up is who registers.
        """
        if not isinstance(name, str) or not name:
            _checks.fail("name", name, "must be a non-empty text")
        frame = sys._getframe(depth)
        where = (frame.f_globals.get("__name__", "?"), frame.f_lineno, _owner.get())
        # A decorator is refused where it stands, before the function under it is looked at.
        if value is None and name in self._entries and not overwrite:
            if self._entries[name][-1].module != where[0] or self.is_own(name):
                self._refuse(name)

        def add(value):
            if not callable(value):
                rule = f"must be a function or class that makes the {self.kind}"
                _checks.fail(self.kind, value, rule)
            self._add(name, Entry(value, *where, facts), overwrite)
            return value

        return add if value is None else add(value)

    def _add(self, name: str, entry: Entry, overwrite: bool) -> None:
        stack = self._entries.get(name, [])
        again = stack and not self.is_own(name) and _source(stack[-1]) == _source(entry)
        if stack and not (overwrite or again):
            self._refuse(name)
        if stack and not self.is_own(name) and stack[-1].module == entry.module:
            stack = stack[:-1]  # one's own earlier entry is not to come back
        self._entries[name] = [*stack, entry]

    def _refuse(self, name: str) -> None:
        _checks.fail(
            "name",
            name,
            f"is taken (by {self.origin(name)}); choose another, or pass overwrite=True",
        )

    def unregister(self, name: str) -> None:
        """Take a ``name`` out, or give it back what it stood for before it was overwritten."""
        self[name]
        if self.is_own(name):
            _checks.fail("name", name, f"belongs to {_PACKAGE} and was not registered by you")
        self._drop(name, self._entries[name][-1])

    def forget(self, module: str) -> None:
        """Take out all that a module has registered."""
        for name, stack in list(self._entries.items()):
            for entry in stack:
                if entry.module == module:
                    self._drop(name, entry)

    def _drop(self, name: str, entry: Entry) -> None:
        left = [other for other in self._entries[name] if other is not entry]
        if left:
            self._entries[name] = left
        else:
            del self._entries[name]

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """What is registered or taken out in the block is undone at its end."""
        before = dict(self._entries)
        try:
            yield
        finally:
            self._entries = before

    def __getitem__(self, name: str):
        """What ``name`` stands for; ``ValueError`` with the known names where there is none."""
        return self.entry(name).value

    def entry(self, name: str) -> Entry:
        """What is known about ``name``."""
        return self._entries[_checks.choice("name", name, self._entries)][-1]

    def __contains__(self, name) -> bool:
        """Whether ``name`` is registered."""
        return name in self._entries

    def names(self) -> list[str]:
        """All names."""
        return list(self._entries)

    def is_own(self, name: str) -> bool:
        """Whether the name stands for what the package itself has under it."""
        return self.entry(name).module.partition(".")[0] == _PACKAGE

    def describe(self, name: str) -> str:
        """One line: the first of the docstring."""
        return (inspect.getdoc(self[name]) or name).splitlines()[0]

    def origin(self, name: str) -> str:
        """Who registered ``name``: a module (``__main__``: a notebook or script) and a line."""
        entry = self.entry(name)
        return f"{entry.module}, line {entry.line}"


def _source(entry: Entry) -> tuple:
    """By what a second registration is known to be the same one again."""
    value = entry.value
    return entry.module, getattr(value, "__qualname__", type(value).__qualname__)


@contextlib.contextmanager
def adding(owner: str) -> Iterator[None]:
    """Whatever is registered in the block, by any module, is noted as brought by ``owner``."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)
