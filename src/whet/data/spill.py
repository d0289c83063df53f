"""A table too large to hold: written batch by batch to an Arrow file, then memory-mapped.

The file is written beside its final name and renamed when complete, so nothing half-written is ever read.
"""

import hashlib
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from whet.data.rows import Rows, release
from whet.errors import DataError, MachineError

_CHUNK_BYTES = 2**21


def spill_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, source: Path, folder: Path | None) -> Rows:
    """Write batches to ``folder`` and map the result.

    Args:
        source: The file that the rows come from; names the rows, and the copy together with a hash of its path.
        folder: None writes to the system's temporary folder; the name is removed at once and the space given
            back when the rows are no longer used.

    Raises:
        MachineError: the copy cannot be written (disk full, folder read-only).
    """
    place = Path(tempfile.gettempdir()) if folder is None else folder
    tag = hashlib.sha256(f"{source.resolve()}".encode()).hexdigest()[:8]
    final = place / f"{source.name}-{tag}.arrow"
    partial = place / f".{final.name}.{os.getpid()}.part"
    try:
        place.mkdir(parents=True, exist_ok=True)
        _write(batches, schema, partial)
        if folder is None:
            return _mapped_and_forgotten(partial, source.name)
        partial.replace(final)
        return map_rows(final, source.name)
    except OSError as error:
        raise MachineError(
            f"A memory-mapped copy of the rows cannot be written: {error.strerror or error}.",
            where=str(place),
            fix="free some disk space, or name another folder for temporary files (TMPDIR)",
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def map_rows(path: Path, source: str) -> Rows:
    """The rows of an Arrow file or stream, memory-mapped: nothing is read until it is used.

    Raises:
        DataError: the file is not Arrow, or is cut short.
    """
    with path.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    buffer = pa.BufferReader(pa.py_buffer(mapping))
    try:
        table = _table(buffer, mapping)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"The Arrow file cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            fix="write it again; it may be cut short, or be another format",
        ) from error
    release(mapping)
    return Rows(table, source, mapping=mapping)


def _table(buffer: pa.BufferReader, mapping: mmap.mmap) -> pa.Table:
    """All record batches; the pages that finding them brought in are given back on the way."""
    if mapping[:6] == b"ARROW1":
        file = pa.ipc.open_file(buffer)
        found, schema = (file.get_batch(number) for number in range(file.num_record_batches)), file.schema
    else:
        stream = pa.ipc.open_stream(buffer)
        found, schema = iter(stream), stream.schema
    batches = []
    for number, batch in enumerate(found):
        batches.append(batch)
        if number % 8 == 7:
            release(mapping)
    return pa.Table.from_batches(batches, schema=schema)


def _write(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> None:
    with path.open("wb") as file, pa.ipc.new_file(file, schema) as writer:
        for batch in _joined(batches):
            writer.write_batch(batch)
        writer.close()


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Small batches together, so that the file has few chunks."""
    waiting: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        waiting.append(batch)
        size += batch.nbytes
        if size >= _CHUNK_BYTES:
            yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()
            waiting, size = [], 0
    if waiting:
        yield from pa.Table.from_batches(waiting).combine_chunks().to_batches()


def _mapped_and_forgotten(path: Path, source: str) -> Rows:
    rows = map_rows(path, source)
    if os.name == "posix":  # a mapped file lives on without its name
        path.unlink()
        return rows
    return rows  # pragma: no cover - Windows keeps the file until its temporary folder is cleaned
