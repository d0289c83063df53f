"""A part of the picture, sized up to the whole: where its subject stands and how large it is should not matter.

Source: Szegedy et al. 2015, "Going Deeper with Convolutions", arXiv:1409.4842, section 6, with larger parts.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from whet.errors import ConfigError
from whet.numeric import require_numbers


@dataclass(frozen=True)
class Crop:
    """A random part.

    Args:
        least_area: Of the picture, from 0 to 1.
        most_stretch: By how much width may outgrow height, and the other way round.
    """

    least_area: float = 0.5
    most_stretch: float = 4 / 3
    mild: ClassVar[bool] = True
    usual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "augmentation")
        if not 0 < self.least_area <= 1 or self.most_stretch < 1:
            raise ConfigError(
                f"A part cannot be {self.least_area:g} of a picture, stretched {self.most_stretch:g} times.",
                where="training.augment",
                fix="use a least_area above 0 and at most 1, and a most_stretch of 1 or more",
            )

    def place(self, draw: np.random.Generator, ratio: float) -> np.ndarray[Any, Any]:
        area, stretch = draw.uniform(self.least_area, 1.0), math.log(self.most_stretch)
        wide = math.exp(0.5 * draw.uniform(-stretch, stretch))
        across, down = min(1.0, math.sqrt(area) * wide), min(1.0, math.sqrt(area) / wide)
        left, top = draw.uniform(across - 1, 1 - across), draw.uniform(down - 1, 1 - down)
        return np.array([[across, 0, left], [0, down, top], [0, 0, 1]])
