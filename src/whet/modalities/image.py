"""Pictures in files that rows name, or in columns of bytes: how they are read, and when two are the same.

Needs no model; what turns pictures into tensors is in ``image_processor``, how files are opened in ``picture``.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa

from whet.data.clean import counted
from whet.data.columns import ColumnSummary
from whet.data.near import Near
from whet.data.ragged import Ragged
from whet.data.rows import Columns, Finding, Rows
from whet.data.tables import is_nested, is_raw, is_text
from whet.errors import ConfigError, DataError
from whet.modalities.glance import NOTHING, Failed, Glance, digest, glances
from whet.modalities.picture import ENDINGS, MODES, require_pillow
from whet.numeric import require_numbers

if TYPE_CHECKING:
    from whet.modalities.image_processor import ImageProcessor
    from whet.modalities.modality import Augmentation

SURE = 1e6
ARRAYS = ".npy"
EXAMPLES = 5


@dataclass(frozen=True)
class Image:
    """One picture a row.

    Args:
        root: Folder below which the files lie that rows name; empty for that of the table.
        channels: That images are read with: 1 is grey, 3 is RGB, 4 is RGBA, any other number is of arrays. The first
            layer of a model that was trained on others is adapted. None reads what the model was trained on.
        unreadable: What becomes of rows whose file is missing or cannot be read: "refuse" or "drop".
    """

    root: str = ""
    channels: int | None = None
    unreadable: Literal["refuse", "drop"] = "refuse"

    nouns: ClassVar[tuple[str, str]] = ("image", "images")
    by_name: ClassVar[bool] = True
    model: ClassVar[str | None] = None
    packages: ClassVar[tuple[str, ...]] = ("pillow", "transformers", "kornia")
    example: ClassVar[str] = "photo.jpg"
    hub_task: ClassVar[str] = "image-classification"

    def __post_init__(self) -> None:
        require_numbers(self, "modality")
        if self.channels is not None and self.channels < 1:
            raise ConfigError(
                f"Images cannot have {self.channels} channels.", where="modality.channels", fix="use 1 or more"
            )
        if self.unreadable not in ("refuse", "drop"):
            raise ConfigError(
                f"There is no way {self.unreadable!r} to take unreadable images.",
                where="modality.unreadable",
                fix="choose 'refuse' or 'drop'",
            )

    def recognise(self, column: ColumnSummary) -> float:
        """Names of files with an ending of pictures, or bytes that begin as such files do."""
        if column.kind == "bytes":
            return SURE
        names = [value.lower() for value in column.examples]
        if column.kind != "text" or not names or not all(name.endswith(ENDINGS) for name in names):
            return 0.0
        return SURE / 2 if all(name.endswith(ARRAYS) for name in names) else SURE  # an array may be anything

    def admit(self, rows: Rows, name: str) -> tuple[Rows, list[Finding]]:
        """Every file is opened and decoded once; what cannot be is listed.

        Raises:
            DataError: the column holds something else, names files outside its folder, or some cannot be read and
                nothing says that they may be dropped.
        """
        field = rows.table.schema.field(name)
        if is_nested(field) or not (is_text(field.type) or is_raw(field.type)):
            raise DataError(
                f"The input column {name!r} holds values of type {field.type}, neither names of files nor bytes.",
                where=f"{rows.source}, column {name!r}",
                fix="name a column of images",
            )
        require_pillow()
        self._refuse_outside(rows, name)
        failed: list[tuple[int, Failed]] = []
        told: dict[str, list[int]] = {}
        done = 0
        for batch in rows.batches([name], 1024):
            for place, found in enumerate(glances([one for (one,) in self.values(batch.columns, rows.folder)]), done):
                found = self._fitting(found)
                if isinstance(found, Failed):
                    failed.append((place, found))
                else:
                    for what in sorted({*found.seen.told} - ({"transparent"} if self.channels == 4 else set())):
                        told.setdefault(what, []).append(place)
            done += batch.num_rows
        findings = [self._told(rows, name, what, places) for what, places in told.items()]
        if self.channels is not None:
            message = f"Images are read with {counted(self.channels, 'channel', 'channels')}; "
            message += "the first layer of a model that was trained on others is adapted."
            findings.append(Finding("images", "info", message, f"{rows.source}, column {name!r}", "nothing"))
        if not failed:
            return rows, findings
        if self.unreadable == "refuse":
            raise unreadable(rows, name, failed)
        kept = np.setdiff1d(np.arange(len(rows)), [place for place, _ in failed])
        message = f"{counted(len(failed), 'image', 'images')} cannot be read and {'is' if len(failed) == 1 else 'are'} "
        message += f"left out: {listed(failed)}."
        ids = tuple(rows.ids[[place for place, _ in failed[:EXAMPLES]]].tolist())
        said = Finding(
            "unreadable", "warning", message, rows.place(ids[0], name), "replace them", count=len(failed), row_ids=ids
        )
        return rows.select(kept), [*findings, said]

    def values(self, columns: Sequence[pa.Array], folder: Path | None) -> list[tuple[Path | bytes | None, ...]]:
        """Paths of files, or their bytes."""
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return [tuple(self._raw(value, folder) for value in row) for row in rows]

    def anchored(self, column: pa.ChunkedArray, folder: Path | None) -> pa.ChunkedArray:
        """Names of files become whole paths; bytes stay."""
        if is_raw(column.type):
            return column
        paths = [value and str((self._place(folder) / value).absolute()) for value in column.to_pylist()]
        return pa.chunked_array([paths], pa.string())

    def given(self, value: Any) -> Any:
        """A path, bytes, an array (H, W) or (H, W, C), or a picture of the pillow library."""
        if isinstance(value, str | Path):
            return Path(value).expanduser()
        if isinstance(value, bytes):
            return value
        if isinstance(value, np.ndarray):
            return value if value.ndim in (2, 3) else None
        return value if type(value).__module__.startswith("PIL.") else None

    def held_in(self, path: Path) -> bool:
        """By the ending of its name."""
        return path.name.lower().endswith(ENDINGS)

    def thumbnail(self, value: tuple[Any, ...]) -> str:
        """A JPEG of at most 112 pixels a side; nothing where the picture cannot be read."""
        from whet.modalities.glance import shrunk

        return "" if value[0] is None else shrunk(value[0])

    def keys(self, columns: Sequence[pa.Array], folder: Path | None) -> list[bytes]:
        """Hashes of what files hold: equal files are equal pictures, whatever they are called."""
        return [b"".join(map(digest, row)) for row in self.values(columns, folder)]

    def sizes(self, columns: Sequence[pa.Array], folder: Path | None) -> list[int]:
        """Bytes of the files; every picture is as large as any other once the model reads it."""
        return [
            sum(part.stat().st_size if isinstance(part, Path) else len(part or b"") for part in row)
            for row in self.values(columns, folder)
        ]

    def near(self, tables: list[Rows], hashes: list[np.ndarray[Any, Any]], columns: Columns) -> Near:
        """Those whose perceptual hashes differ in few places."""
        from whet.modalities.image_near import near_images

        return near_images(tables, hashes, columns)

    def augment(
        self, inputs: dict[str, Ragged], chosen: "Sequence[Augmentation]", draws: Sequence[np.random.Generator]
    ) -> dict[str, Ragged]:
        """Pixels of 8 bits, changed."""
        import torch

        from whet.modalities.image_views import changed

        ((name, ragged),) = inputs.items()
        pixels = changed(torch.from_numpy(np.stack(list(ragged))), chosen, draws).numpy()
        return {name: Ragged.of(pixels.ravel(), np.array(ragged.shapes))}

    def processor(self, folder: Path, *, max_length: int | None, pairs: bool) -> "ImageProcessor":
        """The image processor of the model in ``folder``."""
        from whet.modalities.image_processor import image_processor

        return image_processor(folder, pairs=pairs, channels=self.channels)

    def _fitting(self, found: Glance | Failed) -> Glance | Failed:
        """What was seen, or why it cannot be read with as many channels as are wanted."""
        if isinstance(found, Failed) or found is NOTHING:
            return found
        wanted = self.channels if self.channels is not None and self.channels not in MODES else 3
        if found.seen.channels == wanted:
            return found
        return Failed(found.name, f"it has {found.seen.channels} channels, and {self.channels or 3} are read")

    def _refuse_outside(self, rows: Rows, name: str) -> None:
        base = self._place(rows.folder).resolve()
        start = 0
        for batch in rows.batches([name]) if is_text(rows.table.schema.field(name).type) else ():
            for number, value in enumerate(batch.column(0).to_pylist(), start):
                if value and (".." in value or Path(value).is_absolute()):
                    path = Path(os.path.normpath(base / value.strip()))
                    if not path.is_relative_to(base):
                        raise DataError(
                            f"The row names a file outside {str(base)!r}: {value[:80]!r}.",
                            where=rows.place(int(rows.ids[number]), name),
                            fix="name files below it, or the folder of all with --set modality.root=FOLDER",
                        )
            start += batch.num_rows

    def _place(self, folder: Path | None) -> Path:
        return Path(self.root).expanduser() if self.root else folder or Path()

    def _raw(self, value: Any, folder: Path | None) -> Path | bytes | None:
        if value is None or isinstance(value, bytes):
            return value or None
        text = str(value).strip()
        return self._place(folder) / text if text else None

    def _told(self, rows: Rows, name: str, what: str, places: list[int]) -> Finding:
        ids = tuple(rows.ids[places[:EXAMPLES]].tolist())
        number = len(places)
        message = f"{counted(number, 'image', 'images')} {TOLD[what][0 if number == 1 else 1]}."
        return Finding("images", "info", message, rows.place(ids[0], name), TOLD[what][2], count=number, row_ids=ids)


TOLD = {
    "animated": ("has several frames; the first is read", "have several frames; the first is read", "nothing"),
    "turned": ("is turned as its EXIF data say", "are turned as their EXIF data say", "nothing"),
    "deep": (
        "has more than 8 bits a channel, scaled to 8", "have more than 8 bits a channel, scaled to 8",
        "save them in 8 bits with the contrast that matters, if theirs is lost",
    ),
    "transparent": ("has transparency, which is not read", "have transparency, which is not read", "nothing"),
    "misnamed": (
        "is of another format than its name says; its content decides",
        "are of another format than their names say; their content decides", "rename them, if other programs read them",
    ),
}  # fmt: skip
"""What is said of one image, of several, and what to do about it."""


def unreadable(rows: Rows, name: str, failed: list[tuple[int, Failed]]) -> DataError:
    """Which files cannot be read, and why."""
    place = rows.place(int(rows.ids[failed[0][0]]), name)
    return DataError(
        f"{counted(len(failed), 'image', 'images')} of {len(rows):,} cannot be read: {listed(failed)}.",
        where=place,
        fix="replace them, or leave such rows out with --set modality.unreadable=drop",
    )


def listed(failed: list[tuple[int, Failed]]) -> str:
    """A few of them, with the reason."""
    shown = "; ".join(f"{one.name} ({one.why})" for _, one in failed[:EXAMPLES])
    return shown + (f"; and {len(failed) - EXAMPLES:,} more" if len(failed) > EXAMPLES else "")
