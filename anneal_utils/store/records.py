"""What is kept of one training, and many of these as the content of one file."""

import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from anneal_utils import _files

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

FORMAT = "1"  # of the files; those of another are as if they were not there


class Record(NamedTuple):
    """What one training gave, besides its weights.

    ``history``: float32 [epochs, columns]. ``left``: the first step whose loss was not finite, or
    -1. ``last``: float32, numbers of the end of the training, which may be none.
    """

    history: np.ndarray
    left: int
    last: np.ndarray = np.zeros(0, "float32")


def packed(columns: Sequence[str], records: Mapping[str, Record]) -> bytes:
    """The records as a parquet file, a row each; numbers as bytes, so that every bit stays."""
    table = pd.DataFrame(
        {
            "run": list(records),
            "left": [int(record.left) for record in records.values()],
            "history": [_bytes(record.history) for record in records.values()],
            "last": [_bytes(record.last) for record in records.values()],
        }
    )
    return _files.parquet(table, format=FORMAT, columns=json.dumps(list(columns)))


def unpacked(content: bytes) -> tuple[tuple, dict[str, Record]]:
    """Columns and records; none for another format, ``ValueError`` for what no store wrote."""
    try:
        told = pq.read_schema(pa.BufferReader(content)).metadata
        form, columns = told[b"format"].decode(), told[b"columns"].decode()
    except MemoryError:
        raise
    except Exception as error:  # Arrow raises many kinds
        raise ValueError("is damaged") from error
    if form != FORMAT:
        return (), {}
    table = _files.unparquet(content, format=form, columns=columns)
    names = tuple(json.loads(columns))
    rows = zip(table["run"], table["left"], table["history"], table["last"], strict=True)
    return names, {
        run: Record(_numbers(history).reshape(-1, len(names)), int(left), _numbers(last))
        for run, left, history, last in rows
    }


def _bytes(numbers) -> bytes:
    return np.asarray(numbers, "<f4").tobytes()


def _numbers(content: bytes) -> np.ndarray:
    return np.frombuffer(content, "<f4").astype("float32", copy=False)
