"""Cross-fitting answers every row to learn from once, by a fit that had not seen it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import whet
from learners.make import bytes_of
from whet.checking import Objects
from whet.learners.neural import TrainingRows
from whet.methods.contrastive import Contrastive
from whet.methods.full import Full
from whet.methods.probe import Probe
from whet.plan import Rung
from whet.resolve import Prepared, prepare
from whet.run import Clock, RunRows, encode, fit_method, together
from whet.search.crossfit import cross_fit, met, over_sure, split, tempered
from whet.search.ladder import fit_winner
from whet.tasks.predictions import Predictions
from whet.testing import tiny_rows
from whet.training.batches import strata_of
from whet.training.settings import Training
from whet.training.solve import assign_folds

PLAIN = ("machinery.threads=1", "machinery.precision=float32", "machinery.training_precision=float32", "cache=off")


def ran(events: Any) -> Any:
    """What a generator of events ends with."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value


def prepared_rows(model: Path, scratch: Path) -> tuple[Prepared, RunRows]:
    from whet.request import partial_plan

    table = tiny_rows("classification", 90)[0].table.to_pylist()
    settings = (*PLAIN, "backbone.attention=eager", "data.valid_fraction=0.2")
    wanted = partial_plan(table, "target", model=model, method="full", settings=settings)
    prepared = prepare(wanted, Objects(rows=table), scratch)
    return prepared, ran(encode(prepared, Clock()))


def test_rows_of_a_single_group_are_all_learnt_from(tiny_model: Path, tmp_path: Path) -> None:
    prepared, rows = prepared_rows(tiny_model, tmp_path)
    whole, _ = together(rows)
    units = np.repeat([0, 1], -(-whole.rows // 2))[: whole.rows]
    seen = np.flatnonzero(units == 0)
    found = split(whole, units, seen, Full(), prepared.plan.seed)
    assert found.train.rows == len(seen)
    assert found.valid is None


def test_every_row_to_learn_from_is_answered_once_by_a_fit_without_it(tiny_model: Path, tmp_path: Path) -> None:
    prepared, rows = prepared_rows(tiny_model, tmp_path)
    whole, units = together(rows)
    found = ran(cross_fit(prepared, Probe(), Training(), rows, 3, None))
    assert sorted(found.answers.row_ids) == sorted(whole.row_ids)
    parts = assign_folds(strata_of(whole.targets), units, 3, prepared.plan.seed)
    held = np.flatnonzero(parts == 1)
    alone = ran(
        fit_method(prepared, Probe(), Training(), split(whole, units, np.flatnonzero(parts != 1), Probe(), 0), None)
    )
    answers = ran(alone.answer(whole.select(held)))
    place = np.searchsorted(found.answers.row_ids, answers.row_ids, sorter=np.argsort(found.answers.row_ids))
    order = np.argsort(found.answers.row_ids)[place]
    np.testing.assert_array_equal(found.answers.scores[order], answers.scores)
    np.testing.assert_array_equal(found.answers.targets[order], whole.targets[held])


def test_rows_of_one_unit_lie_on_one_side_of_every_division(tiny_model: Path, tmp_path: Path) -> None:
    _, rows = prepared_rows(tiny_model, tmp_path)
    whole, _ = together(rows)
    units = np.arange(whole.rows) // 2
    seen = np.flatnonzero(assign_folds(strata_of(whole.targets), units, 3, 0) != 0)
    learning = split(whole, units, seen, Full(), 0)
    assert learning.valid is not None
    stops = set(units[np.isin(whole.row_ids, learning.valid.row_ids)])
    trains = set(units[np.isin(whole.row_ids, learning.train.row_ids)])
    unseen = set(np.delete(units, seen))
    assert sorted([*stops, *trains, *unseen]) == sorted(set(units))


def test_the_number_of_parts_is_a_field_of_the_plan(tiny_model: Path) -> None:
    table = tiny_rows("classification", 90)[0].table.to_pylist()

    def parts(*settings: str) -> Any:
        given = (*PLAIN, "backbone.attention=eager", "training.epochs=1", *settings)
        return whet.plan(table, "target", model=tiny_model, settings=given, time="10m").plan.method.folds

    assert (parts(), parts("method.folds=5"), parts("method.folds=0", "data.valid_fraction=0.4")) == (3, 5, 0)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_by_how_much_unseen_answers_are_too_sure_is_found(factor: float, tiny_model: Path, tmp_path: Path) -> None:
    prepared, _ = prepared_rows(tiny_model, tmp_path)
    labels = tuple(prepared.state["labels"])
    draw = np.random.default_rng(0)
    logits = draw.normal(size=(5_000, len(labels))) * 2
    right = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    targets = np.array([draw.choice(len(labels), p=one) for one in right])
    told = np.exp(logits * factor) / np.exp(logits * factor).sum(1, keepdims=True)
    answers = Predictions("classification", np.arange(5_000), told, told.argmax(1), labels, targets)
    assert over_sure(prepared, [answers]) == pytest.approx(factor, rel=0.1)
    assert over_sure(prepared, [answers.take(np.arange(0))]) == 1.0
    np.testing.assert_allclose(tempered(answers, factor).scores, right, rtol=1e-6)


def test_a_winner_whose_rows_stop_nothing_learns_from_all_and_is_as_sure_as_unseen_rows_say(
    tiny_model: Path, tmp_path: Path
) -> None:
    prepared, rows = prepared_rows(tiny_model, tmp_path)
    method, training = Contrastive(), replace(prepared.plan.training, epochs=2)
    attempt = ran(cross_fit(prepared, method, training, rows, 3, None))
    assert attempt.over_sure != 1.0
    rung = Rung(method=method, epochs=2, seconds=1.0, trusted=True)
    winner, _, _ = ran(fit_winner(prepared, rung, attempt, rows, None))
    whole, units = together(rows)
    assert rows.valid is not None
    assert winner.solved_rows == whole.rows > rows.train.rows
    alone = ran(fit_method(prepared, method, training, TrainingRows(whole, None, units), None))
    np.testing.assert_allclose(ran(alone.outputs(whole)) / ran(winner.outputs(whole)), attempt.over_sure, rtol=1e-3)


def test_a_class_that_training_never_saw_is_none_that_is_contrasted_or_calibrated_by(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Two validation rows of one: together they would be a pair."""
    prepared, rows = prepared_rows(tiny_model, tmp_path)
    method, training = Contrastive(), replace(prepared.plan.training, epochs=2)
    rung = Rung(method=method, epochs=2, seconds=1.0, trusted=True)
    assert rows.valid is not None
    assert rows.valid.targets is not None
    strange = np.arange(rows.valid.rows) < 2
    known = rows.valid.select(np.flatnonzero(~strange))
    marked = replace(rows.valid, targets=np.where(strange, -1, rows.valid.targets))
    attempt = ran(cross_fit(prepared, method, training, replace(rows, valid=marked), 3, None))
    assert 1 / 16 < attempt.over_sure < 16
    fits = [
        ran(fit_winner(prepared, rung, attempt, one, None))[0]
        for one in (replace(rows, valid=marked), replace(rows, valid=known, valid_units=rows.valid_units[~strange]))
    ]
    assert bytes_of(fits[0]) == bytes_of(fits[1])


def test_a_row_of_a_class_that_its_fit_lacked_says_nothing_of_how_sure_answers_may_be() -> None:
    seen = np.array([0, 0, 1, 1])
    assert met(np.array([0, 1, 2, -1]), seen).tolist() == [True, True, False, False]
