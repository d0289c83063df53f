"""A run's folder after it was killed at its very end, or in the midst of a line of its log."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from whet import folder
from whet.errors import MachineError, RunError
from whet.folder import (
    EVENTS,
    METRICS,
    PLAN,
    WORK,
    EventLog,
    choose_folder,
    locked,
    read_events,
    require_space,
    run_folder,
    taken_before,
)
from whet.training.events import Said


def finished(folder: Path) -> Path:
    (folder / WORK / "sealed").mkdir(parents=True)
    (folder / WORK / "sealed" / "test.arrow").write_bytes(b"targets")
    (folder / METRICS).write_text("{}")
    return folder


@pytest.mark.parametrize("left", [(WORK,), (".lock",), (WORK, ".lock")], ids=" and ".join)
def test_what_a_finished_run_did_not_come_to_remove_is_removed_when_it_is_asked_for_again(
    tmp_path: Path, left: tuple[str, ...]
) -> None:
    run = finished(tmp_path / "run")
    if WORK not in left:
        shutil.rmtree(run / WORK)
    if ".lock" in left:
        (run / ".lock").touch()
    with pytest.raises(RunError, match="finished run; there is nothing to resume"):
        choose_folder(run, "run", resume=True)
    assert {path.name for path in run.iterdir()} == {METRICS}


def test_what_a_run_took_before_it_was_resumed_is_added_up_part_by_part(tmp_path: Path) -> None:
    (tmp_path / WORK).mkdir()
    log = tmp_path / EVENTS
    assert taken_before(tmp_path, began=1_000.0) == 0.0
    assert taken_before(tmp_path, began=2_000.0) == 0.0, "it was killed before it had logged anything"
    log.write_text("{}\n")
    os.utime(log, (2_030.0, 2_030.0))
    assert taken_before(tmp_path, began=3_000.0) == pytest.approx(30.0)
    os.utime(log, (3_012.0, 3_012.0))
    assert taken_before(tmp_path, began=5_000.0) == pytest.approx(42.0)
    assert taken_before(tmp_path, began=6_000.0) == pytest.approx(42.0), "killed before it logged: the log is older"
    (tmp_path / WORK / "parts.json").write_text("torn")
    assert taken_before(tmp_path, began=7_000.0) == 0.0


def test_a_run_is_taken_up_in_a_folder_of_its_own_name_and_not_of_one_that_begins_alike(tmp_path: Path) -> None:
    for name in ("rows-target-2", "rows-target-more-1", "rows-target-10-1", "rows-target-²"):
        (tmp_path / name).mkdir()
        (tmp_path / name / PLAN).write_text("begun")
    assert choose_folder(None, "rows-target", True, tmp_path).name == "rows-target-2"
    assert choose_folder(None, "rows-target", False, tmp_path).name == "rows-target-3"
    assert choose_folder(None, "rows", True, tmp_path).name == "rows-1"


def test_nothing_is_removed_while_the_run_is_still_at_it(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    with locked(run), pytest.raises(RunError, match="finished run"):
        choose_folder(run, "run", resume=True)
    assert (run / WORK / "sealed" / "test.arrow").exists()


def test_what_a_killed_run_was_writing_is_gone_when_the_folder_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("kept")
    (tmp_path / ".report.html.4347.part").write_text("<html>")  # another process would choose another name
    (tmp_path / "model.new").mkdir()
    with run_folder(tmp_path, "run", resume=True):
        assert {path.name for path in tmp_path.iterdir()} == {"plan.yaml", WORK, ".lock"}


def test_runs_that_begin_at_once_get_numbers_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    together, first = Barrier(4), list(range(4))

    def choose_at_once(*given: Any) -> Path:
        found = choose_folder(*given)
        if first:
            first.pop()
            together.wait(timeout=60)
        return found

    def take(_: int) -> tuple[str, list[str]]:
        with run_folder(None, "run", False, tmp_path / "runs") as (place, made):
            ended.wait(timeout=60)
            return place.name, [one.name for one in made]

    ended = Barrier(4)
    monkeypatch.setattr(folder, "choose_folder", choose_at_once)
    with ThreadPoolExecutor(4) as pool:
        taken = dict(pool.map(take, range(4)))
    assert sorted(taken) == ["run-1", "run-2", "run-3", "run-4"]
    assert all(made[0] == name for name, made in taken.items())


def test_runs_that_cannot_be_made_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunError, match="cannot be written"), run_folder(None, "run", False, tmp_path / "runs"):
        pass


def test_an_event_after_a_torn_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / EVENTS
    path.write_text('{"event": "said", "message": "whole"}\n{"event": "sai')
    log = EventLog(path)
    log(Said(stage="resume", message="after"))
    log.close()
    assert [event["message"] for event in read_events(tmp_path)] == ["whole", "after"]


def test_a_run_that_its_disk_cannot_hold_is_refused_and_a_cache_that_does_not_fit_is_said(tmp_path: Path) -> None:
    run, cache, free = tmp_path / "runs" / "one", tmp_path / "cache", shutil.disk_usage(tmp_path).free
    with pytest.raises(MachineError, match=r"(?s)will write about.* are free.*runs/one.*--out"):
        require_space(run, 2 * free, cache, 0)
    [found] = require_space(run, free // 2, cache, free)
    assert "beside the run" in found.message
    assert "cache=off" in found.fix
    assert require_space(run, free // 2, None, free) == []
    assert require_space(run, free // 2, cache, free // 4) == []
    assert list(tmp_path.iterdir()) == []
