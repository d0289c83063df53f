"""One answer to every row is told from several, from too few rows, and from targets that do not differ."""

from typing import Any

import numpy as np
import pytest

from whet.tasks.collapse import one_answer
from whet.tasks.predictions import Kind, Predictions


def answered(kind: Kind, decided: Any, targets: Any) -> str:
    rows = len(decided)
    found = Predictions(kind, np.arange(rows), np.zeros((rows, 2)), np.array(decided), ("a", "b"), np.array(targets))
    return one_answer(found)


MIXED = [[True, False], [False, True]]


@pytest.mark.parametrize(
    ("kind", "decided", "targets", "words"),
    [
        ("classification", [1] * 12, [0, 1] * 6, "'b'"),
        ("classification", [1] * 11 + [0], [0, 1] * 6, ""),
        ("classification", [1] * 12, [1] * 12, ""),
        ("classification", [1] * 100, [0] * 4 + [1] * 96, ""),  # four may be chance
        ("multi-label", [[False, False]] * 12, MIXED * 6, "no label"),
        ("multi-label", [[True, True]] * 12, MIXED * 6, "every label"),
        ("multi-label", MIXED * 6, MIXED * 6, ""),
        ("regression", [2.5] * 12, list(range(12)), "2.5"),
        ("regression", list(range(12)), list(range(12)), ""),
        ("regression", [1e6 + 1e-4 * place for place in range(12)], [1e6 + place for place in range(12)], "1e+06"),
    ],
)
def test_one_answer_is_found(kind: Kind, decided: Any, targets: Any, words: str) -> None:
    assert answered(kind, decided, targets) == words


def test_no_rows_say_nothing() -> None:
    assert answered("classification", np.zeros(0, np.int64), np.zeros(0, np.int64)) == ""
