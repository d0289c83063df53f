"""Rows of an earlier run among those of a new one: drawn by class, under the new run's column names.

Rehearsal mixes a share of what was learnt before into what is learnt now, so that it is not forgotten. The share counts
rows of the earlier training set, as the literature counts its memory.

Source: Robins 1995, "Catastrophic forgetting, rehearsal and pseudorehearsal", Connection Science 7.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.data.fingerprints import input_hashes, is_in, seeded
from whet.data.rows import Columns, Rows
from whet.data.tables import is_list, is_number, is_text, text_of
from whet.data.targets import is_label
from whet.errors import ConfigError

Array = np.ndarray[Any, Any]


def draw_share(
    rows: Rows, columns: Columns, strata: Array, share: float, seed: int, known: Array, barred: Array
) -> Array:
    """Ascending positions of a share of every stratum, rounded up, so that none is left without a row.

    Args:
        strata: (N,) int32, such as the class of each row.
        share: Above 0 and at most 1, of the rows of each stratum.
        known: (M,) uint64 hashes of inputs that are there already; their rows are not drawn.
        barred: (N,) bool, rows that are not drawn either.
    """
    hashes = input_hashes(rows, columns)
    free = np.flatnonzero(~is_in(hashes, known) & ~barred)
    order = free[np.lexsort((seeded(hashes[free], "rehearse", seed), strata[free]))]
    kinds, starts, sizes = np.unique(strata[order], return_index=True, return_counts=True)
    wanted = np.ceil(share * np.bincount(strata, minlength=int(kinds.max(initial=-1)) + 1)[kinds] - 1e-9)
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    return np.sort(order[rank < np.repeat(wanted, sizes)])


def in_columns(rows: Rows, own: Columns, columns: Columns) -> Rows:
    """The inputs of some rows under the names that these columns have."""
    table = rows.table.select(list(own.inputs)).rename_columns(list(columns.inputs))
    return rows.with_table(table)


def with_rows(
    parts: list[Rows],
    extra: Rows,
    own: Columns,
    columns: Columns,
    separators: tuple[str | None, str | None] = (None, None),
) -> list[Rows]:
    """The same parts of one table, now of a table that ends with the extra rows; those come last, as a part more.

    Inputs that name files go on naming them, also where the two lie in different folders.

    Args:
        parts: Selections of one table, such as train and validation rows.
        own: The columns of ``extra``; columns: those of ``parts``. Only these are kept.
        separators: What stands between the labels of one text, in ``parts`` and in ``extra``; None where nothing does.

    Raises:
        ConfigError: the two cannot be laid into one column.
    """
    table, here, there = parts[0].table, parts[0].folder, extra.folder
    names = list(dict.fromkeys(name for name in (*columns.inputs, *columns.target, columns.group) if name))
    theirs = dict(zip((*columns.inputs, *columns.target), (*own.inputs, *own.target), strict=True))
    if columns.group and own.group:
        theirs.setdefault(columns.group, own.group)
    read = list(dict.fromkeys(theirs.values()))
    more = pa.Table.from_batches(list(extra.batches(read)), schema=extra.table.select(read).schema)
    first, second = {}, {}
    for name in names:
        ours = table.column(name)
        added = more.column(theirs[name]) if name in theirs else pa.nulls(len(more), ours.type)
        if name in columns.inputs and here != there:
            ours, added = columns.modality.anchored(ours, here), columns.modality.anchored(added, there)
        if name in columns.target and (separators[0] != separators[1] or is_list(ours.type) != is_list(added.type)):
            added = relabelled(added, separators[1], separators[0])
        first[name], second[name] = alike(ours, added, name)
    joined = pa.concat_tables([pa.table(first), pa.table(second)])
    begin = np.arange(len(table), len(joined), dtype=np.int64)
    whole = Rows(joined, parts[0].source, mapping=parts[0].mapping, folder=here if here == there else None)
    return [*(whole.at(part.ids) for part in parts), whole.at(begin)]


def relabelled(column: Any, theirs: str | None, ours: str | None) -> Any:
    """Several labels a row as the new rows write theirs: in one text with their separator, else in a list.

    Args:
        theirs: What stands between the labels of a text now; ours: what shall, None for lists.

    Raises:
        ConfigError: a label could not be read again.
    """
    rows = [None if value is None else labels_of(value, theirs) for value in column.to_pylist()]
    if ours is None:
        return pa.array(rows, pa.list_(pa.string()))
    for label in dict.fromkeys(label for row in rows for label in row or ()):
        if ours in label or label != label.strip() or not label:
            raise unwritable(f"The label {label!r}", ours)
    return pa.array([None if row is None else ours.join(row) for row in rows], pa.large_string())


def labels_of(value: Any, separator: str | None) -> list[str]:
    """The labels of one row, from a list or a text."""
    if isinstance(value, list):
        return [text_of(label) for label in value if is_label(label)]
    parts = [text_of(value)] if separator is None else text_of(value).split(separator)
    return [part.strip() for part in parts if is_label(part)]


def unwritable(what: str, separator: str) -> ConfigError:
    """Old labels cannot be written as the new rows write theirs."""
    return ConfigError(
        f"{what} of rows to rehearse cannot be written in one text with {separator!r} between labels, as the new ones.",
        where="--rehearse",
        fix="write the new rows as lists of labels (.jsonl or .parquet), or leave --rehearse out",
    )


def alike(ours: Any, added: Any, name: str) -> tuple[Any, Any]:
    """Two columns in one type: as they are where they agree, else as a person would write their values.

    Raises:
        ConfigError: one holds lists and the other does not.
    """
    if ours.type == added.type:
        return ours, added
    if is_list(ours.type) and is_list(added.type):
        return in_lists(ours), in_lists(added)
    if is_list(ours.type) or is_list(added.type):
        raise ConfigError(
            f"The labels are lists in one of the two sets of rows, and texts in the other ({name!r}).",
            where="rehearse",
            fix="write the labels of both in one way, or leave --rehearse out",
        )
    if is_number(ours.type) and is_number(added.type):
        return pc.cast(ours, pa.float64()), pc.cast(added, pa.float64())
    return in_words(ours), in_words(added)


def in_lists(column: Any) -> Any:
    """A column of lists as lists of texts; whole numbers without a point."""
    rows = column.to_pylist()
    texts = [None if row is None else [None if one is None else text_of(one) for one in row] for row in rows]
    return pa.array(texts, pa.list_(pa.string()))


def in_words(column: Any) -> Any:
    """A column as text; whole numbers without a point."""
    if is_text(column.type):
        return pc.cast(column, pa.large_string())
    values = [None if value is None else text_of(value) for value in column.to_pylist()]
    return pa.array(values, pa.large_string())
