"""``python -m anneal_utils.benchmark run|list|show``."""

import os
import sys

from anneal_utils import _signals

if __name__ == "__main__":
    _signals.exit_with("Stopped before it began.")  # what follows takes seconds to import
    try:
        from anneal_utils.benchmark import main
    except ImportError as error:
        sys.exit(str(error))

    # When a signal ends a pool of processes, loky's tracker may tell of a semaphore as leaked that
    # was removed a moment before.
    tracker = "joblib.externals.loky.backend.resource_tracker"
    os.environ.setdefault("PYTHONWARNINGS", f"ignore::UserWarning:{tracker}")
    _signals.interruptible()
    sys.exit(main())
