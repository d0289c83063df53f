"""AdamW: steps scaled by two running moments of the gradient, with decoupled weight decay.

Source: Loshchilov and Hutter 2017, "Decoupled Weight Decay Regularization", arXiv:1711.05101; with bias correction, on
float32 masters, through torch's fused kernel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from whet.training.optimizer import Scheduled, Share, Stepper

SETTINGS: dict[str, Any] = {"betas": (0.9, 0.999), "eps": 1e-8, "fused": True}


@dataclass(frozen=True)
class AdamW(Scheduled):
    """The default: every method states its rates for it."""

    def stepper(self, shares: Sequence[Share]) -> Stepper:
        return Stepper.elementwise(shares, torch.optim.AdamW, **SETTINGS)
