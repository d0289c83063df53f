"""MobileNetV3, large and small, as torchvision names it: inverted residual blocks, some with a squeeze and excitation.

Howard et al. 2019, arXiv:1905.02244, tables 1 and 2. Widths, kernels and excitations are read off the tensors; strides
and activations follow from the place of a block.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from whet.backbones.convnets.architecture import Architecture, Pictures, Shapes, counted, fits

EPSILON = 1e-3
"""Of the norms, as these networks were trained."""
HALVING = {15: (2, 4, 7, 13), 11: (1, 2, 4, 9)}
"""Blocks -> the places of those that halve the side: the large network has 15, the small one 11."""
PLAIN = {15: 6, 11: 3}
"""Blocks -> how many of the first have a ReLU; the others a hard swish."""
NAMED = {15: ("large", 960, 1280), 11: ("small", 576, 1024)}


@dataclass(frozen=True)
class Inverted:
    """Channels inside and behind a block, side of its filter, channels of its excitation (0: it has none)."""

    inside: int
    out: int
    kernel: int
    squeezed: int


@dataclass(frozen=True)
class MobileNetV3:
    """Channels behind the stem, of each block, behind the last convolution, and of the linear layer before the last."""

    channels: int
    stem: int
    blocks: tuple[Inverted, ...]
    last: int
    wide: int
    head: ClassVar[str] = "classifier.3"
    pictures: ClassVar[Pictures] = Pictures()

    @property
    def loads(self) -> str:
        name, last, wide = NAMED[len(self.blocks)]
        usual = (self.channels, self.stem, self.last, self.wide) == (3, 16, last, wide)
        return f"torchvision.models.mobilenet_v3_{name}(num_classes=classes)" if usual else ""

    @staticmethod
    def of(shapes: Shapes) -> Architecture | None:
        stem, wide = shapes.get("features.0.0.weight"), shapes.get("classifier.0.weight")
        number = counted(shapes, "features.{}.block.0.0.weight", first=1)
        last = shapes.get(f"features.{number + 1}.0.weight")
        if stem is None or wide is None or last is None or number not in HALVING:
            return None
        found = MobileNetV3(
            stem[1], stem[0], tuple(read_block(shapes, place) for place in range(1, number + 1)), last[0], wide[0]
        )
        return found if fits(found, shapes) else None

    def body(self) -> nn.Module:
        return Body(self)


def read_block(shapes: Shapes, place: int) -> Inverted:
    """The widths of one block."""
    prefix = f"features.{place}.block"
    parts = sorted({int(name.split(".")[3]) for name in shapes if name.startswith(prefix + ".")})
    filters = [shapes[f"{prefix}.{part}.0.weight"] for part in parts if f"{prefix}.{part}.0.weight" in shapes]
    deep = next(shape for shape in filters if shape[1] == 1 and shape[2] > 1)
    squeezed = next(
        (shapes[f"{prefix}.{part}.fc1.weight"][0] for part in parts if f"{prefix}.{part}.fc1.weight" in shapes), 0
    )
    return Inverted(deep[0], filters[-1][0], deep[2], squeezed)


class Excitation(nn.Module):
    """Every channel times a number from 0 to 1 that all of them together give."""

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(width, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, width, 1)
        self.activation, self.scale_activation = nn.ReLU(), nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        scale: Tensor = self.scale_activation(self.fc2(self.activation(self.fc1(self.avgpool(x)))))
        return x * scale


class Block(nn.Module):
    """Widen, filter every channel, excite, narrow; with a shortcut where side and width stay."""

    def __init__(self, given: int, shape: Inverted, stride: int, activation: type[nn.Module]) -> None:
        super().__init__()
        parts: list[nn.Module] = [layer(given, shape.inside, 1, 1, 1, activation)] if shape.inside != given else []
        parts.append(layer(shape.inside, shape.inside, shape.kernel, stride, shape.inside, activation))
        parts += [Excitation(shape.inside, shape.squeezed)] if shape.squeezed else []
        parts.append(layer(shape.inside, shape.out, 1, 1, 1, None))
        self.block = nn.Sequential(*parts)
        self.shortcut = stride == 1 and given == shape.out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.shortcut else self.block(x)  # type: ignore[no-any-return]


class Body(nn.Module):
    """The network up to the dropout before the last layer."""

    pooled = "the mean over positions and a linear layer"

    def __init__(self, shape: MobileNetV3) -> None:
        super().__init__()
        number = len(shape.blocks)
        parts: list[nn.Module] = [layer(shape.channels, shape.stem, 3, 2, 1, nn.Hardswish)]
        given = shape.stem
        for place, block in enumerate(shape.blocks, start=1):
            activation = nn.ReLU if place <= PLAIN[number] else nn.Hardswish
            parts.append(Block(given, block, 2 if place in HALVING[number] else 1, activation))
            given = block.out
        parts.append(layer(given, shape.last, 1, 1, 1, nn.Hardswish))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Linear(shape.last, shape.wide), nn.Hardswish(), nn.Dropout(0.2))

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.classifier(self.features(pixel_values).mean((2, 3)))  # type: ignore[no-any-return]


def layer(
    given: int, out: int, kernel: int, stride: int, groups: int, activation: type[nn.Module] | None
) -> nn.Sequential:
    """A convolution, its norm and, unless there is none, an activation."""
    parts: list[nn.Module] = [
        nn.Conv2d(given, out, kernel, stride, (kernel - 1) // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out, eps=EPSILON, momentum=0.01),
    ]
    return nn.Sequential(*parts, *([] if activation is None else [activation()]))
