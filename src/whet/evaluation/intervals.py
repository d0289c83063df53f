"""How sure is a score? 95% intervals: Wilson for a share of rows, the bootstrap for everything else.

The bootstrap draws whole units: groups where rows belong to groups, else rows. Rows of classes are drawn class by
class, so that no class vanishes; classes with fewer than 5 rows are drawn together, since a class of one row, drawn
alone, would seem to be known exactly. Many test rows need fewer resamples, see ``RESAMPLED_UNITS``.

The interval is the bias-corrected percentile one (Efron 1981, "Nonparametric standard errors and confidence
intervals"), its distances from the value widened as Student's t is wider than the normal and by sqrt(n / (n - strata)),
because drawing from few units makes them seem more alike than they are (Hesterberg 2015, arXiv:1411.5279, section 5).
Why not plain percentiles: resampled macro-F1 and calibration error are biased the same way as the estimate itself, so
that plain percentiles lie off by twice the bias. Why not BCa: its acceleration needs a jackknife, and coverage was not
better.
"""

import math
import zlib
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from whet.evaluation.metric import Array, Metric, blocks, targets_of
from whet.tasks.predictions import Predictions

RESAMPLES = 1000
RESAMPLED_UNITS = 10**8  # above 100,000 units resamples fall from 1,000 towards 200, to bound time and memory
SMALLEST_STRATUM = 5
TWO_SIDED_95 = (0.025, 0.975)


class Interval(NamedTuple):
    """Lower and upper end."""

    low: float
    high: float


def wilson(right: float, rows: float, level: float = 0.95) -> Interval:
    """Interval of a proportion: no width is lost at 0 or 1, and no rows give (0, 1).

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if rows <= 0:
        return Interval(0.0, 1.0)
    z = normal_quantile(0.5 + level / 2)
    share, total = right / rows, rows + z * z
    centre = (right + z * z / 2) / total
    half = z / total * math.sqrt(rows * share * (1 - share) + z * z / 4)
    return Interval(max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


class Resamples:
    """The same draws of test rows for every learner and metric, so that all comparisons are paired.

    Args:
        predictions: Any learner's answers with targets, by row id (``ordered``); only targets and units are used.
        seed: With ``purpose``, all that the draws depend on beside the rows.
        resamples: How many draws; fewer for more than 100,000 units.

    Shapes:
        counts: (R, U) uint8, how often draw r holds unit u.
        unit_of_row: (N,) position of each row's unit.
    """

    def __init__(self, predictions: Predictions, seed: int, *, purpose: str, resamples: int = RESAMPLES) -> None:
        self.unit_of_row, self.grouped = _units(predictions)
        self.units = int(self.unit_of_row.max()) + 1
        strata = np.zeros(self.units, dtype=np.int64)
        if predictions.kind == "classification" and not self.grouped:
            strata = _strata(targets_of(predictions))
        self.strata = int(strata.max()) + 1
        resamples = min(resamples, max(200, RESAMPLED_UNITS // self.units))
        rng = np.random.default_rng([zlib.crc32(purpose.encode()), seed])
        self.counts = _draw(strata, resamples, rng)
        self._known: dict[tuple[int, int], tuple[Metric, Predictions, Array]] = {}

    def sums(self, predictions: Predictions, statistics: Callable[[Predictions], Array]) -> Array:
        """(R, S) sums of the rows' statistics over each draw."""
        total: Array = np.zeros(())
        for rows in blocks(predictions):
            weights = self.counts[:, self.unit_of_row[rows]].astype(np.float64)
            total = total + weights @ statistics(predictions.take(rows))
        return total

    def values(self, metric: Metric, predictions: Predictions) -> Array:
        """(R,) the metric of each draw. Remembered, because scores and comparisons ask for the same."""
        key = (id(metric), id(predictions))
        if key not in self._known:
            found = self._values(metric, predictions)
            self._known[key] = (metric, predictions, found)  # both kept alive, so that ids stay theirs
        return self._known[key][2]

    def _values(self, metric: Metric, predictions: Predictions) -> Array:
        if metric.additive:
            return metric.combine(self.sums(predictions, metric.per_row))
        rows = metric.per_row(predictions)
        drawn = (np.repeat(rows, counts[self.unit_of_row], axis=0) for counts in self.counts)
        return np.array([metric.combine(draw) for draw in drawn], dtype=np.float64)

    def interval(
        self,
        value: float,
        resampled: Array,
        *,
        bounds: tuple[float, float],
        scale: float = 1.0,
        levels: tuple[float, float] = TWO_SIDED_95,
    ) -> Interval:
        """The interval of one metric or difference; see ``bootstrap_interval``."""
        return bootstrap_interval(
            value, resampled, units=self.units, strata=self.strata, bounds=bounds, scale=scale, levels=levels
        )


def bootstrap_interval(
    value: float,
    resampled: Array,
    *,
    units: int,
    strata: int = 1,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    scale: float = 1.0,
    levels: tuple[float, float] = TWO_SIDED_95,
) -> Interval:
    """Bias-corrected percentile interval, widened for few units; the file's docstring says why.

    Never without width by accident: with a single unit nothing is known, so the interval is all of ``bounds``; where no
    draw differs (every row right, say), it reaches ``scale`` x z^2 / (units + z^2) to both sides, which for a share is
    Wilson's interval at 0 or 1. ``scale`` is the size that a change could have: 1 for shares, for errors the error.
    """
    resampled = resampled[np.isfinite(resampled)]
    degrees = units - strata
    if degrees < 1 or len(resampled) == 0:
        return Interval(*bounds)
    ends = [_end(value, resampled, level, degrees, units) for level in levels]
    if np.ptp(resampled) <= 1e-12 * max(1.0, abs(value)):
        z = normal_quantile(TWO_SIDED_95[1])
        reach = scale * z * z / (units + z * z)
        ends = [value - reach, value + reach]
    low, high = (min(max(end, bounds[0]), bounds[1]) for end in ends)
    return Interval(min(low, value), max(high, value))


def _end(value: float, resampled: Array, level: float, degrees: int, units: int) -> float:
    """One end: the bias-corrected quantile, its distance from the value widened."""
    z = normal_quantile(level)
    below = np.mean(resampled < value) + np.mean(resampled == value) / 2
    shift = normal_quantile(float(np.clip(below, 0.05, 0.95)))
    quantile = float(np.quantile(resampled, NormalDist().cdf(2 * shift + z)))
    widening = student_quantile(level, degrees) / z * math.sqrt(units / degrees)
    return value + (quantile - value) * widening


def normal_quantile(level: float) -> float:
    """Quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(level)


def student_quantile(level: float, degrees: int) -> float:
    """Quantile of Student's t, within 1% for 3 degrees and closer above; exact for 1 and 2.

    Source: Abramowitz & Stegun 1964, 26.7.5 (expansion in 1 / degrees). Ours avoids loading SciPy.
    """
    if degrees == 1:
        return math.tan(math.pi * (level - 0.5))
    if degrees == 2:
        return float((2 * level - 1) / math.sqrt(2 * level * (1 - level)))
    z = normal_quantile(level)
    terms: tuple[float, ...] = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / float(degrees) ** power for power, term in enumerate(terms, start=1))


def ordered(predictions: Predictions) -> Predictions:
    """The same rows in the order of their ids, so that the order they came in changes nothing."""
    order = np.argsort(predictions.row_ids, kind="stable")
    return predictions if np.array_equal(order, np.arange(len(order))) else predictions.take(order)


def _units(predictions: Predictions) -> tuple[Array, bool]:
    """(N,) unit of each row from 0, and whether any unit holds several rows."""
    rows = len(predictions)
    if predictions.units is not None:
        names, unit_of_row = np.unique(predictions.units, return_inverse=True)
        if len(names) < rows:
            return unit_of_row.reshape(-1), True
    return np.arange(rows), False


def _strata(targets: Array) -> Array:
    """(N,) stratum of each row from 0: its class, or one shared by the classes with few rows."""
    _, classes, sizes = np.unique(targets, return_inverse=True, return_counts=True)
    shared = np.where(sizes < SMALLEST_STRATUM, len(sizes), np.arange(len(sizes)))[classes.reshape(-1)]
    found: Array = np.unique(shared, return_inverse=True)[1].reshape(-1)
    return found


def _draw(strata: Array, resamples: int, rng: np.random.Generator) -> Array:
    """(R, U) uint8: draws with replacement within each stratum, a few resamples at a time."""
    units, order = len(strata), np.argsort(strata, kind="stable")
    sizes = np.bincount(strata)
    widths = np.repeat(sizes, sizes)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    counts = np.empty((resamples, units), dtype=np.uint8)
    step = max(1, 2**18 // units)
    for begin in range(0, resamples, step):
        part = min(step, resamples - begin)
        drawn = starts + np.minimum((rng.random((part, units)) * widths).astype(np.int64), widths - 1)
        flat = order[drawn] + units * np.arange(part)[:, None]
        counts[begin : begin + part] = np.bincount(flat.ravel(), minlength=part * units).reshape(part, units)
    return counts
