"""What a target means: encoding, decoding, thresholds, and which task a column asks for."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from whet.catalog import TABLES, find
from whet.data.rows import Columns, Rows
from whet.data.targets import target_keys
from whet.errors import DataError
from whet.tasks.classification import Classification
from whet.tasks.labels import label_text, natural_order
from whet.tasks.multi_label import MultiLabel, best_threshold, separator_of
from whet.tasks.regression import Regression, number_of

Array = np.ndarray[Any, Any]


def rows_of(**columns: list[Any]) -> tuple[Rows, Columns]:
    return Rows(pa.table(columns), "rows.csv"), Columns(("text",), tuple(columns))


def recognised(values: list[Any], columns: int = 1) -> str:
    scores = {name: find("task", name)().recognise(values, columns) for name in TABLES["task"]}
    return max(scores, key=lambda name: scores[name])


DRAW = np.random.default_rng(0)
CITIES = [f"{name}, TX" for name in ["Austin", "Dallas", "Houston", "Waco", "Lubbock", "Plano", "Laredo", "Irving"]]
TAGS = [["bug"], ["ui"], ["bug", "ui"], ["perf"], ["ui", "perf"], ["bug", "docs"], ["docs"], ["bug", "perf", "ui"]]

COLUMNS: list[tuple[str, str, list[Any]]] = [
    ("words", "classification", ["spam", "ham"] * 50),
    ("ratings", "classification", DRAW.integers(1, 6, 300).tolist()),
    ("ratings as text", "classification", [str(n) for n in DRAW.integers(1, 6, 300)]),
    ("ratings as whole floats", "classification", DRAW.integers(1, 6, 300).astype(float).tolist()),
    ("booleans", "classification", [True, False] * 40),
    ("names with commas", "classification", ["Sports, Outdoors", "Books, Music", "Home, Garden", "Toys"] * 30),
    ("a shared second half", "classification", CITIES * 20),
    ("kinds of a kind", "classification", ["Tea, green", "Tea, black", "Soup, hot", "Soup, cold", "Tea, hot"] * 20),
    ("a shared first half", "classification", ["Wear, shoes", "Wear, hats", "Wear, kids", "Wear, bags"] * 20),
    ("thousands", "classification", ["1,200", "1,300", "2,200", "2,300", "900"] * 20),
    ("sentences", "classification", ["Yes, please", "No, thank you", "Maybe; later"] * 20),
    ("floats", "regression", DRAW.normal(3, 1, 300).tolist()),
    ("floats as text", "regression", [f"{n:.3f}" for n in DRAW.normal(3, 1, 300)]),
    ("prices", "regression", DRAW.integers(100, 9000, 300).tolist()),
    ("few float values, many rows", "classification", ([0.5, 1.5, 2.5] * 100)),
    ("a list column", "multi-label", TAGS * 10),
    ("semicolons", "multi-label", [";".join(tags) for tags in TAGS] * 10),
    ("pipes with blanks", "multi-label", [" | ".join(tags) for tags in TAGS] * 10),
    ("commas", "multi-label", [", ".join(tags) for tags in TAGS] * 10),
    ("genres", "multi-label", ["Comedy|Drama", "Drama", "Comedy|Romance", "Action|Drama", "Action"] * 10),
    ("empty lists", "multi-label", [[], ["a"], [], ["b"]] * 10),
]


@pytest.mark.parametrize(("task", "values"), [case[1:] for case in COLUMNS], ids=[case[0] for case in COLUMNS])
def test_a_column_asks_for_its_task(task: str, values: list[Any]) -> None:
    assert recognised(values) == task


def test_several_columns_are_labels() -> None:
    assert recognised([0, 1, 1], columns=3) == "multi-label"


def test_classes_stand_in_natural_order_and_are_counted() -> None:
    rows, columns = rows_of(y=["10", "2", "b", "2", "1.5", "a", "-3"])
    state, _ = Classification().prepare(rows, columns)
    assert state["labels"] == ["-3", "1.5", "2", "10", "a", "b"]
    assert state["counts"] == [1, 1, 2, 1, 1, 1]
    assert Classification().encode_targets(rows, columns, state).tolist() == [3, 2, 5, 2, 1, 4, 0]


@pytest.mark.parametrize("labels", [["b,c", "a\nb", "<script>", "🙂", "", " x "], ["NaN", "None", "true"]])
def test_any_text_is_a_label(labels: list[str]) -> None:
    rows, columns = rows_of(y=labels)
    state, _ = Classification().prepare(rows, columns)
    targets = Classification().encode_targets(rows, columns, state)
    assert [state["labels"][target] for target in targets] == labels


def test_one_and_one_point_zero_are_one_class() -> None:
    assert [label_text(value) for value in (1, 1.0, "1", True, 1.5)] == ["1", "1", "1", "true", "1.5"]
    rows, columns = rows_of(y=[1.0, 2.0, 1.0])
    state, _ = Classification().prepare(rows, columns)
    other, _ = rows_of(y=[2, 1, 3])
    assert Classification().encode_targets(other, columns, state).tolist() == [1, 0, -1]


def test_numbers_order_by_value_and_words_by_character() -> None:
    assert natural_order(["10", "9", "-1", "b", "B", "1e3", "0.5"]) == ["-1", "0.5", "9", "10", "1e3", "B", "b"]


@pytest.mark.parametrize(
    ("values", "separator"),
    [
        ([["a"], [""], ["b", " "], ["", "a", "b"], [None, "\u200b"], [], None], None),
        (["a", ";", "b; ", ";a;b", "\u200b;", " ; ", None], ";"),
        ([[1.0], [float("nan")], [2.0, None], [float("nan"), 1.0, 2.0], [None], [], None], None),
    ],
)
def test_blank_labels_are_none_to_the_task_and_to_the_split(values: list[Any], separator: str | None) -> None:
    rows, columns = rows_of(y=values)
    task = MultiLabel()
    state, _ = task.prepare(rows, columns)
    assert state["labels"] in (["a", "b"], ["1", "2"])
    targets = task.encode_targets(rows, columns, state)
    assert targets.tolist() == [[1, 0], [0, 0], [0, 1], [1, 1], [0, 0], [0, 0], [0, 0]]
    keys = target_keys(rows, columns, separator)
    labels = [keys.labels()[code] if code >= 0 else [] for code in keys.codes]
    assert labels == [[state["labels"][k] for k in np.flatnonzero(row)] for row in targets]


def test_one_class_is_refused_with_its_name() -> None:
    rows, columns = rows_of(y=["only"] * 5)
    with pytest.raises(DataError, match="one value only: 'only'") as caught:
        Classification().prepare(rows, columns)
    assert "'y'" in caught.value.where


def test_balanced_weights_make_every_class_count_alike() -> None:
    task = Classification(class_weights="balanced")
    rows, columns = rows_of(y=["a"] * 8 + ["b"] * 2)
    state, _ = task.prepare(rows, columns)
    targets = torch.from_numpy(task.encode_targets(rows, columns, state))
    weights = task.weights(targets, torch.ones(10), state)["cross-entropy"]
    assert float(weights[:8].sum()) == pytest.approx(float(weights[8:].sum()))
    assert float(weights.mean()) == pytest.approx(1.0)
    halves = task.weights(targets, torch.full((10,), 0.5), state)["cross-entropy"]
    assert torch.equal(halves, weights / 2)


@pytest.mark.parametrize("task", [Classification(), Classification(class_weights="balanced")])
def test_a_validation_row_of_an_unseen_class_weighs_nothing(task: Classification) -> None:
    state, _ = task.prepare(*rows_of(y=["a", "b", "b"]))
    outputs, shares = torch.randn(3, 2, requires_grad=True), torch.ones(3)
    (with_unseen,) = task.loss(outputs, torch.tensor([0, 1, -1]), shares, state)
    (without,) = task.loss(outputs[:2], torch.tensor([0, 1]), shares[:2], state)
    assert with_unseen.weights[2] == 0
    assert torch.equal(with_unseen.sums[:2], without.sums)
    assert float(with_unseen.sums[2].detach()) == 0
    with_unseen.sums.sum().backward()  # type: ignore[no-untyped-call]
    assert outputs.grad is not None
    assert not outputs.grad[2].any()


def test_the_loss_of_classes_is_weighted_cross_entropy() -> None:
    task = Classification(class_weights="balanced", label_smoothing=0.1)
    state, _ = task.prepare(*rows_of(y=["a", "b", "b", "c"]))
    outputs, targets = torch.randn(4, 3), torch.tensor([0, 1, 1, 2])
    (term,) = task.loss(outputs, targets, torch.ones(4), state)
    weights = torch.tensor(state["class_weights"])[targets]
    each = torch.nn.functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(term.sums.sum() / term.weights.sum(), (each * weights).sum() / weights.sum())


def test_huge_logits_decode_to_probabilities() -> None:
    found = Classification().decode(np.float32([[1e4, -1e4], [0, 0]]), np.array([7, 3]), {"labels": ["a", "b"]})
    assert found.scores.tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert found.decided.tolist() == [0, 0]
    assert found.row_ids.tolist() == [7, 3]


WANTED = [["a"], ["a", "b"], [], ["c"], ["b", "c"], ["a"]]


def as_switches(spelling: tuple[Any, Any]) -> dict[str, list[Any]]:
    return {name: [spelling[name in labels] for labels in WANTED] for name in "abc"}


FORMS: dict[str, dict[str, list[Any]]] = {
    "lists": {"y": WANTED},
    "semicolons": {"y": [";".join(labels) for labels in WANTED]},
    "pipes with blanks": {"y": [" | ".join(labels) for labels in WANTED]},
    "commas": {"y": [", ".join(labels) for labels in WANTED]},
    "ones and zeros": as_switches((0, 1)),
    "floats": as_switches((0.0, 1.0)),
    "booleans": as_switches((False, True)),
    "yes and no": as_switches(("No", "Yes")),
    "crosses": as_switches(("", "x")),
    "nothing for no": as_switches((None, 1)),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_labels_means_the_same(form: str) -> None:
    task = MultiLabel()
    rows, columns = rows_of(**FORMS[form])
    state, _ = task.prepare(rows, columns)
    assert state["labels"] == ["a", "b", "c"]
    assert state["counts"] == [3, 2, 2]
    targets = task.encode_targets(rows, columns, state)
    assert [[n for n, on in zip("abc", row, strict=True) if on] for row in targets] == WANTED
    found = task.decode((targets * 8 - 4).astype(np.float32), rows.ids, state)
    assert np.array_equal(found.decided, targets > 0.5)


def test_labels_that_training_never_saw_are_left_out() -> None:
    rows, columns = rows_of(y=["a;b", "a", "b"])
    state, _ = MultiLabel().prepare(rows, columns)
    other, _ = rows_of(y=["z;a", "z"])
    assert MultiLabel().encode_targets(other, columns, state).tolist() == [[1, 0], [0, 0]]


def test_numbers_by_themselves_are_labels_of_a_model_of_lists() -> None:
    rows, columns = rows_of(y=[[1, 2], [1], [2], [0]])
    state, _ = MultiLabel().prepare(rows, columns)
    for values in ([2, 0, None, 3], [2.0, 0.0, float("nan"), 3.0]):
        other, _ = rows_of(y=values)
        assert MultiLabel().encode_targets(other, columns, state).tolist() == [[0, 0, 1], [1, 0, 0], [0] * 3, [0] * 3]


def test_lists_are_labels_of_a_model_of_separated_texts() -> None:
    rows, columns = rows_of(y=["a;b", "a", "b"])
    state, _ = MultiLabel().prepare(rows, columns)
    other, _ = rows_of(y=[["a", "b"], [], ["b"]])
    assert MultiLabel().encode_targets(other, columns, state).tolist() == [[1, 1], [0, 0], [0, 1]]


def test_the_separator_that_is_there_is_taken_when_labels_are_asked_for() -> None:
    rows, columns = rows_of(y=["a|b"] + ["a", "b"] * 20 + [f"rare{n}" for n in range(60)])
    state, _ = MultiLabel().prepare(rows, columns)
    assert "a|b" not in state["labels"]


def test_a_label_column_with_something_else_is_refused() -> None:
    rows, columns = rows_of(a=[0, 1, 2], b=[1, 0, 1])
    with pytest.raises(DataError, match="must hold 0 and 1, found 2") as caught:
        MultiLabel().prepare(rows, columns)
    assert "'a'" in caught.value.where


def test_labels_that_tell_nothing_apart_are_refused() -> None:
    with pytest.raises(DataError, match="nothing to tell apart"):
        MultiLabel().prepare(*rows_of(y=[["a"], ["a"]]))


def test_a_separator_joins_few_and_repeated_parts() -> None:
    assert separator_of(["a;b", "b", "a"]) == ";"
    assert separator_of(["a, b", "b, c", "c", "a"]) == ","
    assert separator_of(["one; two", "three; four"]) is None
    assert separator_of([]) is None


def test_the_best_threshold_is_the_best_of_all() -> None:
    draw = np.random.default_rng(0)
    for _ in range(30):
        wanted = draw.random(40) < 0.3
        scores = np.round(np.clip(0.3 * wanted + draw.normal(0.4, 0.2, 40), 0, 1), 1 if draw.random() < 0.5 else 6)

        def f1(threshold: float, scores: Array = scores, wanted: Array = wanted) -> float:
            decided = scores >= threshold
            return float(2 * (decided & wanted).sum() / max(1, decided.sum() + wanted.sum()))

        found = best_threshold(scores, wanted)
        if wanted.sum() >= 5:
            assert f1(found) == pytest.approx(max(f1(threshold) for threshold in (*scores, 1.1)))
    assert best_threshold(np.array([-2.0, 2.0]), np.array([False, True])) == 0.0


def test_thresholds_move_the_decision_and_nothing_else() -> None:
    state = {"labels": ["a", "b"], "thresholds": [0.5, 0.5]}
    outputs = np.random.default_rng(0).normal(size=(60, 2))
    targets = (outputs + np.array([1.0, -1.0]) > 0).astype(np.float32)
    tuned = MultiLabel().tune(outputs, targets, state)
    before, after = (MultiLabel().decode(outputs, np.arange(60), one) for one in (state, tuned))
    assert np.array_equal(before.scores, after.scores)
    assert np.array_equal(after.decided, targets > 0.5)
    assert not np.array_equal(before.decided, after.decided)


def test_the_loss_of_labels_is_a_mean_over_decisions() -> None:
    task, state = MultiLabel(), {"labels": ["a", "b", "c"]}
    outputs, targets = torch.randn(4, 3), torch.tensor(np.float32([[1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 0]]))
    (term,) = task.loss(outputs, targets, torch.ones(4), state)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(outputs, targets)
    torch.testing.assert_close(term.sums.sum() / term.weights.sum(), expected)


def test_numbers_come_back_in_their_own_unit() -> None:
    task = Regression()
    rows, columns = rows_of(y=["100", " 200.5", "-3e2", "50"])
    state, _ = task.prepare(rows, columns)
    link, wanted = task.solvable(task.encode_targets(rows, columns, state), state)
    assert link == "identity"
    assert float(wanted.mean()) == pytest.approx(0, abs=1e-6)
    found = task.decode(wanted.numpy(), rows.ids, state)
    assert found.decided == pytest.approx([100, 200.5, -300, 50], rel=1e-5)
    (term,) = task.loss(wanted, torch.from_numpy(task.encode_targets(rows, columns, state)), torch.ones(4), state)
    assert float(term.sums.sum()) == pytest.approx(0, abs=1e-6)


def test_a_target_that_is_no_number_is_named_with_its_row() -> None:
    rows, columns = rows_of(y=["1", "2", "three"])
    with pytest.raises(DataError, match="not a number: 'three'") as caught:
        Regression().prepare(rows, columns)
    assert "row 3" in caught.value.where


def test_targets_that_do_not_vary_are_refused() -> None:
    with pytest.raises(DataError, match="same target"):
        Regression().prepare(*rows_of(y=[0.1] * 7))


@pytest.mark.parametrize("value", [None, True, "", "1,000", "nan", "inf", float("nan"), "1_000", [1], "ten"])
def test_what_is_no_plain_number_is_not_guessed(value: Any) -> None:
    assert number_of(value) is None


@pytest.mark.parametrize("changes", [{"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"class_weights": "much"}])
def test_a_setting_that_cannot_work_is_refused(changes: dict[str, Any]) -> None:
    from whet.errors import ConfigError

    with pytest.raises(ConfigError, match=next(iter(changes))) as caught:
        Classification(**changes)
    assert caught.value.where == f"task.{next(iter(changes))}"


def test_the_metric_follows_from_how_lopsided_classes_are() -> None:
    none = np.zeros(0)
    assert Classification().default_metric(none, {"counts": [10, 30]}) == "accuracy"
    assert Classification().default_metric(none, {"counts": [9, 30]}) == "macro-f1"
    assert MultiLabel().default_metric(none, {}) == "micro-f1"
    assert Regression().default_metric(none, {}) == "rmse"
