"""JSON to rows: a list of objects, one object a line, or one object of columns.

Large files are scanned twice, first for the kind of every column, then to write them to a memory-mapped file.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from whet.data.encoding import TextFile, open_text
from whet.data.reader import STREAM_BYTES, ReadOptions, reads
from whet.data.rows import Finding, Rows
from whet.data.spill import spill_batches
from whet.data.tables import Kind, column_of, field_of, halved, kind_of
from whet.errors import DataError

_ROWS = 16384
_LARGEST_EXACT = 2**53
"""Beyond it Arrow takes no integer for a float64."""
_BLANKS = " \t\r\n\ufeff"
_DECODER = json.JSONDecoder()


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
        table, notes = table_of_rows(rows, path.name)
        return Rows(table, path.name), findings + notes
    kinds: dict[str, Kind] = {}
    mixed_kinds: dict[str, set[Kind]] = {}
    large: set[str] = set()
    for batch in _batched(_rows(source)):
        _widen(kinds, mixed_kinds, large, batch)
    if not kinds:
        raise _no_rows(path)
    _keep_digits(kinds, large)
    schema = pa.schema([field_of(name, kind) for name, kind in kinds.items()])
    halves: dict[str, list[int]] = {}
    starts = itertools.count(0, _ROWS)
    batches = (
        _table(batch, kinds, halves, start).to_batches()[0]
        for start, batch in zip(starts, _batched(_rows(source)), strict=False)
    )
    mapped = spill_batches(batches, schema, path, options.spill)
    notes = [*mixed_notes(_mixed(kinds, mixed_kinds), path.name), *half_notes(halves, path.name)]
    return mapped, findings + notes


def table_of_rows(rows: list[dict[str, Any]], source: str) -> tuple[pa.Table, list[Finding]]:
    """A table from dictionaries, columns in order of first appearance, and what to say about its values."""
    kinds: dict[str, Kind] = {}
    mixed: dict[str, set[Kind]] = {}
    halves: dict[str, list[int]] = {}
    large: set[str] = set()
    _widen(kinds, mixed, large, rows)
    _keep_digits(kinds, large)
    table = _table(rows, kinds, halves)
    return table, [*mixed_notes(_mixed(kinds, mixed), source), *half_notes(halves, source)]


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


def half_notes(halves: Mapping[str, list[int]], source: str) -> list[Finding]:
    """What to say about values with half a surrogate pair.

    Args:
        halves: The rows that hold such values, from 0, by column.
    """
    return [
        Finding(
            "reading",
            "warning",
            f"{len(rows):,} {'value' if len(rows) == 1 else 'values'} of {name!r} had half a surrogate pair, which is "
            "no character: U+FFFD stands for it, and what differed by it alone is now one value.",
            f"{source}, row {rows[0] + 1}, column {name!r}",
            "write whole characters; most likely a text was cut within an emoji",
            count=len(rows),
            row_ids=tuple(rows[:5]),
        )
        for name, rows in halves.items()
        if rows
    ]


def _widen(kinds: dict[str, Kind], seen: dict[str, set[Kind]], large: set[str], rows: list[dict[str, Any]]) -> None:
    """What these rows add: wider kinds, what texts stand beside, and columns with integers that no float64 holds."""
    names = dict.fromkeys(key for row in rows for key in row)
    for name in names:
        values = [row.get(name) for row in rows]
        kinds[name] = kind_of(values, kinds.get(name, "null"))
        if kinds[name] == "text":
            seen.setdefault(name, set()).update(
                {"text"} if all(isinstance(v, str | list | None) for v in values) else {"text", "number"}
            )
        elif name not in large and any(map(_is_large, values)):
            large.add(name)


def _is_large(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_large, value))
    return isinstance(value, int) and abs(value) > _LARGEST_EXACT


def _keep_digits(kinds: dict[str, Kind], large: set[str]) -> None:
    """Where float64 would lose digits of an integer, all of the column is text, whichever batch holds it."""
    for name in large:
        wider: dict[Kind, Kind] = {"number": "text", "number list": "text list"}
        kinds[name] = wider.get(kinds[name], kinds[name])


def _mixed(kinds: dict[str, Kind], seen: dict[str, set[Kind]]) -> list[str]:
    return [name for name, kind in kinds.items() if kind == "text" and "number" in seen.get(name, set())]


def _table(
    rows: list[dict[str, Any]], kinds: dict[str, Kind], halves: dict[str, list[int]], start: int = 0
) -> pa.Table:
    """The columns of rows from ``start`` on; those with half a surrogate pair are added to ``halves``."""
    columns = []
    for name, kind in kinds.items():
        values = [row.get(name) for row in rows]
        columns.append(column_of(values, kind))
        halves.setdefault(name, []).extend(start + place for place in halved(values, columns[-1]))
    fields = [
        field_of(name, kind).with_type(column.type) for (name, kind), column in zip(kinds.items(), columns, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _batched(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while batch := list(itertools.islice(iterator, _ROWS)):
        yield batch


def _rows(source: TextFile) -> Iterator[dict[str, Any]]:
    """Objects of the file, one by one, whichever of the layouts it has."""
    first = next((piece.lstrip(_BLANKS) for piece in source.text() if piece.strip(_BLANKS)), "")
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


class _Cursor:
    """A place in a text that comes in pieces, and the line it is in."""

    def __init__(self, source: TextFile) -> None:
        self.source, self._pieces = source, source.text()
        self._text, self._position, self.line = "", 0, 1

    def peek(self) -> str:
        """The next sign that is not blank, "" at the end."""
        while True:
            end = self._position
            while end < len(self._text) and self._text[end] in _BLANKS:
                end += 1
            self._move(end)
            if end < len(self._text):
                return self._text[end]
            if not self._more():
                return ""

    def skip(self) -> str:
        """Go past one sign; the next one."""
        self._position += 1
        return self.peek()

    def value(self) -> Any:
        """One JSON value.

        Raises:
            DataError: there is none, or it is malformed.
        """
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
                if end == len(self._text) and not isinstance(value, dict | list):
                    raise json.JSONDecodeError("cut by the end of a piece", self._text, end)
            except (json.JSONDecodeError, RecursionError) as error:
                if self._more():
                    continue
                stop = getattr(error, "pos", self._position)
                line = self.line + self._text.count("\n", self._position, stop)
                raise _malformed(self.source.path, line, error) from error
            self._move(end)
            return value

    def _move(self, end: int) -> None:
        self.line += self._text.count("\n", self._position, end)
        self._position = end

    def _more(self) -> bool:
        piece = next(self._pieces, None)
        if piece is not None:
            self._text, self._position = self._text[self._position :] + piece, 0
        return piece is not None


def _array_items(source: TextFile) -> Iterator[tuple[int, Any]]:
    """Items of a list, or of several one after another, with the line they begin in; never all of the text at once."""
    cursor = _Cursor(source)
    while sign := cursor.peek():
        if sign != "[":
            raise _malformed(source.path, cursor.line, ValueError(f"{sign!r} after the end of the list"))
        sign = cursor.skip()
        while sign != "]":
            line = cursor.line
            yield line, cursor.value()
            sign = cursor.peek()
            if sign == ",":
                sign = cursor.skip()
            elif sign != "]":
                what = f"{sign!r} where a comma or the end of the list was expected" if sign else "the list has no end"
                raise _malformed(source.path, cursor.line, ValueError(what))
        cursor.skip()


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


def _malformed(path: Path, line: int, error: Exception) -> DataError:
    reason = getattr(error, "msg", "") or str(error)
    return DataError(
        f"The JSON is malformed in line {line}: {reason}.",
        where=f"{path}, line {line}",
        fix="write one whole object a line (.jsonl), or one list of objects (.json)",
    )


def _no_rows(path: Path) -> DataError:
    return DataError("The file has no rows.", where=str(path), fix="give a file with rows")
