"""How sure is a score? 95% intervals: Wilson for a share of rows, the bootstrap for everything else.

The bootstrap draws whole units: groups where rows belong to groups, else rows. Rows of classes are drawn class by
class, so that no class vanishes; classes with fewer than 5 rows are drawn together, since a class of one row, drawn
alone, would seem to be known exactly. Many test rows need fewer resamples, see ``RESAMPLED_UNITS``.

From the draws come three intervals; coverage was simulated on synthetic classes (30 to 800 rows, F1 0.76 to 0.99):

- a score that is a share (F1): Wilson's interval with as many rows as would have the variance of the draws. 93% to
  97%, where percentiles fell to 62% when few rows are wrong, and bias correction (Efron 1981) and a logit scale to 85%;
- other scores: percentiles, moved so that the mean of the draws lies on the value (resampling adds to a calibration
  error the bias that the estimate has lost). 89% to 96%, least for the calibration error near zero; BCa was not tried,
  because simple bias correction already did worse;
- a paired difference: Student's t with the standard deviation of the draws, see ``difference_interval``.

All are widened as Student's t is wider than the normal, and by sqrt(n / (n - strata)), because drawing from few units
makes them seem more alike than they are (Hesterberg 2015, arXiv:1411.5279, section 5).
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

    @property
    def degrees(self) -> int:
        """Degrees of freedom: units that are free to differ from the others of their stratum."""
        return self.units - self.strata


def share_interval(value: float, resampled: Array, *, units: int, degrees: int) -> Interval:
    """95% interval of a score between 0 and 1: Wilson's, with the rows that would have the variance of the draws.

    Never without width by accident: where every draw is the same (all right, say), Wilson's interval at ``units`` rows;
    where a single unit is all there is, (0, 1).

    Source: the effective sample size of survey statistics, Kish 1965, "Survey Sampling".
    """
    if degrees < 1:
        return Interval(0.0, 1.0)
    deviation = _deviation(resampled, units, degrees) * _heavier(degrees)
    rows = float(units)
    if deviation > 1e-12 and 0 < value < 1:
        rows = value * (1 - value) / deviation**2
    return wilson(value * rows, rows)


def error_interval(
    value: float, resampled: Array, *, units: int, degrees: int, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> Interval:
    """95% interval of any other score: percentiles of the draws, moved so that their mean is the value, and widened.

    A single unit gives ``bounds``. Where every draw is the same, it reaches z^2 / (units + z^2) of the value to both
    sides, as if Wilson's share of unseen rows erred by that much more or less; an error of exactly zero keeps no width.
    """
    resampled = resampled[np.isfinite(resampled)]
    if degrees < 1 or len(resampled) == 0:
        return Interval(*bounds)
    widening = _heavier(degrees) * math.sqrt(units / degrees)
    reach = (np.quantile(resampled, TWO_SIDED_95) - resampled.mean()) * widening
    if np.ptp(resampled) <= 1e-12 * max(1.0, abs(value)):
        reach = abs(value) * no_change(units) * np.array([-1.0, 1.0])
    low, high = np.clip(value + reach, *bounds)
    return Interval(min(float(low), value), max(float(high), value))


def difference_interval(
    difference: float,
    resampled: Array,
    *,
    units: int,
    degrees: int,
    changed: int,
    span: float,
    scale: float = 1.0,
    levels: tuple[float, float] = TWO_SIDED_95,
) -> Interval:
    """Interval of a paired difference: Student's t times the draws' deviation, as if two more rows disagreed.

    The deviation is widened by sqrt(1 + 2 / changed), ``changed`` being the units on which the two sides' statistics
    differ. For a share this is the interval of ``paired_proportions`` up to its centre: without it, four rows won and
    none lost would already look like a sure gain. Where nothing changed, it reaches ``scale`` x sqrt(2) / units x z.

    Args:
        span: Largest difference that the metric allows; the interval of a single unit is all of it.
        scale: Size that a change could have: 1 for shares, for errors the error.
        levels: Levels of both ends.
    """
    if degrees < 1:
        return Interval(-span, span)
    if changed > 0:
        deviation = _deviation(resampled, units, degrees) * math.sqrt(1 + 2 / changed)
    else:
        deviation = scale * math.sqrt(2) / units
    low, high = (difference + deviation * student_quantile(level, degrees) for level in levels)
    return Interval(max(-span, low), min(span, high))


def no_change(units: int) -> float:
    """z^2 / (n + z^2): how far Wilson's interval reaches when none of n rows is wrong."""
    z = normal_quantile(TWO_SIDED_95[1])
    return z * z / (units + z * z)


def _deviation(resampled: Array, units: int, degrees: int) -> float:
    """Standard deviation of the draws, corrected for units having been drawn from so few."""
    resampled = resampled[np.isfinite(resampled)]
    return float(resampled.std()) * math.sqrt(units / degrees) if len(resampled) else math.inf


def _heavier(degrees: int) -> float:
    """How much wider Student's t is than the normal, at 95%."""
    return student_quantile(TWO_SIDED_95[1], degrees) / normal_quantile(TWO_SIDED_95[1])


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
