"""Ctrl-C is heard once for all who listen, and abandons only what has nothing to keep."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from learners.make import bytes_of, drained, made, needs
from whet.catalog import AVERAGES, OPTIMIZERS
from whet.methods.contrastive import Contrastive
from whet.search.ladder import unless_asked
from whet.training.events import Event, Progressed, Stepped, Stopped
from whet.training.interrupt import TERMINATED, listening
from whet.training.settings import Training


def press() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_who_listens_inside_hears_the_same_press() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with listening() as outer:
            with listening() as inner:
                assert not inner()
                press()
                assert inner()
            assert outer()
            with pytest.raises(KeyboardInterrupt):
                press()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_between_updates_a_second_press_leaves_once_the_state_is_saved_and_a_third_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with listening() as asked:
            asked.stepping = True
            press()
            assert (asked(), asked.leaving) == (True, None)
            press()
            assert isinstance(asked.leaving, KeyboardInterrupt)
            with pytest.raises(KeyboardInterrupt):
                press()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_step_that_is_told_to_leave_saves_its_state_and_raises(tiny_model: Path, tmp_path: Path) -> None:
    learner, rows = made(tiny_model, checkpoints=tmp_path / "kept")

    def told_after_two_steps() -> None:
        with listening() as asked:
            for event in learner.fit(rows):
                if isinstance(event, Stepped) and event.step == 2:
                    asked.leaving = SystemExit(TERMINATED)

    with pytest.raises(SystemExit):
        told_after_two_steps()
    assert [path.name for path in sorted((tmp_path / "kept").glob("*/step-*"))] == ["step-000000002"]


def fitting(events: list[Event]) -> Generator[Event, None, Any]:
    yield from events
    return "fitted"


def ended(events: list[Event], asked: bool) -> Any:
    running = unless_asked(fitting(events), lambda: asked)
    while True:
        try:
            next(running)
        except StopIteration as stop:
            return stop.value


def test_a_fit_without_steps_is_abandoned_and_one_with_steps_is_kept() -> None:
    features = Progressed(stage="s", done=1, total=2, unit="tokens")
    step = Stepped(stage="s", step=1, steps=2, epoch=0, loss=1.0, learning_rate=0.1, examples=8, seconds=0.1)
    assert ended([features, features], asked=True) is None
    assert ended([step, features], asked=True) == "fitted"
    assert ended([features, step, features], asked=False) == "fitted"


@pytest.mark.parametrize(
    ("optimizer", "average"),
    [*((name, "none") for name in OPTIMIZERS), *(("adamw", name) for name in AVERAGES if name != "none")],
)
def test_a_stop_by_the_user_that_was_not_judged_is_none_for_the_run_that_goes_on(
    tiny_model: Path, tmp_path: Path, optimizer: str, average: str
) -> None:
    """The second press comes after the loop has heard the first, and the stage has ended."""
    needs(optimizer)
    training = Training(batch_size=8, optimizer=optimizer, average=average)
    whole = drained(*made(tiny_model, training=training))[0]
    learner, rows = made(tiny_model, training=training, checkpoints=tmp_path / "kept")

    def pressed_twice() -> None:
        with listening() as asked:
            for event in learner.fit(rows):
                asked.yes = asked.yes or (isinstance(event, Stepped) and event.step == 2)
                if isinstance(event, Stopped) and event.reason == "interrupt":
                    asked.leaving = KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        pressed_twice()
    assert list((tmp_path / "kept").glob("*/step-*"))
    resumed, events = drained(*made(tiny_model, training=training, checkpoints=tmp_path / "kept"))
    assert min(event.step for event in events if isinstance(event, Stepped)) == 3
    assert not resumed.interrupted
    assert bytes_of(resumed) == bytes_of(whole)


@pytest.mark.parametrize("valid", [0, 10])
def test_a_contrast_that_the_user_stops_still_gets_its_head(tiny_model: Path, valid: int) -> None:
    learner, rows = made(tiny_model, method=Contrastive(epochs=50), valid=valid, training=Training(batch_size=8))
    with listening() as asked:
        events = learner.fit(rows)
        try:
            while True:
                event = next(events)
                asked.yes = asked.yes or (isinstance(event, Stepped) and event.step == 2)
        except StopIteration as stop:
            fitted = stop.value
    assert fitted.interrupted
    assert fitted.steps == 2
    assert fitted.model.head.weight.abs().max() > 0
