"""Cross-fitting answers every row to learn from once, by a fit that had not seen it."""

from pathlib import Path
from typing import Any

import numpy as np

import whet
from whet.checking import Objects
from whet.methods.full import Full
from whet.methods.probe import Probe
from whet.resolve import Prepared, prepare
from whet.run import Clock, RunRows, encode, fit_method, together
from whet.search.crossfit import cross_fit, split
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
