"""JSON to rows: a list of objects, one object a line, or one object of columns.

Large files are scanned twice, first for the kind of every column, then to write them to a memory-mapped file.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from whet.data.encoding import TextFile, open_text
from whet.data.reader import STREAM_BYTES, ReadOptions, reads
from whet.data.rows import Finding, Rows
from whet.data.spill import spill_batches
from whet.data.tables import Kind, column_of, field_of, kind_of
from whet.errors import DataError

_ROWS = 16384


@reads(".json", ".jsonl", ".ndjson", text=True)
def read_json(path: Path, options: ReadOptions) -> tuple[Rows, list[Finding]]:
    """Read a JSON or JSON-lines file. A key that a row lacks is missing there.

    Raises:
        DataError: empty, not text, malformed (which line), a row that is not an object, no rows.
    """
    source, findings = open_text(path, options.encoding)
    if source.size <= STREAM_BYTES:
        rows = list(_rows(source))
        if not rows:
            raise _no_rows(path)
        table, mixed = table_of_rows(rows)
        return Rows(table, path.name), findings + mixed_notes(mixed, path.name)
    kinds: dict[str, Kind] = {}
    mixed_kinds: dict[str, set[Kind]] = {}
    for batch in _batched(_rows(source)):
        _widen(kinds, mixed_kinds, batch)
    if not kinds:
        raise _no_rows(path)
    schema = pa.schema([field_of(name, kind) for name, kind in kinds.items()])
    batches = (_table(batch, kinds).to_batches()[0] for batch in _batched(_rows(source)))
    mapped = spill_batches(batches, schema, path, options.spill)
    return mapped, findings + mixed_notes(_mixed(kinds, mixed_kinds), path.name)


def table_of_rows(rows: list[dict[str, Any]]) -> tuple[pa.Table, list[str]]:
    """A table from dictionaries, columns in order of first appearance, and the columns that mixed kinds."""
    kinds: dict[str, Kind] = {}
    mixed: dict[str, set[Kind]] = {}
    _widen(kinds, mixed, rows)
    return _table(rows, kinds), _mixed(kinds, mixed)


def mixed_notes(names: list[str], source: str) -> list[Finding]:
    """What to say about columns that hold text and numbers."""
    return [
        Finding(
            "reading",
            "warning",
            f"Column {name!r} mixes text with numbers or true/false; all of it is read as text.",
            f"{source}, column {name!r}",
            "write all its values in one way",
        )
        for name in names
    ]


def _widen(kinds: dict[str, Kind], seen: dict[str, set[Kind]], rows: list[dict[str, Any]]) -> None:
    names = dict.fromkeys(key for row in rows for key in row)
    for name in names:
        values = [row.get(name) for row in rows]
        kinds[name] = kind_of(values, kinds.get(name, "null"))
        if kinds[name] == "text":
            seen.setdefault(name, set()).update(
                {"text"} if all(isinstance(v, str | None) for v in values) else {"text", "number"}
            )


def _mixed(kinds: dict[str, Kind], seen: dict[str, set[Kind]]) -> list[str]:
    return [name for name, kind in kinds.items() if kind == "text" and "number" in seen.get(name, set())]


def _table(rows: list[dict[str, Any]], kinds: dict[str, Kind]) -> pa.Table:
    columns = [column_of([row.get(name) for row in rows], kind) for name, kind in kinds.items()]
    fields = [
        field_of(name, kind).with_type(column.type) for (name, kind), column in zip(kinds.items(), columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _batched(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, _ROWS)):
        yield batch


def _rows(source: TextFile) -> Iterator[dict[str, Any]]:
    """Objects of the file, one by one, whichever of the layouts it has."""
    first = next((piece.lstrip("\ufeff \t\r\n") for piece in source.text() if piece.strip("\ufeff \t\r\n")), "")
    if first.startswith("["):
        values = _array_items(source)
    elif source.path.name.lower().removesuffix(".gz").endswith((".jsonl", ".ndjson")) or _is_lines(source):
        values = _line_items(source)
    else:
        values = _document_items(source)
    for number, (line, value) in enumerate(values, start=1):
        if not isinstance(value, dict):
            raise DataError(
                f"Row {number} is {json.dumps(value, ensure_ascii=False)[:60]}, not an object with named values.",
                where=f"{source.path}, line {line}",
                fix='write each row as {"text": "...", "label": "..."}',
            )
        yield value


def _is_lines(source: TextFile) -> bool:
    """Whether the first line that is not blank is a whole object and more follows."""
    lines = (line for line in _lines(source) if line.strip())
    first, second = next(lines, ""), next(lines, "")
    try:
        return isinstance(json.loads(first), dict) and bool(second)
    except json.JSONDecodeError:
        return False


def _lines(source: TextFile) -> Iterator[str]:
    left = ""
    for piece in source.text():
        *whole, left = (left + piece).split("\n")
        yield from whole
    yield left


def _line_items(source: TextFile) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(source), start=1):
        if not line or line.isspace():
            continue
        try:
            yield number, json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise _malformed(source.path, number, error) from error


def _array_items(source: TextFile) -> Iterator[tuple[int, Any]]:
    """Items of one big list with the line they begin in, without holding all of the text."""
    decoder = json.JSONDecoder()
    pieces = source.text()
    text = next(pieces)
    position = counted = text.index("[") + 1
    line = 1 + text.count("\n", 0, counted)
    while True:
        position = _skip(text, position, " \t\r\n,")
        line, counted = line + text.count("\n", counted, position), position
        if position < len(text) and text[position] == "]":
            return
        try:
            value, end = decoder.raw_decode(text, position)
            if end == len(text) and not isinstance(value, dict | list):
                raise json.JSONDecodeError("cut by the end of a piece", text, end)
        except (json.JSONDecodeError, RecursionError) as error:
            more = next(pieces, None)
            if more is None:
                stop = getattr(error, "pos", position)
                raise _malformed(source.path, line + text.count("\n", position, stop), error) from error
            text = text[position:] + more
            position = counted = 0
            continue
        yield line, value
        position = end


def _document_items(source: TextFile) -> Iterator[tuple[int, Any]]:
    """One object: columns with equally long lists, or a wrapper around one list of rows."""
    try:
        document = json.loads("".join(source.text()).lstrip("\ufeff"))
    except (json.JSONDecodeError, RecursionError) as error:
        raise _malformed(source.path, getattr(error, "lineno", 1), error) from error
    lists = (
        {key: value for key, value in document.items() if isinstance(value, list)} if isinstance(document, dict) else {}
    )
    rows = [value for value in lists.values() if value and all(isinstance(item, dict) for item in value)]
    if len(lists) == 1 and rows:
        items: Iterable[Any] = rows[0]
    elif lists and len(lists) == len(document) and len({len(value) for value in lists.values()}) == 1:
        items = (dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True))
    else:
        items = [document]
    for item in items:
        yield 1, item


def _skip(text: str, position: int, blanks: str) -> int:
    while position < len(text) and text[position] in blanks:
        position += 1
    return position


def _malformed(path: Path, line: int, error: Exception) -> DataError:
    reason = getattr(error, "msg", "") or str(error)
    return DataError(
        f"The JSON is malformed in line {line}: {reason}.",
        where=f"{path}, line {line}",
        fix="write one whole object a line (.jsonl), or one list of objects (.json)",
    )


def _no_rows(path: Path) -> DataError:
    return DataError("The file has no rows.", where=str(path), fix="give a file with rows")
