"""What methods share that train a few parameters of every block and nothing whole: one rate, from the probe's head."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from whet.backbones.backbone import Backbone
from whet.methods.method import START, Descend, InPlace, RateGroup, Solve, Stage, check_rates, require_some
from whet.numeric import require_numbers


@dataclass(frozen=True, kw_only=True)
class Scattered(InPlace, ABC):
    """So few weights move that the rate is high.

    Args:
        learning_rate: Of every parameter that is named.
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted.
    """

    learning_rate: float = 3e-3
    epochs: int = 8
    solve: Solve = START
    stage: ClassVar[str]
    """What trains, in a word; the name of the stage."""
    sought: ClassVar[str]
    """What a model lacks where nothing is named, in the plural."""

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(1.0, self.learning_rate, self.epochs)

    @abstractmethod
    def named(self, backbone: Backbone) -> Sequence[str]:
        """The pre-trained parameters that train, of those that a gradient reaches."""

    def stages(self, backbone: Backbone) -> list[Stage]:
        names = require_some(self.sought, self.named(backbone))
        return [
            Stage(name="probe", fit=self.solve),
            Stage(name=self.stage, fit=Descend(), groups=(RateGroup(names=names),)),
        ]
