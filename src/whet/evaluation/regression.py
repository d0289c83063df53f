"""How far off are predicted numbers? Errors in the unit of the target, and two scores without a unit."""

import numpy as np

from whet.evaluation.metric import Array, targets_of
from whet.tasks.predictions import Kind, Predictions

REGRESSION: frozenset[Kind] = frozenset(("regression",))


class MeanAbsoluteError:
    """Mean absolute error, in the unit of the target."""

    name = "mae"
    higher_is_better = False
    kinds = REGRESSION
    additive = True
    proportion = False
    bounds = (0.0, np.inf)
    relative = True
    fewest = 1

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 2): absolute error, 1."""
        error = np.abs(errors(predictions))
        return np.stack([error, np.ones_like(error)], axis=1)

    def combine(self, statistics: Array) -> Array:
        """Mean."""
        return np.asarray(statistics[..., 0] / statistics[..., 1])


class RootMeanSquaredError(MeanAbsoluteError):
    """Root of the mean squared error, in the unit of the target; large errors weigh more than in mae."""

    name = "rmse"

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 2): squared error, 1."""
        error = errors(predictions) ** 2
        return np.stack([error, np.ones_like(error)], axis=1)

    def combine(self, statistics: Array) -> Array:
        """Root of the mean."""
        return np.sqrt(statistics[..., 0] / statistics[..., 1])


class R2:
    """Share of variance explained: 1 - squared errors / squared distances from the mean; 0 is what the mean reaches.

    Constant targets give 1 when every prediction is right and 0 otherwise, as in scikit-learn. Sums are float64:
    digits are lost when the mean is a million times the spread.
    """

    name = "r2"
    higher_is_better = True
    kinds = REGRESSION
    additive = True
    proportion = False
    bounds = (-np.inf, 1.0)
    relative = False
    fewest = 1

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 4): squared error, target, squared target, 1."""
        targets = targets_of(predictions).astype(np.float64)
        return np.stack([errors(predictions) ** 2, targets, targets**2, np.ones_like(targets)], axis=1)

    def combine(self, statistics: Array) -> Array:
        """One minus the ratio of the two sums of squares."""
        error, total, square, rows = np.moveaxis(statistics, -1, 0)
        spread = square - total**2 / rows
        constant = spread <= 1e-14 * square
        explained = 1.0 - error / np.where(constant, 1.0, spread)
        return np.where(constant, np.where(error == 0, 1.0, 0.0), explained)


class Spearman:
    """Rank correlation, -1 to 1; equal values share the mean of their ranks. 0 if either side is constant."""

    name = "spearman"
    higher_is_better = True
    kinds = REGRESSION
    additive = False
    proportion = False
    bounds = (-1.0, 1.0)
    relative = False
    fewest = 1

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 2): target, prediction."""
        return np.stack([targets_of(predictions), predictions.decided], axis=1).astype(np.float64)

    def combine(self, statistics: Array) -> Array:
        """Pearson's correlation of the ranks."""
        left, right = (ranks(column) for column in statistics.T)
        left, right = left - left.mean(), right - right.mean()
        scale = np.sqrt((left @ left) * (right @ right))
        return np.asarray(left @ right / scale if scale > 0 else 0.0)


def errors(predictions: Predictions) -> Array:
    """(N,) float64: prediction minus target."""
    return predictions.decided.astype(np.float64) - targets_of(predictions).astype(np.float64)


def ranks(values: Array) -> Array:
    """(N,) ranks from 1; equal values share the mean of theirs."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    sizes = np.diff(np.append(starts, len(values)))
    found = np.empty(len(values))
    found[order] = np.repeat(starts + (sizes + 1) / 2, sizes)
    return found
