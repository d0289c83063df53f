"""Objectives that keep a model from learning rows by heart: features mixed in pairs, and two forwards that agree.

Both stay exact sums over an update. Pairs are neighbours, first with second, third with fourth, so that none is parted
by micro-batches of even size; the odd last example of an update stays as it is. Shares come with the batch, drawn for
the whole update, and do not depend on how it is divided.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from whet.backbones.backbone import HeadedModel
from whet.tasks.task import Batch, Term
from whet.training.objective import TaskLoss, TaskObjective
from whet.training.replay import feed, to_device

AGREE = "agreement"


@dataclass(frozen=True, eq=False)
class Regularised:
    """The task's loss of mixed features, of one forward or of two that shall agree.

    Mixing: the features of example i, its partner j and its share s become ``s f_i + (1 - s) f_j``, and its loss ``s``
    times that of its own target and ``1 - s`` times that of the partner's, denominators alike. Sources: Zhang et al.
    2018, "mixup", arXiv:1710.09412; of hidden states: Verma et al. 2019, "Manifold mixup", arXiv:1806.05236. Ours mixes
    pooled features alone, and draws a share for each example.

    Agreement: the mean of the losses of two forwards with different dropout, plus ``agreement`` times their divergence.
    Source: Liang et al. 2021, "R-Drop", arXiv:2106.14448, which adds the losses up, so that its alpha is twice this.

    Args:
        plain: The objective without any of it.
        agreement: 0 takes one forward.
    """

    plain: TaskObjective
    agreement: float = 0.0

    def on(self, model: HeadedModel) -> "Regularised":
        return replace(self, plain=self.plain.on(model))

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        found = self.plain.weights(batch)
        if batch.shares is not None:
            others = self.plain.weights(partnered(batch))
            found = {name: mixed(one, others[name], batch.shares) for name, one in found.items()}
        return found | ({AGREE: batch.weights} if self.agreement else {})

    def __call__(self, batch: Batch) -> list[Term]:
        outputs = [self._outputs(batch) for _ in range(2 if self.agreement else 1)]
        found = [self._terms(one, batch) for one in outputs]
        weights = self.weights(batch)
        terms = [
            replace(
                several[0], sums=sum_of(several) / len(several), weights=weights[several[0].name].to(several[0].weights)
            )
            for several in zip(*found, strict=True)
        ]
        if self.agreement:
            divergence = self.plain.task.divergence
            assert divergence is not None, "a plan with R-Drop is refused for such a task"
            each = divergence(*outputs)
            shares = batch.weights.to(each)
            terms.append(Term(AGREE, each * shares, shares, self.agreement))
        return terms

    def _outputs(self, batch: Batch) -> Tensor:
        live = self.plain.live
        device = next(live.parameters()).device
        feed(self.plain.holder, batch, device)
        features = live.body(**to_device(batch.inputs, device))
        features = features.to(live.head.weight.dtype)
        if batch.shares is not None:
            features = mixed(features, features[partners(len(features))], batch.shares.to(device).unsqueeze(1))
        outputs: Tensor = live.head(live.scaler(features))
        return outputs

    def _terms(self, outputs: Tensor, batch: Batch) -> list[Term]:
        loss = TaskLoss(self.plain.task, self.plain.state)
        own = loss(outputs, batch)
        if batch.shares is None:
            return own
        shares = batch.shares.to(outputs.device)
        pairs = zip(own, loss(outputs, partnered(batch)), strict=True)
        return [replace(one, sums=mixed(one.sums, other.sums, shares)) for one, other in pairs]


def partners(number: int) -> Tensor:
    """(B,) the neighbour that each example is paired with; an odd last one with itself."""
    found = torch.arange(number) ^ 1
    return found.clamp(max=number - 1)


def partnered(batch: Batch) -> Batch:
    """The batch with its partners' targets; nothing else changes."""
    order = partners(len(batch.targets))
    return replace(batch, targets=batch.targets[order], weights=batch.weights[order])


def mixed(one: Tensor, other: Tensor, shares: Tensor) -> Tensor:
    """``shares`` of the one, the rest of the other, in the type of the one."""
    shares = shares.to(one.dtype)
    return shares * one + (1 - shares) * other


def sum_of(terms: tuple[Term, ...]) -> Tensor:
    """The sums of some terms, added up."""
    return torch.stack([term.sums for term in terms]).sum(0)
