"""WiSE-FT: between the start of a stage and what was tuned, where validation loss is lowest; a tie goes to the tuned.

Weights that an adapter inserts are interpolated as they are, so that a low-rank update does not grow in proportion. It
costs nothing during a stage but a copy of the start; at its end validation loss is measured for every mixture.

Source: Wortsman et al. 2021, "Robust fine-tuning of zero-shot models" (WiSE-FT), arXiv:2109.01903. Theirs starts from a
zero-shot head, ours from the head that the stage began with.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from whet.training.average import Carried, Ended, NoAverage, Over, Weights, between, copied

GRID = tuple(step / 10 for step in range(11))
"""Weights of what was tuned that are tried, the start at one end and what was tuned at the other."""


@dataclass(frozen=True)
class WiseFT(NoAverage):
    """A mixture of the stage's start and what was tuned."""

    copies: ClassVar[int] = 1
    evaluations: ClassVar[int] = len(GRID)
    validates: ClassVar[bool] = True

    def begin(self, masters: Weights) -> Carried:
        return Carried(start=copied(masters))

    def end(self, carried: Carried, over: Over) -> Ended:
        losses = {weight: over.measure(between(carried.start, over.tuned, weight)) for weight in GRID}
        best = min(
            GRID, key=lambda weight: (losses[weight] if losses[weight] == losses[weight] else torch.inf, -weight)
        )
        said = f"WiSE-FT: {best:.0%} tuned and {1 - best:.0%} start; validation loss {losses[best]:.4g}"
        said += f" (start {losses[0.0]:.4g}, tuned {losses[1.0]:.4g})."
        return Ended(between(carried.start, over.tuned, best), best == 0, said)
