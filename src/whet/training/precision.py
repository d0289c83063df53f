"""Two views of one model: float32 masters, which are kept, and working weights, which do the arithmetic.

In bfloat16 the working copy is cast once an update, not at every call as autocast does; optimizer state and the
masters stay float32 (Micikevicius et al. 2017, "Mixed Precision Training", arXiv:1710.03740). Scaler and head are
always float32. In float32 both views are the same tensors.
"""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from whet.backbones.backbone import HeadedModel, to_bfloat16
from whet.backbones.precisions import Precision


@dataclass(eq=False)
class Working:
    """The masters and the model that runs.

    Args:
        masters: Float32 model; what is saved.
        live: What forward and backward run on; the same object in float32.
        precision: What it computes in.
    """

    masters: HeadedModel
    live: HeadedModel
    precision: Precision = "float32"

    @staticmethod
    def of(model: HeadedModel, precision: Precision, device: torch.device) -> "Working":
        """A working view of ``model``, which becomes the masters."""
        torch.set_float32_matmul_precision("medium" if precision == "float32-medium" else "highest")
        if precision != "bfloat16":
            return Working(model.to(device), model, precision)
        live = copy.deepcopy(model).to(device)
        to_bfloat16(live.body)
        return Working(model.to(device), live, precision)

    @property
    def shared(self) -> bool:
        return self.masters is self.live

    def trainable(self, names: Iterable[str]) -> None:
        """Only the named parameters of the live model ask for gradients."""
        wanted = set(names)
        for name, parameter in self.live.named_parameters():
            parameter.requires_grad_(name in wanted)
        for parameter in self.masters.parameters() if not self.shared else ():
            parameter.requires_grad_(False)

    @torch.no_grad()
    def pull_gradients(self, into: Mapping[str, Tensor], *, add: bool) -> None:
        """Move the live gradients into those of the masters, or add them, and clear them."""
        live = dict(self.live.named_parameters())
        reached = {name: live[name] for name in into if live[name].grad is not None}
        targets = [into[name] for name in reached]
        found = [p.grad for p in reached.values() if p.grad is not None]
        if add:
            torch._foreach_add_(targets, found)
        else:
            torch._foreach_copy_(targets, found)
            for name in into.keys() - reached.keys():
                into[name].zero_()
        for parameter in reached.values():
            parameter.grad = None

    @torch.no_grad()
    def push(self, masters: Mapping[str, Tensor]) -> None:
        """Cast the given masters into the live model."""
        if self.shared:
            return
        live = dict(self.live.named_parameters())
        torch._foreach_copy_([live[name] for name in masters], list(masters.values()))

    @torch.no_grad()
    def divide_head(self, temperature: float) -> None:
        """Outputs become what they were, divided by a temperature."""
        self.masters.head.weight.div_(temperature)
        self.masters.head.bias.div_(temperature)
        self.push_head()

    @torch.no_grad()
    def push_head(self) -> None:
        """Copy scaler and head, after a head was solved."""
        if not self.shared:
            self.live.scaler.load_state_dict(self.masters.scaler.state_dict())
            self.live.head.load_state_dict(self.masters.head.state_dict())


def parameter_dict(model: nn.Module, names: Iterable[str]) -> dict[str, Tensor]:
    """The named parameters, in the order of ``names``."""
    every = dict(model.named_parameters())
    return {name: every[name] for name in names}
