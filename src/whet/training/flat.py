"""Trainable masters side by side: one tensor a rate group for the optimizer, views of it for everybody else.

A model has a hundred small tensors. Clipping, AdamW and the cast into the working weights cost more for starting a
kernel on each than for the arithmetic, so they work on whole groups. An optimizer that needs shapes gets views.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(eq=False)
class FlatGroup:
    """Parameters that share a rate and a weight decay.

    Args:
        names: In the order in which they lie.
        whole: (N,) all values; its gradient, (N,) as well, is there from the start.
        shapes: Of each parameter.
        pull: Strength of the decay towards ``start``, (N,) the values at the beginning; 0 keeps none.
    """

    names: tuple[str, ...]
    whole: nn.Parameter
    shapes: tuple[torch.Size, ...]
    pull: float = 0.0
    start: Tensor | None = None

    @staticmethod
    @torch.no_grad()
    def of(masters: nn.Module, names: list[str], pull: float = 0.0) -> "FlatGroup":
        """Lay the named parameters side by side; they become views of the whole."""
        every = dict(masters.named_parameters())
        parameters = [every[name] for name in names]
        whole = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
        whole.grad = torch.zeros_like(whole)
        start = whole.detach().clone() if pull else None
        group = FlatGroup(tuple(names), whole, tuple(p.shape for p in parameters), pull, start)
        for parameter, view in zip(parameters, group.split(whole.detach()), strict=True):
            parameter.data = view
        return group

    def __len__(self) -> int:
        return self.whole.numel()

    def shaped(self) -> list[nn.Parameter]:
        """Every parameter with its shape, values and gradient, as views of the whole."""
        assert self.whole.grad is not None
        found = [nn.Parameter(view) for view in self.split(self.whole.detach())]
        for parameter, gradient in zip(found, self.split(self.whole.grad), strict=True):
            parameter.grad = gradient
        return found

    def split(self, whole: Tensor) -> list[Tensor]:
        """Views of a tensor that lies like the group, in the order of ``names``."""
        parts = torch.split(whole, [shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    @torch.no_grad()
    def pull_back(self, rate: float) -> None:
        """Decay towards the start, decoupled from the gradient."""
        if self.start is not None:
            self.whole.lerp_(self.start, min(1.0, rate * self.pull))

    @torch.no_grad()
    def release(self, masters: nn.Module) -> None:
        """Give every parameter storage of its own again."""
        every = dict(masters.named_parameters())
        for name in self.names:
            every[name].data = every[name].data.clone()
