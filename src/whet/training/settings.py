"""How gradient steps are taken: the settings of the loop, checked when built."""

from dataclasses import dataclass

from whet.errors import ConfigError
from whet.training.schedules import FALLS, Schedule


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings of every stage that descends.

    Args:
        epochs: Passes over the training rows at most, also 2.5; None takes the method's, and more for few rows.
        least_steps: Updates that few rows get by more passes, where ``epochs`` is not named: three epochs, the common
            habit, are far too few for a small set (Mosbach et al. 2021, arXiv:2006.04884; Zhang et al. 2021,
            arXiv:2006.05987).
        learning_rate: Peak rate of the top group; None takes the method's.
        head_learning_rate: Peak rate of the new head, as a multiple of ``learning_rate``.
        batch_size: Examples an update.
        micro_batch_size: Examples a backward; None takes the whole batch. Accumulation is exact.
        gradient_checkpointing: Blocks run again in the backward in place of keeping what they computed: far less memory
            for about a third more time, and the same bytes.
        warmup: Share of all steps over which the rate rises from zero.
        schedule: How the rate falls afterwards.
        weight_decay: Decoupled decay, on matrices only (not on norms, biases or the new head).
        clip: Largest norm of the whole update's gradient; 0 is off.
        patience: Evaluations without a better validation loss before a stage stops; 0 never stops early.
        evaluations_per_epoch: How often validation loss is measured.
        freeze: Parts of the model that no method moves, such as ["embeddings", "encoder.layer.[0-3]"].
        most_seconds: Clock limit of a stage; a stop by the clock is said and stored as a decision. 0 is none.
    """

    epochs: float | None = None
    least_steps: int = 200
    learning_rate: float | None = None
    head_learning_rate: float = 1.0
    batch_size: int = 32
    micro_batch_size: int | None = None
    gradient_checkpointing: bool = False
    warmup: float = 0.1
    schedule: Schedule = "linear"
    weight_decay: float = 0.01
    clip: float = 1.0
    patience: int = 4
    evaluations_per_epoch: int = 2
    freeze: tuple[str, ...] = ()
    most_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._require("epochs", self.epochs is None or self.epochs >= 1, "1 or more")
        self._require("least_steps", self.least_steps >= 0, "0 or more")
        self._require("learning_rate", self.learning_rate is None or 0 < self.learning_rate < 10, "above 0")
        self._require("head_learning_rate", self.head_learning_rate > 0, "above 0")
        self._require("batch_size", self.batch_size >= 1, "1 or more")
        self._require("micro_batch_size", self.micro_batch_size is None or self.micro_batch_size >= 1, "1 or more")
        self._require("warmup", 0 <= self.warmup < 1, "from 0 to below 1")
        self._require("schedule", self.schedule in FALLS, f"of {', '.join(FALLS)}")
        self._require("weight_decay", 0 <= self.weight_decay < 1, "from 0 to below 1")
        self._require("clip", self.clip >= 0, "0 or more")
        self._require("patience", self.patience >= 0, "0 or more")
        self._require("evaluations_per_epoch", self.evaluations_per_epoch >= 1, "1 or more")
        self._require("most_seconds", self.most_seconds >= 0, "0 or more")

    def passes(self, usual: float, rows: int) -> float:
        """Epochs as named, else the ``usual`` ones of a method, and more where ``rows`` are so few."""
        if self.epochs is not None:
            return self.epochs
        return max(usual, round(self.least_steps * self.batch_size / rows, 1))

    def _require(self, name: str, holds: bool, wanted: str) -> None:
        if not holds:
            raise ConfigError(
                f"{name} cannot be {getattr(self, name)!r}.", where=f"training.{name}", fix=f"use a value {wanted}"
            )
