"""What is a metric? Statistics of each row and a way to combine them, so that any metric can be resampled.

A metric never sees how a prediction came about: it reads ``Predictions`` alone. Members live in the files beside this
one and are named in ``catalog.METRICS``; a user's own plain function becomes one through ``FunctionMetric``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from whet.catalog import find, members
from whet.errors import ConfigError
from whet.tasks.predictions import Kind, Predictions

Array = np.ndarray[Any, Any]
EVERY_KIND: frozenset[Kind] = frozenset(("classification", "multi-label", "regression"))
BLOCK_NUMBERS = 2**19  # statistics held at a time: 4 MiB, whatever the number of rows and classes


class Metric(Protocol):
    """One number for how good predictions are, made of statistics of each row.

    ``additive``: ``combine`` needs only the sums of the statistics over rows, so a thousand resamples are one matrix
    product. Otherwise it needs the rows themselves.
    ``proportion``: a plain share of rows, whose per-row statistics are (right, 1); it gets a Wilson interval.
    ``bounds``: the smallest and largest value it can take.
    ``relative``: an error without a natural scale, so "one point" is 1% of the best baseline's error.
    ``fewest``: with fewer rows it says nothing, and is not shown beside the metric that decides.
    """

    @property
    def name(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def kinds(self) -> frozenset[Kind]: ...
    @property
    def additive(self) -> bool: ...
    @property
    def proportion(self) -> bool: ...
    @property
    def bounds(self) -> tuple[float, float]: ...
    @property
    def relative(self) -> bool: ...
    @property
    def fewest(self) -> int: ...

    def per_row(self, predictions: Predictions) -> Array:
        """(N, S) float64 statistics. Row-wise: it may be called on any part of the rows; S depends on the labels."""
        ...

    def combine(self, statistics: Array) -> Array:
        """The value. Additive: sums (..., S) -> (...), so that S is the last axis. Otherwise: rows (N, S) -> ()."""
        ...


def value_of(metric: Metric, predictions: Predictions) -> float:
    """The metric over all rows; ``predictions`` must carry targets and at least one row."""
    assert len(predictions) > 0, "a metric needs at least one row"
    if not metric.additive:
        return float(metric.combine(metric.per_row(predictions)))
    return float(metric.combine(sums_of(metric, predictions)))


def sums_of(metric: Metric, predictions: Predictions) -> Array:
    """(S,) sums of an additive metric's statistics, block by block."""
    return np.asarray(sum(metric.per_row(predictions.take(rows)).sum(axis=0) for rows in blocks(predictions)))


def blocks(predictions: Predictions) -> Iterator[Array]:
    """Positions of all rows in parts small enough that the statistics of many classes stay small."""
    size = min(2048, max(1, BLOCK_NUMBERS // (3 * (len(predictions.labels) + 1))))
    for start in range(0, len(predictions), size):
        yield np.arange(start, min(start + size, len(predictions)))


def targets_of(predictions: Predictions) -> Array:
    """The targets, which only judge and validation put there; labels as bool, also where they came as 0 and 1."""
    assert predictions.targets is not None, "predictions were not given their targets"
    return predictions.targets.astype(np.bool_) if predictions.kind == "multi-label" else predictions.targets


def metric_named(name: str, kind: Kind) -> Metric:
    """The catalog's metric of that name.

    Raises:
        ConfigError: no metric has this name, or it does not fit predictions of this kind.
    """
    known = name in members("metric")
    if not known or kind not in find("metric", name).kinds:
        fitting = [other for other in members("metric") if kind in find("metric", other).kinds]
        what = f"The metric {name!r} does not fit {kind}." if known else f"There is no metric named {name!r}."
        raise ConfigError(what, where="metric", fix=f"use one of {', '.join(map(repr, fitting))}")
    metric: Metric = find("metric", name)()
    return metric


@dataclass(frozen=True)
class FunctionMetric:
    """A user's own plain function as a metric; its intervals come from resampling rows and calling it again.

    Args:
        function: Called as ``function(targets, answers)`` with arrays of one row an entry, returns one number. Targets
            are class positions (N,), label matrices (N, K) of bool, or numbers (N,).
        name: How reports call it.
        higher_is_better: Whether more is better; where less is, one point means 1% of the best baseline's value.
        of: What ``answers`` is: "decided" (as the targets) or "scores" (probabilities (N, K), or numbers (N,)).
    """

    function: Callable[[Array, Array], float]
    name: str
    higher_is_better: bool = True
    of: Literal["decided", "scores"] = "decided"
    kinds: frozenset[Kind] = EVERY_KIND
    additive: bool = False
    proportion: bool = False
    bounds: tuple[float, float] = (-np.inf, np.inf)
    fewest: int = 1

    @property
    def relative(self) -> bool:
        return not self.higher_is_better

    def per_row(self, predictions: Predictions) -> Array:
        """(N, 1 + columns of the target + columns of the answer); the first column says how to read the others."""
        targets = targets_of(predictions)
        answers = predictions.decided if self.of == "decided" else predictions.scores
        rows = len(predictions)
        layout = {"classification": -1.0, "regression": 0.0, "multi-label": float(len(predictions.labels))}
        parts = [np.full((rows, 1), layout[predictions.kind]), targets.reshape(rows, -1), answers.reshape(rows, -1)]
        return np.concatenate(parts, axis=1).astype(np.float64)

    def _value(self, targets: Array, answers: Array) -> float:
        """What the user's function says.

        Raises:
            ConfigError: it fails, or gives no single number.
        """
        try:
            return float(self.function(targets, answers))
        except Exception as error:
            raise ConfigError(
                f"The metric {self.name!r} failed: {type(error).__name__}: {error}",
                where="metric",
                fix="it is called with arrays of targets and answers, a row an entry, and gives one number",
            ) from error

    def combine(self, statistics: Array) -> Array:
        """The function's value on these rows."""
        layout = int(statistics[0, 0])
        if layout > 0:
            targets, answers = statistics[:, 1 : 1 + layout] > 0.5, statistics[:, 1 + layout :]
            value = self._value(targets, answers > 0.5 if self.of == "decided" else answers)
            return np.asarray(value, dtype=np.float64)
        targets, answers = statistics[:, 1], statistics[:, 2:]
        if layout < 0:
            targets = targets.astype(np.int64)
            answers = answers[:, 0].astype(np.int64) if self.of == "decided" else answers
        else:
            answers = answers[:, 0]
        return np.asarray(self._value(targets, answers), dtype=np.float64)
