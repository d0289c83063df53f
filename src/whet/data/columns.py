"""Which columns are there, what do they look like, and are the named ones among them?"""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.data.rows import Columns, Rows, spread
from whet.data.tables import is_bytes, is_list, is_nested, is_number, is_raw, is_text
from whet.errors import DataError, closest

INVISIBLE = "\u200b\ufeff\u2060"
"""Signs without width, of which some are no white space."""


@dataclass(frozen=True)
class ColumnSummary:
    """How a column looks in a sample of rows.

    ``distinct_share`` is the number of distinct values over the number of values that are there,
    ``mean_length`` counts characters (0 for what is not text), ``numeric_share`` is the share of the values that
    are there which are numbers or read as one. ``missing`` counts nulls, empty texts and NaN.
    """

    name: str
    kind: Literal["text", "number", "list", "boolean", "bytes", "other"]
    rows: int
    missing: int
    distinct: int
    distinct_share: float
    mean_length: float
    numeric_share: float
    examples: tuple[str, ...] = ()


def require_columns(rows: Rows, columns: Columns) -> None:
    """Refuse columns that the rows do not have, or that cannot play their part.

    Raises:
        DataError: a column is not there (the nearest names are shown), plays two parts or one of them twice, or holds
            nested values; a column of groups or times holds lists.
    """
    wanted = [*columns.inputs, *columns.target, columns.group, columns.time]
    for name in wanted:
        if name is not None and name not in rows.names:
            raise _missing_column(name, rows)
    for name in columns.target:
        if name in columns.inputs:
            raise DataError(
                f"Column {name!r} is both input and target.",
                where=rows.source,
                fix="name different columns for the text and the target",
            )
        if columns.target.count(name) > 1:
            raise DataError(f"The target {name!r} is named twice.", where=rows.source, fix="name it once")
    for name in dict.fromkeys(name for name in (*columns.target, columns.group, columns.time) if name is not None):
        field = rows.table.schema.field(name)
        nested = is_nested(field) and not is_bytes(field)
        if is_raw(field.type):
            raise DataError(
                f"The column {name!r} holds bytes that spell no text.",
                where=f"{rows.source}, column {name!r}",
                fix="name a column of text or numbers",
            )
        if nested or (is_list(field.type) and name not in columns.target):
            held = [value for value in rows.select(spread(len(rows), 100)).values(name) if value is not None]
            raise DataError(
                f"The column {name!r} holds {'nested values' if nested else 'lists'}, such as "
                f"{str(held[0])[:60] if held else 'none'}.",
                where=f"{rows.source}, column {name!r}",
                fix="write a single value in each row" + (", or a list of labels" if name in columns.target else ""),
            )


def test_header(rows: Rows, columns: Columns, *, grouped: bool) -> None:
    """Refuse a test or validation file that lacks an input or target column of the training file.

    Args:
        grouped: Whether it needs the group column too, as validation rows do.

    Raises:
        DataError: a column is not there.
    """
    group = (columns.group,) if grouped and columns.group else ()
    lacking = [name for name in (*columns.inputs, *columns.target, *group) if name not in rows.names]
    if lacking:
        error = _missing_column(lacking[0], rows)
        raise DataError(
            f"The file has another header than the training rows: there is no column {lacking[0]!r}.",
            where=error.where,
            fix=f"name its columns as in the training rows: {_listed([*columns.inputs, *columns.target, *group])}",
        )


test_header.__test__ = False  # type: ignore[attr-defined]  # not a test, though pytest would think so


def plain_names(names: list[str], where: str) -> list[str]:
    """Column names without surrounding blanks.

    Raises:
        DataError: two columns have the same name.
    """
    stripped = [name.strip() or f"column {number}" for number, name in enumerate(names, start=1)]
    twice = [name for name, count in Counter(stripped).items() if count > 1]
    if twice:
        places = [str(number) for number, name in enumerate(stripped, start=1) if name == twice[0]]
        raise DataError(
            f"Two columns have the same name: {twice[0]!r} (columns {' and '.join(places)}).",
            where=where,
            fix="rename one of them; if the first line is a row, put a line with column names above it",
        )
    return stripped


def describe_columns(rows: Rows, sample: int = 2000) -> list[ColumnSummary]:
    """Summarise every column from up to ``sample`` rows, evenly spaced."""
    chosen = rows.select(spread(len(rows), sample)) if sample < len(rows) else rows
    batches = list(chosen.batches(rows.names, size=max(1, len(chosen))))
    if not batches:
        return []
    return [_summary(name, batches[0].column(name), rows.table.schema.field(name)) for name in rows.names]


def missing_mask(column: pa.Array) -> np.ndarray:
    """(N,) bool: null, text without a visible character, or NaN. An empty list is a value."""
    if is_text(column.type):
        trimmed = pc.utf8_trim(pc.utf8_trim_whitespace(column), INVISIBLE)
        empty = pc.fill_null(pc.equal(pc.binary_length(trimmed), 0), True)
    else:
        empty = pc.is_null(column, nan_is_null=True)
    return np.asarray(empty.to_numpy(zero_copy_only=False))


def _summary(name: str, column: pa.Array, field: pa.Field) -> ColumnSummary:
    missing = missing_mask(column)
    there = column.filter(pa.array(~missing))
    kind = _kind(field)
    as_text = there if is_text(column.type) else pa.array([_shown(value) for value in there.to_pylist()], pa.string())
    distinct = pc.count_distinct(as_text).as_py() if len(there) else 0
    lengths = pc.mean(pc.utf8_length(there)).as_py() if is_text(column.type) and len(there) else 0.0
    return ColumnSummary(
        name=name,
        kind=kind,
        rows=len(column),
        missing=int(missing.sum()),
        distinct=distinct,
        distinct_share=distinct / max(1, len(there)),
        mean_length=float(lengths),
        numeric_share=1.0 if kind == "number" else _numeric_share(there) if is_text(column.type) else 0.0,
        examples=tuple(pc.unique(as_text)[:3].to_pylist()),
    )


def _shown(value: Any) -> str:
    return f"{len(value):,} bytes, {value[:16].hex()}" if isinstance(value, bytes) else str(value)


def _kind(field: pa.Field) -> Literal["text", "number", "list", "boolean", "bytes", "other"]:
    if is_nested(field):
        return "other"
    if is_raw(field.type):
        return "bytes"
    if is_text(field.type):
        return "text"
    if is_number(field.type):
        return "number"
    if is_list(field.type):
        return "list"
    return "boolean" if pa.types.is_boolean(field.type) else "other"


def _numeric_share(column: pa.Array) -> float:
    if not len(column):
        return 0.0
    numeric = pc.match_substring_regex(pc.ascii_trim_whitespace(column), r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
    return float(pc.mean(pc.cast(numeric, pa.float64())).as_py())


def _missing_column(name: str, rows: Rows) -> DataError:
    near = closest(name, rows.names)
    guess = "use " + " or ".join(repr(known) for known in near) + "; " if near else ""
    return DataError(
        f"There is no column {name!r}.",
        where=rows.source,
        fix=f"{guess}the columns are {_listed(rows.names)}",
    )


def _listed(names: list[str], limit: int = 30) -> str:
    shown = ", ".join(repr(name[:60]) for name in names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
