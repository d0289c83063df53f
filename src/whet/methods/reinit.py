"""The top blocks start anew from random weights, then every weight trains.

Source: Zhang et al. 2021, "Revisiting Few-sample BERT Fine-tuning", arXiv:2006.05987, section 5: top blocks are tied to
pre-training's own task, and starting them anew can help where rows are few. Ours solves the first head on the features
of the model as it then is.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import nn

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError
from whet.methods.method import LEAST_STEPS, START, Descend, Solve, Stage, check_rates, layerwise
from whet.numeric import require_numbers

SPREAD = 0.02
"""Standard deviation of new weights where the model's config states none."""


@dataclass(frozen=True, kw_only=True)
class Reinit:
    """Full tuning after the top ``count`` blocks were drawn anew.

    Args:
        count: How many blocks, from the top.
        seed: Of the new weights.
        decay: Factor on the learning rate from each block to the one below it.
        learning_rate: Of the top block.
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted.
    """

    count: int = 1
    seed: int = 0
    decay: float = 0.9
    learning_rate: float = 2e-4
    epochs: int = 8
    solve: Solve = START
    starts_equal: ClassVar[bool] = False
    stops: ClassVar[bool] = True
    least_steps: ClassVar[int] = LEAST_STEPS

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(self.decay, self.learning_rate, self.epochs)
        if self.count < 1:
            raise ConfigError(
                f"At least one block must start anew, got {self.count}.",
                where="method.count",
                fix="use 1 or more, or the method 'full' for none",
            )

    def prepare(self, backbone: Backbone) -> Backbone:
        blocks = len(backbone.blocks)
        if self.count >= blocks:
            raise ConfigError(
                f"The model has {blocks} blocks, so {self.count} of them cannot start anew.",
                where="method.count",
                fix=f"use at most {blocks - 1}" if blocks > 1 else "use the method 'full' for this model",
            )
        draw = torch.Generator().manual_seed(self.seed)
        for name in backbone.blocks[blocks - self.count :]:
            for module in backbone.model.get_submodule(name).modules():
                draw_anew(module, spread_of(backbone.model), draw)
        return replace(backbone)

    def stages(self, backbone: Backbone) -> list[Stage]:
        groups = layerwise(backbone, -1, self.decay)
        return [Stage(name="probe", fit=self.solve), Stage(name="reinit", fit=Descend(), groups=groups)]

    def finish(self, backbone: Backbone) -> Backbone:
        return backbone  # nothing to merge


@torch.no_grad()
def draw_anew(module: nn.Module, spread: float, draw: torch.Generator) -> None:
    """A linear layer from a normal distribution, a norm as the identity; modules of other kinds stay."""
    weight: Any = getattr(module, "weight", None)
    bias: Any = getattr(module, "bias", None)
    if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
        weight.copy_(torch.randn(weight.shape, generator=draw) * spread)
    elif "norm" in type(module).__name__.lower() and weight is not None:
        weight.fill_(1.0)
    else:
        return
    if bias is not None:
        bias.zero_()


def spread_of(model: nn.Module) -> float:
    """What the model's own config draws new weights with."""
    stated = (getattr(getattr(part, "config", None), "initializer_range", None) for part in model.modules())
    return float(next((value for value in stated if value), SPREAD))
