"""What does this machine do well? Measured once, then remembered; plans are made from it.

Matrix products are timed in every precision that the processor has in hardware, together with their error
against float64; the plain and the fused attention kernel are timed at a few lengths. Results lie in the cache
folder, one file per machine, library version and device. Fit reads none of this: a plan holds what was chosen.
"""

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache as once
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from whet.backbones.precisions import Precision
from whet.errors import ConfigError
from whet.training.memory import memory_bytes

if TYPE_CHECKING:
    import torch

Attention = Literal["eager", "sdpa"]

# bf16 rounds to 8 bits, so it must pay for that; another float32 library only has to be no less exact
BFLOAT16_GAIN = 1.3
MEDIUM_GAIN = 1.1
MEDIUM_ERROR = 1e-5
IDLE_SHARE = 0.8  # of the cores' time that a product on all of them must get; less means that others compute

_FORMAT = 1  # of the remembered files
_QUICK_SHAPES = ((4096, 384, 1536), (1024, 1024, 1024))  # rows, inner, columns
_STEP_SHAPE = (1024, 384, 1536)
_THOROUGH_SHAPES = (*_QUICK_SHAPES, (4096, 4096, 4096))
_QUICK_SECONDS = 0.02  # for each timed thing, beyond its first call
_THOROUGH_SECONDS = 1.0
_LENGTHS = (16, 64, 256)
_ATTENTION_TOKENS = 1024
_ATTENTION_KEYS = ("eager", "sdpa", "eager-training", "sdpa-training")
_FLAGS = (
    "avx2", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8",
    "asimd", "sve", "sve2", "i8mm", "bf16", "svebf16",
)  # fmt: skip
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16", "svebf16"}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What was found and measured.

    ``cores`` counts the physical cores that this process may use (affinity and container limits respected);
    ``threads`` is the best number measured. ``gemm`` maps a precision to its best GFLOP/s in matrix products,
    ``gemm_error`` to their relative error against float64, ``linear_step`` to the GFLOP/s of a linear layer's
    forward and backward together; all three belong to ``device`` alone. ``thread_gemm`` maps a number of threads
    to float32 GFLOP/s. ``devices`` maps "cuda" and "mps", where present, to their names. ``busy`` says that other
    programs took much of the processor meanwhile; such numbers are used but not remembered.
    """

    processor: str
    cores: int
    features: tuple[str, ...]
    memory_bytes: int
    devices: dict[str, str]
    device: str
    torch_version: str
    gemm: dict[str, float]
    gemm_error: dict[str, float]
    linear_step: dict[str, float]
    threads: int
    thread_gemm: dict[str, float]
    thorough: bool
    busy: bool


@dataclass(frozen=True, kw_only=True)
class PrecisionPath:
    """How to compute: precision of inference and of training, threads, and why in one line."""

    inference: Precision
    training: Precision
    threads: int
    reason: str


def measure_machine(cache: Path, *, device: str = "auto", fresh: bool = False, thorough: bool = False) -> Machine:
    """What this machine is and how fast it computes; measured in about half a second, or read from ``cache``.

    Args:
        cache: whet's cache folder.
        device: "auto", "cpu", "cuda" or "mps".
        fresh: Measure again even if the result is remembered.
        thorough: Also time products of 4096-cubed, for about a second each. Remembered apart.
    """
    device = resolve_device(device)
    found = {**_identity(device), "devices": _devices(), "thorough": thorough}
    note = _note(cache, "machine", found)
    measured = None if fresh else _recall(note, _measured_fields)
    if measured is None:
        measured = _measure(device, found["cores"], thorough)
        if not measured["busy"]:
            _remember(note, measured)
    return Machine(**found, **measured, memory_bytes=memory_bytes())


def choose_path(machine: Machine, device: str) -> PrecisionPath:
    """The fastest path that was measured to be safe; plain float32 where nothing was.

    bf16 needs hardware for it and at least 1.3 times float32's best speed; training judges by forward and
    backward together. "float32-medium" (oneDNN on processors) must be faster at a relative error under 1e-5.
    """
    device = resolve_device(device)
    if device != machine.device or "float32" not in machine.gemm:
        return PrecisionPath(
            inference="float32",
            training="float32",
            threads=machine.threads,
            reason=f"nothing was measured on {device}, so plain float32",
        )
    inference = _fastest(machine.gemm, machine.gemm_error)
    training = _fastest(machine.linear_step, machine.gemm_error)
    speeds = ", ".join(f"{name} {speed:.0f}" for name, speed in machine.gemm.items())
    reason = f"measured on {device}: {speeds} GFLOP/s" + (", while other programs ran" if machine.busy else "")
    return PrecisionPath(inference=inference, training=training, threads=machine.threads, reason=reason)


def measure_attention(
    head_dim: int, heads: int, length: int, dtype: Precision = "float32", *, device: str = "cpu"
) -> dict[str, float]:
    """Seconds of the plain ("eager") and the fused ("sdpa") attention kernel at one shape.

    Keys: "eager" and "sdpa" for the forward alone, "eager-training" and "sdpa-training" with the backward.
    No mask and no dropout: batches hold equal lengths where it matters.
    """
    import torch

    batch = max(1, _ATTENTION_TOKENS // length)
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    shape = (batch, length, heads, head_dim)
    leaves = [torch.randn(shape, generator=generator).to(device, kind).requires_grad_() for _ in range(3)]
    seconds = {}
    with _float32_precision(dtype):
        for name, kernel in (("eager", _eager), ("sdpa", _sdpa)):
            seconds[name] = _best_seconds(partial(_attend, kernel, leaves), device)
            seconds[f"{name}-training"] = _best_seconds(partial(_attend_and_return, kernel, leaves), device)
    return seconds


def choose_attention(
    machine_cache: Path,
    *,
    heads: int,
    head_dim: int,
    length: int,
    training: bool,
    dropout: float = 0.0,
    dtype: Precision = "float32",
    device: str = "auto",
) -> Attention:
    """The faster attention kernel at the measured length nearest to ``length``; measured once, then remembered.

    With dropout on a processor the fused kernel falls back to slow code, so the plain one is taken unmeasured.
    """
    device = resolve_device(device)
    if training and dropout > 0 and device == "cpu":
        return "eager"
    nearest = min(_LENGTHS, key=lambda known: abs(known.bit_length() - max(length, 1).bit_length()))
    about = {**_identity(device), "shape": [heads, head_dim, nearest], "dtype": dtype}
    note = _note(machine_cache, "attention", about)
    seconds = _recall(note, lambda kept: {name: float(kept[name]) for name in _ATTENTION_KEYS})
    if seconds is None:
        seconds = measure_attention(head_dim, heads, nearest, dtype, device=device)
        _remember(note, seconds)
    suffix = "-training" if training else ""
    return "eager" if seconds[f"eager{suffix}"] < seconds[f"sdpa{suffix}"] else "sdpa"


def resolve_device(device: str = "auto") -> str:
    """The device that "auto" stands for, or the one asked for.

    Raises:
        ConfigError: no such device is known, or this machine has none.
    """
    import torch

    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if present[name])
    if not present.get(device, False):
        known = device in present
        raise ConfigError(
            f"This machine has no {device} device." if known else f"There is no device named {device!r}.",
            where="device",
            fix="use " + " or ".join(["auto", *(name for name, there in present.items() if there)]),
        )
    return device


def usable_cores() -> int:
    """Physical cores that this process may use: its affinity, the limits of its container, and OMP_NUM_THREADS."""
    import psutil

    named = os.environ.get("OMP_NUM_THREADS", "")
    told = int(named) if named.isdigit() and int(named) else None
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    places = {_core_of(number) for number in allowed}
    physical = len(places) if None not in places else min(psutil.cpu_count(logical=False) or 1, len(allowed))
    return max(1, min(physical, int(_container_cores() or physical), told or physical))


def free_bytes(path: Path) -> int:
    """Free disk space where ``path`` lies or will lie."""
    place = path.absolute()
    return shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.exists())).free


@once
def processor_name() -> str:
    """The processor's name with family, model and stepping where Linux tells them."""
    about = _cpuinfo()
    name = about.get("model name") or about.get("hardware") or platform.processor() or platform.machine()
    numbers = "/".join(about[key] for key in ("cpu family", "model", "stepping") if key in about)
    return f"{name} ({numbers})" if numbers else name


@once
def processor_features() -> tuple[str, ...]:
    """Which vector and matrix extensions the processor has, of those that matter here."""
    import torch

    listed = set((_cpuinfo().get("flags") or _cpuinfo().get("features") or "").split())
    if not listed:
        capability = torch.backends.cpu.get_cpu_capability()
        listed = {"AVX2": {"avx2"}, "AVX512": {"avx2", "avx512f"}}.get(capability, set())
    return tuple(flag for flag in _FLAGS if flag in listed)


@once
def _cpuinfo() -> dict[str, str]:
    """The first processor that Linux describes, keys in lower case; empty elsewhere."""
    with suppress(OSError, UnicodeError):
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
        pairs = (line.partition(":") for line in first.splitlines())
        return {key.strip().lower(): value.strip() for key, _, value in pairs}
    return {}


def _core_of(number: int) -> tuple[str, str] | None:
    """Package and core of one logical processor; None where the system does not say."""
    place = Path(f"/sys/devices/system/cpu/cpu{number}/topology")
    with suppress(OSError):
        return (place / "physical_package_id").read_text(), (place / "core_id").read_text()
    return None


def _container_cores() -> float | None:
    """How many processors' worth of time the container grants; None where it sets no limit."""
    with suppress(OSError, ValueError):  # version 2 of control groups; the quota may be "max"
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return float(quota) / float(period)
    with suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if float(quota) > 0 else None
    return None


def _identity(device: str) -> dict[str, Any]:
    """What a measurement holds for."""
    import torch

    return {
        "processor": processor_name(),
        "cores": usable_cores(),
        "features": processor_features(),
        "device": device,
        "torch_version": str(torch.__version__),
    }


def _devices() -> dict[str, str]:
    import torch

    devices = {}
    if torch.cuda.is_available():
        devices["cuda"] = torch.cuda.get_device_name()
    if torch.backends.mps.is_available():
        devices["mps"] = platform.machine()
    return devices


def _measure(device: str, cores: int, thorough: bool) -> dict[str, Any]:
    """The measured fields of a Machine."""
    import torch

    before = torch.get_num_threads()
    seconds = _THOROUGH_SECONDS if thorough else _QUICK_SECONDS
    shapes = _THOROUGH_SHAPES if thorough else _QUICK_SHAPES
    precisions = _precisions(device)
    try:
        by_threads, busy = {}, False
        for count in sorted({1, cores}) if device == "cpu" else []:
            torch.set_num_threads(count)
            wall, own = time.perf_counter(), time.process_time()
            by_threads[count] = _gemm_speed("float32", _QUICK_SHAPES[1], device, seconds)
            busy = time.process_time() - own < IDLE_SHARE * count * (time.perf_counter() - wall)
        threads = cores if busy else max(by_threads, key=lambda count: (by_threads[count], count), default=cores)
        torch.set_num_threads(threads)
        return {
            "gemm": {name: max(_gemm_speed(name, shape, device, seconds) for shape in shapes) for name in precisions},
            "gemm_error": {name: _gemm_error(name, device) for name in precisions},
            "linear_step": {name: _step_speed(name, _STEP_SHAPE, device, seconds) for name in precisions},
            "threads": threads,
            "thread_gemm": {str(count): speed for count, speed in by_threads.items()},
            "busy": busy,
        }
    finally:
        torch.set_num_threads(before)


def _precisions(device: str) -> list[Precision]:
    """The precisions worth timing: bf16 only where hardware has it, for emulation is never fast."""
    import torch

    if device == "mps":
        return ["float32"]
    hardware = bool(_BFLOAT16_FLAGS.intersection(processor_features()))
    if device == "cuda":
        hardware = torch.cuda.is_bf16_supported(including_emulation=False)
    return ["float32", "float32-medium", *(["bfloat16"] if hardware else [])]  # type: ignore[list-item]


def _operands(name: Precision, shape: tuple[int, int, int], device: str) -> "tuple[torch.Tensor, torch.Tensor]":
    """Two float-valued matrices, (rows, inner) and (columns, inner), as a linear layer multiplies them."""
    import torch

    rows, inner, columns = shape
    generator = torch.Generator().manual_seed(0)
    kind = torch.bfloat16 if name == "bfloat16" else torch.float32
    few = torch.rand(64, inner, generator=generator).sub_(0.5).to(device, kind)
    return few.repeat(rows // 64, 1), few.flip(1).repeat(columns // 64, 1)  # drawing every row takes longer


def _gemm_speed(name: Precision, shape: tuple[int, int, int], device: str, seconds: float) -> float:
    """GFLOP/s of one matrix product."""
    import torch

    left, right = _operands(name, shape, device)
    with _float32_precision(name), torch.inference_mode():
        taken = _best_seconds(partial(torch.nn.functional.linear, left, right), device, seconds)
    return 2 * shape[0] * shape[1] * shape[2] / taken / 1e9


def _step_speed(name: Precision, shape: tuple[int, int, int], device: str, seconds: float) -> float:
    """GFLOP/s of a linear layer's forward and both products of its backward."""
    import torch

    left, right = (side.requires_grad_() for side in _operands(name, shape, device))
    upstream = torch.ones(shape[0], shape[2], dtype=left.dtype, device=device)

    def step() -> None:
        torch.autograd.grad(torch.nn.functional.linear(left, right), (left, right), upstream)

    with _float32_precision(name):
        taken = _best_seconds(step, device, seconds)
    return 6 * shape[0] * shape[1] * shape[2] / taken / 1e9


def _gemm_error(name: Precision, device: str) -> float:
    """Relative error of a product, in the Frobenius norm, against the same operands in float64."""
    import torch

    left, right = _operands(name, (256, 1024, 256), device)
    with _float32_precision(name), torch.inference_mode():
        product = torch.nn.functional.linear(left, right).cpu().double()
        exact = torch.nn.functional.linear(left.cpu().double(), right.cpu().double())
        return float((product - exact).norm() / exact.norm())


def _fastest(speeds: dict[str, float], errors: dict[str, float]) -> Precision:
    """The rule of ``choose_path`` over one table of speeds."""
    best: Precision = "float32"
    speed = speeds["float32"]
    if speeds.get("float32-medium", 0.0) >= MEDIUM_GAIN * speed and errors["float32-medium"] < MEDIUM_ERROR:
        best, speed = "float32-medium", speeds["float32-medium"]
    return "bfloat16" if speeds.get("bfloat16", 0.0) >= BFLOAT16_GAIN * speed else best


@contextmanager
def _float32_precision(name: Precision) -> Iterator[None]:
    """Run float32 products the way that ``name`` says, then as before."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium" if name == "float32-medium" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def _best_seconds(work: Callable[[], object], device: str, budget: float = _QUICK_SECONDS) -> float:
    """The shortest of several runs, at least two and for ``budget`` seconds at least; the first is often slow."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else torch.mps.synchronize if device == "mps" else _nothing
    runs: list[float] = []
    while len(runs) < 2 or sum(runs) < budget:
        start = time.perf_counter()
        work()
        wait()
        runs.append(time.perf_counter() - start)
    return min(runs)


def _nothing() -> None:
    """A processor has finished when the call returns."""


def _eager(query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor") -> "torch.Tensor":
    """Attention as the transformers library writes it out."""
    weights = (query @ key.transpose(2, 3)) * query.shape[-1] ** -0.5
    out: torch.Tensor = weights.softmax(dim=-1) @ value
    return out


def _sdpa(query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.nn.functional.scaled_dot_product_attention(query, key, value)


Kernel = Callable[["torch.Tensor", "torch.Tensor", "torch.Tensor"], "torch.Tensor"]


def _attend(kernel: Kernel, leaves: "list[torch.Tensor]") -> "torch.Tensor":
    """Forward alone, from and to the (B batch, T time, H heads, D size) layout of a model."""
    import torch

    with torch.inference_mode():
        return _attend_plain(kernel, leaves)


def _attend_plain(kernel: Kernel, leaves: "list[torch.Tensor]") -> "torch.Tensor":
    query, key, value = (leaf.transpose(1, 2) for leaf in leaves)
    out: torch.Tensor = kernel(query, key, value).transpose(1, 2).contiguous()
    return out


def _attend_and_return(kernel: Kernel, leaves: "list[torch.Tensor]") -> None:
    import torch

    out = _attend_plain(kernel, leaves)
    torch.autograd.grad(out, leaves, torch.ones_like(out))


T = TypeVar("T")


def _note(cache: Path, kind: str, about: dict[str, Any]) -> Path:
    """Where a measurement is remembered; its name follows from everything it holds for."""
    key = json.dumps({"format": _FORMAT, **about}, sort_keys=True)
    return cache / "machine" / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _recall(note: Path, read: Callable[[dict[str, Any]], T]) -> T | None:
    """What was remembered; None if there is nothing, or nothing readable."""
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        return read(json.loads(note.read_text()))
    return None


def _remember(note: Path, measured: dict[str, Any]) -> None:
    """Written beside, then renamed. A cache that cannot be written costs time, nothing else."""
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        beside = note.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(measured, indent=1))
        beside.replace(note)


def _measured_fields(kept: dict[str, Any]) -> dict[str, Any]:
    """The measured fields of a Machine out of a remembered file; raises where one is missing or no number."""
    maps = ("gemm", "gemm_error", "linear_step", "thread_gemm")
    fields: dict[str, Any] = {name: {key: float(value) for key, value in kept[name].items()} for name in maps}
    return {**fields, "threads": int(kept["threads"]), "busy": bool(kept["busy"])}
