"""Law 3 with an average of the weights: killed at any step and resumed, also around trouble, the same bytes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from learners.make import bytes_of, drained, moments_of
from learners.test_resume_law import SETTINGS, fit_of
from whet import catalog
from whet.training import loop
from whet.training.averages.swa import SWA
from whet.training.trouble import NotFiniteError

AVERAGES = [name for name in catalog.members("average") if name != "none"]


def averaged(folder: Path, checkpoints: Path | None, average: str, **changes: Any) -> Any:
    training = replace(SETTINGS, average=SWA(share=0.8) if average == "swa" else average)
    return fit_of(folder, checkpoints, training=training, **changes)


def killed_everywhere(folder: Path, place: Path, average: str, **changes: Any) -> int:
    """Resume from what lay on the disk at every event, at first nothing; how many checkpoints there were."""
    running = place / "running"
    fitted, _, moments = moments_of(*averaged(folder, running, average, **changes), running)
    for kept, left in [*moments.items(), ("all that there is at the end", running)]:
        found = bytes_of(drained(*averaged(folder, left, average, **changes))[0])
        assert found == bytes_of(fitted), f"killed when there was {kept or 'nothing'}"
    assert bytes_of(drained(*averaged(folder, None, average, **changes))[0]) == bytes_of(fitted)
    return len(moments) - 1


@pytest.mark.parametrize(("average", "valid"), [*((name, 8) for name in AVERAGES), ("ema", 0), ("swa", 0)])
def test_a_fit_that_is_killed_at_any_event_gives_the_same_bytes(
    tiny_model: Path, tmp_path: Path, average: str, valid: int
) -> None:
    assert killed_everywhere(tiny_model, tmp_path, average, valid=valid) > 2


@pytest.mark.parametrize("average", AVERAGES)
def test_a_fit_that_returns_to_its_snapshot_returns_to_its_average(
    tiny_model: Path, tmp_path: Path, average: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = loop.update

    def fails(state: loop.FitState, *rest: Any) -> None:
        if (state.step, state.slower) == (6, 1.0):
            raise NotFiniteError
        update(state, *rest)

    monkeypatch.setattr(loop, "update", fails)
    monkeypatch.setattr(loop, "SNAPSHOT", 4)
    seen: dict[int, list[Any]] = {}
    returned = loop.FitState.return_to_snapshot

    def watched(state: loop.FitState, working: Any) -> None:
        returned(state, working)
        seen[state.step] = [one.clone() for one in state.carried.mean]
        assert all(one.step <= state.step for one in state.carried.ingredients)
        wanted = [state.snapshot[f"average/{number}"] for number in range(len(state.carried.mean))]
        assert all(bool((one == other).all()) for one, other in zip(seen[state.step], wanted, strict=True))

    monkeypatch.setattr(loop.FitState, "return_to_snapshot", watched)
    assert killed_everywhere(tiny_model, tmp_path, average) > 2
    assert bool(seen[4]) == (average in ("ema", "swa"))
