"""A folder with train, valid and test files: which file is which, by its name."""

from pathlib import Path
from typing import Any

from whet.data.reader import PARTS, reads_folders, reads_rows
from whet.data.rows import Finding
from whet.errors import DataError


def suits(folder: Path) -> float:
    """Surely where a file is called train; perhaps where it holds a single file of rows, called after no part."""
    parts = [part_of(path) for path in row_files(folder)]
    return 2.0 if "train" in parts else 0.5 if parts == [None] else 0.0


@reads_folders(suits)
def read_folder(folder: Path) -> tuple[dict[str, Any], list[Finding]]:
    """The files of a folder by part: 'train', and 'valid' and 'test' where there are such; a single one is train.

    Raises:
        DataError: two files for one part.
    """
    found: dict[str, Any] = {}
    there = row_files(folder)
    for path in there:
        part = part_of(path) or ("train" if len(there) == 1 else None)
        if part is None:
            continue
        if part in found:
            raise DataError(
                f"Two files could be the {part} rows: {found[part].name} and {path.name}.",
                where=str(folder),
                fix="remove one, or name the file to use instead of the folder",
            )
        found[part] = path
    return found, []


def row_files(folder: Path) -> list[Path]:
    """Files that readers of rows answer for, by name."""
    there = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    return [path for path in there if reads_rows(path)]


def part_of(path: Path) -> str | None:
    """The part that a file's name says."""
    return PARTS.get(path.name.split(".")[0].lower())
