"""How gradient steps are taken: the settings of the loop, checked when built."""

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from whet import catalog
from whet.errors import ConfigError
from whet.numeric import require_numbers
from whet.training.schedules import FALLS, Schedule, rate_at

if TYPE_CHECKING:
    from whet.methods.method import Method

Sampling = Literal["rows", "balanced"]
OF_LOSS = ("patience", "evaluations_per_epoch", "mixup", "r_drop", "sampling")
"""Settings that act on the task's loss alone: a stage that minimises another one reads none of them."""
OF_HEAD = ("head_learning_rate",)
"""Settings that act on the new head's steps alone. Every other one acts on any steps."""
FILLED = ("epochs", "learning_rate", "micro_batch_size", "gradient_checkpointing", "views", "augment")
"""Settings that planning fills in: a whole plan does not tell them from what a user set."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of every stage that descends.

    Args:
        epochs: Passes over the training rows at most, also 2.5; None takes the method's, and more for few rows.
        least_steps: Updates that few rows get by more passes, where ``epochs`` is not named; None takes the method's.
        optimizer: By its catalog name, or an object of ``whet.training.optimizers``, which has settings of its own.
        learning_rate: Peak rate of the top group; None takes the method's, times what the optimizer's unit is of
            AdamW's.
        head_learning_rate: Peak rate of the new head, as a multiple of ``learning_rate``.
        batch_size: Examples an update at most; those of an epoch are equally many but for one.
        micro_batch_size: Examples a backward; None takes the whole batch. Accumulation is exact.
        gradient_checkpointing: Blocks run again in the backward in place of keeping what they computed: far less memory
            for about a third more time, and the same bytes.
        warmup: Share of all steps over which the rate rises from zero.
        schedule: How the rate falls afterwards; None takes the optimizer's: linear, but for one that averages.
        weight_decay: Decoupled decay, on matrices only (not on norms, biases or the new head), as strong under every
            optimizer: each update takes away rate x decay, the rate in units of AdamW's.
        clip: Largest norm of the whole update's gradient; 0 is off.
        patience: Evaluations without a better validation loss before a stage stops; 0 never stops early.
        evaluations_per_epoch: How often validation loss is measured.
        freeze: Parts of the model that no method moves, such as ["embeddings", "encoder.layer.[0-3]"].
        average: Which weights a stage ends with, by its catalog name, or an object of ``whet.training.averages``, which
            has settings of its own; "none" is the best of one moment.
        dropout: Of hidden states while training; None keeps the model's, 0 turns it off. That of attention weights is
            the backbone's to set (``backbone.attention_dropout``, which is off unless named).
        mixup: Features are mixed in pairs, with shares from a beta distribution of this parameter; 0 is off.
        r_drop: Weight of the divergence between two forwards that drop differently; 0 is off, and a step costs twice.
        sampling: "rows" takes every row once an epoch; "balanced" draws as many, every class equally often.
        views: Of each training example, looked at by one epoch after another and over again: the example as it is, and
            augmented ones. None takes four where some augmentation is safe, else one.
        augment: What changes the augmented views, by catalog names, or objects of ``whet.modalities.augmentations``,
            which have settings of their own; () changes nothing. None asks the training rows which are safe.
        most_seconds: Clock limit of a stage, with what it took before it was resumed; a stop by the clock is said and
            stored as a decision. 0 is none.
    """

    epochs: float | None = None
    least_steps: int | None = None
    optimizer: Any = field(default="adamw", metadata={"member": "optimizer"})
    learning_rate: float | None = None
    head_learning_rate: float = 1.0
    batch_size: int = 32
    micro_batch_size: int | None = None
    gradient_checkpointing: bool = False
    warmup: float = 0.1
    schedule: Schedule | None = None
    weight_decay: float = 0.01
    clip: float = 1.0
    patience: int = 4
    evaluations_per_epoch: int = 2
    freeze: tuple[str, ...] = ()
    average: Any = field(default="none", metadata={"member": "average"})
    dropout: float | None = None
    mixup: float = 0.0
    r_drop: float = 0.0
    sampling: Sampling = "rows"
    views: int | None = None
    augment: tuple[Any, ...] | None = field(default=None, metadata={"member": "augmentation"})
    most_seconds: float = 0.0

    def __post_init__(self) -> None:
        require_numbers(self, "training")
        for name, has in (("optimizer", "stepper"), ("average", "stepped")):
            if isinstance(getattr(self, name), str):
                object.__setattr__(self, name, catalog.find(name, getattr(self, name))())
            self._require(name, hasattr(getattr(self, name), has), self._known(name))
        if self.augment is not None:
            named: Any = self.augment
            given = (named,) if isinstance(named, str) else tuple(named)
            chosen = tuple(catalog.find("augmentation", one)() if isinstance(one, str) else one for one in given)
            object.__setattr__(self, "augment", chosen)
            self._require(
                "augment",
                all(hasattr(one, "mild") and not isinstance(one, type) for one in chosen),
                self._known("augmentation"),
            )
        self._require("views", self.views is None or self.views >= 1, "1 or more")
        self._require("epochs", self.epochs is None or self.epochs >= 1, "1 or more")
        self._require("least_steps", self.least_steps is None or self.least_steps >= 0, "0 or more")
        rate = self.learning_rate
        self._require("learning_rate", rate is None or 0 < rate < 10, "above 0 and below 10")
        self._require("head_learning_rate", self.head_learning_rate > 0, "above 0")
        self._require("batch_size", self.batch_size >= 1, "1 or more")
        self._require("micro_batch_size", self.micro_batch_size is None or self.micro_batch_size >= 1, "1 or more")
        self._require("warmup", 0 <= self.warmup < 1, "from 0 to below 1")
        self._require("schedule", self.schedule is None or self.schedule in tuple(FALLS), f"of {', '.join(FALLS)}")
        self._require_own_schedule()
        self._require("weight_decay", 0 <= self.weight_decay < 1, "from 0 to below 1")
        self._require("clip", self.clip >= 0, "0 or more")
        self._require("patience", self.patience >= 0, "0 or more")
        self._require("evaluations_per_epoch", self.evaluations_per_epoch >= 1, "1 or more")
        self._require("dropout", self.dropout is None or 0 <= self.dropout < 1, "from 0 to below 1")
        self._require("mixup", 0 <= self.mixup <= 100, "of 0, which is off, or above, such as 0.2")
        self._require("r_drop", 0 <= self.r_drop <= 100, "of 0, which is off, or above, such as 1")
        self._require("sampling", self.sampling in get_args(Sampling), f"of {', '.join(get_args(Sampling))}")
        if self.mixup and self.micro_batch_size is not None and self.micro_batch_size % 2:
            raise ConfigError(
                f"mixup mixes pairs, and a micro-batch of {self.micro_batch_size} would part one.",
                where="training.micro_batch_size",
                fix="use an even number",
            )
        self._require("most_seconds", self.most_seconds >= 0, "0 or more")

    def changed(self) -> tuple[str, ...]:
        """The names of settings that are not at their defaults; that of the schedule is the optimizer's."""
        usual = Training(schedule=self.optimizer.schedule)
        given = replace(self, schedule=self.schedule or self.optimizer.schedule)
        return tuple(one.name for one in fields(self) if getattr(given, one.name) != getattr(usual, one.name))

    def passes(self, method: "Method", examples: int) -> float:
        """Epochs as named, else the method's, and more where ``examples`` are so few."""
        if self.epochs is not None:
            return self.epochs
        least = method.least_steps if self.least_steps is None else self.least_steps
        return max(method.epochs, round(least * self.batch_size / examples, 1))

    def rate(self, usual: float) -> float:
        """The peak rate as named, else the ``usual`` one of a method, which is AdamW's, in the optimizer's unit."""
        return self.learning_rate or usual * float(self.optimizer.usual_rate)

    def rate_factor(self, step: int, steps: int) -> float:
        """The schedule's factor on the peak rate at a step, from 0, of ``steps``."""
        return rate_at(step, steps, self.schedule or self.optimizer.schedule, self.warmup)

    def _require_own_schedule(self) -> None:
        own = self.optimizer.schedule
        if self.optimizer.own_schedule and self.schedule not in (None, own):
            raise ConfigError(
                f"The optimizer {catalog.name_of('optimizer', self.optimizer)!r} cannot follow the schedule "
                f"{self.schedule!r}: {self.optimizer.own_schedule}.",
                where="training.schedule",
                fix=f"use training.schedule={own}, with a warm-up if you like, or another training.optimizer",
            )

        if self.optimizer.own_schedule and self.average.of_updates:
            raise ConfigError(
                f"The optimizer {catalog.name_of('optimizer', self.optimizer)!r} answers with an average of its "
                f"weights already, so {catalog.name_of('average', self.average)!r} would average an average.",
                where="training.average",
                fix="leave training.average out, or choose one that is no mean of updates, such as soup",
            )

    @staticmethod
    def _known(kind: str) -> str:
        return f"of {', '.join(catalog.members(kind))}"

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ConfigError(
                f"{name} cannot be {getattr(self, name)!r}.", where=f"training.{name}", fix=f"use a value {wanted}"
            )
