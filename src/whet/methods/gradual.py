"""Blocks thaw one group at a time, from the top, with rates that fall towards the input.

Source: Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification", arXiv:1801.06146, section
3.3. Ours starts from a solved head, gives every thaw but the last one epoch, and has one schedule a stage.
"""

from dataclasses import dataclass

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError
from whet.methods.method import START, Descend, InPlace, Solve, Stage, check_rates, layerwise
from whet.numeric import require_numbers


@dataclass(frozen=True, kw_only=True)
class Gradual(InPlace):
    """Each stage trains one group of blocks more than the one before; the last one trains everything.

    Args:
        groups: Thaws, of about as many blocks each; the stem thaws with the last.
        decay: Factor on the learning rate from each block to the one below it.
        learning_rate: Of the top block.
        epochs: Passes over the training rows at most, over all stages together.
        thaw: Share of the epochs for each stage but the last, which has the rest.
        solve: How the head that it starts from is fitted.
    """

    groups: int = 3
    decay: float = 0.8
    learning_rate: float = 2e-4
    epochs: int = 8
    thaw: float = 0.125
    solve: Solve = START

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(self.decay, self.learning_rate, self.epochs)
        if self.groups < 1 or not 0 < self.thaw * self.groups <= 1:
            raise ConfigError(
                f"{self.groups} groups cannot have {self.thaw:g} of the epochs each.",
                where="method.groups",
                fix="use 2 to 4 groups, and shares whose sum stays below 1",
            )

    def stages(self, backbone: Backbone) -> list[Stage]:
        blocks = len(backbone.blocks)
        if self.groups > blocks:
            raise ConfigError(
                f"The model has {blocks} blocks, so they cannot thaw in {self.groups} groups.",
                where="method.groups",
                fix=f"use at most {blocks}" if blocks else "use the method 'probe' or 'full' for this model",
            )
        found = [Stage(name="probe", fit=self.solve)]
        for number in range(1, self.groups + 1):
            last = number == self.groups
            depth = -1 if last else blocks - round(blocks * number / self.groups)
            share = 1 - self.thaw * (self.groups - 1) if last else self.thaw
            groups = layerwise(backbone, depth, self.decay)
            found.append(Stage(name=f"thaw {number} of {self.groups}", fit=Descend(share=share), groups=groups))
        return found
