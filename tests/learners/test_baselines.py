"""Baselines are as good as the textbook's, answer every kind of row, and give the same bytes for the same seed."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.linear_model import LogisticRegression, Ridge

from whet.data.rows import Columns, Rows
from whet.learners.learner import Material
from whet.learners.majority import Majority
from whet.learners.one_versus_rest import sigmoid, solve_labels
from whet.learners.tfidf import TfidfLinear, ridge

TOPICS = ("card lost abroad", "transfer money late", "pin code wrong", "refund order shop")


def made(kind: str, inputs: dict[str, list[str]], targets: Any, labels: tuple[str, ...] = ()) -> Material:
    task: Any = SimpleNamespace(kind=kind)
    rows = Rows(pa.table(inputs), "rows")
    return Material(task, {"labels": list(labels)}, Columns(tuple(inputs), ("target",)), rows, np.asarray(targets), 0)


def sentences(topics: Any, rng: np.random.Generator) -> list[str]:
    return [" ".join(rng.permutation([*TOPICS[topic].split()[:2], "please", "my"])) for topic in topics]


def test_labels_solved_together_equal_liblinear_label_by_label() -> None:
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 21)).astype(np.float32) * (rng.random((300, 21)) < 0.3)
    features[:, -1] = 1
    targets = (features @ rng.normal(size=(21, 5)) + rng.normal(size=(300, 5)) > 1).astype(np.float32)
    found = solve_labels(csr_matrix(features), targets, 10.0, steps=200, tolerance=1e-4)
    for place in range(5):
        peer = LogisticRegression(C=10.0, solver="liblinear", dual=True, tol=1e-6, max_iter=20_000)
        peer.fit(features[:, :-1], targets[:, place])
        expected = np.append(peer.coef_[0], peer.intercept_)
        assert found[:, place] == pytest.approx(expected, abs=5e-3)


def test_ridge_equals_scikit_learn() -> None:
    from scipy.sparse import csr_matrix

    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(size=(200, 5)), np.ones((200, 1))], axis=1)
    targets = features @ rng.normal(size=6) + 3 + rng.normal(0, 0.01, 200)
    found = ridge(csr_matrix(features), targets, np.arange(200) % 3)
    peer = Ridge(alpha=0.1).fit(features[:, :-1], targets)
    assert found[:-1, 0] == pytest.approx(peer.coef_, abs=1e-2)


@pytest.mark.parametrize("classes", [2, 4])
def test_classes_are_learnt_and_the_seed_gives_the_same_bytes(classes: int) -> None:
    rng = np.random.default_rng(0)
    topics = rng.integers(0, classes, 120)
    material = made("classification", {"text": sentences(topics, rng)}, topics, ("a", "b", "c", "d")[:classes])
    found = TfidfLinear().fit(material).predict(material.train)
    assert (found.decided == topics).mean() > 0.95
    assert found.scores.sum(axis=1) == pytest.approx(np.ones(120), abs=1e-5)
    assert found.decided.dtype == np.int64
    again = TfidfLinear().fit(material).predict(material.train)
    assert again.scores.tobytes() == found.scores.tobytes()


def test_labels_and_numbers_are_learnt() -> None:
    rng = np.random.default_rng(0)
    topics = rng.integers(0, 3, 150)
    wanted = np.stack([topics == 0, topics == 1, topics > 3], axis=1).astype(np.float32)
    material = made("multi-label", {"text": sentences(topics, rng)}, wanted, ("x", "y", "never"))
    found = TfidfLinear().fit(material).predict(material.train)
    assert found.decided.dtype == np.bool_
    assert (found.decided == wanted.astype(bool)).mean() > 0.97
    material = made("regression", {"text": sentences(topics, rng)}, topics * 10.0 + 100)
    numbers = TfidfLinear().fit(material).predict(material.train)
    assert np.abs(numbers.decided - (topics * 10 + 100)).mean() < 1.5
    assert numbers.scores.shape == (150, 1)


def test_two_texts_are_compared() -> None:
    rng = np.random.default_rng(0)
    left, same = rng.integers(0, 4, 300), rng.integers(0, 2, 300)
    right = np.where(same, left, (left + rng.integers(1, 4, 300)) % 4)
    columns = {"first": sentences(left, rng), "second": sentences(right, rng)}
    material = made("classification", columns, same, ("other", "same"))
    assert (TfidfLinear().fit(material).predict(material.train).decided == same).mean() > 0.95


def test_texts_without_a_single_word_and_endless_ones_are_survived() -> None:
    material = made("classification", {"text": ["", " ", "\n", " "] * 5}, np.arange(20) % 2, ("a", "b"))
    found = TfidfLinear().fit(material).predict(material.train)
    assert found.scores == pytest.approx(np.full((20, 2), 0.5), abs=0.05)
    material = made("classification", {"text": ["word " * 400_000, *"abcdefg"]}, np.arange(8) % 2, ("a", "b"))
    assert len(TfidfLinear().fit(material).predict(material.train)) == 8


def test_majority_answers_alike_for_every_kind() -> None:
    text = {"text": ["x"] * 4}
    found = Majority().fit(made("classification", text, [1, 1, 0, 2], ("a", "b", "c"))).predict
    answers = found(Rows(pa.table(text), "rows"))
    assert (answers.decided == 1).all()
    assert answers.scores[0] == pytest.approx([0.25, 0.5, 0.25])
    material = made("multi-label", text, np.float32([[1, 0], [1, 0], [1, 1], [0, 0]]), ("x", "y"))
    answers = Majority().fit(material).predict(material.train)
    assert answers.decided.tolist() == [[True, False]] * 4
    material = made("regression", text, [1.0, 2.0, 3.0, 6.0])
    assert Majority().fit(material).predict(material.train).decided.tolist() == [3.0] * 4


def test_a_sigmoid_does_not_overflow() -> None:
    assert sigmoid(np.float32([-1e9, 0, 1e9])).tolist() == [0.0, 0.5, 1.0]
