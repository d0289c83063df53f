"""A user's own loss in place of the task's; everything else stays the task's."""

from collections.abc import Callable
from typing import Any

import torch

from whet.errors import ConfigError
from whet.tasks.task import State, Task, Term, changed


class OwnLoss:
    """A task whose loss is a plain function.

    Args:
        task: Gives targets, predictions, metrics and the solved head.
        function: ``function(outputs (B, K), targets (B, ...)) -> (B,)``, differentiable; low is good.
    """

    tempered = False  # what another scale of its outputs would mean is the user's to say

    def __init__(self, task: Task, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        self.task = task
        self.function = function

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def proper(self) -> "OwnLoss":
        """Itself: weights are compared by the loss that the user gave."""
        return self

    def weights(self, targets: torch.Tensor, shares: torch.Tensor, state: State) -> dict[str, torch.Tensor]:
        """(B,) row shares; nothing for a class that training never saw."""
        return {"own": shares * (targets >= 0) if self.task.kind == "classification" else shares}

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor, state: State) -> list[Term]:
        """The function's value for each example, times its share."""
        if self.task.kind == "classification":  # a class that training never saw has no output to compare with
            shares, targets = shares * (targets >= 0), targets.clamp(min=0)
        each = self.function(outputs, targets)
        if each.shape != shares.shape:
            raise ConfigError(
                f"The loss must give one value an example, shape {tuple(shares.shape)}; got {tuple(each.shape)}.",
                where="loss",
                fix="use reduction='none', and sum over classes or labels",
            )
        weights = shares.to(outputs.dtype)
        return [Term("own", each * weights, weights)]


def with_loss(task: Task, function: Callable[[Any, Any], Any] | None) -> Task:
    """The task, with the user's loss if there is one.

    Raises:
        ConfigError: the task has settings of its loss or its weights, which that one would not heed.
    """
    if function is None:
        return task
    idle = [f"task.{name}" for name in changed(task, (*task.weight_settings, *task.loss_settings))]
    if idle:
        raise ConfigError(
            f"A loss of your own takes the place of the task's, so {' and '.join(idle)} would shape nothing.",
            where=idle[0],
            fix="do it in your loss, and leave it out of the task; after an earlier run, name its task anew",
        )
    return OwnLoss(task, function)


def plain_task(task: Task) -> Task:
    """The task as the catalog knows it."""
    return task.task if isinstance(task, OwnLoss) else task
