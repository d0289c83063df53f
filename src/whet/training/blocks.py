"""Blocks of a model that run in another way for a while, and are afterwards what they were."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from whet.errors import ConfigError

Forward = Callable[..., Any]
Change = Callable[[nn.Module, Forward], Forward]


@contextmanager
def rewired(model: nn.Module, blocks: tuple[str, ...], change: Change | None, refusal: ConfigError) -> Iterator[None]:
    """Inside, each named block's forward is what ``change`` makes of it; blocks that replay stands in for stay.

    Args:
        change: A block and its forward to another forward; None changes nothing.
        refusal: Raised if something is to be changed, and the model has no chain of blocks.

    Raises:
        ConfigError: the refusal.
    """
    if change is not None and not blocks:
        raise refusal
    own: list[tuple[nn.Module, Any]] = []
    try:
        for name in blocks:
            block = model.get_submodule(name)
            if change is None or hasattr(block, "original"):  # a stand-in of replay
                continue
            before, forward = block.__dict__.get("forward"), change(block, block.forward)
            block.forward = forward
            own.append((block, before))
        yield
    finally:
        for block, before in own:
            del block.forward
            if before is not None:  # one that it had in place of its class's
                block.forward = before
