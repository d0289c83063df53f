"""The contract of a method: what may move, and when, as a list of stages.

Loop, loss and data never ask which method it is; a method never asks what is predicted or how a step is taken.
"""

from dataclasses import dataclass, field
from typing import Protocol

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Solve:
    """Fit the head as a convex problem on frozen features; the penalty is chosen by cross-validation.

    Args:
        penalties: Ridge penalties to try, for standardised features and a mean loss; strongest first.
        folds: Parts of the cross-validation.
        calibrate: Compare penalties by held-out loss at the best temperature, and fold that into the head; heads that
            have no temperature, such as a regression's, stay as they are.
    """

    penalties: tuple[float, ...] = (3.0, 1.0, 3e-1, 1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
    folds: int = 5
    calibrate: bool = True

    def __post_init__(self) -> None:
        falling = all(one > other for one, other in zip(self.penalties, self.penalties[1:], strict=False))
        if not self.penalties or not falling or not self.penalties[-1] > 0:
            raise ConfigError(
                f"Penalties must fall and stay above 0, got {self.penalties}.",
                where="method.solve.penalties",
                fix="list them strongest first, such as [1.0, 0.1, 0.01]",
            )
        if self.folds < 2:
            raise ConfigError(
                f"folds must be at least 2, got {self.folds}.",
                where="method.solve.folds",
                fix="use 5, or 2 to be quick",
            )


START = Solve(penalties=(0.1,), folds=2, calibrate=False)
"""The head that gradient steps start from. A head with the best penalty is too sure of the rows it has seen: steps of
the body then spoil more than they gain (banking77, 4,000 rows, 4 epochs: 0.914 from the best penalty, the score of
the probe itself; 0.926 from this one). One penalty, so nothing is compared, and two folds do."""


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
        """Merge or average what was inserted: a new backbone, or the same one where nothing changed."""
        ...


def check_rates(decay: float, learning_rate: float, epochs: int) -> None:
    """Refuse settings of a descending method that cannot work.

    Raises:
        ConfigError: naming the first one.
    """
    holds = {
        "decay": (0 < decay <= 1, decay, "above 0 and at most 1"),
        "learning_rate": (0 < learning_rate < 10, learning_rate, "above 0, such as 2e-4"),
        "epochs": (epochs >= 1, epochs, "1 or more"),
    }
    for name, (fits, value, wanted) in holds.items():
        if not fits:
            raise ConfigError(f"{name} cannot be {value!r}.", where=f"method.{name}", fix=f"use a value {wanted}")


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
