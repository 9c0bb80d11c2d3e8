"""Small shared module of the course: schedules, problems, the many-run trainer, statistics, claims.

Import the piece you need, for example ``from anneal_utils import schedules, training``.
TensorFlow reads its settings from the environment once, at import, so they are set here, before
any module of the package imports it. A value that you set yourself wins; if you imported
TensorFlow first, it is left as it is.
"""

import os
import sys

# Warnings and errors stay visible; the banner lines of a CPU build do not.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# oneDNN picks its kernels by processor: the same code would give other bits on another machine.
# Too late for a TensorFlow that is there already; then the processes of this one are to be as it.
if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


def headless() -> bool:
    """Whether a machine is executing the notebook: then no progress bars and no widgets."""
    return bool(os.environ.get("ANNEAL_HEADLESS") or os.environ.get("PYTEST_CURRENT_TEST"))


__version__ = "0.1.0"
