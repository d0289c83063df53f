"""Bare state dicts are recognised by their tensors, become model folders, and are written back under the same names."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from networks import TINY, tensors_of
from pictures import picture
from whet import catalog
from whet.backbones.backbone import Meaning
from whet.backbones.convnet import ConvNet, recognised
from whet.backbones.convnets.architecture import Architecture
from whet.backbones.convnets.resnet import ResNet, Stage
from whet.backbones.cut import ChainCut
from whet.backbones.source import find_model
from whet.errors import ModelError
from whet.modalities.image_processor import image_processor
from whet.testing import check_backbone

SHARED = Path(__file__).resolve().parents[3] / "shared" / "models"
FULL: dict[str, Architecture] = {
    "resnet18": ResNet(64, 7, 3, False, tuple(Stage(2, w, w, projected=w > 64) for w in (64, 128, 256, 512))),
    "resnet50": ResNet(64, 7, 3, True, tuple(Stage(n, 64 * 2**i, 256 * 2**i) for i, n in enumerate((3, 4, 6, 3)))),
}  # fmt: skip
NUMBERS = {"resnet18": 11_176_512, "resnet50": 23_508_032}
"""Parameters without the last layer, as the papers' networks have them."""


def written(path: Path, architecture: Architecture, **changes: Any) -> Path:
    torch.save(tensors_of(architecture) | changes, path)
    return path


@pytest.mark.parametrize("name", TINY)
def test_an_architecture_is_read_off_its_tensors(name: str) -> None:
    shapes = {key: tuple(tensor.shape) for key, tensor in tensors_of(TINY[name]).items()}
    found = recognised(shapes)
    assert found is not None
    assert (found[0], found[1]) == (catalog.name_of("architecture", TINY[name]), TINY[name])


@pytest.mark.parametrize("name", FULL)
def test_full_networks_have_the_numbers_of_their_papers(name: str) -> None:
    with torch.device("meta"):
        body = FULL[name].body()
    assert sum(parameter.numel() for parameter in body.parameters()) == NUMBERS[name]
    assert FULL[name].loads == f"torchvision.models.{name}(num_classes=classes)"


@pytest.mark.parametrize("name", [name for name in TINY if name != "resnet-small-pictures"])
def test_a_file_becomes_a_backbone_that_keeps_the_contract(name: str, tmp_path: Path) -> None:
    source = find_model(written(tmp_path / "net.pth", TINY[name]), cache=tmp_path / "cache")
    side = TINY[name].pictures.side
    pixels = {"pixel_values": torch.linspace(-2, 2, 2 * 3 * side * side).reshape(2, 3, side, side)}
    check_backbone(ConvNet(), source.folder, pixels)
    backbone = ConvNet().load(source.folder, outputs=3, seed=0)
    assert len(backbone.blocks) >= 3
    assert len([cut for cut in backbone.cuts if isinstance(cut, ChainCut)]) >= len(backbone.blocks) - 1


def test_a_tuned_network_has_the_names_and_shapes_of_the_file_with_its_own_head(tmp_path: Path) -> None:
    source = find_model(written(tmp_path / "net.pth", TINY["bottleneck"]), cache=tmp_path / "cache")
    model = ConvNet().load(source.folder, outputs=3, seed=0).model
    meaning = Meaning("classification", ("a", "b", "c"))
    ConvNet().save(model, tmp_path / "saved", source=source.folder, meaning=meaning)
    before, after = torch.load(tmp_path / "net.pth", weights_only=True), load_file(tmp_path / "saved/model.safetensors")
    assert set(before) == set(after)
    assert after["fc.weight"].shape == (3, before["fc.weight"].shape[1])
    for name in set(before) - {"fc.weight", "fc.bias"}:
        assert torch.equal(before[name], after[name])


@pytest.mark.parametrize("form", ["pth", "th", "safetensors", "several devices", "without counts", "folder"])
def test_files_of_any_form_are_adopted(form: str, tmp_path: Path) -> None:
    tensors = tensors_of(TINY["resnet"])
    if form == "several devices":
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
    if form == "without counts":
        tensors = {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / f"net.{form if form in ('th', 'safetensors') else 'pth'}"
    if form == "safetensors":
        save_file(tensors, str(path))
    else:
        torch.save(tensors, path)
    source = find_model(path.parent if form == "folder" else path, cache=tmp_path / "cache")
    assert (source.origin, source.architecture) == ("file", "ResNet")
    assert find_model(path, cache=tmp_path / "cache").sha256 == source.sha256
    assert sorted(one.name for one in path.parent.iterdir()) == [path.name]


def test_tensors_of_no_known_network_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"encoder.weight": torch.zeros(3, 3)}, path)
    with pytest.raises(ModelError, match=r"fit no network that is known; they are called 'encoder.weight'") as error:
        find_model(path, cache=tmp_path / "cache")
    assert "ResNet" in str(error.value)
    assert not list((tmp_path / "cache").glob("adopted/*"))
    more = written(tmp_path / "more.pth", TINY["resnet"], **{"layer9.extra": torch.zeros(2)})
    with pytest.raises(ModelError, match="fit no network"):
        find_model(more, cache=tmp_path / "cache")


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"model": TINY["resnet"].body()}, tmp_path / "whole.pth")
    with pytest.raises(ModelError, match="holds more than tensors"):
        find_model(tmp_path / "whole.pth", cache=tmp_path / "cache")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/models")
@pytest.mark.parametrize(
    ("folder", "file", "architecture", "classes"),
    [
        ("squeezenet1_1-imagenet", "squeezenet1_1.pth", "SqueezeNet", 1000),
        ("resnet20-cifar10", "resnet20.pth", "CifarResNet", 10),
    ],
)
def test_real_files_are_recognised(folder: str, file: str, architecture: str, classes: int, tmp_path: Path) -> None:
    source = find_model(SHARED / folder / file, cache=tmp_path)
    assert source.architecture == architecture
    backbone = ConvNet().load(source.folder, outputs=classes, seed=0)
    processor = image_processor(source.folder, pairs=False)
    batch = processor.collate(processor.encode([(picture("disc", 0, 64),)]).inputs)
    with torch.no_grad():
        assert torch.isfinite(backbone.model.body(**batch)).all()
