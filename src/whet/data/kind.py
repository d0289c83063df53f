"""What must be known of a kind of input before any model is chosen: how it is read, compared and measured.

A modality (``whet.modalities``) answers, and ``Columns`` brings it along: no check, split or learner asks which it is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from whet.data.columns import ColumnSummary
from whet.data.near import Near
from whet.data.rows import Columns, Finding, Rows

Array = np.ndarray[Any, Any]


class InputKind(Protocol):
    """One kind of raw value. ``columns`` are Arrow columns of a batch; ``folder`` is where files that they name lie."""

    @property
    def nouns(self) -> tuple[str, str]:
        """What one value is called in messages, and what several are: ("text", "texts")."""
        ...

    @property
    def by_name(self) -> bool:
        """Whether values name files: what these hold counts as the rows' own."""
        ...

    def recognise(self, column: ColumnSummary) -> float:
        """How well a column suits, 0 (not at all) and up: for text its mean length times its share of different values,
        so a kind that is sure of itself answers a million."""
        ...

    def admit(self, rows: Rows, name: str) -> tuple[Rows, list[Finding]]:
        """The rows with a column as it is read, and what is to be said of it.

        Raises:
            DataError: it holds something else.
        """
        ...

    def values(self, columns: Sequence[pa.Array], folder: Path | None) -> list[tuple[Any, ...]]:
        """Raw values as processors take them, one or two to a tuple, one tuple a row.

        A missing one is None, unless the kind has an empty value, as text has.
        """
        ...

    def anchored(self, column: pa.ChunkedArray, folder: Path | None) -> pa.ChunkedArray:
        """A column whose values mean the same wherever its rows lie: names of files in ``folder`` become whole paths.

        Asked where rows of two folders come into one table.
        """
        ...

    def given(self, value: Any) -> Any:
        """A raw value that a Python caller gave, as processors take it; None where it is none."""
        ...

    def held_in(self, path: Path) -> bool:
        """Whether a file by itself is one raw value, and no file of rows."""
        ...

    def thumbnail(self, value: tuple[Any, ...]) -> str:
        """One input as a small picture for reports, a ``data:`` address; empty where its words are all there is."""
        ...

    def keys(self, columns: Sequence[pa.Array], folder: Path | None) -> list[bytes]:
        """What inputs are compared by, one a row: rows with equal keys have the same input."""
        ...

    def sizes(self, columns: Sequence[pa.Array], folder: Path | None) -> list[int]:
        """How large the inputs of each row are, in characters, pixels or the like; the largest need the most memory."""
        ...

    def near(self, tables: list[Rows], hashes: list[Array], columns: Columns) -> Near:
        """Pairs of nearly equal inputs of one or two tables, given the hashes of their keys."""
        ...


def in_python(example: Sequence[str]) -> str:
    """The inputs of one row as Python spells them: one value, or a tuple of several."""
    quoted = ", ".join(f'"{part}"' for part in example)
    return quoted if len(example) == 1 else f"({quoted})"
