"""Which classes does it get right? Precision, recall and F1 of each, with intervals."""

import numpy as np

from whet.evaluation.classification import class_counts, f1_of
from whet.evaluation.intervals import Interval, Resamples, share_interval, wilson
from whet.evaluation.metric import Array, blocks
from whet.evaluation.records import ClassScore, Score
from whet.tasks.predictions import Predictions


def class_scores(predictions: Predictions, resamples: Resamples) -> tuple[ClassScore, ...]:
    """Every class in the order of the labels; () for regression.

    Precision and recall are shares (of decisions, of targets) and get Wilson intervals, or the group bootstrap; F1 the
    bootstrap. A class without targets or decisions has score 0 and interval (0, 1): nothing is known.
    """
    if predictions.kind == "regression":
        return ()
    counts = np.sum([class_counts(predictions.take(rows)).sum(axis=0) for rows in blocks(predictions)], axis=0)
    drawn = resamples.sums(predictions, lambda part: class_counts(part).reshape(len(part), -1))
    drawn = drawn.reshape(len(drawn), 3, -1)
    values, resampled = _values(counts), _values(drawn)
    return tuple(
        ClassScore(label, int(counts[2, place]), *_scores(counts, values, resampled, place, resamples))
        for place, label in enumerate(predictions.labels)
    )


def _values(counts: Array) -> Array:
    """(..., 3, C) true, decided, target -> (..., 3, C) precision, recall, F1; not-a-number where undefined."""
    true = counts[..., 0, :]
    with np.errstate(invalid="ignore"):
        return np.stack([true / counts[..., 1, :], true / counts[..., 2, :], f1_of(counts)], axis=-2)


def _scores(counts: Array, values: Array, resampled: Array, place: int, resamples: Resamples) -> list[Score]:
    """Precision, recall and F1 of the class at ``place``."""
    true, decided, target = (float(count) for count in counts[:, place])
    found = []
    for row, (name, rows) in enumerate((("precision", decided), ("recall", target), ("f1", target))):
        value = float(np.nan_to_num(values[row, place]))
        if name != "f1" and not resamples.grouped:
            interval, kind = wilson(true, rows), "wilson"
        else:
            interval, kind = _bootstrapped(value, resampled[:, row, place], int(rows), resamples), "bootstrap"
        found.append(Score(name, value, *interval, "wilson" if kind == "wilson" else "bootstrap", True))
    return found


def _bootstrapped(value: float, resampled: Array, rows: int, resamples: Resamples) -> Interval:
    """A class is known by its own rows alone, so these are the units that the widening counts."""
    units = min(rows, resamples.units)
    return share_interval(value, resampled, units=units, degrees=units - 1)
