"""How a head for some labels becomes a head for those and more: old labels keep their row, by name and not by place.

A new label starts as the mean of the old ones, no more like one of them than like another. Adding the same number to
every output of a softmax changes no answer, and the mean moves with it; a row of zeros would not.
"""

import numpy as np

from whet.tasks.task import Array, Growth, State


def grown_labels(state: State, earlier: list[str]) -> Growth:
    """The growth from the labels of an earlier model to those of ``state``, which holds them all."""
    labels = list(state["labels"])
    place = {label: number for number, label in enumerate(earlier)}
    matrix: Array = np.full((len(labels), len(earlier)), 1.0 / len(earlier))
    for number, label in enumerate(labels):
        if label in place:
            matrix[number] = np.arange(len(earlier)) == place[label]
    counts = dict(zip(labels, state["counts"], strict=True))
    return Growth(
        state,
        matrix,
        np.zeros(len(labels)),
        added=tuple(label for label in labels if label not in place),
        absent=tuple(label for label in labels if label in place and not counts[label]),
    )
