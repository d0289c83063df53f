"""One operation of fourteen, as strong as it happens to be: strong augmentation without anything to tune.

Source: Müller and Hutter 2021, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", arXiv:2103.10158.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from torch import Tensor

from whet.modalities.augmentations.operations import OPERATIONS, applied


@dataclass(frozen=True)
class TrivialAugment:
    """One operation a picture, of any strength."""

    mild: ClassVar[bool] = False
    usual: ClassVar[bool] = False

    def change(self, pixels: Tensor, draws: Sequence[np.random.Generator]) -> Tensor:
        chosen = [int(draw.integers(len(OPERATIONS))) for draw in draws]
        return applied(pixels, chosen, [draw.uniform(-1.0, 1.0) for draw in draws])
