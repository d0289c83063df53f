"""Did everything move that should, and nothing else? Law 5, looked at around every stage.

A stage is right about what it trains only if no frozen tensor or buffer changed meanwhile and a gradient reached every
trainable one. The first is seen by a hash of the bits before and after, at the speed of memory (22M float32 numbers are
88 MB: some milliseconds a look); the second by the optimizer's moments, which are zero only where every
gradient was, or by the same hashes for an optimizer without moments. Steps pay nothing.
"""

from collections.abc import Iterable, Iterator, Mapping

import torch
import xxhash
from torch import Tensor, nn

from whet.training.loop import FitState
from whet.training.precision import Working

LEAST_STEPS = 3
"""Before so many updates a tensor may rightly not have moved: the first matrix of LoRA has no gradient at first."""
MOMENTS = ("exp_avg", "momentum_buffer")
"""Means of gradients, as optimizers call them."""
FIRST = 64
"""Numbers looked at before all of a tensor are."""


def hashes(working: Working) -> dict[str, tuple[int, ...]]:
    """Of every parameter and buffer by name: of the masters, and of the model that runs where it is another."""
    models = [working.masters] if working.shared else [working.masters, working.live]
    found: dict[str, tuple[int, ...]] = {}
    for model in models:
        for name, tensor in tensors_of(model):
            found[name] = (*found.get(name, ()), hash_of(tensor))
    return found


def tensors_of(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Parameters and buffers."""
    yield from model.named_parameters()
    yield from model.named_buffers()


def hash_of(tensor: Tensor) -> int:
    """Of its bits; of a tensor on another device their sum as whole numbers, which is made there."""
    if not tensor.numel():
        return 0
    bits = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    if bits.device.type != "cpu":
        return int(bits.sum(dtype=torch.int64))
    return xxhash.xxh3_64_intdigest(bits.numpy().data)


def strays(before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]], moving: Iterable[str]) -> list[str]:
    """Names that changed, came or went, but for those that may."""
    wanted = set(moving)
    return [name for name in before.keys() | after.keys() if name not in wanted and before.get(name) != after.get(name)]


def never_moved(
    state: FitState, before: dict[str, tuple[int, ...]], after: dict[str, tuple[int, ...]], still: Iterable[str]
) -> list[str]:
    """Trainable names that no gradient reached in at least ``LEAST_STEPS`` updates.

    Args:
        state: At the end of the stage.
        still: Names whose gradient is zero by construction.
    """
    if state.step - state.uncounted < LEAST_STEPS:
        return []
    kept_early = 0 <= state.best_step < LEAST_STEPS  # the weights of then were put back
    kept = {(kind, name): one for (kind, _, name), one in split_keys(state.optimizer.tensors())}
    found = []
    for name in state.names:
        moments = [kept[kind, name] for kind in MOMENTS if (kind, name) in kept]
        unmoved = before.get(name) == after.get(name) and not kept_early
        if not any(has_values(one) for one in moments) if moments else unmoved:
            found.append(name)
    return [name for name in found if name not in set(still)]


def split_keys(tensors: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str, str, str], Tensor]]:
    """Keys of the form kind/parameter in their parts."""
    for key, one in tensors.items():
        yield key.partition("/"), one


def has_values(tensor: Tensor) -> bool:
    """Whether any number differs from zero; mostly one of the first does."""
    flat = tensor.reshape(-1)
    return bool(flat[:FIRST].any()) or bool(flat.any())


def listed(names: list[str], most: int = 3) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(sorted(names)[:most]) + more
