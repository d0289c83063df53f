"""The ladder compares rungs on whole groups, and no group stops a fit and chooses it."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search.test_crossfit import PLAIN, ran
from whet.checking import Objects
from whet.evaluation.compare import gain
from whet.evaluation.metric import metric_named
from whet.learners.neural import TrainingRows
from whet.methods.contrastive import Contrastive
from whet.methods.probe import Probe
from whet.plan import Rung
from whet.request import partial_plan
from whet.resolve import Prepared, prepare
from whet.run import Clock, RunRows, encode, fit_method
from whet.search.crossfit import cross_fit, over_sure
from whet.search.ladder import climb, fit_winner, on_choosing, parts_of, try_rung
from whet.testing import tiny_rows
from whet.training.events import Checkpointed, Evaluated, Progressed, Started, Stepped, Stopped
from whet.training.settings import Training


def prepared_rows(model: Path, scratch: Path, *, groups: int = 0, **wanted: Any) -> tuple[Prepared, RunRows]:
    """180 rows, each text three times; with ``groups`` in so many groups of like size, which do not follow the text."""
    table = tiny_rows("classification", 60)[0].table.to_pylist() * 3
    if groups:
        names = np.random.default_rng(0).permutation(np.arange(len(table)) % groups)
        table = [{"text": f"{i} {row['text']}", "target": row["target"], "who": f"g{names[i]}"} for i, row in
                 enumerate(table)]  # fmt: skip
        wanted["group"] = "who"
    settings = (*PLAIN, "backbone.attention=eager", "data.valid_fraction=0.3", *wanted.pop("settings", ()))
    plan = partial_plan(table, "target", model=model, settings=settings, **{"method": "full", **wanted})
    prepared = prepare(plan, Objects(rows=table), scratch)
    return prepared, ran(encode(prepared, Clock()))


@pytest.mark.parametrize("groups", [0, 12])
def test_no_group_and_no_text_lies_on_both_sides(tiny_model: Path, tmp_path: Path, groups: int) -> None:
    _, rows = prepared_rows(tiny_model, tmp_path, groups=groups)
    held = parts_of(rows, 0)
    assert rows.valid is not None and rows.valid_units is not None  # noqa: PT018
    assert held.stopping is not None and held.choosing is not None  # noqa: PT018
    stops = np.isin(rows.valid.row_ids, held.stopping.row_ids)
    assert held.stopping.rows + held.choosing.rows == rows.valid.rows
    assert not set(rows.valid_units[stops]) & set(rows.valid_units[~stops])
    assert held.units is not None
    np.testing.assert_array_equal(held.units, rows.valid_units[stops])
    assert len(set(rows.valid_units)) < rows.valid.rows
    assert 0.15 < stops.mean() < 0.55


@pytest.mark.parametrize("groups", [0, 12])
@pytest.mark.parametrize("folds", [0, 3])
def test_a_gain_is_judged_by_groups_where_there_are_any_and_else_by_rows(
    tiny_model: Path, tmp_path: Path, groups: int, folds: int
) -> None:
    prepared, rows = prepared_rows(tiny_model, tmp_path, groups=groups)
    if folds:
        answers = ran(cross_fit(prepared, Probe(), Training(), rows, folds, None)).answers
    else:
        held = parts_of(rows, 0)
        learning = TrainingRows(rows.train, held.stopping, rows.units)
        fitted = ran(fit_method(prepared, Probe(), Training(), learning, None))
        answers = ran(on_choosing(fitted, held.choosing, held.groups))
    if not groups:
        assert answers.units is None
        return
    group = dict(zip(prepared.split.train.ids, prepared.split.train.values("who"), strict=True))
    assert prepared.split.valid is not None
    group |= dict(zip(prepared.split.valid.ids, prepared.split.valid.values("who"), strict=True))
    names = [group[row] for row in answers.row_ids]
    assert len(set(zip(names, answers.units.tolist(), strict=True))) == len(set(names)) == len(set(answers.units))
    metric = metric_named("accuracy", "classification")
    found = gain(answers, answers, metric, 0)
    assert found.high95 > gain(answers.with_targets(answers.targets), answers, metric, 0).high95


@pytest.mark.parametrize("folds", [0, 3])
def test_with_one_group_nothing_is_chosen_and_that_is_said(tiny_model: Path, tmp_path: Path, folds: int) -> None:
    settings = (f"method.folds={folds}", "training.epochs=1")
    prepared, rows = prepared_rows(tiny_model, tmp_path, groups=3, method="auto", time="10m", settings=settings)
    if folds:
        whole = np.zeros_like(rows.units)
        rows = RunRows(rows.train, None, whole, None, grouped=True)
    climbed = ran(climb(prepared, rows, None))
    first, second, *_ = climbed.rungs
    assert first.kept
    assert not second.kept
    assert "of one group" in second.why


def test_a_first_rung_in_parts_that_is_stopped_ends_the_run(tiny_model: Path, tmp_path: Path) -> None:
    """Nothing is whole by then: as before any step, the run ends, and can be resumed."""
    ladder = ("method.methods=[top-layers,full]", "method.folds=3", "training.epochs=50")
    prepared, rows = prepared_rows(tiny_model, tmp_path, method="auto", settings=ladder, time="1h")
    assert prepared.plan.method.folds == 3

    def pressed() -> None:
        for event in climb(prepared, rows, None):
            if isinstance(event, Stepped):
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pressed()


def test_a_part_that_is_stopped_is_finished_no_more(tiny_model: Path, tmp_path: Path) -> None:
    ladder = ("method.methods=[probe,full]", "method.folds=3", "training.epochs=50")
    prepared, rows = prepared_rows(tiny_model, tmp_path, method="auto", settings=ladder, time="1h")
    events, stopped = [], None
    for event in climb(prepared, rows, None):
        events.append(event)
        if isinstance(event, Stepped) and stopped is None:
            os.kill(os.getpid(), signal.SIGINT)
        if isinstance(event, Stopped):
            stopped = len(events)
    assert stopped is not None
    after = [event for event in events[stopped:] if event.stage == "full"]
    assert not [event for event in after if isinstance(event, Started | Stepped | Progressed | Evaluated)]


@pytest.mark.parametrize("folds", [0, 3])
def test_seconds_of_a_rung_that_goes_on_are_those_of_all_its_parts(
    tiny_model: Path, tmp_path: Path, folds: int
) -> None:
    ladder = ("method.methods=[probe,full]", f"method.folds={folds}", "training.epochs=2", "training.patience=0")
    prepared, rows = prepared_rows(tiny_model, tmp_path, method="auto", settings=ladder, time="1h")
    running = climb(prepared, rows, tmp_path / "checkpoints")
    steps = 0
    for event in running:
        steps += isinstance(event, Stepped)
        if isinstance(event, Stepped) and steps == 2:
            time.sleep(3.0)
        if steps == 3:  # the state knows what passed until its last event
            running.close()
            break
    full = ran(climb(prepared, rows, tmp_path / "checkpoints")).rungs[1]
    assert full.name == "full"
    assert full.seconds > 3.0


def test_a_second_ctrl_c_while_a_stopped_part_is_saved_ends_the_run(tiny_model: Path, tmp_path: Path) -> None:
    ladder = ("method.methods=[probe,full]", "method.folds=3", "training.epochs=50")
    prepared, rows = prepared_rows(tiny_model, tmp_path, method="auto", settings=ladder, time="1h")
    presses = []

    def pressed() -> None:
        for event in climb(prepared, rows, tmp_path / "checkpoints"):
            if isinstance(event, Checkpointed if presses else Stepped) and len(presses) < 2:
                presses.append(type(event))
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pressed()
    assert presses == [Stepped, Checkpointed]


def test_rows_that_chose_a_contrast_say_how_sure_it_may_be(tiny_model: Path, tmp_path: Path) -> None:
    ladder = ("method.methods=[probe,contrastive]", "method.folds=0", "training.epochs=2")
    prepared, rows = prepared_rows(tiny_model, tmp_path, method="auto", settings=ladder, time="1h")
    held = parts_of(rows, prepared.plan.seed)
    rung = Rung(method=Contrastive(), epochs=2, seconds=1.0, trusted=True)
    attempt = ran(try_rung(prepared, rung, rows, held, None))
    assert held.stopping is not None
    assert attempt.fitted.solved_rows == rows.train.rows + held.stopping.rows
    assert attempt.over_sure == over_sure(prepared, [attempt.answers])
    assert attempt.over_sure != 1.0
    before = ran(attempt.fitted.outputs(rows.train))
    winner, _, _ = ran(fit_winner(prepared, rung, attempt, rows, None))
    np.testing.assert_allclose(before / ran(winner.outputs(rows.train)), attempt.over_sure, rtol=1e-3)
