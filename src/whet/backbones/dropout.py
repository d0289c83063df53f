"""Dropout from random bytes: on a processor a tenth of the cost of drawing one number an element.

The share dropped is rounded to 1/256. Draws come from torch's global generator, which the loop seeds for every
micro-batch, so a resumed run drops what an unbroken one would have dropped.
"""

from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from whet.errors import ConfigError


class QuickDropout(nn.Dropout):
    """Zeroes a share ``p`` of the elements while training and scales the rest by ``1 / (1 - p)``.

    Shapes:
        input: any. Returns the same shape and dtype. On other devices than a processor torch's own is used.

    Source: Srivastava et al. 2014, "Dropout", JMLR 15.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        limit = round(self.p * 256)
        if not self.training or limit <= 0:
            return input
        if input.device.type != "cpu" or limit >= 256:
            return super().forward(input)
        if torch.compiler.is_compiling():  # the same bytes from an operation that is not looked into
            seen: Tensor = random_bytes(input.detach()) >= limit
            return input * seen.to(input.dtype) * (256.0 / (256 - limit))
        drawn = draw_bytes(input).to(input.dtype)  # exact up to 256
        scale = torch.tensor(256.0 / (256 - limit), dtype=input.dtype).expand(input.shape)
        kept: Tensor = torch.ops.aten.threshold_backward(scale, drawn, limit - 0.5)  # one kernel: 0, or the scale
        return input * kept


def draw_bytes(like: Tensor) -> Tensor:
    """Random bytes, uint8 of another tensor's shape."""
    words = torch.empty(-(-like.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.uint8)[: like.numel()].view(like.shape)


@torch.library.custom_op("whet::random_bytes", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def random_bytes(like: Tensor) -> Tensor:
    """``draw_bytes`` for compiled code: drawn when it runs, never twice for one draw."""
    return draw_bytes(like)


@random_bytes.register_fake
def _(like: Tensor) -> Tensor:
    return like.new_empty(like.shape, dtype=torch.uint8)


def with_dropout(family: Any, share: float | None) -> Any:
    """The family, dropping this share of hidden states while training; None keeps what it says.

    Raises:
        ConfigError: its dropout cannot be set, or it names another one itself.
    """
    if share is None:
        return family
    if not any(entry.name == "dropout" for entry in fields(family)):
        raise ConfigError(
            f"The dropout of a {type(family).__name__} cannot be set.",
            where="training.dropout",
            fix="leave it out",
        )
    if family.dropout not in (None, share):
        raise ConfigError(
            f"The backbone names a dropout of {family.dropout:g}, and training one of {share:g}.",
            where="training.dropout",
            fix="leave backbone.dropout out",
        )
    return replace(family, dropout=share)


def drops(model: nn.Module) -> bool:
    """Whether anything is dropped while the model trains."""
    return any(module.p > 0 for module in model.modules() if isinstance(module, nn.Dropout))


def quicken(model: nn.Module) -> None:
    """Replace every plain dropout of a model by the quick one."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                setattr(module, name, QuickDropout(child.p))
