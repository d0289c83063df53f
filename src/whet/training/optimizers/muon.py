"""Muon: matrices of hidden layers move along an orthogonalised momentum; AdamW steps the rest.

Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks",
https://kellerjordan.github.io/posts/muon: vectors, embeddings and the new head are not for it. Updates are scaled to
AdamW's usual size (Liu et al. 2025, "Muon is Scalable for LLM Training", arXiv:2502.16982), so that one learning rate
suits both. It remembers one number a weight. Where no matrix of a hidden layer trains, as under bias-only, it is AdamW.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from whet.errors import ConfigError, MissingPackageError
from whet.numeric import require_numbers
from whet.training.optimizer import Scheduled, Share, Stepper, flat_built, shaped_built
from whet.training.optimizers.adamw import SETTINGS


@dataclass(frozen=True, kw_only=True)
class Muon(Scheduled):
    """Orthogonal updates of matrices, each of the rate's size times 0.2 the root of its longer side.

    Args:
        momentum: Share of the running mean of gradients that each update keeps.
        nesterov: Whether the newest gradient counts once more.
    """

    momentum: float = 0.95
    nesterov: bool = True
    hidden_apart: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_numbers(self, "training.optimizer")
        if not 0 <= self.momentum < 1:
            raise ConfigError(
                f"momentum cannot be {self.momentum!r}.",
                where="training.optimizer.momentum",
                fix="use a value from 0 to below 1, such as 0.95",
            )

    def stepper(self, shares: Sequence[Share]) -> Stepper:
        kind = getattr(torch.optim, "Muon", None)
        if kind is None:
            raise MissingPackageError(
                f"This torch ({torch.__version__}) has no Muon.", where="training.optimizer", fix="pip install -U torch"
            )
        matrices = shaped_built(
            [share for share in shares if share.hidden], kind,
            momentum=self.momentum, nesterov=self.nesterov, adjust_lr_fn="match_rms_adamw",
        )  # fmt: skip
        rest = flat_built([share for share in shares if not share.hidden], torch.optim.AdamW, **SETTINGS)
        parts = {True: iter(matrices), False: iter(rest)}
        return Stepper(shares, [next(parts[share.hidden]) for share in shares])
