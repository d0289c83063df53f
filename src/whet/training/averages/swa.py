"""Stochastic weight averaging: the plain mean of the weights after each of the last updates.

Every update counts, not one an epoch as in the paper: the stages of few rows have few epochs. The rate is what the
schedule says; a constant one, or one that stays up long, gives a mean more to do. All steps are taken. Where a moment
before the mean has a surely lower validation loss, the stage ends with that one, and says so.

Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization", arXiv:1803.05407.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from whet.errors import ConfigError
from whet.numeric import require_numbers
from whet.training.average import Carried, Ended, NoAverage, Over, Weights, copied


@dataclass(frozen=True, kw_only=True)
class SWA(NoAverage):
    """The mean over the last steps.

    Args:
        share: Of the steps, the last of which are averaged.
    """

    share: float = 0.25
    copies: ClassVar[int] = 2
    of_updates: ClassVar[bool] = True
    whole: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "training.average")
        if not 0 < self.share <= 1:
            raise ConfigError(
                f"share cannot be {self.share!r}.",
                where="training.average.share",
                fix="use a value above 0 and at most 1, such as 0.25",
            )

    @torch.no_grad()
    def stepped(self, carried: Carried, masters: Weights, step: int, steps: int) -> None:
        count = step - self.plain(steps)
        if count == 1:
            carried.mean = copied(masters)
        elif count > 1:
            torch._foreach_lerp_(carried.mean, masters, 1.0 / count)

    def plain(self, steps: int) -> int:
        """How many steps come before those that are averaged."""
        return steps - max(1, round(self.share * steps))

    def end(self, carried: Carried, over: Over) -> Ended:
        plain = self.plain(over.steps)
        if not carried.mean:
            return Ended(said="The stage ended before the steps that are averaged: nothing was.")
        if 0 < over.step <= plain:
            kept = f"Not the mean of the steps after step {plain} is kept, but the weights after step {over.step}"
            return Ended(said=f"{kept}: no later evaluation found a lower validation loss.")
        return Ended()
