"""When are two inputs the same? When the keys are equal by which their kind of input is compared.

Every row's inputs become one 64-bit number, so that millions of rows compare in a few bytes each.
"""

import unicodedata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from whet.data.rows import Columns, Rows
from whet.data.tables import is_text, text_of

_PIECE = 65536
MOST_REPEATED = 0.05
"""Share of test rows that repeat the input of another up to which they count as independent."""


def normal(text: str) -> str:
    """Unicode NFKC, case folded, white space collapsed and trimmed."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def input_hashes(rows: Rows, columns: Columns) -> np.ndarray[Any, Any]:
    """(N,) uint64: the hash of every row's inputs. Equal inputs have equal hashes."""
    digest = xxhash.xxh3_64_intdigest
    found = np.empty(len(rows), dtype=np.uint64)
    start = 0
    for batch in rows.batches(columns.inputs):
        found[start : start + batch.num_rows] = list(map(digest, columns.modality.keys(batch.columns, rows.folder)))
        start += batch.num_rows
    return found


def seeded(hashes: np.ndarray[Any, Any], purpose: str, seed: int) -> np.ndarray[Any, Any]:
    """(N,) uint64: random numbers that depend only on (hash, purpose, seed), never on the order of rows.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014). Works in pieces, so that it costs 8 bytes a row.
    """
    key = np.uint64(xxhash.xxh3_64_intdigest(f"{purpose}/{seed}".encode()))
    mixed = hashes ^ key
    for start in range(0, len(mixed), _PIECE):
        part = mixed[start : start + _PIECE]
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            part ^= part >> np.uint64(shift)
            part *= np.uint64(factor)
        part ^= part >> np.uint64(31)
    return mixed


def repeated(hashes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(R,) int64: positions of the rows whose hash occurs more than once, ascending. Costs one sorted copy."""
    ranked = np.sort(hashes)
    twice = np.unique(ranked[1:][ranked[1:] == ranked[:-1]])
    del ranked
    return np.flatnonzero(is_in(hashes, twice))


def same(hashes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(N,) int32: equal numbers for equal hashes, from 0, in order of the hash."""
    order = np.argsort(hashes)
    ranked = hashes[order]
    new = np.empty(len(hashes), dtype=bool)
    new[:1] = False
    np.not_equal(ranked[1:], ranked[:-1], out=new[1:])
    del ranked
    numbers = np.empty(len(hashes), dtype=np.int32)
    numbers[order] = np.cumsum(new, dtype=np.int32)
    return numbers


def is_in(hashes: np.ndarray[Any, Any], pool: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(N,) bool: whether each hash is in ``pool``. Costs one sorted copy of ``pool``."""
    found = np.zeros(len(hashes), dtype=bool)
    if not len(pool):
        return found
    ranked = np.sort(pool)
    for start in range(0, len(hashes), _PIECE):
        part = hashes[start : start + _PIECE]
        places = np.minimum(np.searchsorted(ranked, part), len(ranked) - 1)
        found[start : start + _PIECE] = ranked[places] == part
    return found


def group_codes(rows: Rows, columns: Columns) -> np.ndarray[Any, Any]:
    """(N,) int64: a number for every group; a row without one is a group of its own.

    Equal groups have equal numbers in any table (they are hashes), so sets of rows can be compared and joined. The
    number of a row without a group is a hash too, of its place and inputs, below 0.
    """
    assert columns.group is not None
    digest = xxhash.xxh3_64_intdigest
    found = np.empty(len(rows), dtype=np.int64)
    start = 0
    for batch in rows.batches([columns.group], size=16384):
        column = batch.column(0)
        encoded = (column if pa.types.is_floating(column.type) else _as_text(column)).dictionary_encode()
        values = encoded.dictionary.to_pylist()
        table = [-1 if value != value else digest(text_of(value).encode()) >> 1 for value in values]  # NaN is no group
        codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
        part = np.array([*table, -1], dtype=np.int64)[codes]
        empty = np.flatnonzero((part < 0) | (part == _EMPTY))
        if len(empty):
            part[empty] = _alone(rows.select(start + empty), columns)
        found[start : start + batch.num_rows] = part
        start += batch.num_rows
    return found


def _alone(rows: Rows, columns: Columns) -> list[int]:
    """A number below 0 for each row, which no row of another place or with other inputs has."""
    places = zip(rows.ids.tolist(), input_hashes(rows, columns).tolist(), strict=True)
    return [-1 - (xxhash.xxh3_64_intdigest(f"{rows.source}/{place}/{text}".encode()) >> 1) for place, text in places]


def row_units(rows: Rows, columns: Columns) -> np.ndarray[Any, Any]:
    """(N,) int64: what stays together in folds: the group of each row, or else rows with equal inputs."""
    if columns.group:
        return group_codes(rows, columns)
    return input_hashes(rows, columns).astype(np.int64)


def judged_units(
    rows: Rows, columns: Columns, groups: np.ndarray[Any, Any] | None
) -> tuple[np.ndarray[Any, Any] | None, str]:
    """(N,) int64: which test rows say the same thing again, or None where each stands for itself; and what one such is.

    Groups where the user named them, else equal inputs where they are many: the same answer to the same question is
    one piece of evidence, however often it is asked.
    """
    if groups is not None:
        return groups, "group"
    hashes = input_hashes(rows, columns).view(np.int64)
    if len(hashes) - len(np.unique(hashes)) <= MOST_REPEATED * len(hashes):
        return None, "row"
    return hashes, columns.modality.nouns[0] if len(columns.inputs) == 1 else "pair"


_EMPTY = xxhash.xxh3_64_intdigest(b"") >> 1


def _as_text(column: pa.Array) -> pa.Array:
    if is_text(column.type):
        return column
    return pc.cast(column, pa.string())
