"""The last blocks and the head, starting from the probe's head (LP-FT).

Source: Kumar et al. 2022, "Fine-Tuning can Distort Pretrained Features", arXiv:2202.10054: a head that already
fits keeps the first steps from spoiling the features. Blocks below stay frozen, so their activations are replayed.
"""

from dataclasses import dataclass
from typing import ClassVar

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError
from whet.methods.method import START, USUAL, Descend, InPlace, Place, Size, Solve, Stage, check_rates, layerwise
from whet.numeric import require_numbers


@dataclass(frozen=True)
class TopLayers(InPlace):
    """The top ``count`` blocks train, with a lower rate the deeper they lie.

    Args:
        count: How many blocks, from the top; None takes the upper third.
        decay: Factor on the learning rate from each block to the one below it.
        learning_rate: Of the top block; larger than for full tuning, because fewer weights move.
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted; its penalty is far stronger than the probe's own choice.
    """

    count: int | None = None
    decay: float = 0.9
    learning_rate: float = 1e-3
    epochs: int = 8
    solve: Solve = START
    height: ClassVar[int] = 2

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(self.decay, self.learning_rate, self.epochs)
        if self.count is not None and self.count < 1:
            raise ConfigError(
                f"At least one block must train, got {self.count}.",
                where="method.count",
                fix="use 1 or more, or the method 'probe' to train the head alone",
            )

    @classmethod
    def for_top(cls, blocks: int) -> dict[str, int] | None:
        return {"count": blocks} if blocks else None

    @classmethod
    def place(cls, size: Size) -> Place | None:
        return USUAL

    def stages(self, backbone: Backbone) -> list[Stage]:
        blocks = len(backbone.blocks)
        count = max(1, blocks // 3) if self.count is None else self.count
        if count > blocks:
            raise ConfigError(
                f"The model has {blocks} blocks, so {count} of them cannot train.",
                where="method.count",
                fix=f"use at most {blocks}" if blocks else "use the method 'probe' or 'full' for this model",
            )
        groups = layerwise(backbone, blocks - count, self.decay)
        return [
            Stage(name="probe", fit=self.solve),
            Stage(name=f"top {count} of {blocks}", fit=Descend(), groups=groups),
        ]
