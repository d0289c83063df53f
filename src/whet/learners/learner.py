"""The contract of a learner: anything that can be fitted to rows and then answers.

A fine-tuned network is one learner; a majority vote and TF-IDF with a linear model are others, which serve as
baselines. Judge, search and report see only their ``Predictions``.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from whet.data.rows import Columns, Rows
from whet.tasks.predictions import Predictions
from whet.tasks.task import State, Task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Material:
    """What a learner may see: rows with targets, and what the task made of them.

    ``train`` is read for its inputs: rows of several tables may lie in it, and their targets are in ``targets`` alone.

    Shapes:
        targets: (N, ...) as ``task.encode_targets`` gives them; classification (N,) int64, multi-label (N, K)
            float32 of 0 and 1, regression (N,) float64 in the target's own unit.
        units: (N,) rows of one unit stay in one fold, or None.
    """

    task: Task
    state: State
    columns: Columns
    train: Rows
    targets: Array
    seed: int = 0
    pretrained: Any = None
    """The pre-trained model (``neural.Pretrained``), for learners that rest on it."""
    units: Array | None = None
    earlier: "Fitted | None" = None
    """The model of the earlier run that this run goes on from, if there is one."""


class Fitted(Protocol):
    """A learner after fit."""

    def predict(self, rows: Rows) -> Predictions:
        """Answers for rows, without targets."""
        ...


class Learner(Protocol):
    """Anything that can be fitted. Members inherit from it, for the answers that are usually no."""

    method: ClassVar[Any] = None
    """The method that fits the pre-trained model in the same way, for a learner that is one."""

    learns: ClassVar[bool] = True
    """Whether it is fitted at all; one that is not is a second model that answers."""

    earlier: ClassVar[bool] = False
    """Whether it is what the run goes on from: on test rows of an earlier run the question is whether any was lost."""

    def share(self, rows: int, characters: int) -> float:
        """The share of so many rows and characters that it learns from: all, unless it draws a sample."""
        return 1.0

    def serves(self, columns: Columns, *, continued: bool) -> bool:
        """Whether it can do anything sensible here; a baseline that cannot is left out.

        Args:
            continued: Whether the run goes on from an earlier run.
        """
        return True

    def is_model(self, model: Fitted, material: Material) -> bool:
        """Whether the model under judgement is this very learner on this material, and need not be fitted twice."""
        return False

    def fit(self, material: Material) -> Fitted:
        """Learn from the material, and from nothing else."""
        ...
