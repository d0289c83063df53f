"""The contract of an optimizer: how an update is made of a gradient, and where the numbers it remembers lie.

Trainable masters lie flat, one tensor a share (``flat.py``). An optimizer that works on each number alone is given that
one tensor; one that needs the shape of a matrix is given views of it. Loop and checkpoints see a ``Stepper`` alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from whet.training.flat import FlatGroup
from whet.training.schedules import Schedule

COUNT = "step"
"""What torch's optimizers call the number of their updates."""


@dataclass(frozen=True, eq=False)
class Share:
    """Trainable parameters that one optimizer steps at one rate.

    Args:
        flat: Their masters, side by side.
        scale: Their rate as a multiple of the stage's.
        rate: The stage's peak rate.
        weight_decay: Decoupled decay for each unit of rate.
        hidden: Whether all are matrices of hidden layers: no vectors, no embedding tables, no new head.
    """

    flat: FlatGroup
    scale: float
    rate: float
    weight_decay: float
    hidden: bool

    def settings(self, parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
        """A parameter group of torch; ``scale`` is its peak rate, which the loop's schedule multiplies."""
        peak = self.scale * self.rate
        return {"params": list(parameters), "lr": peak, "scale": peak, "weight_decay": self.weight_decay}


class Optimizer(Protocol):
    """Settings of an optimizer, a frozen dataclass, and how it is built."""

    usual_rate: ClassVar[float]
    """Its usual peak rate as a multiple of AdamW's, by which methods state theirs; it divides weight decay and pulls,
    so that their strengths mean the same for each."""
    schedule: ClassVar[Schedule]
    """The schedule used where none is named."""
    own_schedule: ClassVar[str]
    """Why no other schedule can be used; empty where every one can."""
    hidden_apart: ClassVar[bool]
    """Whether matrices of hidden layers are shares of their own."""

    def stepper(self, shares: Sequence[Share]) -> "Stepper":
        """What steps these shares.

        Raises:
            MissingPackageError: an optional package, or a newer torch, is needed.
        """
        ...


class Scheduled:
    """What an optimizer has that differs from AdamW in nothing but its update."""

    usual_rate: ClassVar[float] = 1.0
    schedule: ClassVar[Schedule] = "linear"
    own_schedule: ClassVar[str] = ""
    hidden_apart: ClassVar[bool] = False


@dataclass(frozen=True, eq=False)
class Place:
    """Where the state of one tensor of torch's lies: a whole share, or one parameter of it."""

    inner: torch.optim.Optimizer
    parameter: nn.Parameter
    names: tuple[str, ...]
    flat: FlatGroup

    def split(self, value: Tensor) -> list[Tensor]:
        """By name, as views; a number that is one for all of them goes with the first."""
        whole = self.parameter is self.flat.whole and value.dim() == 1
        return self.flat.split(value) if whole else [value]

    def joined(self, key: str, tensors: Mapping[str, Tensor]) -> Tensor:
        """What ``split`` gave, as torch keeps it."""
        parts = [tensors[f"{key}/{name}"] for name in self.names if f"{key}/{name}" in tensors]
        each = self.parameter is self.flat.whole and key != COUNT and sum(p.numel() for p in parts) == len(self.flat)
        value = torch.cat([part.reshape(-1) for part in parts]) if each else parts[0].clone()
        fused = any(group.get("fused") for group in self.inner.param_groups)
        return value.to(self.parameter.device) if fused or key != COUNT else value


class Stepper:
    """Torch's optimizers over flat shares, stepping as one.

    Args:
        shares: In the order of the state's groups.
        built: For each share the optimizer that steps it, and the tensors it was given.
        unit: The optimizer's ``usual_rate``.
    """

    def __init__(
        self,
        shares: Sequence[Share],
        built: Sequence[tuple[torch.optim.Optimizer, Sequence[nn.Parameter]]],
        unit: float = 1.0,
    ) -> None:
        self.shares, self.unit = tuple(shares), unit
        self.inner = tuple(dict.fromkeys(optimizer for optimizer, _ in built))
        self.param_groups: list[dict[str, Any]] = []
        self.places: list[Place] = []
        for share, (optimizer, parameters) in zip(shares, built, strict=True):
            self.param_groups.append(next(g for g in optimizer.param_groups if g["params"][0] is parameters[0]))
            for number, parameter in enumerate(parameters):
                names = share.flat.names if parameter is share.flat.whole else (share.flat.names[number],)
                self.places.append(Place(optimizer, parameter, names, share.flat))

    @staticmethod
    def elementwise(shares: Sequence[Share], kind: Any, unit: float = 1.0, **settings: Any) -> "Stepper":
        """One optimizer that works on each number alone, given the shares as they lie."""
        return Stepper(shares, flat_built(shares, kind, **settings), unit)

    @staticmethod
    def shaped(shares: Sequence[Share], kind: Any, unit: float = 1.0, **settings: Any) -> "Stepper":
        """One optimizer that needs shapes, given every parameter apart."""
        return Stepper(shares, shaped_built(shares, kind, **settings), unit)

    def peak(self, rate: float) -> None:
        """Another peak rate of the stage from here on."""
        for share, group in zip(self.shares, self.param_groups, strict=True):
            group["scale"] = share.scale * rate

    def step(self, factor: float = 1.0) -> None:
        """One update at ``factor`` times the peak rates, after the pull of shares that have one."""
        for share, group in zip(self.shares, self.param_groups, strict=True):
            group["lr"] = group["scale"] * factor
            self.pull(share, group["lr"] / self.unit)
        for optimizer in self.inner:
            optimizer.step()

    def pull(self, share: Share, rate: float) -> None:
        """Decay of a share towards its start."""
        share.flat.pull_back(rate)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is remembered between updates, as ``kind/parameter``; empty before the first."""
        found: dict[str, Tensor] = {}
        for place in self.places:
            for key, value in place.inner.state.get(place.parameter, {}).items():
                parts = place.split(value)
                found |= {f"{key}/{name}": part for name, part in zip(place.names, parts, strict=False)}
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Become what ``tensors`` gave."""
        for optimizer in self.inner:
            optimizer.state.clear()
        kinds: dict[str, list[str]] = {}
        for key in tensors:
            kind, _, name = key.partition("/")
            kinds.setdefault(name, []).append(kind)
        for place in self.places:
            kept = {kind: place.joined(kind, tensors) for kind in kinds.get(place.names[0], ())}
            if kept:
                place.inner.state[place.parameter] = kept

    @contextmanager
    def answering(self) -> Iterator[bool]:
        """Inside, the masters are those that answer; says whether they are others than those that step."""
        yield False

    def finish(self) -> None:
        """The masters become those that answer, for good."""

    def numbers(self) -> int:
        """How many are remembered."""
        return sum(tensor.numel() for tensor in self.tensors().values())


Built = list[tuple[torch.optim.Optimizer, Sequence[nn.Parameter]]]


def flat_built(shares: Sequence[Share], kind: Any, **settings: Any) -> Built:
    """One optimizer of ``kind`` over whole shares."""
    return built(shares, [[share.flat.whole] for share in shares], kind, settings)


def shaped_built(shares: Sequence[Share], kind: Any, **settings: Any) -> Built:
    """One optimizer of ``kind`` over views of their parameters."""
    return built(shares, [share.flat.shaped() for share in shares], kind, settings)


def built(
    shares: Sequence[Share], parameters: list[list[nn.Parameter]], kind: Any, settings: Mapping[str, Any]
) -> Built:
    """One optimizer over a group of tensors for each share; none where there are no shares."""
    if not shares:
        return []
    pairs = list(zip(shares, parameters, strict=True))
    optimizer = kind([share.settings(tensors) for share, tensors in pairs], **settings)
    return [(optimizer, tensors) for _, tensors in pairs]
