"""Pictures have everything that texts have: methods, tasks, replay, resume, Python and the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import whet
from pictures import SHAPES, class_folders, picture, tiny_image_model
from plain import PLAIN
from whet.errors import DataError

METHODS = ("probe", "top-layers", "full", "gradual", "bias-only", "norm-only", "l2-sp", "reinit", "contrastive")
SHORT = (*PLAIN, "training.epochs=2")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def model(here: Path) -> Path:
    return tiny_image_model(here / "net")


@pytest.fixture
def photos(here: Path) -> Path:
    return class_folders(here / "photos")


def tensors(run: Path) -> bytes:
    return (run / "model" / "model.safetensors").read_bytes()


def test_a_folder_in_a_judged_classifier_out(photos: Path, model: Path, here: Path) -> None:
    result = whet.finetune(photos, model=model, method="probe", settings=PLAIN, out="run")
    assert result.predictor.labels == tuple(sorted(SHAPES))
    assert result.verdict.answer in ("better", "not better", "cannot tell")
    card = (here / "run" / "README.md").read_text()
    assert "pipeline_tag: image-classification" in card
    assert 'pipeline("image-classification"' in card
    files = sorted(photos.rglob("*.png"))[:5]
    arrays = [np.asarray(Image.open(path)) for path in files]
    assert result.predict(files) == result.predict(arrays) == whet.load("run").predict([p.read_bytes() for p in files])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_tunes_pictures(method: str, photos: Path, model: Path) -> None:
    settings = PLAIN if method == "probe" else SHORT
    result = whet.finetune(photos, model=model, method=method, settings=settings, out="run")
    assert 0 <= result.metrics["accuracy"] <= 1


@pytest.mark.parametrize("kind", ["resnet", "vit"])
def test_replay_gives_the_same_bytes_as_no_replay(kind: str, photos: Path, here: Path) -> None:
    model = tiny_image_model(here / "other", kind)
    for name in ("auto", "off"):
        settings = (*(s for s in SHORT if not s.startswith("cache")), f"machinery.replay={name}", "method.count=1")
        settings = tuple(s for s in settings if name == "off" or not s.startswith("machinery.replay"))
        whet.finetune(photos, model=model, method="top-layers", settings=settings, out=name)
    log = (here / "auto" / "events.jsonl").read_text()
    assert tensors(here / "auto") == tensors(here / "off"), log[-500:]


def test_tables_name_files_hold_bytes_or_come_from_datasets(photos: Path, model: Path, here: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    names = [path.relative_to(photos).as_posix() for path in files]
    kinds = [path.parent.name for path in files]
    frame = pd.DataFrame({"file": names, "kind": kinds})
    frame.to_csv(photos / "labels.csv", index=False)
    held = pd.DataFrame({"picture": [path.read_bytes() for path in files], "kind": kinds})
    held.to_parquet(here / "held.parquet")
    nested = pd.DataFrame({"image": [{"bytes": path.read_bytes(), "path": path.name} for path in files], "kind": kinds})
    nested.to_parquet(here / "nested.parquet")
    found = [
        whet.finetune(source, "kind", model=model, method="probe", settings=PLAIN, out=f"run{number}")
        for number, source in enumerate([photos / "labels.csv", here / "held.parquet", here / "nested.parquet", held])
    ]
    assert len({tensors(one.folder) for one in found}) == 1
    assert found[1].predictor.columns.inputs == ("picture",)


def test_several_labels_and_numbers_are_learnt_of_pictures(photos: Path, model: Path, here: Path) -> None:
    files = sorted(photos.rglob("*.png"))
    rows: list[dict[str, Any]] = [
        {"image": str(path), "labels": [path.parent.name] + (["round"] if path.parent.name == "disc" else []),
         "size": 10.0 * SHAPES.index(path.parent.name) + number % 7}
        for number, path in enumerate(files)
    ]  # fmt: skip
    several = [{"image": row["image"], "target": row["labels"]} for row in rows]
    result = whet.finetune(several, "target", model=model, method="probe", settings=PLAIN, out="labels")
    assert set(result.predictor.labels) == {*SHAPES, "round"}
    numbers = [{"image": row["image"], "target": row["size"]} for row in rows]
    result = whet.finetune(numbers, "target", model=model, method="probe", settings=PLAIN, out="numbers")
    assert isinstance(result.predict([files[0]])[0], float)


def whet_says(*words: str) -> str:
    return subprocess.run([sys.executable, "-m", "whet", *words], check=True, capture_output=True, text=True).stdout


def test_the_command_line_checks_tunes_answers_and_judges(photos: Path, model: Path, here: Path) -> None:
    said = whet_says("check", "photos")
    assert "image → label" in said
    settings = [word for one in PLAIN for word in ("--set", one)]
    whet_says("finetune", "photos", "--model", "net", "--method", "probe", "--out", "run", *settings)
    (here / "new" / "deep").mkdir(parents=True)
    for number, shape in enumerate(SHAPES):
        picture(shape, 900 + number).save(here / "new" / "deep" / f"{number}.jpg")
    one = json.loads(whet_says("predict", "run", "new/deep/0.jpg", "--json"))
    whet_says("predict", "run", "new", "--out", "answers.csv")
    table = pd.read_csv(here / "answers.csv")
    assert table["image"].tolist() == ["deep/0.jpg", "deep/1.jpg", "deep/2.jpg"]
    assert table["predicted"][0] == one["predicted"]
    class_folders(here / "later", 10, start=500)
    assert "accuracy" in whet_says("evaluate", "run", "later")


def test_files_that_cannot_be_read_stop_a_run_unless_told(photos: Path, model: Path) -> None:
    (photos / "disc" / "zz.png").write_bytes(b"no picture")
    (photos / "disc" / "zy.jpg").write_bytes((photos / "cross" / "000.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"2 images of 122 cannot be read: .*zz.png \(it is no image\)"):
        whet.finetune(photos, model=model, method="probe", settings=PLAIN, out="run")
    settings = (*PLAIN, "modality.name=image", "modality.unreadable=drop")
    result = whet.finetune(photos, model=model, method="probe", settings=settings, out="run")
    assert any("2 images cannot be read and are left out" in one.message for one in result.story.data.findings)


def test_pictures_without_a_model_say_what_is_needed(photos: Path) -> None:
    with pytest.raises(whet.errors.ConfigError, match="No model is named, and none for images comes along"):
        whet.finetune(photos, method="probe", settings=PLAIN, out="run")


def test_a_run_goes_on_from_a_run_of_pictures_and_rehearses(photos: Path, model: Path, here: Path) -> None:
    whet.finetune(photos, model=model, method="probe", settings=PLAIN, out="first")
    later = class_folders(here / "later", 20, start=300)
    (later / "disc").rename(later / "ring")
    result = whet.finetune(later, model="first", rehearse=("first", 0.5), method="probe", settings=PLAIN, out="next")
    assert set(result.predictor.labels) == {*SHAPES, "ring"}
    assert len(result.judgements) == 2
