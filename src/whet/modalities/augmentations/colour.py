"""Brighter or darker, more or less contrast, more or less colour. Wrong where colour is the subject."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from whet.errors import ConfigError
from whet.numeric import require_numbers


@dataclass(frozen=True)
class Colour:
    """Brightness, contrast and saturation, each times a factor of at most 1 ± ``strength``."""

    strength: float = 0.2
    mild: ClassVar[bool] = True
    usual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "augmentation")
        if not 0 < self.strength < 1:
            raise ConfigError(
                f"strength cannot be {self.strength:g}.", where="training.augment", fix="use more than 0, below 1"
            )

    def change(self, pixels: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        from kornia import enhance

        factors = np.array([draw.uniform(1 - self.strength, 1 + self.strength, 3) for draw in draws], np.float32)
        bright, contrast, saturation = torch.from_numpy(factors).unbind(1)
        found = enhance.adjust_brightness_accumulative(pixels, bright)
        found = enhance.adjust_contrast_with_mean_subtraction(found, contrast)
        return enhance.adjust_saturation_with_gray_subtraction(found, saturation) if pixels.shape[1] == 3 else found
