"""The probe: a convex head on frozen features, solved rather than trained.

Source: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from whet.backbones.backbone import Backbone
from whet.methods.method import USUAL, InPlace, Place, Size, Solve, Stage


@dataclass(frozen=True, kw_only=True)
class Probe(InPlace):
    """Nothing pre-trained moves; only the new head is fitted.

    Args:
        solve: Penalties and folds.
    """

    solve: Solve = field(default_factory=Solve)
    learning_rate: ClassVar[float] = 0.0
    epochs: ClassVar[int] = 0
    stops: ClassVar[bool] = False
    height: ClassVar[int] = 1

    @classmethod
    def for_top(cls, blocks: int) -> dict[str, int] | None:
        return None if blocks else {}

    @classmethod
    def place(cls, size: Size) -> Place | None:
        return USUAL

    def stages(self, backbone: Backbone) -> list[Stage]:
        return [Stage(name="probe", fit=self.solve)]
