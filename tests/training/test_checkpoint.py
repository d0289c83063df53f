"""Law 11: a checkpoint is whole or not there, and the one before a damaged one is used."""

import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from whet.training import checkpoint
from whet.training.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint

FILES = ("tensors.safetensors", "state.json")


def tensors_of(number: int) -> dict[str, torch.Tensor]:
    return {"a": torch.full((5, 3), float(number)), "step": torch.tensor(float(number))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (1, 2):
        save_checkpoint(tmp_path, number, tensors_of(number), {"step": number, "best_loss": float("inf")})
    return tmp_path


def test_what_was_saved_comes_back_and_two_are_kept(folder: Path) -> None:
    path = save_checkpoint(folder, 3, tensors_of(3), {"step": 3})
    assert sorted(item.name for item in folder.iterdir()) == ["step-000000002", "step-000000003"]
    found, damaged = load_checkpoint(folder)
    assert found is not None
    tensors, state = found
    assert all(torch.equal(tensors[name], tensor) for name, tensor in tensors_of(3).items())
    assert (state, damaged, path.name) == ({"step": 3}, [], "step-000000003")


@pytest.mark.parametrize("name", FILES)
def test_a_bit_flipped_anywhere_is_detected(folder: Path, name: str) -> None:
    path = folder / "step-000000002" / name
    whole = path.read_bytes()
    body = len(whole.rstrip(b"\n"))
    for place in sorted({0, body - 1, *random.Random(0).sample(range(body), 40)}):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(bytes(data))
        assert read_checkpoint(path.parent) is None, f"byte {place} of {name}"
    found, damaged = load_checkpoint(folder)
    assert found is not None
    assert found[1]["step"] == 1
    assert [one.name for one in damaged] == ["step-000000002"]


@pytest.mark.parametrize("name", FILES)
def test_a_torn_file_is_detected(folder: Path, name: str) -> None:
    path = folder / "step-000000002" / name
    whole = path.read_bytes()
    body = len(whole.rstrip(b"\n"))
    for size in sorted({0, 1, body - 1, *random.Random(0).sample(range(body), 20)}):
        path.write_bytes(whole[:size])
        assert read_checkpoint(path.parent) is None, f"{size} bytes of {name}"
    path.write_bytes(whole + b"x")
    assert read_checkpoint(path.parent) is None
    path.unlink()
    found, _ = load_checkpoint(folder)
    assert found is not None
    assert found[1]["step"] == 1


def test_files_of_two_checkpoints_do_not_pass_for_one(folder: Path) -> None:
    for name in FILES:
        mixed = folder / "step-000000009"
        shutil.copytree(folder / "step-000000002", mixed)
        shutil.copyfile(folder / "step-000000001" / name, mixed / name)
        assert read_checkpoint(mixed) is None
        shutil.rmtree(mixed)


def test_nothing_whole_means_a_new_start(folder: Path) -> None:
    for path in folder.glob("step-*/state.json"):
        path.write_text("{}")
    assert load_checkpoint(folder) == (None, [folder / "step-000000002", folder / "step-000000001"])
    assert load_checkpoint(folder / "never") == (None, [])


def test_a_full_disk_leaves_nothing_half_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, parts: Iterable[bytes]) -> None:
        path.write_bytes(next(iter(parts)))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_flushed", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(folder, 3, tensors_of(3), {"step": 3})
    assert sorted(item.name for item in folder.iterdir()) == ["step-000000001", "step-000000002"]


def test_what_a_killed_run_was_writing_is_removed(folder: Path) -> None:
    (folder / ".new-000000003").mkdir()
    (folder / ".new-000000003" / "tensors.safetensors").write_bytes(b"half")
    assert load_checkpoint(folder)[0] is not None
    save_checkpoint(folder, 4, tensors_of(4), {"step": 4})
    assert not list(folder.glob(".new-*"))


def test_saving_a_number_again_replaces_it(folder: Path) -> None:
    save_checkpoint(folder, 2, tensors_of(7), {"step": 2, "again": True})
    found, _ = load_checkpoint(folder)
    assert found is not None
    assert found[1] == {"step": 2, "again": True}
    assert float(found[0]["step"]) == 7.0
