"""How often are classes and labels right, and how likely were the right ones thought?

A target of -1 is a class that training never saw: no answer is right for it. It counts as wrong everywhere, as one more
class with F1 zero in macro-F1, and with the least likelihood in log-loss.
"""

import numpy as np

from whet.evaluation.metric import Array, targets_of
from whet.tasks.predictions import Kind, Predictions

CLASSIFICATION: frozenset[Kind] = frozenset(("classification",))
WITH_LABELS: frozenset[Kind] = frozenset(("classification", "multi-label"))
LEAST_LIKELIHOOD = 1e-7  # near the float32 resolution of a probability; one sure and wrong row costs 16 nats


class Accuracy:
    """Share of rows whose class is right."""

    name = "accuracy"
    higher_is_better = True
    kinds = CLASSIFICATION
    additive = True
    proportion = True
    bounds = (0.0, 1.0)
    relative = False
    fewest = 1

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 2): right, 1."""
        right = rows_right(predictions).astype(np.float64)
        return np.stack([right, np.ones_like(right)], axis=1)

    def combine(self, statistics: Array) -> Array:
        """Right / rows."""
        return np.asarray(statistics[..., 0] / statistics[..., 1])


class ExactMatch(Accuracy):
    """Share of rows whose whole set of labels is right; for single-label rows the same as accuracy."""

    name = "exact-match"
    kinds = WITH_LABELS


class MicroF1:
    """F1 over all decisions: 2 true / (2 true + false alarms + misses). For single-label rows it equals accuracy."""

    name = "micro-f1"
    higher_is_better = True
    kinds = WITH_LABELS
    additive = True
    proportion = False
    bounds = (0.0, 1.0)
    relative = False
    fewest = 1

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 2): 2 true, and 2 true + false alarms + misses."""
        targets, decided = targets_of(predictions), predictions.decided
        if predictions.kind == "classification":
            return 2 * Accuracy().per_row(predictions)
        true = 2.0 * (targets & decided).sum(axis=1)
        return np.stack([true, true + (targets ^ decided).sum(axis=1)], axis=1)

    def combine(self, statistics: Array) -> Array:
        """The ratio of the sums; 0 where there is neither a label nor a decision."""
        return _ratio(statistics[..., 0], statistics[..., 1])


class MacroF1:
    """F1 averaged over classes: over those that have rows, of labels also those that are decided without having any.

    scikit-learn's default counts a class that is only decided as one with F1 zero. Of such a class these rows say
    nothing, a wrong answer already costs the right class its recall, and two models would be averaged over different
    classes. A false label costs no other label anything, so it counts. Labels that neither occur nor are decided are
    left out, where scikit-learn counts them as zero.
    """

    name = "macro-f1"
    higher_is_better = True
    kinds = WITH_LABELS
    additive = True
    proportion = False
    bounds = (0.0, 1.0)
    relative = False
    fewest = 1

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 3 (K + 1)): for each class 2 true, decided + target, averaged over; the last collects unseen targets."""
        true, decided, target = np.moveaxis(class_counts(predictions), 1, 0)
        counted = target if predictions.kind == "classification" else decided + target
        return np.stack([2 * true, decided + target, counted], axis=1).reshape(len(predictions), -1)

    def combine(self, statistics: Array) -> Array:
        """Mean of the F1 of the classes that are averaged over."""
        parts = statistics.reshape(*statistics.shape[:-1], 3, -1)
        counted = parts[..., 2, :] > 0
        return _ratio((_ratio(parts[..., 0, :], parts[..., 1, :]) * counted).sum(axis=-1), counted.sum(axis=-1))


class LogLoss:
    """Mean negative log-likelihood of the right answer, in nats; multi-label: averaged over labels as well.

    Likelihoods below 1e-7 count as 1e-7, and so does a class that training never saw.
    """

    name = "log-loss"
    higher_is_better = False
    kinds = WITH_LABELS
    additive = True
    proportion = False
    bounds = (0.0, np.inf)
    relative = True
    fewest = 1

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 2): loss, 1."""
        targets, scores = targets_of(predictions), predictions.scores.astype(np.float64)
        if predictions.kind == "classification":
            likelihood = np.take_along_axis(scores, np.maximum(targets, 0)[:, None], axis=1)
            likelihood = np.where(targets[:, None] < 0, 0.0, likelihood)
        else:
            likelihood = np.where(targets, scores, 1.0 - scores)
        loss = -np.log(np.clip(likelihood, LEAST_LIKELIHOOD, 1.0)).mean(axis=1)
        return np.stack([loss, np.ones_like(loss)], axis=1)

    def combine(self, statistics: Array) -> Array:
        """Loss / rows."""
        return np.asarray(statistics[..., 0] / statistics[..., 1])


def rows_right(predictions: Predictions) -> Array:
    """(N,) bool: the class, or every label, is right."""
    same = targets_of(predictions) == predictions.decided
    return np.asarray(same if same.ndim == 1 else same.all(axis=1))


def class_counts(predictions: Predictions) -> Array:
    """(N, 3, K + 1) float64: true (decided and right), decided, target; class K stands for unseen targets."""
    targets, rows, width = targets_of(predictions), len(predictions), len(predictions.labels) + 1
    counts = np.zeros((rows, 3, width))
    if predictions.kind == "multi-label":
        counts[:, 0, :-1] = targets & predictions.decided
        counts[:, 1, :-1] = predictions.decided
        counts[:, 2, :-1] = targets
        return counts
    every, seen = np.arange(rows), np.where(targets < 0, width - 1, targets)
    counts[every, 0, seen] = targets == predictions.decided
    counts[every, 1, predictions.decided] = 1.0
    counts[every, 2, seen] = 1.0
    return counts


def f1_of(counts: Array) -> Array:
    """(..., 3, C) sums of true, decided, target -> (..., C) F1; 0 for a class that is neither decided nor a target."""
    return _ratio(2 * counts[..., 0, :], counts[..., 1, :] + counts[..., 2, :])


def _ratio(part: Array, whole: Array) -> Array:
    """``part / whole``, 0 where ``whole`` is 0."""
    part, whole = np.asarray(part, dtype=np.float64), np.asarray(whole, dtype=np.float64)
    return np.asarray(np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0))
