"""Cuts that fit most networks: between the blocks of a chain, and behind the body.

A stand-in takes the place of each module below the cut. The first returns the tensor that replay holds, the
others pass theirs on, so the library's own forward runs unchanged and masks, positions and heads stay right.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whet.backbones.backbone import HeadedModel, Holder


class Reached(BaseException):
    """Ends a forward pass at the cut; no error, and no ``except Exception`` of a library may swallow it."""


class StandIn(nn.Module):
    """Takes the place of a frozen module.

    Args:
        original: The module it replaces; unknown attributes are looked up there.
        holder: Where the first stand-in finds its tensor; None for those that pass their input on.
        name: Key of that tensor.
        items: How many items the original returns in a tuple, the hidden state first; 0 for a bare tensor.
    """

    def __init__(self, original: nn.Module, holder: Holder | None, name: str, items: int) -> None:
        super().__init__()
        object.__setattr__(self, "original", original)  # not registered: it must not count as our parameters
        object.__setattr__(self, "holder", holder)
        self.name = name
        self.items = items

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "original"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        held: Holder | None = object.__getattribute__(self, "holder")
        hidden = held.tensors[self.name] if held is not None else first_tensor(args, kwargs)
        return (hidden, *[None] * (self.items - 1)) if self.items else hidden


@dataclass(frozen=True)
class ChainCut:
    """Before block ``depth`` of a chain; depth 0 is behind the stem.

    Args:
        chain: Names of all blocks, from input to output.
        stem: Names of the modules before the first block.
        passing: Names of every module that hands on what crosses, in order: blocks, modules without weights between
            them, and those of the stem that do.
        depth: How many blocks lie below.
        items: Of each that returns a tuple, the hidden state first: how many items.
        ragged: Whether what crosses is (B, T, ...), as long as each example is, and not of one size for all.
        crossing: How many numbers cross, see ``numbers``.
    """

    chain: tuple[str, ...]
    stem: tuple[str, ...]
    passing: tuple[str, ...]
    depth: int
    items: Mapping[str, int]
    ragged: bool = True
    crossing: int = 0

    @property
    def name(self) -> str:
        return f"before block {self.depth + 1} of {len(self.chain)}"

    @property
    def below(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.stem, *self.replaced)))

    @property
    def replaced(self) -> tuple[str, ...]:
        """The modules below that hand on what crosses: stand-ins take their place."""
        if self.depth == len(self.chain):
            return self.passing[: self.passing.index(self.chain[-1]) + 1]
        return self.passing[: self.passing.index(self.chain[self.depth])]

    def numbers(self, model: HeadedModel) -> int:
        return self.crossing

    def capture(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first tensor that reaches the block above the cut, such as (B, T, C)."""
        found: dict[str, Tensor] = {}

        def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found["hidden"] = first_tensor(args, kwargs)
            raise Reached

        hook = model.get_submodule(self.chain[self.depth]).register_forward_pre_hook(stop, with_kwargs=True)
        try:
            model(**inputs)
        except Reached:
            pass
        finally:
            hook.remove()
        return found

    @contextmanager
    def inject(self, model: nn.Module) -> Iterator[Holder]:
        """Stand-ins for whatever hands the stream on below."""
        holder = Holder()
        originals = {name: model.get_submodule(name) for name in self.replaced}
        try:
            for position, (name, module) in enumerate(originals.items()):
                first = holder if position == 0 else None
                put_module(model, name, StandIn(module, first, "hidden", self.items.get(name, 0)))
            yield holder
        finally:
            for name, module in originals.items():
                put_module(model, name, module)


@dataclass(frozen=True)
class FeatureCut:
    """Behind the whole body, where each example is one feature vector."""

    @property
    def name(self) -> str:
        return "features"

    @property
    def below(self) -> tuple[str, ...]:
        return ("body",)

    @property
    def ragged(self) -> bool:
        return False

    def numbers(self, model: HeadedModel) -> int:
        return model.head.in_features

    def capture(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Features, (B, D) float32."""
        return {"features": model.get_submodule("body")(**inputs).float()}

    @contextmanager
    def inject(self, model: nn.Module) -> Iterator[Holder]:
        """One stand-in for the body."""
        holder = Holder()
        original = model.get_submodule("body")
        try:
            put_module(model, "body", StandIn(original, holder, "features", items=0))
            yield holder
        finally:
            put_module(model, "body", original)


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The hidden state among a block's arguments: the first positional tensor, else the first by name."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.Tensor):
            return value
    raise TypeError("a block was called without any tensor")


def put_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Set a submodule by its dotted name."""
    parent, _, leaf = name.rpartition(".")
    model.get_submodule(parent)._modules[leaf] = module


def find_chain(model: nn.Module) -> tuple[str, ...]:
    """Names of the longest chain of equal blocks: a list of two or more modules of one class with parameters."""
    best: tuple[str, ...] = ()
    for name, module in model.named_modules():
        if not isinstance(module, nn.ModuleList | nn.Sequential) or len(module) < 2:
            continue
        alike = len({type(block) for block in module}) == 1 and any(True for _ in module[0].parameters())
        if alike and len(module) > len(best):
            best = tuple(f"{name}.{position}" for position in range(len(module)))
    return best


@dataclass(frozen=True)
class Traced:
    """What a chain of blocks stands between, and what passes along it.

    Args:
        stem: Names of the topmost modules before the chain that have parameters or drop values at random. A module
            that is never called is one of them: if its weights are used at all, it may be by the first block already.
        tail: The same after the chain.
        items: How many items each block that returns a tuple has in it, by its name.
        shapes: Of the first tensor that reaches each block, by its name.
    """

    stem: tuple[str, ...]
    tail: tuple[str, ...]
    items: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]


def trace_chain(model: nn.Module, chain: tuple[str, ...], inputs: Mapping[str, Tensor]) -> Traced | None:
    """Run once and see; None if the blocks are not called as modules, so that nothing can stand in for them."""
    holders = {name.rpartition(".")[0] for name in chain}
    ancestors = {""} | {".".join(name.split(".")[:size]) for name in holders for size in range(1, name.count(".") + 2)}
    outer = [
        name
        for name, module in model.named_modules()
        if name not in ancestors
        and name not in chain
        and name.rpartition(".")[0] in ancestors
        and (any(True for _ in module.parameters()) or isinstance(module, nn.Dropout))
    ]
    called: list[str] = []
    items: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda *_, name=name: called.append(name))
        for name in (*outer, chain[0])
    ]

    def count(name: str, output: Any) -> None:
        if isinstance(output, tuple):
            items[name] = len(output)

    def note(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        shapes.setdefault(name, tuple(first_tensor(args, kwargs).shape))

    hooks += [
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, args, kwargs, name=name: note(name, args, kwargs), with_kwargs=True
        )
        for name in chain
    ]
    hooks += [
        model.get_submodule(name).register_forward_hook(lambda *call, name=name: count(name, call[2])) for name in chain
    ]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if chain[0] not in called:
        return None
    place = called.index(chain[0])
    stem = dict.fromkeys((*called[:place], *(name for name in outer if name not in called)))
    tail = tuple(name for name in dict.fromkeys(called[place + 1 :]) if name not in stem)
    return Traced(tuple(stem), tail, items, shapes)
