"""Plain text in one or two columns: how it is read, when two texts are the same, how long they are.

Needs no model; what turns texts into tensors is in ``text_processor``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from whet.data.columns import ColumnSummary
from whet.data.fingerprints import normal
from whet.data.near import Near, near_pairs
from whet.data.rows import Columns, Finding, Rows
from whet.data.tables import column_of, is_nested, is_number, is_text, text_of
from whet.errors import DataError
from whet.modalities.model_folder import PACKAGED

if TYPE_CHECKING:
    from whet.modalities.text_processor import TextProcessor

LONG_CHARACTERS = 1_000_000
EXAMPLES = 5
PIECE = 65_536


@dataclass(frozen=True)
class Text:
    """Plain text in one or two columns."""

    nouns: ClassVar[tuple[str, str]] = ("text", "texts")
    by_name: ClassVar[bool] = False
    model: ClassVar[str | None] = PACKAGED
    packages: ClassVar[tuple[str, ...]] = ("tokenizers",)
    example: ClassVar[str] = "a new text"
    hub_task: ClassVar[str] = "text-classification"

    def recognise(self, column: ColumnSummary) -> float:
        """Long and different texts suit best; identifiers and categories hardly."""
        return column.mean_length * column.distinct_share if column.kind == "text" else 0.0

    def admit(self, rows: Rows, name: str) -> tuple[Rows, list[Finding]]:
        """Numbers are read as text. A text of any length is kept: longer ones become windows, and their number is said.

        Raises:
            DataError: the column holds neither text nor numbers.
        """
        rows, findings = as_text(rows, name)
        return rows, findings + long_notes(rows, name)

    def values(self, columns: Sequence[pa.Array], folder: Path | None) -> list[tuple[str, ...]]:
        """A missing value is an empty text."""
        texts = [["" if value is None else text_of(value) for value in column.to_pylist()] for column in columns]
        return list(zip(*texts, strict=True))

    def anchored(self, column: pa.ChunkedArray, folder: Path | None) -> pa.ChunkedArray:
        """A text names no file."""
        return column

    def given(self, value: Any) -> str | None:
        """A missing value, as pandas says it too, is an empty text."""
        if value is None or (isinstance(value, float) and np.isnan(value)):
            return ""
        return value if isinstance(value, str) else None

    def held_in(self, path: Path) -> bool:
        """A text is given as it is."""
        return False

    def thumbnail(self, value: tuple[Any, ...]) -> str:
        """A text is shown by its words."""
        return ""

    def keys(self, columns: Sequence[pa.Array], folder: Path | None) -> list[bytes]:
        """Equal in compatibility form, lower case and single blanks."""
        return [text.encode() for text in normal_texts(columns)]

    def sizes(self, columns: Sequence[pa.Array], folder: Path | None) -> list[int]:
        """Characters."""
        return [sum(map(len, value)) for value in self.values(columns, folder)]

    def near(self, tables: list[Rows], hashes: list[np.ndarray[Any, Any]], columns: Columns) -> Near:
        """Those whose five-character shingles overlap by 80%."""
        return near_pairs(tables, hashes, columns, normal_texts)

    def processor(self, folder: Path, *, max_length: int | None, pairs: bool) -> "TextProcessor":
        """The tokenizer of the model in ``folder``, with its own window size unless ``max_length`` is smaller."""
        from whet.modalities.text_processor import text_processor

        return text_processor(folder, max_length=max_length, pairs=pairs)


def normal_texts(columns: Sequence[pa.Array]) -> list[str]:
    """One normalised text a row; two inputs are joined by a character that is in neither."""
    cast = [column if is_text(column.type) else pc.cast(column, pa.string()) for column in columns]
    texts = [[normal(text or "") for text in column.to_pylist()] for column in cast]
    if len(texts) == 1:
        return texts[0]
    return ["\x1f".join(parts) for parts in zip(*texts, strict=True)]


def as_text(rows: Rows, name: str) -> tuple[Rows, list[Finding]]:
    """A column as text, and a word if it was numbers.

    Raises:
        DataError: it holds neither text nor numbers.
    """
    position = rows.table.column_names.index(name)
    field = rows.table.schema.field(position)
    if is_text(field.type) and not is_nested(field):
        return rows, []
    if is_nested(field) or not (is_number(field.type) or pa.types.is_boolean(field.type)):
        kind = "nested values" if is_nested(field) else f"values of type {field.type}"
        raise DataError(
            f"The input column {name!r} holds {kind}, not text.",
            where=f"{rows.source}, column {name!r}",
            fix="name a column that holds text",
        )
    column = rows.table.column(position)
    starts = range(0, len(column), PIECE)  # so that few Python numbers are there at a time
    pieces = [column_of(column.slice(start, PIECE).to_pylist(), "text") for start in starts]  # as answers read them
    table = rows.table.set_column(position, pa.field(name, pa.string()), pa.chunked_array(pieces, pa.string()))
    message = f"The input column {name!r} holds {field.type} numbers; they are read as text."
    where, fix = f"{rows.source}, column {name!r}", "name another column if this one is not the text"
    return rows.with_table(table), [Finding("reading", "warning", message, where, fix, count=len(rows))]


def long_notes(rows: Rows, name: str) -> list[Finding]:
    """How many texts are so long that they take their time."""
    count, ids, start = 0, list[int](), 0
    for batch in rows.batches([name]):
        column = batch.column(0)
        if (pc.max(pc.binary_length(column)).as_py() or 0) > LONG_CHARACTERS:
            long = pc.fill_null(pc.greater(pc.utf8_length(column), LONG_CHARACTERS), False)
            places = np.flatnonzero(long.to_numpy(zero_copy_only=False)) + start
            count += len(places)
            ids += rows.ids[places[: EXAMPLES - len(ids)]].tolist()
        start += batch.num_rows
    if not count:
        return []
    texts = "1 text" if count == 1 else f"{count:,} texts"
    message = f"{texts} of {name!r} {'is' if count == 1 else 'are'} longer than {LONG_CHARACTERS:,} characters "
    message += "(kept; such texts become many windows and take their time)."
    fix = "cut them, if the beginning is enough"
    return [Finding("lengths", "info", message, rows.place(ids[0], name), fix, count=count, row_ids=tuple(ids))]
