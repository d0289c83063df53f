"""Observers tell what events say, each in its own way, and never more often than they promise."""

import io
import json
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console

from whet.report.progress import JsonEvents, LiveProgress, Observer, PlainProgress, Quiet, choose
from whet.training.events import Evaluated, Event, Progressed, Said, Started, Stepped, Stopped


def events() -> Iterator[Event]:
    for done in (0, 500, 1000):
        yield Progressed(stage="features", done=done, total=1000, unit="rows")
    yield Started(stage="[b]full[/b]", steps=20, examples=320)
    yield Said(stage="[b]full[/b]", message="Replay is off: [tied] weights.\x1b[2J")
    for step in range(1, 21):
        yield stepped(step)
        if step % 10 == 0:
            yield Evaluated(stage="[b]full[/b]", step=step, loss=0.5, best=step == 10)
    yield Stopped(stage="[b]full[/b]", step=20, reason="early", seconds=10.0)


def stepped(step: int) -> Stepped:
    rest = {"epoch": 0, "learning_rate": 1e-4, "examples": 16, "seconds": 0.5}
    return Stepped(stage="[b]full[/b]", step=step, steps=20, loss=1.0 / step, **rest)


def ticking(seconds: float) -> Callable[[], float]:
    times = iter(range(10_000))
    return lambda: next(times) * seconds


def test_json_events_are_one_object_a_line_even_when_a_loss_is_not_finite() -> None:
    stream = io.StringIO()
    with JsonEvents(stream) as observer:
        for event in [*events(), Evaluated(stage="full", step=1, loss=float("nan"), best=False)]:
            observer(event)
    records = [json.loads(line, parse_constant=pytest.fail) for line in stream.getvalue().splitlines()]
    assert records[0] == {"event": "progressed", "stage": "features", "done": 0, "total": 1000, "unit": "rows"}
    assert records[-1]["loss"] is None


def test_plain_progress_keeps_its_pace_and_sums_up_every_stage() -> None:
    stream = io.StringIO()
    with PlainProgress(stream, every_seconds=2.0, clock=ticking(0.5)) as observer:
        for event in events():
            observer(event)
    lines = stream.getvalue().splitlines()
    assert len(lines) < 14
    assert "features · 1,000 rows · 1.0 s" in lines
    assert lines[-1] == "[b]full[/b] · 20 steps · 10 s · best loss 0.500 · stopped early"
    assert any("loss" in line and "steps/s" in line and "left" in line for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_live_progress_leaves_one_line_a_stage() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=False, width=100)
    with LiveProgress(console, clock=ticking(0.5)) as observer:
        for event in events():
            observer(event)
    lines = [line.strip() for line in stream.getvalue().splitlines() if line.strip()]
    assert lines[0].startswith("✓ features")
    assert "Replay is off: [tied] weights." in lines[1]
    assert lines[-1].startswith("✓ [b]full[/b] · 20 steps")


def test_live_progress_survives_a_stage_that_breaks_off() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)

    def broken_off() -> None:
        with LiveProgress(console) as observer:
            observer(Started(stage="probe", steps=0, examples=10))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    with console.status("the console is free again"):
        pass


def test_the_observer_follows_from_what_was_asked_and_the_stream() -> None:
    stream = io.StringIO()
    made: list[Observer] = [choose(as_json=True, stream=stream), choose(quiet=True), choose(stream=stream)]
    assert [type(one) for one in made] == [JsonEvents, Quiet, PlainProgress]


def test_a_solved_head_shows_no_steps() -> None:
    stream = io.StringIO()
    observer = PlainProgress(stream, clock=ticking(3.0))
    observer(Started(stage="probe", steps=0, examples=10))
    observer(Stopped(stage="probe", step=0, reason="done", seconds=4.0))
    assert stream.getvalue().splitlines() == ["probe: solving", "probe · 4.0 s"]
