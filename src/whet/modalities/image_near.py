"""Which pictures are nearly the same? Those whose brightness rises and falls at the same places.

A difference hash (Krawetz 2013, "Kind of like that") of 512 bits: whether each of 16 x 16 cells is clearly brighter,
or clearly darker, than the one left of it; what noise decides is neither. Two pictures are alike if few bits differ and
the cells themselves are about as bright. Flat pictures are never alike.
"""

from typing import Any

import numpy as np

from whet.data.near import Near, to_compare
from whet.data.rows import Columns, Rows, raw_values
from whet.modalities.glance import CELLS, NOTHING, Failed, glances

Array = np.ndarray[Any, Any]
LARGEST_SAMPLE = 30_000
CLEARLY = 4
"""Levels of 255 between neighbours."""
MOST_BITS = 32
"""Of 512 that may differ."""
MOST_APART = 5.0
"""Mean difference of cells, of 255."""
LEAST_CONTRAST = 4.0
"""Standard deviation of the cells below which a picture is flat."""
MOST_PAIRS = 2_000
BLOCK = 512


def near_images(tables: list[Rows], hashes: list[Array], columns: Columns) -> Near:
    """Pairs of alike pictures; rows equal in hash are represented by the first.

    Args:
        tables: Splits that have the input column.
        hashes: (N,) uint64 of the inputs of each.
    """
    total = sum(len(rows) for rows in tables)
    owners, positions = to_compare(hashes, min(1.0, LARGEST_SAMPLE / max(1, total)))
    cells = np.concatenate(
        [
            np.zeros((0, *CELLS), np.uint8),
            *(cells_of(rows, columns, positions[owners == table]) for table, rows in enumerate(tables)),
        ]
    )
    found = alike(cells)
    ends = [np.stack([owners[found[:, side]], positions[found[:, side]]], axis=1) for side in (0, 1)]
    return Near(np.concatenate(ends, axis=1)[:MOST_PAIRS], len(owners), total, len(found) > MOST_PAIRS)


def cells_of(rows: Rows, columns: Columns, positions: Array) -> Array:
    """(N, 16, 17) uint8 brightness of the pictures at ``positions``."""
    found = [np.zeros((0, *CELLS), np.uint8)]
    for batch in rows.select(positions).batches(columns.inputs, 1024):
        looks = glances([value for (value, *_) in raw_values(rows, columns, batch)])
        found.append(np.stack([(NOTHING if isinstance(one, Failed) else one).cells for one in looks]))
    return np.concatenate(found)


def alike(cells: Array) -> Array:
    """(P, 2) positions of pictures that are nearly the same, the first of each pair before the second."""
    rises = np.diff(cells.astype(np.int16), axis=2)
    bits = np.packbits(np.stack([rises >= CLEARLY, rises <= -CLEARLY], axis=1).reshape(len(cells), -1), axis=1)
    words = np.ascontiguousarray(bits).view(np.uint64)
    flat = cells.reshape(len(cells), -1).astype(np.float32)
    lively = flat.std(axis=1) >= LEAST_CONTRAST if len(cells) else np.zeros(0, bool)
    found = [np.zeros((0, 2), np.int64)]
    for start in range(0, len(cells), BLOCK):
        stop = min(start + BLOCK, len(cells))
        apart = np.zeros((stop - start, len(cells) - start), np.uint16)
        for word in range(words.shape[1]):
            apart += np.bitwise_count(words[start:stop, None, word] ^ words[None, start:, word])
        pairs = np.argwhere(apart <= MOST_BITS) + start
        pairs = pairs[(pairs[:, 0] < pairs[:, 1]) & lively[pairs[:, 0]] & lively[pairs[:, 1]]]
        close = np.abs(flat[pairs[:, 0]] - flat[pairs[:, 1]]).mean(axis=1) <= MOST_APART
        found.append(pairs[close])
    return np.concatenate(found)
