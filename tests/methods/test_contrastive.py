"""The contrast equals its formula, its batches are pairs of one class, and what it cannot do is refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learners.make import QUICK, drained, made
from whet.api import finetune
from whet.checking import Objects, check
from whet.data.rows import Columns, Rows
from whet.errors import ConfigError
from whet.learners.neural import TrainingRows
from whet.methods.contrastive import Contrastive, SupervisedContrastive
from whet.modalities.text import Text
from whet.request import partial_plan
from whet.tasks.classification import Classification
from whet.tasks.predictions import Kind
from whet.tasks.task import Batch
from whet.testing import tiny_rows
from whet.training.batches import START_TOKENS, Source, like_lengths, paired
from whet.training.events import Event, Said, Started, Stepped, Stopped
from whet.training.loop import ENOUGH
from whet.training.objective import FeatureObjective, partnered
from whet.training.settings import Training


def test_the_loss_is_that_of_the_paper_over_its_least() -> None:
    draw = torch.Generator().manual_seed(0)
    features, targets, t = torch.randn(6, 4, generator=draw), torch.tensor([0, 1, 0, 2, 1, 0]), 0.3
    rows = torch.arange(6)
    z = features / features.norm(dim=1, keepdim=True)
    for i, found in enumerate(SupervisedContrastive(t)(features, targets, rows).tolist()):
        others = [a for a in range(6) if a != i]
        total = sum(math.exp(float(z[i] @ z[a]) / t) for a in others)
        mine = [a for a in others if targets[a] == targets[i]]
        terms = [-math.log(math.exp(float(z[i] @ z[p]) / t) / total) for p in mine]
        assert found == pytest.approx(sum(terms) / len(mine) - math.log(len(mine)) if mine else 0.0, rel=1e-5)
    assert partnered(targets, rows).tolist() == [1, 1, 1, 0, 1, 1]


def test_nothing_is_left_to_learn_where_each_class_is_one_place_far_from_the_others() -> None:
    targets = torch.tensor([0, 0, 0, 1, 1, 2])
    apart = SupervisedContrastive()(torch.eye(3)[targets], targets, torch.arange(6))
    assert 0 <= float(apart.mean()) < SupervisedContrastive.solved
    mixed = SupervisedContrastive()(torch.eye(3)[targets.flip(0)], targets, torch.arange(6))
    assert float(mixed.mean()) > 1


def test_a_stage_ends_soon_after_there_is_nothing_left_to_learn(tiny_model: Path) -> None:
    steps = {}
    for rate in (1e-12, 1e-2):
        method = Contrastive(learning_rate=rate, epochs=40, solve=QUICK)
        learner, rows = made(tiny_model, method=method, rows=24, training=Training(batch_size=8))
        fitted, events = drained(learner, rows)
        losses = [event.loss for event in events if isinstance(event, Stepped)]
        (stopped,) = [event for event in events if isinstance(event, Stopped)]
        steps[rate] = (fitted.steps, stopped.reason)
        if stopped.reason == "early":
            assert max(losses[-ENOUGH:]) < SupervisedContrastive.solved
            assert max(losses[-ENOUGH - 1 : -1]) >= SupervisedContrastive.solved
    assert steps[1e-12] == (120, "done")
    assert steps[1e-2][0] < 120
    assert steps[1e-2][1] == "early"


def test_its_steps_bring_a_class_together() -> None:
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    targets = torch.arange(8) % 2
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        SupervisedContrastive()(features, targets, torch.arange(8)).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    near = torch.nn.functional.cosine_similarity(features.detach().unsqueeze(0), features.detach().unsqueeze(1), dim=2)
    same = targets.unsqueeze(0) == targets.unsqueeze(1)
    assert float(near[same].min()) > float(near[~same].max())


@given(st.lists(st.integers(1, 512), min_size=1, max_size=40).map(sorted))
def test_parts_of_like_length_cost_no_more_than_any_two(lengths: list[int]) -> None:
    def cost(ends: list[int]) -> int:
        begins = [0, *ends[:-1]]
        return sum(lengths[end - 1] * (end - begin) + START_TOKENS for begin, end in zip(begins, ends, strict=True))

    ends = like_lengths(np.array(lengths))
    whole = len(lengths)
    assert ends == sorted(set(ends))
    assert ends[-1] == whole
    assert cost(ends) <= min([cost([whole]), *(cost([at, whole]) for at in range(1, whole))])


def test_a_batch_in_parts_has_the_loss_and_the_gradient_of_the_whole(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whet.training.batches.START_TOKENS", 1)
    learner, rows = made(tiny_model, method=Contrastive(), rows=24)
    source = Source(rows.train, learner.processor, 16, 16, 0, alike=rows.train.targets)
    (batch,) = source.window("contrast", 0, 0)
    assert len(batch.parts) > 1
    assert [int(number) for part in batch.parts for number in part.index] == batch.index.tolist()
    model = learner.backbone.model.eval()
    found = []
    for one in (batch, replace(batch, parts=())):
        model.zero_grad()
        (term,) = FeatureObjective(SupervisedContrastive(), model, None)(one)
        term.sums.sum().backward()  # type: ignore[no-untyped-call]
        found.append([term.sums.detach(), *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(found[0]) > 10
    for part, whole in zip(*found, strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [2, 7, 32])
def test_batches_are_pairs_of_one_class_and_every_pair_comes_once(size: int) -> None:
    classes = np.array([0] * 7 + [1] * 4 + [2] * 1 + [5] * 12)
    each = np.arange(len(classes))
    batches = paired(classes, each, size, np.random.default_rng(0))
    rows = np.concatenate(batches)
    assert len(set(rows.tolist())) == len(rows) == 6 + 4 + 0 + 12
    for batch in batches:
        assert len(batch) <= max(2, size)
        assert len(batch) >= max(len(other) for other in batches) - 2
        assert (classes[batch].reshape(-1, 2)[:, 0] == classes[batch].reshape(-1, 2)[:, 1]).all()
    other = np.concatenate(paired(classes, each, size, np.random.default_rng(1)))
    assert rows.tolist() != other.tolist()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), max_size=12), st.integers(0, 5))
def test_pairs_are_of_two_rows_and_there_are_as_many_as_can_be(texts: list[tuple[int, int]], seed: int) -> None:
    """Each text a class and a number of pieces."""
    row = np.repeat(np.arange(len(texts)), [pieces for _, pieces in texts]).astype(np.int64)
    classes = np.array([kind for kind, _ in texts], np.int64)[row]
    pairs = np.concatenate([np.zeros(0, np.int64), *paired(classes, row, 8, np.random.default_rng(seed))]).reshape(
        -1, 2
    )
    assert len(np.unique(pairs)) == pairs.size
    assert (classes[pairs[:, 0]] == classes[pairs[:, 1]]).all()
    assert (row[pairs[:, 0]] != row[pairs[:, 1]]).all()
    most = 0
    for kind in range(3):
        sizes = [pieces for one, pieces in texts if one == kind]
        most += min(sum(sizes) // 2, sum(sizes) - max(sizes, default=0))
    assert len(pairs) == most


def test_a_text_counts_once_however_many_pieces_it_is_and_they_are_no_partners() -> None:
    draw = torch.Generator().manual_seed(0)
    features, targets = torch.randn(4, 5, generator=draw), torch.tensor([0, 0, 1, 1])
    pieces = torch.tensor([0, 0, 0, 1, 2, 3])
    shares = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0, 1.0, 1.0])
    batch = Batch({}, targets[pieces], shares, None, np.arange(6), rows=pieces)
    weights = FeatureObjective(SupervisedContrastive(), None, None).weights(batch)["features"]  # type: ignore[arg-type]
    torch.testing.assert_close(torch.bincount(pieces, weights), torch.ones(4))
    alone = replace(batch, rows=torch.zeros(6, dtype=torch.int64))
    assert not FeatureObjective(SupervisedContrastive(), None, None).weights(alone)["features"].any()  # type: ignore[arg-type]
    loss = SupervisedContrastive()(features[pieces], targets[pieces], pieces)
    torch.testing.assert_close(loss[:3], SupervisedContrastive()(features, targets, torch.arange(4))[:1].expand(3))


def test_one_text_of_several_pieces_is_no_class_of_two_rows(tiny_model: Path) -> None:
    rows = Rows(pa.table({"text": ["refund " * 60, "login " * 60], "target": ["a", "b"]}), "rows")
    columns = Columns(("text",), ("target",))
    processor = Text().processor(tiny_model, max_length=10, pairs=False)
    task = Classification()
    examples = task.encode(rows, columns, processor, task.prepare(rows, columns)[0], targeted=True)
    assert len(examples) > 2
    learner, _ = made(tiny_model, method=Contrastive(solve=QUICK), rows=3, valid=0)
    with pytest.raises(ConfigError, match="No class has two rows"):
        drained(learner, TrainingRows(examples, None))


def test_rows_that_moved_nothing_say_how_sure_the_head_may_be(tiny_model: Path) -> None:
    method = Contrastive(learning_rate=1e-3, epochs=2, solve=QUICK)
    heads = []
    for used in (False, True):
        learner, rows = made(tiny_model, method=method)
        fitted, _ = drained(learner, rows if used else replace(rows, valid=None))
        heads.append(fitted.model.head.weight.detach())
    ratio = float(heads[1].norm() / heads[0].norm())
    assert ratio != pytest.approx(1.0, abs=1e-3)
    assert torch.allclose(heads[1], heads[0] * ratio, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["multi-label", "regression"])
def test_targets_that_are_no_classes_are_refused(kind: Kind, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="contrasts classes"):
        made(tiny_model, kind=kind, method=Contrastive())[0].stages()


def test_batches_in_parts_and_classes_of_one_row_are_refused(tiny_model: Path) -> None:
    parts = Training(batch_size=8, micro_batch_size=4)
    with pytest.raises(ConfigError, match="cannot be taken in parts"):
        made(tiny_model, method=Contrastive(), training=parts)[0].stages()
    learner, rows = made(tiny_model, method=Contrastive(solve=QUICK), rows=3, valid=0)
    assert rows.train.targets is not None
    rows.train.targets[:] = np.arange(3)
    with pytest.raises(ConfigError, match="No class has two rows"):
        drained(learner, rows)


def test_a_head_that_no_row_can_calibrate_is_as_sure_as_trials_say(tiny_model: Path) -> None:
    outputs = {}
    for temperature in (1.0, 4.0):
        method = Contrastive(learning_rate=1e-3, epochs=2, head_temperature=temperature, solve=QUICK)
        learner, rows = made(tiny_model, method=method, valid=0, training=Training(batch_size=8))
        fitted, _ = drained(learner, rows)
        outputs[temperature] = fitted.predict(tiny_rows("classification", 12)[0])
    sure, usual = outputs[1.0].scores, outputs[4.0].scores
    np.testing.assert_array_equal(sure.argmax(1), usual.argmax(1))
    logs = np.log(sure) / 4
    np.testing.assert_allclose(usual, np.exp(logs) / np.exp(logs).sum(1, keepdims=True), rtol=1e-4)


def test_rows_are_held_out_to_calibrate_by_only_where_they_are_many(tiny_model: Path, tmp_path: Path) -> None:
    found = {}
    for count in (90, 900):
        rows = tiny_rows("classification", count)[0].table.to_pylist()
        rows = [{**row, "text": f"{number} {row['text']}"} for number, row in enumerate(rows)]
        for method in ("probe", "contrastive", "full"):
            plan = partial_plan(rows, "target", model=tiny_model, method=method)
            found[count, method] = check(plan, Objects(rows=rows), tmp_path).split.valid is not None
    assert found == {
        (90, "probe"): False, (90, "contrastive"): False, (90, "full"): True,
        (900, "probe"): False, (900, "contrastive"): True, (900, "full"): True,
    }  # fmt: skip


@pytest.mark.parametrize("temperature", [0.5, 0.0, -1.0, 17.0, math.nan])
def test_a_temperature_that_no_head_wants_is_refused(temperature: float) -> None:
    with pytest.raises(ConfigError, match="head_temperature"):
        Contrastive(head_temperature=temperature)


def test_a_few_validation_rows_of_a_file_are_learnt_from_and_this_is_said(tiny_model: Path, tmp_path: Path) -> None:
    rows = tiny_rows("classification", 200)[0].table.to_pylist()
    rows = [{**row, "text": f"{number} {row['text']}"} for number, row in enumerate(rows)]
    said: list[str] = []
    solved_on: list[int] = []

    def hear(event: Event) -> None:
        if isinstance(event, Said):
            said.append(event.message)
        if isinstance(event, Started) and event.stage == "probe":
            solved_on.append(event.examples)

    finetune(
        rows[:80], "target", valid=rows[80:100], test=rows[100:], model=tiny_model, method="contrastive",
        training=Training(epochs=1), out=tmp_path / "run", observers=[hear], settings=["cache=off"],
    )  # fmt: skip
    assert any("20 validation rows could stop nothing" in message for message in said)
    assert solved_on == [100]
