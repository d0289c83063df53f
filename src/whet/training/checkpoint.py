"""Checkpoints that are whole or not there: written beside, flushed, hashed, renamed.

A checkpoint is a folder with tensors.safetensors and state.json, which holds the hash of the tensors and of
itself. A torn or altered one is detected on reading and the one before is used; two are kept.
"""

import json
import os
import shutil
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import xxhash
from torch import Tensor

KEPT = 2
KINDS = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What the format calls the kinds of numbers."""


def save_checkpoint(folder: Path, number: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write checkpoint ``number``; older ones beyond two are deleted afterwards.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing half-written stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    beside, final = folder / f".new-{number:09d}", folder / f"step-{number:09d}"
    for left in folder.glob(".new-*"):  # what a killed run was writing
        shutil.rmtree(left, ignore_errors=True)
    try:
        beside.mkdir()
        digest = write_flushed(beside / "tensors.safetensors", safetensors_of(tensors))
        body = json.dumps({"tensors": digest, "state": state}, sort_keys=True)
        write_flushed(beside / "state.json", [f"{xxhash.xxh3_128_hexdigest(body.encode())}\n{body}\n".encode()])
        shutil.rmtree(final, ignore_errors=True)
        beside.rename(final)
        flush_folder(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    for old in sorted(folder.glob("step-*"))[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return final


Whole = tuple[dict[str, Tensor], dict[str, Any]]
"""Tensors and state of a checkpoint."""


def load_checkpoint(folder: Path) -> tuple[Whole | None, list[Path]]:
    """The newest whole checkpoint, if there is one, and the damaged ones that were passed over."""
    damaged: list[Path] = []
    for path in sorted(folder.glob("step-*"), reverse=True):
        found = read_checkpoint(path)
        if found is not None:
            return found, damaged
        damaged.append(path)
    return None, damaged


def read_checkpoint(path: Path) -> Whole | None:
    """One checkpoint, or None if it is torn or altered."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        digest, body = (path / "state.json").read_text(encoding="utf-8").split("\n", 1)
        body = body.rstrip("\n")
        data = (path / "tensors.safetensors").read_bytes()
        if digest != xxhash.xxh3_128_hexdigest(body.encode()):  # before anything in it is believed
            return None
        content = json.loads(body)
        if content["tensors"] != xxhash.xxh3_128_hexdigest(data):
            return None
        return load(data), content["state"]
    except (OSError, ValueError, KeyError, TypeError, UnicodeDecodeError, SafetensorError):
        return None


def safetensors_of(tensors: Mapping[str, Tensor]) -> Iterator[Any]:
    """The bytes of a safetensors file, one tensor at a time: the library's own writer holds them all twice."""
    header: dict[str, Any] = {}
    end = 0
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].element_size()))  # so that all lie aligned
    for name, tensor in ordered.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    listed = json.dumps(header).encode()
    listed += b" " * (-len(listed) % 8)
    yield struct.pack("<Q", len(listed)) + listed
    for tensor in ordered.values():
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


def write_flushed(path: Path, parts: Iterable[Any]) -> str:
    """Write and force to the disk; returns the hash of what was written."""
    digest = xxhash.xxh3_128()
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def flush_folder(folder: Path) -> None:
    """Force a rename to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
