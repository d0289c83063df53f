"""Bias vectors alone train, in every block, from the probe's head.

Source: Ben Zaken et al. 2021, "BitFit", arXiv:2106.10199. Ours starts from a solved head (LP-FT, arXiv:2202.10054),
theirs from a random one.
"""

from dataclasses import dataclass
from typing import ClassVar

from whet.backbones.backbone import Backbone
from whet.methods.method import reached
from whet.methods.scattered import Scattered


@dataclass(frozen=True, kw_only=True)
class BiasOnly(Scattered):
    """The biases of all layers and norms train: a thousandth of the weights. Settings are those of ``Scattered``."""

    stage: ClassVar[str] = "biases"
    sought: ClassVar[str] = "biases"

    def named(self, backbone: Backbone) -> list[str]:
        return [name for name in reached(backbone) if name.endswith("bias")]
