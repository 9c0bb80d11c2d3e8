"""``python -m anneal_utils.search run|show``."""

import sys

from anneal_utils import _signals

if __name__ == "__main__":
    _signals.exit_with("Stopped before it began.")  # what follows takes seconds to import
    try:
        from anneal_utils.search import main
    except ImportError as error:
        sys.exit(str(error))
    _signals.interruptible()
    sys.exit(main())
