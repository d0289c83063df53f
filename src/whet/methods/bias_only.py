"""Bias vectors alone train, in every block, from the probe's head.

Source: Ben Zaken et al. 2021, "BitFit", arXiv:2106.10199. Ours starts from a solved head (LP-FT, arXiv:2202.10054),
theirs from a random one.
"""

from dataclasses import dataclass

from whet.backbones.backbone import Backbone
from whet.methods.method import START, Descend, InPlace, RateGroup, Solve, Stage, check_rates, reached, require_some


@dataclass(frozen=True, kw_only=True)
class BiasOnly(InPlace):
    """The biases of all layers and norms train; a thousandth of the weights, so the rate is high.

    Args:
        learning_rate: Of every bias.
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted.
    """

    learning_rate: float = 3e-3
    epochs: int = 8
    solve: Solve = START

    def __post_init__(self) -> None:
        check_rates(1.0, self.learning_rate, self.epochs)

    def stages(self, backbone: Backbone) -> list[Stage]:
        names = require_some("biases", [name for name in reached(backbone) if name.endswith("bias")])
        return [
            Stage(name="probe", fit=self.solve),
            Stage(name="biases", fit=Descend(), groups=(RateGroup(names=names),)),
        ]
