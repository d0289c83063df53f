"""The operations that TrivialAugment and RandAugment draw from, each of a strength from 0 to 1.

Source: Müller and Hutter 2021, "TrivialAugment", arXiv:2103.10158, table 1 ("wide").
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whet.modalities.augmentations.rotate import turned
from whet.modalities.image_views import Array, moved

Strengths = Array
Operation = Callable[[Tensor, Strengths], Tensor]
DEGREES, SHIFT, SLANT, CHANGE = 135.0, 2 * 32 / 224, 0.99, 0.99
"""At a strength of 1: the angle, the shift and the slant of a picture from -1 to 1, the change of a factor from 1."""
LEAST_BITS, MOST_BITS = 2, 8


def identity(pixels: Tensor, strengths: Strengths) -> Tensor:
    """The pictures as they are."""
    return pixels


def slanted(across: bool) -> Operation:
    """A shear along one axis."""

    def apply(pixels: Tensor, strengths: Strengths) -> Tensor:
        places = np.tile(np.eye(3), (len(strengths), 1, 1))
        places[:, 0 if across else 1, 1 if across else 0] = SLANT * strengths
        return moved(pixels, torch.from_numpy(places))

    return apply


def shifted(across: bool) -> Operation:
    """A shift along one axis."""

    def apply(pixels: Tensor, strengths: Strengths) -> Tensor:
        places = np.tile(np.eye(3), (len(strengths), 1, 1))
        places[:, 0 if across else 1, 2] = SHIFT * strengths
        return moved(pixels, torch.from_numpy(places))

    return apply


def rotated(pixels: Tensor, strengths: Strengths) -> Tensor:
    """A turn about the middle."""
    ratio = pixels.shape[3] / pixels.shape[2]
    return moved(pixels, torch.from_numpy(np.stack([turned(DEGREES * one, ratio) for one in strengths])))


def scaled(name: str) -> Operation:
    """A function of kornia's that takes a factor, of which 1 changes nothing."""

    def apply(pixels: Tensor, strengths: Strengths) -> Tensor:
        from kornia import enhance

        factors = torch.from_numpy(1 + CHANGE * strengths).float()
        colourless = pixels.shape[1] != 3 and name == "adjust_saturation_with_gray_subtraction"
        return pixels if colourless else getattr(enhance, name)(pixels, factors)

    return apply


def posterised(pixels: Tensor, strengths: Strengths) -> Tensor:
    """Fewer bits a channel."""
    from kornia.enhance import posterize

    bits = np.round(MOST_BITS - (MOST_BITS - LEAST_BITS) * np.abs(strengths)).astype(np.int64)
    return posterize(pixels, torch.from_numpy(bits))


def solarised(pixels: Tensor, strengths: Strengths) -> Tensor:
    """What is brighter than a threshold is inverted."""
    from kornia.enhance import solarize

    return solarize(pixels, torch.from_numpy(1 - np.abs(strengths)).float())


def stretched(pixels: Tensor, strengths: Strengths) -> Tensor:
    """Each channel from its darkest to its brightest value over the whole range."""
    low, high = pixels.amin((2, 3), keepdim=True), pixels.amax((2, 3), keepdim=True)
    return torch.where(high > low, (pixels - low) / (high - low).clamp(min=1e-6), pixels)


def equalised(pixels: Tensor, strengths: Strengths) -> Tensor:
    """Every brightness equally frequent."""
    from kornia.enhance import equalize

    return equalize(pixels)


OPERATIONS: tuple[Operation, ...] = (
    identity,
    slanted(True),
    slanted(False),
    shifted(True),
    shifted(False),
    rotated,
    scaled("adjust_brightness_accumulative"),
    scaled("adjust_saturation_with_gray_subtraction"),
    scaled("adjust_contrast_with_mean_subtraction"),
    scaled("sharpness"),
    posterised,
    solarised,
    stretched,
    equalised,
)


def applied(pixels: Tensor, chosen: Sequence[int], strengths: Sequence[float]) -> Tensor:
    """One operation for each picture, by number and strength from -1 to 1."""
    numbers, each, found = np.array(chosen), np.array(strengths, np.float64), pixels.clone()
    for number in np.unique(numbers).tolist():
        some = np.flatnonzero(numbers == number)
        index: Any = torch.from_numpy(some)
        found[index] = OPERATIONS[number](pixels[index], each[some]).clamp(0.0, 1.0)
    return found
