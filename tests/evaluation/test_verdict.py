"""Has a run forgotten what an earlier one knew? The words follow from the interval alone."""

from dataclasses import replace

import pytest

from whet.evaluation.classification import Accuracy
from whet.evaluation.records import Comparison
from whet.evaluation.verdict import kept_verdict

SAME = Comparison(
    baseline="earlier", metric="accuracy", difference=0.0, low=-0.004, high=0.004, point=0.01, model_only_right=3,
    baseline_only_right=3, mcnemar_p=1.0, answer="not better", rows_needed=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "answer"),
    [
        (0.001, 0.03, "better"),
        (-0.04, -0.001, "forgets"),
        (-0.004, 0.004, "not worse"),
        (-0.009, 0.2, "not worse"),
        (-0.03, 0.02, "cannot tell"),
    ],
)
def test_the_word_follows_from_the_interval(low: float, high: float, answer: str) -> None:
    found = replace(SAME, difference=(low + high) / 2, low=low, high=high)
    verdict = kept_verdict([found], Accuracy(), 500, "earlier")
    assert verdict.answer == answer
    assert "the earlier model" in verdict.sentence
    assert (verdict.rows_needed is not None) == (answer == "cannot tell")
    assert verdict.rows_needed is None or verdict.rows_needed > 500


def test_the_same_answers_are_not_worse() -> None:
    assert kept_verdict([], Accuracy(), 500, "earlier").answer == "not worse"
