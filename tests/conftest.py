"""Unit tests compute: nothing that an earlier run of them left behind may answer in their place."""

import os

os.environ["ANNEAL_STORE"] = "off"  # before anything is imported; processes they start inherit it
os.environ.pop("ANNEAL_STORE_FRESH", None)
os.environ.pop("ANNEAL_STORE_LIMIT", None)
