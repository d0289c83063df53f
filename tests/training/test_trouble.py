"""An update that is not finite is never applied: back to the snapshot, slower, in float32, or stopped with its rows."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from learners.make import QUICK, TOP, bytes_of, drained, made, moments_of
from whet import catalog
from whet.backbones.text_encoder import TextEncoder
from whet.errors import RunError
from whet.learners.fitted import NeuralFitted
from whet.methods.full import Full
from whet.tasks.own_loss import with_loss
from whet.training import loop
from whet.training.events import Evaluated, Said, Stepped
from whet.training.settings import Training
from whet.training.trouble import NotFiniteError, first_bad_layer

METHOD = Full(learning_rate=3e-3, epochs=3, solve=QUICK)
OPTIONS: dict[str, Any] = {
    "method": METHOD,
    "training": Training(batch_size=8, patience=0, schedule="constant", warmup=0),
}


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[tuple[int, float]]:
    """(step, factor on the rate) of updates that are not finite."""
    found: set[tuple[int, float]] = set()
    update = loop.update

    def fails(state: loop.FitState, *rest: Any) -> None:
        if (state.step, state.slower) in found:
            raise NotFiniteError
        update(state, *rest)

    monkeypatch.setattr(loop, "update", fails)
    monkeypatch.setattr(loop, "SNAPSHOT", 4)
    return found


def test_a_run_returns_to_its_snapshot_and_goes_on_at_half_the_rate(
    tiny_model: Path, failing: set[tuple[int, float]]
) -> None:
    failing.add((6, 1.0))
    fitted, events = drained(*made(tiny_model, **OPTIONS))
    said = [event.message for event in events if isinstance(event, Said) and "finite" in event.message]
    assert said == ["Update 7 was not finite: back to update 4, at half the rate from there."]
    steps = [(event.step, event.learning_rate) for event in events if isinstance(event, Stepped)]
    assert [step for step, _ in steps] == [1, 2, 3, 4, 5, 6, 5, 6, 7, 8, 9, 10, 11, 12]
    assert all(rate == pytest.approx(steps[0][1] / (1 if place < 6 else 2)) for place, (_, rate) in enumerate(steps))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in fitted.model.state_dict().values())
    assert any("update 7; the rate was halved" in note for note in fitted.notes)


def test_what_was_returned_to_is_what_was_there(tiny_model: Path, failing: set[tuple[int, float]]) -> None:
    """At the rate of before, the updates after the return are those that went before it."""
    plain, _ = drained(*made(tiny_model, **OPTIONS))
    failing.add((6, 1.0))
    original = loop.FitState.return_to_snapshot

    def at_full_rate(state: loop.FitState, working: Any) -> None:
        original(state, working)
        state.slower = 1.5  # no longer in ``failing``
        state.optimizer.param_groups[0]["scale"] /= 1.5
        for group in state.optimizer.param_groups[1:]:
            group["scale"] /= 1.5

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.FitState, "return_to_snapshot", at_full_rate)
        again, _ = drained(*made(tiny_model, **OPTIONS))
    for name, tensor in plain.model.state_dict().items():
        assert torch.allclose(again.model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6), name


def going_back(folder: Path, average: str) -> tuple[NeuralFitted, list[Any]]:
    """Validation loss is due at every third of 24 updates; patience never ends it."""
    training = replace(OPTIONS["training"], average=average, evaluations_per_epoch=2)
    method = Full(learning_rate=3e-3, epochs=4, solve=QUICK)
    return drained(*made(folder, method=method, rows=48, training=training))


@pytest.mark.parametrize("average", catalog.members("average"))
def test_going_back_undoes_all_that_decides_the_rest_of_the_stage(
    tiny_model: Path, failing: set[tuple[int, float]], monkeypatch: pytest.MonkeyPatch, average: str
) -> None:
    """Also what evaluations of the undone updates had left: best weights, patience, ingredients."""
    failing.add((7, 1.0))
    taken, seen = {}, []
    take, back = loop.FitState.take_snapshot, loop.FitState.return_to_snapshot

    def whole(state: loop.FitState) -> tuple[dict[str, Tensor], dict[str, Any]]:
        beside = ("snapshot", "shared", "failed", "slower", "seconds")  # what is to outlast a return
        tensors = {name: one.clone() for name, one in state.tensors().items() if not name.startswith(beside)}
        return tensors, {name: one for name, one in state.counters().items() if not name.startswith(beside)}

    def taking(state: loop.FitState) -> None:
        take(state)
        taken[state.step] = whole(state)

    def returning(state: loop.FitState, working: Any) -> None:
        before = whole(state)
        back(state, working)
        seen.append((state.step, before, whole(state)))

    monkeypatch.setattr(loop.FitState, "take_snapshot", taking)
    monkeypatch.setattr(loop.FitState, "return_to_snapshot", returning)
    going_back(tiny_model, average)
    (step, before, after), *_ = seen
    wanted = taken[step]
    assert (step, len(seen)) == (4, 1)
    assert before[1]["evaluated"] == 6
    assert after[1] == wanted[1]
    assert after[0].keys() == wanted[0].keys()
    assert all(torch.equal(one, wanted[0][name]) for name, one in after[0].items())


@pytest.mark.parametrize(("fails", "every", "measured"), [(6, 4, [0, 3, 6, 6, 9]), (10, 6, [0, 3, 6, 9, 9, 12])])
def test_going_back_measures_again_what_was_undone_and_nothing_else(
    tiny_model: Path,
    failing: set[tuple[int, float]],
    monkeypatch: pytest.MonkeyPatch,
    fails: int,
    every: int,
    measured: list[int],
) -> None:
    monkeypatch.setattr(loop, "SNAPSHOT", every)
    failing.add((fails, 1.0))
    _, events = going_back(tiny_model, "none")
    assert [event.step for event in events if isinstance(event, Evaluated)][: len(measured)] == measured


def test_a_run_killed_around_its_trouble_gives_the_same_bytes(
    tiny_model: Path, tmp_path: Path, failing: set[tuple[int, float]]
) -> None:
    failing.update({(6, 1.0), (9, 0.5)})
    options = {**OPTIONS, "checkpoint_seconds": 0.0}
    running = tmp_path / "running"
    fitted, _, moments = moments_of(*made(tiny_model, checkpoints=running, **options), running)
    assert len(moments) > 12
    for kept, left in moments.items():
        found = bytes_of(drained(*made(tiny_model, checkpoints=left, **options))[0])
        assert found == bytes_of(fitted), f"killed when there was {kept or 'nothing'}"


def test_an_update_that_fails_again_is_taken_in_float32(
    tiny_model: Path, failing: set[tuple[int, float]], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing.update({(2, 1.0)})
    passes: list[bool] = []
    update = loop.update

    def fails_in_bfloat16(state: loop.FitState, working: Any, *rest: Any) -> None:
        if state.step == 2 and not working.shared:
            passes.append(False)
            raise NotFiniteError
        if state.step == 2:
            passes.append(True)
        update(state, working, *rest)

    monkeypatch.setattr(loop, "update", fails_in_bfloat16)
    failing.clear()
    fitted, events = drained(*made(tiny_model, precision="bfloat16", training_precision="bfloat16", **OPTIONS))
    assert passes == [False, False, True]
    assert max(event.step for event in events if isinstance(event, Stepped)) == 12
    masters, live = dict(fitted.working.masters.named_parameters()), dict(fitted.working.live.named_parameters())
    name = "body.encoder.encoder.layer.0.output.dense.weight"
    assert torch.equal(masters[name].bfloat16(), live[name])


IN_PARTS: dict[str, Any] = {
    "method": TOP,
    "valid": 0,
    "training": Training(batch_size=4, micro_batch_size=1),
    "most_tokens": 1,
    "training_precision": "float32",
}
"""Replayed, one row a micro-batch: in float32 the masters are the live model, stand-ins and all."""


def test_an_update_that_is_taken_in_float32_sees_its_own_rows_under_replay(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Law 1 around trouble."""
    update, failed = loop.update, [0, 0]

    def fails_twice(state: loop.FitState, *rest: Any) -> None:
        if state.step == 1 and failed[-1] < 2:
            failed[-1] += 1
            raise NotFiniteError
        update(state, *rest)

    monkeypatch.setattr(loop, "update", fails_twice)
    found = []
    for replay in ("off", "auto"):
        failed.append(0)
        fitted, _ = drained(*made(tiny_model, replay=replay, **IN_PARTS))
        assert any("verified equal" in note for note in fitted.notes) == (replay == "auto")
        found.append(bytes_of(fitted))
    assert failed[-2:] == [2, 2]
    assert found[0] == found[1]


def test_an_update_that_is_never_finite_under_replay_names_every_row_of_it(
    tiny_model: Path, failing: set[tuple[int, float]]
) -> None:
    failing.update({(2, 1.0), (2, 0.5)})
    with pytest.raises(RunError, match="the output of every layer is finite") as caught:
        drained(*made(tiny_model, **IN_PARTS))
    assert caught.value.args[1].count(",") == 3


def test_an_update_that_is_never_finite_stops_the_run_and_names_its_rows(tiny_model: Path) -> None:
    def bad_for_one_class(outputs: Tensor, targets: Tensor) -> Tensor:
        losses = functional.cross_entropy(outputs, targets, reduction="none")
        return torch.where(targets == 1, losses * float("nan"), losses)

    learner, rows = made(tiny_model, **OPTIONS)
    learner = replace(learner, task=with_loss(learner.task, bad_for_one_class))
    before = bytes_of(drained(*made(tiny_model, **OPTIONS))[0])
    with pytest.raises(RunError, match="not finite, in float32 either; the output of every layer is finite") as caught:
        drained(learner, replace(rows, valid=None))
    assert "training rows" in caught.value.args[1]
    assert bytes_of(drained(*made(tiny_model, **OPTIONS))[0]) == before


def test_a_first_update_that_is_not_finite_ends_the_same_with_replay_and_without(tiny_model: Path) -> None:
    """Replay tries that update first; its few rows to verify by are fine."""

    def bad_for_one_row(outputs: Tensor, targets: Tensor) -> Tensor:
        losses = (outputs.squeeze(1) - targets).square()
        return losses * torch.where((targets == targets.max()) & (len(targets) > 8), float("nan"), 1.0)

    ended = []
    for replay in ("off", "auto"):
        training = Training(batch_size=28, patience=0)
        learner, rows = made(tiny_model, kind="regression", method=TOP, valid=0, training=training, replay=replay)
        learner = replace(learner, task=with_loss(learner.task, bad_for_one_row))
        with pytest.raises(RunError, match="not finite, in float32 either") as caught:
            drained(learner, rows)
        ended.append((caught.value.args, learner.backbone.model.state_dict()))
    assert ended[0][0] == ended[1][0]
    assert "training rows" in ended[0][0][1]
    for name, tensor in ended[0][1].items():
        assert torch.equal(tensor, ended[1][1][name]), name


def test_a_first_update_that_is_not_finite_once_turns_replay_off(
    tiny_model: Path, failing: set[tuple[int, float]]
) -> None:
    failing.add((0, 1.0))
    fitted, events = drained(*made(tiny_model, **IN_PARTS))
    said = [event.message for event in events if isinstance(event, Said)]
    assert said[0].startswith("Replay is off for this model: the first update is not finite")
    assert said[1].startswith("Update 1 was not finite: back to update 0")
    assert bytes_of(fitted) == bytes_of(drained(*made(tiny_model, replay="off", **IN_PARTS))[0])


def test_the_first_bad_layer_is_named(tiny_model: Path) -> None:
    backbone = TextEncoder().load(tiny_model, outputs=3, seed=0)
    inputs = {"input_ids": torch.arange(5, 21).reshape(2, 8)}
    assert first_bad_layer(backbone.model, lambda: backbone.model(**inputs)) == ""
    with torch.no_grad():
        backbone.model.get_submodule(backbone.blocks[1]).get_parameter("output.dense.bias")[0] = float("inf")
    assert first_bad_layer(backbone.model, lambda: backbone.model(**inputs)) == f"{backbone.blocks[1]}.output.dense"
