"""Ctrl-C and ``kill`` end a program of this repository alike: in order, with one sentence.

For programs only (``if __name__ == "__main__"``): a library leaves its caller's signals alone.
"""

import os
import signal
import sys
import threading

_ending = _asked = False


def interruptible() -> None:
    """SIGINT, SIGTERM and SIGHUP raise ``KeyboardInterrupt``, whatever this process inherited.

    Shells start background jobs with SIGINT ignored, which goes through every ``exec``; Python
    leaves it so, and could then be ended by nothing polite. SIGHUP stays as ``nohup`` set it.
    """
    _handle(_interrupt)
    sys.unraisablehook = _again


def asked() -> bool:
    """Whether a signal came: code that was cut short may let another error out instead."""
    return _asked


def ending() -> None:
    """What follows is the clean-up: no further signal cuts it short."""
    global _ending
    _ending = True


def exit_with(sentence: str) -> None:
    """Until ``interruptible()``, while there is nothing to clean up: ``sentence``, and the end."""

    def at_once(number, frame):
        os.write(2, f"{sentence}\n".encode())
        os._exit(130)

    _handle(at_once)


def leave_to_parent() -> None:
    """In a worker: Ctrl-C reaches the whole group, but one process answers and ends the others."""
    from tqdm import tqdm  # only those who train have it

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # By default a semaphore, about whose loss there is a warning when this process is ended.
    tqdm.set_lock(threading.RLock())


def _interrupt(number, frame):
    global _asked
    if not _ending:
        _asked = True
        raise KeyboardInterrupt


def _again(dropped) -> None:
    """What is raised while an object is deleted, Python drops: an interrupt comes once more."""
    if issubclass(dropped.exc_type, KeyboardInterrupt):
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
    else:
        sys.__unraisablehook__(dropped)


def _handle(handler) -> None:
    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup and signal.getsignal(hangup) != signal.SIG_IGN:
        signal.signal(hangup, handler)
