"""Arrow and Parquet files to rows. Arrow files are mapped as they are; large Parquet is unpacked to one first."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from whet.data.columns import plain_names
from whet.data.reader import STREAM_BYTES, ReadOptions, reads
from whet.data.rows import Finding, Rows
from whet.data.spill import map_rows, spill_batches
from whet.data.tables import PEEKED, plain_schema, plain_table, raw_columns
from whet.errors import DataError


@reads(".arrow", ".feather", ".ipc", ".arrows")
def read_arrow(path: Path, options: ReadOptions) -> tuple[Rows, list[Finding]]:
    """Map an Arrow IPC file or stream into memory.

    Raises:
        DataError: empty, damaged, without rows, or with duplicate column names.
    """
    if path.stat().st_size == 0:
        raise DataError("The file is empty.", where=str(path), fix="write it again")
    rows = map_rows(path, path.name)
    plain_names(rows.names, str(path))
    _refuse_no_rows(len(rows), path)
    raw = raw_columns(rows.table)
    if plain_schema(rows.table.schema, raw) == rows.table.schema:
        return rows, []
    if path.stat().st_size <= STREAM_BYTES:
        return Rows(plain_table(rows.table, raw), path.name), []
    batches = _plain_batches(iter(rows.table.to_batches(max_chunksize=65536)), raw)
    return spill_batches(batches, plain_schema(rows.table.schema, raw), path, options.spill), []


@reads(".parquet", ".pq")
def read_parquet(path: Path, options: ReadOptions) -> tuple[Rows, list[Finding]]:
    """Read a Parquet file.

    Raises:
        DataError: not Parquet, damaged, without rows, or with duplicate column names.
    """
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"The file is not a whole Parquet file: {str(error).splitlines()[0]}",
            where=str(path),
            fix="write it again; it may be cut short, or be another format",
        ) from error
    with file:
        schema = file.schema_arrow
        plain_names(list(schema.names), str(path))
        _refuse_no_rows(file.metadata.num_rows, path)
        unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
        if unpacked <= STREAM_BYTES:
            return Rows(plain_table(file.read()), path.name), []
        raw = raw_columns(pa.Table.from_batches([next(file.iter_batches(batch_size=PEEKED))]))
        batches = _plain_batches(file.iter_batches(batch_size=1024 if raw else 65536), raw)
        return spill_batches(batches, plain_schema(schema, raw), path, options.spill), []


def _plain_batches(batches: Iterator[pa.RecordBatch], raw: frozenset[str]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield from plain_table(pa.Table.from_batches([batch]), raw).to_batches()


def _refuse_no_rows(count: int, path: Path) -> None:
    if not count:
        raise DataError("The file has no rows.", where=str(path), fix="give a file with rows")
