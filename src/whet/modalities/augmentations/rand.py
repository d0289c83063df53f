"""Several operations of fourteen after each other, all of one strength.

Source: Cubuk et al. 2020, "RandAugment", arXiv:1909.13719.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from whet.errors import ConfigError
from whet.modalities.augmentations.operations import OPERATIONS, applied
from whet.numeric import require_numbers


@dataclass(frozen=True)
class RandAugment:
    """``count`` operations a picture, of ``strength``, either way."""

    count: int = 2
    strength: float = 0.3
    mild: ClassVar[bool] = False
    usual: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_numbers(self, "augmentation")
        if self.count < 1 or not 0 < self.strength <= 1:
            raise ConfigError(
                f"{self.count} operations of strength {self.strength:g} cannot be.",
                where="training.augment",
                fix="use a count of 1 or more, and a strength above 0 and at most 1",
            )

    def change(self, pixels: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        for _ in range(self.count):
            chosen = [int(draw.integers(len(OPERATIONS))) for draw in draws]
            strengths = [self.strength * (1 if draw.random() < 0.5 else -1) for draw in draws]
            pixels = applied(pixels, chosen, strengths)
        return pixels
