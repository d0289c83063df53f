"""Frozen activations on disk: computed once for an example, found again by its content.

A cache is a folder per key; the key holds everything that could change a value (weights below the cut, the cut,
preprocessing, precision, kernel, library and format versions). In it lie segments, each written beside and then
renamed, so a killed run leaves nothing that could be mistaken for one. Values are memory-mapped.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from whet.data.ragged import Ragged
from whet.tasks.task import Examples

FORMAT = 1
Array = np.ndarray[Any, Any]


def content_keys(examples: Examples) -> Array:
    """(E, 2) uint64: a hash of each example's inputs and their shapes, and of the view that they are looked at by."""
    found = np.empty((len(examples), 2), np.uint64)
    view = b"" if examples.view is None else examples.view.key().encode()
    for position in range(len(examples)):
        number = content(examples.inputs, position)
        if view:
            number = xxhash.xxh3_128_intdigest(number.to_bytes(16) + view)
        found[position] = number >> 64, number & 0xFFFFFFFFFFFFFFFF
    return found


def content(inputs: Mapping[str, Ragged], position: int) -> int:
    """128 bits that follow from one piece's shapes and values."""
    digest = xxhash.xxh3_128()
    for ragged in inputs.values():
        array = ragged[position]
        digest.update(repr(array.shape).encode())
        digest.update(array.tobytes())
    return digest.intdigest()


class ActivationCache:
    """Named arrays of examples under one key.

    Args:
        folder: The key's own folder; made when something is added.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segments: list[dict[str, Ragged]] = []
        self._loaded: set[str] = set()
        self._places: dict[tuple[int, int], tuple[int, int]] = {}
        self._load()

    @staticmethod
    def key(parts: Mapping[str, Any]) -> str:
        """A folder name that depends on every part."""
        text = json.dumps({"format": FORMAT, **parts}, sort_keys=True, default=str)
        return xxhash.xxh3_128_hexdigest(text.encode())

    def missing(self, keys: Array) -> Array:
        """Positions of keys that are not here."""
        return np.array([i for i, key in enumerate(map(tuple, keys.tolist())) if key not in self._places], np.int64)

    def get(self, keys: Array) -> dict[str, Ragged]:
        """The arrays of these keys, all of which must be here, in their order."""
        places = [self._places[key] for key in map(tuple, keys.tolist())]
        used = sorted({segment for segment, _ in places})
        found: dict[str, Ragged] = {}
        for name in self._segments[used[0]] if used else ():
            if len(used) == 1:
                found[name] = self._segments[used[0]][name].take(np.array([place for _, place in places]))
                continue
            arrays = [self._segments[segment][name][place] for segment, place in places]
            found[name] = Ragged.pack(arrays)
        return found

    def add(self, keys: Array, arrays: Mapping[str, Ragged]) -> None:
        """Keep the arrays of these keys: written beside, flushed, renamed.

        Where the disk is full or may not be written, they stay in memory: a cache costs time, never a run.
        """
        try:
            self._write(keys, arrays)
        except OSError:
            self._hold(keys, arrays)
        else:
            self._load()
            if len(self.missing(keys)):  # another run took it away
                self._hold(keys, arrays)

    def _write(self, keys: Array, arrays: Mapping[str, Ragged]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=".new-", dir=self.folder))
        try:
            save_array(beside / "keys.npy", keys)
            for name, ragged in arrays.items():
                packed = ragged.compact()
                save_array(beside / f"{name}.values.npy", packed.values)
                save_array(beside / f"{name}.shapes.npy", packed.shapes)
            name = "segment-" + xxhash.xxh3_64_hexdigest(keys.tobytes())
            with suppress(OSError):  # another run was as quick, or a damaged one is there
                beside.rename(self.folder / name)
            if read_segment(self.folder / name) is None:
                shutil.rmtree(self.folder / name, ignore_errors=True)
                beside.rename(self.folder / name)
        finally:
            shutil.rmtree(beside, ignore_errors=True)

    def _load(self) -> None:
        if not self.folder.exists():
            return
        with suppress(OSError):  # it may belong to another user
            os.utime(self.folder)
        for path in sorted(self.folder.glob("segment-*")):
            if path.name in self._loaded:
                continue
            segment = read_segment(path)
            if segment is None:
                continue
            self._loaded.add(path.name)
            self._hold(*segment)

    def _hold(self, keys: Array, arrays: Mapping[str, Ragged]) -> None:
        self._segments.append(dict(arrays))
        number = len(self._segments) - 1
        for place, key in enumerate(map(tuple, keys.tolist())):
            self._places.setdefault(key, (number, place))


def read_segment(path: Path) -> tuple[Array, dict[str, Ragged]] | None:
    """One segment, or None if it is damaged: its rows are then computed again."""
    try:
        keys = np.load(path / "keys.npy", allow_pickle=False)
        arrays = {}
        for shapes_path in sorted(path.glob("*.shapes.npy")):
            name = shapes_path.name.removesuffix(".shapes.npy")
            values = np.load(path / f"{name}.values.npy", mmap_mode="c", allow_pickle=False)
            arrays[name] = Ragged.of(values, np.load(shapes_path, allow_pickle=False))
            if len(arrays[name]) != len(keys) or arrays[name].nbytes != values.nbytes:
                return None
    except (OSError, ValueError, EOFError):
        return None
    return keys, arrays


def save_array(path: Path, array: Array) -> None:
    """One .npy file, flushed to the disk."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def trim(folder: Path, most_bytes: int) -> int:
    """Delete the least recently used caches in ``folder`` until the rest takes ``most_bytes``; returns bytes freed.

    A cache that another run has open stays readable to it where the system allows that, and is missing elsewhere only
    for runs to come.
    """
    if not folder.exists():
        return 0
    total = freed = 0
    for path in sorted(folder.iterdir(), key=last_used, reverse=True):
        with suppress(OSError):  # another run may be at the same work
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            total += size
            if total > most_bytes:
                shutil.rmtree(path, ignore_errors=True)
                freed += size
    return freed


def last_used(path: Path) -> float:
    """When a cache was last opened, 0 if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
