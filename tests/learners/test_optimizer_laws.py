"""Laws 3, 5 and 6 under every optimizer: the same bytes again, killed or not; what is named moves, and nothing else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from learners.make import bytes_of, drained, made, moments_of, needs
from learners.test_resume_law import METHODS, SETTINGS
from whet.catalog import TABLES, find
from whet.training import loop
from whet.training.events import Evaluated, Said
from whet.training.trouble import NotFiniteError

OTHERS = [name for name in TABLES["optimizer"] if name != "adamw"]


def options(name: str, method: str = "full", **changes: Any) -> dict[str, Any]:
    """Dropout, accumulation and early stopping are on, as for the default; rates are in the optimizer's unit."""
    rate = METHODS[method].learning_rate * find("optimizer", name)().usual_rate
    settings = replace(SETTINGS, optimizer=name, learning_rate=rate, **changes)
    return {"method": METHODS[method], "training": settings, "dropout": 0.2, "valid": 8, "checkpoint_seconds": 0.0}


@pytest.mark.parametrize(("method", "valid"), [("full", 8), ("l2-sp", 0), ("lora", 8)])
@pytest.mark.parametrize("name", OTHERS)
def test_a_fit_that_is_killed_at_any_step_gives_the_same_bytes(
    tiny_model: Path, tmp_path: Path, name: str, method: str, valid: int
) -> None:
    needs(name)
    given = options(name, method) | {"valid": valid}
    running = tmp_path / "running"
    fitted, _, found = moments_of(*made(tiny_model, checkpoints=running, **given), running)
    _, *moments = found.values()
    assert len(moments) > 3
    for moment in (moments[1], moments[len(moments) // 2], running):
        assert bytes_of(drained(*made(tiny_model, checkpoints=moment, **given))[0]) == bytes_of(fitted)


@pytest.mark.parametrize("name", OTHERS)
def test_a_fit_returns_to_its_snapshot_and_is_the_same_when_killed_around_it(
    tiny_model: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs(name)
    update = loop.update

    def fails(state: loop.FitState, *rest: Any) -> None:
        if (state.step, state.slower) == (5, 1.0):
            raise NotFiniteError
        update(state, *rest)

    monkeypatch.setattr(loop, "update", fails)
    monkeypatch.setattr(loop, "SNAPSHOT", 3)
    given = options(name, patience=0)
    running = tmp_path / "running"
    whole, events, found = moments_of(*made(tiny_model, checkpoints=running, **given), running)
    _, *moments = found.values()
    assert sum(isinstance(event, Said) and "back to update 3" in event.message for event in events) == 1
    assert all(bool(torch.isfinite(tensor).all()) for tensor in whole.model.state_dict().values())
    for moment in moments[4:6]:
        assert bytes_of(drained(*made(tiny_model, checkpoints=moment, **given))[0]) == bytes_of(whole)


@pytest.mark.parametrize("name", OTHERS)
def test_the_live_model_is_what_is_kept(tiny_model: Path, name: str) -> None:
    needs(name)
    fitted, _ = drained(*made(tiny_model, **options(name) | {"training_precision": "bfloat16", "valid": 0}))
    masters, live = dict(fitted.working.masters.named_parameters()), dict(fitted.working.live.named_parameters())
    assert all(torch.equal(master.to(live[name].dtype), live[name]) for name, master in masters.items())


def test_how_often_schedule_free_is_asked_for_its_average_moves_no_step(tiny_model: Path) -> None:
    needs("schedule-free")
    ends = []
    for evaluations in (1, 3):
        given = options("schedule-free", patience=0, evaluations_per_epoch=evaluations) | {"dropout": 0.0}
        _, events = drained(*made(tiny_model, **given))
        ends.append([event for event in events if isinstance(event, Evaluated)][-1].loss)
    assert ends[0] == ends[1]
