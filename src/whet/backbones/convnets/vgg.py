"""VGG as torchvision names it: stacks of 3 x 3 convolutions, with norms or without, and two wide linear layers.

Simonyan and Zisserman 2015, arXiv:1409.1556. Where the pools stand follows from the names: a place between two
convolutions that neither a convolution, a norm nor a ReLU takes.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from whet.backbones.convnets.architecture import Architecture, Pictures, Shapes, fits

SIDE = 7
"""Of the square that the linear layers see."""


@dataclass(frozen=True)
class VGG:
    """Channels of the convolutions of each stage, whether norms follow, and widths of the linear layers."""

    channels: int
    stages: tuple[tuple[int, ...], ...]
    norms: bool
    wide: tuple[int, int]
    head: ClassVar[str] = "classifier.6"
    pictures: ClassVar[Pictures] = Pictures()

    @property
    def loads(self) -> str:
        name = NAMED.get(tuple(len(stage) for stage in self.stages))
        usual = self.channels == 3 and self.wide == (4096, 4096) and self.stages[0][0] == 64
        return (
            f"torchvision.models.vgg{name}{'_bn' if self.norms else ''}(num_classes=classes)" if name and usual else ""
        )

    @staticmethod
    def of(shapes: Shapes) -> Architecture | None:
        places = sorted(
            int(name.split(".")[1])
            for name, shape in shapes.items()
            if name.startswith("features.") and name.count(".") == 2 and name.endswith(".weight") and len(shape) == 4
        )
        wide = [shapes.get(f"classifier.{place}.weight") for place in (0, 3)]
        if not places or places[0] != 0 or None in wide:
            return None
        norms = f"features.{places[0] + 1}.running_mean" in shapes
        step = 3 if norms else 2
        stages: list[list[int]] = [[]]
        for place, following in zip(places, [*places[1:], places[-1] + step + 1], strict=True):
            stages[-1].append(shapes[f"features.{place}.weight"][0])
            if following != place + step:  # a pool stands between
                stages.append([])
        first, second = (int(shape[0]) for shape in wide if shape is not None)
        depths = tuple(tuple(stage) for stage in stages if stage)
        found = VGG(shapes["features.0.weight"][1], depths, norms, (first, second))
        return found if fits(found, shapes) else None

    def body(self) -> nn.Module:
        return Body(self)


NAMED: dict[tuple[int, ...], int] = {(1, 1, 2, 2, 2): 11, (2, 2, 2, 2, 2): 13, (2, 2, 3, 3, 3): 16, (2, 2, 4, 4, 4): 19}
"""Convolutions a stage -> how deep the network is called."""


class Body(nn.Module):
    """The network up to the dropout before the last layer."""

    pooled = "two linear layers over every position"

    def __init__(self, shape: VGG) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        given = shape.channels
        for stage in shape.stages:
            for width in stage:
                parts += [
                    nn.Conv2d(given, width, 3, padding=1),
                    *([nn.BatchNorm2d(width)] if shape.norms else []),
                    nn.ReLU(),
                ]
                given = width
            parts.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*parts)
        self.avgpool = nn.AdaptiveAvgPool2d(SIDE)
        first, second = shape.wide
        self.classifier = nn.Sequential(
            nn.Linear(given * SIDE * SIDE, first),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(first, second),
            nn.ReLU(),
            nn.Dropout(),
        )

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(pixel_values)).flatten(1))  # type: ignore[no-any-return]
