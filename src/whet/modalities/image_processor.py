"""Pictures to tensors for one model: its own size, crop, interpolation and normalisation, by the transformers library.

Sized and cropped pixels are kept in 8 bits; they are scaled and normalised as a batch is made.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash

from whet.data.ragged import Ragged
from whet.errors import ConfigError, DataError, ModelError
from whet.modalities.modality import Encoded
from whet.modalities.model_folder import read_json, transformer_folder
from whet.modalities.picture import by_all_cores, name_of, open_picture, require_pillow

PATCH = 16
"""Pixels of a side that count as one position."""
CONFIGS = ("preprocessor_config.json", "processor_config.json")
INPUT = "pixel_values"


def image_processor(root: Path, *, pairs: bool, channels: int | None = None) -> "ImageProcessor":
    """The image processor of the model in ``root``.

    Args:
        channels: That pictures are read with; None reads what the model was trained on.

    Raises:
        ModelError: nothing there says how pictures become tensors, or it is damaged.
        ConfigError: two pictures a row.
    """
    if pairs:
        raise ConfigError(
            "A model reads one image a row, not two.", where="data.inputs", fix="name one column of images"
        )
    require_pillow()
    folder = transformer_folder(root)
    stated = next((folder / name for name in CONFIGS if (folder / name).is_file()), None)
    if stated is None:
        raise ModelError(
            "The model folder does not say how pictures become tensors.",
            where=str(folder),
            fix=f"save its image processor beside the weights: save_pretrained(folder) writes {CONFIGS[0]}",
        )
    from transformers import AutoImageProcessor

    try:
        library, own = AutoImageProcessor.from_pretrained(str(folder), backend="pil"), own_channels(folder)
        return ImageProcessor(library, read_json(stated), channels or own)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise ModelError(
            f"The model's image processor cannot be used: {str(error).splitlines()[0]}",
            where=str(stated),
            fix="save it again with the transformers library, or choose another model",
        ) from error


def own_channels(folder: Path) -> int:
    """The channels that the model in ``folder`` was trained on; three where it states none."""
    return int(read_json(folder / "config.json").get("num_channels") or 3)


class ImageProcessor:
    """Pictures to pixels for one model.

    Args:
        library: The transformers library's processor, which sizes and crops.
        stated: What the model's folder states of it.
        channels: Of the pictures as they are read; other than three, each is sized by itself.
    """

    unit = "patches"

    def __init__(self, library: Any, stated: dict[str, Any], channels: int = 3) -> None:
        self.library = library
        self.stated = stated
        self.channels = 3
        tried = np.arange(48 * 64 * 3, dtype=np.uint8).reshape(48, 64, 3)
        whole = np.asarray(library(tried, return_tensors="np")[INPUT])
        self.shape: tuple[int, ...] = whole.shape[1:]
        if len(self.shape) != 3:
            raise ValueError(f"it makes arrays of the shape {self.shape} of a picture")
        self.scale, self.shift = self._affine()
        kept = self._sized(tried)
        again = self._normal(torch.from_numpy(kept[None])).numpy()
        if kept.dtype != np.uint8 or not np.allclose(again, whole, rtol=1e-5, atol=1e-5):
            raise ValueError("it does more than size, crop, scale and normalise pictures")
        self.channels, self.shape = channels, (channels, *self.shape[1:])
        self.scale, self.shift = self._affine()

    def fingerprint(self) -> str:
        """A hash of everything that is stated, and of the class that does it."""
        text = f"{type(self.library).__name__} {json.dumps(self.stated, sort_keys=True)} {self.shape}"
        return xxhash.xxh3_128_hexdigest(text.encode())

    def encode(self, values: Sequence[tuple[Any, ...]]) -> Encoded:
        """Each picture as (C, H, W) pixels of 8 bits.

        Raises:
            DataError: one cannot be read; the message names its file.
        """
        pixels = by_all_cores(self._read, [value for (value,) in values])
        for (value,), found in zip(values, pixels, strict=True):
            if found.shape != self.shape:
                raise DataError(f"The image became {found.shape} and not {self.shape}.", name_of(value), "leave it out")
        number = np.arange(len(values), dtype=np.int32)
        positions = max(1, self.shape[1] * self.shape[2] // PATCH**2)
        return Encoded(
            inputs={
                INPUT: Ragged.of(
                    np.concatenate([np.zeros(0, np.uint8), *(p.ravel() for p in pixels)]),
                    np.tile(np.array(self.shape, np.int32), (len(values), 1)),
                )
            },
            value=number,
            part=np.zeros_like(number),
            lengths=np.full(len(values), positions, np.int32),
        )

    def collate(self, inputs: dict[str, Ragged]) -> dict[str, torch.Tensor]:
        """Normalised pixels.

        Shapes:
            pixel_values: (B, C, H, W) float32.
        """
        ragged = inputs[INPUT]
        if not len(ragged):
            return {INPUT: torch.zeros(0, *self.shape)}
        return {INPUT: self._normal(torch.from_numpy(np.stack(list(ragged))))}

    def record(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}

    def _read(self, value: Any) -> np.ndarray[Any, Any]:
        return self._sized(open_picture(value, channels=self.channels)[0])

    def walk(self, value: tuple[Any, ...]) -> list[tuple[str, str]]:
        """What one picture becomes: its file, size and mode, pixels after sizing, numbers after normalising."""
        image, seen = open_picture(value[0], channels=self.channels)
        sized = self._sized(image)
        normal = self._normal(torch.from_numpy(sized[None]))
        return [
            ("file", name_of(value[0])),
            ("picture", f"{seen.size[0]} x {seen.size[1]} pixels" + "".join(f", {what}" for what in seen.told)),
            (
                "sized and cropped",
                f"{self.shape[2]} x {self.shape[1]} pixels of {int(sized.min())} to {int(sized.max())}",
            ),
            ("normalised", f"{float(normal.min()):.2f} to {float(normal.max()):.2f}, mean {float(normal.mean()):.2f}"),
        ]

    def _affine(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What pixels of 8 bits are multiplied by, and what is added, a channel."""
        channels = self.shape[0]
        factor = float(self.library.rescale_factor) if self.library.do_rescale else 1.0
        mean, deviation = np.zeros(channels), np.ones(channels)
        if self.library.do_normalize:
            mean, deviation = (
                spread_over(np.asarray(one, np.float64), channels)
                for one in (self.library.image_mean, self.library.image_std)
            )
        shape = (1, channels, 1, 1)
        scale = torch.tensor(factor / deviation, dtype=torch.float32).reshape(shape)
        return scale, torch.tensor(-mean / deviation, dtype=torch.float32).reshape(shape)

    def _normal(self, pixels: torch.Tensor) -> torch.Tensor:
        return torch.addcmul(self.shift, pixels.float(), self.scale)

    def _sized(self, image: Any) -> np.ndarray[Any, Any]:
        """(C, H, W) uint8."""
        if self.channels == 3:
            return self._whole(image)
        return np.stack([self._whole(plane.convert("RGB"))[0] for plane in planes_of(image)])

    def _whole(self, image: Any) -> np.ndarray[Any, Any]:
        """(3, H, W) uint8."""
        found = self.library(image, return_tensors="np", do_rescale=False, do_normalize=False)[INPUT][0]
        return np.ascontiguousarray(found)


def spread_over(numbers: np.ndarray[Any, Any], channels: int) -> np.ndarray[Any, Any]:
    """(C,) a number for each channel: as they are, or their mean where there are others."""
    if numbers.size == channels:
        return numbers.reshape(channels)
    return np.full(channels, float(numbers.mean()))


def planes_of(image: Any) -> list[Any]:
    """The channels of a picture, or of an array (H, W, C), each as a grey picture."""
    from PIL import Image

    if isinstance(image, np.ndarray):
        return [Image.fromarray(np.ascontiguousarray(image[:, :, place])) for place in range(image.shape[2])]
    return list(image.split())
