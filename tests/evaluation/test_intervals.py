"""Intervals cover as often as they say, never vanish by accident, and know which rows belong together."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from scipy.stats import t as student
from sklearn.metrics import f1_score

from whet.evaluation.classification import Accuracy, LogLoss, MacroF1
from whet.evaluation.intervals import Resamples, ordered, student_quantile, wilson
from whet.evaluation.judge import score
from whet.evaluation.metric import FunctionMetric, Metric, value_of
from whet.evaluation.per_class import class_scores
from whet.evaluation.records import Score
from whet.evaluation.regression import RootMeanSquaredError, Spearman
from whet.tasks.predictions import Predictions

from .make import answered, classes, numbers


def scored(metric: Metric, predictions: Predictions, seed: int = 0, resamples: int = 1000) -> Score:
    return score(metric, predictions, Resamples(predictions, seed, purpose="test", resamples=resamples))


@pytest.mark.parametrize(("right", "rows"), [(0, 1), (1, 1), (3, 9), (50, 50), (931, 1000)])
def test_wilson_equals_scipy(right: int, rows: int) -> None:
    expected = binomtest(right, rows).proportion_ci(0.95, "wilson")
    assert wilson(right, rows) == pytest.approx((expected.low, expected.high))


def test_students_t_is_close_enough() -> None:
    for degrees in (1, 2, 3, 5, 10, 100):
        for level in (0.025, 0.2, 0.95, 0.975):
            assert student_quantile(level, degrees) == pytest.approx(student.ppf(level, degrees), rel=0.01)


def test_every_draw_holds_as_many_rows_of_each_class_as_there_are() -> None:
    targets = np.repeat([0, 1, 2, 3, 4], [40, 20, 7, 2, 1])
    resamples = Resamples(classes(targets, targets, 5), 0, purpose="test", resamples=50)
    for name in (0, 1, 2):
        assert (resamples.counts[:, targets == name].sum(axis=1) == (targets == name).sum()).all()
    assert (resamples.counts.sum(axis=1) == 70).all()
    assert resamples.strata == 4  # the two rare classes are drawn together
    assert np.ptp(resamples.counts[:, -1]) > 0


def test_a_draw_of_everything_once_gives_the_value() -> None:
    rng = np.random.default_rng(0)
    given = answered(rng.integers(0, 5, 300), 5, 0.8, rng)
    once = Resamples(given, 0, purpose="test", resamples=2)
    once.counts[:] = 1
    kinds: list[Metric] = [MacroF1(), LogLoss(), FunctionMetric(lambda t, d: f1_score(t, d, average="macro"), "f1")]
    for metric in kinds:
        assert once.values(metric, given) == pytest.approx([value_of(metric, given)] * 2)


@pytest.mark.parametrize("metric", [MacroF1(), LogLoss(), RootMeanSquaredError()], ids=lambda metric: metric.name)
@pytest.mark.parametrize("accuracy", [0.75, 0.97])
def test_the_bootstrap_covers_the_truth_as_often_as_it_says(metric: Metric, accuracy: float) -> None:
    def draw(rows: int, rng: np.random.Generator) -> Predictions:
        if "regression" in metric.kinds:
            targets = rng.normal(size=rows)
            return numbers(targets, targets + rng.normal(0, 1 - accuracy, rows))
        targets = np.repeat(np.arange(4), rows // 4)
        return answered(targets, 4, accuracy, rng)

    rng = np.random.default_rng(1)
    truth = value_of(metric, draw(100_000, rng))
    found = [scored(metric, draw(160, rng), resamples=200) for _ in range(250)]
    coverage = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.90 <= coverage <= 0.99  # 250 repetitions of a true 95%: 92.3% to 97.7%; 200 draws cost some more


def test_copied_rows_of_one_unit_do_not_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(2)
    single = answered(rng.integers(0, 3, 200), 3, 0.7, rng)
    copies = single.take(np.repeat(np.arange(200), 10))
    copied = replace(copies, row_ids=np.arange(2000), units=np.repeat(np.arange(200), 10))
    for metric in (Accuracy(), MacroF1(), LogLoss()):
        one, many = scored(metric, single), scored(metric, copied)
        blind = scored(metric, replace(copied, units=None))
        assert many.value == pytest.approx(one.value)
        assert (many.high - many.low) == pytest.approx(one.high - one.low, rel=0.12)
        assert (blind.high - blind.low) < 0.5 * (many.high - many.low)
    assert scored(Accuracy(), copied).interval == "bootstrap"


def test_units_of_one_row_each_are_rows() -> None:
    rng = np.random.default_rng(2)
    single = answered(rng.integers(0, 3, 50), 3, 0.7, rng)
    assert scored(MacroF1(), replace(single, units=rng.permutation(50))) == scored(MacroF1(), single)


def test_nothing_is_known_exactly_from_few_rows() -> None:
    targets = np.repeat([0, 1], 5)
    perfect = classes(targets, targets, 2)
    for metric in (Accuracy(), MacroF1()):
        found = scored(metric, perfect)
        assert (found.value, found.high) == (1.0, 1.0)
        assert found.low == pytest.approx(wilson(10, 10).low)
    assert scored(LogLoss(), perfect).high > scored(LogLoss(), perfect).value
    one = perfect.take(np.arange(1))
    assert (scored(MacroF1(), one).low, scored(MacroF1(), one).high) == (0.0, 1.0)
    assert scored(LogLoss(), one).high == np.inf
    assert (scored(RootMeanSquaredError(), numbers(np.ones(4), np.full(4, 3.0))).high) > 2.0


def test_rank_correlation_gets_an_interval_too() -> None:
    rng = np.random.default_rng(4)
    targets = rng.normal(size=80)
    found = scored(Spearman(), numbers(targets, targets + rng.normal(size=80)), resamples=200)
    assert 0.3 < found.low < found.value < found.high < 0.95


def test_classes_get_precision_recall_and_f1_and_rare_ones_wide_intervals() -> None:
    targets = np.repeat([0, 1, 2], [50, 40, 1])
    decided = np.where(np.arange(91) % 5 == 0, 1, targets)
    given = classes(targets, decided, 4)
    found = class_scores(given, Resamples(given, 0, purpose="test"))
    assert [each.rows for each in found] == [50, 40, 1, 0]
    expected = f1_score(targets, decided, average=None, labels=[0, 1, 2, 3], zero_division=0)
    assert [each.f1.value for each in found] == pytest.approx(expected)
    assert found[0].recall.interval == "wilson"
    assert found[0].f1.low < found[0].f1.value < found[0].f1.high
    for rare in found[2:]:
        assert (rare.f1.low, rare.f1.high) == (0.0, 1.0)
    assert (found[3].precision.value, found[3].precision.low, found[3].precision.high) == (0.0, 0.0, 1.0)


def test_the_order_of_rows_changes_nothing_and_the_seed_gives_the_same_bytes() -> None:
    rng = np.random.default_rng(5)
    given = answered(rng.integers(0, 5, 500), 5, 0.8, rng)
    mixed = ordered(given.take(rng.permutation(500)))
    assert scored(MacroF1(), mixed) == scored(MacroF1(), given)
    assert scored(MacroF1(), given, seed=1) != scored(MacroF1(), given, seed=0)
    assert Resamples(given, 0, purpose="a").counts.tobytes() != Resamples(given, 0, purpose="b").counts.tobytes()
