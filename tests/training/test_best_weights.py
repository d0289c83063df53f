"""Which weights a stage ends with: the lowest validation loss, or later ones that cannot be told from it."""

from typing import Any

import pytest
import torch

from whet.methods.method import RateGroup
from whet.training.average import Ended
from whet.training.loop import Budget, FitState, evaluate, keep, patience_gone, start_state
from whet.training.precision import Working
from whet.training.settings import Training

ROWS = 200
NOISE = torch.randn(ROWS, generator=torch.Generator().manual_seed(0)).double() / ROWS


def shares(loss: float, noise: float = 0.0) -> torch.Tensor:
    """What each of ``ROWS`` rows adds to a loss; rows differ by ``noise``, which adds nothing."""
    return torch.full((ROWS,), loss / ROWS, dtype=torch.float64) + noise * (NOISE - NOISE.mean())


def after(losses: list[torch.Tensor]) -> tuple[FitState, float]:
    """The state after evaluations at steps 0, 1, ...; weights are the number of their step. And what is restored."""
    model: Any = torch.nn.Linear(1, 1, bias=False)
    working = Working(model, model)
    state = start_state(working, (RateGroup(names=("weight",)),), 0.1, Training())
    for step, each in enumerate(losses):
        state.masters()["weight"].fill_(float(step))
        state.step = step
        evaluate(state, "stage", Budget(10, 1, lambda each=each: each, Training(patience=2)))
    keep(state, working, Ended())
    return state, float(model.weight.detach())


def test_the_lowest_loss_is_restored_where_the_others_are_surely_higher() -> None:
    state, restored = after([shares(1.0), shares(0.5), shares(0.7), shares(0.6)])
    assert (restored, state.best_loss) == (1.0, pytest.approx(0.5))


def test_later_weights_are_kept_where_their_loss_cannot_be_told_from_the_lowest() -> None:
    state, restored = after([shares(1.0), shares(0.5), shares(0.9), shares(0.54, noise=1.0)])
    assert restored == 3.0
    assert state.best_loss == pytest.approx(0.5)


def test_losses_within_the_noise_do_not_creep_upwards() -> None:
    """Each is compared with the lowest of all, not with the one before."""
    creeping = [shares(0.5 + 0.03 * step, noise=1.0 * (step % 2)) for step in range(8)]
    _, restored = after([shares(1.0), *creeping])
    assert restored <= 3.0


def test_the_start_gives_way_only_to_a_lower_loss() -> None:
    assert after([shares(0.5), shares(0.51, noise=1.0)])[1] == 0.0
    assert after([shares(0.5), shares(0.49, noise=1.0), shares(0.495, noise=2.0)])[1] == 2.0


def test_a_loss_that_is_no_number_is_never_kept() -> None:
    assert after([shares(1.0), shares(0.5), shares(float("nan"))])[1] == 1.0


def test_a_rise_that_a_few_rows_carry_is_seen_although_its_standard_error_is_as_large() -> None:
    broken = shares(0.5)
    broken[0] += 5.0
    assert after([shares(1.0), shares(0.5), broken])[1] == 1.0


def test_with_few_rows_nothing_but_the_lowest_loss_counts() -> None:
    for rows, wanted in ((20, 1.0), (100, 2.0)):
        level, noise = torch.ones(rows).double() / rows, torch.tensor([1.0, -1.0] * (rows // 2)).double() / rows
        assert after([level, 0.5 * level, 0.51 * level + noise])[1] == wanted


def test_patience_counts_evaluations_without_a_lower_loss_even_if_their_weights_are_kept() -> None:
    state, restored = after([shares(1.0), shares(0.5), shares(0.52, noise=1.0), shares(0.53, noise=1.0)])
    assert restored == 3.0
    assert patience_gone(state, Budget(10, 1, None, Training(patience=2)))
