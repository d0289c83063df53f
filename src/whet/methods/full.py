"""Every weight, starting from the probe's head (LP-FT), with rates that fall towards the input.

Source: Kumar et al. 2022, arXiv:2202.10054. Parameters that no gradient reaches, such as an unused pooler, stay.
"""

from dataclasses import dataclass
from typing import ClassVar

from whet.backbones.backbone import Backbone
from whet.methods.method import START, USUAL, Descend, InPlace, Place, Size, Solve, Stage, check_rates, layerwise
from whet.numeric import require_numbers


@dataclass(frozen=True)
class Full(InPlace):
    """All blocks and what lies around them train.

    Args:
        decay: Factor on the learning rate from each block to the one below it.
        embeddings: Whether the stem (embeddings) trains too; frozen, its output is replayed and steps are faster.
        learning_rate: Of the top block.
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted; its penalty is far stronger than the probe's own choice.
    """

    decay: float = 0.9
    embeddings: bool = True
    learning_rate: float = 2e-4
    epochs: int = 8
    solve: Solve = START
    height: ClassVar[int] = 3

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(self.decay, self.learning_rate, self.epochs)

    @classmethod
    def place(cls, size: Size) -> Place | None:
        return USUAL

    def stages(self, backbone: Backbone) -> list[Stage]:
        groups = layerwise(backbone, -1 if self.embeddings else 0, self.decay)
        return [Stage(name="probe", fit=self.solve), Stage(name="full", fit=Descend(), groups=groups)]
