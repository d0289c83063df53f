"""What a stage minimises, and on which batches: the task's loss of the live model, under replay where it holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whet.backbones.backbone import HeadedModel, Holder
from whet.data.ragged import Ragged, by_length
from whet.methods.method import FeatureLoss
from whet.tasks.task import Batch, State, Task, Term
from whet.training.batches import Source, make_batch
from whet.training.replay import feed, held_tensors, idle_inputs, to_device
from whet.training.temperature import EXPECTED, Expected, best_temperature

Array = np.ndarray[Any, Any]
CHUNK = 8192
FEATURES = "features"


@dataclass(eq=False)
class ReplaySource(Source):
    """Batches that bring their cached activations along, where there are any.

    Args:
        cached: Of every view in turn; None where nothing is replayed.
        ragged: Whether they are as long as their examples.
        whole: Whether batches bring inputs along that nothing above the cut reads.
    """

    cached: Sequence[Mapping[str, Ragged]] | None = None
    ragged: bool = True
    whole: bool = False
    _first: dict[str, Tensor] = field(default_factory=dict)

    def batch(self, index: Array, view: int = 0) -> Batch:
        if self.cached is None:
            return super().batch(index, view)
        held = held_tensors(self.cached[view], index, self.ragged)
        if self.ragged or self.whole:
            return replace(super().batch(index, view), held=held)
        inputs = idle_inputs(self._one(), len(index))
        return replace(make_batch(self.examples, self.processor, index, inputs), held=held)

    def with_inputs(self) -> "ReplaySource":
        return replace(self, whole=True)

    def _one(self) -> dict[str, Tensor]:
        """The inputs of the first example."""
        if not self._first:
            self._first = make_batch(self.examples, self.processor, np.arange(min(1, len(self.examples)))).inputs
        return self._first


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """The task's loss of outputs that are already there."""

    task: Task
    state: State

    def __call__(self, outputs: Tensor, batch: Batch) -> list[Term]:
        device = outputs.device
        return self.task.loss(outputs, targets_on(batch, device), batch.weights.to(device), self.state)


@dataclass(frozen=True, eq=False)
class TaskObjective:
    """Forward on the live model, under replay if a holder is given, and the task's loss."""

    task: Task
    state: State
    live: HeadedModel
    holder: Holder | None

    def on(self, model: HeadedModel) -> "TaskObjective":
        return replace(self, live=model, holder=self.holder if model is self.live else None)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return self.task.weights(batch.targets, batch.weights, self.state)

    def __call__(self, batch: Batch) -> list[Term]:
        device = next(self.live.parameters()).device
        feed(self.holder, batch, device)
        outputs = self.live(**to_device(batch.inputs, device))
        return TaskLoss(self.task, self.state)(outputs, batch)


@dataclass(frozen=True, eq=False)
class FeatureObjective:
    """Forward to the features, under replay if a holder is given, and a loss of those."""

    loss: FeatureLoss
    live: HeadedModel
    holder: Holder | None

    def on(self, model: HeadedModel) -> "FeatureObjective":
        return replace(self, live=model, holder=self.holder if model is self.live else None)

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return {FEATURES: batch.weights * partnered(batch.targets, rows_of(batch))}

    def __call__(self, batch: Batch) -> list[Term]:
        device = next(self.live.parameters()).device
        found = []
        small = batch.parts if device.type == "cpu" else ()  # an accelerator waits for starts, not for padding
        for part in small or (batch,):
            feed(self.holder, part, device)
            found.append(self.live.body(**to_device(part.inputs, device)).float())
        features = torch.cat(found)
        weights = self.weights(batch)[FEATURES].to(device)
        sums = self.loss(features, targets_on(batch, device), rows_of(batch).to(device)) * weights
        return [Term(FEATURES, sums, weights)]


def targets_on(batch: Batch, device: torch.device) -> Tensor:
    """A batch's targets on a device; as float32 where it has no float64."""
    narrow = device.type == "mps" and batch.targets.dtype == torch.float64
    return (batch.targets.float() if narrow else batch.targets).to(device)


def rows_of(batch: Batch) -> Tensor:
    """(B,) the row of each example; where a batch names none, each example is a row."""
    return torch.arange(len(batch.targets)) if batch.rows is None else batch.rows


def partnered(targets: Tensor, rows: Tensor) -> Tensor:
    """(B,) float32: 1 for an example that shares its class with one of another row of the batch, else 0."""
    alike = targets.unsqueeze(0) == targets.unsqueeze(1)
    return (alike & (rows.unsqueeze(0) != rows.unsqueeze(1))).any(1).float()


def answers(live: HeadedModel, source: ReplaySource, holder: Holder | None, most_tokens: int) -> Tensor:
    """(N, K) float32 outputs, pieces of a row averaged as in predictions; in evaluation mode meanwhile."""
    modes = [(module, module.training) for module in live.modules()]
    live.eval()
    device = next(live.parameters()).device
    found = np.zeros((len(source.examples), live.head.out_features), np.float32)
    with torch.no_grad():
        for index in by_length(source.examples.lengths, most_tokens):
            batch = source.batch(index)
            feed(holder, batch, device)
            found[index] = live(**to_device(batch.inputs, device)).float().cpu().numpy()
    for module, mode in modes:
        module.training = mode
    return torch.from_numpy(source.examples.row_means(found)).to(device)


def loss_shares(task: Task, state: State, outputs: Tensor, targets: Array, temperature: float = 1.0) -> Tensor:
    """(N,) float64, what each row adds to the loss of its outputs (N, K) divided by a temperature."""
    wanted = torch.from_numpy(targets).to(outputs.device)
    every = torch.ones(len(outputs), device=outputs.device)
    found = torch.zeros(len(outputs), dtype=torch.float64)
    totals = {name: float(w.cpu().double().sum()) for name, w in task.weights(wanted, every, state).items()}
    with torch.no_grad():
        for begin in range(0, len(outputs), CHUNK):
            part = slice(begin, begin + CHUNK)
            for term in task.loss(outputs[part] / temperature, wanted[part], every[part], state):
                found[part] += term.coefficient * term.sums.cpu().double() / max(totals[term.name], 1e-12)
    return found


def held_out_loss(
    task: Task, state: State, outputs: Tensor, targets: Array, expected: Expected = EXPECTED
) -> tuple[Tensor, float]:
    """``loss_shares`` at the best temperature, and that; at 1 where the scale of outputs has a meaning.

    Args:
        expected: What is expected of the temperature before any row is seen.
    """
    task, temperature = task.proper(), 1.0
    if task.tempered:
        _, temperature = best_temperature(
            lambda one: float(loss_shares(task, state, outputs, targets, one).sum()), len(outputs), expected
        )
    return loss_shares(task, state, outputs, targets, temperature), temperature
