"""Files of users that register more, loaded alike in this process and in every worker."""

import sys
import threading
import types
from dataclasses import dataclass
from pathlib import Path

from anneal_utils import _checks, optimizers, problems, schedules
from anneal_utils.benchmark.entrants import parse
from anneal_utils.registry import adding


@dataclass(frozen=True)
class Plugin:
    """A user's file that registers schedules, problems or optimizers; workers get its text."""

    name: str
    source: str

    @classmethod
    def read(cls, path) -> "Plugin":
        """The file at ``path``; ``ValueError`` where it can not be read."""
        try:
            return cls(Path(path).name, Path(path).read_text())
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "is not a text file"
            raise ValueError(f"plugin = {str(path)!r}: {reason}.") from error


loaded: dict[str, str] = {}  # file name: its source
_loading = threading.Lock()  # a Dask worker may have several threads
REGISTRIES = {
    "schedule": schedules.catalogue.registry,
    "problem": problems.catalogue.registry,
    "optimizer": optimizers.catalogue.registry,
}


def load_plugin(plugin: Plugin) -> None:
    """Run the plugin once in this process; a changed text of the same name replaces it."""
    with _loading:
        if loaded.pop(plugin.name, None) != plugin.source:
            _execute(plugin)
        loaded[plugin.name] = plugin.source


def _execute(plugin: Plugin) -> None:
    """Run the text in place of what it was before. All or nothing."""
    module = types.ModuleType(f"anneal_plugin_{Path(plugin.name).stem}")
    sys.modules[module.__name__] = module  # so that its classes can be pickled and serialised
    for registry in REGISTRIES.values():
        registry.forget(module.__name__)
    try:
        with adding(plugin.name):
            exec(compile(plugin.source, plugin.name, "exec"), module.__dict__)
    except Exception as error:
        for registry in REGISTRIES.values():
            registry.forget(module.__name__)
        raise ValueError(f"plugin = {plugin.name!r}: {type(error).__name__}: {error}") from error


def refuse_what_workers_lack(problems_, optimizers_, schedules_) -> None:
    """What this process alone has: workers could not know it.

    Problems as they were given, optimizers as texts, schedules by name.
    """
    for problem in problems_:
        if not isinstance(problem, str):
            _checks.fail(
                "problem",
                problem.name,
                "is an object of this process; for other processes (jobs > 1, Dask) put a function "
                "that returns it, under problems.register, into a file and pass it as a plugin",
            )
    used = {
        "schedule": set(schedules_),
        "problem": {parse(problem)[0] for problem in problems_},
        "optimizer": {parse(optimizer)[0] for optimizer in optimizers_},
    }
    for kind, registry in REGISTRIES.items():
        for name in sorted(used[kind]):
            if not (registry.is_own(name) or registry.entry(name).owner in loaded):
                _checks.fail(
                    kind,
                    name,
                    "was registered in this process alone; for other processes put it into a file "
                    "and pass it as a plugin",
                )
