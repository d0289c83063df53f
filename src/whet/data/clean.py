"""Which rows cannot be used? Those without an input or a target: counted, said and dropped, never silently.

A text of any length is kept: longer ones become windows. Their number is said.
"""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.data.columns import missing_mask, require_columns, test_header
from whet.data.read import Sources
from whet.data.rows import Columns, Finding, Rows
from whet.data.tables import column_of, is_nested, is_number, is_text
from whet.data.targets import JOINT, TargetKeys
from whet.errors import DataError

LONG_CHARACTERS = 1_000_000
FILL_IN = "fill them in, or leave it so"
NO_LABELS = "fill them in; rows that truly have no label are kept from a list column ([]) or from columns of 0 and 1"
_EXAMPLES = 5
_PIECE = 65_536


def clean(sources: Sources, columns: Columns, *, several: bool = False) -> Sources:
    """All rows that were given, without those that cannot be used; what was dropped is in ``findings``.

    Args:
        several: A target is any number of labels, so that one who left it empty may have meant none of them.

    Raises:
        DataError: a column is missing, an input is not text, or no row is left.
    """
    require_columns(sources.train, columns)
    findings = list(sources.findings)
    alone = sources.valid is None and not sources.tests

    def side(rows: Rows, name: str) -> Rows:
        if name != "train":
            test_header(rows, columns, grouped=rows is sources.valid)
        kept, found = drop_unusable(rows, columns, "" if alone else f" of {name}", several)
        findings.extend(replace(one, part="" if name == "train" else name) for one in found)
        return kept

    train = side(sources.train, "train")
    valid = side(sources.valid, "valid") if sources.valid is not None else None
    tests = {name: side(rows, name) for name, rows in sources.tests.items()}
    return replace(sources, train=train, valid=valid, tests=tests, findings=tuple(findings))


def drop_unusable(rows: Rows, columns: Columns, side: str, several: bool) -> tuple[Rows, list[Finding]]:
    """Leave out rows without an input or a target; read numbers in an input column as text.

    Args:
        side: Which rows these are, for messages: " of valid", or nothing where there are no others.

    Raises:
        DataError: an input column holds neither text nor numbers, or no row is left.
    """
    rows, findings = _inputs_as_text(rows, columns)
    faults = _Faults(rows, columns)
    for column in columns.inputs:
        findings += faults.notes(column, "text", side, FILL_IN)
    for column in columns.target:
        findings += faults.notes(column, "target", side, NO_LABELS if several else FILL_IN)
    if faults.longest > LONG_CHARACTERS:
        findings.append(_long_note(rows, faults))
    if faults.bad.all():
        raise DataError(
            f"No usable row is left of {len(rows):,}: every one lacks an input or a target.",
            where=f"{rows.source}, columns " + ", ".join(map(repr, (*columns.inputs, *columns.target))),
            fix="check that these are the right columns",
        )
    kept = rows.select(np.flatnonzero(~faults.bad)) if faults.bad.any() else rows
    return kept, findings


def require_classes(keys: TargetKeys, rows: Rows, columns: Columns) -> list[Finding]:
    """Refuse a target that is all one class; say which classes (or labels) have a single row.

    Raises:
        DataError: fewer than two different targets.
    """
    counts = keys.counts()
    place = f"{rows.source}, column " + ", ".join(map(repr, columns.target))
    if np.count_nonzero(counts) < 2:
        only = repr(spelled(keys.keys[0])) if keys.keys else "nothing"
        raise DataError(
            f"The target is all one class: {only} in {len(rows):,} rows.",
            where=place,
            fix="give rows of at least two classes, or name another target column",
        )
    labels = Counter[str]()
    for key_labels, count in zip(keys.labels(), counts.tolist(), strict=True):
        labels.update(dict.fromkeys(key_labels, count))
    single = {label for label, count in labels.items() if count == 1}
    if not single:
        return []
    codes = [code for code, key_labels in enumerate(keys.labels()) if single.intersection(key_labels)]
    ids = rows.ids[np.flatnonzero(np.isin(keys.codes, codes))]
    return [
        Finding(
            check="classes",
            level="warning",
            message=f"{counted(len(single), 'class has', 'classes have')} a single row: {some(sorted(single))}. "
            "Such rows stay in train, so no score can speak about them.",
            where=place,
            fix="add rows of these classes, or merge them into others",
            count=len(single),
            row_ids=tuple(ids[:_EXAMPLES].tolist()),
        )
    ]


def spelled(key: str) -> str:
    """A target key as a person reads it."""
    return key.replace(JOINT, ", ")


def some(names: list[str], limit: int = 5) -> str:
    """A few names, quoted, and how many more there are."""
    shown = ", ".join(repr(name[:60]) for name in names[:limit])
    return shown + (f" and {len(names) - limit:,} more" if len(names) > limit else "")


@dataclass
class _Fault:
    count: int
    first: list[int]


class _Faults:
    """One scan: which rows are unusable, and why."""

    def __init__(self, rows: Rows, columns: Columns) -> None:
        self.rows = rows
        self.bad = np.zeros(len(rows), dtype=bool)
        self.longest = 0
        self.long_count = 0
        self.long_rows: list[int] = []
        self.found: dict[str, _Fault] = {}
        names = dict.fromkeys((*columns.inputs, *columns.target))
        start = 0
        for batch in rows.batches(list(names)):
            for name, column in zip(names, batch.columns, strict=True):
                self._scan(name, column, start)
                if name in columns.inputs:
                    self._measure(column, start)
            start += batch.num_rows

    def notes(self, column: str, what: str, side: str, fix: str) -> list[Finding]:
        fault = self.found.get(column)
        if fault is None:
            return []
        have = "has no" if fault.count == 1 else "have no"
        left_out = "is left out" if fault.count == 1 else "are left out"
        return [
            Finding(
                check="missing",
                level="warning",
                message=f"{fault.count:,} of {len(self.rows):,} rows{side} {have} {what} in {column!r} and {left_out}.",
                where=self.rows.place(fault.first[0], column),
                fix=fix,
                count=fault.count,
                row_ids=tuple(fault.first),
            )
        ]

    def _scan(self, name: str, column: pa.Array, start: int) -> None:
        missing = missing_mask(column)
        if not missing.any():
            return
        places = np.flatnonzero(missing) + start
        self.bad[places] = True
        fault = self.found.setdefault(name, _Fault(0, []))
        fault.count += len(places)
        fault.first += self._ids(places[: _EXAMPLES - len(fault.first)])

    def _measure(self, column: pa.Array, start: int) -> None:
        longest = pc.max(pc.binary_length(column)).as_py() or 0
        self.longest = max(self.longest, longest)
        if longest > LONG_CHARACTERS:
            long = pc.fill_null(pc.greater(pc.utf8_length(column), LONG_CHARACTERS), False)
            places = np.flatnonzero(long.to_numpy(zero_copy_only=False)) + start
            self.long_count += len(places)
            self.long_rows += self._ids(places[: _EXAMPLES - len(self.long_rows)])

    def _ids(self, places: np.ndarray[Any, Any]) -> list[int]:
        index = self.rows.index
        return [int(place if index is None else index[place]) for place in places]


def _inputs_as_text(rows: Rows, columns: Columns) -> tuple[Rows, list[Finding]]:
    findings = []
    table = rows.table
    for name in columns.inputs:
        position = table.column_names.index(name)
        field = table.schema.field(position)
        if is_text(field.type) and not is_nested(field):
            continue
        if is_nested(field) or not (is_number(field.type) or pa.types.is_boolean(field.type)):
            kind = "nested values" if is_nested(field) else f"values of type {field.type}"
            raise DataError(
                f"The input column {name!r} holds {kind}, not text.",
                where=f"{rows.source}, column {name!r}",
                fix="name a column that holds text",
            )
        table = table.set_column(position, pa.field(name, pa.string()), _as_text(table.column(position)))
        message = f"The input column {name!r} holds {field.type} numbers; they are read as text."
        where, fix = f"{rows.source}, column {name!r}", "name another column if this one is not the text"
        findings.append(Finding("reading", "warning", message, where, fix, count=len(rows)))
    return (Rows(table, rows.source, rows.index, rows.mapping) if findings else rows), findings


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Numbers as they are answered to, too."""
    starts = range(0, len(column), _PIECE)  # so that few Python numbers are there at a time
    pieces = [column_of(column.slice(start, _PIECE).to_pylist(), "text") for start in starts]
    return pa.chunked_array(pieces, pa.string())


def _long_note(rows: Rows, faults: _Faults) -> Finding:
    place = rows.place(faults.long_rows[0]) if faults.long_rows else rows.source
    return Finding(
        check="lengths",
        level="info",
        message=f"{counted(faults.long_count, 'text is', 'texts are')} longer than {LONG_CHARACTERS:,} characters "
        "(kept; such texts become many windows and take their time).",
        where=place,
        fix="cut them, if the beginning is enough",
        count=faults.long_count,
        row_ids=tuple(faults.long_rows),
    )


def counted(number: int, one: str, many: str) -> str:
    """'1 class', '12 classes'."""
    return f"{number:,} {one if number == 1 else many}"
