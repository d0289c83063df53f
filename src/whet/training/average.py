"""Which weights does a stage end with, when not those of a single moment? Averages of its trainable masters.

They work on the flat masters, one tensor a rate group (``Weights``), so that an update's share is one pass over few
large tensors. The members stand in ``averages``, a file each; this is what they have in common.

While a stage runs, validation loss is that of what would be kept: of the average, once there is one. What an average
carries is part of the loop's state: of its checkpoints, and of the snapshot that a run returns to after trouble.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

Weights = list[Tensor]
Measure = Callable[[Weights], float]
"""The validation loss of some weights."""
MEAN, SOUP, LOSS = "average", "soup", "loss"
"""How an average's tensors are called in a checkpoint."""


@dataclass(frozen=True, eq=False)
class Ingredient:
    """Weights as they were at a step, and their validation loss."""

    step: int
    loss: float
    weights: Weights


@dataclass(eq=False)
class Carried:
    """What an average carries from update to update.

    Args:
        start: Where the stage began, if the average needs it. In no checkpoint: a resumed stage begins there too.
        mean: The average so far; empty where there is none.
        ingredients: The best checkpoints so far, lowest validation loss first.
    """

    start: Weights = field(default_factory=list)
    mean: Weights = field(default_factory=list)
    ingredients: list[Ingredient] = field(default_factory=list)

    def moving(self) -> dict[str, Tensor]:
        """What is written to at updates."""
        return {f"{MEAN}/{number}": one for number, one in enumerate(self.mean)}

    def chosen(self) -> dict[str, Tensor]:
        """What is replaced at evaluations, but never written to."""
        found = {}
        for one in self.ingredients:
            found[f"{SOUP}/{one.step}/{LOSS}"] = torch.tensor(one.loss, dtype=torch.float64)
            found |= {f"{SOUP}/{one.step}/{number}": weights for number, weights in enumerate(one.weights)}
        return found

    def put_back(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """The mean as ``moving`` gave it."""
        found = numbered(tensors, f"{MEAN}/")
        self.mean = [one.to(device, copy=True) for one in found]

    def choose(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """The ingredients as ``chosen`` gave them."""
        steps = {int(key.split("/")[1]) for key in tensors if key.startswith(f"{SOUP}/")}
        self.ingredients = [
            Ingredient(
                step,
                float(tensors[f"{SOUP}/{step}/{LOSS}"]),
                [one.to(device) for one in numbered(tensors, f"{SOUP}/{step}/")],
            )
            for step in steps
        ]
        self.ingredients.sort(key=best_first)


@dataclass(frozen=True, eq=False)
class Ended:
    """What a stage keeps.

    Args:
        weights: None for what the loop keeps anyway: the best, or where nothing was measured the mean or the last.
        started: Whether these are the weights that the stage began with; None leaves that to the loop too.
        said: A sentence for the user.
    """

    weights: Weights | None = None
    started: bool | None = None
    said: str = ""


@dataclass(frozen=True, eq=False)
class Over:
    """A stage that is over, as its average finds it.

    Args:
        tuned: The best weights that were measured after a step; the last where none were better than the start.
        step: That of the best weights; 0 is the start, and -1 says that nothing was measured.
        steps: Of the stage at most.
        measure: Validation loss of other weights.
    """

    tuned: Weights
    step: int
    steps: int
    measure: Measure


@dataclass(frozen=True)
class NoAverage:
    """The weights of one moment; what the others have beside it they say for themselves."""

    copies: ClassVar[int] = 0
    """Of what trains, in memory and in checkpoints, with the snapshot's."""
    gathered: ClassVar[bool] = False
    """Whether those come together during the stage, where the others are there from its first steps."""
    evaluations: ClassVar[int] = 0
    """Of validation rows at the end of a stage, at most, beside the usual ones."""
    of_updates: ClassVar[bool] = False
    """Whether it is a mean of updates that answers, as that of an optimizer which averages by itself."""
    validates: ClassVar[bool] = False
    """Whether it chooses by validation loss and cannot do without."""
    whole: ClassVar[bool] = False
    """Whether a stage takes all its steps, because the average is of the last ones."""

    def begin(self, masters: Weights) -> Carried:
        """Before the first update."""
        return Carried()

    def stepped(self, carried: Carried, masters: Weights, step: int, steps: int) -> None:
        """After update number ``step``, counted from 1, of ``steps`` at most."""

    def measured(self, carried: Carried, masters: Weights, step: int, loss: float) -> None:
        """After an evaluation."""

    def end(self, carried: Carried, over: Over) -> Ended:
        """What the stage keeps."""
        return Ended()


PLAIN = NoAverage()


def between(start: Weights, tuned: Weights, weight: float) -> Weights:
    """``start + weight (tuned - start)``; at 0 and 1 exactly the one and the other."""
    with torch.no_grad():
        return [torch.lerp(one, other, weight) for one, other in zip(start, tuned, strict=True)]


def copied(weights: Weights) -> Weights:
    """The same values in storage of their own."""
    return [one.detach().clone() for one in weights]


def best_first(one: Ingredient) -> tuple[float, int]:
    """By validation loss; of equal ones the later."""
    return one.loss, -one.step


def numbered(tensors: Mapping[str, Tensor], prefix: str) -> Weights:
    """The tensors called ``prefix`` and a number, in the order of the numbers."""
    found = {}
    for key, one in tensors.items():
        number = key.removeprefix(prefix)
        if key.startswith(prefix) and number.isdigit():
            found[int(number)] = one
    return [found[number] for number in sorted(found)]
