"""Stochastic gradient descent with momentum: one number of state a parameter.

Source of Nesterov's form: Sutskever et al. 2013, "On the importance of initialization and momentum in deep learning".
Weight decay is decoupled, as AdamW's is (Loshchilov and Hutter 2017, arXiv:1711.05101, algorithm 1), and so is not
gathered by the momentum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from whet.errors import ConfigError
from whet.numeric import require_numbers
from whet.training.optimizer import Scheduled, Share, Stepper


@dataclass(frozen=True, kw_only=True)
class SGD(Scheduled):
    """Steps along the gradient.

    Its rate has another unit than AdamW's, whose steps do not depend on the gradient's size. With the whole gradient
    clipped to a norm of 1 and a momentum of 0.9 a step's norm is at most ten times the rate.

    Args:
        momentum: Share of the last step that each step keeps; 0 is none.
        nesterov: Whether the gradient counts as if the momentum had been followed already.
    """

    momentum: float = 0.9
    nesterov: bool = True
    usual_rate: ClassVar[float] = 100.0

    def __post_init__(self) -> None:
        require_numbers(self, "training.optimizer")
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"momentum cannot be {self.momentum!r}.",
                where="training.optimizer.momentum",
                fix="use a value from 0 to below 1, such as 0.9",
            )

    def stepper(self, shares: Sequence[Share]) -> Stepper:
        nesterov = self.nesterov and self.momentum > 0
        return Stepper.elementwise(shares, Decoupled, self.usual_rate, momentum=self.momentum, nesterov=nesterov)


class Decoupled(torch.optim.SGD):
    """Torch's, with weight decay apart from the gradient."""

    def __init__(self, groups: list[dict[str, Any]], **settings: Any) -> None:
        super().__init__([{**group, "weight_decay": 0.0} for group in groups], **settings)
        for group, given in zip(self.param_groups, groups, strict=True):
            group["decoupled"] = given["weight_decay"]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"] if group["decoupled"] else ():
                parameter.mul_(1 - group["lr"] * group["decoupled"])
        super().step(closure)
