"""Do the probabilities mean what they say? Of rows answered with 80% confidence, 80% should be right."""

import numpy as np

from whet.evaluation.classification import WITH_LABELS
from whet.evaluation.metric import Array, blocks, targets_of
from whet.tasks.predictions import Predictions

BINS = 15


class CalibrationError:
    """Debiased calibration error: the root mean square gap between confidence and share right, 0 to 1.

    Confidence of a row is the probability of its decided class; multi-label: each label's probability against whether
    the label holds. Over 15 bins of equal width, ``sum_b share_b (gap_b^2 - r_b (1 - r_b) / (n_b - 1))``, r_b the share
    right; its root, or 0 where it is negative. The subtracted term is what chance alone adds: the usual plug-in
    estimate is too large, the more so the fewer the rows. Bins with a single row say nothing and are left out.

    Source: Kumar, Liang & Ma 2019, "Verified Uncertainty Calibration", arXiv:1909.10155, section 5 (the squared error
    is the one whose bias can be removed exactly); Roelofs et al. 2022, arXiv:2012.08668, on the bias of plug-in
    estimates. Ours has fixed bins rather than bins of equal count, so that resampling needs sums alone.
    """

    name = "calibration-error"
    higher_is_better = False
    kinds = WITH_LABELS
    additive = True
    proportion = False
    bounds = (0.0, 1.0)
    relative = False
    fewest = 30

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 3 BINS): for each bin answers, confidence, right."""
        confidence, right = confidences(predictions)
        rows, width = confidence.shape
        place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1) + BINS * np.arange(rows)[:, None]
        weights = (np.ones(rows * width), confidence.ravel(), right.ravel())
        sums = [np.bincount(place.ravel(), weight, rows * BINS).reshape(rows, BINS) for weight in weights]
        return np.concatenate(sums, axis=1)

    def combine(self, statistics: Array) -> Array:
        """The root of the debiased mean square gap."""
        answers, confidence, right = np.split(statistics, 3, axis=-1)
        enough = answers > 1
        count = np.where(enough, answers, 2.0)
        gap, share = (confidence - right) / count, right / count
        square = np.where(enough, answers * (gap**2 - share * (1 - share) / (count - 1)), 0.0)
        return np.asarray(np.sqrt(np.maximum(square.sum(axis=-1) / answers.sum(axis=-1), 0.0)))


def confidences(predictions: Predictions) -> tuple[Array, Array]:
    """How sure and how right: two (N, 1) float64 arrays for classes, (N, K) for labels."""
    targets, scores = targets_of(predictions), predictions.scores.astype(np.float64)
    if predictions.kind == "multi-label":
        return scores, targets.astype(np.float64)
    sure = np.take_along_axis(scores, predictions.decided[:, None], axis=1)
    return sure, (targets == predictions.decided).astype(np.float64)[:, None]


def reliability(predictions: Predictions) -> tuple[tuple[float, float, int], ...]:
    """(mean confidence, share right, answers) of each bin that holds any, from unsure to sure."""
    metric = CalibrationError()
    sums = np.sum([metric.per_row(predictions.take(rows)).sum(axis=0) for rows in blocks(predictions)], axis=0)
    bins = zip(*(part.tolist() for part in np.split(sums, 3)), strict=True)
    return tuple((sure / count, right / count, int(count)) for count, sure, right in bins if count)
