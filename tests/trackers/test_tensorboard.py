"""Does TensorBoard see each step once, and the scores?"""

import warnings
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tensorboard")

from whet.testing import tiny_events
from whet.trackers.tensorboard import TensorBoard
from whet.training.events import Event


def follow(folder: Path, events: list[Event]) -> None:
    observer = TensorBoard().open(folder)
    for event in events:
        observer(event)
    observer.close()


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Tag to steps and values, as the viewer reads them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensorboard's own
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found: Any = EventAccumulator(str(folder)).Reload()
        return {tag: [(one.step, one.value) for one in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_a_stage_is_a_folder_of_curves(tmp_path: Path) -> None:
    follow(tmp_path, tiny_events())
    curves = scalars(tmp_path / "tensorboard" / "2-full")
    assert [step for step, _ in curves["loss/train"]] == list(range(1, 13))
    assert curves["loss/valid"] == [(step, pytest.approx(2 / step)) for step in (4, 8, 12)]
    assert curves["examples_per_second"][0] == (1, pytest.approx(80))
    assert curves["learning_rate"][0] == (1, pytest.approx(1e-3))
    assert scalars(tmp_path / "tensorboard" / "scores") == {"test/f1": [(0, 0.5)]}


@pytest.mark.parametrize("checkpoint", [0, 4, 6, 9])
def test_a_resumed_run_shows_each_step_once(checkpoint: int, tmp_path: Path) -> None:
    follow(tmp_path, tiny_events(upto=9))
    follow(tmp_path, tiny_events(first=checkpoint + 1))
    curves = scalars(tmp_path / "tensorboard" / "2-full")
    assert [step for step, _ in curves["loss/train"]] == list(range(1, 13))
    assert [step for step, _ in curves["loss/valid"]] == [4, 8, 12]


def test_the_command_names_the_folder(tmp_path: Path) -> None:
    assert TensorBoard().view(tmp_path / "a run") == f"tensorboard --logdir '{tmp_path}/a run/tensorboard'"
