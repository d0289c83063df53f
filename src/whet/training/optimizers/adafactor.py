"""Adafactor: AdamW's second moment as a row times a column, no first moment, steps as shares of a weight's size.

Source: Shazeer and Stern 2018, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", arXiv:1804.04235, as
torch has it. A matrix of n by m numbers takes n + m of state. Embedding tables hold only the rows that occur while they
train (``compact.py``), so their columns are averaged over those.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from whet.training.optimizer import Scheduled, Share, Stepper


@dataclass(frozen=True)
class Adafactor(Scheduled):
    """Steps whose size is the rate times the root mean square of the parameter they move, 0.001 at least.

    Weights of an encoder have one near 0.05, so its rates are twenty times AdamW's.
    """

    usual_rate: ClassVar[float] = 20.0

    def stepper(self, shares: Sequence[Share]) -> Stepper:
        return Stepper.shaped(shares, torch.optim.Adafactor, self.usual_rate)
