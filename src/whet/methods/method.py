"""The contract of a method: what may move, and when, as a list of stages.

Loop, loss and data never ask which method it is; a method never asks what is predicted or how a step is taken.
"""

from dataclasses import dataclass, field
from typing import Protocol

from whet.backbones.backbone import Backbone


@dataclass(frozen=True, kw_only=True)
class Solve:
    """Fit the head as a convex problem on frozen features; the penalty is chosen by cross-validation.

    Args:
        penalties: Ridge penalties to try, for standardised features and a mean loss; strongest first.
        folds: Parts of the cross-validation.
    """

    penalties: tuple[float, ...] = (3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
    folds: int = 5


@dataclass(frozen=True, kw_only=True)
class Descend:
    """Fit by gradient steps, with the plan's training settings."""


@dataclass(frozen=True, kw_only=True)
class RateGroup:
    """Parameters that share a learning rate.

    Args:
        names: Parameter names in the model.
        scale: Their rate as a multiple of the stage's.
    """

    names: tuple[str, ...]
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a method.

    Args:
        name: For people, events and random keys; unique within the method.
        fit: How: a solved head, or gradient steps.
        groups: Pre-trained parameters that train, with their rates. Nothing else pre-trained moves.
        head: Whether parameters that the task created train too.
    """

    name: str
    fit: Solve | Descend
    groups: tuple[RateGroup, ...] = ()
    head: bool = True
    still: tuple[str, ...] = field(default=())
    """Trainable parameters whose gradient is zero by construction."""


class Method(Protocol):
    """Decides which parameters move, and when."""

    @property
    def learning_rate(self) -> float:
        """Peak rate of the top group, used where the plan names none."""
        ...

    @property
    def epochs(self) -> int:
        """Passes over the training rows, used where the plan names none."""
        ...

    def prepare(self, backbone: Backbone) -> Backbone:
        """Insert modules, when training and when loading."""
        ...

    def stages(self, backbone: Backbone) -> list[Stage]:
        """What is fitted, in order."""
        ...

    def finish(self, backbone: Backbone) -> Backbone:
        """Merge or average what was inserted."""
        ...


def layerwise(backbone: Backbone, depth: int, decay: float) -> tuple[RateGroup, ...]:
    """Rate groups for all parameters above ``depth`` blocks: each block below gets ``decay`` times the rate above.

    Modules behind the chain share the top rate; the stem, below all blocks, is included at depth -1.

    Source: Howard and Ruder 2018, "Universal Language Model Fine-tuning", arXiv:1801.06146, section 3.2
    (discriminative rates), with one factor a block as in ELECTRA, arXiv:2003.10555.
    """
    model = backbone.model
    reached = set(dict(model.named_parameters())) - set(backbone.unused) - set(backbone.created)

    def names(prefixes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(n for n, _ in model.named_parameters() if n in reached and within(n, prefixes))

    groups = [RateGroup(names=names(backbone.tail), scale=1.0)]
    for distance, block in enumerate(reversed(backbone.blocks[max(depth, 0) :])):
        groups.append(RateGroup(names=names((block,)), scale=decay**distance))
    if depth < 0:
        rest = reached - {name for group in groups for name in group.names}
        ordered = tuple(name for name, _ in model.named_parameters() if name in rest)
        groups.append(RateGroup(names=ordered, scale=decay ** len(backbone.blocks)))
    return tuple(group for group in groups if group.names)


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a parameter belongs to one of the named modules."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
