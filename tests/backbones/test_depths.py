"""Laws of features behind each block: one forward pass, the model's own way to the head, and nothing left changed."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from whet.backbones.backbone import Backbone
from whet.backbones.depths import depth_features, whole_chain, why_not
from whet.backbones.text_encoder import TextEncoder

INPUTS = {"input_ids": torch.arange(5, 29).reshape(4, 6), "attention_mask": torch.ones(4, 6, dtype=torch.int64)}


def loaded(folder: Path, **settings: Any) -> Backbone:
    return TextEncoder(**settings).load(folder, outputs=3, seed=0)


def calls_of(backbone: Backbone) -> Counter[str]:
    """How often each block is called from now on."""
    calls: Counter[str] = Counter()
    for name in backbone.blocks:
        backbone.model.get_submodule(name).register_forward_hook(lambda *_, name=name: calls.update([name]))
    return calls


@pytest.mark.parametrize("head", ["pooled", "native"])
def test_every_block_runs_once_and_the_last_features_are_the_models_own(tiny_model: Path, head: str) -> None:
    backbone = loaded(tiny_model, head=head)
    chain = whole_chain(backbone)
    assert chain is not None
    with torch.inference_mode():
        own = backbone.model.body(**INPUTS)
        assert why_not(backbone.model, chain, INPUTS) == ""
        calls = calls_of(backbone)
        found = depth_features(backbone.model, chain, INPUTS)
    assert calls == dict.fromkeys(backbone.blocks, 1)
    assert len(found) == len(backbone.blocks) + 1
    assert torch.equal(found[-1], own)


@pytest.mark.parametrize("head", ["pooled", "native"])
def test_features_behind_a_block_are_those_of_a_model_that_ends_there(tiny_model: Path, head: str) -> None:
    backbone = loaded(tiny_model, head=head)
    chain = whole_chain(backbone)
    assert chain is not None
    with torch.inference_mode():
        found = depth_features(backbone.model, chain, INPUTS)
        layers = backbone.model.get_submodule(chain.chain[0].rpartition(".")[0])
        assert isinstance(layers, nn.ModuleList)
        for depth in range(len(layers) - 1, -1, -1):
            del layers[depth]
            assert torch.allclose(backbone.model.body(**INPUTS), found[depth], rtol=1e-5, atol=1e-6)


def test_a_model_whose_blocks_cannot_be_replaced_says_why(tiny_model: Path) -> None:
    backbone = loaded(tiny_model)
    chain = whole_chain(backbone)
    assert chain is not None
    last = backbone.model.get_submodule(chain.chain[-1])
    last.register_forward_hook(lambda module, args, output: setattr(module, "seen", output))

    def own_way(module: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        return output + last.seen.sum()  # type: ignore[union-attr,operator]

    backbone.model.body.register_forward_hook(own_way)
    assert why_not(backbone.model, chain, INPUTS) == ""  # the same batch leaves the same sum
    backbone.model.body.register_forward_hook(lambda module, args, output: output + torch.rand(()))
    assert "gives other features" in why_not(backbone.model, chain, INPUTS)
