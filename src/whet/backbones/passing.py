"""Which modules hand one tensor on, from a network's input to its features? Found by running a tiny batch.

A chain of blocks need not lie in one list: in a convolutional network blocks lie in stages, with modules between them
that make pictures smaller. What counts is that a module takes the very tensor that the one before gave, unchanged
since; a residual block is one module, because nothing inside it alone leads from its input to its output.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

Stamp = tuple[Tensor, int]
"""A tensor, and how often it had been written to by then."""


@dataclass(frozen=True)
class Passing:
    """What hands one tensor on.

    Args:
        modules: Names in the order of their calls, up to the last block; from the input on, or behind the last module
            before the blocks that gives more than the tensor, since what else it gives would be missed.
        blocks: Those of them that count as blocks: of a class that occurs again, and whatever between them has weights.
    """

    modules: tuple[str, ...]
    blocks: tuple[str, ...]


@dataclass(eq=False)
class Call:
    """One call of a module: everything that came in, what went out first, whether alone, and the calls inside."""

    name: str
    taken: tuple[Stamp, ...]
    gave: Stamp | None = None
    bare: bool = False
    inside: "list[Call]" = field(default_factory=list)

    @property
    def given(self) -> Stamp | None:
        """What came in first."""
        return self.taken[0] if self.taken else None


def find_passing(model: nn.Module, inputs: Mapping[str, Tensor], *, layers: bool = False) -> Passing:
    """The modules that hand one tensor on; none where no class of module occurs again among them.

    Args:
        layers: Whether single layers count as blocks where no module with parts occurs again, as in plain stacks of
            convolutions.
    """
    calls = calls_of(model, inputs)
    names = Counter(call.name for call in every(calls))
    whole, most = kept_whole(model, calls), names.total() // 2
    taken, _ = taken_apart(model, calls, whole, most)
    single = layers and not any(made_of_parts(model.get_submodule(call.name)) for call in taken)
    if single:
        taken, _ = taken_apart(model, calls, whole, most, rows=True)
    steps = [call.name for call in taken]
    if any(names[name] > 1 for name in steps):  # weights that run more than once are no chain
        return Passing((), ())
    modules = [model.get_submodule(name) for name in steps]
    kinds = Counter(type(module) for module in modules if made_of_parts(module))
    if single:
        kinds = Counter(type(module) for module in modules if any(p.dim() > 1 for p in module.parameters()))
    again = [place for place, module in enumerate(modules) if kinds[type(module)] > 1]
    if not again:
        return Passing((), ())
    between = steps[again[0] : again[-1] + 1]
    blocks = tuple(name for name in between if any(True for _ in model.get_submodule(name).parameters()))
    more = [place for place, call in enumerate(taken[: again[0]], start=1) if not call.bare]
    return Passing(tuple(steps[max(more, default=0) : again[-1] + 1]), blocks)


def calls_of(model: nn.Module, inputs: Mapping[str, Tensor]) -> Call:
    """Every call of one forward pass, as a tree."""
    root = Call("", stamps(tuple(inputs.values())))
    open_calls = [root]

    def enter(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(name, stamps((*args, *kwargs.values())))
        open_calls[-1].inside.append(call)
        open_calls.append(call)

    def leave(output: Any) -> None:
        call = open_calls.pop()
        call.gave, call.bare = next(iter(stamps(output)), None), isinstance(output, Tensor)

    with ExitStack() as hooks, torch.no_grad():
        for name, module in model.named_modules():
            if name:
                before = module.register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: enter(name, args, kwargs), with_kwargs=True
                )
                hooks.callback(before.remove)
                hooks.callback(module.register_forward_hook(lambda *call: leave(call[2])).remove)
        root.gave = next(iter(stamps(model(**inputs))), None)
    return root


def stamps(value: Any) -> tuple[Stamp, ...]:
    """The tensors in whatever a module takes or gives, in order."""
    if isinstance(value, Tensor):
        return ((value, value._version),)
    parts = tuple(value.values()) if isinstance(value, Mapping) else value if isinstance(value, tuple | list) else ()
    return tuple(found for part in parts for found in stamps(part))


def on_the_way(call: Call) -> list[Call]:
    """The calls inside that lead on from what came in, each alone in taking what the one before gave."""
    found: list[Call] = []
    at = call.given
    while at is not None:
        takers = [inner for inner in call.inside if inner not in found and any(same(one, at) for one in inner.taken)]
        idle = bool(takers) and same(takers[0].gave, at)  # gives what it takes, so that others take it as well
        if (len(takers) != 1 and not idle) or not same(takers[0].given, at):
            break
        found.append(takers[0])
        at = takers[0].gave
    return found


def way_through(call: Call) -> list[Call] | None:
    """The calls inside that lead from what came in to what went out; None where they do not alone."""
    found = on_the_way(call)
    ends = (place for place, inner in enumerate(found, start=1) if same(inner.gave, call.gave))
    place = next(ends, None)
    return None if place is None else found[:place]


def same(one: Stamp | None, other: Stamp | None) -> bool:
    """Whether two stamps are of one tensor that nobody wrote to in between."""
    return one is not None and other is not None and one[0] is other[0] and one[1] == other[1]


def kept_whole(model: nn.Module, root: Call) -> set[type]:
    """Classes that occur more than once and somewhere cannot be taken apart: so they are not taken apart anywhere."""
    apart = {type(model.get_submodule(call.name)) for call in every(root) if call.inside and way_through(call) is None}
    return {kind for kind in apart if sum(type(module) is kind for module in model.modules()) > 1}


def taken_apart(
    model: nn.Module, call: Call, whole: set[type], most: int, *, rows: bool = False
) -> tuple[list[Call], bool]:
    """The calls on the way through one, and whether they lead to its end.

    A module is taken apart if what it passes on goes through modules with parts. One that holds most of the network
    is taken apart even if its end is not handed on as it is, but pooled: there the chain ends.

    Args:
        rows: Whether rows of single layers are taken apart, too.
    """
    inside = way_through(call)
    ends = inside is not None
    if inside is None:
        inside = on_the_way(call) if sum(1 for _ in every(call)) > most else []
    module = model.get_submodule(call.name)
    parts = [model.get_submodule(inner.name) for inner in inside]
    opens = any(isinstance(part, nn.Sequential) or made_of_parts(part) for part in parts)
    opens = opens or (rows and isinstance(module, nn.Sequential) and bool(parts))
    if type(module) in whole or not opens:
        return [call], True
    found: list[Call] = []
    for inner in inside:
        steps, goes_on = taken_apart(model, inner, whole, most, rows=rows)
        found += steps
        if not goes_on:
            return found, False
    return found, ends


def made_of_parts(module: nn.Module) -> bool:
    """Whether a module is a design of its own, with layers in it, and no list of others."""
    return not type(module).__module__.startswith("torch.nn.") and any(True for _ in module.children())


def every(call: Call) -> Iterator[Call]:
    for inner in call.inside:
        yield inner
        yield from every(inner)
