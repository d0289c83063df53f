"""Which files of a model folder hold its weights, are they whole, and what is in them?

Checks read headers, not tensors, and need no torch unless a file is a pickle. Nothing is unpickled beyond
what torch's weights-only reader accepts. Hashes are streamed and remembered by path, size and times.
"""

import hashlib
import json
import os
import time
from collections import Counter
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whet.errors import ModelError

if TYPE_CHECKING:
    import torch

RECORD = "whet.json"  # in a model folder that whet wrote; its "weights" and "files" map relative names to sha256

_PICKLED = (".bin", ".pt", ".pth", ".th")
_NOT_WEIGHTS = ("adapter_", "training_args", "optimizer", "scheduler", "rng_state", "scaler")
_LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors format
_LFS_POINTER = b"version https://git-lfs"
_YOUNGEST = 2.0  # seconds; a younger file could change again within one tick of the clock, so its hash is not kept
_ITEM_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
    "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip

_TYPE_NAMES = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64",
    "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
}  # fmt: skip


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights of ``folder`` itself, subfolders apart; pickles only if no safetensors."""
    for single, endings in (("model.safetensors", (".safetensors",)), ("pytorch_model.bin", _PICKLED)):
        if (folder / single).is_file():
            return [folder / single]
        if (folder / f"{single}.index.json").is_file():
            return _shards(folder / f"{single}.index.json")
        found = [path for path in sorted(folder.iterdir()) if path.suffix in endings and path.is_file()]
        found = [path for path in found if not path.stem.startswith(_NOT_WEIGHTS)]
        if found:
            return found
    return []


def check_file(path: Path) -> None:
    """Is this weight file whole and safe to open? Its tensors are not read.

    Raises:
        ModelError: missing, truncated, a placeholder, not what its name says, or a pickle of more than tensors.
    """
    if not path.is_file():
        raise ModelError(
            f"The weight file {path.name} is missing.", where=str(path.parent), fix="copy or download the model again"
        )
    with path.open("rb") as file:
        start = file.read(len(_LFS_POINTER))
    if start == _LFS_POINTER:
        raise ModelError(
            f"{path.name} is a Git LFS pointer, not the weights.", where=str(path), fix="run 'git lfs pull' there"
        )
    if path.suffix == ".safetensors":
        read_header(path)
    else:
        _unpickle(path, device="meta")


def read_header(path: Path) -> dict[str, Any]:
    """The tensor table of a safetensors file: name -> dtype, shape, data_offsets; checked against the file's size.

    Raises:
        ModelError: the file is shorter or longer than its header says, or the header makes no sense.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise _broken(path, f"is truncated or no safetensors file: its {size} bytes do not hold its header")
        if length > _LARGEST_HEADER:
            raise _broken(path, "has no readable header")
        try:
            table = json.loads(file.read(length))
            table.pop("__metadata__", None)
            spans = sorted((*entry["data_offsets"], name, _bytes_of(entry)) for name, entry in table.items())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _broken(path, "has no readable header") from error
    end = 0
    for start, stop, name, expected in spans:
        if start != end or (expected is not None and stop - start != expected):
            raise _broken(path, f"has a header that does not fit its tensor {name!r}")
        end = stop
    if 8 + length + end != size:
        state = "is truncated" if size < 8 + length + end else "has bytes after its last tensor"
        raise _broken(path, f"{state}: {size} bytes where its header says {8 + length + end}")
    return dict(table)


def read_tensors(path: Path) -> "dict[str, torch.Tensor]":
    """Every tensor of a weight file, on the CPU. Pickled files go through torch's weights-only reader.

    Raises:
        ModelError: the file is damaged, or holds more than named tensors.
    """
    check_file(path)
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return _unpickle(path, device="cpu")


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor by name; no tensor is read."""
    if path.suffix == ".safetensors":
        return {name: tuple(entry["shape"]) for name, entry in read_header(path).items()}
    return {name: tuple(tensor.shape) for name, tensor in _unpickle(path, device="meta").items()}


def stored_numbers(path: Path) -> dict[str, int]:
    """How many numbers of each type a weight file holds, types by torch's names."""
    found: Counter[str] = Counter()
    if path.suffix == ".safetensors":
        for entry in read_header(path).values():
            found[_TYPE_NAMES.get(entry["dtype"], str(entry["dtype"]).lower())] += prod(entry["shape"])
    else:
        for tensor in _unpickle(path, device="meta").values():
            found[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return dict(found)


def hash_file(path: Path, cache: Path | None = None) -> str:
    """The sha256 of a file. With ``cache`` it is remembered until the file's size or times change."""
    known = known_hash(path, cache) if cache is not None else None
    if known is not None:
        return known
    before = _stamp(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    settled = time.time() - max(before["mtime_ns"], before["ctime_ns"]) / 1e9 > _YOUNGEST
    if cache is not None and settled and before == _stamp(path):
        note = _note(path, cache)
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            note.parent.mkdir(parents=True, exist_ok=True)
            beside = note.with_suffix(f".{os.getpid()}")
            beside.write_text(json.dumps({**before, "sha256": digest}))
            beside.replace(note)
    return digest


def known_hash(path: Path, cache: Path) -> str | None:
    """The remembered sha256 of a file that did not change since; None if there is none."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        kept = json.loads(_note(path, cache).read_text())
        digest = kept.pop("sha256", None)
        if kept == _stamp(path):
            return digest if isinstance(digest, str) and len(digest) == 64 else None
    return None


def combine(hashes: dict[str, str]) -> str:
    """One sha256 for several files by relative name; for a single file its own, as hubs show it."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _stamp(path: Path) -> dict[str, Any]:
    """What changes when a file changes. The change time cannot be set back, so it is part of it."""
    about = path.stat()
    return {
        "path": os.fspath(path.resolve()),
        "bytes": about.st_size,
        "mtime_ns": about.st_mtime_ns,
        "ctime_ns": about.st_ctime_ns,
    }


def _note(path: Path, cache: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return cache / "hashes" / f"{name}.json"


def _shards(index: Path) -> list[Path]:
    """The files that an index names, whether they exist or not."""
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
        outside = [name for name in names if Path(name).name != name]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _broken(index, "is not a readable index of weight files") from error
    if outside or not names:
        raise _broken(index, "is not an index of files in its own folder")
    return [index.parent / name for name in names]


def _bytes_of(entry: dict[str, Any]) -> int | None:
    """Bytes that a tensor's dtype and shape ask for; None for a dtype newer than this table."""
    size = _ITEM_BYTES.get(entry["dtype"])
    return None if size is None else size * prod(entry["shape"])


def _unpickle(path: Path, device: str) -> "dict[str, torch.Tensor]":
    """A file of torch.save with tensors only. On device "meta" no tensor is read."""
    import pickle
    import warnings
    import zipfile

    import torch

    try:
        with warnings.catch_warnings():  # about the old format, which is read all the same or refused below
            warnings.simplefilter("ignore", UserWarning)
            found = torch.load(path, map_location=device, weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path.name} holds more than tensors, or is damaged; opening it could run code of whoever made it.",
            where=str(path),
            fix="where you trust it, load it with transformers and save it again: save_pretrained writes safetensors",
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise _broken(path, "is truncated or not a weight file") from error
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelError(
            f"{path.name} is no plain table of named tensors.",
            where=str(path),
            fix="save the model's state_dict() as model.safetensors (safetensors.torch.save_file)",
        )
    return found


def _broken(path: Path, state: str) -> ModelError:
    return ModelError(f"{path.name} {state}.", where=str(path), fix="copy or download the file again")
