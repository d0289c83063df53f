"""What would the features be if the model ended after each of its blocks? All of them, from one forward pass.

What leaves each block goes on as what leaves the last one does: through the final norm, the pooling and whatever else
lies between the blocks and the head. Stand-ins take the place of all blocks for that, as they do under replay, so
every block computes once.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from whet.backbones.backbone import Backbone, HeadedModel
from whet.backbones.cut import ChainCut, first_tensor

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Largest relative difference between the model's own features and those by way of the stand-ins."""


def whole_chain(backbone: Backbone) -> ChainCut | None:
    """The cut above every block; None for a model without a chain of blocks."""
    return next((replace(cut, depth=len(cut.chain)) for cut in backbone.cuts if isinstance(cut, ChainCut)), None)


def depth_features(model: HeadedModel, chain: ChainCut, inputs: Mapping[str, Tensor]) -> list[Tensor]:
    """Features (B, D) float32 before the first block and behind every block; the last are the model's own."""
    streams, features = streams_of(model, chain, inputs)
    return [*(ended(model, chain, inputs, stream) for stream in streams[:-1]), features]


def streams_of(model: HeadedModel, chain: ChainCut, inputs: Mapping[str, Tensor]) -> tuple[list[Tensor], Tensor]:
    """What enters the first block and what leaves each, and the model's own features; one forward pass."""
    found: dict[int, Tensor] = {}

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found[0] = first_tensor(args, kwargs)

    def leave(depth: int, output: Any) -> None:
        found[depth] = output[0] if isinstance(output, tuple) else output

    with ExitStack() as hooks:
        first = model.get_submodule(chain.chain[0])
        hooks.callback(first.register_forward_pre_hook(enter, with_kwargs=True).remove)
        for depth, name in enumerate(chain.chain, start=1):
            hook = model.get_submodule(name).register_forward_hook(lambda *call, depth=depth: leave(depth, call[2]))
            hooks.callback(hook.remove)
        features = model.body(**inputs).float()
    return [found[depth] for depth in range(len(chain.chain) + 1)], features


def ended(model: HeadedModel, chain: ChainCut, inputs: Mapping[str, Tensor], stream: Tensor) -> Tensor:
    """Features (B, D) of a model whose last block left ``stream``."""
    with chain.inject(model) as holder:
        holder.tensors = {"hidden": stream}
        found: Tensor = model.body(**inputs).float()
    return found


def why_not(model: HeadedModel, chain: ChainCut, inputs: Mapping[str, Tensor]) -> str:
    """Why features cannot be read behind each block; empty where they can, because the last block's are right."""
    try:
        with torch.inference_mode():
            streams, features = streams_of(model, chain, inputs)
            again = ended(model, chain, inputs, streams[-1])
            shapes = {tuple(ended(model, chain, inputs, stream).shape) for stream in streams}
    except (TypeError, ValueError, AttributeError, RuntimeError, LookupError) as error:  # whatever a model raises
        return f"its blocks cannot be replaced ({' '.join(str(error).split(chr(10), 1)[0].split())})"
    if shapes != {tuple(features.shape)}:
        return "what leaves its blocks has different shapes"
    far = float((again - features).abs().max() / features.abs().max().clamp(min=1e-12))
    limit = TOLERANCE.get(streams[-1].dtype, 1e-5)
    return "" if far <= limit else f"the way from its last block to the head gives other features ({far:.1e} apart)"
