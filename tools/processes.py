"""Processes of the tools: how much memory one took, and how they end together."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time


def peak_mb() -> int | None:
    """Peak memory of the kernel: of the largest process that this one started and saw end."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / unit)


def end_with_parent() -> None:
    """End this process, and so its kernel, soon after `run` was killed without a word."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def end_group(process: subprocess.Popen) -> None:
    """End a process and all that it has started: politely, and after a while not."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left there
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
