"""A run's folder after it was killed at its very end, or in the midst of a line of its log."""

import shutil
from pathlib import Path

import pytest

from whet.errors import MachineError, RunError
from whet.folder import (
    EVENTS,
    METRICS,
    WORK,
    EventLog,
    choose_folder,
    locked,
    made_and_locked,
    read_events,
    require_space,
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


def test_nothing_is_removed_while_the_run_is_still_at_it(tmp_path: Path) -> None:
    run = finished(tmp_path / "run")
    with locked(run), pytest.raises(RunError, match="finished run"):
        choose_folder(run, "run", resume=True)
    assert (run / WORK / "sealed" / "test.arrow").exists()


def test_what_a_killed_run_was_writing_is_gone_when_the_folder_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("kept")
    (tmp_path / ".report.html.4347.part").write_text("<html>")  # another process would choose another name
    (tmp_path / "model.new").mkdir()
    with made_and_locked(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {"plan.yaml", WORK, ".lock"}


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
