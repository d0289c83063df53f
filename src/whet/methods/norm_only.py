"""Scales and shifts of the normalisation layers alone train, from the probe's head.

Sources: Frankle et al. 2020, "Training BatchNorm and Only BatchNorm", arXiv:2003.00152, for convolutional nets; Qi et
al. 2022, "Parameter-Efficient Tuning on Layer Normalization", arXiv:2211.08682, for transformers. Running statistics of
batch norms stay.
"""

from dataclasses import dataclass
from typing import ClassVar

from whet.backbones.backbone import Backbone
from whet.methods.method import reached
from whet.methods.scattered import Scattered


@dataclass(frozen=True, kw_only=True)
class NormOnly(Scattered):
    """The affine part of every norm trains; fewer weights than with any other method that moves the body.

    Settings are those of ``Scattered``.
    """

    stage: ClassVar[str] = "norms"
    sought: ClassVar[str] = "normalisation layers"

    def named(self, backbone: Backbone) -> list[str]:
        inside = {name for name, module in backbone.model.named_modules() if "norm" in type(module).__name__.lower()}
        return [name for name in reached(backbone) if name.rpartition(".")[0] in inside]
