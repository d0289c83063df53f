"""A forecast is of the whole run: with what it has taken already, and without what an earlier run left behind."""

import time
from pathlib import Path

import pytest

import whet
from plain import PLAIN
from whet.testing import tiny_rows


def test_what_a_run_has_taken_counts_in_its_forecast_and_in_the_budget_of_the_ladder(tiny_model: Path) -> None:
    table = tiny_rows("classification", 90)[0].table.to_pylist()
    settings = (*PLAIN, "training.epochs=2", "data.valid_fraction=0.4")
    fresh, late = (
        whet.plan(table, "target", model=tiny_model, settings=settings, time="1h", began=time.monotonic() - ago).plan
        for ago in (0, 3_599)
    )
    assert late.forecast.seconds > 3_599 > fresh.forecast.seconds
    assert len(fresh.method.rungs) > len(late.method.rungs) == 1


@pytest.mark.parametrize("planned", [False, True])
def test_a_run_is_told_from_its_own_beginning_on(planned: bool, tiny_model: Path, tmp_path: Path) -> None:
    """With a plan that took an hour to make, what it took is no part of the run that follows it."""
    table = tiny_rows("classification", 60)[0].table.to_pylist()
    wanted = {"model": tiny_model, "method": "probe", "settings": PLAIN}
    if planned:
        made = whet.plan(table, "target", **wanted, began=time.monotonic() - 3_600)
        made.plan.write(tmp_path / "plan.yaml")
        wanted = {"plan": tmp_path / "plan.yaml"}
    run = whet.finetune(
        table, None if planned else "target", **wanted, out=tmp_path / "run", began=time.monotonic() - 600
    )
    for seconds in (run.story.forecast.seconds, run.story.seconds, run.story.actual.seconds):
        assert 600 < seconds < 1_200
    assert run.story.parts["start, read, check and plan"] > 600


def test_a_budget_that_nobody_named_leaves_two_minutes_to_what_follows_the_plan(tiny_model: Path) -> None:
    table = tiny_rows("classification", 90)[0].table.to_pylist()
    settings = (*PLAIN, "training.epochs=2", "data.valid_fraction=0.4")
    late = whet.plan(table, "target", model=tiny_model, settings=settings, began=time.monotonic() - 3_600).plan
    assert 3_720 < late.method.seconds < 4_200
    assert len(late.method.rungs) > 1


@pytest.mark.parametrize("cached", [True, False])
def test_features_that_an_earlier_run_left_take_no_time(cached: bool, tiny_model: Path, tmp_path: Path) -> None:
    table = tiny_rows("classification", 60)[0].table.to_pylist()
    usual = [one for one in PLAIN if not one.startswith("cache=")]
    settings = (*usual, f"cache={tmp_path / 'cache'}" if cached else "cache=off")

    def computes_features(rows: list[dict[str, object]]) -> bool:
        plan = whet.plan(rows, "target", model=tiny_model, method="probe", settings=settings).plan
        return "features" in plan.forecast.parts

    assert computes_features(table)
    whet.finetune(table, "target", model=tiny_model, method="probe", settings=settings, out=tmp_path / "run")
    assert computes_features(table) is not cached
    assert computes_features([{**row, "text": f"other {row['text']}"} for row in table])


@pytest.mark.parametrize("most", [4 * 2**30, 1_000])
def test_replay_is_forecast_where_the_run_will_replay(most: int, tiny_model: Path, tmp_path: Path) -> None:
    table = tiny_rows("classification", 90)[0].table.to_pylist()
    usual = [one for one in PLAIN if not one.startswith("cache=")]
    settings = (*usual, f"cache={tmp_path / 'cache'}", "training.epochs=8", f"machinery.most_cache_bytes={most}")
    run = whet.finetune(table, "target", model=tiny_model, method="top-layers", settings=settings, out=tmp_path / "run")
    plan = run.story.plan["forecast"]
    refused = any("Replay is off: its cache would take" in note for note in run.story.notes)
    assert refused == (most == 1_000)
    assert bool(plan["replay_gain"]) != refused
    in_cache = plan["disk_bytes"] - plan["run_disk_bytes"]
    assert (in_cache > 90 * 32 * 4 * 2) != refused  # beside features, activations of every token
