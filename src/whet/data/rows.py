"""Rows on disk: one immutable table, memory-mapped where it came from a file, with names for its places.

Selecting rows copies nothing: a selection is the same table and an index. Scans go batch by batch, so that a
file larger than memory works; what a scan keeps a row must be counted in bytes.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from whet import catalog

_ROWS_BEFORE_RELEASE = 65_536


def usual_modality() -> Any:
    """What inputs are read as where nobody says so: the first of the catalog."""
    return catalog.find("modality", next(iter(catalog.members("modality"))))()


@dataclass(frozen=True)
class Columns:
    """Which column plays which part.

    ``inputs`` holds one name, or two for pairs; ``target`` one, or several for 0/1 columns. ``modality`` says what
    inputs are read as (``whet.data.kind``).
    """

    inputs: tuple[str, ...]
    target: tuple[str, ...]
    group: str | None = None
    time: str | None = None
    modality: Any = field(default_factory=usual_modality, metadata={"member": "modality"})


@dataclass(frozen=True)
class Finding:
    """Something that was found, kept or dropped, that a user can act on.

    ``message`` says what, with counts; ``where`` the file and column; ``fix`` what to do.
    ``row_ids`` are a few places as examples (positions in the source), ``count`` how many there are in all. ``part`` is
    the part that they are of, "" for the file of the training rows.
    """

    check: str
    level: Literal["info", "warning", "error"]
    message: str
    where: str
    fix: str
    count: int = 0
    row_ids: tuple[int, ...] = ()
    part: str = ""


class Rows:
    """An immutable table of rows and where they came from.

    Args:
        table: All rows of the source; string columns stay strings (no number is guessed for a CSV).
        source: How messages name it: a file name, or "rows" for objects in memory.
        index: (N,) positions in ``table``, or None for all of them.
        mapping: The memory-mapped file that ``table`` lies in, if it does: scans give its pages back as they go.
        folder: Where files that values name are looked for; None is the working folder.
    """

    def __init__(
        self,
        table: pa.Table,
        source: str,
        index: np.ndarray[Any, Any] | None = None,
        mapping: mmap.mmap | None = None,
        folder: Path | None = None,
    ) -> None:
        self.table = table
        self.source = source
        self.index = index
        self.mapping = mapping
        self.folder = folder

    def __len__(self) -> int:
        return int(self.table.num_rows) if self.index is None else len(self.index)

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
        narrow = np.int32 if self.table.num_rows < 2**31 else np.int64
        return Rows(self.table, self.source, index.astype(narrow, copy=False), self.mapping, self.folder)

    def with_table(self, table: pa.Table) -> "Rows":
        """The same selection of another table of as many rows."""
        return Rows(table, self.source, self.index, self.mapping, self.folder)

    def beside(self, folder: Path) -> "Rows":
        """The same rows, whose values name files in ``folder``."""
        return Rows(self.table, self.source, self.index, self.mapping, folder)

    def at(self, index: np.ndarray[Any, Any]) -> "Rows":
        """The rows at ``index`` of the whole table, whatever was selected."""
        return Rows(self.table, self.source, index, self.mapping, self.folder)

    def without(self, names: tuple[str, ...]) -> "Rows":
        """The same rows with some columns out of reach."""
        return self.with_table(self.table.select([name for name in self.table.column_names if name not in names]))

    def batches(self, names: list[str] | tuple[str, ...], size: int = 4096) -> Iterator[pa.RecordBatch]:
        """The named columns, ``size`` rows at a time, in order."""
        part = self.table.select(list(names))
        starts = np.cumsum([0] + [batch.num_rows for batch in part.to_batches()])
        touched = 0
        for start in range(0, len(self), size):
            stop = min(start + size, len(self))
            if self.index is None:
                chosen = part.slice(start, stop - start)
                touched += stop - start
            else:
                chosen, more = _gather(part, starts, self.index[start:stop], self.mapping)
                touched += more
            yield chosen.combine_chunks().to_batches()[0]
            if self.mapping is not None and touched > _ROWS_BEFORE_RELEASE:
                release(self.mapping)
                touched = 0
        if self.mapping is not None:
            release(self.mapping)

    def values(self, name: str) -> list[Any]:
        """One whole column as Python values; for small tables and short selections."""
        return [value for batch in self.batches([name]) for value in batch.column(0).to_pylist()]

    def place(self, row_id: int, column: str | None = None) -> str:
        """How a message names one row: 'tickets.csv, row 118, column 'intent''. Rows count from 1, header apart."""
        tail = f", column {column!r}" if column else ""
        return f"{self.source}, row {row_id + 1}{tail}"


def release(mapping: mmap.mmap) -> None:
    """Give the resident pages of a mapped file back; they come again from the page cache when touched."""
    if hasattr(mapping, "madvise"):  # not on Windows
        mapping.madvise(mmap.MADV_DONTNEED)


def _gather(
    part: pa.Table, starts: np.ndarray[Any, Any], positions: np.ndarray[Any, Any], mapping: mmap.mmap | None
) -> tuple[pa.Table, int]:
    """Rows at ``positions`` and how many rows' pages that left resident.

    Goes chunk by chunk: ``Table.take`` would first join all chunks into one copy.
    """
    if len(starts) <= 2:
        return part.take(positions), len(positions)
    order = np.argsort(positions, kind="stable")
    ranked = positions[order]
    chunks = np.searchsorted(starts, ranked, side="right") - 1
    pieces, touched = [], 0
    for chunk in np.unique(chunks):
        inside = ranked[chunks == chunk] - starts[chunk]
        first, last = int(inside[0]), int(inside[-1])
        pieces.append(part.slice(starts[chunk] + first, last - first + 1).take(inside - first))
        touched += last - first + 1  # the system maps pages around those that are touched, so count all between
        if mapping is not None and touched > _ROWS_BEFORE_RELEASE:
            release(mapping)
            touched = 0
    joined = pa.concat_tables(pieces)
    if np.array_equal(order, np.arange(len(order))):
        return joined, touched
    back = np.empty(len(order), dtype=np.int64)
    back[order] = np.arange(len(order))
    return joined.combine_chunks().take(back), touched


def raw_values(rows: Rows, columns: Columns, batch: pa.RecordBatch) -> list[tuple[Any, ...]]:
    """The inputs of a batch of rows as the modality reads them, one tuple a row."""
    found: list[tuple[Any, ...]] = columns.modality.values([batch.column(name) for name in columns.inputs], rows.folder)
    return found


def spread(count: int, most: int) -> np.ndarray[Any, Any]:
    """(N,) int64: at most so many of ``count`` positions, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
