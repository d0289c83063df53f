"""The temperature: recovered where it is known, harmless where there is none, and folded into every tuned head."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from learners.make import QUICK, drained, made
from whet.methods.full import Full
from whet.tasks.predictions import Kind
from whet.training.objective import ReplaySource, answers, held_out_loss
from whet.training.settings import Training
from whet.training.temperature import LEAST, MOST, best_temperature


@pytest.mark.parametrize("factor", [0.2, 1.0, 5.0])
def test_the_factor_on_calibrated_outputs_is_found(factor: float) -> None:
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(20_000, 4, generator=draw) * 2
    targets = torch.multinomial(logits.softmax(1), 1, generator=draw).squeeze(1)
    loss, temperature = best_temperature(lambda one: float(functional.cross_entropy(logits * factor / one, targets)))
    assert temperature == pytest.approx(factor, rel=0.05)
    assert loss <= float(functional.cross_entropy(logits * factor, targets))


def test_outputs_that_say_nothing_keep_their_scale_and_perfect_ones_stay_finite() -> None:
    assert best_temperature(lambda _: 0.7) == (0.7, 1.0)
    right = torch.eye(3) * 5
    _, temperature = best_temperature(lambda one: float(functional.cross_entropy(right / one, torch.arange(3))))
    assert LEAST <= temperature <= MOST


@pytest.mark.parametrize("kind", ["classification", "multi-label"])
def test_a_tuned_head_has_no_better_temperature_on_its_validation_rows(tiny_model: Path, kind: Kind) -> None:
    settings = Training(batch_size=8, evaluations_per_epoch=1, patience=0, head_learning_rate=20.0)
    method = Full(learning_rate=3e-3, epochs=8, solve=QUICK)
    neural, rows = made(tiny_model, method=method, training=settings, kind=kind, rows=60, valid=30)
    fitted, _ = drained(neural, rows)
    assert fitted.features_moved
    assert rows.valid is not None
    source = ReplaySource(rows.valid, fitted.processor, 8, 8, 0)
    outputs = answers(fitted.working.live, source, None, 1000)
    assert held_out_loss(fitted.task, fitted.state, outputs, rows.valid)[1] == pytest.approx(1.0, abs=0.05)
