"""Measuring the machine: what is remembered, what is chosen, and what is never changed by it."""

import json
from pathlib import Path

import pytest
import torch

from whet.errors import ConfigError
from whet.training import machine as room
from whet.training.machine import (
    Machine,
    choose_attention,
    choose_path,
    free_bytes,
    measure_attention,
    measure_machine,
    resolve_device,
    usable_cores,
)
from whet.training.memory import memory_bytes, peak_memory_bytes

FAST = {
    "gemm": {"float32": 100.0, "float32-medium": 105.0, "bfloat16": 400.0},
    "gemm_error": {"float32": 2e-7, "float32-medium": 4e-7, "bfloat16": 2e-3},
    "linear_step": {"float32": 90.0, "float32-medium": 180.0, "bfloat16": 200.0},
    "threads": 2,
    "thread_gemm": {"1": 60.0, "2": 100.0},
    "busy": False,
}


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measurements in place of real ones, counted."""
    calls: list[str] = []

    def measure(device: str, cores: int, thorough: bool) -> dict[str, object]:
        calls.append(device)
        return dict(FAST)

    monkeypatch.setattr(room, "_measure", measure)
    return calls


def machine(**changes: object) -> Machine:
    fixed = {
        "processor": "a processor", "cores": 2, "features": (), "memory_bytes": 1, "devices": {},
        "device": "cpu", "torch_version": "1", "thorough": False,
    }  # fmt: skip
    return Machine(**{**fixed, **FAST, **changes})  # type: ignore[arg-type]


def test_a_real_measurement_is_complete_and_leaves_torch_as_it_was(tmp_path: Path) -> None:
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.initial_seed()
    found = measure_machine(tmp_path, device="cpu")
    assert (torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.initial_seed()) == before
    assert {"float32", "float32-medium"} <= set(found.gemm) == set(found.gemm_error) == set(found.linear_step)
    assert all(speed > 0 for speed in (*found.gemm.values(), *found.linear_step.values()))
    assert found.gemm_error["float32"] < 1e-5
    assert 1 <= found.threads <= found.cores == usable_cores()
    assert ("bfloat16" in found.gemm) == bool(room._BFLOAT16_FLAGS & set(found.features))


def test_a_measurement_is_made_once_and_remembered(tmp_path: Path, counted: list[str]) -> None:
    first = measure_machine(tmp_path, device="cpu")
    again = measure_machine(tmp_path, device="cpu")
    assert again == first
    assert len(counted) == 1
    measure_machine(tmp_path, device="cpu", thorough=True)
    measure_machine(tmp_path, device="cpu", fresh=True)
    assert len(counted) == 3


@pytest.mark.parametrize("torn", ["", "[1]", "{}", '{"gemm": {"float32": "fast"}}', '{"gemm": null}', "\x00"])
def test_a_damaged_cache_is_measured_anew(torn: str, tmp_path: Path, counted: list[str]) -> None:
    measure_machine(tmp_path, device="cpu")
    (note,) = (tmp_path / "machine").iterdir()
    note.write_text(torn)
    assert measure_machine(tmp_path, device="cpu").gemm == FAST["gemm"]
    assert len(counted) == 2
    assert json.loads(note.read_text())["gemm"] == FAST["gemm"]


def test_another_library_version_is_measured_anew(
    tmp_path: Path, counted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_machine(tmp_path, device="cpu")
    monkeypatch.setattr(torch, "__version__", "99.0")
    measure_machine(tmp_path, device="cpu")
    assert len(counted) == 2


def test_a_busy_moment_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_measure", lambda *_: {**FAST, "busy": True})
    assert measure_machine(tmp_path, device="cpu").busy
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, counted: list[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    assert measure_machine(tmp_path / "file", device="cpu").gemm == FAST["gemm"]


def test_the_fastest_safe_path_is_chosen_for_each_use() -> None:
    path = choose_path(machine(), "cpu")
    assert (path.inference, path.training, path.threads) == ("bfloat16", "float32-medium", 2)
    assert "400" in path.reason


def test_bf16_is_not_chosen_for_a_small_gain_nor_medium_for_a_large_error() -> None:
    speeds = {"float32": 100.0, "float32-medium": 300.0, "bfloat16": 125.0}
    errors = {"float32": 2e-7, "float32-medium": 1e-3, "bfloat16": 2e-3}
    path = choose_path(machine(gemm=speeds, linear_step=speeds, gemm_error=errors), "cpu")
    assert (path.inference, path.training) == ("float32", "float32")


def test_what_was_not_measured_runs_in_plain_float32() -> None:
    for unknown in (machine(device="cuda"), machine(gemm={}, linear_step={})):
        path = choose_path(unknown, "cpu")
        assert (path.inference, path.training) == ("float32", "float32")
        assert "nothing was measured" in path.reason


def test_attention_is_measured_once_for_a_shape_and_the_faster_kernel_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def measure(head_dim: int, heads: int, length: int, dtype: str, *, device: str) -> dict[str, float]:
        calls.append(length)
        return {"eager": 2.0, "sdpa": 1.0, "eager-training": 1.0, "sdpa-training": 2.0}

    monkeypatch.setattr(room, "measure_attention", measure)
    shape = {"heads": 2, "head_dim": 8, "device": "cpu"}
    assert choose_attention(tmp_path, length=20, training=False, **shape) == "sdpa"  # type: ignore[arg-type]
    assert choose_attention(tmp_path, length=16, training=True, **shape) == "eager"  # type: ignore[arg-type]
    assert choose_attention(tmp_path, length=5000, training=False, **shape) == "sdpa"  # type: ignore[arg-type]
    assert calls == [16, 256]
    for note in (tmp_path / "machine").iterdir():
        note.write_text('{"eager": 1}')
    choose_attention(tmp_path, length=16, training=True, **shape)  # type: ignore[arg-type]
    assert calls == [16, 256, 16]


def test_dropout_in_training_takes_the_plain_kernel_unmeasured(tmp_path: Path) -> None:
    chosen = choose_attention(tmp_path, heads=2, head_dim=8, length=16, training=True, dropout=0.1, device="cpu")
    assert chosen == "eager"
    assert not list(tmp_path.iterdir())


def test_both_attention_kernels_compute_the_same() -> None:
    query, key, value = (torch.randn(2, 3, 5, 4, dtype=torch.float64) for _ in range(3))
    torch.testing.assert_close(room._eager(query, key, value), room._sdpa(query, key, value))
    seconds = measure_attention(4, 2, 8)
    assert set(seconds) == {"eager", "sdpa", "eager-training", "sdpa-training"}
    assert all(value > 0 for value in seconds.values())


def test_a_device_is_resolved_or_refused() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda", "mps")
    with pytest.raises(ConfigError, match="no device named 'gpu'"):
        resolve_device("gpu")
    for absent in ("cuda", "mps"):
        if resolve_device("auto") == "cpu":
            with pytest.raises(ConfigError, match=f"no {absent} device"):
                resolve_device(absent)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")
def test_a_cuda_device_is_measured(tmp_path: Path) -> None:
    found = measure_machine(tmp_path, device="cuda")
    assert found.gemm["float32"] > 0
    assert choose_path(found, "cuda").inference in ("float32", "bfloat16")
    assert choose_attention(tmp_path, heads=2, head_dim=32, length=64, training=True, device="cuda")


def test_a_container_limit_lowers_the_core_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_container_cores", lambda: 0.5)
    assert usable_cores() == 1
    monkeypatch.setattr(room, "_container_cores", lambda: 10_000.0)
    assert usable_cores() >= 1


def test_a_limit_of_threads_that_the_environment_sets_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    every = usable_cores()
    for told, cores in (("1", 1), ("100000", every), ("0", every), ("4,2", every), ("", every)):
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        assert usable_cores() == cores


def test_memory_and_disk_are_told_in_bytes(tmp_path: Path) -> None:
    assert 10**6 < peak_memory_bytes() < memory_bytes()
    assert free_bytes(tmp_path / "not" / "there" / "yet") > 0
