"""What goes wrong without an error is seen and said: strays, idle tensors, targets that do not count, one answer."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from learners.make import QUICK, TOP, bytes_of, drained, made
from learners.test_replay_law import break_buffer
from whet import catalog
from whet.backbones.backbone import Backbone
from whet.errors import DataError, RunError
from whet.evaluation.metric import metric_named
from whet.methods.full import Full
from whet.methods.method import RateGroup, Stage
from whet.methods.top_layers import TopLayers
from whet.plan import Rung
from whet.search.crossfit import Attempt
from whet.search.ladder import Spent, compare_rung, on_choosing
from whet.tasks.classification import Classification
from whet.tasks.own_loss import with_loss
from whet.tasks.predictions import Kind
from whet.tasks.task import State
from whet.testing import tiny_rows
from whet.training.events import Said, Stepped
from whet.training.settings import Training


def said(events: list[Any]) -> list[str]:
    return [event.message for event in events if isinstance(event, Said)]


# Law 5 at run time


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_buffer_that_the_model_writes_is_said_and_its_features_are_computed_anew(
    tiny_model: Path, tmp_path: Path, precision: Any
) -> None:
    learner, rows = made(tiny_model, method=TOP, cache=tmp_path, training_precision=precision)
    break_buffer(learner)
    fitted, events = drained(learner, rows)
    found = [message for message in said(events) if message.startswith("Frozen")]
    assert len(found) == 1
    assert "calls" in found[0]
    assert fitted.features_moved
    assert any("Frozen" in note for note in fitted.notes)


@dataclass(frozen=True)
class NamesUnused(TopLayers):
    """Also names what no gradient reaches."""

    still: bool = False

    def stages(self, backbone: Backbone) -> list[Stage]:
        probe, steps = super().stages(backbone)
        groups = (*steps.groups, RateGroup(names=backbone.unused))
        return [probe, replace(steps, groups=groups, still=backbone.unused if self.still else ())]


def test_a_trainable_tensor_that_no_gradient_reaches_is_said_unless_it_is_named_as_still(tiny_model: Path) -> None:
    """Weight decay moves it, so that comparing it with its start would not do."""
    for still in (False, True):
        learner, rows = made(
            tiny_model, method=NamesUnused(count=2, learning_rate=3e-3, epochs=2, solve=QUICK, still=still)
        )
        assert learner.backbone.unused
        _, events = drained(learner, rows)
        found = [message for message in said(events) if message.startswith("Trainable")]
        assert len(found) == (0 if still else 1), found
        assert all("pooler" in message for message in found)


@pytest.mark.parametrize("name", catalog.members("method"))
def test_a_healthy_fit_says_nothing_of_the_kind(tiny_model: Path, name: str) -> None:
    _, events = drained(
        *made(tiny_model, method=catalog.find("method", name)(), training=Training(epochs=2, batch_size=8))
    )
    assert not [message for message in said(events) if message.startswith(("Frozen", "Trainable"))]


def test_a_loss_that_depends_on_nothing_is_refused(tiny_model: Path) -> None:
    def flat(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * 0).sum(1)

    learner, rows = made(tiny_model, method=TOP)
    with pytest.raises(RunError, match="No gradient reached anything"):
        drained(replace(learner, task=with_loss(learner.task, flat)), replace(rows, valid=None))


# Targets that do not count


@dataclass(frozen=True, kw_only=True)
class Masked(Classification):
    """Rows of some classes weigh nothing."""

    masked: tuple[int, ...] = (0,)

    def weights(self, targets: Tensor, shares: Tensor, state: State) -> dict[str, Tensor]:
        found = super().weights(targets, shares, state)
        out = torch.isin(targets, torch.tensor(self.masked))
        return {name: weights * ~out for name, weights in found.items()}


ALONE = Training(batch_size=1, patience=0, least_steps=0)


def test_an_update_without_a_target_that_counts_changes_nothing(tiny_model: Path) -> None:
    learner, rows = made(tiny_model, method=TOP, training=ALONE, valid=0, replay="off")
    learner = replace(learner, task=Masked())
    bodies: list[bytes] = []
    running = learner.fit(rows)
    model, counts = learner.backbone.model, []
    while True:
        try:
            event = next(running)
        except StopIteration as stop:
            fitted = stop.value
            break
        if isinstance(event, Stepped):
            bodies.append(model.head.weight.detach().numpy().tobytes())
            counts.append(event.loss != 0.0)
    moved = [one != other for one, other in pairwise(bodies)]
    assert moved == counts[1:]
    assert 0 < sum(counts) < len(counts)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in fitted.model.state_dict().values())
    assert any(f"{counts.count(False)} of {len(counts)} updates had no target" in note for note in fitted.notes)


def test_masked_rows_in_a_batch_weigh_nothing_and_a_fit_over_them_is_resumed_to_the_same_bytes(
    tiny_model: Path, tmp_path: Path
) -> None:
    def fit(checkpoints: Path | None) -> Any:
        learner, rows = made(
            tiny_model, method=TOP, training=ALONE, valid=0, checkpoints=checkpoints, checkpoint_seconds=0.0
        )
        return replace(learner, task=Masked()), rows

    whole, _ = drained(*fit(None))
    learner, rows = fit(tmp_path)
    running = learner.fit(rows)
    for event in running:
        if isinstance(event, Stepped) and event.step == 20:
            running.close()
            break
    again, _ = drained(*fit(tmp_path))
    assert bytes_of(again) == bytes_of(whole)
    assert [note for note in again.notes if "updates" in note] == [note for note in whole.notes if "updates" in note]


def test_rows_of_which_none_counts_are_refused_with_the_reason(tiny_model: Path) -> None:
    learner, rows = made(tiny_model, method=TOP)
    with pytest.raises(DataError, match="No training row counts"):
        drained(replace(learner, task=Masked(masked=(0, 1, 2))), rows)


def test_validation_rows_of_which_none_counts_stop_nothing_and_that_is_said(tiny_model: Path) -> None:
    learner, rows = made(tiny_model, method=TOP)
    assert rows.valid is not None
    assert rows.valid.targets is not None
    unseen = replace(rows.valid, targets=np.full_like(rows.valid.targets, -1))
    fitted, events = drained(learner, replace(rows, valid=unseen))
    assert any("No validation row" in message for message in said(events))
    without, _ = drained(*made(tiny_model, method=TOP, valid=0, rows=28))
    assert fitted.steps == without.steps


# One answer


ABSURD = Full(learning_rate=0.5, epochs=4, solve=QUICK)


@pytest.mark.parametrize(("kind", "words"), [("classification", "class_weights"), ("regression", "learning_rate")])
def test_an_absurd_rate_ends_in_one_answer_and_that_is_said(tiny_model: Path, kind: Kind, words: str) -> None:
    fitted, events = drained(*made(tiny_model, kind=kind, method=ABSURD, valid=0, training=Training(batch_size=8)))
    assert fitted.collapsed
    unseen, columns = tiny_rows(kind, 12, seed=7)
    answers = fitted.predict(unseen.without(columns.target)).decided
    assert np.ptp(answers) <= 1e-2 * abs(np.mean(answers)) + 1e-9
    found = [message for message in said(events) if message.startswith("Whatever it reads")]
    assert len(found) == 1
    assert fitted.collapsed in found[0]
    assert words in found[0]


def test_the_ladder_does_not_keep_a_rung_of_one_answer(tiny_model: Path) -> None:
    """Even where its score is higher: the rung before answers every row wrongly."""
    fitted, _ = drained(*made(tiny_model, method=ABSURD, valid=0, training=Training(batch_size=8)))
    _, rows = made(tiny_model, rows=40, valid=200)
    running = on_choosing(fitted, rows.valid)
    while True:
        try:
            next(running)
        except StopIteration as stop:
            answers = stop.value
            break
    before = replace(answers, decided=(answers.targets + 1) % 3)
    rung = Rung(method=ABSURD, epochs=4, seconds=1.0)
    metric = metric_named("accuracy", "classification")
    attempt = Attempt(answers, fitted.trainable, fitted.steps, fitted.collapsed, fitted=fitted)
    entry = compare_rung(rung, attempt, before, metric, 0, Spent(1.0, None))
    assert entry.gain is not None
    assert entry.gain > 0
    assert not entry.kept
    assert fitted.collapsed in entry.why
    assert compare_rung(rung, replace(attempt, collapsed=""), before, metric, 0, Spent(1.0, None)).kept
