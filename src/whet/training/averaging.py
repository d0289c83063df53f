"""Which weights does a stage end with, when not those of a single moment? Averages of its trainable masters.

They work on the flat masters, one tensor a rate group (``Weights``), so that an update's share is one pass over few
large tensors: "ema" and "swa" cost that pass and one more copy of what trains. "soup" and "wise-ft" cost nothing during
the stage; at its end they measure validation loss a few times more, at most ``INGREDIENTS`` and ``len(GRID)``.

While a stage runs, validation loss is that of what would be kept: of the average, once there is one. What an average
carries is part of the loop's state: of its checkpoints, and of the snapshot that a run returns to after trouble.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from whet.training.settings import Average, Training

Weights = list[Tensor]
Measure = Callable[[Weights], float]
"""The validation loss of some weights."""
INGREDIENTS = 5
"""Checkpoints that a soup is made of at most: those with the lowest validation loss."""
GRID = tuple(step / 10 for step in range(11))
"""Weights of what was tuned that "wise-ft" tries, the start at one end and what was tuned at the other."""
MEAN, SOUP, LOSS = "average", "soup", "loss"
"""How an average's tensors are called in a checkpoint."""
COPIES = {"none": 0, "ema": 2, "swa": 2, "soup": 2 * INGREDIENTS, "wise-ft": 1}
"""Of what trains, in memory, with the snapshot's."""
MEASURED = {"none": 0, "ema": 0, "swa": 0, "soup": INGREDIENTS, "wise-ft": len(GRID)}
"""Further evaluations at the end of a stage, at most."""


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


@dataclass(frozen=True)
class MovingAverage(NoAverage):
    """Exponential moving average: after update n, ``mean = d mean + (1-d) weights``, ``d = min(decay, (1+n)/(10+n))``.

    The decay warms up, so that the start is soon forgotten. At the default of 0.98 the mean is one of about the last 50
    updates, a quarter of the 200 that few rows get: the usual 0.999 would still hold a large part of the start then.

    Source of the warm-up: the moving average of the TensorFlow library; of averaging itself: Polyak and Juditsky 1992.
    """

    decay: float

    def begin(self, masters: Weights) -> Carried:
        return Carried(mean=copies(masters))

    @torch.no_grad()
    def stepped(self, carried: Carried, masters: Weights, step: int, steps: int) -> None:
        torch._foreach_lerp_(carried.mean, masters, 1.0 - min(self.decay, (1 + step) / (10 + step)))


@dataclass(frozen=True)
class StochasticAverage(NoAverage):
    """The plain mean of the weights after each of the last updates.

    Every update counts, not one an epoch as in the paper: the stages of few rows have few epochs. The rate is what the
    schedule says; a constant one, or one that stays up long, gives a mean more to do. All steps are taken. Where a
    moment before the mean has a surely lower validation loss, the stage ends with that one, and says so.

    Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization", arXiv:1803.05407.

    Args:
        share: Of the steps, the last of which are averaged.
    """

    share: float
    whole: ClassVar[bool] = True

    @torch.no_grad()
    def stepped(self, carried: Carried, masters: Weights, step: int, steps: int) -> None:
        count = step - self.plain(steps)
        if count == 1:
            carried.mean = copies(masters)
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
            return Ended(said=f"{kept}: the mean's validation loss was higher.")
        return Ended()


@dataclass(frozen=True)
class GreedySoup(NoAverage):
    """The mean of some of the best checkpoints: from the best down, each is added unless validation loss then rises.

    So it is never worse on validation rows than the best one. The start is a checkpoint like the others.

    Source: Wortsman et al. 2022, "Model soups", arXiv:2203.05482, recipe 1. Theirs are checkpoints of several
    runs, ours those of one.
    """

    validates: ClassVar[bool] = True

    def measured(self, carried: Carried, masters: Weights, step: int, loss: float) -> None:
        others = [one for one in carried.ingredients if one.step != step]
        room = len(others) < INGREDIENTS or loss < others[-1].loss
        if loss == loss and room:  # not NaN
            others.append(Ingredient(step, loss, copies(masters)))
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


@dataclass(frozen=True)
class StartInterpolation(NoAverage):
    """Between the start of the stage and what was tuned, as far as validation loss is lowest; a tie goes to the tuned.

    Weights that an adapter inserts are interpolated as they are, so that a low-rank update does not grow in proportion.

    Source: Wortsman et al. 2021, "Robust fine-tuning of zero-shot models" (WiSE-FT), arXiv:2109.01903. Theirs
    starts from a zero-shot head, ours from the head that the stage began with.
    """

    validates: ClassVar[bool] = True

    def begin(self, masters: Weights) -> Carried:
        return Carried(start=copies(masters))

    def end(self, carried: Carried, over: Over) -> Ended:
        losses = {weight: over.measure(between(carried.start, over.tuned, weight)) for weight in GRID}
        best = min(
            GRID, key=lambda weight: (losses[weight] if losses[weight] == losses[weight] else torch.inf, -weight)
        )
        said = f"WiSE-FT: {best:.0%} tuned and {1 - best:.0%} start; validation loss {losses[best]:.4g}"
        said += f" (start {losses[0.0]:.4g}, tuned {losses[1.0]:.4g})."
        return Ended(between(carried.start, over.tuned, best), best == 0, said)


def averaging(settings: Training) -> NoAverage:
    """The average that the settings name."""
    named: dict[Average, NoAverage] = {
        "none": PLAIN,
        "ema": MovingAverage(settings.ema_decay),
        "swa": StochasticAverage(settings.swa_share),
        "soup": GreedySoup(),
        "wise-ft": StartInterpolation(),
    }
    return named[settings.average]


def between(start: Weights, tuned: Weights, weight: float) -> Weights:
    """``start + weight (tuned - start)``; at 0 and 1 exactly the one and the other."""
    with torch.no_grad():
        return [torch.lerp(one, other, weight) for one, other in zip(start, tuned, strict=True)]


def copies(weights: Weights) -> Weights:
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
