"""Has a run forgotten what an earlier one knew? The words follow from the interval alone."""

from dataclasses import replace

import numpy as np
import pytest

from whet.evaluation.classification import Accuracy
from whet.evaluation.judge import judge
from whet.evaluation.records import Comparison
from whet.evaluation.regression import RootMeanSquaredError
from whet.evaluation.verdict import kept_verdict

from .make import answered

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


def test_equal_scores_are_called_the_same() -> None:
    found = replace(SAME, difference=0.0, low=-0.02, high=0.02, answer="cannot tell")
    sentence = kept_verdict([found], Accuracy(), 500, "earlier").sentence
    assert "the accuracy is the same (95% interval" in sentence
    assert "0.0 points of" not in sentence


def test_the_same_answers_are_not_worse() -> None:
    assert kept_verdict([], Accuracy(), 500, "earlier").answer == "not worse"


@pytest.mark.parametrize(("classes", "promised"), [([0, 1, 2], True), ([1], False), ([-1], False)])
def test_rows_of_one_class_promise_no_number_of_rows(classes: list[int], promised: bool) -> None:
    rng = np.random.default_rng(3)
    targets = np.resize(np.array(classes), 60)
    model, rival = (answered(np.abs(targets), 3, 0.7, rng) for _ in range(2))
    model = replace(model, targets=targets)
    found = judge(model, {"majority": rival}, test="test", metric=Accuracy(), seed=0)
    assert found.verdict.answer == "cannot tell"
    assert (found.verdict.rows_needed is not None) == promised
    assert all((one.rows_needed is not None) == promised for one in found.comparisons)
    assert ("cannot show how well classes are told apart" in found.verdict.sentence) != promised


def test_an_endless_interval_promises_no_number_of_rows() -> None:
    found = replace(SAME, low=-np.inf, high=np.inf, answer="cannot tell", rows_needed=None)
    nothing = replace(found, low=-0.5, high=0.5, point=0.0, relative=True)
    for one, metric in ((found, Accuracy()), (nothing, RootMeanSquaredError())):
        verdict = kept_verdict([one], metric, 6, "earlier", unit="group")
        assert verdict.answer == "cannot tell"
        assert verdict.rows_needed is None
        assert "6 test groups are too few to say how many would be enough" in verdict.sentence
