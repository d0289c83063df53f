"""One picture, whatever it comes in: a file, its bytes, an array. Upright, first frame, three channels of 8 bits.

Opened as the transformers library opens what it is given, so that a model that is loaded without whet sees the same.
"""

import io
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from whet.errors import DataError, MissingPackageError

ENDINGS = (
    ".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".npy",
)  # fmt: skip
MOST_PIXELS = 1_000_000_000
"""A picture that says it has more is taken for an attack."""
REDUCED_PIXELS = 50_000_000
"""A larger JPEG is decoded at a fraction of its size."""
REDUCED_SIDE = 2048
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""How the pillow library calls pictures of so many channels."""
NUMPY = b"\x93NUMPY"
ORIENTATION = 0x0112
"""The EXIF tag."""
_OPENING = threading.Lock()
Found = TypeVar("Found")


@dataclass(frozen=True)
class Seen:
    """What was found on opening a picture.

    Args:
        size: Width and height as stored.
        told: Keys of what is to be said of it, such as "animated".
        channels: Of an array that is neither grey nor coloured; 3 for every other picture.
    """

    size: tuple[int, int]
    told: tuple[str, ...]
    channels: int = 3


def require_pillow() -> None:
    """Refuse pictures where nothing can open or change them.

    Raises:
        MissingPackageError: with the line to type.
    """
    for package, module in (("pillow", "PIL"), ("kornia", "kornia")):
        if find_spec(module) is None:
            raise MissingPackageError(
                f"Images need the package {package}.", where="modality image", fix="pip install 'whet[image]'"
            )


def open_picture(value: Any, *, enough: int | None = None, channels: int | None = 3) -> tuple[Any, Seen]:
    """A picture of the pillow library, or an array (H, W, C) of 8 bits where it has no mode for so many channels; and
    what was found.

    Args:
        value: A path, the bytes of a file, an array (H, W) or (H, W, C), or a picture of that library.
        enough: Pixels of the sides that suffice: a JPEG is then decoded at a fraction of its size that is no smaller.
        channels: 1 is grey, 3 is RGB, 4 is RGBA, and any other number takes arrays of as many; None shows whatever it
            is as RGB.

    Raises:
        DataError: it cannot be read; the message names the file.
    """
    try:
        return _opened(value, enough, channels)
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, TypeError, IndexError) as error:
        why = reason(error)
        raise DataError(f"The image cannot be read: {why}.", where=name_of(value), fix="replace the file") from error


def by_all_cores(work: Callable[[Any], Found], values: Sequence[Any]) -> list[Found]:
    """``work`` on every value, in order; the library decodes beside Python, so threads do."""
    with warnings.catch_warnings(), ThreadPoolExecutor(os.cpu_count()) as pool:
        warnings.simplefilter("ignore")  # about damaged metadata, which nobody here reads
        return list(pool.map(work, values))


def name_of(value: Any) -> str:
    """How messages name a picture."""
    return str(value) if isinstance(value, Path) else f"a picture of {type(value).__name__}"


def reason(error: Exception) -> str:
    """Why a picture cannot be read, in one line."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is no image"
    said = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return said[:120]


def _opened(value: Any, enough: int | None, channels: int | None) -> tuple[Any, Seen]:
    from PIL import Image

    if isinstance(value, np.ndarray):
        return of_array(value, channels)
    if isinstance(value, bytes) and value.startswith(NUMPY):
        return of_array(np.load(io.BytesIO(value), allow_pickle=False), channels)
    if isinstance(value, Path) and value.suffix.lower() == ".npy":
        return of_array(np.load(value, allow_pickle=False), channels)
    if isinstance(value, Image.Image):
        return _plain(value, None, enough, channels)
    with _file(value) as image:
        return _plain(image, value if isinstance(value, Path) else None, enough, channels)


def _plain(image: Any, path: Path | None, enough: int | None, channels: int | None) -> tuple[Any, Seen]:
    """What every picture becomes, and what was found on the way."""
    from PIL import Image, ImageOps

    told, size = list[str](), image.size
    if path is not None and image.format and not _named_so(path, image.format):
        told.append("misnamed")
    if getattr(image, "n_frames", 1) > 1:
        told.append("animated")
        image.seek(0)
    if image.format == "JPEG" and size[0] * size[1] > REDUCED_PIXELS:
        enough = min(enough or REDUCED_SIDE, REDUCED_SIDE)
    if image.format == "JPEG" and enough is not None:
        image.draft(None, (enough, enough))
    image.load()
    told += ["turned"] if image.getexif().get(ORIENTATION, 1) != 1 else []
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I") or upright.mode == "F":
        told.append("deep")
        upright = Image.fromarray(to_bytes(np.asarray(upright)))
    elif channels != 4 and ("A" in upright.getbands() or "transparency" in upright.info):
        told.append("transparent")
    if channels is not None and channels not in MODES:
        raise ValueError(f"it has {len(upright.getbands())} channels, and {channels} are read")
    return upright.convert(MODES[channels or 3]), Seen(size, tuple(told))


def _file(value: Path | bytes) -> Any:
    from PIL import Image

    with _OPENING:  # the limit is one for the whole process
        usual = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            image = Image.open(value if isinstance(value, Path) else io.BytesIO(value))
        finally:
            Image.MAX_IMAGE_PIXELS = usual
    if image.size[0] * image.size[1] > MOST_PIXELS:
        raise ValueError(f"it says that it has {image.size[0]:,} x {image.size[1]:,} pixels, more than {MOST_PIXELS:,}")
    return image


def of_array(array: np.ndarray[Any, Any], channels: int | None) -> tuple[Any, Seen]:
    """An array (H, W) or (H, W, C); numbers above 8 bits are scaled.

    Raises:
        ValueError: of another shape.
    """
    from PIL import Image

    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    own = 1 if array.ndim == 2 else array.shape[-1]
    if array.ndim not in (2, 3) or not array.size:
        raise ValueError(f"an array of the shape {array.shape} is no picture")
    if own != channels and channels is not None and not {own, channels} <= set(MODES):
        raise ValueError(f"it has {own} channels, and {channels} are read")
    told = () if array.dtype == np.uint8 else ("deep",)
    seen = Seen((array.shape[1], array.shape[0]), told, 3 if own in MODES else own)
    numbers = to_bytes(array)
    if own in MODES:
        return Image.fromarray(numbers).convert(MODES[channels or 3]), seen
    return (Image.fromarray(numbers.mean(2).astype(np.uint8)).convert("RGB") if channels is None else numbers), seen


def to_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers to 8 bits: whole ones by the range of 8 or 16 bits, others from 0 to 1, 255 or 65,535."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("it holds numbers that are not finite")
    if np.issubdtype(array.dtype, np.integer):
        top = 255.0 if numbers.max() <= 255 and array.dtype.itemsize > 2 else 65535.0
    else:
        top = 1.0 if numbers.max() <= 1 else 255.0 if numbers.max() <= 255 else 65535.0
    return np.clip(np.round(numbers * (255.0 / top)), 0, 255).astype(np.uint8)


def _named_so(path: Path, kind: str) -> bool:
    from PIL import Image

    Image.init()
    return path.suffix.lower() not in Image.EXTENSION or Image.EXTENSION[path.suffix.lower()] in (kind, "JPEG2000")
