"""Pictures of one, four or many channels: the first layer is adapted, and everything after it works as ever."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image as Pillow

import whet
from networks import TINY, tensors_of
from pictures import SHAPES, class_folders, picture, tiny_image_model
from plain import PLAIN
from whet.backbones.channels import read_channels
from whet.backbones.convnet import ConvNet
from whet.backbones.image_encoder import ImageEncoder
from whet.errors import ConfigError, DataError, ModelError
from whet.modalities.image_processor import INPUT, image_processor


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_a_grey_picture_is_answered_as_three_equal_channels_are(here: Path) -> None:
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False))
    grey = torch.randn(2, 1, 9, 9)
    expected = layer(grey.expand(2, 3, 9, 9))
    read_channels(layer, 1, "net")
    assert torch.allclose(layer(grey), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [4, 7])
def test_more_channels_of_equal_content_are_answered_as_three_are_where_they_come_around(channels: int) -> None:
    layer = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, bias=False))
    with torch.no_grad():
        layer[0].weight.copy_(layer[0].weight.mean(1, keepdim=True).expand_as(layer[0].weight))
    grey = torch.randn(2, 1, 9, 9)
    expected = layer(grey.expand(2, 3, 9, 9))
    read_channels(layer, channels, "net")
    assert torch.allclose(layer(grey.expand(2, channels, 9, 9)), expected, atol=1e-5)


def test_a_model_without_a_plain_first_convolution_is_refused() -> None:
    with pytest.raises(ModelError, match="no plain convolution"):
        read_channels(torch.nn.Sequential(torch.nn.Linear(3, 3)), 4, "net")


@pytest.mark.parametrize("kind", ["resnet", "vit", "mobilenet_v2"])
@pytest.mark.parametrize("channels", [1, 4])
def test_every_way_of_channels_is_tuned_packaged_and_read_again(kind: str, channels: int, here: Path) -> None:
    photos, model = class_folders(here / "photos", 15), tiny_image_model(here / "net", kind)
    settings = (*PLAIN, "modality.name=image", f"modality.channels={channels}", "training.epochs=1")
    result = whet.finetune(photos, model=model, method="full", settings=(*settings, "training.views=1"), out="run")
    assert any("the first layer" in one.message for one in result.story.data.findings)
    files = sorted(photos.rglob("*.png"))[:4]
    assert whet.load("run").predict(files) == result.predict(files)
    shape = image_processor(here / "run" / "model", pairs=False).shape
    assert shape[0] == channels
    reloaded = ImageEncoder().reload(here / "run" / "model")
    assert reloaded(**{INPUT: torch.zeros(1, *shape)}).shape == (1, 3)


def test_arrays_of_many_channels_are_learnt_from_and_others_are_refused(here: Path) -> None:
    (here / "cubes").mkdir()
    names, labels = [], []
    for number in range(45):
        shape = SHAPES[number % 3]
        grey = np.asarray(picture(shape, number).convert("L"))
        np.save(here / "cubes" / f"{number}.npy", np.stack([grey] * 6, axis=2))
        names.append(f"cubes/{number}.npy")
        labels.append(shape)
    pd.DataFrame({"image": names, "label": labels}).to_csv(here / "rows.csv", index=False)
    model = tiny_image_model(here / "net")
    named = (*PLAIN, "modality.name=image")
    six = (*named, "modality.channels=6")
    result = whet.finetune("rows.csv", "label", model=model, method="probe", settings=six, out="run")
    assert len(result.predict([here / names[0], np.load(here / names[1])])) == 2
    with pytest.raises(DataError, match=r"45 images of 45 cannot be read.*6 channels, and 3 are read"):
        whet.check("rows.csv", "label")
    picture("disc", 0).save(here / "cubes" / "0.png")
    pd.DataFrame({"image": ["cubes/0.png", *names[1:]], "label": labels}).to_csv(here / "mixed.csv", index=False)
    drop = (*six, "modality.unreadable=drop")
    prepared = whet.plan("mixed.csv", "label", text="image", model=model, method="probe", settings=drop)
    assert any("1 image cannot be read and is left out" in one.message for one in prepared.findings)


def test_a_bare_network_is_adapted_written_and_recognised_again(here: Path) -> None:
    torch.save(tensors_of(TINY["cifar-resnet"]), here / "net.pth")
    photos = class_folders(here / "photos", 15)
    plain = [one for one in PLAIN if not one.startswith("backbone.")]
    settings = (*plain, "modality.name=image", "modality.channels=1")
    result = whet.finetune(photos, model="net.pth", method="probe", settings=settings, out="run")
    assert ConvNet().reload(here / "run" / "model").body.conv1.in_channels == 1
    files = sorted(photos.rglob("*.png"))[:4]
    assert whet.load("run").predict(files) == result.predict(files)


def test_channels_that_contradict_each_other_are_refused(here: Path) -> None:
    photos, model = class_folders(here / "photos", 10), tiny_image_model(here / "net")
    with pytest.raises(ConfigError, match=r"backbone\.channels"):
        whet.plan(
            photos,
            model=model,
            method="probe",
            settings=(*PLAIN, "modality.name=image", "modality.channels=1", "backbone.channels=4"),
        )
    with pytest.raises(ConfigError, match=r"backbone\.channels"):
        whet.plan(photos, model=model, method="probe", settings=(*PLAIN, "backbone.channels=1"))
    with pytest.raises(ConfigError, match="0 channels"):
        whet.plan(photos, model=model, settings=(*PLAIN, "modality.name=image", "modality.channels=0"))


def test_transparency_is_read_where_four_channels_are(here: Path) -> None:
    for number in range(3):
        image = picture("disc", number).convert("RGBA")
        image.putalpha(Pillow.new("L", image.size, 40 * number))
        image.save(here / f"{number}.png")
    processor = image_processor(tiny_image_model(here / "net"), pairs=False, channels=4)
    pixels = processor.encode([(here / f"{number}.png",) for number in range(3)]).inputs[INPUT]
    assert [int(one[3].max()) for one in pixels] == [0, 40, 80]
