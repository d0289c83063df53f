"""A zip of a folder, unpacked: nothing outside the place, no links, no more than the disk holds."""

import hashlib
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from whet.errors import DataError, MachineError

_HELD: list[tempfile.TemporaryDirectory[str]] = []
"""The folder of those that were given no place; it lives until the process ends, for rows name files in it."""


def is_packed(path: Path) -> bool:
    """Whether a file is a zip by its name."""
    return path.suffix.lower() == ".zip" and path.is_file()


def unpacked(path: Path, place: Path | None) -> Path:
    """The folder that a zip holds, below ``place``; None for a temporary one that ends with the process.

    A single folder at its top is entered.

    Raises:
        DataError: it is no zip, damaged, locked, or names files outside itself.
        MachineError: the disk has no room for it.
    """
    about = path.stat()
    tag = hashlib.sha256(f"{path.resolve()} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:8]
    folder = (_temporary() if place is None else place) / f"{path.stem}-{tag}"
    if not folder.exists():
        _unpack(path, folder)
    inside = [one for one in folder.iterdir() if not one.name.startswith((".", "__MACOSX"))]
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _temporary() -> Path:
    if not _HELD:
        _HELD.append(tempfile.TemporaryDirectory(prefix="whet-"))
    return Path(_HELD[0].name)


def _unpack(path: Path, folder: Path) -> None:
    """Beside its place, then renamed, so that it is whole where it is there."""
    beside = folder.with_name(f".{folder.name}.part")
    try:
        beside.mkdir(parents=True)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _refuse_outside(entries, path)
            _require_room(sum(entry.file_size for entry in entries), beside)
            archive.extractall(beside)
        beside.rename(folder)
    except (zipfile.BadZipFile, EOFError, RuntimeError, NotImplementedError) as error:
        raise DataError(
            f"The zip cannot be unpacked: {str(error).rstrip('.')}.",
            where=str(path),
            fix="copy it again, or unpack it yourself and give the folder",
        ) from error
    except OSError as error:
        raise MachineError(
            f"The zip cannot be unpacked: {error.strerror or error}.",
            where=str(folder),
            fix="free some disk space, or name another folder for temporary files (TMPDIR)",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _refuse_outside(entries: list[zipfile.ZipInfo], path: Path) -> None:
    for entry in entries:
        name = PurePosixPath(entry.filename.replace("\\", "/"))
        linked = stat.S_ISLNK(entry.external_attr >> 16)
        if linked or name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            what = "holds a link" if linked else "names a file outside itself"
            raise DataError(
                f"The zip {what}: {entry.filename[:80]!r}.", where=str(path), fix="pack the folder again without it"
            )


def _require_room(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(
            f"The zip unpacks to {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free.",
            where=str(folder),
            fix="free some disk space, or name another folder for temporary files (TMPDIR)",
        )
