"""What a learner answered for some rows: the one record that judge, search and report see.

Every learner returns it, a neural network as well as a baseline. Arrays are NumPy, on purpose: whoever reads
predictions needs no torch.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

Kind = Literal["classification", "multi-label", "regression"]


@dataclass(frozen=True)
class Predictions:
    """Answers for N rows, in the order of ``row_ids``.

    Shapes, K classes or labels:
        row_ids: (N,) int64, the position of each row in its source.
        scores: classification (N, K) probabilities that sum to 1; multi-label (N, K) independent probabilities;
            regression (N, 1) values in the unit of the target.
        decided: classification (N,) int64 class index; multi-label (N, K) bool; regression (N,) float64.
        targets: as ``decided``, or None until judge has opened them. A class that training never saw is -1.
        units: (N,) int64, the resampling unit of each row (its group), or None when each row is its own unit.
    """

    kind: Kind
    row_ids: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]
    decided: np.ndarray[Any, Any]
    labels: tuple[str, ...] = ()
    targets: np.ndarray[Any, Any] | None = None
    units: np.ndarray[Any, Any] | None = None

    def __len__(self) -> int:
        return len(self.row_ids)

    def with_targets(self, targets: np.ndarray[Any, Any], units: np.ndarray[Any, Any] | None = None) -> "Predictions":
        """The same answers, with what was right; called by judge alone for test rows."""
        return replace(self, targets=targets, units=units)

    def with_labels(self, labels: tuple[str, ...]) -> "Predictions":
        """The same answers among these labels, which hold all of its own: one that it does not know gets nothing."""
        if labels == self.labels:
            return self
        place = np.array([labels.index(label) for label in self.labels], np.int64)
        scores = np.zeros((len(self), len(labels)))
        scores[:, place] = self.scores
        if self.kind == "classification":
            return replace(self, labels=labels, scores=scores, decided=place[self.decided])
        decided = np.zeros(scores.shape, bool)
        decided[:, place] = self.decided
        return replace(self, labels=labels, scores=scores, decided=decided)

    def take(self, index: np.ndarray[Any, Any]) -> "Predictions":
        """The rows at ``index``, in that order."""
        return replace(
            self,
            row_ids=self.row_ids[index],
            scores=self.scores[index],
            decided=self.decided[index],
            targets=None if self.targets is None else self.targets[index],
            units=None if self.units is None else self.units[index],
        )
