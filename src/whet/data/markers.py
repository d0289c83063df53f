"""Which cells say in words that a number is missing? 'NA', 'null' and their like, among the numbers of a target.

A column of text alone keeps them: there 'none' may be a class. Among numbers they are missing values, whatever the
numbers mean.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.data.columns import missing_mask
from whet.data.read import Sources
from whet.data.rows import Columns, Finding, Rows
from whet.data.tables import is_nested, is_text

MARKERS = ("na", "n/a", "#n/a", "<na>", "nan", "-nan", "null", "none", "nil", "missing", "-", "--", "?")
"""What a missing number is written as, in any case and with blanks around it."""
FEW = 0.1
"""A share of texts among numbers that rather spoils a number than makes classes."""
LITERAL = {b"whet.literal": b"1"}
"""Marks a column whose texts mean what they say: none is a marker."""
MANY_NUMBERS = 20


def is_marker(value: Any) -> bool:
    """Whether a value says that there is none."""
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and value.strip().lower() in MARKERS


def are_numbers(values: Iterable[str]) -> bool:
    """Whether there are values, and all of them read as numbers but for the markers among them."""
    kept = [value for value in values if not is_marker(value)]
    return bool(kept) and all(map(is_number_text, kept))


def is_number_text(value: str) -> bool:
    """Whether a text reads as a number, an infinite one too."""
    try:
        return "_" not in value and not math.isnan(float(value))
    except ValueError:
        return False


def whole_numbers(values: Iterable[Any]) -> list[float]:
    """The values as numbers, without markers and missing ones; none unless every one of them is whole."""
    kept = [value for value in values if value is not None and not is_marker(value)]
    if any(isinstance(value, bool) or not is_number_text(str(value)) for value in kept):
        return []
    numbers = [float(value) for value in kept]
    return numbers if all(number.is_integer() for number in numbers) else []


def tallies(rows: Rows, columns: Columns) -> Iterator[dict[str, int]]:
    """How often each value is there, for a batch of rows at a time; nothing unless one column of text is the target."""
    name = columns.target[0]
    field = rows.table.schema.field(name)
    literal = bool(field.metadata and b"whet.literal" in field.metadata)
    if len(columns.target) > 1 or not is_text(field.type) or is_nested(field) or literal:
        return
    for batch in rows.batches([name], size=16384):
        column = batch.column(0)
        tally = column.filter(pa.array(~missing_mask(column))).value_counts()
        yield dict(zip(tally.field(0).to_pylist(), tally.field(1).to_pylist(), strict=True))


def is_numeric(rows: Rows, columns: Columns) -> bool:
    """Whether a target of text holds numbers, and nothing else but markers."""
    found = False
    for tally in tallies(rows, columns):
        kept = [value for value in tally if not is_marker(value)]
        if not all(map(is_number_text, kept)):
            return False
        found = found or bool(kept)
    return found


def markers_missing(sources: Sources, columns: Columns) -> Sources:
    """The same rows, with the markers among the numbers of a target made missing; what they were is a finding."""
    findings = list(sources.findings)

    def side(rows: Rows, part: str) -> Rows:
        kept, found = _without_markers(rows, columns)
        findings.extend(replace(one, part=part) for one in found)
        return kept

    name, valid = columns.target[0], sources.valid
    train = side(sources.train, "")
    valid = None if valid is None or name not in valid.names else side(valid, "valid")
    tests = {test: side(rows, test) if name in rows.names else rows for test, rows in sources.tests.items()}
    return replace(sources, train=train, valid=valid or sources.valid, tests=tests, findings=tuple(findings))


def spoiled_number(rows: Rows, columns: Columns) -> list[Finding]:
    """A word where a few texts make classes of what would else be a number."""
    strange: Counter[str] = Counter()
    numbers: set[float] = set()
    for tally in tallies(rows, columns):
        strange.update({value: n for value, n in tally.items() if not (is_number_text(value) or is_marker(value))})
        if strange.total() > FEW * len(rows):
            return []
        if len(numbers) <= MANY_NUMBERS:  # the rest need not be kept
            numbers.update(float(value) for value in tally if is_number_text(value))
    if not strange or len(numbers) <= MANY_NUMBERS:
        return []
    message = (
        f"The target holds more than {MANY_NUMBERS} different numbers, and {strange.total():,} of {len(rows):,} rows "
        f"hold something else ({_shown(strange)}); so every value is taken for a class."
    )
    fix = "correct or empty these cells, and if it is a quantity add --set task.name=regression"
    return [_finding(rows, columns.target[0], strange, check="task", level="warning", message=message, fix=fix)]


def _without_markers(rows: Rows, columns: Columns) -> tuple[Rows, list[Finding]]:
    found: Counter[str] = Counter()
    for tally in tallies(rows, columns):
        found.update({value: count for value, count in tally.items() if is_marker(value)})
    if not found:
        return rows, []
    name, count = columns.target[0], found.total()
    position = rows.table.column_names.index(name)
    column = rows.table.column(position)
    marked = pc.is_in(column, value_set=pa.array(list(found), column.type))
    emptied = pc.if_else(marked, pa.scalar(None, column.type), column)
    table = rows.table.set_column(position, rows.table.schema.field(position), emptied)
    row = "row" if count == 1 else "rows"
    message = f"{_shown(found)} among the numbers of {name!r} counts as missing ({count:,} {row})."
    fix = "nothing; where it is a class of its own, write it in other words"
    finding = _finding(rows, name, found, check="missing", level="info", message=message, fix=fix)
    return rows.with_table(table), [finding]


def _first(rows: Rows, name: str, values: Iterable[str]) -> int:
    """Position of the first row that holds one of the values."""
    start = 0
    for batch in rows.batches([name], size=16384):
        places = np.flatnonzero(pc.is_in(batch.column(0), value_set=pa.array(list(values), batch.column(0).type)))
        if len(places):
            return start + int(places[0])
        start += batch.num_rows
    raise AssertionError("the values were counted in these rows")


def _finding(rows: Rows, name: str, values: Counter[str], **said: Any) -> Finding:
    """A word on some values of a column, placed at the first row that holds one."""
    first = int(rows.ids[_first(rows, name, values)])
    return Finding(where=rows.place(first, name), count=values.total(), row_ids=(first,), **said)


def _shown(values: Counter[str]) -> str:
    """Three of the values."""
    return ", ".join(repr(value[:40]) for value in list(values)[:3])
