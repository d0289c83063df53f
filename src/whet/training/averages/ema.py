"""Exponential moving average: after update n, ``mean = d mean + (1-d) weights``, ``d = min(decay, (1+n)/(10+n))``.

The decay warms up, so that the start is soon forgotten. At the default of 0.98 the mean is one of about the last 50
updates, a quarter of the 200 that few rows get: the usual 0.999 would still hold a large part of the start then.

Source of the warm-up: the moving average of the TensorFlow library; of averaging itself: Polyak and Juditsky 1992,
"Acceleration of stochastic approximation by averaging".
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from whet.errors import ConfigError
from whet.numeric import require_numbers
from whet.training.average import Carried, NoAverage, Weights, copied


@dataclass(frozen=True, kw_only=True)
class EMA(NoAverage):
    """A moving average of every update.

    Args:
        decay: Share of the mean that an update leaves; 0.98 looks at about the last 50 updates.
    """

    decay: float = 0.98
    copies: ClassVar[int] = 2
    of_updates: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "training.average")
        if not 0 < self.decay < 1:
            raise ConfigError(
                f"decay cannot be {self.decay!r}.",
                where="training.average.decay",
                fix="use a value above 0 and below 1, such as 0.98",
            )

    def begin(self, masters: Weights) -> Carried:
        return Carried(mean=copied(masters))

    @torch.no_grad()
    def stepped(self, carried: Carried, masters: Weights, step: int, steps: int) -> None:
        torch._foreach_lerp_(carried.mean, masters, 1.0 - min(self.decay, (1 + step) / (10 + step)))
