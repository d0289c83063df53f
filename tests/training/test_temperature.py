"""The temperature: recovered where it is known, harmless where there is none, and folded into every tuned head."""

import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from learners.make import QUICK, drained, made
from whet.methods.full import Full
from whet.tasks.predictions import Kind
from whet.training.events import Evaluated
from whet.training.objective import ReplaySource, answers, loss_shares
from whet.training.settings import Training
from whet.training.temperature import Expected, best_temperature


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_factor_on_calibrated_outputs_is_found(factor: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 4, generator=draw) * 2
    targets = torch.multinomial(logits.softmax(1), 1, generator=draw).squeeze(1)
    loss, temperature = best_temperature(
        lambda one: float(functional.cross_entropy(logits * factor / one, targets)), len(logits)
    )
    assert temperature == pytest.approx(factor, rel=0.05)
    assert loss <= float(functional.cross_entropy(logits * factor, targets))


def test_outputs_that_say_nothing_keep_their_scale_and_a_few_perfect_ones_move_it_little() -> None:
    assert best_temperature(lambda _: 0.7, 10) == (0.7, 1.0)
    right = torch.eye(3) * 5
    _, temperature = best_temperature(lambda one: float(functional.cross_entropy(right / one, torch.arange(3))), 3)
    assert 0.9 < temperature <= 1.0
    wrong = [float(functional.cross_entropy(right.flip(0)[:1] / one, torch.arange(1))) for one in (1.0,)]
    loss, temperature = best_temperature(lambda one: wrong[0] / one, 1)
    assert 1.0 < temperature < 2.5
    assert loss < wrong[0]


@pytest.mark.parametrize("middle", [0.5, 1.0, 4.0])
def test_without_a_word_from_rows_the_expected_temperature_stays_and_many_rows_outweigh_it(middle: float) -> None:
    expected = Expected.around(middle)
    assert best_temperature(lambda _: 0.7, 10, expected) == (0.7, middle)
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 4, generator=draw) * 2
    targets = torch.multinomial(logits.softmax(1), 1, generator=draw).squeeze(1)

    def found(rows: int) -> float:
        few, right = logits[:rows] * 2, targets[:rows]
        return best_temperature(lambda one: float(functional.cross_entropy(few / one, right)), rows, expected)[1]

    assert found(20_000) == pytest.approx(2.0, rel=0.05)
    assert abs(math.log(found(4) / middle)) < abs(math.log(2.0 / middle)) + 0.2


@pytest.mark.parametrize("kind", ["classification", "multi-label"])
def test_a_tuned_model_has_the_loss_that_was_told_for_the_weights_it_kept(tiny_model: Path, kind: Kind) -> None:
    settings = Training(batch_size=8, evaluations_per_epoch=1, patience=0, head_learning_rate=20.0)
    method = Full(learning_rate=3e-3, epochs=8, solve=QUICK)
    neural, rows = made(tiny_model, method=method, training=settings, kind=kind, rows=60, valid=30)
    fitted, events = drained(neural, rows)
    assert fitted.features_moved
    assert rows.valid is not None
    assert rows.valid.targets is not None
    source = ReplaySource(rows.valid, fitted.processor, 8, 8, 0)
    outputs = answers(fitted.working.live, source, None, 1000)
    told = [event.loss for event in events if isinstance(event, Evaluated) and event.best][-1]
    loss = float(loss_shares(fitted.task, fitted.state, outputs, rows.valid.targets).sum())
    assert loss == pytest.approx(told, rel=1e-4)
