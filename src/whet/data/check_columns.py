"""Does another column give the target away? Then the target may have been made from it, or it from the target."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.data.checks import CheckView
from whet.data.clean import spelled
from whet.data.rows import Finding, Rows, spread
from whet.data.tables import is_list, is_nested, is_raw, is_text
from whet.data.targets import target_numbers

Array = np.ndarray[Any, Any]
_SAMPLE = 10_000
_PURE = 0.99
_RECALL = 0.9
_FEWEST = 5


def check_columns(view: CheckView) -> list[Finding]:
    """Columns whose values tell a class almost surely. Ids (nearly all values different) do not count."""
    rows = view.splits["train"]
    parts = {*view.columns.inputs, *view.columns.target, view.columns.group, view.columns.time}
    others = [name for name in rows.names if name not in parts and _simple(rows.table.schema.field(name))]
    if not others or not len(rows):
        return []
    positions = spread(len(rows), _SAMPLE)
    sample = rows.select(positions)
    table = pa.Table.from_batches(list(sample.batches(others, size=len(sample))))
    if view.kind == "regression":
        return _told_numbers(table, target_numbers(sample, view.columns), sample)
    keys = view.keys("train")
    codes = keys.codes[positions]
    found = []
    for name in others:
        classes = _told_classes(table.column(name).combine_chunks(), codes, len(keys.keys))
        if classes:
            some = ", ".join(repr(spelled(keys.keys[code])) for code in classes[:3])
            more = f" and {len(classes) - 3} more" if len(classes) > 3 else ""
            found.append(_finding(name, f"class {some}{more}", sample))
    return found


def _simple(field: pa.Field) -> bool:
    return not (is_nested(field) or is_list(field.type) or is_raw(field.type))


def _told_classes(column: pa.Array, codes: Array, classes: int) -> list[int]:
    """Classes of which 90% of the rows have a value that 99% of the time means this class."""
    values = pc.fill_null(column.dictionary_encode(null_encoding="encode").indices, 0).to_numpy(zero_copy_only=False)
    distinct = int(values.max()) + 1
    there = len(column) - column.null_count
    if distinct < 2 or there == 0 or distinct > 0.5 * len(column):
        return []
    pairs, counts = np.unique(values.astype(np.int64) * classes + codes, return_counts=True)
    owner, kind = pairs // classes, pairs % classes
    totals = np.bincount(values, minlength=distinct)
    pure = (counts >= _PURE * totals[owner]) & (totals[owner] >= _FEWEST)
    told = np.bincount(kind[pure], weights=counts[pure], minlength=classes)
    sizes = np.bincount(codes, minlength=classes)
    small_enough = sizes < 0.95 * len(codes)
    return [int(code) for code in np.flatnonzero((told >= _RECALL * sizes) & (sizes >= 2 * _FEWEST) & small_enough)]


def _told_numbers(table: pa.Table, targets: Array, sample: Rows) -> list[Finding]:
    found = []
    for name in table.column_names:
        column = table.column(name)
        if is_text(column.type):
            numeric = pc.match_substring_regex(column, r"^-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
            column = pc.if_else(numeric, column, None)
        try:
            values = pc.fill_null(pc.cast(column, pa.float64()), float("nan")).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
        there = np.isfinite(values) & np.isfinite(targets)
        if there.sum() < max(20, 0.5 * len(targets)) or np.ptp(values[there]) == 0 or np.ptp(targets[there]) == 0:
            continue
        if abs(np.corrcoef(values[there], targets[there])[0, 1]) > 0.999:
            found.append(_finding(name, "target", sample))
    return found


def _finding(name: str, what: str, rows: Rows) -> Finding:
    return Finding(
        check="leaking-columns",
        level="info",
        message=f"Column {name!r} gives the {what} away. It is not read by the model.",
        where=f"{rows.source}, column {name!r}",
        fix="leave it out of the inputs, unless it is known before the target is",
    )
