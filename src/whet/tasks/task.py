"""The contract of a task: what the data mean, as examples, loss terms and predictions."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch

from whet.data.ragged import Ragged
from whet.data.rows import Columns, Finding, Rows
from whet.modalities.modality import Processor, View
from whet.tasks.divergence import Divergence
from whet.tasks.predictions import Kind, Predictions

Array = np.ndarray[Any, Any]
State = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Examples:
    """E encoded pieces of N rows, column by column; a long text is several pieces of one row.

    Shapes:
        inputs: name -> E arrays (see ``whet.modalities``).
        row: (E,) int32, position of the piece's row among the N rows, ascending.
        part: (E,) int32, 0, 1, ... within its row.
        targets: (N, ...) what the task encoded, or None for rows without targets.
        row_ids: (N,) int64, position of each row in its source.
        lengths: (E,) int32, how long each piece is (see ``whet.modalities``).

    Args:
        view: What inputs are looked at through whenever they are taken; None takes them as they are.
    """

    inputs: dict[str, Ragged]
    row: Array
    part: Array
    targets: Array | None
    row_ids: Array
    lengths: Array
    counted: dict[str, int] = field(default_factory=dict)
    view: View | None = None

    def __len__(self) -> int:
        return len(self.row)

    @property
    def rows(self) -> int:
        return len(self.row_ids)

    @cached_property
    def piece_weights(self) -> Array:
        """(E,) float32: one over the number of pieces of the row, so that every row counts once."""
        return (1.0 / np.bincount(self.row, minlength=self.rows)[self.row]).astype(np.float32)

    def row_means(self, pieces: Array) -> Array:
        """(E, D) float32 of pieces to (N, D) of their rows, averaged."""
        if self.rows == len(self):
            return pieces if pieces.flags.writeable else pieces.copy()
        found = np.zeros((self.rows, pieces.shape[1]), np.float32)
        np.add.at(found, self.row, pieces * self.piece_weights[:, None])
        return found

    def taken(self, index: Array) -> dict[str, Ragged]:
        """The inputs of some pieces, as the view shows them."""
        found = {name: ragged.take(index) for name, ragged in self.inputs.items()}
        return found if self.view is None else self.view.of(found)

    def select(self, rows: Array) -> "Examples":
        """All pieces of the rows at ``rows`` (ascending positions)."""
        place = np.full(self.rows, -1, np.int64)
        place[rows] = np.arange(len(rows))
        kept = np.flatnonzero(place[self.row] >= 0)
        return Examples(
            inputs={name: ragged.take(kept) for name, ragged in self.inputs.items()},
            row=place[self.row[kept]].astype(np.int32),
            part=self.part[kept],
            targets=None if self.targets is None else self.targets[rows],
            row_ids=self.row_ids[rows],
            lengths=self.lengths[kept],
            counted=self.counted,
            view=self.view,
        )


def join_examples(first: Examples, second: Examples) -> Examples:
    """The rows of both, in order; both with targets or both without."""
    targets = None
    if first.targets is not None and second.targets is not None:
        targets = np.concatenate([first.targets, second.targets])
    names = first.counted | second.counted
    return Examples(
        inputs={name: Ragged.join([first.inputs[name], second.inputs[name]]) for name in first.inputs},
        row=np.concatenate([first.row, second.row + np.int32(first.rows)]),
        part=np.concatenate([first.part, second.part]),
        targets=targets,
        row_ids=np.concatenate([first.row_ids, second.row_ids]),
        lengths=np.concatenate([first.lengths, second.lengths]),
        counted={name: first.counted.get(name, 0) + second.counted.get(name, 0) for name in names},
    )


@dataclass(frozen=True, eq=False)
class Batch:
    """B examples as padded tensors.

    Shapes:
        inputs: what the model's forward takes, each (B, ...).
        targets: (B, ...); weights: (B,) float32, the share of its row that each example stands for.
        lengths: (B,) true lengths, or None where examples are not ragged.
        index: (B,) positions among the examples.
        held: cached tensors that cross the cut under replay, else empty.
        shares: (B,) of itself in what each example is mixed to, with the one it is paired with; None mixes nothing.
        rows: (B,) position of each example's row: pieces of one text have one.
        parts: The same examples, in their order, as batches of like length: for a loss that needs all features at once
            but not from one forward. Empty where nobody asked for them.
    """

    inputs: dict[str, torch.Tensor]
    targets: torch.Tensor
    weights: torch.Tensor
    lengths: torch.Tensor | None
    index: Array
    held: dict[str, torch.Tensor] = field(default_factory=dict)
    shares: torch.Tensor | None = None
    rows: torch.Tensor | None = None
    parts: tuple["Batch", ...] = ()


@dataclass(frozen=True, eq=False)
class Term:
    """One part of a loss. The update minimises the sum over terms of coefficient x (all sums / all weights).

    Shapes:
        sums: (B,) loss of each example, already times its weight, differentiable.
        weights: (B,) what each example adds to the denominator; follows from targets alone.
    """

    name: str
    sums: torch.Tensor
    weights: torch.Tensor
    coefficient: float = 1.0


@dataclass(frozen=True, eq=False)
class Growth:
    """A state that knows what an earlier one knew too.

    Args:
        matrix, shift: How outputs of the earlier model become outputs in this state: ``outputs @ matrix.T + shift``.
        added: Labels that the earlier model does not know; absent: those it knows and no training row has.

    Shapes, K outputs now and E before:
        matrix: (K, E) float64; shift: (K,) float64.
    """

    state: State
    matrix: Array
    shift: Array
    added: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


@dataclass(frozen=True)
class Doubt:
    """A word on targets that could mean something else: how grave, what they are taken for, what to do if they do."""

    level: Literal["info", "warning"]
    message: str
    fix: str


class Task(Protocol):
    """The only thing that knows what the data mean. Stateless: what training data taught lies in ``State``.

    ``State`` is a JSON-able dict, saved with the model: labels, scale, thresholds.
    """

    @property
    def kind(self) -> Kind: ...

    @property
    def tempered(self) -> bool:
        """Whether outputs may be divided by a temperature: how they compare is learnt, how large they are is free."""
        ...

    @property
    def loss_settings(self) -> tuple[str, ...]:
        """Names of its settings that shape ``loss`` and nothing else: a head that is solved heeds none of them."""
        ...

    @property
    def weight_settings(self) -> tuple[str, ...]:
        """Names of its settings that shape ``weights``, which a head that is solved heeds too."""
        ...

    @property
    def divergence(self) -> Divergence | None:
        """How far two answers to the same rows differ; None where that is not known, and R-Drop is then refused."""
        ...

    @property
    def balanceable(self) -> bool:
        """Whether targets fall into classes, of which each can be drawn equally often (``batches.strata_of``)."""
        ...

    @property
    def contrastable(self) -> bool:
        """Whether features can be contrasted by class: every row is of one, and its target is that class's number."""
        ...

    @property
    def baselines(self) -> tuple[str, ...]:
        """Catalog names of the learners that the model is judged against, beside those of the kind of input."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Catalog names of the metrics that are reported, beside the chosen one."""
        ...

    def recognise(self, values: Sequence[Any], columns: int) -> float:
        """How well a sample of target values suits, 0 (not at all) and up; ``columns`` counts target columns."""
        ...

    def doubt(self, values: Sequence[Any]) -> "Doubt | None":
        """What to say where a sample of target values suits another task as well."""
        ...

    def prepare(self, train: Rows, columns: Columns) -> tuple[State, list[Finding]]:
        """What must be learnt from the training rows before any weight moves."""
        ...

    def encode(self, rows: Rows, columns: Columns, processor: Processor, state: State, *, targeted: bool) -> Examples:
        """Rows to examples; with ``targeted`` their targets too."""
        ...

    def encode_targets(self, rows: Rows, columns: Columns, state: State) -> Array:
        """(N, ...) targets as numbers; a class that training never saw is -1."""
        ...

    def outputs(self, state: State) -> int:
        """Width of the head."""
        ...

    def default_metric(self, targets: Array, state: State) -> str:
        """The metric that selects and judges unless the user names one."""
        ...

    def weights(self, targets: torch.Tensor, shares: torch.Tensor, state: State) -> dict[str, torch.Tensor]:
        """(B,) denominators of every loss term, from targets and row shares alone."""
        ...

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor, state: State) -> list[Term]:
        """Loss terms of a batch of outputs (B, K)."""
        ...

    def proper(self) -> "Task":
        """The task whose loss compares weights and sets the temperature; itself unless its loss rewards doubt."""
        ...

    def solvable(self, targets: Array, state: State) -> tuple[Literal["softmax", "sigmoid", "identity"], torch.Tensor]:
        """The convex problem that a linear head solves: its link, and targets as it takes them."""
        ...

    def tune(self, outputs: Array, targets: Array, state: State) -> State:
        """The state after seeing held-out outputs (N, K) of training rows: thresholds, where the task has any."""
        ...

    def own_unit(self, state: State) -> tuple[float, float, State]:
        """Factor and shift from outputs to the target's own unit, and the state once they are folded into the head.

        1 and 0 where outputs have no unit, or where float32 would round what is told apart.
        """
        ...

    def grow(self, state: State, earlier: State) -> Growth:
        """What the training rows of a continued model taught (``state``) and what that model knew (``earlier``)."""
        ...

    def decode(self, outputs: Array, row_ids: Array, state: State) -> Predictions:
        """(N, K) outputs, pieces of a row already averaged, to predictions."""
        ...


def changed(task: Task, names: Sequence[str]) -> tuple[str, ...]:
    """Which of some settings of a task are not at their defaults."""
    usual = type(task)()
    return tuple(name for name in names if getattr(task, name) != getattr(usual, name))
