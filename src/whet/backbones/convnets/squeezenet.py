"""SqueezeNet 1.0 and 1.1 as torchvision names them: no norms, blocks of a squeeze and two expansions side by side.

Iandola et al. 2016, arXiv:1602.07360. Its own last layer is a convolution with a ReLU behind it, whose mean over
positions answers; ours is linear on the mean of the 512 channels below, so the tuned network is not torchvision's.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from whet.backbones.convnets.architecture import Architecture, Pictures, Shapes, fits

POOLS = {"1_0": (2, 6, 11), "1_1": (2, 5, 8)}
"""Where in ``features`` the pools stand."""
FIRES = {"1_0": (3, 4, 5, 7, 8, 9, 10, 12), "1_1": (3, 4, 6, 7, 9, 10, 11, 12)}


@dataclass(frozen=True)
class SqueezeNet:
    """Widths of each block: squeeze, expansion of 1 x 1, expansion of 3 x 3."""

    version: str
    stem: int
    channels: int
    fires: tuple[tuple[int, int, int], ...]
    head: ClassVar[str] = "classifier.1"
    pictures: ClassVar[Pictures] = Pictures()
    loads: ClassVar[str] = ""

    @staticmethod
    def of(shapes: Shapes) -> Architecture | None:
        stem = shapes.get("features.0.weight")
        for version, places in FIRES.items():
            names = [f"features.{place}.{{}}.weight" for place in places]
            if stem is None or len(stem) != 4 or not all(name.format("squeeze") in shapes for name in names):
                continue
            fires = tuple(
                (
                    shapes[name.format("squeeze")][0],
                    shapes[name.format("expand1x1")][0],
                    shapes[name.format("expand3x3")][0],
                )
                for name in names
            )
            found = SqueezeNet(version, stem[0], stem[1], fires)
            if fits(found, shapes):
                return found
        return None

    def body(self) -> nn.Module:
        return Body(self)


class Fire(nn.Module):
    """A squeeze, then two expansions whose channels are laid together."""

    def __init__(self, given: int, squeeze: int, one: int, three: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(given, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, one, 1)
        self.expand3x3 = nn.Conv2d(squeeze, three, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)


class Body(nn.Module):
    """The network up to the mean over positions."""

    pooled = "the mean over positions"

    def __init__(self, shape: SqueezeNet) -> None:
        super().__init__()
        kernel = 7 if shape.version == "1_0" else 3
        parts: dict[int, nn.Module] = {0: nn.Conv2d(shape.channels, shape.stem, kernel, 2), 1: nn.ReLU()}
        parts |= {place: nn.MaxPool2d(3, 2, ceil_mode=True) for place in POOLS[shape.version]}
        given = shape.stem
        for place, widths in zip(FIRES[shape.version], shape.fires, strict=True):
            parts[place] = Fire(given, *widths)
            given = widths[1] + widths[2]
        self.features = nn.Sequential(*(parts[place] for place in sorted(parts)))

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.features(pixel_values).mean((2, 3))  # type: ignore[no-any-return]
