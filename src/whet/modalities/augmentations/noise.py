"""Grain, as of a camera in the dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from whet.errors import ConfigError
from whet.modalities.image_views import Array, drawn, of_some
from whet.numeric import require_numbers


@dataclass(frozen=True)
class Noise:
    """Gaussian noise on half of the pictures.

    Args:
        most: Standard deviation at most, of the range from black to white.
    """

    most: float = 0.05
    mild: ClassVar[bool] = False
    usual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "augmentation")
        if not 0 < self.most <= 1:
            raise ConfigError(
                f"most cannot be {self.most:g}.", where="training.augment", fix="use more than 0, at most 1"
            )

    def change(self, pixels: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        def grained(index: Array) -> Tensor:
            found = pixels[torch.from_numpy(index)]
            for picture, position in zip(found, index.tolist(), strict=True):
                draw = draws[position]
                width = np.float32(draw.uniform(0.0, self.most))
                picture += torch.from_numpy(width * draw.standard_normal(picture.shape, np.float32))
            return found

        return of_some(pixels, drawn(draws, 0.5), grained)
