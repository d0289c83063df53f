"""Delimited text to rows. Every column is text: "007" stays "007", "NA" stays "NA", an empty field is missing.

Small files are parsed in memory; large ones stream to a memory-mapped Arrow file.
"""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from whet.data.columns import plain_names
from whet.data.csv_dialect import SAMPLE_BYTES, Dialect, natural_delimiter, sniff
from whet.data.encoding import TextFile, open_text
from whet.data.reader import STREAM_BYTES, ReadOptions, reads
from whet.data.rows import Finding, Rows
from whet.data.spill import spill_batches
from whet.errors import DataError

_BLOCK = 2**18  # arrow reads 32 blocks ahead
_LARGEST_BLOCK = 2**30


@reads(".csv", ".tsv", ".tab", ".psv", text=True)
def read_csv(path: Path, options: ReadOptions) -> tuple[Rows, list[Finding]]:
    """Read a delimited text file; the delimiter is found among comma, semicolon, tab and bar.

    Raises:
        DataError: empty, header only, not text, duplicate names, a record with too many or too few fields,
            a quote that is never closed.
    """
    source, findings = open_text(path, options.encoding)
    dialect = _dialect_of(source)
    natural = natural_delimiter(path.name)
    if dialect.delimiter != natural and len(dialect.header) > 1:
        findings.append(_note(path, f"Fields are separated by {dialect.spelled}."))
    if not dialect.quoted:
        findings.append(_note(path, "Quotes are read as plain characters: some are never closed."))
    names = plain_names(list(dialect.header), str(path))
    findings += _header_that_looks_like_a_row(names, path)
    if source.size <= STREAM_BYTES:
        rows = Rows(_parse(source, dialect, names), path.name)
    else:
        rows = _stream(source, dialect, names, options.spill)
    if not len(rows):
        raise DataError("The file has a header but no rows.", where=str(path), fix="give a file with rows")
    _refuse_open_quote(source, dialect, rows)
    return rows, findings


def _dialect_of(source: TextFile) -> Dialect:
    with source.open() as stream:
        head = stream.read(SAMPLE_BYTES + 1)
        complete = len(head) <= SAMPLE_BYTES
        while not complete and b"\n" not in head and b"\r" not in head:  # a very long first line
            more = stream.read(SAMPLE_BYTES)
            head, complete = head + more, not more
    sample = codecs.getincrementaldecoder("utf-8")().decode(head)
    return sniff(sample, complete, natural_delimiter(source.path.name))


def _parse(source: TextFile, dialect: Dialect, names: list[str]) -> pa.Table:
    from pyarrow import csv

    with source.open() as stream:
        data = stream.read()
    block = max(_BLOCK, 2**20) if len(data) > 2**23 else len(data) + 1
    while True:
        try:
            return csv.read_csv(pa.py_buffer(data), **_options(dialect, names, block)).rename_columns(names)
        except pa.ArrowInvalid as error:
            block = _larger_block(error, block) or _refuse(source, dialect, error)


def _stream(source: TextFile, dialect: Dialect, names: list[str], spill: Path | None) -> Rows:
    schema = pa.schema([(name, pa.string()) for name in names])
    block = _BLOCK
    while True:
        try:
            return spill_batches(_batches(source, dialect, names, block), schema, source.path, spill)
        except pa.ArrowInvalid as error:
            block = _larger_block(error, block) or _refuse(source, dialect, error)


def _batches(source: TextFile, dialect: Dialect, names: list[str], block: int) -> Iterator[pa.RecordBatch]:
    from pyarrow import csv

    stream = pa.OSFile(str(source.path)) if source.plain else source.open()
    if source.plain:
        stream.seek(source.mark)
    options = _options(dialect, names, block)
    options["read_options"].use_threads = False  # threads read ahead, into memory
    with stream, csv.open_csv(stream, **options) as reader:
        for batch in reader:
            yield batch.rename_columns(names)


def _options(dialect: Dialect, names: list[str], block: int) -> dict[str, Any]:
    from pyarrow import csv

    parse = csv.ParseOptions(
        delimiter=dialect.delimiter, quote_char='"' if dialect.quoted else False, newlines_in_values=dialect.quoted
    )
    as_text = {name: pa.string() for name in {*names, *dialect.header}}
    convert = csv.ConvertOptions(
        column_types=as_text, strings_can_be_null=True, quoted_strings_can_be_null=True, null_values=[""]
    )
    return {
        "read_options": csv.ReadOptions(block_size=block),
        "parse_options": parse,
        "convert_options": convert,
    }


def _larger_block(error: pa.ArrowInvalid, block: int) -> int | None:
    """A value that is longer than a block needs a larger one; any other complaint is about the file."""
    return block * 16 if "straddl" in str(error) and block < _LARGEST_BLOCK else None


def _refuse(source: TextFile, dialect: Dialect, error: pa.ArrowInvalid) -> int:
    """Find the record that arrow complained about, and name it."""
    where = str(source.path)
    with source.open() as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        expected = len(dialect.header)
        for number, record in enumerate(dialect.records(lines)):
            if len(record) != expected:
                raise DataError(
                    f"Row {number} has {_fields(len(record))}, the header has {expected}.",
                    where=f"{where}, row {number}, which begins {_beginning(record)}",
                    fix=_ragged_fix(record, expected, dialect),
                ) from error
    raise DataError(f"The file cannot be read as CSV: {error}", where=where, fix="open it in an editor") from error


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"


def _beginning(record: list[str]) -> str:
    text = record[0] if record else ""
    return repr(text if len(text) <= 60 else text[:60] + "…")


def _ragged_fix(record: list[str], expected: int, dialect: Dialect) -> str:
    if any("\n" in field for field in record):
        return 'look for a quote (") in this row that is never closed'
    if len(record) > expected:
        return f'wrap fields that hold {dialect.spelled} in double quotes, doubling quotes inside ("")'
    return "add the missing fields, or remove the row"


def _refuse_open_quote(source: TextFile, dialect: Dialect, rows: Rows) -> None:
    """Arrow lets a quote that is never closed swallow the rest of the file into the last field."""
    last = rows.table.column(rows.table.num_columns - 1)[-1].as_py()
    if not dialect.quoted or not last or "\n" not in last:
        return
    tail = ""
    for piece in source.text():
        tail = (tail + piece)[-64:]
    if tail.rstrip().endswith('"'):
        return
    place = rows.place(len(rows) - 1, rows.names[-1])
    raise DataError(
        f"A quote opens in the last field and is never closed; it takes {last.count(chr(10)) + 1:,} lines.",
        where=f"{place}, which begins {_beginning([last])}",
        fix='close the quote, or double it ("") if it is part of the text',
    )


def _header_that_looks_like_a_row(names: list[str], path: Path) -> list[Finding]:
    odd = [name for name in names if len(name) > 60 or name.replace(".", "", 1).isdigit()]
    if not odd:
        return []
    message = f"The first line looks like a row, not like column names: {odd[0][:60]!r}."
    return [Finding("reading", "warning", message, path.name, "put a line with column names on top of the file")]


def _note(path: Path, message: str) -> Finding:
    return Finding("reading", "info", message, path.name, "nothing, if the columns look right")
