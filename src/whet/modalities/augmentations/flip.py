"""Pictures in a mirror. Wrong where sides mean something: digits, signs, left and right views of a body."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np


@dataclass(frozen=True)
class Flip:
    """Left becomes right in every second picture."""

    mild: ClassVar[bool] = False
    usual: ClassVar[bool] = True

    def place(self, draw: np.random.Generator, ratio: float) -> np.ndarray[Any, Any]:
        return np.diag([-1.0 if draw.random() < 0.5 else 1.0, 1.0, 1.0])


@dataclass(frozen=True)
class FlipVertical:
    """Up becomes down in every second picture: for views from above."""

    mild: ClassVar[bool] = False
    usual: ClassVar[bool] = True

    def place(self, draw: np.random.Generator, ratio: float) -> np.ndarray[Any, Any]:
        return np.diag([1.0, -1.0 if draw.random() < 0.5 else 1.0, 1.0])
