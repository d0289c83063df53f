"""Does the log hold each step once, whatever a run went through?"""

import csv
from pathlib import Path

import pytest

from whet.testing import tiny_events
from whet.trackers.csv_log import COLUMNS, NAME, CsvLog
from whet.training.events import Evaluated, Event, Stepped


def logged(folder: Path, events: list[Event]) -> list[dict[str, str]]:
    """What the log holds after these events, in one process."""
    observer = CsvLog().open(folder)
    for event in events:
        observer(event)
    observer.close()
    path = folder / NAME
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def test_every_step_and_evaluation_is_a_row(tmp_path: Path) -> None:
    events = tiny_events()
    rows = logged(tmp_path, events)
    assert tuple(rows[0]) == COLUMNS
    steps = [event for event in events if isinstance(event, Stepped)]
    assert [(row["fit"], row["method"], row["step"]) for row in rows if row["event"] == "step"] == [
        ("2", "full", str(event.step)) for event in steps
    ]
    assert [float(row["loss"]) for row in rows if row["loss"]] == [event.loss for event in steps]
    held_out = [event.loss for event in events if isinstance(event, Evaluated)]
    assert [float(row["valid_loss"]) for row in rows if row["valid_loss"]] == held_out


@pytest.mark.parametrize("died", range(13))
@pytest.mark.parametrize("checkpoint", [0, 4, 7, 8])
def test_a_resumed_run_holds_the_rows_of_one_never_stopped(died: int, checkpoint: int, tmp_path: Path) -> None:
    logged(tmp_path, tiny_events(upto=died)[: None if died < 12 else -3])
    first = min(checkpoint, died) + 1
    resumed = logged(tmp_path, tiny_events(first=first))
    (tmp_path / "other").mkdir()
    assert resumed == logged(tmp_path / "other", tiny_events())


def test_a_row_that_was_torn_by_a_kill_is_written_anew(tmp_path: Path) -> None:
    whole = logged(tmp_path, tiny_events())
    path = tmp_path / NAME
    for cut in (1, 7, 60):
        path.write_bytes(path.read_bytes()[:-cut])
        assert logged(tmp_path, tiny_events(first=9)) == whole


def test_a_run_that_returns_to_a_snapshot_keeps_the_steps_that_led_on(tmp_path: Path) -> None:
    again = [event for event in tiny_events() if getattr(event, "step", 0) <= 9]
    rows = logged(tmp_path, [*again, *tiny_events(first=6)[4:]])
    (tmp_path / "other").mkdir()
    assert rows == logged(tmp_path / "other", tiny_events())


def test_fits_with_stages_of_one_name_stand_beside_each_other(tmp_path: Path) -> None:
    rows = logged(tmp_path, [*tiny_events(), *tiny_events()])
    assert [row["fit"] for row in rows if row["step"] == "12" and row["loss"]] == ["2", "4"]
