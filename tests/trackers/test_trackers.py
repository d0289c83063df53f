"""Do trackers follow a run to its folder, from every front door, and never stand in its way?"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import whet
from plain import PLAIN
from whet import catalog
from whet.errors import ConfigError, MissingPackageError
from whet.plan import Plan, trackers_of
from whet.request import partial_plan
from whet.testing import check_tracker, tiny_rows
from whet.trackers.csv_log import CsvLog
from whet.trackers.energy import Energy
from whet.trackers.tensorboard import TensorBoard
from whet.trackers.tracker import Account, Figure, opened, require_package
from whet.training.events import Stepped

NEEDS = {"tensorboard": "tensorboard", "energy": "codecarbon"}
SHORT = (*PLAIN, "training.epochs=2")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def tuned(model: Path, **wanted: Any) -> whet.Result:
    rows = tiny_rows("classification", 80)[0].table.to_pylist()
    wanted = {"method": "top-layers", "out": "run", "settings": SHORT, **wanted}
    return whet.finetune(rows, "target", model=model, **wanted)


@pytest.mark.parametrize("name", list(catalog.members("tracker")))
def test_every_tracker_keeps_the_contract(name: str) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    check_tracker(catalog.find("tracker", name)())


def test_what_is_named_comes_to_the_log_and_the_later_setting_counts() -> None:
    def tracked(*words: Any, **more: Any) -> tuple[Any, ...]:
        return trackers_of(partial_plan("rows.csv", "topic", track=words, **more)["track"])

    assert trackers_of(None) == (CsvLog(),)
    assert tracked("csv") == (CsvLog(),)
    assert tracked("tensorboard,energy:country=FRA") == (CsvLog(), TensorBoard(), Energy(country="FRA"))
    assert tracked("energy", Energy(country="FRA")) == (CsvLog(), Energy(country="FRA"))
    assert tracked("tensorboard", settings=["track=[]"]) == (TensorBoard(),)


@pytest.mark.parametrize(
    ("word", "says", "fix"),
    [
        ("tensorbord", "no tracker named 'tensorbord'", "'tensorboard'"),
        ("energy:contry=FRA", "no setting 'contry'", "country"),
        ("energy:country=7", "'7' in codecarbon's tables|needs the package codecarbon", ""),
        (print, "not <built-in function print>", "observers="),
        (3, "not 3", "observers="),
    ],
)
def test_what_is_no_tracker_is_refused(word: Any, says: str, fix: str) -> None:
    with pytest.raises((ConfigError, MissingPackageError), match=says) as caught:
        trackers_of(partial_plan("rows.csv", "topic", track=[word])["track"])[-1].require()
    assert fix in caught.value.fix


def test_a_missing_package_is_said_with_the_line_to_type() -> None:
    with pytest.raises(MissingPackageError) as caught:
        require_package("no_such_package", "The tracker mine", "mine")
    assert caught.value.fix == "pip install 'whet[mine]'"


def test_a_plan_file_keeps_its_trackers(here: Path, tiny_model: Path) -> None:
    rows = tiny_rows("classification", 80)[0].table.to_pylist()
    prepared = whet.plan(rows, "target", model=tiny_model, method="probe", track=Energy("FRA"), settings=PLAIN)
    prepared.plan.write(here / "plan.yaml")
    read = Plan.read(here / "plan.yaml")
    assert read == prepared.plan
    assert read.track == (CsvLog(), Energy("FRA"))
    assert read.brief()["tracked by"] == "csv, energy"


def test_a_tracker_beside_a_plan_file_leaves_the_rest_as_it_was_resolved(here: Path, tiny_model: Path) -> None:
    rows = tiny_rows("classification", 80)[0].table.to_pylist()
    plan = whet.plan(rows, "target", model=tiny_model, method="full", settings=SHORT).plan
    plan.write(here / "plan.yaml")
    other = whet.plan(rows, plan=here / "plan.yaml", track="tensorboard").plan
    assert other.as_dict() == plan.as_dict() | {"track": [{"name": "csv"}, {"name": "tensorboard"}]}


class Killed(BaseException):
    """Ends a run in this process."""


def test_a_resumed_run_may_be_followed_by_others(here: Path, tiny_model: Path) -> None:
    def kill(event: Any) -> None:
        if isinstance(event, Stepped) and event.step == 3:
            raise Killed

    every_step = (*SHORT, "machinery.checkpoint_seconds=0")
    with pytest.raises(Killed):
        tuned(tiny_model, settings=every_step, observers=[kill])
    assert Plan.read(here / "run" / "plan.yaml").track == (CsvLog(),)
    tuned(tiny_model, settings=(*every_step, "track=[]"), resume=True)
    assert Plan.read(here / "run" / "plan.yaml").track == ()


def test_the_log_of_a_killed_and_resumed_run_is_that_of_one_never_stopped(here: Path, tiny_model: Path) -> None:
    def kill(event: Any) -> None:
        if isinstance(event, Stepped) and event.step == 3:
            raise Killed

    with pytest.raises(Killed):
        tuned(tiny_model, settings=(*SHORT, "machinery.checkpoint_seconds=0"), observers=[kill])
    tuned(tiny_model, settings=(*SHORT, "machinery.checkpoint_seconds=0"), resume=True)
    tuned(tiny_model, settings=(*SHORT, "machinery.checkpoint_seconds=0"), out="whole")
    resumed, whole = ((here / run / "tracks" / "log.csv").read_text().splitlines() for run in ("run", "whole"))
    assert [line.rpartition(",")[0] for line in resumed] == [line.rpartition(",")[0] for line in whole]
    assert len(whole) > 4


def test_a_run_of_a_solved_head_leaves_no_empty_folder(here: Path, tiny_model: Path) -> None:
    tuned(tiny_model, method="probe", settings=PLAIN)
    assert not (here / "run" / "tracks").exists()


@dataclass(frozen=True)
class Steps(CsvLog):
    """Another package's tracker: counts the steps of a run, or fails to say how many there were."""

    broken: bool = False

    def account(self, folder: Path) -> Account:  # type: ignore[override]
        if self.broken:
            raise OSError("no room")
        steps = len((folder / "log.csv").read_text().splitlines()) - 1
        return Account(figures=(Figure(name="steps", words=f"{steps} steps"),), record={"steps": steps})


def test_another_tracker_is_told_of_in_every_place_from_its_row_in_the_catalog(
    here: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(catalog.TRACKERS, "counted", catalog.Member(f"{__name__}:Steps", "steps"))
    check_tracker(Steps())
    result = tuned(tiny_model, track="counted")
    steps = json.loads((here / "run" / "metrics.json").read_text())["counted"]["steps"]
    assert steps > 0
    assert result.story.accounts["counted"].figures[0].words == f"{steps} steps"
    for page in ("report.html", "README.md"):
        assert f"{steps} steps" in (here / "run" / page).read_text(encoding="utf-8")
    failing = tuned(tiny_model, track="counted:broken=true", out="failing")
    assert failing.story.accounts == {}
    assert "The tracker counted failed to give its account: OSError: no room" in capsys.readouterr().err


def test_every_observer_is_closed_when_one_cannot_open(tmp_path: Path) -> None:
    closed = []

    class One(CsvLog):
        def open(self, folder: Path) -> Any:
            observer = super().open(folder)
            observer.close = lambda: closed.append(folder)  # type: ignore[method-assign]
            return observer

    class Broken(CsvLog):
        def open(self, folder: Path) -> Any:
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"), opened([One(), Broken()], tmp_path / "tracks"):
        pass
    assert closed == [tmp_path / "tracks"]


def test_events_tell_machines_of_fits_and_scores(here: Path, tiny_model: Path) -> None:
    result = tuned(tiny_model)
    events = [json.loads(line) for line in (here / "run" / "events.jsonl").read_text().splitlines()]
    assert [event["stage"] for event in events if event["event"] == "fitting"] == ["top-layers"]
    (judged,) = (event for event in events if event["event"] == "judged")
    assert judged["scores"]["test"] == result.metrics
