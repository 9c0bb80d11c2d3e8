"""Packages whose rooms are imported when something in them is asked for."""

import importlib
from collections.abc import Mapping

from anneal_utils import _needs


def rooms(package: str, known: Mapping[str, tuple[str, ...]], names: dict):
    """``(__getattr__, __dir__, __all__)`` of a package, from its rooms and their public names.

    ``known``: ``{room: names}``, a room being a module below ``package`` or, with a dot, any
    module. ``names``: the package's ``globals()``, in which is kept what was found. What the rooms
    import takes seconds, and a command line has to be able to answer a Ctrl-C before that.
    """
    public = sorted(name for some in known.values() for name in some)

    def found(name: str):
        for room, some in known.items():
            if name == room or name in some:
                if missing := _needs.tensorflow(package):
                    raise ImportError(missing)
                place = room if "." in room else f"{package}.{room}"
                module = importlib.import_module(place)
                names[name] = module if name == room else getattr(module, name)
                return names[name]
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def listed() -> list[str]:
        return sorted({*names, *public})

    return found, listed, public
