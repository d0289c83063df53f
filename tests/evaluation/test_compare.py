"""Paired differences and the verdict never flatter."""

import itertools
from dataclasses import asdict, replace
from statistics import NormalDist

import numpy as np
import pytest
from scipy.stats import binomtest

from whet.evaluation.calibration import CalibrationError
from whet.evaluation.classification import Accuracy, ExactMatch, LogLoss, MacroF1, MicroF1
from whet.evaluation.compare import compare, gain, mcnemar, paired_proportions
from whet.evaluation.intervals import Interval, Resamples
from whet.evaluation.judge import identical, judge
from whet.evaluation.metric import FunctionMetric, Metric
from whet.evaluation.records import Comparison, Judgement
from whet.evaluation.regression import MeanAbsoluteError, RootMeanSquaredError
from whet.evaluation.verdict import verdict_of
from whet.tasks.predictions import Predictions

from .make import Array, answered, classes, labels, numbers

ROWS = 1000
TARGETS = np.arange(ROWS) % 4


def with_errors(wrong: Array) -> Predictions:
    """Wrong at these positions, right elsewhere."""
    decided = TARGETS.copy()
    decided[wrong] = (decided[wrong] + 1) % 4
    return classes(TARGETS, decided, 4)


def compared(model: Predictions, baseline: Predictions, metric: Metric | None = None) -> Comparison:
    return compare(model, baseline, metric or Accuracy(), name="other", point=0.01, seed=0)


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 0), (4, 0), (3, 3), (12, 4), (200, 150), (0, 900)])
def test_mcnemar_equals_the_exact_binomial_test(wins: int, losses: int) -> None:
    expected = binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert mcnemar(wins, losses) == pytest.approx(expected)


@pytest.mark.parametrize("metric", [Accuracy(), MacroF1(), MicroF1()], ids=lambda metric: metric.name)
@pytest.mark.parametrize(("wins", "losses"), [(3, 0), (4, 0), (7, 0), (5, 2), (14, 3), (40, 15), (60, 55)])
def test_a_sure_gain_is_one_that_the_exact_test_confirms(metric: Metric, wins: int, losses: int) -> None:
    both = np.arange(900, 950)
    model = with_errors(np.concatenate([both, np.arange(losses)]))
    baseline = with_errors(np.concatenate([both, np.arange(100, 100 + wins)]))
    found = compared(model, baseline, metric)
    assert (found.model_only_right, found.baseline_only_right) == (wins, losses)
    assert (found.low > 0) == (mcnemar(wins, losses) < 0.05)


def test_the_more_two_learners_agree_the_narrower_their_difference_is_known() -> None:
    far = compared(with_errors(np.arange(100)), with_errors(np.arange(100, 220)))
    near = compared(with_errors(np.arange(100)), with_errors(np.arange(0, 120)))
    assert far.difference == pytest.approx(near.difference)
    for metric in (Accuracy(), MacroF1()):
        far = compared(with_errors(np.arange(100)), with_errors(np.arange(100, 220)), metric)
        near = compared(with_errors(np.arange(100)), with_errors(np.arange(0, 120)), metric)
        assert near.high - near.low < 0.5 * (far.high - far.low)


@pytest.mark.parametrize(
    "metric", [Accuracy(), MacroF1(), LogLoss(), MeanAbsoluteError()], ids=lambda metric: metric.name
)
def test_paired_intervals_cover_the_true_difference(metric: Metric) -> None:
    """Two learners of equal strength, partly wrong on the same rows: the true difference is zero."""
    rng = np.random.default_rng(3)

    def pair() -> tuple[Predictions, Predictions]:
        targets = np.arange(160) % 4
        if metric.name == "mae":
            hard = rng.normal(size=160)
            return numbers(targets * 1.0, targets + hard + rng.normal(size=160)), numbers(
                targets * 1.0, targets + hard + rng.normal(size=160)
            )
        hard = rng.random(160) < 0.1
        left, right = (answered(targets, 4, 0.95, rng) for _ in range(2))
        wrong = (targets + 1) % 4
        return tuple(classes(targets, np.where(hard, wrong, each.decided), 4) for each in (left, right))  # type: ignore[return-value]

    def found_once() -> Comparison:
        model, baseline = pair()
        draws = Resamples(model, 0, purpose="test", resamples=200)
        return compare(model, baseline, metric, name="other", point=0.01, seed=0, resamples=draws)

    found = [found_once() for _ in range(200)]
    coverage = np.mean([each.low <= 0 <= each.high for each in found])
    flattered = np.mean([each.answer == "better" for each in found])
    assert 0.91 <= coverage <= 1.0
    assert flattered <= 0.06  # 2.5% in the long run


def test_rows_needed_is_n_times_the_square_of_half_width_over_point() -> None:
    found = compared(with_errors(np.arange(60)), with_errors(np.arange(30, 90)))
    assert found.answer == "cannot tell"
    assert found.rows_needed == int(np.ceil(ROWS * ((found.high - found.low) / 2 / 0.01) ** 2))
    bigger = Interval(found.low, found.high)
    assert bigger.low < 0 < 0.01 < bigger.high


def test_more_is_better_whichever_way_the_metric_turns() -> None:
    targets = np.linspace(0, 1, 50)
    good, bad = numbers(targets, targets + 0.1), numbers(targets, targets + 0.3)
    assert compare(good, bad, RootMeanSquaredError(), name="bad", point=0.001, seed=0).difference == pytest.approx(0.2)
    assert compare(bad, good, RootMeanSquaredError(), name="good", point=0.001, seed=0).answer == "not better"
    assert compare(good, bad, RootMeanSquaredError(), name="bad", point=0.001, seed=0).mcnemar_p is None


def test_copied_rows_of_one_unit_do_not_make_a_difference_sure() -> None:
    model, baseline = with_errors(np.arange(0, 4)), with_errors(np.arange(4, 12))
    model, baseline = model.take(np.arange(40)), baseline.take(np.arange(40))

    def copied(given: Predictions) -> Predictions:
        many = given.take(np.repeat(np.arange(40), 20))
        return replace(many, row_ids=np.arange(800), units=np.repeat(np.arange(40), 20))

    one, many = compared(model, baseline), compared(copied(model), copied(baseline))
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.15)
    assert (one.answer, many.answer) == ("cannot tell", "cannot tell")
    assert compared(replace(copied(model), units=None), replace(copied(baseline), units=None)).low > 0


def test_two_that_decide_alike_are_not_known_to_be_equal_from_few_rows() -> None:
    few = np.arange(8)
    model, baseline = with_errors(few[:2]).take(few), with_errors(few[:2]).take(few)
    for metric in (Accuracy(), MacroF1()):
        found = compared(model, baseline, metric)
        assert found.low < 0 < 0.01 < found.high
        assert found.answer == "cannot tell"


def ruled(model: Predictions, metric: Metric | None = None, **baselines: Predictions) -> Judgement:
    return judge(model, baselines, test="test", metric=metric or Accuracy(), also=[MacroF1(), Accuracy()], seed=0)


def test_better_means_better_than_every_baseline() -> None:
    model = with_errors(np.arange(50))
    found = ruled(model, weak=with_errors(np.arange(300)), strong=with_errors(np.arange(100)))
    assert found.verdict.answer == "better"
    assert found.verdict.against is None
    assert found.verdict.sentence == (
        "Better: 5.0 points of accuracy above the best baseline, strong (95% interval of the gain 3.6 to 6.4)."
    )
    assert set(found.scores) == {"model", "weak", "strong"}
    assert [each.metric for each in found.scores["model"]] == ["accuracy", "macro-f1"]


def test_one_baseline_that_rules_a_gain_out_decides() -> None:
    model = with_errors(np.arange(100))
    found = ruled(model, weak=with_errors(np.arange(300)), strong=with_errors(np.arange(50)))
    assert (found.verdict.answer, found.verdict.against) == ("not better", "strong")
    assert "Not better than strong: 5.0 points of accuracy below it" in found.verdict.sentence
    assert "−" in found.verdict.sentence  # the interval's ends are losses


def test_not_better_goes_before_cannot_tell() -> None:
    model = with_errors(np.arange(100))
    unclear = with_errors(np.arange(50, 150))
    assert ruled(model, unclear=unclear).verdict.answer == "cannot tell"
    assert ruled(model, unclear=unclear, strong=with_errors(np.arange(50))).verdict.answer == "not better"


def test_cannot_tell_names_the_strongest_of_those_that_are_open() -> None:
    model = with_errors(np.arange(100))
    found = ruled(model, behind=with_errors(np.arange(50, 160)), ahead=with_errors(np.arange(55, 150)))
    assert {each.answer for each in found.comparisons} == {"cannot tell"}
    assert found.verdict.against == "ahead"


def test_cannot_tell_names_the_rows_that_would_settle_it() -> None:
    found = ruled(with_errors(np.arange(100)), unclear=with_errors(np.arange(50, 160)))
    needed = found.comparisons[0].rows_needed
    assert (found.verdict.answer, found.verdict.rows_needed) == ("cannot tell", needed)
    assert needed is not None
    assert needed > ROWS
    assert f"{np.ceil(needed / 100) * 100:,.0f} test rows, where there are 1,000 now" in found.verdict.sentence


def test_sentences_name_metrics_and_baselines_as_people_write_them() -> None:
    model = with_errors(np.arange(50))
    found = ruled(model, tfidf=with_errors(np.arange(20, 120)), **{"frozen-probe": with_errors(np.arange(45))})
    assert "frozen probe" in found.verdict.sentence
    assert "frozen-probe" not in found.verdict.sentence
    assert {each.baseline for each in found.comparisons} == {"tfidf", "frozen-probe"}


def test_a_baseline_with_the_models_answers_is_dropped_and_named() -> None:
    model = with_errors(np.arange(50))
    twin = replace(model, scores=model.scores + 1e-9)
    found = ruled(model, majority=with_errors(np.arange(700)), **{"frozen-probe": twin})
    assert [each.baseline for each in found.comparisons] == ["majority"]
    assert found.dropped[0].startswith("frozen probe: ")
    assert found.verdict.answer == "better"
    unsure = replace(model, scores=np.full((ROWS, 4), 0.25))
    assert not identical(model, unsure)  # equal decisions alone are not identical
    alone = ruled(model, twin=twin)
    assert (alone.verdict.answer, alone.verdict.against) == ("not better", "twin")
    assert ruled(model).verdict.answer == "cannot tell"


def test_an_error_counts_in_percent_of_the_best_baselines() -> None:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=400)
    noise = rng.normal(size=400)
    given = {"mean": numbers(targets, np.zeros(400)), "linear": numbers(targets, targets + 0.5 * noise)}
    found = judge(
        numbers(targets, targets + 0.4 * noise), given, test="t", metric=RootMeanSquaredError(), also=(), seed=0
    )
    assert found.comparisons[0].point == pytest.approx(0.005 * np.sqrt(np.mean(noise**2)))
    assert found.verdict.answer == "better"
    assert "RMSE is 20.0% lower than that of the best baseline, linear" in found.verdict.sentence
    assert (found.confusion, found.per_class, found.calibration) == ((), (), ())
    assert found.worst[0] == int(np.abs(noise).argmax())


def test_a_perfect_baseline_cannot_be_beaten() -> None:
    targets = np.arange(30.0)
    found = judge(
        numbers(targets, targets + 1),
        {"oracle": numbers(targets, targets)},
        test="t",
        metric=MeanAbsoluteError(),
        seed=0,
    )
    assert (found.verdict.answer, found.verdict.against) == ("not better", "oracle")
    assert "oracle" in found.verdict.sentence


def test_labels_are_judged_too() -> None:
    rng = np.random.default_rng(0)
    targets = rng.random((300, 5)) < 0.3
    good = labels(targets, np.clip(targets + rng.normal(0, 0.3, (300, 5)), 0, 1))
    bad = labels(targets, np.full((300, 5), 0.1))
    found = judge(good, {"majority": bad}, test="t", metric=MicroF1(), also=[ExactMatch(), MacroF1()], seed=0)
    assert found.verdict.answer == "better"
    assert len(found.per_class) == 5
    assert found.scores["model"][1].interval == "wilson"


def test_the_record_of_a_test_set_is_complete() -> None:
    targets = np.array([0, 0, 1, 1, 2, -1])
    decided = np.array([0, 1, 1, 1, 0, 2])
    model = classes(targets, decided, 4, sure=np.array([0.9, 0.6, 0.7, 0.8, 0.95, 0.99]))
    found = ruled(model, majority=classes(targets, np.zeros(6, int), 4))
    assert found.confusion == ((1, 1, 0, 0), (0, 2, 0, 0), (1, 0, 0, 0), (0, 0, 0, 0))
    assert found.worst == (5, 4, 1)
    notes = " ".join(found.notes)
    for part in (
        "6 test rows are few",
        "1 test row has a class that training never saw",
        "1 of the 4 classes that the model knows has no test row",
    ):
        assert part in notes
    assert asdict(found)["verdict"]["answer"] == "cannot tell"


def test_a_metric_with_too_few_rows_is_named_and_not_shown() -> None:
    few, many = with_errors(np.arange(5)).take(np.arange(29)), with_errors(np.arange(5)).take(np.arange(30))

    def shown(model: Predictions) -> Judgement:
        return judge(model, {}, test="test", metric=Accuracy(), also=[CalibrationError()], seed=0)

    assert [score.metric for score in shown(many).scores["model"]] == ["accuracy", "calibration-error"]
    found = shown(few)
    assert [score.metric for score in found.scores["model"]] == ["accuracy"]
    assert "The calibration error is not shown: it needs 30 test rows." in found.notes


def test_the_order_of_rows_and_baselines_rows_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    model, other = with_errors(np.arange(50)), with_errors(np.arange(20, 80))
    mixed = ruled(model.take(rng.permutation(ROWS)), MacroF1(), other=other.take(rng.permutation(ROWS)))
    assert mixed == ruled(model, MacroF1(), other=other)


def test_different_rows_are_our_mistake() -> None:
    model = with_errors(np.arange(50))
    with pytest.raises(AssertionError, match="same rows"):
        ruled(model, other=replace(model, row_ids=model.row_ids + 1))


def test_a_users_function_can_decide() -> None:
    metric = FunctionMetric(lambda targets, decided: float((targets == decided).mean()), "my share")
    model, other = with_errors(np.arange(20)).take(np.arange(100)), with_errors(np.arange(40)).take(np.arange(100))
    assert ruled(model, metric, other=other).verdict.answer == "better"


def test_verdicts_follow_the_order_for_every_mix_of_answers() -> None:
    base = compared(with_errors(np.arange(60)), with_errors(np.arange(30, 90)))
    for answers in itertools.product(("better", "not better", "cannot tell"), repeat=3):
        given = [replace(base, answer=answer, baseline=str(place)) for place, answer in enumerate(answers)]  # type: ignore[arg-type]
        expected = next(each for each in ("not better", "cannot tell", "better") if each in answers)
        assert verdict_of(given, Accuracy(), ROWS).answer == expected


def test_the_bounds_of_a_gain_are_one_sided() -> None:
    new, old = with_errors(np.arange(50)), with_errors(np.arange(20, 90))
    found = gain(new, old, Accuracy(), seed=0)
    assert found.value == pytest.approx(0.02)
    assert found.low80 == paired_proportions(40, 20, ROWS, (0.2, 0.95)).low
    wide = compared(new, old)
    assert wide.low < found.low80 < found.value < found.high95 < wide.high
    other = gain(new, old, MacroF1(), seed=0)
    assert other.low80 == pytest.approx(found.low80, abs=0.003)
    ratio = (other.value - other.low80) / (other.high95 - other.value)
    assert ratio == pytest.approx(NormalDist().inv_cdf(0.8) / NormalDist().inv_cdf(0.95), rel=0.01)
