"""Is the model better than this baseline? The paired difference on the same rows, with its interval.

Differences are turned so that more is better. Both sides are seen on the same rows and, for the bootstrap, in the same
draws: what makes a row hard for both cancels, so a paired interval is narrower than two single ones suggest.
"""

import math
from dataclasses import dataclass

import numpy as np

from whet.evaluation.classification import rows_right
from whet.evaluation.intervals import TWO_SIDED_95, Interval, Resamples, difference_interval, normal_quantile, ordered
from whet.evaluation.metric import Metric, blocks, value_of
from whet.evaluation.records import Answer, Comparison
from whet.tasks.predictions import Predictions

SHARE_POINT = 0.01
ERROR_POINT = 0.01  # of the best baseline's error


def compare(
    model: Predictions,
    baseline: Predictions,
    metric: Metric,
    *,
    name: str,
    point: float,
    seed: int,
    resamples: Resamples | None = None,
) -> Comparison:
    """The model against one baseline.

    Shares of rows without groups get the interval of ``paired_proportions``, everything else the paired bootstrap.

    Args:
        model, baseline: Answers for the same rows, with targets, in any order.
        name: How the baseline is called.
        point: What one point means in the metric's unit, see ``point_of``.
        resamples: Draws to reuse, made from rows in the order of ``intervals.ordered``; made here by default.
    """
    model, baseline = _same_rows(model, baseline)
    resamples = resamples or Resamples(model, seed, purpose="judge")
    difference, interval = _difference(model, baseline, metric, resamples, TWO_SIDED_95)
    wins, losses = _discordant(model, baseline)
    answer = _answer(interval, point)
    needed = None
    if answer == "cannot tell" and resamples.degrees >= 1:  # the interval of one unit is wide by rule, not by its rows
        needed = rows_needed(units_of(model), interval, point)
    return Comparison(
        baseline=name,
        metric=metric.name,
        difference=difference,
        low=interval.low,
        high=interval.high,
        point=point,
        relative=metric.relative,
        model_only_right=wins,
        baseline_only_right=losses,
        mcnemar_p=None if model.kind == "regression" else mcnemar(wins, losses),
        answer=answer,
        rows_needed=needed,
    )


@dataclass(frozen=True)
class Gain:
    """How much better ``new`` is than ``old``, turned so that more is better.

    ``low80`` is the one-sided lower 80% bound and ``high95`` the one-sided upper 95% bound: the gain is above the first
    with 80% and below the second with 95% confidence. ``point`` is what one point means (for an error 1% of ``old``'s).
    """

    value: float
    low80: float
    high95: float
    point: float


def gain(new: Predictions, old: Predictions, metric: Metric, seed: int) -> Gain:
    """The paired gain on the same rows, with the two bounds that the automatic ladder climbs by."""
    new, old = _same_rows(new, old)
    resamples = Resamples(new, seed, purpose="gain")
    value, bounds = _difference(new, old, metric, resamples, (0.2, 0.95))
    return Gain(value=value, low80=bounds.low, high95=bounds.high, point=point_of(metric, [value_of(metric, old)]))


def point_of(metric: Metric, baseline_values: list[float]) -> float:
    """What one point means: 0.01, or for an error without a natural scale 1% of the best baseline's."""
    if not metric.relative or not baseline_values:
        return SHARE_POINT
    best = max(baseline_values) if metric.higher_is_better else min(baseline_values)
    return ERROR_POINT * abs(best)


def units_of(model: Predictions) -> int:
    """How many independent units the rows make: groups, or else the rows themselves."""
    return len(model) if model.units is None else len(np.unique(model.units))


def rows_needed(rows: int, interval: Interval, point: float) -> int | None:
    """Test rows (or groups) that would settle a difference of one point: n x (half-width / point)^2, rounded up.

    None where no number of rows can be named: one point is nothing, or the interval has no end.
    """
    half = (interval.high - interval.low) / 2
    if point <= 0 or not math.isfinite(half):
        return None
    return math.ceil(rows * (half / point) ** 2)


def paired_proportions(wins: int, losses: int, rows: int, levels: tuple[float, float] = TWO_SIDED_95) -> Interval:
    """Interval of the difference of two shares of right rows, seen on the same rows.

    With one row added to either kind of disagreement: ``d +- z sqrt((p + q - d^2) / (n + 2))``. It never loses its
    width, and it excludes zero from the same few disagreements on (six to none) as McNemar's exact test.

    Source: Bonett & Price 2012, "Adjusted Wald confidence interval for a difference of binomial proportions based on
    paired data"; recommended by Fagerland, Lydersen & Laake 2014, "Recommended tests and confidence intervals for
    paired binomial proportions".

    Args:
        wins: Rows that only the first has right.
        losses: Rows that only the second has right.
        rows: All rows.
    """
    gained, lost = (wins + 1) / (rows + 2), (losses + 1) / (rows + 2)
    centre, raw = gained - lost, (wins - losses) / rows
    error = math.sqrt(max(0.0, gained + lost - centre**2) / (rows + 2))
    low, high = (centre + normal_quantile(level) * error for level in levels)
    return Interval(max(-1.0, min(low, raw)), min(1.0, max(high, raw)))


def mcnemar(wins: int, losses: int) -> float:
    """Exact two-sided p of McNemar's test: how often fair coins split as unevenly as these disagreements.

    Source: McNemar 1947; exact binomial form. It is shown and never decides.
    """
    tosses, fewer = wins + losses, min(wins, losses)
    log_ways = [
        math.lgamma(tosses + 1) - math.lgamma(heads + 1) - math.lgamma(tosses - heads + 1) for heads in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(ways - tosses * math.log(2)) for ways in log_ways))


def _difference(
    model: Predictions, baseline: Predictions, metric: Metric, resamples: Resamples, levels: tuple[float, float]
) -> tuple[float, Interval]:
    """The difference, turned so that more is better, and its paired interval."""
    left, right = value_of(metric, model), value_of(metric, baseline)
    sign = 1.0 if metric.higher_is_better else -1.0
    difference = sign * (left - right)
    if metric.proportion and not resamples.grouped:
        wins, losses = _discordant(model, baseline)
        return difference, paired_proportions(wins, losses, len(model), levels)
    drawn = sign * (resamples.values(metric, model) - resamples.values(metric, baseline))
    span = metric.bounds[1] - metric.bounds[0]
    return difference, difference_interval(
        difference,
        drawn,
        units=resamples.units,
        degrees=resamples.degrees,
        changed=_changed(model, baseline, metric, resamples),
        span=span,
        scale=span if math.isfinite(span) else max(abs(left), abs(right)),
        levels=levels,
    )


def _changed(model: Predictions, baseline: Predictions, metric: Metric, resamples: Resamples) -> int:
    """Units on which the metric sees any difference between the two."""
    parts = ((metric.per_row(model.take(rows)), metric.per_row(baseline.take(rows))) for rows in blocks(model))
    differ = np.concatenate([(left != right).any(axis=1) for left, right in parts])
    return len(np.unique(resamples.unit_of_row[differ]))


def _answer(interval: Interval, point: float) -> Answer:
    """The order matters: a small gain that is sure is better, even below one point."""
    if interval.low > 0:
        return "better"
    return "not better" if interval.high < point else "cannot tell"


def _discordant(model: Predictions, baseline: Predictions) -> tuple[int, int]:
    """Rows that only the model, and rows that only the baseline has right; (0, 0) for numbers."""
    if model.kind == "regression":
        return 0, 0
    left, right = rows_right(model), rows_right(baseline)
    return int((left & ~right).sum()), int((right & ~left).sum())


def _same_rows(model: Predictions, baseline: Predictions) -> tuple[Predictions, Predictions]:
    """Both in the order of their row ids, which must be the same rows."""
    model, baseline = ordered(model), ordered(baseline)
    assert model.kind == baseline.kind, "a comparison needs predictions of one kind"
    assert np.array_equal(model.row_ids, baseline.row_ids), "a comparison needs the same rows on both sides"
    return model, baseline
