"""A greedy soup: from the best checkpoint down, each is added to the mean unless validation loss then rises.

So it is never worse on validation rows than the best one. The start is a checkpoint like the others. During a stage it
costs nothing but the copies; at its end validation loss is measured once for each checkpoint but the best.

Source: Wortsman et al. 2022, "Model soups", arXiv:2203.05482, recipe 1. Theirs are checkpoints of several runs, ours
those of one.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from whet.training.average import Carried, Ended, Ingredient, NoAverage, Over, Weights, best_first, copied

INGREDIENTS = 5
"""Checkpoints that a soup is made of at most: those with the lowest validation loss."""


@dataclass(frozen=True)
class Soup(NoAverage):
    """The mean of some of the best checkpoints."""

    copies: ClassVar[int] = 2 * INGREDIENTS
    gathered: ClassVar[bool] = True
    evaluations: ClassVar[int] = INGREDIENTS
    validates: ClassVar[bool] = True

    def measured(self, carried: Carried, masters: Weights, step: int, loss: float) -> None:
        others = [one for one in carried.ingredients if one.step != step]
        room = len(others) < INGREDIENTS or loss < others[-1].loss
        if loss == loss and room:  # not NaN
            others.append(Ingredient(step, loss, copied(masters)))
        carried.ingredients = sorted(others, key=best_first)[:INGREDIENTS]

    @torch.no_grad()
    def end(self, carried: Carried, over: Over) -> Ended:
        if not carried.ingredients:
            return Ended()
        first, *others = carried.ingredients
        soup, loss, used = first.weights, first.loss, [first.step]
        for one in others:
            fuller = [torch.lerp(a, b, 1.0 / (len(used) + 1)) for a, b in zip(soup, one.weights, strict=True)]
            found = over.measure(fuller)
            if found <= loss:
                soup, loss, used = fuller, found, [*used, one.step]
        steps = " and ".join(map(str, sorted(used)))
        said = f"Soup: the mean after steps {steps}" if len(used) > 1 else f"Soup: step {steps} alone"
        said = f"{said}, of {len(carried.ingredients)} checkpoints; validation loss {first.loss:.4g} to {loss:.4g}."
        return Ended(soup, used == [0], said)
