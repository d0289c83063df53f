"""Pictures out of focus."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from whet.errors import ConfigError
from whet.modalities.image_views import Array, drawn, of_some
from whet.numeric import require_numbers

SIDE = 224
"""Pixels of the picture that ``most`` is stated for."""
LEAST = 0.1
"""Of a blur that shows, in pixels."""


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur of half of the pictures.

    Args:
        most: Standard deviation in pixels of a picture of 224, at most; of others it grows with the root of their side.
    """

    most: float = 1.5
    mild: ClassVar[bool] = False
    usual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "augmentation")
        if not 0 < self.most <= 20:
            raise ConfigError(
                f"most cannot be {self.most:g} pixels.", where="training.augment", fix="use more than 0, at most 20"
            )

    def change(self, pixels: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        from kornia.filters import gaussian_blur2d

        side = min(pixels.shape[2:])
        most = max(2 * LEAST, self.most * math.sqrt(side / SIDE))
        widths = torch.tensor([draw.uniform(LEAST, most) for draw in draws], dtype=torch.float32)
        reach = min(math.ceil(3 * most), (side - 1) // 2)
        if reach < 1:
            return pixels

        def blurred(index: Array) -> Tensor:
            some = torch.from_numpy(index)
            return gaussian_blur2d(pixels[some], 2 * reach + 1, widths[some, None].expand(-1, 2))

        return of_some(pixels, drawn(draws, 0.5), blurred)
