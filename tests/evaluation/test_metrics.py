"""Metrics equal scikit-learn's, and statistics of rows combine to the value of the whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn import metrics as sk

from whet.catalog import METRICS
from whet.errors import ConfigError
from whet.evaluation.calibration import CalibrationError, reliability
from whet.evaluation.metric import FunctionMetric, Metric, metric_named, value_of
from whet.tasks.predictions import Predictions

from .make import Array, classes, labels, numbers

SEEDS = st.integers(0, 2**32 - 1)


def random_classes(seed: int, unseen: bool = False) -> Predictions:
    rng = np.random.default_rng(seed)
    count, rows = int(rng.integers(2, 7)), int(rng.integers(1, 60))
    targets = rng.integers(-1 if unseen else 0, count, rows)
    scores = rng.dirichlet(np.ones(count), rows)
    names = tuple("abcdefg"[:count])
    return Predictions("classification", np.arange(rows), scores, scores.argmax(axis=1), names, targets)


def random_labels(seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    rows, count = int(rng.integers(1, 40)), int(rng.integers(2, 6))
    return labels(rng.random((rows, count)) < 0.4, rng.uniform(0.001, 0.999, (rows, count)))


def random_numbers(seed: int) -> Predictions:
    rng = np.random.default_rng(seed)
    rows = int(rng.integers(2, 60))
    targets = np.round(rng.normal(5, 2, rows), 1)  # rounded, so that some are equal
    return numbers(targets, np.round(targets + rng.normal(0, 1, rows), 1))


def value(name: str, predictions: Predictions) -> float:
    return value_of(metric_named(name, predictions.kind), predictions)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_class_metrics_equal_scikit_learn(seed: int) -> None:
    given_ = random_classes(seed)
    targets, decided = given_.targets, given_.decided
    every = np.arange(len(given_.labels))
    assert value("accuracy", given_) == pytest.approx(sk.accuracy_score(targets, decided))
    f1 = sk.f1_score(targets, decided, labels=np.unique(targets), average="macro", zero_division=0)  # type: ignore[arg-type]
    assert value("macro-f1", given_) == pytest.approx(f1)
    assert value("micro-f1", given_) == pytest.approx(sk.f1_score(targets, decided, average="micro"))
    assert value("exact-match", given_) == value("accuracy", given_)
    assert value("log-loss", given_) == pytest.approx(sk.log_loss(targets, given_.scores, labels=every), rel=1e-4)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_a_class_never_seen_in_training_is_one_more_class_that_is_always_wrong(seed: int) -> None:
    given_ = random_classes(seed, unseen=True)
    present = np.unique(given_.targets)  # type: ignore[arg-type]
    f1 = sk.f1_score(given_.targets, given_.decided, labels=present, average="macro", zero_division=0)
    assert value("macro-f1", given_) == pytest.approx(f1)
    assert value("micro-f1", given_) == pytest.approx(value("accuracy", given_))
    unseen = given_.take(np.flatnonzero(given_.targets == -1))  # type: ignore[operator]
    if len(unseen):
        assert value("accuracy", unseen) == 0
        assert value("log-loss", unseen) == pytest.approx(-np.log(1e-7))


def test_a_class_without_rows_is_not_averaged_over_however_often_it_is_decided() -> None:
    targets = np.array([0] * 50 + [1] * 50)
    right, stray = targets.copy(), targets.copy()
    stray[0] = 2
    one, other = (classes(targets, decided, 3) for decided in (right, stray))
    assert value("macro-f1", one) == 1.0
    assert value("macro-f1", other) == pytest.approx((2 * 49 / (49 + 50) + 1) / 2)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_label_metrics_equal_scikit_learn(seed: int) -> None:
    given_ = random_labels(seed)
    targets, decided = given_.targets, given_.decided
    assert targets is not None
    present = np.flatnonzero((targets | decided).any(axis=0))
    if len(present):
        f1 = sk.f1_score(targets, decided, labels=present, average="macro", zero_division=0)
        assert value("macro-f1", given_) == pytest.approx(f1)
        assert value("micro-f1", given_) == pytest.approx(sk.f1_score(targets, decided, average="micro"))
    assert value("exact-match", given_) == pytest.approx((targets == decided).all(axis=1).mean())
    each = [sk.log_loss(target, score, labels=[0, 1]) for target, score in zip(targets.T, given_.scores.T, strict=True)]
    assert value("log-loss", given_) == pytest.approx(np.mean(each))


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_number_metrics_equal_scikit_learn_and_scipy(seed: int) -> None:
    given_ = random_numbers(seed)
    targets, predicted = given_.targets, given_.decided
    assert value("mae", given_) == pytest.approx(sk.mean_absolute_error(targets, predicted))
    assert value("rmse", given_) == pytest.approx(sk.root_mean_squared_error(targets, predicted))
    assert value("r2", given_) == pytest.approx(sk.r2_score(targets, predicted), rel=1e-6, abs=1e-9)
    if np.ptp(targets) and np.ptp(predicted):  # type: ignore[arg-type]
        assert value("spearman", given_) == pytest.approx(spearmanr(targets, predicted).statistic)


@pytest.mark.parametrize("name", METRICS)
def test_rows_in_any_parts_combine_to_the_value_of_the_whole(name: str) -> None:
    for given_ in (random_classes(3), random_labels(3), random_numbers(3)):
        metric: Metric = _fitting(name, given_)
        if metric is None or not metric.additive:
            continue
        halves = [given_.take(np.arange(len(given_))[part::2]) for part in range(2)]
        parts = sum(metric.per_row(half).sum(axis=0) for half in halves)
        assert float(metric.combine(parts)) == pytest.approx(value_of(metric, given_))
        stacked = np.stack([parts, 3 * parts])  # combine works along leading axes
        assert metric.combine(stacked).shape == (2,)
        assert metric.bounds[0] <= value_of(metric, given_) <= metric.bounds[1]


def _fitting(name: str, predictions: Predictions) -> Metric | None:
    try:
        return metric_named(name, predictions.kind)
    except ConfigError:
        return None


def test_a_users_function_becomes_a_metric_on_decisions_and_on_scores() -> None:
    given_ = random_classes(5)
    kappa = FunctionMetric(sk.cohen_kappa_score, "kappa")
    assert value_of(kappa, given_) == sk.cohen_kappa_score(given_.targets, given_.decided)

    def sureness(targets: Array, scores: Array) -> float:
        assert targets.dtype == np.int64
        return float(scores.max(axis=1).mean())

    assert value_of(FunctionMetric(sureness, "sureness", of="scores"), given_) == pytest.approx(
        given_.scores.max(axis=1).mean()
    )
    many = random_labels(5)
    jaccard = FunctionMetric(lambda t, d: float((t & d).sum() / max((t | d).sum(), 1)), "jaccard")
    assert value_of(jaccard, many) == (many.targets & many.decided).sum() / (many.targets | many.decided).sum()  # type: ignore[operator]
    worst = FunctionMetric(lambda t, p: float(np.abs(t - p).max()), "worst", higher_is_better=False)
    assert value_of(worst, random_numbers(5)) > 0
    assert worst.relative


def test_debiased_calibration_error_is_near_zero_for_honest_and_right_for_dishonest_probabilities() -> None:
    rng = np.random.default_rng(0)
    honest, wrong, plain = [], [], []
    for _ in range(60):
        sure = rng.uniform(0.5, 1.0, 200)
        right = rng.random(200) < sure
        honest.append(
            value_of(CalibrationError(), classes(np.zeros(200, int), np.where(right, 0, 1), 2, sure=sure)) ** 2
        )
        right = rng.random(200) < sure - 0.2
        wrong.append(
            value_of(CalibrationError(), classes(np.zeros(200, int), np.where(right, 0, 1), 2, sure=sure)) ** 2
        )
        sums = CalibrationError().per_row(classes(np.zeros(200, int), np.where(right, 0, 1), 2, sure=sure)).sum(axis=0)
        count, conf, hits = np.split(sums, 3)
        plain.append(np.nansum((conf - hits) ** 2 / np.maximum(count, 1)) / 200)
    assert np.mean(honest) < 0.002  # not 0: a negative estimate counts as none
    assert np.mean(wrong) == pytest.approx(0.04, rel=0.15)
    assert np.mean(plain) > np.mean(wrong)


def test_reliability_counts_every_answer_once() -> None:
    given_ = random_labels(7)
    bins = reliability(given_)
    assert sum(rows for *_, rows in bins) == given_.scores.size
    assert all(0 <= share <= 1 for _, share, _ in bins)


def test_a_metric_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="'mae', 'rmse', 'r2', 'spearman'"):
        metric_named("accuracy", "regression")
