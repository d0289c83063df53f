"""LoRA's layer as products alone: what peft's takes in elementwise steps is folded into them.

``y = x W' + b + s (x A') B'``, where ``'`` transposes. peft forms the update by itself, scales it and adds it, and
autograd does the same backwards; here each product adds into what is there already. The values are those of peft's
layer but for rounding, and merging, saving and loading stay peft's.

Source: Hu et al. 2021, "LoRA", arXiv:2106.09685, section 4.1.
"""

from typing import Any, cast

import torch
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class LowRankLinear(Linear):  # type: ignore[misc]  # peft has no types
    """peft's LoRA layer beside a plain linear one, with one adapter and no dropout of its own."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(..., out) from (..., in)."""
        (name,) = self.lora_A
        base, down, up = self.base_layer, self.lora_A[name].weight, self.lora_B[name].weight
        trained = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
        other = self.merged or self.disable_adapters or list(self.active_adapters) != [name]
        if args or kwargs or trained or other or x.dtype != down.dtype or torch.is_autocast_enabled(x.device.type):
            return cast("Tensor", super().forward(x, *args, **kwargs))
        found: Tensor = LowRank.apply(x, base.weight, base.bias, down, up, self.scaling[name])  # type: ignore[no-untyped-call]
        return found


class LowRank(torch.autograd.Function):
    """The layer and its gradients; the weight and bias beside the update are frozen and get none."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        """x (..., in), weight (out, in), bias (out,), down (rank, in), up (out, rank)."""
        rows = x.reshape(-1, x.shape[-1])
        inner = rows.mm(down.t())
        result = x.new_empty(*x.shape[:-1], weight.shape[0])  # a view could not be written to by what comes after
        flat = result.view(-1, weight.shape[0])
        if bias is None:
            torch.mm(rows, weight.t(), out=flat)
        else:
            torch.addmm(bias, rows, weight.t(), out=flat)
        flat.addmm_(inner, up.t(), alpha=scale)
        ctx.save_for_backward(rows, inner, weight, down, up)
        ctx.scale = scale
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, down and up from that of the result."""
        rows, inner, weight, down, up = ctx.saved_tensors
        (above,) = outer
        grad = above.reshape(-1, above.shape[-1])
        through = grad.mm(up).mul_(ctx.scale)
        needs = ctx.needs_input_grad
        below = grad.mm(weight).addmm_(through, down).view(*above.shape[:-1], weight.shape[1]) if needs[0] else None
        of_down = through.t().mm(rows) if needs[3] else None
        of_up = grad.t().mm(inner).mul_(ctx.scale) if needs[4] else None
        return below, None, None, of_down, of_up, None


def quickened(model: nn.Module) -> None:
    """Exchange peft's plain LoRA layers for ours, in place; those with more to them stay as they are."""
    for module in model.modules():
        if type(module) is Linear and is_plain(module):
            module.__class__ = LowRankLinear


def is_plain(layer: Linear) -> bool:
    """Whether a layer is what ``LowRank`` computes: one adapter beside a linear layer, with nothing more to it."""
    base = layer.base_layer
    return (
        type(base) is nn.Linear
        and not (base._forward_hooks or base._forward_pre_hooks or base._backward_hooks)
        and len(layer.lora_A) == 1
        and not layer.lora_variant
        and not layer.fan_in_fan_out
        and all(isinstance(one, nn.Identity) for one in layer.lora_dropout.values())
        and all(type(one) is nn.Linear and one.bias is None for one in (*layer.lora_A.values(), *layer.lora_B.values()))
    )
