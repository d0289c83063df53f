"""Which cells say in words that a number is missing? 'NA', 'null' and their like, among the numbers of a target.

A column of text alone keeps them: there 'none' may be a class. Among numbers they are missing values, whatever the
numbers mean.
"""

import math
from collections import Counter
from collections.abc import Iterable
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


def target_texts(rows: Rows, columns: Columns) -> Counter[str]:
    """How often each value of a target of text is there; empty for any other target, or several."""
    found: Counter[str] = Counter()
    name = columns.target[0]
    field = rows.table.schema.field(name)
    if len(columns.target) > 1 or not is_text(field.type) or is_nested(field):
        return found
    for batch in rows.batches([name], size=16384):
        column = batch.column(0)
        tally = column.filter(pa.array(~missing_mask(column))).value_counts()
        found.update(dict(zip(tally.field(0).to_pylist(), tally.field(1).to_pylist(), strict=True)))
    return found


def markers_missing(sources: Sources, columns: Columns) -> Sources:
    """The same rows, with the markers among the numbers of a target made missing; what they were is a finding."""
    findings = list(sources.findings)

    def side(rows: Rows) -> Rows:
        kept, found = _without_markers(rows, columns)
        findings.extend(found)
        return kept

    train = side(sources.train)
    valid = None if sources.valid is None or columns.target[0] not in sources.valid.names else side(sources.valid)
    tests = {name: side(rows) if columns.target[0] in rows.names else rows for name, rows in sources.tests.items()}
    return replace(sources, train=train, valid=valid or sources.valid, tests=tests, findings=tuple(findings))


def spoiled_number(rows: Rows, columns: Columns) -> list[Finding]:
    """A word where a few texts make classes of what would else be a number."""
    counts = target_texts(rows, columns)
    strange = {value: count for value, count in counts.items() if not (is_number_text(value) or is_marker(value))}
    numbers = len({float(value) for value in counts if is_number_text(value)})
    if not strange or numbers <= MANY_NUMBERS or sum(strange.values()) > FEW * sum(counts.values()):
        return []
    name = columns.target[0]
    first = int(rows.ids[_first(rows, name, strange)])
    shown = ", ".join(repr(value[:40]) for value in list(strange)[:3])
    return [
        Finding(
            check="task",
            level="warning",
            message=f"The target holds {numbers:,} different numbers, and {sum(strange.values()):,} of "
            f"{len(rows):,} rows hold something else ({shown}); so every value is taken for a class.",
            where=rows.place(first, name),
            fix="correct or empty these cells, and if it is a quantity add --set task.name=regression",
            count=sum(strange.values()),
            row_ids=(first,),
        )
    ]


def _without_markers(rows: Rows, columns: Columns) -> tuple[Rows, list[Finding]]:
    found = {value: count for value, count in target_texts(rows, columns).items() if is_marker(value)}
    if not found:
        return rows, []
    name, count = columns.target[0], sum(found.values())
    position = rows.table.column_names.index(name)
    column = rows.table.column(position)
    marked = pc.is_in(column, value_set=pa.array(list(found), column.type))
    emptied = pc.if_else(marked, pa.scalar(None, column.type), column)
    table = rows.table.set_column(position, rows.table.schema.field(position), emptied)
    first = int(rows.ids[_first(rows, name, found)])
    finding = Finding(
        check="missing",
        level="info",
        message=f"{', '.join(map(repr, list(found)[:3]))} among the numbers of {name!r} counts as missing "
        f"({count:,} {'row' if count == 1 else 'rows'}).",
        where=rows.place(first, name),
        fix="nothing; where it is a class of its own, write it in other words",
        count=count,
        row_ids=(first,),
    )
    return Rows(table, rows.source, rows.index, rows.mapping), [finding]


def _first(rows: Rows, name: str, values: Iterable[str]) -> int:
    """Position of the first row that holds one of the values."""
    start = 0
    for batch in rows.batches([name], size=16384):
        places = np.flatnonzero(pc.is_in(batch.column(0), value_set=pa.array(list(values), batch.column(0).type)))
        if len(places):
            return start + int(places[0])
        start += batch.num_rows
    raise AssertionError("the values were counted in these rows")
