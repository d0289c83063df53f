"""Do the public checks pass for what is ours, and do they see what is broken?"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from whet.backbones.text_encoder import TextEncoder
from whet.catalog import TABLES, find
from whet.evaluation.classification import Accuracy
from whet.learners.majority import Majority
from whet.modalities.text import Text
from whet.tasks.classification import Classification
from whet.tasks.regression import Regression
from whet.tasks.task import Term
from whet.testing import (
    check_backbone,
    check_learner,
    check_metric,
    check_modality,
    check_task,
    tiny_rows,
    tiny_text_model,
)


@pytest.mark.parametrize("name", TABLES["task"])
def test_every_task_keeps_its_contract(name: str) -> None:
    check_task(find("task", name)())


@pytest.mark.parametrize("name", TABLES["metric"])
def test_every_metric_keeps_its_contract(name: str) -> None:
    check_metric(find("metric", name)())


def test_texts_keep_the_contract_of_a_modality() -> None:
    check_modality(Text())  # those of files are checked where their files are made


@pytest.mark.parametrize("name", TABLES["learner"])
def test_every_learner_keeps_its_contract(name: str) -> None:
    check_learner(find("learner", name)())


@pytest.mark.parametrize("head", ["pooled", "native"])
def test_text_encoders_keep_their_contract(tiny_model: Path, head: Any) -> None:
    check_backbone(TextEncoder(head=head), tiny_model)


def test_pairs_are_told_apart_by_a_model_made_for_them(tmp_path: Path) -> None:
    folder = tiny_text_model(tmp_path / "pairs", layers=1, pairs=True)
    check_modality(Text(), folder, [("my parcel is late", "delivery"), ("", "refund"), ("login", "")])
    rows, columns = tiny_rows("classification", 5, pairs=True)
    processor = Text().processor(folder, max_length=None, pairs=True)
    encoded = Classification().encode(rows, columns, processor, {"labels": ["x"]}, targeted=False)
    assert set(encoded.inputs) == {"input_ids", "token_type_ids"}


def test_a_tiny_model_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    folders = [tiny_text_model(tmp_path / str(place), seed=seed) for place, seed in enumerate((0, 0, 1))]
    one, two, other = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert one == two != other


class CouplesExamples(Classification):
    def loss(self, outputs: Any, targets: Any, shares: Any, state: Any) -> list[Term]:
        return super().loss(outputs - outputs.mean(), targets, shares, state) if len(outputs) < 30 else super().loss(
            outputs + outputs.mean(0), targets, shares, state
        )  # fmt: skip


class WeighsByAnswer(Classification):
    def loss(self, outputs: Any, targets: Any, shares: Any, state: Any) -> list[Term]:
        (term,) = super().loss(outputs, targets, shares, state)
        return [Term(term.name, term.sums, term.weights * outputs[:, 0].detach().sigmoid())]


class DecodesWrongly(Classification):
    def decode(self, outputs: Any, row_ids: Any, state: Any) -> Any:
        return super().decode(-outputs, row_ids, state)


class ForgetsItsUnit(Regression):
    def own_unit(self, state: Any) -> Any:
        return state["scale"], state["mean"], state


class DivergesFromItself(Classification):
    divergence = staticmethod(lambda one, other: (one - other + 1).square().mean(1))


class ContrastsNumbers(Regression):
    contrastable = True


class BalancesNumbers(Regression):
    balanceable = True


class NamesNoSetting(Classification):
    loss_settings = ("sharpness",)


class HidesItsFocus(Classification):
    loss_settings = ("label_smoothing",)


class DecidesByItsScale(Classification):
    def decode(self, outputs: Any, row_ids: Any, state: Any) -> Any:
        found = super().decode(outputs, row_ids, state)
        return replace(found, decided=np.where(found.scores.max(1) > 0.99, found.decided, 0))


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        (ForgetsItsUnit(), "do not fit the state"),
        (DecidesByItsScale(), "at any temperature"),
        (DivergesFromItself(), "diverge|both ways"),
        (NamesNoSetting(), "must name fields"),
        (HidesItsFocus(focal_gamma=2.0), "does not name"),
        (ContrastsNumbers(), "one a row"),
        (BalancesNumbers(), "fall into classes"),
        (CouplesExamples(), "couples examples"),
        (WeighsByAnswer(), "follow from targets"),
        (DecodesWrongly(), "lowest loss must decode"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_task_is_told_why(task: Any, sentence: str) -> None:
    with pytest.raises(AssertionError, match=sentence):
        check_task(task)


class TurnedRound(Accuracy):
    higher_is_better = False


class LooksAround(Accuracy):
    def per_row(self, predictions: Any) -> Any:
        return super().per_row(predictions) * len(predictions)


def test_a_broken_metric_is_told_why() -> None:
    with pytest.raises(AssertionError, match="higher_is_better"):
        check_metric(TurnedRound())
    with pytest.raises(AssertionError, match="each row alone"):
        check_metric(LooksAround())


class Restless(Majority):
    def fit(self, material: Any) -> Any:
        fitted = super().fit(material)
        noisy = np.random.default_rng().uniform(0.5, 1, len(fitted.share))
        return type(fitted)(fitted.kind, fitted.labels, noisy / noisy.sum())


def test_a_learner_that_rolls_dice_is_told_so() -> None:
    with pytest.raises(AssertionError, match="same bytes"):
        check_learner(Restless(), kinds=("classification",))


class WarmHead:
    """A family whose new head is not zero."""

    def __init__(self) -> None:
        self.inner = TextEncoder()

    def load(self, folder: Path, *, outputs: int, seed: int) -> Any:
        backbone = self.inner.load(folder, outputs=outputs, seed=seed)
        torch.nn.init.ones_(backbone.model.head.bias)
        return backbone

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.inner.save(*args, **kwargs)

    def reload(self, folder: Path) -> Any:
        return self.inner.reload(folder)


def test_a_family_whose_head_does_not_start_at_zero_is_told_so(tiny_model: Path) -> None:
    with pytest.raises(AssertionError, match="start at zero"):
        check_backbone(WarmHead(), tiny_model)
