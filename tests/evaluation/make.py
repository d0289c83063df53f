"""Synthetic predictions whose truth is known."""

from typing import Any

import numpy as np

from whet.tasks.predictions import Predictions

Array = np.ndarray[Any, Any]


def classes(
    targets: Array, decided: Array, count: int, *, sure: float | Array = 0.8, units: Array | None = None
) -> Predictions:
    """Single-label predictions that put ``sure`` on the decided class and share the rest."""
    rows = len(targets)
    sure = np.broadcast_to(np.asarray(sure, dtype=np.float64), (rows,))
    scores = np.repeat(((1 - sure) / max(count - 1, 1))[:, None], count, axis=1)
    scores[np.arange(rows), decided] = sure
    labels = tuple(f"class {place}" for place in range(count))
    return Predictions("classification", np.arange(rows), scores, decided, labels, targets, units)


def answered(targets: Array, count: int, accuracy: float, rng: np.random.Generator) -> Predictions:
    """Each row right with probability ``accuracy``, else any other class."""
    wrong = (targets + rng.integers(1, max(count, 2), len(targets))) % count
    return classes(targets, np.where(rng.random(len(targets)) < accuracy, targets, wrong), count)


def numbers(targets: Array, predicted: Array, *, units: Array | None = None) -> Predictions:
    """Regression predictions."""
    scores = predicted[:, None].astype(np.float64)
    return Predictions("regression", np.arange(len(targets)), scores, scores[:, 0], (), targets, units)


def labels(targets: Array, scores: Array, *, units: Array | None = None) -> Predictions:
    """Multi-label predictions decided at one half."""
    names = tuple(f"label {place}" for place in range(targets.shape[1]))
    return Predictions("multi-label", np.arange(len(targets)), scores, scores > 0.5, names, targets, units)
