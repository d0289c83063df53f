"""Which rows cannot be used? Those without an input or a target: counted, said and dropped, never silently."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from whet.data.columns import missing_mask, require_columns, test_header
from whet.data.read import Sources
from whet.data.rows import Columns, Finding, Rows
from whet.data.targets import JOINT, TargetKeys
from whet.errors import DataError

FILL_IN = "fill them in, or leave it so"
NO_LABELS = "fill them in; rows that truly have no label are kept from a list column ([]) or from columns of 0 and 1"
_EXAMPLES = 5


def clean(sources: Sources, columns: Columns, *, several: bool = False) -> Sources:
    """All rows that were given, without those that cannot be used; what was dropped is in ``findings``.

    Args:
        several: A target is any number of labels, so that one who left it empty may have meant none of them.

    Raises:
        DataError: a column is missing, an input is of another kind, or no row is left.
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
    """Leave out rows without an input or a target.

    Args:
        side: Which rows these are, for messages: " of valid", or nothing where there are no others.

    Raises:
        DataError: an input column holds another kind of value, or no row is left.
    """
    findings, long = list[Finding](), list[Finding]()
    for column in columns.inputs:
        rows, found = columns.modality.admit(rows, column)
        findings += [one for one in found if one.check == "reading"]
        long += [one for one in found if one.check != "reading"]
    faults = _Faults(rows, columns)
    for column in columns.inputs:
        findings += faults.notes(column, columns.modality.nouns[0], side, FILL_IN)
    for column in columns.target:
        findings += faults.notes(column, "target", side, NO_LABELS if several else FILL_IN)
    findings += long
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
        self.found: dict[str, _Fault] = {}
        names = dict.fromkeys((*columns.inputs, *columns.target))
        start = 0
        for batch in rows.batches(list(names)):
            for name, column in zip(names, batch.columns, strict=True):
                self._scan(name, column, start)
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

    def _ids(self, places: np.ndarray[Any, Any]) -> list[int]:
        index = self.rows.index
        return [int(place if index is None else index[place]) for place in places]


def counted(number: int, one: str, many: str) -> str:
    """'1 class', '12 classes'."""
    return f"{number:,} {one if number == 1 else many}"
