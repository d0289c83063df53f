"""What a stage minimises, and on which batches: the task's loss of the live model, under replay where it holds."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whet.backbones.backbone import HeadedModel, Holder
from whet.data.ragged import Ragged, by_length
from whet.tasks.task import Batch, State, Task, Term
from whet.training.batches import Source, make_batch
from whet.training.replay import feed, held_tensors, to_device

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class ReplaySource(Source):
    """Batches that bring their cached activations along, where there are any."""

    cached: Mapping[str, Ragged] | None = None
    ragged: bool = True

    def batch(self, index: Array) -> Batch:
        batch = make_batch(self.examples, self.processor, index)
        if self.cached is None:
            return batch
        return replace(batch, held=held_tensors(self.cached, index, self.ragged))


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """The task's loss of outputs that are already there."""

    task: Task
    state: State

    def __call__(self, outputs: Tensor, batch: Batch) -> list[Term]:
        device = outputs.device
        return self.task.loss(outputs, batch.targets.to(device), batch.weights.to(device), self.state)


@dataclass(frozen=True, eq=False)
class TaskObjective:
    """Forward on the live model, under replay if a holder is given, and the task's loss."""

    task: Task
    state: State
    live: HeadedModel
    holder: Holder | None

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return self.task.weights(batch.targets, batch.weights, self.state)

    def __call__(self, batch: Batch) -> list[Term]:
        device = next(self.live.parameters()).device
        feed(self.holder, batch, device)
        outputs = self.live(**to_device(batch.inputs, device))
        return TaskLoss(self.task, self.state)(outputs, batch)


def mean_loss(live: HeadedModel, valid: ReplaySource, loss: TaskLoss, holder: Holder | None, most_tokens: int) -> float:
    """Validation loss, weighted as in training; the model is in evaluation mode meanwhile."""
    modes = [(module, module.training) for module in live.modules()]
    live.eval()
    device = next(live.parameters()).device
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    coefficients: dict[str, float] = {}
    with torch.no_grad():
        for index in by_length(valid.examples.lengths, most_tokens):
            batch = valid.batch(index)
            feed(holder, batch, device)
            for term in loss(live(**to_device(batch.inputs, device)), batch):
                sums[term.name] = sums.get(term.name, 0.0) + float(term.sums.double().sum())
                weights[term.name] = weights.get(term.name, 0.0) + float(term.weights.double().sum())
                coefficients[term.name] = term.coefficient
    for module, mode in modes:
        module.training = mode
    return sum(coefficients[name] * sums[name] / max(weights[name], 1e-12) for name in sums)
