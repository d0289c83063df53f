"""Rows on disk: one immutable table, memory-mapped where it came from a file, with names for its places.

Selecting rows copies nothing: a selection is the same table and an index. Scans go batch by batch, so that a
file larger than memory works; what a scan keeps a row must be counted in bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class Columns:
    """Which column plays which part. ``inputs`` holds one name, or two for pairs; ``target`` several for 0/1 columns."""

    inputs: tuple[str, ...]
    target: tuple[str, ...]
    group: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Finding:
    """Something that was found, kept or dropped, that a user can act on.

    ``message`` says what, with counts; ``where`` the file and column; ``fix`` what to do.
    ``row_ids`` are a few places as examples (positions in the source), ``count`` how many there are in all.
    """

    check: str
    level: Literal["info", "warning", "error"]
    message: str
    where: str
    fix: str
    count: int = 0
    row_ids: tuple[int, ...] = ()


class Rows:
    """An immutable table of rows and where they came from.

    Args:
        table: All rows of the source; string columns stay strings (no number is guessed for a CSV).
        source: How messages name it: a file name, or "rows" for objects in memory.
        index: (N,) positions in ``table``, or None for all of them.
    """

    def __init__(self, table: pa.Table, source: str, index: np.ndarray[Any, Any] | None = None) -> None:
        self.table = table
        self.source = source
        self.index = index

    def __len__(self) -> int:
        return self.table.num_rows if self.index is None else len(self.index)

    @property
    def names(self) -> list[str]:
        return list(self.table.column_names)

    @property
    def ids(self) -> np.ndarray[Any, Any]:
        """(N,) int64: the position of each row in its source, from 0; stable under selection."""
        if self.index is None:
            return np.arange(self.table.num_rows, dtype=np.int64)
        return self.index.astype(np.int64)

    def select(self, positions: np.ndarray[Any, Any]) -> "Rows":
        """The rows at ``positions`` of this selection, in that order. Copies no values."""
        positions = np.asarray(positions)
        index = positions if self.index is None else self.index[positions]
        return Rows(self.table, self.source, index.astype(np.int32 if len(self.table) < 2**31 else np.int64))

    def without(self, names: tuple[str, ...]) -> "Rows":
        """The same rows with some columns out of reach."""
        kept = [name for name in self.table.column_names if name not in names]
        return Rows(self.table.select(kept), self.source, self.index)

    def batches(self, names: list[str] | tuple[str, ...], size: int = 4096) -> Iterator[pa.RecordBatch]:
        """The named columns, ``size`` rows at a time, in order."""
        part = self.table.select(list(names))
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            chosen = part.slice(start, stop - start) if self.index is None else part.take(self.index[start:stop])
            yield chosen.combine_chunks().to_batches()[0]

    def values(self, name: str) -> list[Any]:
        """One whole column as Python values; for small tables and short selections."""
        return [value for batch in self.batches([name]) for value in batch.column(0).to_pylist()]

    def place(self, row_id: int, column: str | None = None) -> str:
        """How a message names one row: 'tickets.csv, row 118, column 'intent''. Rows count from 1, header apart."""
        tail = f", column {column!r}" if column else ""
        return f"{self.source}, row {row_id + 1}{tail}"
