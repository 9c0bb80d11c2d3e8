"""``python -m anneal_utils.store``: what is in the store, and ``clear`` to empty it."""

import argparse
import os
import sys

from anneal_utils.store import Store


def main(arguments=None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m anneal_utils.store", description="What is in the store of results."
    )
    parser.error = lambda message: parser.exit(2, f"{message}\n")
    parser.add_argument("command", nargs="?", choices=["show", "clear"], default="show")
    command = parser.parse_args(arguments).command
    if os.environ.get("ANNEAL_STORE") == "off":
        print("The store is off (ANNEAL_STORE=off).")
        return 0
    try:
        store = Store()
        if command == "clear":
            store.clear()
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"folder    {store.folder}")
    print(f"programs  {len(store.programs()):,}")
    print(f"runs      {store.runs():,}")
    print(f"size      {store.size() / 1e6:,.1f} MB of at most {store.limit / 1e6:,.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
