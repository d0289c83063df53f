"""The contract of a backbone: a pre-trained module, where it can be cut, and where it came from.

Whatever the family, a model under training has one shape: ``body`` (pre-trained, raw tensors to one feature
vector an example), ``scaler`` (standardises features, folded away when packaged) and ``head`` (one linear layer,
created for the task). The convex probe, replay and packaging rest on that shape alone.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn


class Holder:
    """Where replay lays the tensors that stand-ins return for the next forward."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}


class Cut(Protocol):
    """A place between modules; everything below it can be frozen, run once and replayed."""

    @property
    def name(self) -> str:
        """For people and cache keys, such as "before block 5 of 6"."""
        ...

    @property
    def below(self) -> tuple[str, ...]:
        """Names of the modules below the cut; their parameters must not train."""
        ...

    @property
    def ragged(self) -> bool:
        """Whether captured tensors are (B, T, ...) and can be trimmed to each example's length."""
        ...

    def numbers(self, model: "HeadedModel") -> int:
        """How many cross: of each position where ragged, else of each example."""
        ...

    def capture(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run only what lies below and return what crosses the cut."""
        ...

    def inject(self, model: nn.Module) -> AbstractContextManager[Holder]:
        """Put stand-ins in place of what lies below; inside the context they return what the holder holds."""
        ...


class Scaler(nn.Module):
    """Standardises features: ``(x - mean) * scale``. Frozen; starts as the identity.

    Shapes:
        x: (B, D) -> (B, D).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) * self.scale


class HeadedModel(nn.Module):
    """A pre-trained body, a scaler and a linear head.

    Args:
        body: Called with a batch's inputs by name, returns features (B, D).
        width: D.
        outputs: K, the width of the head, which starts at zero: every class equally likely.

    Shapes:
        inputs by name, each (B, ...) -> (B, K) float32.
    """

    def __init__(self, body: nn.Module, width: int, outputs: int) -> None:
        super().__init__()
        self.body = body
        self.scaler = Scaler(width)
        self.head = nn.Linear(width, outputs)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, **inputs: Tensor) -> Tensor:
        features = self.body(**inputs).float()
        return self.head(self.scaler(features))  # type: ignore[no-any-return]


def to_bfloat16(body: nn.Module) -> None:
    """Cast a body in place, but for the frequencies of rotary positions: rounded, they drift along a text."""
    exact = {name: buffer.clone() for name, buffer in body.named_buffers() if name.endswith("inv_freq")}
    body.to(torch.bfloat16)
    for name, buffer in exact.items():
        owner, _, leaf = name.rpartition(".")
        body.get_submodule(owner)._buffers[leaf] = buffer


@dataclass(frozen=True, eq=False)
class Backbone:
    """A loaded pre-trained model, ready for a task.

    Args:
        model: In float32, evaluation mode.
        blocks: Names of its repeated blocks from input to output; empty if it has no such chain.
        stem: Names of modules that run before the first block; tail: those that run after the last.
        created: Names of parameters that the pre-trained weights did not hold; they train in every stage.
        unused: Names of parameters that no gradient of the features reaches, such as an unused pooler.
        tables: Module name of each embedding table -> the input it looks up.
        cuts: From input to output; the last one is behind the body, where the features are.
        arithmetic: A hash of what decides its numbers beside the tensors: configs, pooling, attention kernel.
        pooling: In words, how the last hidden states become one vector.
        example: A tiny batch that the model takes, to try things on.
    """

    model: HeadedModel
    blocks: tuple[str, ...]
    stem: tuple[str, ...]
    tail: tuple[str, ...]
    created: tuple[str, ...]
    unused: tuple[str, ...]
    tables: dict[str, str]
    cuts: tuple[Cut, ...]
    arithmetic: str = ""
    pooling: str = ""
    example: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Meaning:
    """What a head's outputs stand for, for configs that other libraries read.

    Args:
        kind: Of predictions: "classification", "multi-label" or "regression".
        labels: (K,) names of the outputs; of a regression none.
    """

    kind: str
    labels: tuple[str, ...] = ()


class Family(Protocol):
    """What the catalog names: how one family of pre-trained models is loaded, and written in its own layout."""

    @property
    def library(self) -> str:
        """Name of the library that loads what ``save`` wrote, as the hub calls it."""
        ...

    @property
    def portable(self) -> bool:
        """Whether another process can load a model from its folder alone."""
        ...

    def python(self, folder: str, example: Sequence[str], meaning: Meaning) -> str:
        """Lines that load what ``save`` wrote without whet, and ask it for an example; empty if no library does.

        Args:
            example: The inputs of one row.
        """
        ...

    def recognise(self, folder: Path, modality: str) -> float:
        """How well the family suits a model folder and a kind of input, 0 if not at all; loads no weights."""
        ...

    def adopt(self, file: Path, place: Path) -> bool:
        """Make a model folder at ``place`` for a bare file of tensors; False where the family knows none."""
        ...

    def load(self, folder: Path, *, outputs: int, seed: int) -> Backbone:
        """The model in ``folder`` with a new head of ``outputs``."""
        ...

    def save(
        self, model: HeadedModel, folder: Path, *, source: Path, meaning: Meaning, max_length: int | None = None
    ) -> None:
        """Write the model in its ecosystem's own layout, scaler folded in.

        Args:
            source: The pre-trained model's folder.
            max_length: Where plain loading cuts what is longer; None keeps what the source states.
        """
        ...

    def reload(self, folder: Path) -> HeadedModel:
        """What ``save`` wrote, in float32 and evaluation mode."""
        ...
