"""What a quick look at a picture tells: whether it can be read, its size, its light, a few grey cells to compare it by.

Every check asks for the same look, so each picture is decoded once for all of them, a large JPEG at a fraction of its
size. Looks are kept for as long as the process lives, by the file's name, size and time, or by the bytes.
"""

import base64
import io
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from whet.errors import DataError
from whet.modalities.picture import Seen, by_all_cores, name_of, open_picture

SIDE = 32
"""Of the small picture whose light is measured."""
CELLS = (16, 17)
ENOUGH = 256
"""Pixels of the shorter side from which a picture is no larger to look at."""
MOST_KEPT = 200_000
SHOWN, QUALITY = 112, 80
"""Pixels of the longer side of a picture in a report, and how well it is kept as a JPEG."""


@dataclass(frozen=True, eq=False)
class Glance:
    """One picture from afar.

    Args:
        name: As messages name it; bytes: of its file; ending: of its name.
        brightness, spread, border: Mean of all, standard deviation of all, mean of its edge, of 255.
        cells: (16, 17) uint8 brightness of as many parts.
    """

    seen: Seen
    name: str
    bytes: int
    ending: str
    brightness: float
    spread: float
    border: float
    cells: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Failed:
    """A picture that cannot be read: its file, and why."""

    name: str
    why: str


NOTHING = Glance(Seen((0, 0), ()), "", 0, "", 0.0, 255.0, 0.0, np.zeros(CELLS, np.uint8))
"""Of a row without a picture, which is told elsewhere."""
_KEPT: dict[Hashable, Glance | Failed] = {}
_DIGESTS: dict[Hashable, bytes] = {}


def glances(values: Sequence[Any]) -> list[Glance | Failed]:
    """A look at each, in order, by all cores."""
    return by_all_cores(glance, values)


def glance(value: Any) -> Glance | Failed:
    """A look at one picture: a path, the bytes of a file, an array, or None."""
    if value is None:
        return NOTHING
    key = identity(value)
    found = None if key is None else _KEPT.get(key)
    if found is None:
        found = looked_at(value)
        if key is not None:
            if len(_KEPT) >= MOST_KEPT:
                _KEPT.clear()
            _KEPT[key] = found
    return found


def identity(value: Any) -> Hashable:
    """What a picture is known by: equal keys are one picture; None where it has none."""
    if isinstance(value, bytes):
        return xxhash.xxh3_128_digest(value)
    if not isinstance(value, Path):
        return None
    try:
        status = value.stat()
    except OSError:
        return None
    return str(value), status.st_size, status.st_mtime_ns, status.st_ino


def digest(value: Path | bytes | None) -> bytes:
    """A hash of what a picture's file holds, 16 bytes; none of a missing picture.

    Raises:
        OSError: the file cannot be read.
    """
    if not isinstance(value, Path):
        return xxhash.xxh3_128_digest(value) if value else b""
    key = identity(value)
    found = _DIGESTS.get(key) if key is not None else None
    if found is None:
        found = xxhash.xxh3_128_digest(value.read_bytes())
        if len(_DIGESTS) >= MOST_KEPT:
            _DIGESTS.clear()
        _DIGESTS[key] = found
    return found


def looked_at(value: Any) -> Glance | Failed:
    """Decode a picture and measure it."""
    from PIL import Image

    try:
        image, seen = open_picture(value, enough=ENOUGH, channels=None)
    except DataError as error:
        return Failed(name_of(value), error.what.removeprefix("The image cannot be read: ").rstrip("."))
    grey = image.convert("L")
    grey = grey.reduce(max(1, min(grey.size) // ENOUGH))
    small = np.asarray(grey.resize((SIDE, SIDE), Image.Resampling.BOX), np.float64)
    edge = np.concatenate([small[0], small[-1], small[1:-1, 0], small[1:-1, -1]])
    size = value.stat().st_size if isinstance(value, Path) else len(value) if isinstance(value, bytes) else 0
    return Glance(
        seen=seen,
        name=name_of(value),
        bytes=size,
        ending=value.suffix.lower() if isinstance(value, Path) else "",
        brightness=float(small.mean()),
        spread=float(np.asarray(grey, np.float64).std()),
        border=float(edge.mean()),
        cells=np.asarray(grey.resize(CELLS[::-1], Image.Resampling.BOX), np.uint8),
    )


def shrunk(value: Any) -> str:
    """A picture as a small JPEG in a ``data:`` address; empty where it cannot be read."""
    try:
        image, _ = open_picture(value, enough=SHOWN, channels=None)
    except DataError:
        return ""
    image.thumbnail((SHOWN, SHOWN))
    held = io.BytesIO()
    image.save(held, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()
