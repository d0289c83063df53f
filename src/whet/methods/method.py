"""The contract of a method: what may move, and when, as a list of stages.

Loop, loss and data never ask which method it is; a method never asks what is predicted or how a step is taken.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from torch import Tensor

from whet.backbones.backbone import Backbone
from whet.errors import ConfigError
from whet.numeric import require_numbers


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
        require_numbers(self, "method.solve")
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


LEAST_STEPS = 200
"""Updates that a method takes at least where nobody names epochs: three epochs, the common habit, are far too few for a
small set (Mosbach et al. 2021, arXiv:2006.04884; Zhang et al. 2021, arXiv:2006.05987)."""

FEWEST_CALIBRATING = 100
"""With fewer held-out rows it is better to train on them, where all they could do is to say how sure a head may be."""

FEWEST_CONTRASTED = 4
"""Examples a batch that are two pairs: in a single one nothing is told apart, and there is no gradient."""

START = Solve(penalties=(0.1,), folds=2, calibrate=False)
"""The head that gradient steps start from. A head with the best penalty is too sure of the rows it has seen: steps of
the body then spoil more than they gain (banking77, 4,000 rows, 4 epochs: 0.914 from the best penalty, the score of
the probe itself; 0.926 from this one). One penalty, so nothing is compared, and two folds do."""


@dataclass(frozen=True, kw_only=True)
class Descend:
    """Fit by gradient steps, with the plan's training settings.

    Args:
        share: Of the plan's epochs that this stage takes.
    """

    share: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RateGroup:
    """Parameters that share a learning rate.

    Args:
        names: Parameter names in the model.
        scale: Their rate as a multiple of the stage's.
        pull: Decay towards where the stage began, in place of weight decay towards zero: each update moves a weight
            back by rate x pull x its distance.
    """

    names: tuple[str, ...]
    scale: float = 1.0
    pull: float = 0.0


class FeatureLoss(Protocol):
    """A loss of a batch's features that knows classes, and nothing of a head.

    It couples examples, so a batch must be one piece: accumulation is refused.
    """

    @property
    def solved(self) -> float:
        """The mean of a batch under which there is nothing left to learn; minus infinity where that is not known."""
        ...

    def __call__(self, features: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        """(B,) float32: each example's loss, 0 where it has no partner: one of its class that is of another row.

        Shapes:
            features: (B, D); targets: (B,) class numbers; rows: (B,) row numbers, one for all pieces of a long text.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a method.

    Args:
        name: For people, events and random keys; unique within the method.
        fit: How: a solved head, or gradient steps.
        groups: Pre-trained parameters that train, with their rates. Nothing else pre-trained moves.
        head: Whether parameters that the task created train too.
        objective: A loss of features that the steps minimise in place of the task's; validation rows then stop nothing.
        temperature: Of a head that is solved last, on the rows that moved its features: what its outputs are usually
            divided by, for these rows cannot say how sure it may be. Held-out rows move it.
    """

    name: str
    fit: Solve | Descend
    groups: tuple[RateGroup, ...] = ()
    head: bool = True
    objective: FeatureLoss | None = None
    temperature: float = 1.0
    still: tuple[str, ...] = field(default=())
    """Trainable parameters whose gradient is zero by construction."""

    def __post_init__(self) -> None:
        if not 1 / 16 <= self.temperature <= 16:
            raise ConfigError(
                f"The temperature of the stage {self.name!r} cannot be {self.temperature!r}.",
                where="method",
                fix="use 1, or what trials needed, from 1/16 to 16",
            )

    @property
    def descends(self) -> bool:
        """Whether it takes gradient steps."""
        return isinstance(self.fit, Descend)

    @property
    def minimises_loss(self) -> bool:
        """Whether its steps minimise the task's loss, which validation rows then watch."""
        return self.descends and self.objective is None

    @property
    def solved(self) -> float:
        """The training loss under which there is nothing left to learn; minus infinity where none is known."""
        return -math.inf if self.objective is None else self.objective.solved


class Method(Protocol):
    """Decides which parameters move, and when."""

    @property
    def learning_rate(self) -> float:
        """Peak rate of the top group, used where the plan names none."""
        ...

    @property
    def epochs(self) -> int:
        """Passes over the training rows, used where the plan names none; 0 if no stage takes steps."""
        ...

    @property
    def least_steps(self) -> int:
        """Updates that few rows get by more passes, used where the plan names neither."""
        ...

    @property
    def stops(self) -> bool:
        """Whether validation rows can end its steps; where they cannot, they only say how sure its answers may be."""
        ...

    @property
    def starts_equal(self) -> bool:
        """Whether what ``prepare`` inserts changes no answer before the first step; if not, the run says so."""
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


@runtime_checkable
class TopDown(Protocol):
    """What a method also has that can train the top of a model and nothing below, so that a cut can be tried."""

    @classmethod
    def for_top(cls, blocks: int) -> Mapping[str, int] | None:
        """Settings under which the top ``blocks`` move and no block below; None where it cannot do that."""
        ...


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a model, a set of rows and a batch are.

    Args:
        parameters: Of the model.
        rows: That it may be trained on; those of a validation file are not among them.
        classes: That features can be contrasted by; 0 where they cannot.
        compared: Examples that a loss may compare with each other: a batch, unless it is taken in parts.
    """

    parameters: int
    rows: int
    classes: int
    compared: int


@dataclass(frozen=True)
class Place:
    """A method's place on the automatic ladder.

    Args:
        when: When it takes the place of the usual method of its height, as in "above a million rows"; "" if it is the
            usual one.
        trusted: Whether trials at such sizes showed it to beat the head alone. Rows that are too few to show a gain
            over that then do not speak against it: it is kept unless they show that it is worse.
    """

    when: str = ""
    trusted: bool = False


USUAL = Place()


@runtime_checkable
class OnLadder(Protocol):
    """What a method also has that the automatic ladder climbs where nobody names another."""

    height: ClassVar[int]
    """1 the head alone, 2 some of the depth or little of it, 3 the whole model; one method of each is climbed."""

    @classmethod
    def place(cls, size: Size) -> Place | None:
        """Its place at that size, or None where it is not climbed."""
        ...


class InPlace:
    """What a method has that inserts no module: it prepares nothing and merges nothing."""

    starts_equal: ClassVar[bool] = True
    stops: ClassVar[bool] = True
    least_steps: ClassVar[int] = LEAST_STEPS

    def prepare(self, backbone: Backbone) -> Backbone:
        """The backbone as it is."""
        return backbone

    def finish(self, backbone: Backbone) -> Backbone:
        """The backbone as it is."""
        return backbone


STATED = ("learning_rate", "epochs", "least_steps", "stops", "starts_equal")
"""What a method states before a model is at hand."""


def whole(method: Any) -> Any:
    """The method, which states all that it must.

    Raises:
        ConfigError: it does not, and is most likely of another package.
    """
    lacking = [one for one in STATED if not hasattr(method, one)]
    if lacking:
        raise ConfigError(
            f"The method {type(method).__name__} does not state {' and '.join(lacking)}.",
            where="method",
            fix="whet.testing.check_method says what a method must have; docs/adding.md shows one",
        )
    return method


def serves(method: Method, valid: int) -> bool:
    """Whether so many validation rows serve a method: they can end its steps, or are enough to calibrate what moved."""
    return method.stops or (method.epochs > 0 and valid >= FEWEST_CALIBRATING)


def learning_rows(method: Method, train: int, valid: int) -> int:
    """How many rows a method learns from: validation rows too where they would not serve it."""
    return train + (0 if serves(method, valid) else valid)


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
    every = reached(backbone)

    def names(prefixes: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name for name in every if within(name, prefixes))

    groups = [RateGroup(names=names(backbone.tail), scale=1.0)]
    for distance, block in enumerate(reversed(backbone.blocks[max(depth, 0) :])):
        groups.append(RateGroup(names=names((block,)), scale=decay**distance))
    if depth < 0:
        above = {name for group in groups for name in group.names}
        rest = tuple(name for name in every if name not in above)
        groups.append(RateGroup(names=rest, scale=decay ** len(backbone.blocks)))
    return tuple(group for group in groups if group.names)


def reached(backbone: Backbone) -> tuple[str, ...]:
    """The pre-trained parameters that a gradient reaches, in the model's order."""
    out = {*backbone.unused, *backbone.created}
    return tuple(name for name, _ in backbone.model.named_parameters() if name not in out)


def require_some(what: str, names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple.

    Raises:
        ConfigError: there are none.
    """
    if not names:
        raise ConfigError(
            f"The model has no {what} that could train.", where="method", fix="use the method 'top-layers' or 'full'"
        )
    return tuple(names)


def within(name: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a parameter belongs to one of the named modules."""
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)
