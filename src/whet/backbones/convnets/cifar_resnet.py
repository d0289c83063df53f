"""The small residual networks of the CIFAR experiments: three stages of 16 to 64 channels, no weights in shortcuts.

He et al. 2016, arXiv:1512.03385, section 4.2, option A: where a stage widens, the shortcut takes every second pixel and
is padded with channels of zeros on both sides.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from whet.backbones.convnets.architecture import Architecture, Pictures, Shapes, counted, fits


@dataclass(frozen=True)
class CifarResNet:
    """Blocks and channels of each stage."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    channels: int = 3
    head: ClassVar[str] = "linear"
    pictures: ClassVar[Pictures] = Pictures(side=32, shorter=None)
    loads: ClassVar[str] = ""

    @staticmethod
    def of(shapes: Shapes) -> Architecture | None:
        stem = shapes.get("conv1.weight")
        stages = counted(shapes, "layer{}.0.conv1.weight", first=1)
        if stem is None or len(stem) != 4 or not stages:
            return None
        prefixes = [f"layer{number}" for number in range(1, stages + 1)]
        found = CifarResNet(
            tuple(counted(shapes, prefix + ".{}.conv1.weight") for prefix in prefixes),
            tuple(shapes[f"{prefix}.0.conv1.weight"][0] for prefix in prefixes),
            stem[1],
        )
        return found if stem[0] == found.widths[0] and fits(found, shapes) else None

    def body(self) -> nn.Module:
        return Body(self)


class Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut without weights."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.stride, self.more = stride, width - given

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if self.stride > 1 or self.more:
            sides = (self.more // 2, self.more - self.more // 2)
            x = pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *sides))
        return torch.relu(inner + x)


class Body(nn.Module):
    """The network up to the mean over positions."""

    pooled = "the mean over positions"

    def __init__(self, shape: CifarResNet) -> None:
        super().__init__()
        given = shape.widths[0]
        self.conv1 = nn.Conv2d(shape.channels, given, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(given)
        self.relu = nn.ReLU()
        self.depth = len(shape.blocks)
        for number, (blocks, width) in enumerate(zip(shape.blocks, shape.widths, strict=True), start=1):
            stage = []
            for place in range(blocks):
                stage.append(Block(given, width, 2 if number > 1 and place == 0 else 1))
                given = width
            self.add_module(f"layer{number}", nn.Sequential(*stage))

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(pixel_values)))
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean((2, 3))  # type: ignore[no-any-return]
