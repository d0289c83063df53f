"""How pictures are changed at random: many at once, each by its own draws.

What moves pixels (crops, flips, rotations) is put together to one map, so that a picture is resampled once; what
changes their values follows in the order it was named.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the usual name
from torch import Tensor

from whet.errors import ConfigError
from whet.modalities.modality import Augmentation

Array = np.ndarray[Any, Any]
Draw = np.random.Generator


@runtime_checkable
class Moves(Augmentation, Protocol):
    """An augmentation that moves pixels."""

    def place(self, draw: Draw, ratio: float) -> Array:
        """(3, 3) from where each pixel comes: places in the new picture to places in the old one.

        Both run from -1 to 1 in each direction; ``ratio`` is width by height.
        """
        ...


@runtime_checkable
class Recolours(Augmentation, Protocol):
    """An augmentation that changes the values of pixels."""

    def change(self, pixels: Tensor, draws: Sequence[Draw]) -> Tensor:
        """(B, C, H, W) float32 from 0 to 1, changed by a generator for each; what leaves that range is cut."""
        ...


def changed(pixels: Tensor, chosen: Sequence[Augmentation], draws: Sequence[Draw]) -> Tensor:
    """(B, C, H, W) uint8 pictures, changed by each augmentation.

    Raises:
        ConfigError: one of them is made for something else.
    """
    for one in chosen:
        if not isinstance(one, Moves | Recolours):
            raise ConfigError(
                f"{type(one).__name__} neither moves pixels nor changes their values.",
                where="training.augment",
                fix="name augmentations that are made for images",
            )
    moves = [one for one in chosen if isinstance(one, Moves)]
    found = pixels.float().div_(255.0)
    if moves:
        ratio = pixels.shape[3] / pixels.shape[2]
        places = [composed([one.place(draw, ratio) for one in moves]) for draw in draws]
        found = moved(found, torch.from_numpy(np.stack(places)))
    for one in chosen:
        if isinstance(one, Recolours):
            found = one.change(found, draws).clamp_(0.0, 1.0)
    return found.mul_(255.0).round_().to(torch.uint8)


def composed(places: Sequence[Array]) -> Array:
    """(3, 3) one map for several, the first applied first."""
    found = np.eye(3)
    for place in places:
        found = found @ place
    return found


def moved(pixels: Tensor, places: Tensor) -> Tensor:
    """Pictures resampled by maps (B, 3, 3), bilinear; what lies outside is mirrored."""
    grid = F.affine_grid(places[:, :2].float(), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def of_some(pixels: Tensor, some: Array, change: Callable[[Array], Tensor]) -> Tensor:
    """The pictures, those at ``some`` as ``change`` gives them for these positions."""
    if not len(some):
        return pixels
    found = pixels.clone()
    found[torch.from_numpy(some)] = change(some)
    return found


def drawn(draws: Sequence[Draw], share: float) -> Array:
    """Positions of those that a share is drawn of."""
    return np.flatnonzero([draw.random() < share for draw in draws])
