"""Rows that are already in memory: frames of pandas and polars, datasets, Arrow tables, lists and dicts.

Which library an object comes from is seen from its type, so that none is imported that is not in use.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from whet.data.columns import plain_names
from whet.data.read_json import half_notes, mixed_notes, table_of_rows
from whet.data.rows import Finding, Rows
from whet.data.tables import Kind, column_of, field_of, halved, kind_of, plain_table
from whet.errors import DataError

_SOURCE = "rows"


def read_objects(source: Any) -> tuple[Rows, list[Finding]]:
    """One object in memory to rows.

    Raises:
        DataError: of a type that holds no rows, without rows, or with columns of unequal length.
    """
    if isinstance(source, Rows):
        return source, []
    table, notes = _table(source)
    plain_names(list(table.column_names), _SOURCE)
    if not table.num_rows:
        raise DataError("There are no rows.", where=_SOURCE, fix="give at least a few rows")
    return Rows(table, _SOURCE), notes


def parts_of(source: Any) -> dict[str, Any] | None:
    """The named splits of a DatasetDict (or a dict of frames), or None if ``source`` is one table."""
    if not isinstance(source, Mapping) or not source:
        return None
    if all(_library(value) in ("datasets", "pandas", "polars", "pyarrow") for value in source.values()):
        tables = {str(name): value for name, value in source.items()}
        return (
            tables
            if all(hasattr(value, "columns") or hasattr(value, "column_names") for value in tables.values())
            else None
        )
    return None


def _table(source: Any) -> tuple[pa.Table, list[Finding]]:
    library = _library(source)
    if isinstance(source, pa.Table):
        return plain_table(source), []
    if library == "pandas" and hasattr(source, "columns"):
        return _from_pandas(source)
    if library == "polars" and (hasattr(source, "collect") or hasattr(source, "columns")):
        frame = source.collect() if hasattr(source, "collect") else source
        return plain_table(frame.to_arrow()), []
    if library == "datasets" and hasattr(source, "with_format"):
        return _from_dataset(source), []
    if isinstance(source, Mapping):
        return _from_columns(source)
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return _from_list(source)
    raise DataError(
        f"whet cannot read rows from {type(source).__module__}.{type(source).__qualname__}.",
        where=_SOURCE,
        fix="give a path, a pandas or polars frame, a datasets.Dataset, or a list of dicts",
    )


def _library(source: Any) -> str:
    return type(source).__module__.partition(".")[0]


def _from_pandas(frame: Any) -> tuple[pa.Table, list[Finding]]:
    names = plain_names([str(name) for name in frame.columns], _SOURCE)
    columns: list[pa.Array] = []
    fields: list[pa.Field] = []
    mixed: list[str] = []
    halves: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        series = frame.iloc[:, position]
        try:
            column = pa.array(series, from_pandas=True)
            if isinstance(column, pa.ChunkedArray):
                column = column.combine_chunks()
            field = pa.field(name, column.type)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, UnicodeEncodeError):
            values = [None if missing else value for value, missing in zip(series, series.isna(), strict=True)]
            kind = kind_of(values)
            column, field = column_of(values, kind), field_of(name, kind)
            mixed += [name] if _is_mixed(values, kind) else []
            halves[name] = halved(values, column)
        columns.append(column)
        fields.append(field.with_type(column.type))
    table = plain_table(pa.Table.from_arrays(columns, schema=pa.schema(fields)))
    return table, [*mixed_notes(mixed, _SOURCE), *half_notes(halves, _SOURCE)]


def _from_dataset(dataset: Any) -> pa.Table:
    """The rows of a datasets.Dataset, class numbers replaced by the names that its features give them."""
    table = dataset.with_format("arrow")[:]
    for name, feature in dataset.features.items():
        labels, kind = _class_names(feature)
        if labels:
            named = [_named(value, labels) for value in table.column(name).to_pylist()]
            position = table.column_names.index(name)
            table = table.set_column(position, pa.field(name, kind), pa.array(named, kind))
    return plain_table(table)


def _class_names(feature: Any) -> tuple[list[str], pa.DataType]:
    """The names of a feature's classes (none: it holds something else), and the type of a column of them."""
    labels = getattr(feature, "names", None)
    if isinstance(labels, list) and type(feature).__name__ == "ClassLabel":
        return labels, pa.string()
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    if inner is None:
        return [], pa.null()
    labels, kind = _class_names(inner)
    return labels, pa.list_(kind)


def _named(value: Any, labels: list[str]) -> Any:
    if isinstance(value, list):
        return [_named(one, labels) for one in value]
    return None if value is None or value < 0 else labels[value]


def _from_columns(columns: Mapping[Any, Any]) -> tuple[pa.Table, list[Finding]]:
    values = {str(name): _as_list(name, column) for name, column in columns.items()}
    lengths = {name: len(column) for name, column in values.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            "The columns have unequal lengths: " + ", ".join(f"{n!r} has {c:,}" for n, c in lengths.items()) + ".",
            where=_SOURCE,
            fix="give every column one value a row, None where it is missing",
        )
    kinds = {name: kind_of(column) for name, column in values.items()}
    arrays = [column_of(column, kinds[name]) for name, column in values.items()]
    fields = [field_of(name, kinds[name]).with_type(array.type) for name, array in zip(values, arrays, strict=True)]
    mixed = [name for name, kind in kinds.items() if _is_mixed(values[name], kind)]
    halves = {name: halved(column, array) for (name, column), array in zip(values.items(), arrays, strict=True)}
    table = pa.Table.from_arrays(arrays, schema=pa.schema(fields))
    return table, [*mixed_notes(mixed, _SOURCE), *half_notes(halves, _SOURCE)]


def _is_mixed(values: Sequence[Any], kind: Kind) -> bool:
    return kind == "text" and not all(isinstance(value, str | None) for value in values)


def _as_list(name: Any, column: Any) -> list[Any]:
    if isinstance(column, str | bytes) or not hasattr(column, "__iter__"):
        raise DataError(
            f"Column {name!r} is {type(column).__name__}, not a list of values.",
            where=_SOURCE,
            fix='give {"text": [...], "label": [...]}, or a list of dicts',
        )
    return list(column)


def _from_list(rows: Sequence[Any]) -> tuple[pa.Table, list[Finding]]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise DataError(
                f"Row {number} is of type {type(row).__name__}, not a dict.",
                where=_SOURCE,
                fix='give rows as {"text": "...", "label": "..."}',
            )
    return table_of_rows([{str(key): value for key, value in row.items()} for row in rows], _SOURCE)
