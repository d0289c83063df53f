"""A head that reads the first token gives the same features and gradients when the last block stops there."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from backbones.test_families import NARROW
from whet.backbones.first_token import first_position, trim_last_block
from whet.backbones.text_encoder import NativeBody, last_linear
from whet.backbones.text_layout import quiet_transformers

INPUTS = {
    "input_ids": torch.tensor([[1, 9, 11, 2], [1, 17, 2, 0]]),
    "attention_mask": torch.tensor([[1] * 4, [1, 1, 1, 0]]),
}


def native(name: str, **options: Any) -> NativeBody:
    from transformers import AutoConfig, AutoModelForSequenceClassification

    torch.manual_seed(0)
    with quiet_transformers():
        config = AutoConfig.for_model(name, **NARROW, num_labels=3, **options)
        model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager").eval()
    return NativeBody(model, last_linear(model, 3, Path()))


def gradients(body: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
    body.zero_grad(set_to_none=True)
    features = body(**INPUTS)
    features.square().sum().backward()
    return features.detach(), {name: p.grad.clone() for name, p in body.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["bert", "roberta", "electra"])
def test_features_and_gradients_stay_the_same(name: str) -> None:
    body = native(name)
    features, expected = gradients(body)
    assert trim_last_block(body, "model." + blocks(body)[-1], INPUTS)
    trimmed, found = gradients(body)
    torch.testing.assert_close(trimmed, features, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, expected[key], rtol=1e-4, atol=1e-6)


def test_the_last_block_sees_one_position_after_its_attention() -> None:
    body = native("bert")
    block = "model." + blocks(body)[-1]
    seen: list[int] = []
    body.get_submodule(f"{block}.intermediate").register_forward_hook(lambda *io: seen.append(io[2].shape[1]))
    body(**INPUTS)
    trim_last_block(body, block, INPUTS)
    seen.clear()
    body(**INPUTS)
    assert seen == [1]


def test_a_model_that_reads_every_token_is_left_alone() -> None:
    body = native("bert")
    block = "model." + blocks(body)[-1]

    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = body.model.get_submodule("bert")

        def forward(self, **inputs: Tensor) -> Tensor:
            hidden: Tensor = self.model(**inputs).last_hidden_state
            return hidden.mean(1)

    mean = Mean()
    before = mean(**INPUTS)
    assert not trim_last_block(mean, block.replace("model.bert.", "model."), INPUTS)
    assert torch.equal(mean(**INPUTS), before)
    assert not any(first_position in module._forward_pre_hooks.values() for module in mean.modules())


def blocks(body: NativeBody) -> tuple[str, ...]:
    from whet.backbones.cut import find_chain

    return find_chain(body.model)
