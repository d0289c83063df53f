"""Does the search for a learning rate find one, and leave everything as it was?"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learners.make import QUICK, made
from whet.learners.fitted import drain
from whet.learners.rate_finder import FIRST, LAST, RateCurve, Recent, find_rate, widest
from whet.methods.contrastive import Contrastive
from whet.methods.full import Full
from whet.methods.gradual import Gradual
from whet.methods.lora import LoRA
from whet.training.settings import Training

SETTINGS = Training(batch_size=8)
FULL = Full(learning_rate=3e-3, epochs=2, solve=QUICK)


def curve_of(folder: Path, method: Any = FULL, training: Training = SETTINGS, **options: Any) -> RateCurve:
    learner, rows = made(folder, method=method, training=training, **options)
    found: RateCurve = drain(find_rate(learner, rows, "full", "adamw"))
    return found


def drawn(losses: list[float]) -> RateCurve:
    rates = tuple(np.geomspace(FIRST, LAST, len(losses)).tolist())
    return RateCurve("full", "adamw", "full", rates, tuple(losses), 8, 2e-4, "rates")


def test_a_rate_between_the_ends_is_found_and_nothing_moves(tiny_model: Path) -> None:
    learner, rows = made(tiny_model, method=FULL, training=SETTINGS, dropout=0.1)
    before = {name: tensor.clone() for name, tensor in learner.backbone.model.state_dict().items()}
    asked = {name: p.requires_grad for name, p in learner.backbone.model.named_parameters()}
    curve = drain(find_rate(learner, rows, "full", "adamw"))
    after = learner.backbone.model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert asked == {name: p.requires_grad for name, p in learner.backbone.model.named_parameters()}
    assert FIRST < curve.suggestion < curve.rates[-1] <= LAST
    assert curve.suggestion < curve.lowest
    assert curve.steepest <= curve.lowest
    assert len(curve.rates) == len(curve.losses) == len(curve.smoothed) > 30
    assert list(curve.rates) == sorted(curve.rates)
    assert curve.usual == FULL.learning_rate
    assert curve == drain(find_rate(learner, rows, "full", "adamw"))
    assert curve.losses != curve_of(tiny_model, dropout=0.1, seed=1).losses


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [(LoRA(rank=2, solve=QUICK), "muon"), (Contrastive(solve=QUICK), "sgd"), (FULL, "adafactor")],
    ids=["lora", "contrastive", "full"],
)
def test_it_works_for_other_methods_and_optimizers(tiny_model: Path, method: Any, optimizer: str) -> None:
    curve = curve_of(tiny_model, method, replace(SETTINGS, optimizer=optimizer, learning_rate=0.5))
    assert curve.rates[0] <= curve.suggestion < curve.rates[-1]
    assert curve.usual == pytest.approx(method.learning_rate * replace(SETTINGS, optimizer=optimizer).rate(1.0))


def test_of_several_stages_the_widest_is_taken(tiny_model: Path) -> None:
    learner, _ = made(tiny_model, method=Gradual(groups=2, solve=QUICK))
    backbone, stages = learner.stages()
    assert stages[widest(stages, backbone)].name == "thaw 2 of 2"


def test_the_suggestion_is_a_tenth_of_the_lowest_point_and_the_steepest_lies_before_it() -> None:
    """A smooth fall around 1e-4, a rise from 1e-2 on."""
    rates = np.geomspace(FIRST, LAST, 100)
    noise = np.random.default_rng(0).normal(0, 0.02, 100)
    losses = 1 / (1 + (rates / 1e-4)) + np.maximum(0, np.log10(rates / 1e-2)) + noise
    curve = drawn(losses.tolist())
    assert 2e-3 < curve.lowest < 3e-2
    assert curve.suggestion == pytest.approx(curve.lowest / 10, rel=0.06)
    assert 3e-5 < curve.steepest < 4e-4
    assert curve.fell


def test_a_loss_that_never_falls_is_said_and_the_suggestion_stays_inside() -> None:
    from whet.report.rates import meaning

    curve = drawn([1.0 + max(0.0, place - 60) for place in range(100)])
    assert not curve.fell
    assert curve.rates[0] <= curve.suggestion <= curve.rates[-1]
    assert "keep the default" in meaning(curve)


def test_the_rise_ends_where_the_loss_has_grown_fourfold() -> None:
    recent = Recent()
    assert not any(recent.grown(loss) for loss in [1.0, 0.5, 0.4, 0.5, 1.2])
    assert any(recent.grown(loss) for loss in [5.0, 9.0, 9.0])
    assert any(Recent().grown(loss) for loss in [math.inf]) is False  # one alone is its own lowest
    near, far = Recent(solved=0.05), Recent(solved=0.05)
    assert not any(near.grown(loss) for loss in [1.0, *[0.001] * 300, 0.04, 0.04])
    assert any(far.grown(loss) for loss in [1.0, *[0.001] * 300, 9.0])


def test_the_picture_is_one_file_with_its_words(tmp_path: Path) -> None:
    from whet.report.rates import facts, write_rates

    curve = drawn([1.0] * 40 + [1.0 - 0.02 * place for place in range(40)] + [float(place) for place in range(20)])
    page = write_rates(curve, tmp_path / "rates.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 1
    assert all(word in page for word in (f"{curve.suggestion:g}", "1e−5", "learning rate", "suggested"))
    assert "http://" not in page
    assert "https://" not in page
    assert f"{curve.suggestion:g}" in facts(curve)["suggested"]
