"""MobileNetV2 as torchvision names it: inverted residual blocks, a wide last convolution, the mean, one linear layer.

Sandler et al. 2018, arXiv:1801.04381. Strides follow from the place of a block, as in the paper's table 2: no tensor
tells them.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from whet.backbones.convnets.architecture import Architecture, Pictures, Shapes, counted, fits

HALVING = (2, 4, 7, 14)
"""Places in ``features`` of the blocks that halve the side."""
BLOCKS = 17


@dataclass(frozen=True)
class MobileNetV2:
    """Channels behind the stem; of each block inside and behind it; behind the last convolution."""

    channels: int
    stem: int
    blocks: tuple[tuple[int, int], ...]
    last: int
    head: ClassVar[str] = "classifier.1"
    pictures: ClassVar[Pictures] = Pictures()

    @property
    def loads(self) -> str:
        width = self.stem / 32
        return (
            f"torchvision.models.mobilenet_v2(num_classes=classes, width_mult={width:g})" if self.channels == 3 else ""
        )

    @staticmethod
    def of(shapes: Shapes) -> Architecture | None:
        stem, last = shapes.get("features.0.0.weight"), shapes.get(f"features.{BLOCKS + 1}.0.weight")
        if stem is None or last is None or len(stem) != 4 or "features.1.conv.1.weight" not in shapes:
            return None
        blocks = []
        for place in range(1, BLOCKS + 1):
            parts = counted(shapes, f"features.{place}.conv.{{}}.0.weight")
            narrow = shapes.get(f"features.{place}.conv.{parts}.weight")
            inside = shapes.get(f"features.{place}.conv.0.0.weight")
            if narrow is None or inside is None:
                return None
            blocks.append((inside[0], narrow[0]))
        found = MobileNetV2(stem[1], stem[0], tuple(blocks), last[0])
        return found if fits(found, shapes) else None

    def body(self) -> nn.Module:
        return Body(self)


class Block(nn.Module):
    """Widen, filter every channel, narrow; with a shortcut where side and width stay."""

    def __init__(self, given: int, inside: int, out: int, stride: int) -> None:
        super().__init__()
        widen = [layer(given, inside, 1)] if inside != given else []
        self.conv = nn.Sequential(
            *widen,
            layer(inside, inside, 3, stride, groups=inside),
            nn.Conv2d(inside, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = stride == 1 and given == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)  # type: ignore[no-any-return]


class Body(nn.Module):
    """The network up to the dropout before the last layer."""

    pooled = "the mean over positions"

    def __init__(self, shape: MobileNetV2) -> None:
        super().__init__()
        parts: list[nn.Module] = [layer(shape.channels, shape.stem, 3, 2)]
        given = shape.stem
        for place, (inside, out) in enumerate(shape.blocks, start=1):
            parts.append(Block(given, inside, out, 2 if place in HALVING else 1))
            given = out
        parts.append(layer(given, shape.last, 1))
        self.features = nn.Sequential(*parts)
        self.dropout = nn.Dropout(0.2)

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.dropout(self.features(pixel_values).mean((2, 3)))  # type: ignore[no-any-return]


def layer(given: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution, its norm, and a ReLU that ends at 6."""
    return nn.Sequential(
        nn.Conv2d(given, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU6(inplace=True),
    )
