"""Targets: canonical keys of them for splitting and checking, and the sealed file that only judge opens.

Test targets reach no code but judge. After splitting they lie in an Arrow file of their own; ``open_targets``
is the only way to read it, and counts how often it was used.
"""

import json
from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.atomic import written
from whet.data.columns import INVISIBLE, missing_mask
from whet.data.rows import Columns, Rows
from whet.data.tables import is_list, is_number, is_text, text_of
from whet.errors import DataError, MachineError

ROW_ID = "\x1frow_id"
"""The column of row ids in a sealed file; no column of a user is called so."""
JOINT = "\x1f"
"""Stands between the labels of one multi-label key."""

SEPARATORS = (";", "|", ",")
"""What may stand between the labels of one text."""
TRUE = {"1", "true", "yes", "y", "t", "x"}
FALSE = {"0", "false", "no", "n", "f", ""}
_opens = 0


@dataclass(frozen=True)
class TargetKeys:
    """The target of every row as one short text, stored as numbers.

    ``codes`` is (N,) int32: the place of the row's key in ``keys``, -1 where the target is missing.
    """

    codes: np.ndarray[Any, Any]
    keys: list[str]

    def counts(self) -> np.ndarray[Any, Any]:
        """(K,) int64: rows per key."""
        found = np.zeros(len(self.keys) + 1, dtype=np.int64)
        for start in range(0, len(self.codes), 65536):
            found += np.bincount(self.codes[start : start + 65536] + 1, minlength=len(found))
        return found[1:]

    def labels(self) -> list[list[str]]:
        """The labels of each key: one for classes, any number for multi-label."""
        return [key.split(JOINT) if key else [] for key in self.keys]


def seal_targets(rows: Rows, columns: Columns, path: Path) -> None:
    """Write row ids and target columns to a file of their own, whole or not at all.

    Raises:
        MachineError: the file cannot be written.
    """
    schema = pa.schema([(ROW_ID, pa.int64()), *(rows.table.schema.field(name) for name in columns.target)])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written(path) as beside, pa.OSFile(str(beside), "wb") as file, pa.ipc.new_file(file, schema) as writer:
            ids, start = rows.ids, 0
            for batch in rows.batches(columns.target):
                part = pa.array(ids[start : start + batch.num_rows])
                start += batch.num_rows
                writer.write_batch(pa.record_batch([part, *batch.columns], schema=schema))
    except OSError as error:
        raise MachineError(
            f"The test targets cannot be written: {error.strerror or error}.",
            where=str(path),
            fix="free some disk space, or choose another folder",
        ) from error


def open_targets(path: Path) -> pa.Table:
    """Row ids (``ROW_ID``, int64) and target columns of a sealed file. Only judge calls this.

    Raises:
        DataError: the file is missing or damaged.
    """
    global _opens
    _opens += 1
    try:
        with pa.OSFile(str(path), "rb") as file:
            return pa.ipc.open_file(file).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(
            f"The sealed test targets cannot be read: {str(error).splitlines()[0]}",
            where=str(path),
            fix="run again with the same command",
        ) from error


def opens() -> int:
    """How often sealed targets were opened in this process."""
    return _opens


def target_keys(rows: Rows, columns: Columns, separator: str | None = None) -> TargetKeys:
    """The canonical key of every row's target: equal keys, equal targets, whatever format they came from.

    Lists and separated texts are sorted and joined, without what is blank in them; several 0/1 columns give the names
    of those that are on; numbers are written short (1.0 is '1'). Keys are in alphabetical order, whatever the order of
    the rows.

    Args:
        separator: What stands between the labels of a text that holds several; None: the text is one label.

    Raises:
        DataError: one of several target columns holds something else than 0 or 1.
    """
    numbers: dict[str, int] = {}
    codes = np.empty(len(rows), dtype=np.int32)
    start = 0
    for batch in rows.batches(columns.target, size=16384):
        if len(columns.target) > 1:
            part, keys = _switch_keys(batch, rows, start)
        else:
            part, keys = _column_keys(batch.column(0), separator)
        table = np.array([numbers.setdefault(key, len(numbers)) for key in keys] + [-1], dtype=np.int32)
        codes[start : start + batch.num_rows] = table[part]
        start += batch.num_rows
    keys = sorted(numbers)
    ranks = np.empty(len(keys) + 1, dtype=np.int32)
    ranks[[numbers[key] for key in keys]] = np.arange(len(keys), dtype=np.int32)
    ranks[-1] = -1
    np.take(ranks, codes, out=codes, mode="wrap")
    return TargetKeys(codes, keys)


def is_label(value: Any) -> bool:
    """Whether a part of a list or of a separated text names a label: "".split(";") gives [""], which names none."""
    if isinstance(value, str):
        return bool(value.strip().strip(INVISIBLE))
    return value is not None and bool(value == value)  # NaN is no label


def target_numbers(rows: Rows, columns: Columns) -> np.ndarray[Any, Any]:
    """(N,) float64: the targets of a regression, NaN where missing.

    Raises:
        DataError: a target is not a number (the first such row is named).
    """
    name = columns.target[0]
    found = np.empty(len(rows), dtype=np.float64)
    start = 0
    for batch in rows.batches([name], size=16384):
        found[start : start + batch.num_rows] = _numbers(batch.column(0), rows, name, start)
        start += batch.num_rows
    return found


def require_numbers(rows: Rows, columns: Columns) -> None:
    """Refuse a regression's rows of which a target cannot be judged.

    Raises:
        DataError: it is not a number, or not a finite one (the first such row is named).
    """
    numbers = target_numbers(rows, columns)
    strange = np.flatnonzero(~np.isfinite(numbers))
    if len(strange):
        raise DataError(
            f"The target is not a finite number: {numbers[strange[0]]}.",
            where=rows.place(int(rows.ids[strange[0]]), columns.target[0]),
            fix="correct the row, or leave the target empty to have it left out",
        )


def require_lists(rows: Rows, columns: Columns, known: Set[str]) -> None:
    """Refuse texts that join labels which training rows list: each would be one label, and unknown.

    Args:
        known: The labels of training; one of them may itself hold what stands between labels elsewhere.

    Raises:
        DataError: a text is no known label, and all its parts are (the first such row is named).
    """
    name = columns.target[0]
    if not is_text(rows.table.schema.field(name).type):
        return
    keys = target_keys(rows, columns)
    parts = {code: _parts(key, known) for code, key in enumerate(keys.keys) if key not in known}
    joined = np.isin(keys.codes, [code for code, labels in parts.items() if labels])
    if not joined.any():
        return
    first = int(np.flatnonzero(joined)[0])
    text, labels = keys.keys[keys.codes[first]], parts[int(keys.codes[first])]
    raise DataError(
        f"Labels are joined in one text, {text[:60]!r}; the training rows hold lists of labels.",
        where=rows.place(int(rows.ids[first]), name),
        fix=f"write a list in each row, here {json.dumps(labels, ensure_ascii=False)[:60]}, in .jsonl or .parquet",
    )


def _parts(text: str, known: Set[str]) -> list[str]:
    """The known labels that a text joins; none if it is something else."""
    for separator in SEPARATORS:
        parts = [part.strip() for part in text.split(separator) if is_label(part)]
        if len(parts) > 1 and all(part in known for part in parts):
            return parts
    return []


def _column_keys(column: pa.Array, separator: str | None) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Codes into the keys of this batch (-1: missing) and the keys."""
    if is_list(column.type):
        texts = [None if value is None else _joined(value) for value in column.to_pylist()]
        column = pa.array(texts, pa.string())
        missing = np.asarray(column.is_null().to_numpy(zero_copy_only=False))
    else:
        missing = missing_mask(column)
    encoded = column.dictionary_encode()
    codes = np.asarray(pc.fill_null(encoded.indices, 0).to_numpy(zero_copy_only=False)).astype(np.int32)
    values = encoded.dictionary.to_pylist()
    if separator is not None and is_text(column.type):
        keys = [_joined(part.strip() for part in value.split(separator) if is_label(part)) for value in values]
    else:
        keys = [text_of(value) for value in values]
    if missing.any():  # what only missing rows hold is no key
        used = np.unique(codes[~missing])
        narrow = np.full(max(1, len(keys)), -1, dtype=np.int32)
        narrow[used] = np.arange(len(used), dtype=np.int32)
        codes, keys = np.where(missing, -1, narrow[codes]).astype(np.int32), [keys[code] for code in used]
    return codes, keys


def _joined(labels: Iterable[Any]) -> str:
    return JOINT.join(sorted({text_of(label) for label in labels if is_label(label)}))


def _switch_keys(batch: pa.RecordBatch, rows: Rows, start: int) -> tuple[np.ndarray[Any, Any], list[str]]:
    """Several 0/1 columns: which of them are on."""
    on = np.zeros((batch.num_rows, batch.num_columns), dtype=bool)
    missing = np.zeros(batch.num_rows, dtype=bool)
    for position, name in enumerate(batch.schema.names):
        column = batch.column(position)
        codes, values = _column_keys(column, None)
        known = [value.strip().lower() in TRUE for value in values]
        strange = [value.strip().lower() not in TRUE | FALSE for value in values]
        if any(strange):
            first = int(np.flatnonzero(np.array([*strange, False])[codes])[0])
            raise DataError(
                f"One of several target columns must hold 0 or 1, got {column[first].as_py()!r}.",
                where=rows.place(int(rows.ids[start + first]), name),
                fix="write 0 or 1 in each of them, or name one column with a list of labels",
            )
        on[:, position] = np.array([*known, False])[codes]
        missing |= codes < 0
    packed = np.ascontiguousarray(np.packbits(on, axis=1))
    _, first_places, inverse = np.unique(
        packed.view(np.dtype((np.void, packed.shape[1]))).ravel(), return_index=True, return_inverse=True
    )
    names = np.array(batch.schema.names)
    keys = [_joined(names[on[place]].tolist()) for place in first_places]
    return np.where(missing, -1, inverse).astype(np.int32), keys


def _numbers(column: pa.Array, rows: Rows, name: str, start: int) -> np.ndarray[Any, Any]:
    if is_text(column.type):
        missing = missing_mask(column)
        trimmed = pc.ascii_trim_whitespace(column)
        numeric = pc.match_substring_regex(trimmed, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
        bad = np.asarray(pc.fill_null(pc.invert(numeric), False).to_numpy(zero_copy_only=False)) & ~missing
        if bad.any():
            raise _not_a_number(column, int(np.flatnonzero(bad)[0]), rows, name, start)
        kept = pc.if_else(pa.array(missing), None, pc.replace_substring_regex(trimmed, r"^\+", ""))
        column = pc.cast(kept, pa.float64())
    elif pa.types.is_boolean(column.type) or is_number(column.type):
        column = pc.cast(column, pa.float64())
    else:
        raise _not_a_number(column, 0, rows, name, start)
    return np.asarray(pc.fill_null(column, float("nan")).to_numpy(zero_copy_only=False))


def _not_a_number(column: pa.Array, position: int, rows: Rows, name: str, start: int) -> DataError:
    return DataError(
        f"The target of a regression must be a number, got {column[position].as_py()!r}.",
        where=rows.place(int(rows.ids[start + position]), name),
        fix="write plain numbers such as 3.5 (no units, no thousands separators), or choose a classification task",
    )
