"""What every family of models needs to know of a loaded one: its chain of blocks, its cuts, its tables, its width.

Found by running a tiny batch, so that no architecture is written down here.
"""

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from whet.backbones.backbone import Backbone, Cut, HeadedModel
from whet.backbones.cut import ChainCut, FeatureCut, Traced, find_chain, trace_chain
from whet.backbones.passing import find_passing
from whet.errors import ModelError


def describe(
    model: HeadedModel,
    created: tuple[str, ...],
    example: Mapping[str, Tensor],
    *,
    ragged: bool,
    blocks: tuple[str, ...] = (),
) -> Backbone:
    """Find the chain of blocks, what lies around it, and where the model can be cut.

    Args:
        created: Parameters that the pre-trained weights did not hold, the head apart.
        example: A tiny batch that the model takes.
        ragged: Whether what crosses a cut is (B, T, ...), as long as each example is.
        blocks: Names of the chain of blocks, where it is known; none looks for it.
    """
    listed, passing = find_chain(model), find_passing(model, example, layers=not ragged)
    staged = bool(blocks) or len(passing.blocks) > len(listed)
    chain = blocks or (passing.blocks if staged else listed)
    traced = trace_chain(model, chain, example) if chain else None
    if traced is None:
        chain = ()
    stem, tail = (traced.stem, traced.tail) if traced else ((), ())
    cuts: list[Cut] = []
    if traced is not None:
        way = passing.modules if staged else (*(stem if len(stem) == 1 else ()), *chain)
        cuts = [cut for cut in cuts_of(chain, way, traced, ragged) if not staged or holds(model, cut, example)]
    return Backbone(
        model=model,
        blocks=chain,
        stem=stem,
        tail=tuple(name for name in tail if name != "head"),
        created=(*created, "head.weight", "head.bias"),
        unused=unreached(model, example),
        tables=find_tables(model, example),
        cuts=(*cuts, FeatureCut()),
        pooling=getattr(model.body, "pooled", ""),
        example=example,
    )


def cuts_of(chain: tuple[str, ...], passing: tuple[str, ...], traced: Traced, ragged: bool) -> list[Cut]:
    """One before every block; before the first only if something below it hands on what crosses."""
    depths = range(0 if passing[0] != chain[0] else 1, len(chain))
    sides = [traced.shapes.get(chain[depth], ())[2 if ragged else 1 :] for depth in depths]
    return [
        ChainCut(chain, traced.stem, passing, depth, traced.items, ragged, prod(side))
        for depth, side in zip(depths, sides, strict=True)
    ]


def holds(model: HeadedModel, cut: Cut, example: Mapping[str, Tensor]) -> bool:
    """Whether nothing but what crosses the cut reaches the features from below it."""
    unlike = {name: -t if t.is_floating_point() else t.flip(*range(t.dim())) for name, t in example.items()}
    try:
        with torch.no_grad():
            plain = model.body(**example)
            held = cut.capture(model, example)
            with cut.inject(model) as holder:
                holder.tensors = held
                return torch.equal(model.body(**unlike), plain)
    except (TypeError, ValueError, AttributeError, RuntimeError, LookupError):  # whatever a model raises
        return False


def find_tables(model: HeadedModel, example: Mapping[str, Tensor]) -> dict[str, str]:
    """Embedding tables that look up an input as it comes, by running a tiny batch."""
    found: dict[str, str] = {}
    plain = {name: module for name, module in model.named_modules() if type(module) is nn.Embedding}
    tables = {name: module for name, module in plain.items() if module.max_norm is None}

    def note(name: str, args: tuple[Any, ...]) -> None:
        for column, values in example.items():
            if args and isinstance(args[0], Tensor) and torch.equal(args[0], values):  # some take a shape instead
                found[name] = column

    hooks = [m.register_forward_pre_hook(lambda _, args, n=n: note(n, args)) for n, m in tables.items()]
    try:
        with torch.no_grad():
            model.body(**example)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def unreached(model: HeadedModel, example: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Parameters of the body that no gradient of its features reaches."""
    with torch.enable_grad():
        model.body(**example).square().sum().backward()
    names = [f"body.{name}" for name, parameter in model.body.named_parameters() if parameter.grad is None]
    model.zero_grad(set_to_none=True)
    return tuple(names)


def folded_head(model: HeadedModel) -> nn.Linear:
    """The head with the scaler folded in: the same outputs from raw features, computed in float64."""
    head = nn.Linear(model.head.in_features, model.head.out_features)
    weight, bias = model.head.weight.detach().double(), model.head.bias.detach().double()
    scaled = weight * model.scaler.scale.double()
    head.weight.data = scaled.float()
    head.bias.data = (bias - scaled @ model.scaler.mean.double()).float()
    return head


def feature_width(body: nn.Module, example: Mapping[str, Tensor], inputs: str) -> int:
    """D, by running a tiny batch.

    Args:
        inputs: What the batch holds, in words.

    Raises:
        ModelError: the body does not take it, or returns no features.
    """
    try:
        with torch.no_grad():
            return int(body(**example).shape[1])
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise ModelError(
            f"The model does not answer to {inputs} alone ({why}).",
            where=type(body).__name__,
            fix="choose another model; `whet models` lists what is here",
        ) from error
