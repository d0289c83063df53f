"""Compiled blocks: torch.compile fuses what a block does between its matrix products.

It takes tens of seconds before the first step and again in every process, so a plan has it only where a dry run says
that it pays back within the run. Steps alone are compiled; what asks for no gradient runs as ever, so that nothing is
compiled twice and answers do not depend on it.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from whet.errors import ConfigError
from whet.training.blocks import rewired


@contextmanager
def compiled(model: nn.Module, blocks: tuple[str, ...], wanted: bool) -> Iterator[None]:
    """Inside, the named blocks of ``model`` are compiled where they train, if that is wanted.

    Blocks that replay stands in for are left alone.

    Raises:
        ConfigError: it is wanted, and the model has no chain of blocks; or, inside, a block cannot be compiled here.
    """
    refusal = ConfigError(
        "The model has no chain of blocks, so none can be compiled.", where="machinery.compile", fix="leave it out"
    )
    with quietly(wanted), rewired(model, blocks, in_steps if wanted else None, refusal):
        yield


def in_steps(block: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
    """A block's forward, compiled where a gradient is asked for while it trains."""
    from torch._dynamo.exc import TorchDynamoException

    fast = torch.compile(forward, dynamic=True)

    def run(*args: Any, **kwargs: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return forward(*args, **kwargs)
        try:
            return fast(*args, **kwargs)
        except TorchDynamoException as error:
            raise ConfigError(
                f"A block cannot be compiled here: {reason_of(error)}.",
                where="machinery.compile",
                fix="set it to off, or leave it out; on a processor it needs a C++ compiler such as g++",
            ) from error

    return run


def reason_of(error: BaseException) -> str:
    """The first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")


@contextmanager
def quietly(wanted: bool) -> Iterator[None]:
    """Inside, nothing is compiled in processes of its own, which would outlive the run and count as its memory, and the
    tracer's look at the gradient of hidden states is not warned about."""
    if not wanted:
        yield
        return
    import torch._inductor.config as settings

    before = settings.compile_threads
    settings.compile_threads = 1
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
            yield
    finally:
        settings.compile_threads = before
