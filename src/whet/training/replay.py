"""Replay: what lies below a cut runs once, and its activations come back from a cache while the rest trains.

Never trusted, always verified: at the start of a stage and again after its first update, outputs and gradients
under replay must equal, bit by bit, those of the plain model with its prefix in evaluation mode, and cached values
must be near fresh ones computed in another batch shape. A model that fails trains without replay: slower, not wrong.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whet.backbones.backbone import Cut, HeadedModel, Holder
from whet.data.ragged import Ragged, by_length
from whet.modalities.modality import Processor
from whet.tasks.task import Batch, Examples, Term
from whet.training.batches import make_batch, pad_tensors
from whet.training.cache import ActivationCache, content_keys
from whet.training.draws import seed_torch
from whet.training.events import Event, Progressed
from whet.training.memory import trim_heap

Array = np.ndarray[Any, Any]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Largest relative difference between a cached value and a fresh one in another batch shape."""
TRIMMED = 16
"""Batches of ever other lengths after which the heap is trimmed."""


def activations(
    model: HeadedModel,
    cut: Cut,
    examples: Examples,
    processor: Processor,
    cache: ActivationCache | None,
    *,
    stage: str,
    most_tokens: int,
) -> Generator[Event, None, dict[str, Ragged]]:
    """What crosses the cut for every example: from the cache where it is there, computed where not.

    Runs in evaluation mode, longest batches first, and trims every tensor to its example's true length.
    """
    if cache is None:
        return (yield from run_prefix(model, cut, examples, processor, stage=stage, most_tokens=most_tokens))
    keys = content_keys(examples)
    missing = cache.missing(keys)
    if len(missing):
        some = pick(examples, missing)
        found = yield from run_prefix(model, cut, some, processor, stage=stage, most_tokens=most_tokens)
        cache.add(keys[missing], found)
    return cache.get(keys)


def pick(examples: Examples, index: Array) -> Examples:
    """Only the examples at ``index``; for their inputs, not their rows."""
    return replace(
        examples,
        inputs={name: ragged.take(index) for name, ragged in examples.inputs.items()},
        row=examples.row[index],
        part=examples.part[index],
        lengths=examples.lengths[index],
    )


def run_prefix(
    model: HeadedModel, cut: Cut, examples: Examples, processor: Processor, *, stage: str, most_tokens: int
) -> Generator[Event, None, dict[str, Ragged]]:
    """Compute what crosses the cut. Allocates the whole result at once, as 16-bit patterns for bfloat16."""
    lengths = examples.lengths
    device = next(model.parameters()).device
    found: dict[str, Ragged] = {}
    done, total = 0, int(lengths.sum())
    model.eval()
    with torch.inference_mode():
        for number, index in enumerate(by_length(lengths, most_tokens), start=1):
            batch = make_batch(replace(examples, targets=None), processor, index)
            tensors = cut.capture(model, to_device(batch.inputs, device))
            for name, tensor in tensors.items():
                if name not in found:
                    found[name] = room_for(tensor, lengths if cut.ragged else None, len(examples))
                store(found[name], index, as_array(tensor), cut.ragged)
            done += int(lengths[index].sum())
            if number % TRIMMED == 0 or done == total:
                trim_heap()
            yield Progressed(stage=stage, done=done, total=total, unit=processor.unit)
    return found


def room_for(sample: Tensor, lengths: Array | None, number: int) -> Ragged:
    """Empty arrays for all examples, shaped after one batch."""
    sides = sample.shape[2:] if lengths is not None else sample.shape[1:]
    shapes = np.empty((number, len(sides) + (lengths is not None)), np.int32)
    if lengths is not None:
        shapes[:, 0] = lengths
    shapes[:, shapes.shape[1] - len(sides) :] = sides
    size = int(shapes.astype(np.int64).prod(axis=1).sum())
    return Ragged.of(np.empty(size, as_array(sample[:0]).dtype), shapes)


def store(into: Ragged, index: Array, values: Array, ragged: bool) -> None:
    """One batch's values (B, T, ...) to their places, trimmed to each length."""
    for row, position in enumerate(index.tolist()):
        place = into[position]
        place[...] = values[row, : len(place)] if ragged else values[row]


def as_array(tensor: Tensor) -> Array:
    """NumPy view on the host; bfloat16 as its bit patterns."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


def to_device(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """The same tensors on a device."""
    return {name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()}


def held_tensors(cached: Mapping[str, Ragged], index: Array, ragged: bool) -> dict[str, Tensor]:
    """Cached values of some examples as padded tensors."""
    found = {}
    for name, arrays in cached.items():
        some = arrays.take(index)
        found[name] = pad_tensors(some) if ragged else torch.from_numpy(np.stack(list(some)))
    return found


def idle_inputs(one: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
    """So many examples' inputs of fixed shape, all those of ``one``: above a cut nothing reads more than their shape.

    Not trusted either: replay is verified with them.
    """
    return {name: tensor[:1].expand(number, *tensor.shape[1:]) for name, tensor in one.items()}


@dataclass(frozen=True)
class Verdict:
    """Whether replay is right for this model, and if not, why in one line."""

    holds: bool
    reason: str = ""


def verify(
    model: HeadedModel, cut: Cut, batch: Batch, loss: Callable[[Tensor, Batch], list[Term]], *, seed: int
) -> Verdict:
    """Compare one training step's outputs and gradients with and without replay, and cached with fresh values.

    Args:
        model: In training mode except for what lies below the cut; leaves it so, without gradients.
        batch: With the cached tensors in ``held``, and the inputs that they were computed from.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    shared = shared_storage(model, cut, trainable)
    if shared:
        return Verdict(False, f"{shared} is shared between what trains and what is frozen")
    device = next(model.parameters()).device
    inputs = to_device(batch.inputs, device)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    modes = {name: module.training for name, module in model.named_modules()}
    try:
        set_training(model, cut)
        with torch.no_grad():
            fresh = cut.capture(model, inputs)
        far = furthest(fresh, to_device(batch.held, device), batch.lengths if cut.ragged else None)
        if far is not None:
            return Verdict(False, far)
        plain = step_of(model, inputs, batch, loss, trainable, seed, None, cut)
        updated = next((name for name in buffers_below(model, cut) if not same_buffer(model, name, buffers)), None)
        if updated is not None:
            return Verdict(False, f"{updated} is frozen but changes whenever the model runs")
        with torch.no_grad():
            cut.capture(model, unlike(inputs))  # what blocks keep on the side must not match this batch any more
        given = inputs if cut.ragged else idle_inputs(inputs, len(batch.index))
        replayed = step_of(model, given, batch, loss, trainable, seed, fresh, cut)
    except (TypeError, ValueError, AttributeError, RuntimeError, AssertionError, LookupError) as error:
        message = " ".join(str(error).split("\n", 1)[0].split())
        return Verdict(False, f"its blocks cannot be replaced ({type(error).__name__}: {message})")
    finally:
        model.zero_grad(set_to_none=True)
        for name, module in model.named_modules():
            module.training = modes.get(name, module.training)
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in buffers and buffers[name].shape == buffer.shape:
                    buffer.copy_(buffers[name])
    for name, (one, other) in {n: (plain[n], replayed[n]) for n in plain}.items():
        if not same(one, other):
            return Verdict(False, f"{name} differs from the plain model's")
    return Verdict(True)


def step_of(
    model: HeadedModel,
    inputs: dict[str, Tensor],
    batch: Batch,
    loss: Callable[[Tensor, Batch], list[Term]],
    trainable: Mapping[str, Tensor],
    seed: int,
    held: dict[str, Tensor] | None,
    cut: Cut,
) -> dict[str, Tensor | None]:
    """Outputs and gradients of one forward and backward, plain or under replay."""
    model.zero_grad(set_to_none=True)
    seed_torch("verify", seed)
    if held is None:
        outputs = model(**inputs)
    else:
        with cut.inject(model) as holder:
            holder.tensors = held
            outputs = model(**inputs)
    sum((term.coefficient * term.sums.sum() for term in loss(outputs, batch)), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    found: dict[str, Tensor | None] = {"output": outputs.detach().clone()}
    found |= {f"the gradient of {name}": None if p.grad is None else p.grad.clone() for name, p in trainable.items()}
    return found


def same(one: Tensor | None, other: Tensor | None) -> bool:
    """Bitwise equality; two absent gradients are equal."""
    return (one is None and other is None) or (one is not None and other is not None and torch.equal(one, other))


def set_training(model: HeadedModel, cut: Cut | None) -> None:
    """Training mode above the cut, evaluation mode below; BatchNorm keeps its statistics everywhere."""
    model.train()
    for name in () if cut is None else cut.below:
        model.get_submodule(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def furthest(fresh: Mapping[str, Tensor], cached: Mapping[str, Tensor], lengths: Tensor | None) -> str | None:
    """A sentence about cached values that are too far from fresh ones, or None."""
    for name, one in fresh.items():
        if name not in cached or cached[name].shape != one.shape:
            return f"the cached {name} has another shape"
        other = cached[name].to(one.dtype)
        difference = (one.float() - other.float()).abs()
        if lengths is not None:
            inside = torch.arange(one.shape[1], device=one.device) < lengths.to(one.device).unsqueeze(1)
            difference = difference * inside.view(*inside.shape, *[1] * (difference.dim() - 2))
        scale = one.float().abs().amax().clamp(min=1e-12)
        relative = float(difference.amax() / scale)
        limit = TOLERANCE.get(one.dtype, 1e-5)
        if relative > limit:
            return f"cached values differ from fresh ones by {relative:.1e}, more than {limit:.0e}"
    return None


def unlike(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Another batch of the same kind: rows in another order, sequences (B, T) one position shorter."""
    rolled = {name: tensor.roll(1, 0) for name, tensor in inputs.items()}
    return {
        name: tensor[:, :-1] if tensor.dim() == 2 and tensor.shape[1] > 2 else tensor for name, tensor in rolled.items()
    }


def buffers_below(model: HeadedModel, cut: Cut) -> list[str]:
    """Names of the buffers of what lies below a cut."""
    return [f"{prefix}.{name}" for prefix in cut.below for name, _ in model.get_submodule(prefix).named_buffers()]


def same_buffer(model: HeadedModel, name: str, before: Mapping[str, Tensor]) -> bool:
    """Whether a buffer is what it was; one that is new is not."""
    return name in before and torch.equal(model.get_buffer(name), before[name])


def shared_storage(model: HeadedModel, cut: Cut, trainable: Mapping[str, Tensor]) -> str | None:
    """The name of a trainable tensor whose storage the frozen prefix uses too, or None."""
    below = {
        tensor.untyped_storage().data_ptr()
        for name in cut.below
        for tensor in (*model.get_submodule(name).parameters(), *model.get_submodule(name).buffers())
    }
    moving = (name for name, tensor in trainable.items() if tensor.untyped_storage().data_ptr() in below)
    return next(moving, None)


def feed(holder: Holder | None, batch: Batch, device: torch.device) -> None:
    """Lay a batch's cached tensors where the stand-ins find them."""
    if holder is not None:
        holder.tensors = to_device(batch.held, device)
