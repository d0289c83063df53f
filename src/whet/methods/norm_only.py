"""Scales and shifts of the normalisation layers alone train, from the probe's head.

Sources: Frankle et al. 2020, "Training BatchNorm and Only BatchNorm", arXiv:2003.00152, for convolutional nets; Qi et
al. 2022, "Parameter-Efficient Tuning on Layer Normalization", arXiv:2211.08682, for transformers. Running statistics of
batch norms stay.
"""

from dataclasses import dataclass

from whet.backbones.backbone import Backbone
from whet.methods.method import START, Descend, InPlace, RateGroup, Solve, Stage, check_rates, reached, require_some


@dataclass(frozen=True, kw_only=True)
class NormOnly(InPlace):
    """The affine part of every norm trains; fewer weights than with any other method that moves the body.

    Args:
        learning_rate: Of every scale and shift.
        epochs: Passes over the training rows at most.
        solve: How the head that it starts from is fitted.
    """

    learning_rate: float = 3e-3
    epochs: int = 8
    solve: Solve = START

    def __post_init__(self) -> None:
        check_rates(1.0, self.learning_rate, self.epochs)

    def stages(self, backbone: Backbone) -> list[Stage]:
        inside = {name for name, module in backbone.model.named_modules() if "norm" in type(module).__name__.lower()}
        found = [name for name in reached(backbone) if name.rpartition(".")[0] in inside]
        names = require_some("normalisation layers", found)
        return [
            Stage(name="probe", fit=self.solve),
            Stage(name="norms", fit=Descend(), groups=(RateGroup(names=names),)),
        ]
