"""The contract of a modality: how one kind of raw value becomes tensors.

A modality is found by its name in the catalog. It recognises columns that hold its kind of value and makes a
processor for a pre-trained model's folder; the processor does the work and is what a packaged model needs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from whet.data.kind import InputKind
from whet.data.ragged import Ragged

Array = np.ndarray[Any, Any]
PORTION_BYTES = 16 * 2**20
"""Of encoded inputs that are made at once."""
FIRST = 64
"""Values that are encoded first, to see how large the others will be."""


@dataclass(frozen=True, eq=False)
class Encoded:
    """What some raw values became: E pieces (windows, tiles, views), at least one a value.

    Shapes:
        inputs: name -> E arrays, such as "input_ids" -> (T,) each.
        value: (E,) int32, which of the given values a piece belongs to, in order.
        part: (E,) int32, 0, 1, ... within its value.
        lengths: (E,) int32, how much there is of each piece for the model to do, in tokens or patches: batches hold
            so many of these at most. What crosses a ragged cut is as long.
        counted: what a user should be told, such as {"windowed": 3, "tokens lost": 0}.
    """

    inputs: dict[str, Ragged]
    value: Array
    part: Array
    lengths: Array
    counted: dict[str, int] = field(default_factory=dict)


class Processor(Protocol):
    """Turns raw values into padded tensors for one pre-trained model."""

    @property
    def unit(self) -> str:
        """What ``Encoded.lengths`` counts, such as "tokens"."""
        ...

    def fingerprint(self) -> str:
        """A hash that changes whenever the same value could become other tensors."""
        ...

    def encode(self, values: Sequence[tuple[Any, ...]]) -> Encoded:
        """Raw values (one or two to a tuple) to pieces."""
        ...

    def collate(self, inputs: dict[str, Ragged]) -> dict[str, torch.Tensor]:
        """Pieces to one padded batch; a mask only where something is padded."""
        ...

    def record(self) -> dict[str, Any]:
        """What a packaged model states of how values become pieces, JSON-able; "max_length" if pieces have one."""
        ...

    def walk(self, value: tuple[Any, ...]) -> list[tuple[str, str]]:
        """One value through every step: (step, what it looks like after it)."""
        ...


class View(Protocol):
    """One way of looking at encoded values: every piece changed at random, by draws that follow from its content."""

    def key(self) -> str:
        """Everything that decides what a piece becomes, beside the piece itself."""
        ...

    def of(self, inputs: dict[str, Ragged]) -> dict[str, Ragged]:
        """Some pieces as this view shows them, of the same shapes and types."""
        ...


class Augmentation(Protocol):
    """One kind of random change that should leave a target what it is; a frozen dataclass of its settings.

    Found by its name in the catalog, whose row names the modality that can apply it.
    """

    @property
    def mild(self) -> bool:
        """Whether it is kept where rows cannot tell that it is safe, unless they tell that it is not."""
        ...

    @property
    def usual(self) -> bool:
        """Whether rows are asked about it where nobody names augmentations."""
        ...


class Augmentable(Protocol):
    """What a modality does whose values can be changed at random; asked where the catalog has augmentations for it."""

    def augment(
        self, inputs: dict[str, Ragged], chosen: Sequence[Augmentation], draws: Sequence[np.random.Generator]
    ) -> dict[str, Ragged]:
        """Pieces changed by each of ``chosen``, a generator for each piece; of the same shapes and types."""
        ...


class Modality(InputKind, Protocol):
    """One kind of raw value; a frozen dataclass of its settings, which plans and packaged models keep."""

    @property
    def model(self) -> str | None:
        """The pre-trained model where none is named; None if none comes along."""
        ...

    @property
    def packages(self) -> tuple[str, ...]:
        """Packages whose versions decide what values become; a resumed run needs the same."""
        ...

    @property
    def example(self) -> str:
        """A new value as one may be given to a tuned model, such as "a new text" or "photo.jpg"."""
        ...

    @property
    def hub_task(self) -> str:
        """What the hub calls answering for such values, such as "text-classification"."""
        ...

    def processor(self, folder: Path, *, max_length: int | None, pairs: bool) -> Processor:
        """The processor that belongs to the pre-trained model in ``folder``, its root.

        Raises:
            ModelError: nothing there says how values become tensors, or it is damaged.
            ConfigError: ``max_length`` cannot work with it.
        """
        ...


def in_portions(processor: Processor, values: Sequence[tuple[Any, ...]]) -> Iterator[tuple[int, Encoded]]:
    """Raw values to pieces, as many values at once as memory should hold; each portion with the place of its first."""
    first = processor.encode(values[:FIRST]) if len(values) else None
    begin, end = 0, min(FIRST, len(values))
    while first is not None and begin < len(values):
        each = sum(ragged.nbytes for ragged in first.inputs.values()) / (end - begin)
        more = values[end : begin + max(end - begin, int(PORTION_BYTES / max(1.0, each)))]
        portion = joined(first, processor.encode(more), end - begin) if len(more) else first
        yield begin, portion
        begin, end = end + len(more), min(end + len(more) + FIRST, len(values))
        first = processor.encode(values[begin:end]) if begin < end else None


def joined(first: Encoded, second: Encoded, values: int) -> Encoded:
    """The pieces of so many values and of those that follow."""
    names = first.counted | second.counted
    return Encoded(
        inputs={name: Ragged.join([first.inputs[name], second.inputs[name]]) for name in first.inputs},
        value=np.concatenate([first.value, second.value + np.int32(values)]),
        part=np.concatenate([first.part, second.part]),
        lengths=np.concatenate([first.lengths, second.lengths]),
        counted={name: first.counted.get(name, 0) + second.counted.get(name, 0) for name in names},
    )
