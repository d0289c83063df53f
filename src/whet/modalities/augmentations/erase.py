"""Something stands in the way: a rectangle in the picture's mean colour.

Source: Zhong et al. 2020, "Random Erasing Data Augmentation", arXiv:1708.04896.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from whet.errors import ConfigError
from whet.modalities.image_views import drawn
from whet.numeric import require_numbers

STRETCH = math.log(3.0)
LEAST_AREA = 0.02


@dataclass(frozen=True)
class Erase:
    """One rectangle in half of the pictures.

    Args:
        most_area: Of the picture, above 0.02 and at most 0.5.
    """

    most_area: float = 0.2
    mild: ClassVar[bool] = False
    usual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "augmentation")
        if not LEAST_AREA < self.most_area <= 0.5:
            raise ConfigError(
                f"most_area cannot be {self.most_area:g}.",
                where="training.augment",
                fix=f"use more than {LEAST_AREA} and at most 0.5",
            )

    def change(self, pixels: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        found, (height, width) = pixels.clone(), pixels.shape[2:]
        for position in drawn(draws, 0.5).tolist():
            draw = draws[position]
            side = math.sqrt(draw.uniform(LEAST_AREA, self.most_area))
            wide = math.exp(0.5 * draw.uniform(-STRETCH, STRETCH))
            across, down = (
                max(1, min(width, round(side * wide * width))),
                max(1, min(height, round(side / wide * height))),
            )
            left, top = int(draw.integers(width - across + 1)), int(draw.integers(height - down + 1))
            mean = pixels[position].mean((1, 2), keepdim=True)
            found[position, :, top : top + down, left : left + across] = mean
        return found
