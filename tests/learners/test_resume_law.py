"""Law 3: killed at any step and resumed, a fit gives the same bytes as one that never stopped; and law 6."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from learners.make import QUICK, bytes_of, drained, made, moments_of
from whet.learners.neural import Neural, TrainingRows
from whet.methods.contrastive import Contrastive
from whet.methods.full import Full
from whet.methods.gradual import Gradual
from whet.methods.l2_sp import L2SP
from whet.methods.lora import LoRA
from whet.methods.top_layers import TopLayers
from whet.training.events import Checkpointed, Evaluated, Said, Stepped, Stopped
from whet.training.settings import Training

SETTINGS = Training(batch_size=8, micro_batch_size=3, evaluations_per_epoch=2, patience=2, head_learning_rate=5.0)
METHODS = {
    "top": TopLayers(1, learning_rate=3e-3, epochs=4, solve=QUICK),
    "full": Full(learning_rate=3e-3, epochs=2, solve=QUICK),
    "gradual": Gradual(groups=2, learning_rate=3e-3, epochs=4, thaw=0.25, solve=QUICK),
    "l2-sp": L2SP(strength=30.0, learning_rate=3e-3, epochs=2, solve=QUICK),
    "lora": LoRA(rank=2, learning_rate=1e-2, epochs=2, solve=QUICK),
    "contrastive": Contrastive(learning_rate=1e-3, epochs=2, solve=QUICK),
}


def fit_of(folder: Path, checkpoints: Path | None, method: str = "top", **changes: Any) -> tuple[Neural, TrainingRows]:
    """Dropout, evaluations and early stopping are all on; a checkpoint after every step."""
    training = replace(SETTINGS, micro_batch_size=None) if method == "contrastive" else SETTINGS
    options: dict[str, Any] = {"dropout": 0.2, "training": training, "checkpoint_seconds": 0.0, "valid": 8}
    return made(folder, method=METHODS[method], checkpoints=checkpoints, **options | changes)


def resumed(folder: Path, checkpoints: Path, method: str = "top") -> bytes:
    return bytes_of(drained(*fit_of(folder, checkpoints, method))[0])


def test_the_fit_that_is_killed_is_no_trivial_one(tiny_model: Path) -> None:
    """Else the tests below would prove nothing: it stops early, after its best step, and dropout matters."""
    fitted, events = drained(*fit_of(tiny_model, None))
    best = [event.step for event in events if isinstance(event, Evaluated) and event.best]
    stopped = next(event for event in events if isinstance(event, Stopped))
    assert stopped.reason == "early"
    assert 0 < best[-1] < stopped.step
    assert bytes_of(fitted) != bytes_of(drained(*fit_of(tiny_model, None, dropout=0.1))[0])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_settings_and_seed_give_the_same_bytes(tiny_model: Path, tmp_path: Path, method: str) -> None:
    first = bytes_of(drained(*fit_of(tiny_model, None, method))[0])
    assert bytes_of(drained(*fit_of(tiny_model, tmp_path / "checkpoints", method))[0]) == first
    assert bytes_of(drained(*fit_of(tiny_model, None, method, seed=1))[0]) != first


@pytest.mark.parametrize("method", METHODS)
def test_a_fit_whose_power_goes_at_any_event_gives_the_same_bytes(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    """Nothing can be saved at such a moment: only what already lay on the disk is there afterwards."""
    running = tmp_path / "running"
    fitted, events, moments = moments_of(*fit_of(tiny_model, running, method), running)
    whole, steps = bytes_of(fitted), sum(isinstance(event, Stepped) for event in events)
    assert len(moments) == steps + 1 > 2
    for kept, left in moments.items():
        assert resumed(tiny_model, left, method) == whole, f"killed when there was {kept or 'nothing'}"


def test_a_fit_that_is_closed_after_every_single_step_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    whole = bytes_of(drained(*fit_of(tiny_model, None))[0])
    for rare in (0.0, 3600.0):  # with rare checkpoints, closing alone saves
        folder, closed, done = tmp_path / str(rare), 0, False
        while not done:
            learner, rows = fit_of(tiny_model, folder, checkpoint_seconds=rare)
            running = learner.fit(rows)
            for event in running:
                if isinstance(event, Stepped):
                    running.close()
                    closed += 1
                    break
            else:
                done = True
        assert closed >= 4
        assert resumed(tiny_model, folder) == whole


def test_seconds_of_a_stage_that_goes_on_are_those_of_all_its_parts(tiny_model: Path, tmp_path: Path) -> None:
    learner, rows = fit_of(tiny_model, tmp_path)
    running = learner.fit(rows)
    for event in running:
        if isinstance(event, Stepped) and event.step == 1:
            time.sleep(2.0)
        if isinstance(event, Stepped) and event.step == 2:  # the state knows what passed until its last event
            running.close()
            break
    _, events = drained(*fit_of(tiny_model, tmp_path))
    (stopped,) = [event for event in events if isinstance(event, Stopped) and event.step]
    assert 2.0 < stopped.before < stopped.seconds


def test_checkpoints_are_written_by_epoch_where_time_does_not_ask_for_them(tiny_model: Path, tmp_path: Path) -> None:
    """28 rows in batches of 8 are 4 updates an epoch."""
    for epochs, steps in ((1.0, [4, 8, 12]), (0.5, [2, 4, 6, 8, 10, 12]), (0.0, [])):
        options: dict[str, Any] = {"checkpoint_seconds": 3600.0, "checkpoint_epochs": epochs}
        training = Training(batch_size=8, epochs=3, patience=0)
        learner, rows = made(
            tiny_model, method=METHODS["full"], training=training, checkpoints=tmp_path / str(epochs), **options
        )
        _, events = drained(learner, rows)
        assert [event.step for event in events if isinstance(event, Checkpointed)] == steps


def test_closing_between_two_steps_is_a_legal_stop(tiny_model: Path, tmp_path: Path) -> None:
    learner, rows = fit_of(tiny_model, None)
    fitted, events = drained(learner, rows)
    whole = bytes_of(fitted)
    places = [place for place, event in enumerate(events) if isinstance(event, Evaluated | Stopped)]
    for place in places:
        folder = tmp_path / str(place)
        learner, rows = fit_of(tiny_model, folder, checkpoint_seconds=3600.0)
        running = learner.fit(rows)
        for _ in range(place + 1):
            next(running)
        running.close()
        assert resumed(tiny_model, folder) == whole, f"closed at {events[place]}"


def test_a_stop_by_the_clock_is_a_decision_that_a_resumed_fit_obeys(tiny_model: Path, tmp_path: Path) -> None:
    limited = Training(batch_size=8, patience=0, most_seconds=1e-9)
    stopped, events = drained(*fit_of(tiny_model, tmp_path / "kept", training=limited, valid=0))
    assert any(isinstance(event, Stopped) and event.reason == "clock" for event in events)
    free = Training(batch_size=8, patience=0)
    again, _ = drained(*fit_of(tiny_model, tmp_path / "kept", training=free, valid=0))
    assert bytes_of(again) == bytes_of(stopped)
    assert any("clock" in note for note in again.notes)


def test_the_clock_of_a_resumed_fit_goes_on_from_what_was_spent_before(tiny_model: Path, tmp_path: Path) -> None:
    learner, rows = fit_of(tiny_model, tmp_path / "kept", training=Training(batch_size=8, patience=0), valid=0)
    running = learner.fit(rows)
    for event in running:
        if isinstance(event, Stepped) and event.step == 2:
            break
        if isinstance(event, Stepped):
            time.sleep(0.5)
    running.close()
    limited = Training(batch_size=8, patience=0, most_seconds=0.5)
    fitted, events = drained(*fit_of(tiny_model, tmp_path / "kept", training=limited, valid=0))
    assert not any(isinstance(event, Stepped) for event in events)
    assert any("stopped by the clock after step 2" in note for note in fitted.notes)


def test_a_damaged_checkpoint_is_said_and_the_one_before_gives_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    learner, rows = fit_of(tiny_model, tmp_path / "kept")
    running = learner.fit(rows)
    for event in running:
        if isinstance(event, Checkpointed) and event.step == 4:
            break
    newest = Path(event.path) / "tensors.safetensors"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    shutil.copytree(tmp_path / "kept", tmp_path / "left")
    (tmp_path / "left" / newest.relative_to(tmp_path / "kept")).write_bytes(bytes(data))
    fitted, events = drained(*fit_of(tiny_model, tmp_path / "left"))
    said = [event.message for event in events if isinstance(event, Said)]
    assert said == ["The checkpoint step-000000004 is damaged and was passed over.", "Resumed after step 3."]
    assert bytes_of(fitted) == resumed(tiny_model, tmp_path / "never")


CHILD = """
import os, sys
from pathlib import Path
from learners.test_resume_law import fit_of
model, checkpoints = map(Path, sys.argv[1:])
for _ in range(2):
    process = os.fork()
    if process == 0:
        learner, rows = fit_of(model, checkpoints)
        for event in learner.fit(rows):
            os.write(1, f"{os.getpid()} {type(event).__name__}\\n".encode())  # in one piece: it may be killed here
        os._exit(0)
    os.waitpid(process, 0)
"""
"""Two fits, one after the other, in processes of their own that need not load torch again."""


def test_processes_killed_at_random_moments_give_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    draw, delays, steps = random.Random(time.time_ns()), [], 0
    parent = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tiny_model), str(tmp_path / "kept")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        for line in parent.stdout:
            process, kind = line.split()
            steps += kind == "Stepped"
            if steps == 2:
                delays.append(draw.uniform(0, 0.03))
                time.sleep(delays[-1])
                os.kill(int(process), signal.SIGKILL)
                steps = -100  # what was printed before it died does not count
            elif kind == "Started" and steps < 0:
                steps = 0
    assert parent.wait() == 0
    assert len(delays) == 2
    assert list((tmp_path / "kept").rglob("step-*")), "no checkpoint was written before the kills"
    assert resumed(tiny_model, tmp_path / "kept") == resumed(tiny_model, tmp_path / "never"), f"delays {delays}"
