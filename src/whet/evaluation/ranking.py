"""How well do scores order rows, whatever threshold is set? For two classes that of the second, in the order of labels;
for more classes, and for labels, each against all others, averaged over those that have rows on both sides.

A class that training never saw is no class here: its rows belong to the others.
"""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from whet.evaluation.classification import WITH_LABELS
from whet.evaluation.metric import Array, targets_of
from whet.tasks.predictions import Predictions

SPECIFICITY = 0.95


class AUC:
    """Area under the ROC curve: how often a row of the class scores higher than one of the others, ties half.

    Source: Hanley and McNeil 1982, "The Meaning and Use of the Area under a ROC Curve", Radiology 143.
    """

    name = "auc"
    higher_is_better = True
    kinds = WITH_LABELS
    additive = False
    proportion = False
    bounds = (0.0, 1.0)
    relative = False
    fewest = 10

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 2 C): scores of C classes, and whether the row is of each."""
        return scores_and_sides(predictions)

    def combine(self, statistics: Array) -> Array:
        """The mean over classes; a half where no class has rows on both sides."""
        return over_classes(statistics, area)


class SensitivityAtSpecificity(AUC):
    """Share of a class's rows that are found where 95% of the others are left alone.

    The height of the ROC curve there: where scores tie, or rows are few, lots are drawn between two thresholds.
    """

    name = "sensitivity-at-95-specificity"
    fewest = 40

    def combine(self, statistics: Array) -> Array:
        """The mean over classes; a twentieth, as by chance, where no class has rows on both sides."""
        return over_classes(statistics, found_share)


def scores_and_sides(predictions: Predictions) -> Array:
    """(N, 2 C) float64: scores, and 1 for rows of the class; of two classes the second alone."""
    scores, targets = predictions.scores.astype(np.float64), targets_of(predictions)
    if predictions.kind == "classification":
        targets = targets[:, None] == np.arange(scores.shape[1])
        if scores.shape[1] == 2:
            scores, targets = scores[:, 1:], targets[:, 1:]
    return np.concatenate([scores, targets.astype(np.float64)], axis=1)


def over_classes(statistics: Array, value: Callable[[Array, Array], float]) -> Array:
    """The mean of a value over classes with rows on both sides."""
    scores, sides = np.split(statistics, 2, axis=1)
    both = [place for place in range(scores.shape[1]) if 0 < sides[:, place].sum() < len(sides)]
    found = [value(scores[sides[:, place] > 0, place], scores[sides[:, place] == 0, place]) for place in both]
    return np.asarray(np.mean(found) if found else value(np.zeros(1), np.zeros(1)))  # as by chance


def area(own: Array, others: Array) -> float:
    """The chance that one of ``own`` is higher than one of ``others``, from ranks (Mann and Whitney 1947)."""
    ranks = rankdata(np.concatenate([own, others]))
    return float((ranks[: len(own)].sum() - len(own) * (len(own) + 1) / 2) / (len(own) * len(others)))


def found_share(own: Array, others: Array) -> float:
    """The height of the ROC curve at the specificity: between two thresholds lots are drawn."""
    thresholds = np.unique(np.concatenate([own, others]))[::-1]
    alarms, found = (
        np.concatenate([[0.0], 1 - np.searchsorted(np.sort(side), thresholds) / len(side)]) for side in (others, own)
    )
    return float(np.interp(1 - SPECIFICITY, alarms, np.maximum.accumulate(found)))
