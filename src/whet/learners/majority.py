"""What is reached without reading the input? The commonest class, each label's rate, or the mean."""

from dataclasses import dataclass

import numpy as np

from whet.data.rows import Rows
from whet.learners.learner import Array, Learner, Material
from whet.tasks.predictions import Kind, Predictions


@dataclass(frozen=True)
class Majority(Learner):
    """Always the same answer: the commonest class, the labels that more than half of the rows have, or the mean.

    Scores are the shares of the classes or labels in training, which is the best that is possible without the input.
    """

    def fit(self, material: Material) -> "FittedMajority":
        """Counts targets; reads no input."""
        kind, targets = material.task.kind, material.targets
        labels = tuple(str(label) for label in material.state.get("labels", ()))
        if kind == "classification":
            share = np.bincount(targets[targets >= 0], minlength=len(labels)) / max(1, int((targets >= 0).sum()))
            return FittedMajority(kind, labels, share)
        return FittedMajority(kind, labels, np.atleast_1d(targets.astype(np.float64).mean(axis=0)))


@dataclass(frozen=True, eq=False)
class FittedMajority:
    """One answer for all.

    Shapes:
        share: (K,) share of each class or label; regression (1,), the mean.
    """

    kind: Kind
    labels: tuple[str, ...]
    share: Array

    def predict(self, rows: Rows) -> Predictions:
        """The same answer for every row."""
        count = len(rows)
        scores = np.broadcast_to(self.share, (count, len(self.share)))
        decided: Array
        if self.kind == "classification":
            decided = np.full(count, int(self.share.argmax()), np.int64)
        else:
            decided = scores[:, 0].copy() if self.kind == "regression" else scores > 0.5
        return Predictions(self.kind, rows.ids, scores, decided, self.labels)
