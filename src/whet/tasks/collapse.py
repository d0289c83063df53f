"""Does a model answer the same whatever it reads? Then it has learnt nothing, however low its loss may look."""

import numpy as np

from whet.tasks.predictions import Predictions

FEWEST = 5
"""Rows with another target than the one answer, at least: fewer may be chance, or too rare a class to be answered."""
NARROW = 1e-3
"""Answers of a regression are one if they spread less than this share of what their targets spread."""


def one_answer(found: Predictions) -> str:
    """The one answer to all rows, in words; nothing if there are several, or if hardly a target differs from it.

    Args:
        found: Answers with their targets.
    """
    if not len(found) or found.targets is None:
        return ""
    answer, targets = found.decided[0], found.targets
    if found.kind == "regression":
        narrow = float(np.ptp(found.decided)) <= NARROW * float(np.std(targets))
        return f"{float(answer):.6g}" if narrow and len(np.unique(targets)) >= FEWEST else ""
    different = (targets != answer).reshape(len(found), -1).any(axis=1)
    if (found.decided != answer).any() or int(different.sum()) < FEWEST:
        return ""
    if found.kind == "classification":
        return repr(found.labels[int(answer)])
    return "no label" if not answer.any() else "every label" if answer.all() else "the same labels"


def advice(answer: str, kind: str, stepped: bool) -> str:
    """What happened, and what to try.

    Args:
        answer: As ``one_answer`` gave it.
        stepped: Whether gradient steps were taken; a solved head has no rate.
    """
    rate = ["a lower training.learning_rate"] if stepped else ["a method that moves the features, such as top-layers"]
    weights = ["task.class_weights=balanced"] if kind == "classification" else []
    return (
        f"Whatever it reads, the model answers {answer}, though the targets differ. Try {', or '.join(rate + weights)}."
    )
