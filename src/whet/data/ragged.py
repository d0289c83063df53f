"""Many arrays of different sizes in one: token ids of every example, activations of every example.

Values lie one after another in a single flat array, in memory or memory-mapped, so that a million short
examples cost their bytes and a few more. bfloat16, which NumPy lacks, is kept as its 16-bit patterns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Ragged:
    """E arrays of one rank R and one dtype.

    Shapes:
        values: flat; the arrays one after another in row-major order.
        shapes: (E, R) int32; the shape of each.
        starts: (E,) int64; where each begins in ``values``.
    """

    values: Array
    shapes: Array
    starts: Array

    @staticmethod
    def of(values: Array, shapes: Array) -> "Ragged":
        """Arrays that follow each other without gaps."""
        sizes = shapes.astype(np.int64).prod(axis=1)
        starts = np.zeros(len(shapes), np.int64)
        np.cumsum(sizes[:-1], out=starts[1:])
        return Ragged(values, shapes, starts)

    @staticmethod
    def pack(arrays: Sequence[Array]) -> "Ragged":
        """Copies of ``arrays``, all of one rank and dtype."""
        shapes = np.array([array.shape for array in arrays], np.int32).reshape(len(arrays), -1 if arrays else 1)
        flat = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0, np.int32)
        return Ragged.of(flat, shapes)

    @staticmethod
    def join(parts: Sequence["Ragged"]) -> "Ragged":
        """Several collections as one, in order."""
        if len(parts) == 1:
            return parts[0]
        packed = [part.compact() for part in parts]
        return Ragged.of(
            np.concatenate([part.values for part in packed]), np.concatenate([part.shapes for part in packed])
        )

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, position: int) -> Array:
        start = int(self.starts[position])
        shape = tuple(int(side) for side in self.shapes[position])
        return self.values[start : start + int(np.prod(shape, dtype=np.int64))].reshape(shape)

    def __iter__(self) -> Iterator[Array]:
        return (self[position] for position in range(len(self)))

    @property
    def lengths(self) -> Array:
        """(E,) int32: the first side of each array."""
        return self.shapes[:, 0]

    @property
    def nbytes(self) -> int:
        return int(self.shapes.astype(np.int64).prod(axis=1).sum()) * self.values.itemsize

    def take(self, index: Array) -> "Ragged":
        """The arrays at ``index``, in that order; values are shared, not copied."""
        return Ragged(self.values, self.shapes[index], self.starts[index])

    def compact(self) -> "Ragged":
        """The same arrays without gaps or foreign values between them."""
        sizes = self.shapes.astype(np.int64).prod(axis=1)
        if len(self) and len(self.values) == sizes.sum() and np.array_equal(self.starts, np.cumsum(sizes) - sizes):
            return self
        flat = np.empty(int(sizes.sum()), self.values.dtype)
        end = 0
        for start, size in zip(self.starts.tolist(), sizes.tolist(), strict=True):
            flat[end : end + size] = self.values[start : start + size]
            end += size
        return Ragged.of(flat, self.shapes)


def by_length(lengths: Array, most_tokens: int, slack: float = 0.9) -> Iterator[Array]:
    """Positions in batches for inference, longest first.

    Args:
        lengths: (E,) of each array.
        most_tokens: Padded positions a batch.
        slack: The shortest of a batch has more than this share of the longest one's length.
    """
    order = np.argsort(-lengths.astype(np.int64), kind="stable")
    ordered = lengths[order]
    begin = 0
    while begin < len(order):
        longest = max(int(ordered[begin]), 1)
        stop = begin + max(1, most_tokens // longest)
        end = int(np.searchsorted(-ordered, -slack * longest, side="right"))
        yield order[begin : min(stop, max(end, begin + 1))]
        begin = min(stop, max(end, begin + 1))
