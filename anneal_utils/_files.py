"""Tables on disk: written whole or not at all, and known again only if nothing was changed."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def content_digest(table: pd.DataFrame) -> str:
    """SHA-256 of the content, whatever the parquet writer makes of it."""
    digest = hashlib.sha256()
    for column in table:
        values = table[column]
        digest.update(f"{column}:{len(values)};".encode())
        if values.dtype.kind in "biuf":
            numbers = values.to_numpy().astype("<f8")
            numbers[np.isnan(numbers)] = np.nan  # a file does not keep which NaN it was
            digest.update(numbers.tobytes())
        else:
            digest.update("\0".join(map(str, values)).encode())
    return digest.hexdigest()


def write(path: Path, content: bytes) -> None:
    """``content`` at ``path``, all of it or nothing, even if the power goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name}.{os.getpid()}.{time.monotonic_ns()}.part"
    try:
        with open(partial, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def parquet(table: pd.DataFrame, **notes: str) -> bytes:
    """``table`` as parquet, with the digest of its content (and ``notes``) inside."""
    table = table.copy(deep=False)
    table.attrs = {}  # how it came about is not content: the same table gives the same bytes
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    own = {"sha256": content_digest(table), **notes}
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **own})
    sink = pa.BufferOutputStream()
    pq.write_table(arrow, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def unparquet(content: bytes, **notes: str) -> pd.DataFrame:
    """The table; ``ValueError`` where it is not what ``parquet`` wrote."""
    try:
        arrow = pq.read_table(pa.BufferReader(content))
        table = arrow.to_pandas()
        said = arrow.schema.metadata or {}
    except MemoryError:
        raise
    except Exception as error:  # Arrow raises many kinds, up to UnicodeDecodeError
        raise ValueError("is not a parquet file") from error
    own = {"sha256": content_digest(table), **notes}
    if any(said.get(name.encode()) != value.encode() for name, value in own.items()):
        raise ValueError("does not hold what was written")
    return table
