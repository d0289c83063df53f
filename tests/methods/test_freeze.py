"""What a user freezes never moves, and a name that nothing has is refused with near ones."""

from pathlib import Path
from typing import Any

import pytest
import torch

from learners.make import QUICK, drained, made
from whet.backbones.backbone import Backbone
from whet.backbones.text_encoder import TextEncoder
from whet.errors import ConfigError
from whet.methods.freeze import matches, without_frozen
from whet.methods.full import Full
from whet.methods.method import within
from whet.training.settings import Training


@pytest.fixture(scope="module")
def backbone(tiny_model: Path) -> Backbone:
    return TextEncoder().load(tiny_model, outputs=3, seed=0)


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("embeddings", "body.encoder.embeddings.word_embeddings.weight", True),
        ("encoder.layer.[0-3]", "body.encoder.encoder.layer.2.output.dense.weight", True),
        ("encoder.layer.[0-3]", "body.encoder.encoder.layer.4.output.dense.weight", False),
        ("layer.1", "body.encoder.encoder.layer.11.output.dense.weight", False),
        ("layer.*.attention", "body.encoder.encoder.layer.11.attention.self.query.weight", True),
        ("*bias", "body.encoder.encoder.layer.0.output.dense.bias", True),
        ("dense.weight", "body.encoder.encoder.layer.0.output.dense.bias", False),
    ],
)
def test_a_pattern_names_any_run_of_dotted_parts(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) == fits


def test_what_is_frozen_does_not_move_and_the_rest_does(tiny_model: Path) -> None:
    training = Training(batch_size=8, freeze=("embeddings", "layer.0", "*.bias"), patience=0)
    method = Full(learning_rate=1e-2, epochs=2, solve=QUICK)
    learner, rows = made(tiny_model, method=method, training=training, valid=0)
    before = {name: tensor.clone() for name, tensor in learner.backbone.model.state_dict().items()}
    fitted, _ = drained(learner, rows)
    moved = {name for name, tensor in fitted.model.state_dict().items() if not torch.equal(tensor, before[name])}
    body = {name for name in moved if name.startswith("body.")}
    assert body
    assert not any("embeddings" in name or ".layer.0." in name or name.endswith("bias") for name in body)
    assert any(within(name, learner.backbone.blocks[1:2]) for name in body)
    assert any("replayed from" in note for note in fitted.notes)


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (("embedings",), "'embeddings'"),
        (("layer.9",), "Nothing in the model"),
        (("body", "head"), "nothing is left"),
        (("body",), "nothing but the head is left"),
        (("embeddings", "encoder"), "the method 'probe', which solves the head"),
    ],
)
def test_a_freeze_that_cannot_work_is_refused(patterns: tuple[str, ...], words: str, backbone: Backbone) -> None:
    with pytest.raises(ConfigError) as caught:
        without_frozen(Full().stages(backbone), backbone, patterns)
    assert words in str(caught.value)
    assert caught.value.args[1] == "training.freeze"


def test_a_probe_has_nothing_to_freeze(tiny_model: Path) -> None:
    from whet.methods.probe import Probe

    settings: Any = Training(freeze=("embeddings",))
    learner, _ = made(tiny_model, method=Probe(), training=settings)
    assert [stage.name for stage in learner.stages()[1]] == ["probe"]
