"""The contrast equals its formula, its batches are pairs of one class, and what it cannot do is refused."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.make import QUICK, drained, made
from whet.errors import ConfigError
from whet.methods.contrastive import Contrastive, SupervisedContrastive
from whet.tasks.predictions import Kind
from whet.training.batches import paired
from whet.training.objective import partnered
from whet.training.settings import Training


def test_the_loss_is_that_of_the_paper() -> None:
    draw = torch.Generator().manual_seed(0)
    features, targets, t = torch.randn(6, 4, generator=draw), torch.tensor([0, 1, 0, 2, 1, 0]), 0.3
    z = features / features.norm(dim=1, keepdim=True)
    for i, found in enumerate(SupervisedContrastive(t)(features, targets).tolist()):
        others = [a for a in range(6) if a != i]
        total = sum(math.exp(float(z[i] @ z[a]) / t) for a in others)
        mine = [a for a in others if targets[a] == targets[i]]
        terms = [-math.log(math.exp(float(z[i] @ z[p]) / t) / total) for p in mine]
        assert found == pytest.approx(sum(terms) / len(mine) if mine else 0.0, rel=1e-5)
    assert partnered(targets).tolist() == [1, 1, 1, 0, 1, 1]


def test_its_steps_bring_a_class_together() -> None:
    features = torch.randn(8, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    targets = torch.arange(8) % 2
    optimizer = torch.optim.Adam([features], lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        SupervisedContrastive()(features, targets).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    near = torch.nn.functional.cosine_similarity(features.detach().unsqueeze(0), features.detach().unsqueeze(1), dim=2)
    same = targets.unsqueeze(0) == targets.unsqueeze(1)
    assert float(near[same].min()) > float(near[~same].max())


@pytest.mark.parametrize("size", [2, 7, 32])
def test_batches_are_pairs_of_one_class_and_every_pair_comes_once(size: int) -> None:
    classes = np.array([0] * 7 + [1] * 4 + [2] * 1 + [5] * 12)
    batches = paired(classes, size, np.random.default_rng(0))
    rows = np.concatenate(batches)
    assert len(set(rows.tolist())) == len(rows) == 6 + 4 + 0 + 12
    for batch in batches:
        assert len(batch) <= max(2, size)
        assert (classes[batch].reshape(-1, 2)[:, 0] == classes[batch].reshape(-1, 2)[:, 1]).all()
    other = np.concatenate(paired(classes, size, np.random.default_rng(1)))
    assert rows.tolist() != other.tolist()


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
