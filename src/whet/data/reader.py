"""What is a reader? One function per format, which says the file endings it reads.

A new format is one file and one row in ``catalog.READERS``; other packages register theirs the same way.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet import catalog
from whet.data.rows import Finding, Rows
from whet.errors import ConfigError, DataError

STREAM_BYTES = 64 * 2**20
"""Files above this size are written to a memory-mapped Arrow file instead of being held in memory."""


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What the user said about a file. ``spill`` is a folder for memory-mapped copies; None means a temporary one."""

    encoding: str | None = None
    spill: Path | None = None


Load = Callable[[Path, ReadOptions], tuple[Rows, list[Finding]]]
LoadFolder = Callable[[Path], tuple[dict[str, Any], list[Finding]]]
PARTS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "val": "valid",
    "test": "test",
    "testing": "test",
}
"""What files and folders of a part are called."""


@dataclass(frozen=True)
class Reader:
    """A function that reads one file into rows, and the endings it answers for (lower case, with the dot).

    Args:
        text: Whether the files are text, in one encoding or another; they may then be gzipped.
    """

    load: Load
    extensions: tuple[str, ...]
    text: bool = False

    def __call__(self, path: Path, options: ReadOptions) -> tuple[Rows, list[Finding]]:
        return self.load(path, options)

    def reads(self, name: str) -> bool:
        """Whether a file of this name is in our format."""
        lowered = name.lower()
        endings = self.extensions + (tuple(f"{ending}.gz" for ending in self.extensions) if self.text else ())
        return lowered.endswith(endings)


@dataclass(frozen=True)
class FolderReader:
    """A function that finds the rows of a folder by part, as files or rows.

    Args:
        suits: How well it can read a folder; 0 if not at all.
    """

    load: LoadFolder
    suits: Callable[[Path], float]

    def __call__(self, folder: Path) -> tuple[dict[str, Any], list[Finding]]:
        return self.load(folder)


def reads_folders(suits: Callable[[Path], float]) -> Callable[[LoadFolder], FolderReader]:
    """Declare which folders a reading function answers for."""
    return lambda load: FolderReader(load, suits)


def reads(*extensions: str, text: bool = False) -> Callable[[Load], Reader]:
    """Declare the file endings that a reading function answers for, of ``text`` also with ``.gz``."""
    return lambda load: Reader(load, extensions, text)


def readers() -> dict[str, Reader]:
    """Every reader of files in the catalog, by name."""
    found = {name: catalog.find("reader", name) for name in catalog.members("reader")}
    return {name: reader for name, reader in found.items() if isinstance(reader, Reader)}


def folder_reader_for(folder: Path) -> FolderReader:
    """The reader that suits a folder best.

    Raises:
        DataError: none does; what is there is listed.
    """
    known = [catalog.find("reader", name) for name in catalog.members("reader")]
    scored = [(one.suits(folder), one) for one in known if isinstance(one, FolderReader)]
    best = max(scored, key=lambda pair: pair[0], default=(0.0, None))
    if best[0] > 0 and best[1] is not None:
        return best[1]
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    names = ", ".join(there[:20]) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    raise DataError(
        f"The folder has no train file, and no files in folders of classes. It holds: {names or 'nothing'}.",
        where=str(folder),
        fix="name one file in it train.csv (or .tsv, .jsonl, .parquet, ...), or give the path of a file",
    )


def reader_for(path: Path) -> Reader:
    """The reader of a file, by its ending.

    Raises:
        DataError: no reader answers for the ending.
    """
    known = readers()
    for reader in known.values():
        if reader.reads(path.name):
            return reader
    endings = [ending for reader in known.values() for ending in reader.extensions]
    raise DataError(
        f"The ending of {path.name!r} does not say which format it is.",
        where=str(path),
        fix="rename it to one of " + ", ".join(endings) + " (text formats also with .gz); see `whet check --help`",
    )


def reads_rows(path: Path) -> bool:
    """Whether some reader answers for the ending of a file's name."""
    return any(reader.reads(path.name) for reader in readers().values())


def may_be_text(source: Any) -> bool:
    """Whether rows may lie in a text file: a path, unless its format is known to be another."""
    if not isinstance(source, str | Path):
        return False
    path = Path(source).expanduser()
    if path.is_dir():
        return any(may_be_text(inside) for inside in path.iterdir() if inside.is_file())
    return not any(one.reads(path.name) and not one.text for one in readers().values())


def refuse_idle_encoding(encoding: str | None, sources: Iterable[Any]) -> None:
    """An encoding is for text files.

    Raises:
        ConfigError: one is named, and no source may be one.
    """
    given = list(sources)
    if encoding is None or not given or any(map(may_be_text, given)):
        return
    endings = [ending for one in readers().values() if one.text for ending in one.extensions]
    first = given[0]
    raise ConfigError(
        f"An encoding was named, {encoding}, and there is no text file to read with it.",
        where=str(first) if isinstance(first, str | Path) else f"rows in a {type(first).__name__}",
        fix=f"leave the encoding out; formats that have one end in {', '.join(endings)}",
    )
