"""The contract of an architecture: a network that is recognised in a bare file of tensors, and built to hold them.

A bare file says nothing but names and shapes. An architecture reads its widths and depths off them, and states what its
weights are usually trained with: the size of pictures and their normalisation.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

Shapes = Mapping[str, tuple[int, ...]]
"""Name of each tensor -> its shape."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Pictures:
    """How pictures are given to the weights.

    Args:
        side: Of the square that the network sees, in pixels.
        shorter: What the shorter side is scaled to before the square is cut out of the middle; None scales the whole
            picture to the square.
    """

    side: int = 224
    shorter: int | None = 256
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


class Architecture(Protocol):
    """A frozen dataclass of widths and depths."""

    @property
    def head(self) -> str:
        """Prefix of the tensors of the last layer, which is replaced, such as "fc"."""
        ...

    @property
    def channels(self) -> int:
        """Of the pictures that it reads."""
        ...

    @property
    def pictures(self) -> Pictures:
        """How pictures are given to it."""
        ...

    @property
    def loads(self) -> str:
        """A line of Python that makes the network in torchvision with ``classes`` outputs; empty if none does."""
        ...

    @staticmethod
    def of(shapes: Shapes) -> "Architecture | None":
        """The architecture that has these tensors, without the last layer's; None if it is another."""
        ...

    def body(self) -> nn.Module:
        """Everything before the last layer: pictures (B, C, H, W) to features (B, D), tensors named as in the file."""
        ...


def counted(shapes: Shapes, pattern: str, first: int = 0) -> int:
    """How many places in a row, from ``first`` on, have a tensor called ``pattern`` with the place in it."""
    number = first
    while pattern.format(number) in shapes:
        number += 1
    return number - first


def fits(found: Architecture, shapes: Shapes) -> bool:
    """Whether the architecture has these tensors and no others, the last layer's and counts of batches apart."""
    with torch.device("meta"):
        own = {name: tuple(tensor.shape) for name, tensor in found.body().state_dict().items()}
    given = {name: tuple(shape) for name, shape in shapes.items() if not name.startswith(found.head + ".")}
    return bare(own) == bare(given)


def bare(shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """Without the counts of batches that norms have seen, which older files lack."""
    return {name: shape for name, shape in shapes.items() if not name.endswith("num_batches_tracked")}
