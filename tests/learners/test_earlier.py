"""The earlier model answers among the labels of the new run, and misses those that it does not know."""

from dataclasses import replace

import numpy as np

from whet.catalog import find
from whet.data.rows import Columns
from whet.learners.earlier import Earlier
from whet.learners.learner import Material
from whet.learners.majority import Majority
from whet.testing import tiny_rows


def test_its_answers_keep_their_labels_and_new_ones_get_nothing() -> None:
    rows, columns = tiny_rows("classification")
    task = find("task", "classification")()
    state, _ = task.prepare(rows, columns)
    material = Material(task, state, columns, rows, task.encode_targets(rows, columns, state))
    earlier = Majority().fit(material)
    grown = {**state, "labels": ["a new one", *state["labels"]], "counts": [0, *state["counts"]]}
    found = Earlier().fit(replace(material, state=grown, earlier=earlier)).predict(rows)
    before = earlier.predict(rows)
    assert found.labels == ("a new one", *before.labels)
    assert np.array_equal(found.decided, before.decided + 1)
    assert not found.scores[:, 0].any()
    assert np.array_equal(found.scores[:, 1:], before.scores)


def test_it_serves_only_a_run_that_goes_on() -> None:
    columns = Columns(("text",), ("target",))
    assert Earlier().serves(columns, continued=True)
    assert not Earlier().serves(columns, continued=False)


def test_a_run_knows_what_it_goes_on_from_by_what_the_learner_says_of_itself() -> None:
    from whet.run import earlier_model

    assert earlier_model(["majority", "frozen-probe", "earlier"]) == "earlier"
    assert earlier_model(["majority", "frozen-probe"]) is None
