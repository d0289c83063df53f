"""Gradient checkpointing: blocks keep their input alone and run again in the backward.

What a block computes for its own use is most of a step's memory. Run again with the same draws, it is the same to the
last bit, so gradients are too; a step costs one more forward of the blocks, about a third of its time.

Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174, with the blocks of the
chain as segments.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from whet.errors import ConfigError
from whet.training.blocks import rewired


@contextmanager
def recomputed(model: nn.Module, blocks: tuple[str, ...], wanted: bool) -> Iterator[None]:
    """Inside, the named blocks of ``model`` are run again in the backward, if that is wanted.

    Blocks that replay stands in for are left alone; one that asks for no gradient runs as ever.

    Raises:
        ConfigError: it is wanted, and the model has no chain of blocks.
    """
    refusal = ConfigError(
        "The model has no chain of blocks, so none can be computed again.",
        where="training.gradient_checkpointing",
        fix="leave it out, and choose a smaller training.micro_batch_size",
    )
    with rewired(model, blocks, run_again if wanted else None, refusal):
        yield


def run_again(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A block's forward that keeps its input alone where a gradient is asked for."""

    def kept(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=True, **kwargs)

    return kept
