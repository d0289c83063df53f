"""Finding a model: what a name stands for, and what is refused before any weight is loaded."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from whet.backbones.source import (
    PACKAGED,
    check_weights,
    find_model,
    hash_other_files,
    hash_weights,
    list_models,
    verify_recorded,
)
from whet.backbones.weights import combine, hash_file, known_hash, read_header, read_tensors, weight_files
from whet.errors import ConfigError, MachineError, ModelError
from whet.modalities.model_folder import has_processor, transformer_folder

OLD = 1_000_000_000  # seconds since 1970


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _own_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty hub cache, no network, and a working folder without models."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def write_model(folder: Path, **config: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"], **config}))
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: 'mit'\n---\n# A model\n")
    save_file(
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.bfloat16)}, folder / "model.safetensors"
    )
    return folder


def write_sentence_model(folder: Path) -> Path:
    write_model(folder / "0_Transformer")
    (folder / "2_Dense").mkdir()
    save_file({"linear.weight": torch.ones(2, 2)}, folder / "2_Dense" / "model.safetensors")
    modules = [("0_Transformer", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense"), ("", "Normalize")]
    listed = [{"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in modules]
    (folder / "modules.json").write_text(json.dumps(listed))
    return folder


def write_hub_model(hub: Path, name: str, revision: str = "a" * 40) -> Path:
    place = hub / ("models--" + name.replace("/", "--"))
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(revision)
    return write_model(place / "snapshots" / revision)


def test_no_name_means_the_packaged_model(cache: Path) -> None:
    source = find_model(None, cache=cache)
    assert (source.origin, source.name, source.licence) == ("packaged", PACKAGED, "apache-2.0")
    assert source.architecture == "BertModel"
    assert source.bytes == (source.folder / "model.safetensors").stat().st_size
    assert source.sha256 == hash_file(source.folder / "model.safetensors")


@pytest.mark.parametrize("name", [PACKAGED, "all-MiniLM-L6-v2"])
def test_the_packaged_models_name_means_it_only_while_the_hub_cache_lacks_it(
    name: str, cache: Path, tmp_path: Path
) -> None:
    assert find_model(name, cache=cache).origin == "packaged"
    snapshot = write_hub_model(tmp_path / "hub", PACKAGED)
    source = find_model(name, cache=cache)
    assert (source.origin, source.folder, source.revision) == ("hub", snapshot, "a" * 40)


def test_a_folder_is_described_by_its_own_files(cache: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    for given in (folder, str(folder)):
        source = find_model(given, cache=cache)
        assert (source.origin, source.folder, source.licence, source.revision) == ("folder", folder, "mit", None)


def test_a_run_folder_stands_for_its_model(cache: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "run" / "model")
    (tmp_path / "run" / "plan.yaml").write_text("{}")
    assert find_model(tmp_path / "run", cache=cache).folder == tmp_path / "run" / "model"


def test_a_sentence_model_keeps_its_transformer_where_its_modules_say(cache: Path, tmp_path: Path) -> None:
    folder = write_sentence_model(tmp_path / "sentence")
    source = find_model(folder, cache=cache)
    assert source.folder == folder
    assert transformer_folder(folder) == folder / "0_Transformer"
    assert sorted(hash_weights(folder)) == ["0_Transformer/model.safetensors", "2_Dense/model.safetensors"]
    assert source.sha256 == combine(hash_weights(folder))


def test_modules_outside_the_folder_are_refused(cache: Path, tmp_path: Path) -> None:
    folder = write_sentence_model(tmp_path / "sentence")
    (folder / "modules.json").write_text(json.dumps([{"path": "../x", "type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(ModelError, match="outside the model folder"):
        find_model(folder, cache=cache)


def test_a_hub_model_is_taken_from_the_hub_cache(cache: Path, tmp_path: Path) -> None:
    write_hub_model(tmp_path / "hub", "someone/small")
    assert find_model("someone/small", cache=cache).origin == "hub"
    assert find_model("someone/small", revision="a" * 40, cache=cache).revision == "a" * 40
    with pytest.raises(ModelError, match="no model 'someone/small'"):
        find_model("someone/small", revision="v2", cache=cache)


def test_an_incomplete_download_is_not_taken_for_a_model(cache: Path, tmp_path: Path) -> None:
    (write_hub_model(tmp_path / "hub", "someone/small") / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="not in the hub's cache"):
        find_model("someone/small", cache=cache)


def test_an_unknown_name_offline_lists_the_models_that_exist(cache: Path) -> None:
    write_model(Path("models") / "tickets")
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE") as caught:
        find_model("someone/ticket", cache=cache)
    assert "models/tickets" in caught.value.fix
    assert PACKAGED in caught.value.fix


def test_without_network_the_error_says_that_the_hub_was_asked(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    class Unreachable:
        def model_info(self, *_: object, **settings: object) -> None:
            assert isinstance(settings["timeout"], float)
            raise RuntimeError("name not known")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Unreachable)
    with pytest.raises(ModelError, match=r"hub does not answer \(name not known\)"):
        find_model("someone/small", cache=cache)


def test_only_what_is_needed_is_downloaded(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    import huggingface_hub

    names = ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "1_Pooling/config.json"]
    asked: list[list[str]] = []

    class Hub:
        size = 10

        def model_info(self, *_: object, **__: object) -> SimpleNamespace:
            files = [SimpleNamespace(rfilename=name, size=self.size) for name in names]
            return SimpleNamespace(sha="b" * 40, siblings=files)

    def download(name: str, *, revision: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(write_hub_model(tmp_path / "hub", name, revision))

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_model("someone/small", cache=cache).revision == "b" * 40
    assert asked == [["config.json", "model.safetensors", "1_Pooling/config.json"]]
    Hub.size = 10**18
    with pytest.raises(MachineError, match="on disk"):
        find_model("someone/large", cache=cache)


@pytest.mark.parametrize("name", ["./nothing", "/no/such/place", "a/b/c", "two words", "~nobody-here"])
def test_what_looks_like_a_folder_is_never_asked_of_the_hub(name: str, cache: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        find_model(name, cache=cache)


def test_a_revision_of_a_folder_and_a_file_as_a_folder_are_refused(cache: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    with pytest.raises(ConfigError, match="no revision"):
        find_model(folder, revision="main", cache=cache)
    with pytest.raises(ModelError, match="is a file"):
        find_model(folder / "model.safetensors", cache=cache)


def test_a_folder_without_config_or_weights_is_refused(cache: Path, tmp_path: Path) -> None:
    for missing, said in (
        ("model.safetensors", "no weights"),
        ("config.json", "no config"),
    ):
        folder = write_model(tmp_path / missing)
        (folder / missing).unlink()
        with pytest.raises(ModelError, match=said):
            find_model(folder, cache=cache)


def test_an_adapter_is_named_as_such(cache: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "adapter")
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="adapter"):
        find_model(folder, cache=cache)


def test_tokenizers_that_read_bytes_need_no_vocabulary(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "bytes")
    (folder / "tokenizer.json").unlink()
    assert not has_processor(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    assert has_processor(folder)


@pytest.mark.parametrize("kept", [0, 5, 40, -1])
def test_truncated_weights_are_refused(kept: int, cache: Path, tmp_path: Path) -> None:
    path = write_model(tmp_path / "mine") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match="truncated"):
        find_model(path.parent, cache=cache)


def test_weights_that_contradict_their_header_are_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "mine") / "model.safetensors"
    whole = path.read_bytes()
    assert set(read_header(path)) == {"a", "b"}
    for altered, said in (
        (whole + b"x", "bytes after its last tensor"),
        (whole.replace(b"[2,3]", b"[2,4]"), "does not fit its tensor"),
        (whole.replace(b'{"', b"{{", 1), "no readable header"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
    ):
        assert altered != whole
        path.write_bytes(altered)
        with pytest.raises(ModelError, match=said):
            check_weights(path.parent)


def test_every_shard_of_an_index_must_be_there(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=r"model-2\.safetensors is missing"):
        check_weights(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../model-1.safetensors"}}')
    with pytest.raises(ModelError, match="its own folder"):
        check_weights(folder)


def test_altered_weights_differ_from_their_record(cache: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "run" / "model")
    assert verify_recorded(folder) is None
    (folder / "whet.json").write_text(json.dumps({"weights": hash_weights(folder)}))
    assert verify_recorded(folder) == hash_weights(folder)
    path = folder / "model.safetensors"
    find_model(tmp_path / "run", cache=cache)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"altered since they were written: model\.safetensors"):
        find_model(tmp_path / "run", cache=cache)


def test_what_lies_beside_the_weights_is_recorded_too_and_files_of_others_are_not_minded(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "whet.json").write_text(json.dumps({"weights": hash_weights(folder), "files": hash_other_files(folder)}))
    assert "tokenizer.json" in hash_other_files(folder)
    (folder / "notes.txt").write_text("mine")
    (folder / "gone.bin").symlink_to(folder / "nowhere")
    assert verify_recorded(folder) == hash_weights(folder)
    vocabulary = folder / "tokenizer.json"
    vocabulary.write_bytes(b"{\r\n}")
    (folder / "whet.json").write_text(json.dumps({"files": hash_other_files(folder)}))
    vocabulary.write_bytes(b"{\n}")
    assert verify_recorded(folder) is None, "version control may end lines in another way"
    vocabulary.write_text(vocabulary.read_text() + " ")
    with pytest.raises(ModelError, match=r"files were altered since they were written: tokenizer\.json"):
        verify_recorded(folder)
    vocabulary.unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json are missing"):
        verify_recorded(folder)
    (folder / "whet.json").write_text(json.dumps({"files": ["tokenizer.json"]}))
    with pytest.raises(ModelError, match="damaged"):
        verify_recorded(folder)


def test_weights_that_were_added_are_named(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model")
    (folder / "whet.json").write_text(json.dumps({"weights": hash_weights(folder)}))
    (folder / "1_Dense").mkdir()
    shutil.copy(folder / "model.safetensors", folder / "1_Dense" / "model.safetensors")
    (folder / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "1_Dense"}]))
    with pytest.raises(ModelError, match="altered") as raised:
        verify_recorded(folder)
    assert "1_Dense/model.safetensors were added" in raised.value.args[0]


def test_tensors_are_read_from_safetensors_and_from_tensor_only_pickles(cache: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    tensors = read_tensors(folder / "model.safetensors")
    for legacy in (False, True):
        torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
        again = read_tensors(folder / "pytorch_model.bin")
        assert all(torch.equal(again[name], value) for name, value in tensors.items())
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]
    (folder / "model.safetensors").unlink()
    assert [path.name for path in weight_files(folder)] == ["pytorch_model.bin"]
    assert find_model(folder, cache=cache).sha256 == hash_file(folder / "pytorch_model.bin")


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("harm",)


def test_a_pickle_of_more_than_tensors_is_refused_and_never_run(cache: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    for content, said in (
        ({"a": Harmful()}, "more than tensors"),
        ({"a": 1}, "no plain table"),
        ([torch.ones(1)], "no plain table"),
    ):
        torch.save(content, folder / "pytorch_model.bin")
        with pytest.raises(ModelError, match=said):
            find_model(folder, cache=cache)
    assert not Path("harm").exists()


def test_a_truncated_pickle_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    torch.save({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        check_weights(folder)


@pytest.mark.parametrize("holder", ["config.json", "tokenizer_config.json", "modules.json"])
def test_a_model_that_brings_code_is_refused(holder: str, cache: Path, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "mine")
    if holder == "modules.json":
        (folder / holder).write_text('[{"path": "", "type": "custom_st.Transformer"}]')
    else:
        (folder / holder).write_text('{"model_type": "new", "auto_map": {"AutoModel": "modeling.New"}}')
    with pytest.raises(ModelError, match="its own Python code") as caught:
        find_model(folder, cache=cache)
    assert holder in caught.value.where


def test_a_remembered_hash_is_dropped_when_the_file_changes(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = hash_file(path, cache)
    assert known_hash(path, cache) is None  # too young to be remembered
    monkeypatch.setattr("whet.backbones.weights._YOUNGEST", -1.0)
    assert hash_file(path, cache) == first
    assert known_hash(path, cache) == first
    before = path.stat().st_mtime_ns
    path.write_bytes(b"two")
    os.utime(path, ns=(before, before))
    assert known_hash(path, cache) is None
    assert hash_file(path, cache) != first
    note = next((cache / "hashes").iterdir())
    for torn in ("", "[]", "{}", '{"sha256": 5}'):
        note.write_text(torn)
        assert known_hash(path, cache) is None
        assert hash_file(path, cache) == known_hash(path, cache)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file in the way")
    assert find_model(write_model(tmp_path / "mine"), cache=tmp_path / "cache").sha256


def test_models_on_this_disk_are_listed_with_their_origin(cache: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "mine")
    write_model(tmp_path / "runs" / "monday" / "model")
    write_model(tmp_path / "models" / "broken").joinpath("config.json").write_text("{")
    (tmp_path / "models" / "empty").mkdir()
    write_hub_model(tmp_path / "hub", "someone/small")
    found = list_models(cache, [tmp_path / "models", tmp_path / "runs", tmp_path / "absent"])
    assert [(source.origin, source.folder.name) for source in found] == [
        ("packaged", "model"),
        ("folder", "mine"),
        ("folder", "model"),
        ("hub", "a" * 40),
    ]


def test_finding_a_model_loads_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from whet.backbones.source import find_model\n"
        f"find_model(None, cache=Path({str(tmp_path)!r}))\n"
        "assert not {'torch', 'transformers', 'huggingface_hub.hf_api'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
