"""Contrastive few-shot tuning: features of one class come together, then a head is solved on them.

Sources: Tunstall et al. 2022, "Efficient Few-Shot Learning Without Prompts" (SetFit), arXiv:2209.11055; Khosla et al.
2020, "Supervised Contrastive Learning", arXiv:2004.11362, equation 2. SetFit lists pairs, of which there are about as
many as rows squared; ours contrasts within each batch, which is made of pairs of one class, so that a pass costs what
an ordinary pass costs.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError
from whet.methods.method import FEWEST_CONTRASTED, Descend, InPlace, Place, Size, Solve, Stage, check_rates, layerwise
from whet.numeric import require_numbers

FEWEST_ROWS, TRIED_ROWS, FEW_ROWS = 2, 8, 64
"""From two rows a class, which make a pair, up to 64 the ladder climbs it in place of the top blocks, and trusts it
from eight on: over the probe it gained 3 points in the median of four sets at eight rows (from 0.3 lost to 33 gained)
and 4 at 64 (from 4 to 11), one seed each."""


@dataclass(frozen=True)
class SupervisedContrastive:
    """For each example, how little its features stand out towards its own class among the batch.

    ``-mean over p of log(exp(z.z_p / t) / sum over a of exp(z.z_a / t)) - log |P|``: z are features at length 1, p the
    others of its class, |P| of them, a all others; pieces of its own row are neither. The last term is ours: with it
    the loss is 0, its least, where a class lies in one place and far from all others.
    """

    temperature: float = 0.1
    solved: ClassVar[float] = 0.005

    def __call__(self, features: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """(B,) from features (B, D), classes (B,) and rows (B,)."""
        unit = functional.normalize(features, dim=1)
        near = unit @ unit.T / self.temperature
        itself = rows.unsqueeze(0) == rows.unsqueeze(1)
        shares = functional.log_softmax(near.masked_fill(itself, torch.finfo(near.dtype).min), dim=1)
        partner = (targets.unsqueeze(0) == targets.unsqueeze(1)) & ~itself
        count = partner.sum(1).clamp(min=1)
        return -shares.masked_fill(~partner, 0.0).sum(1) / count - count.log()


@dataclass(frozen=True, kw_only=True)
class Contrastive(InPlace):
    """Every block trains on a contrast of classes; the head is then solved, as the probe's is.

    Args:
        temperature: Of the contrast; lower looks harder at the nearest others. Above 0.3 it can never be said that all
            classes are apart.
        decay: Factor on the learning rate from each block to the one below it.
        learning_rate: Of the top block.
        epochs: Passes over the training rows at most; they end where every class is apart from all others. Few rows get
            80 updates where 200 are usual, which scored the same on four sets at 8 and 64 rows a class.
        head_temperature: What the head's outputs are divided by where no row was held out, and what held-out rows start
            from. It is solved on the very rows that were drawn together, which look too easy: new rows of four sets
            wanted 1.3 to 6.5, and this one had the lowest log-loss over all.
        solve: How the head is fitted at the end.
    """

    temperature: float = 0.1
    decay: float = 0.9
    learning_rate: float = 5e-5
    epochs: int = 4
    head_temperature: float = 2.5
    solve: Solve = field(default_factory=Solve)
    stops: ClassVar[bool] = False
    least_steps: ClassVar[int] = 80
    height: ClassVar[int] = 2

    def __post_init__(self) -> None:
        require_numbers(self, "method")
        check_rates(self.decay, self.learning_rate, self.epochs)
        if not self.temperature > 0:
            raise ConfigError(
                f"temperature cannot be {self.temperature!r}.", where="method.temperature", fix="use 0.05 to 0.5"
            )
        if not 1 <= self.head_temperature <= 16:
            raise ConfigError(
                f"head_temperature cannot be {self.head_temperature!r}.",
                where="method.head_temperature",
                fix="use 1, which leaves the head as sure as it is, or up to 16; 2 to 6 are likely",
            )

    @classmethod
    def place(cls, size: Size) -> Place | None:
        rows = size.rows / size.classes if size.classes else 0.0
        if size.compared < FEWEST_CONTRASTED or not FEWEST_ROWS <= rows <= FEW_ROWS:
            return None
        return Place(f"with at most {FEW_ROWS} rows a class", trusted=rows >= TRIED_ROWS)

    def stages(self, backbone: Backbone) -> list[Stage]:
        groups = layerwise(backbone, -1, self.decay)
        objective = SupervisedContrastive(self.temperature)
        return [
            Stage(name="contrast", fit=Descend(), groups=groups, head=False, objective=objective),
            Stage(name="probe", fit=self.solve, temperature=self.head_temperature),
        ]
