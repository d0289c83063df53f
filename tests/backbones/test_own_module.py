"""Any torch.nn.Module, given as an object, is tuned, packaged and asked like every other model."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import whet
from pictures import class_folders
from plain import PLAIN as EVERY
from plain import rows_of
from whet.backbones import Module
from whet.backbones import own_module as given
from whet.backbones.own_module import OwnModule
from whet.errors import ConfigError, ModelError
from whet.testing import check_backbone

PLAIN = tuple(one for one in EVERY if not one.startswith("backbone."))


class Block(nn.Module):
    def __init__(self, inside: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, out, 3, 2, 1)
        self.norm = nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class OddNet(nn.Module):
    """Three stages with names of its own, and a forward that calls its input what it likes."""

    def __init__(self, classes: int = 7) -> None:
        super().__init__()
        self.entry = Block(3, 8)
        self.middle = Block(8, 12)
        self.exit = Block(12, 16)
        self.answer = nn.Linear(16, classes)

    def forward(self, photo: Tensor) -> Tensor:
        return self.answer(self.exit(self.middle(self.entry(photo))).mean((2, 3)))


class OddText(nn.Module):
    """Embeddings, a recurrent layer, a head."""

    def __init__(self, words: int = 200, classes: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(words, 16)
        self.reader = nn.GRU(16, 24, batch_first=True)
        self.top = nn.Linear(24, classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> Tensor:
        found, _ = self.reader(self.words(input_ids))
        if attention_mask is None:
            return self.top(found.mean(1))
        weights = attention_mask.unsqueeze(-1).to(found.dtype)
        return self.top((found * weights).sum(1) / weights.sum(1))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(given, "_GIVEN", {})
    return tmp_path


def odd() -> OddNet:
    torch.manual_seed(0)
    net = OddNet()
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(16, 3, 32, 32))
    return net.eval()


@pytest.mark.parametrize("method", ["probe", "top-layers", "full", "gradual"])
def test_a_network_of_ones_own_has_every_method(method: str, here: Path) -> None:
    photos = class_folders(here / "photos", 20)
    model = Module(odd(), head="answer", blocks=("entry", "middle", "exit"), side=32)
    more = () if method == "probe" else ("training.epochs=3", "training.views=1")
    result = whet.finetune(photos, model=model, method=method, settings=(*PLAIN, *more), out="run")
    files = sorted(photos.rglob("*.png"))[:4]
    assert whet.load("run").predict(files) == result.predict(files)
    if method == "top-layers":
        assert any("replayed from" in note for note in result.story.notes)


def test_the_object_itself_is_never_changed(here: Path) -> None:
    net = odd()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    model = Module(net, head="answer", side=32)
    settings = (*PLAIN, "training.epochs=1", "training.views=1")
    whet.finetune(class_folders(here / "photos", 10), model=model, method="full", settings=settings, out="run")
    after = net.state_dict()
    assert set(before) == set(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert net.answer.out_features == 7


def test_its_contract_holds_and_blocks_are_cut_where_they_are_named(here: Path) -> None:
    folder = Module(odd(), head="answer", blocks=("entry", "middle", "exit"), side=32).written(here / "cache")
    pixels = {"pixel_values": torch.linspace(-2, 2, 2 * 3 * 32 * 32).reshape(2, 3, 32, 32)}
    check_backbone(OwnModule(), folder, pixels)
    backbone = OwnModule().load(folder, outputs=3, seed=0)
    assert backbone.blocks == ("body.net.entry", "body.net.middle", "body.net.exit")
    assert len(backbone.cuts) >= 3


def test_another_process_needs_the_object_and_says_so(here: Path) -> None:
    photos = class_folders(here / "photos", 15)
    whet.finetune(photos, model=Module(odd(), head="answer", side=32), method="probe", settings=PLAIN, out="run")
    file = str(next(photos.rglob("*.png")))
    found = subprocess.run([sys.executable, "-m", "whet", "predict", "run", file], capture_output=True, text=True)
    assert found.returncode == 2
    assert "OddNet" in found.stderr
    assert "whet.load(run, model=net)" in found.stderr
    expected = whet.load("run").predict([file])
    given._GIVEN.clear()
    with pytest.raises(ModelError, match="whose code is in no file"):
        whet.load("run")
    assert whet.load("run", model=OddNet(classes=3)).predict([file]) == expected


def test_a_text_network_reads_by_the_tokenizer_that_is_named(tiny_model: Path) -> None:
    vocabulary = (
        len((tiny_model / "vocab.txt").read_text().splitlines()) if (tiny_model / "vocab.txt").exists() else 500
    )
    torch.manual_seed(0)
    model = Module(OddText(max(500, vocabulary)), head="top", processor=tiny_model)
    result = whet.finetune(rows_of(), "target", model=model, method="probe", settings=PLAIN, out="run")
    assert result.predict(["one text"])


class Softened(OddNet):
    def forward(self, photo: Tensor) -> Tensor:
        return torch.log_softmax(super().forward(photo), 1)


def test_a_network_that_does_something_after_its_head_is_refused(here: Path) -> None:
    torch.manual_seed(0)
    model = Module(Softened(), head="answer", side=32)
    with pytest.raises(ModelError, match="does something after 'answer'"):
        whet.finetune(class_folders(here / "photos", 10), model=model, method="probe", settings=PLAIN, out="run")


class Squashed(OddNet):
    def forward(self, photo: Tensor) -> Tensor:
        return self.answer(torch.tanh(self.exit(self.middle(self.entry(photo))).mean((2, 3))))


def test_networks_of_equal_weights_and_other_code_share_no_features(here: Path) -> None:
    photos = class_folders(here / "photos", 15)
    settings = [one for one in PLAIN if one != "cache=off"]
    plain, found = odd(), {}
    squashed = Squashed()
    squashed.load_state_dict(plain.state_dict())
    for name, net in (("plain", plain), ("squashed", squashed)):
        model = Module(net, head="answer", side=32)
        whet.finetune(photos, model=model, method="probe", settings=settings, out=name)
        found[name] = (here / name / "model" / "model.safetensors").read_bytes()
    assert found["plain"] != found["squashed"]


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        ({"head": "answers", "side": 32}, "'answer'"),
        ({"head": "answer", "blocks": ("midle",), "side": 32}, "'middle'"),
        ({"head": "exit", "side": 32}, "not a linear layer"),
        ({"head": "answer"}, "how inputs become tensors"),
        ({"head": "answer", "side": 0}, "cannot be made"),
        ({"head": "answer", "side": 32, "mean": (0.5,)}, "cannot be made"),
        ({"head": "answer", "side": 32, "processor": "x"}, "Both side and processor"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_nearest(wanted: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Module(odd(), **wanted)
    with pytest.raises(ConfigError, match=r"torch\.nn\.Module"):
        Module("net", head="answer", side=32)  # type: ignore[arg-type]
