"""Focal loss: cross-entropy at gamma 0, the paper's formula above it, and no part in what compares weights."""

from typing import Any

import pyarrow as pa
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from whet.data.rows import Columns, Rows
from whet.errors import ConfigError
from whet.tasks.classification import Classification
from whet.tasks.multi_label import MultiLabel
from whet.tasks.regression import Regression
from whet.tasks.task import State, Task
from whet.testing import check_task
from whet.training.objective import held_out_loss

DRAW = torch.Generator().manual_seed(0)
LOGITS = 3 * torch.randn(40, 3, generator=DRAW, dtype=torch.float64)
CLASSES = torch.randint(0, 3, (40,), generator=DRAW)
LABELS = torch.randint(0, 2, (40, 3), generator=DRAW).float()
SHARES = torch.rand(40, generator=DRAW)


def state_of(task: Task) -> State:
    values = ["a", "b", "c", "a"] if task.kind == "classification" else [["a"], ["b", "c"], [], ["a", "c"]]
    return task.prepare(Rows(pa.table({"t": values}), "rows"), Columns((), ("t",)))[0]


def sums(task: Task, logits: Tensor = LOGITS) -> Tensor:
    targets = CLASSES if task.kind == "classification" else LABELS
    return task.loss(logits, targets, SHARES, state_of(task))[0].sums


@pytest.mark.parametrize("kind", [Classification, MultiLabel])
def test_gamma_zero_is_cross_entropy_and_the_limit_of_small_ones(kind: type[Classification] | type[MultiLabel]) -> None:
    assert torch.equal(sums(kind(focal_gamma=0.0)), sums(kind()))
    torch.testing.assert_close(sums(kind(focal_gamma=1e-9)), sums(kind()), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", [Classification, MultiLabel])
def test_a_focus_of_another_type_is_refused_by_name(kind: Any) -> None:
    with pytest.raises(ConfigError, match="focal_gamma cannot be 'much'"):
        kind(focal_gamma="much")


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_it_is_the_formula_of_the_paper(gamma: float) -> None:
    p = LOGITS.softmax(1).gather(1, CLASSES.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(sums(Classification(focal_gamma=gamma)), -((1 - p) ** gamma) * p.log() * SHARES)
    p = torch.where(LABELS > 0, LOGITS.sigmoid(), 1 - LOGITS.sigmoid())
    wanted = -((1 - p) ** gamma * p.log()).sum(1) * SHARES
    torch.testing.assert_close(sums(MultiLabel(focal_gamma=gamma)), wanted)


def test_an_answer_that_is_surely_right_has_a_finite_slope() -> None:
    for task in (Classification(focal_gamma=0.5), MultiLabel(focal_gamma=0.5)):
        sure = (200 * (2 * functional.one_hot(CLASSES, 3) - 1)).double().requires_grad_()
        targets = CLASSES if task.kind == "classification" else functional.one_hot(CLASSES, 3).float()
        task.loss(sure, targets, SHARES, state_of(task))[0].sums.sum().backward()
        assert sure.grad is not None
        assert bool(torch.isfinite(sure.grad).all())


def test_weights_are_compared_and_calibrated_by_the_plain_loss() -> None:
    for plain, focal, targets in (
        (Classification(), Classification(focal_gamma=2.0), CLASSES),
        (Classification(), Classification(label_smoothing=0.2), CLASSES),
        (MultiLabel(), MultiLabel(focal_gamma=2.0), LABELS),
    ):
        found, temperature = held_out_loss(focal, state_of(focal), LOGITS, targets.numpy())
        wanted, other = held_out_loss(plain, state_of(plain), LOGITS, targets.numpy())
        assert torch.equal(found, wanted)
        assert temperature == other
    assert Regression().proper() == Regression()


def test_tasks_with_a_focus_keep_the_contract() -> None:
    check_task(Classification(focal_gamma=2.0))
    check_task(MultiLabel(focal_gamma=2.0))
    for gamma in (-1.0, float("nan"), 11.0):
        with pytest.raises(ConfigError, match="focal_gamma"):
            Classification(focal_gamma=gamma)
        with pytest.raises(ConfigError, match="focal_gamma"):
            MultiLabel(focal_gamma=gamma)
