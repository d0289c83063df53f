"""Which inputs are nearly the same? MinHash over five-character shingles, verified on the shingles themselves.

Broder 1997, "On the resemblance and containment of documents". Ours looks at the first 1,000 bytes of a text and
at 100,000 rows at most, and compares a row with its neighbour in each bucket, not with all of them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from whet.data.rows import Columns, Rows

Array = np.ndarray[Any, Any]
Texts = Callable[[Sequence[pa.Array]], list[str]]
"""The input columns of a batch to one text a row, as texts are compared."""
LARGEST_SAMPLE = 100_000
_SHINGLE = 5
_BANDS, _BAND_ROWS = 4, 4
_TEXT_BYTES = 1000
_ALIKE = 0.8
_LIKELY = 0.68  # share of equal smallest hashes that is worth a closer look
_MOST_PAIRS = 2_000
_MULTIPLIERS = (
    np.random.Generator(np.random.PCG64(20)).integers(1, 2**32, size=_BANDS * _BAND_ROWS, dtype=np.uint32) | 1
)


@dataclass(frozen=True)
class Near:
    """Pairs of nearly equal rows of one or two tables.

    ``pairs`` is (P, 4) int64: table and position of one row, then of the other. ``looked_at`` of ``total`` rows were
    compared; ``capped`` says that more candidate pairs were found than were verified.
    """

    pairs: Array
    looked_at: int
    total: int
    capped: bool


def near_pairs(tables: list[Rows], hashes: list[Array], columns: Columns, texts_of: Texts) -> Near:
    """Find pairs whose shingles overlap by 80% (Jaccard); rows equal in hash are represented by the first.

    Args:
        tables: Splits that have the input columns.
        hashes: (N,) uint64 of the inputs of each.
    """
    total = sum(len(rows) for rows in tables)
    share = min(1.0, LARGEST_SAMPLE / max(1, total))
    owners, positions = to_compare(hashes, share)
    marks = np.empty((len(owners), len(_MULTIPLIERS)), dtype=np.uint32)
    valid = np.zeros(len(owners), dtype=bool)
    start = 0
    for texts in _texts(tables, owners, positions, columns, texts_of):
        stop = start + len(texts)
        marks[start:stop], valid[start:stop] = _signatures(texts)
        start = stop
    candidates = _candidates(marks, np.flatnonzero(valid))
    likely = candidates[(marks[candidates[:, 0]] == marks[candidates[:, 1]]).mean(axis=1) >= _LIKELY]
    verified = _verified(likely[:_MOST_PAIRS], tables, owners, positions, columns, texts_of)
    ends = [np.stack([owners[verified[:, side]], positions[verified[:, side]]], axis=1) for side in (0, 1)]
    return Near(np.concatenate(ends, axis=1), len(owners), total, len(likely) > _MOST_PAIRS)


def to_compare(hashes: list[Array], share: float) -> tuple[Array, Array]:
    """Table and position of the rows to compare: one of equal ones, chosen by hash, so every time the same."""
    chosen = [np.flatnonzero(_drawn(part, share)) for part in hashes]
    owners = np.concatenate([np.full(len(part), table, dtype=np.int64) for table, part in enumerate(chosen)])
    every = np.concatenate([part[places] for part, places in zip(hashes, chosen, strict=True)])
    first = np.sort(np.unique(every, return_index=True)[1])
    return owners[first], np.concatenate(chosen)[first]


def _drawn(hashes: Array, share: float) -> Array:
    drawn = np.ones(len(hashes), dtype=bool)
    for start in range(0, len(hashes) if share < 1.0 else 0, 65536):
        mixed = hashes[start : start + 65536] * np.uint64(0x9E3779B97F4A7C15)
        drawn[start : start + 65536] = mixed < np.uint64(share * 2.0**64)
    return drawn


def _texts(
    tables: list[Rows], owners: Array, positions: Array, columns: Columns, texts_of: Texts
) -> Iterator[list[bytes]]:
    for table, rows in enumerate(tables):
        chosen = positions[owners == table]
        whole = len(chosen) == len(rows)
        for batch in (rows if whole else rows.select(chosen)).batches(columns.inputs):
            yield [text.encode()[:_TEXT_BYTES] for text in texts_of(batch.columns)]


def _shingles(texts: list[bytes]) -> tuple[Array, Array]:
    """All shingle hashes (uint32) of all texts one after another, and how many each text has."""
    sizes = np.array([len(text) for text in texts], dtype=np.int64)
    buffer = np.frombuffer(b"".join(texts) + bytes(_SHINGLE), dtype=np.uint8).astype(np.uint64)
    length = len(buffer) - _SHINGLE
    codes = buffer[:length].copy()
    for offset in range(1, _SHINGLE):
        codes |= buffer[offset : offset + length] << np.uint64(8 * offset)
    hashed = ((codes * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)).astype(np.uint32)
    counts = np.maximum(sizes - _SHINGLE + 1, 0)
    within = np.arange(length) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return hashed[within < np.repeat(counts, sizes)], counts


def _signatures(texts: list[bytes]) -> tuple[Array, Array]:
    """(N, H) uint32 smallest hashes, and (N,) bool: whether the text is long enough to have three shingles."""
    hashed, counts = _shingles(texts)
    valid = counts >= 3
    marks = np.zeros((len(texts), len(_MULTIPLIERS)), dtype=np.uint32)
    there = counts > 0
    if not there.any():
        return marks, valid
    starts = (np.cumsum(counts) - counts)[there]
    for place, multiplier in enumerate(_MULTIPLIERS):
        mixed = hashed * multiplier
        mixed ^= mixed >> np.uint32(15)
        marks[there, place] = np.minimum.reduceat(mixed, starts)
    return marks, valid


def _candidates(marks: Array, rows: Array) -> Array:
    """(P, 2) pairs that agree in a whole band, each row with the next in its bucket."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    for band in range(_BANDS):
        part = marks[rows, band * _BAND_ROWS : (band + 1) * _BAND_ROWS].astype(np.uint64)
        bucket = part[:, 0]
        for column in range(1, _BAND_ROWS):
            bucket = bucket * np.uint64(0x9E3779B97F4A7C15) + part[:, column]
        order = np.argsort(bucket, kind="stable")
        same = np.flatnonzero(bucket[order][1:] == bucket[order][:-1])
        found.append(np.stack([rows[order[same]], rows[order[same + 1]]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _verified(
    pairs: Array, tables: list[Rows], owners: Array, positions: Array, columns: Columns, texts_of: Texts
) -> Array:
    if not len(pairs):
        return pairs
    ends = np.unique(pairs)
    texts = [text for part in _texts(tables, owners[ends], positions[ends], columns, texts_of) for text in part]
    sets = [{text[place : place + _SHINGLE] for place in range(len(text) - _SHINGLE + 1)} for text in texts]
    ranks = np.searchsorted(ends, pairs)
    alike = [len(sets[a] & sets[b]) >= _ALIKE * len(sets[a] | sets[b]) for a, b in ranks.tolist()]
    return np.asarray(pairs[np.array(alike)])
