"""Laws of chains that lie in stages: every block is found, and only what nothing else bypasses is cut."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from whet.backbones.backbone import Backbone, HeadedModel
from whet.backbones.cut import ChainCut
from whet.backbones.describe import describe
from whet.backbones.passing import find_passing

EXAMPLE = {"x": torch.linspace(-1, 1, 2 * 3 * 16 * 16).reshape(2, 3, 16, 16)}


class Block(nn.Module):
    """A residual block, whose sum is written into its own memory as some libraries do."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.activation(self.first(x)))
        out += x
        return self.activation(out)  # type: ignore[no-any-return]


class Smaller(nn.Module):
    """Half the side, twice the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, 2 * width, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.convolution(x))  # type: ignore[no-any-return]


class Stages(nn.Module):
    """A stem, three stages of two blocks with something between them that makes pictures smaller, and the mean.

    Args:
        skip: Whether the stem's output is added behind the second stage.
        twice: Whether every block runs twice.
    """

    def __init__(self, *, skip: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.stages = nn.ModuleList(
            nn.Sequential(*([Smaller(width // 2)] if width > 4 else []), Block(width), Block(width))
            for width in (4, 8, 16)
        )
        self.skip, self.twice = skip, twice

    def forward(self, x: Tensor) -> Tensor:
        x = start = self.pool(self.stem(x))
        for number, stage in enumerate(self.stages):
            for block in stage if isinstance(stage, nn.Sequential) else ():
                x = block(x)
                x = block(x) if self.twice and isinstance(block, Block) else x
            if self.skip and number == 1:
                x = x + start.mean()
        return x.mean((2, 3))


def described(**settings: Any) -> Backbone:
    torch.manual_seed(0)
    model = HeadedModel(Stages(**settings), 16, 3).eval()
    nn.init.normal_(model.head.weight)
    return describe(model, (), EXAMPLE, ragged=False)


def chain_cuts(backbone: Backbone) -> list[ChainCut]:
    return [cut for cut in backbone.cuts if isinstance(cut, ChainCut)]


def test_blocks_of_every_stage_are_one_chain_with_what_lies_between_them() -> None:
    backbone = described()
    assert backbone.blocks == tuple(
        f"body.stages.{stage}.{place}" for stage, places in ((0, 2), (1, 3), (2, 3)) for place in range(places)
    )
    assert backbone.stem == ("body.stem",)
    assert [cut.depth for cut in chain_cuts(backbone)] == list(range(8))


def test_replay_from_every_cut_gives_the_same_answers_whatever_the_input_is() -> None:
    backbone = described()
    with torch.no_grad():
        plain = backbone.model(**EXAMPLE)
        for cut in chain_cuts(backbone):
            held = cut.capture(backbone.model, EXAMPLE)
            assert held["hidden"][0].numel() == cut.numbers(backbone.model)
            with cut.inject(backbone.model) as holder:
                holder.tensors = held
                assert torch.equal(backbone.model(x=torch.zeros_like(EXAMPLE["x"])), plain), cut.name
        assert torch.equal(backbone.model(**EXAMPLE), plain)


def test_a_cut_that_something_bypasses_is_left_out() -> None:
    """What the stem gives is added behind the second stage too: once a block has changed it, nobody holds it."""
    backbone = described(skip=True)
    assert len(backbone.blocks) == 5
    assert [cut.depth for cut in chain_cuts(backbone)] == [0]


def test_weights_that_run_twice_are_no_chain_in_stages() -> None:
    assert find_passing(described(twice=True).model, EXAMPLE).blocks == ()


@pytest.mark.parametrize("depth", [2, 5])
def test_what_lies_below_a_cut_is_every_module_before_it(depth: int) -> None:
    backbone = described()
    cut = chain_cuts(backbone)[depth]
    below = {name for name, _ in backbone.model.named_parameters() if name.startswith(cut.below)}
    above = {name for name, _ in backbone.model.named_parameters()} - below
    assert all(name.startswith(("body.stages", "head")) for name in above)
    assert below == {
        name
        for name, _ in backbone.model.named_parameters()
        if name.startswith(("body.stem", *backbone.blocks[:depth]))
    }
