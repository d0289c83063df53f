"""A folder with train, valid and test files: which file is which, by its name."""

from pathlib import Path

from whet.data.reader import readers
from whet.errors import DataError

_PARTS = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "dev": "valid",
    "val": "valid",
    "test": "test",
}


def read_folder(folder: Path) -> dict[str, Path]:
    """The files of a folder by part: 'train', and 'valid' and 'test' where there are such.

    Raises:
        DataError: no file for train, or two files for one part; what is there is listed.
    """
    found: dict[str, Path] = {}
    there = sorted(entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith("."))
    known = readers().values()
    for path in there:
        part = _PARTS.get(path.name.split(".")[0].lower())
        if part is None or not any(reader.reads(path.name) for reader in known):
            continue
        if part in found:
            raise DataError(
                f"Two files could be the {part} rows: {found[part].name} and {path.name}.",
                where=str(folder),
                fix="remove one, or name the file to use instead of the folder",
            )
        found[part] = path
    if "train" not in found:
        names = ", ".join(path.name for path in there[:20]) or "nothing"
        raise DataError(
            f"The folder has no train file. It holds: {names}.",
            where=str(folder),
            fix="name one file in it train.csv (or .tsv, .jsonl, .parquet, ...), or give the path of a file",
        )
    return found
