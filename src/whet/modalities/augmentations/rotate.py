"""Pictures turned a little, about their middle."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from whet.errors import ConfigError
from whet.numeric import require_numbers


@dataclass(frozen=True)
class Rotate:
    """Turned by an angle of at most ``degrees``, either way."""

    degrees: float = 15.0
    mild: ClassVar[bool] = False
    usual: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "augmentation")
        if not 0 < self.degrees <= 180:
            raise ConfigError(
                f"degrees cannot be {self.degrees:g}.", where="training.augment", fix="use more than 0, at most 180"
            )

    def place(self, draw: np.random.Generator, ratio: float) -> np.ndarray[Any, Any]:
        return turned(draw.uniform(-self.degrees, self.degrees), ratio)


def turned(degrees: float, ratio: float) -> np.ndarray[Any, Any]:
    """(3, 3) the map of a turn, for a picture that is ``ratio`` times as wide as high."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return np.array([[cosine, -sine / ratio, 0], [sine * ratio, cosine, 0], [0, 0, 1]])
