"""What is not part of a plain install: one sentence says who needs it, and how to get it."""

import importlib
import importlib.util


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):  # refused, or half imported
        return False


def tensorflow(who: str) -> str:
    """Why ``who`` cannot work here, which computes on Keras's TensorFlow backend; "" if it can.

    The only place of this rule. A module asks before its other imports::

        if missing := _needs.tensorflow("anneal_utils.training"):
            raise ImportError(missing)
    """
    if not _installed("tensorflow"):
        return f"{who} needs TensorFlow: pip install 'anneal-utils[train]'"
    from anneal_utils import _backend  # only now: Keras may want TensorFlow too

    if _backend.tf is None:
        return (
            f"{who} runs on Keras's TensorFlow backend, and Keras runs on {_backend.NAME} here: "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )
    return ""


def package(name: str, who: str):
    """The module ``name``, or an ``ImportError`` that says that ``who`` needs it."""
    if not _installed(name):
        raise ImportError(f"{who} needs {name}: pip install 'anneal-utils[train]'")
    return importlib.import_module(name)
