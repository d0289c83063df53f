"""Heads that read one token: what the last block would compute for the others is not computed.

A classification head of the BERT kind looks at the first token alone. In the last block the other tokens are needed
as keys and values, and for nothing after that: its output projection and its feed-forward part, ten parts in a
hundred of the whole network in six blocks, can run on one position. Whether a model is of this kind is found by
trying: with the trimmed block its features must be the same.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


def trim_last_block(body: nn.Module, block: str, inputs: Mapping[str, Tensor]) -> bool:
    """Let the last block go on with the first position once its attention is done, where nothing else is read.

    Args:
        body: Returns features (B, D); changed in place, by one hook that stays.
        block: Name of its last block.
        inputs: A small batch by name, (B, T), to try it on.

    Returns:
        Whether the block was trimmed; if not, the body is as it was.
    """
    with torch.no_grad():
        features = body(**inputs)
        place = joining_module(body, block, inputs)
        if place is None:
            return False
        hook = body.get_submodule(place).register_forward_pre_hook(first_position)
        try:
            trimmed = body(**inputs)
            same = features.shape == trimmed.shape and torch.allclose(features, trimmed, rtol=1e-5, atol=1e-6)
        except (RuntimeError, ValueError, TypeError, IndexError):  # whatever a model raises on another shape
            same = False
    if not same:
        hook.remove()
    return bool(same)


def joining_module(body: nn.Module, block: str, inputs: Mapping[str, Tensor]) -> str | None:
    """The first module inside the block that joins two streams (B, T, C): what attention found, and the residual."""
    length = next(iter(inputs.values())).shape[1]
    found: list[str] = []

    def note(name: str, args: tuple[Any, ...]) -> None:
        streams = [a for a in args if isinstance(a, Tensor) and a.dim() == 3 and a.shape[1] == length]
        if len(streams) == len(args) == 2:
            found.append(name)

    parts = [name for name, _ in body.named_modules() if name.startswith(f"{block}.")]
    hooks = [body.get_submodule(n).register_forward_pre_hook(lambda _, args, n=n: note(n, args)) for n in parts]
    try:
        body(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def first_position(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """(B, T, C) -> (B, 1, C), for every argument."""
    return tuple(tensor[:, :1] for tensor in args)
