"""Families of image classifiers load, are cut between blocks of every stage, replay, and keep their own layout."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pictures import picture, tiny_image_model
from whet.backbones.backbone import Meaning
from whet.backbones.cut import ChainCut
from whet.backbones.image_encoder import ImageEncoder
from whet.errors import ModelError
from whet.modalities.image_processor import INPUT, image_processor
from whet.testing import check_backbone

BLOCKS = {"resnet": 4, "mobilenet_v2": 20, "convnext": 11, "vit": 3, "swin": 5}
PIXELS = {INPUT: torch.linspace(-2, 2, 8 * 3 * 32 * 32).reshape(8, 3, 32, 32)}


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_family_keeps_the_contract(tmp_path: Path, kind: str) -> None:
    check_backbone(ImageEncoder(), tiny_image_model(tmp_path / "model", kind), PIXELS)


@pytest.mark.parametrize("kind", BLOCKS)
def test_every_block_of_every_stage_has_a_cut(tmp_path: Path, kind: str) -> None:
    backbone = ImageEncoder().load(tiny_image_model(tmp_path / "model", kind), outputs=3, seed=0)
    depths = [cut.depth for cut in backbone.cuts if isinstance(cut, ChainCut)]
    assert len(backbone.blocks) == BLOCKS[kind]
    assert depths == list(range(0 if backbone.stem else 1, BLOCKS[kind]))
    assert not backbone.unused


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_a_saved_model_answers_in_a_pipeline_of_the_transformers_library(tmp_path: Path, kind: str) -> None:
    from transformers import pipeline

    source = tiny_image_model(tmp_path / "model", kind)
    family = ImageEncoder()
    model = family.load(source, outputs=3, seed=0).model
    torch.nn.init.normal_(model.head.weight)
    model.scaler.mean.fill_(0.2)
    family.save(model, tmp_path / "saved", source=source, meaning=Meaning("classification", ("a", "b", "<c>")))
    picture("disc", 3, 50).save(tmp_path / "a.png")
    processor = image_processor(tmp_path / "saved", pairs=False)
    with torch.no_grad():
        ours = model(**processor.collate(processor.encode([(tmp_path / "a.png",)]).inputs)).softmax(-1)[0]
    found = pipeline("image-classification", model=str(tmp_path / "saved"))(str(tmp_path / "a.png"))
    theirs = {one["label"]: one["score"] for one in found}
    np.testing.assert_allclose([theirs[label] for label in ("a", "b", "<c>")], ours.numpy(), atol=1e-5)


def test_the_keep_probability_of_mobilenets_is_read_as_one(tmp_path: Path) -> None:
    import json

    folder = tiny_image_model(tmp_path / "model", "mobilenet_v2")
    config = json.loads((folder / "config.json").read_text())
    del config["classifier_dropout_prob"]
    (folder / "config.json").write_text(json.dumps(config))
    model = ImageEncoder().load(folder, outputs=3, seed=0).model
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates == [pytest.approx(0.2)]


def test_a_text_model_is_refused_for_images(tmp_path: Path, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded as an image classifier"):
        ImageEncoder().load(tiny_model, outputs=3, seed=0)
    assert ImageEncoder().recognise(tiny_model, "image") == 0.0
