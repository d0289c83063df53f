"""The quick LoRA layer is peft's: same answers, same gradients, and what it cannot compute is left to peft."""

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn

from whet.backbones.text_encoder import TextEncoder
from whet.methods.lora import LoRA
from whet.methods.low_rank import LowRankLinear, quickened


def layers(*, bias: bool = True, dtype: torch.dtype = torch.float64, **settings: Any) -> tuple[nn.Module, nn.Module]:
    """A small model with an adapter that is not zero, and the same under ``quickened``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5, bias=bias), nn.Tanh(), nn.Linear(5, 4, bias=bias))
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0", "2"], **settings)
    plain = peft.inject_adapter_in_model(config, model)
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    plain = plain.to(dtype)
    quick = copy.deepcopy(plain)
    quickened(quick)
    return plain, quick


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of everything that trains, and of the input."""
    x = x.clone().requires_grad_()
    model(x).square().sum().backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return {**found, "input": x.grad}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 6), (0, 6)])
@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}], ids=repr)
def test_answers_and_gradients_are_those_of_peft(bias: bool, shape: tuple[int, ...], settings: dict[str, Any]) -> None:
    plain, quick = layers(bias=bias, **settings)
    x = torch.randn(*shape, dtype=torch.float64)
    assert isinstance(quick[0], LowRankLinear)
    torch.testing.assert_close(quick(x), plain(x))
    expected, found = gradients(plain, x), gradients(quick, x)
    assert len(expected) == 5  # two thin matrices a layer, and the input
    torch.testing.assert_close(found, expected)


def test_gradients_are_right_by_finite_differences() -> None:
    _, quick = layers()
    layer = quick[0]

    def answer(x: Tensor, down: Tensor, up: Tensor) -> Tensor:
        named = {"lora_A.default.weight": down, "lora_B.default.weight": up}
        found: Tensor = torch.func.functional_call(layer, named, (x,))
        return found

    inputs = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((3, 6), (2, 6), (5, 2))]
    assert torch.autograd.gradcheck(answer, inputs)


def test_bfloat16_is_no_further_from_the_truth_than_peft_is() -> None:
    exact, _ = layers()
    plain, quick = layers(dtype=torch.bfloat16)
    x = torch.randn(64, 6, dtype=torch.float64)
    truth = exact(x)
    far = [(model(x.bfloat16()).double() - truth).square().mean().sqrt() for model in (quick, plain)]
    assert far[0] <= 1.2 * far[1]


def test_an_adapter_switched_off_or_merged_answers_as_peft_says() -> None:
    plain, quick = layers()
    x = torch.randn(4, 6, dtype=torch.float64)
    for model in (plain, quick):
        for module in model.modules():
            if isinstance(module, Linear):
                module.enable_adapters(False)
    torch.testing.assert_close(quick(x), plain(x))
    plain, quick = layers()
    tuned = plain(x)
    for module in quick.modules():
        if isinstance(module, Linear):
            module.merge(safe_merge=True)
    torch.testing.assert_close(quick(x), tuned)


@pytest.mark.parametrize(
    "settings", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}], ids=lambda one: next(iter(one))
)
def test_layers_with_more_to_them_stay_with_peft(settings: dict[str, Any]) -> None:
    plain, quick = layers(**settings)
    assert type(quick[0]) is Linear
    x = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(quick.eval()(x), plain.eval()(x))


def test_a_base_weight_that_trains_gets_its_gradient() -> None:
    plain, quick = layers()
    x = torch.randn(4, 6, dtype=torch.float64)
    for model in (plain, quick):
        model[0].base_layer.weight.requires_grad_(True)
    expected, found = gradients(plain, x), gradients(quick, x)
    assert "0.base_layer.weight" in found
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shape", [(7, 6), (2, 3, 6)])
def test_what_comes_after_may_write_into_its_answer(shape: tuple[int, ...]) -> None:
    plain, quick = (nn.Sequential(model[0], nn.ReLU(inplace=True)) for model in layers())
    x = torch.randn(*shape, dtype=torch.float64)
    torch.testing.assert_close(gradients(quick, x), gradients(plain, x))


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    _, quick = layers()
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(quick[0](x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


def test_under_autocast_and_with_hooks_the_layer_is_that_of_peft() -> None:
    plain, quick = layers(dtype=torch.float32)
    x = torch.randn(4, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quick(x), plain(x))
    plain, _ = layers()
    plain[0].base_layer.register_forward_hook(lambda *_: None)
    quickened(plain)
    assert [type(plain[0]), type(plain[2])] == [Linear, LowRankLinear]


def test_lora_trains_on_it(tiny_model: Path) -> None:
    backbone = LoRA(rank=2).prepare(TextEncoder().load(tiny_model, outputs=3, seed=0))
    found = [type(module) for module in backbone.model.modules() if isinstance(module, Linear)]
    assert found
    assert set(found) == {LowRankLinear}
    variant = LoRA(rank=2, directions=True).prepare(TextEncoder().load(tiny_model, outputs=3, seed=0))
    assert not any(isinstance(module, LowRankLinear) for module in variant.model.modules())
