"""AUC and sensitivity equal their definitions and scikit-learn's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from whet.evaluation.metric import metric_named, value_of
from whet.tasks.predictions import Predictions

from .make import labels

SEEDS = st.integers(0, 2**32 - 1)


def value(name: str, predictions: Predictions) -> float:
    return value_of(metric_named(name, predictions.kind), predictions)


def two_classes(seed: int, rows: int = 60) -> Predictions:
    rng = np.random.default_rng(seed)
    second = np.round(rng.random(rows), 1)  # rounded, so that some tie
    targets = np.concatenate([[0, 1], rng.integers(0, 2, rows - 2)])
    scores = np.stack([1 - second, second], axis=1)
    return Predictions("classification", np.arange(rows), scores, scores.argmax(1), ("no", "yes"), targets)


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_the_auc_of_two_classes_is_that_of_the_second(seed: int) -> None:
    some = two_classes(seed)
    assert value("auc", some) == pytest.approx(sk.roc_auc_score(some.targets, some.scores[:, 1]))


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_the_auc_of_several_classes_and_of_labels_is_the_mean_of_one_against_the_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    targets = np.concatenate([[0, 1, 2], rng.integers(0, 3, 40)])
    scores = rng.dirichlet(np.ones(3), 43)
    some = Predictions("classification", np.arange(43), scores, scores.argmax(1), ("a", "b", "c"), targets)
    assert value("auc", some) == pytest.approx(sk.roc_auc_score(targets, scores, multi_class="ovr", average="macro"))
    held = rng.random((30, 4)) < 0.5
    held[0], held[1] = True, False
    answers = rng.random((30, 4))
    assert value("auc", labels(held, answers)) == pytest.approx(sk.roc_auc_score(held, answers, average="macro"))


@given(SEEDS)
@settings(max_examples=25, deadline=None)
def test_sensitivity_is_the_height_of_the_curve_at_that_specificity(seed: int) -> None:
    some = two_classes(seed)
    false_alarms, found, _ = sk.roc_curve(some.targets, some.scores[:, 1], drop_intermediate=False)
    assert value("sensitivity-at-95-specificity", some) == pytest.approx(np.interp(0.05, false_alarms, found))


def test_a_class_without_rows_on_both_sides_says_nothing() -> None:
    scores = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.4, 0.5, 0.1]])
    some = Predictions("classification", np.arange(3), scores, scores.argmax(1), ("a", "b", "c"), np.array([0, 1, 0]))
    assert value("auc", some) == 1.0
    alone = Predictions("classification", np.arange(3), scores, scores.argmax(1), ("a", "b", "c"), np.zeros(3, int))
    assert value("auc", alone) == 0.5
    assert value("sensitivity-at-95-specificity", alone) == pytest.approx(0.05)
