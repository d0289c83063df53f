"""Residual networks as torchvision names them: ResNet, wide ResNet and ResNeXt, of plain or bottleneck blocks.

He et al. 2016, arXiv:1512.03385; Zagoruyko and Komodakis 2016, arXiv:1605.07146; Xie et al. 2017, arXiv:1611.05431. A
bottleneck halves the side in its 3 x 3 convolution, as torchvision's does and the paper's does not.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from whet.backbones.convnets.architecture import Architecture, Pictures, Shapes, counted, fits


@dataclass(frozen=True)
class Stage:
    """Blocks of one side.

    Args:
        blocks: How many.
        width: Channels inside a block; out: of what it gives.
        groups: Of the 3 x 3 convolution of a bottleneck.
        projected: Whether the first block's shortcut is a convolution.
    """

    blocks: int
    width: int
    out: int
    groups: int = 1
    projected: bool = True


@dataclass(frozen=True)
class ResNet:
    """Widths and depths.

    Args:
        stem: Channels behind the first convolution; kernel: its side, in channels: of the pictures.
        bottleneck: Whether blocks have three convolutions.
    """

    stem: int
    kernel: int
    channels: int
    bottleneck: bool
    stages: tuple[Stage, ...]
    head: ClassVar[str] = "fc"
    pictures: ClassVar[Pictures] = Pictures()

    @property
    def loads(self) -> str:
        name = NAMED.get((*(stage.blocks for stage in self.stages), self.bottleneck))
        usual = self.stem == 64 and self.kernel == 7 and self.channels == 3
        first = self.stages[0]
        grown = {(64, 1): "", (128, 1): "wide_", (128, 32): "32x4d", (256, 32): "32x8d", (256, 64): "64x4d"}
        kind = grown.get((first.width, first.groups)) if self.bottleneck else "" if first.width == 64 else None
        if name is None or kind is None or not usual:
            return ""
        plain = f"resnet{name}"
        known = {"": plain, "wide_": f"wide_{plain}_2"}.get(kind, f"resnext{name}_{kind}")
        return f"torchvision.models.{known}(num_classes=classes)"

    @staticmethod
    def of(shapes: Shapes) -> Architecture | None:
        stem = shapes.get("conv1.weight")
        if stem is None or len(stem) != 4 or "bn1.weight" not in shapes or "layer1.0.conv1.weight" not in shapes:
            return None
        bottleneck = "layer1.0.conv3.weight" in shapes
        last = "conv3" if bottleneck else "conv2"
        stages = []
        for number in range(1, 1 + counted(shapes, "layer{}.0.conv1.weight", first=1)):
            prefix = f"layer{number}"
            middle = shapes[f"{prefix}.0.conv2.weight"]
            stages.append(
                Stage(
                    blocks=counted(shapes, prefix + ".{}.conv1.weight"),
                    width=shapes[f"{prefix}.0.conv1.weight"][0],
                    out=shapes[f"{prefix}.0.{last}.weight"][0],
                    groups=shapes[f"{prefix}.0.conv1.weight"][0] // middle[1],
                    projected=f"{prefix}.0.downsample.0.weight" in shapes,
                )
            )
        found = ResNet(stem[0], stem[2], stem[1], bottleneck, tuple(stages))
        return found if fits(found, shapes) else None

    def body(self) -> nn.Module:
        return Body(self)


NAMED: dict[tuple[int, ...], int] = {
    (2, 2, 2, 2, False): 18, (3, 4, 6, 3, False): 34, (3, 4, 6, 3, True): 50, (3, 4, 23, 3, True): 101,
    (3, 8, 36, 3, True): 152,
}  # fmt: skip
"""Blocks a stage, and whether they are bottlenecks -> how deep the network is called."""


class Plain(nn.Module):
    """Two 3 x 3 convolutions and a shortcut."""

    def __init__(self, given: int, stage: Stage, stride: int, *, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, stage.width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stage.width)
        self.conv2 = nn.Conv2d(stage.width, stage.out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(stage.out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(given, stage.out, stride) if projected else None

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        inner: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(inner + kept)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut."""

    def __init__(self, given: int, stage: Stage, stride: int, *, projected: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, stage.width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stage.width)
        self.conv2 = nn.Conv2d(stage.width, stage.width, 3, stride, 1, groups=stage.groups, bias=False)
        self.bn2 = nn.BatchNorm2d(stage.width)
        self.conv3 = nn.Conv2d(stage.width, stage.out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(stage.out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(given, stage.out, stride) if projected else None

    def forward(self, x: Tensor) -> Tensor:
        kept = x if self.downsample is None else self.downsample(x)
        inner = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu(self.bn3(self.conv3(inner)) + kept)  # type: ignore[no-any-return]


class Body(nn.Module):
    """The network up to the mean over positions."""

    pooled = "the mean over positions"

    def __init__(self, shape: ResNet) -> None:
        super().__init__()
        large = shape.kernel == 7
        self.conv1 = nn.Conv2d(
            shape.channels, shape.stem, shape.kernel, 2 if large else 1, shape.kernel // 2, bias=False
        )
        self.bn1 = nn.BatchNorm2d(shape.stem)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if large else nn.Identity()
        self.depth = len(shape.stages)
        given, kind = shape.stem, Bottleneck if shape.bottleneck else Plain
        for number, stage in enumerate(shape.stages, start=1):
            blocks = []
            for place in range(stage.blocks):
                stride = 2 if number > 1 and place == 0 else 1
                blocks.append(kind(given, stage, stride, projected=stage.projected and place == 0))
                given = stage.out
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.avgpool = nn.AdaptiveAvgPool2d(1)

    def forward(self, pixel_values: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(pixel_values))))
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return self.avgpool(x).flatten(1)  # type: ignore[no-any-return]


def shortcut(given: int, out: int, stride: int) -> nn.Sequential:
    """A convolution that brings the shortcut to the block's width and side."""
    return nn.Sequential(nn.Conv2d(given, out, 1, stride, bias=False), nn.BatchNorm2d(out))
