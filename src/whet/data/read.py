"""Where do the rows come from? A file, a folder or objects in memory become train, valid and test rows."""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet import catalog
from whet.data.reader import PARTS, ReadOptions, folder_reader_for, may_be_text, reader_for, refuse_idle_encoding
from whet.data.rows import Finding, Rows
from whet.data.unpack import is_packed, unpacked
from whet.errors import DataError, WhetError, closest


@dataclass(frozen=True)
class Sources:
    """Rows as they were given, before anything is dropped or split. ``tests`` is empty if none were given."""

    train: Rows
    valid: Rows | None
    tests: dict[str, Rows]
    findings: tuple[Finding, ...]


def read(
    source: Any,
    *,
    tests: Iterable[Any] | Mapping[str, Any] = (),
    valid: Any = None,
    encoding: str | None = None,
    spill: Path | None = None,
) -> Sources:
    """Read everything that was given.

    Args:
        source: A file, a folder with train, valid and test files or with files in folders of classes (both also as a
            zip), or an object in memory (see ``read_table``), also a dict of splits such as a DatasetDict.
        tests: Further test sets, named after their file, or "test", "test-2", ...; a dict gives names.
        valid: Validation rows; they replace those of a folder.
        encoding: Of the text files among them; None to find out.
        spill: Folder for memory-mapped copies of large files; None for a temporary one.

    Raises:
        DataError: something cannot be read; the message names the file and row.
    """
    parts, findings = _parts(source, spill)
    if valid is not None:
        parts["valid"] = valid

    def table(given: Any) -> Rows:
        rows, found = read_table(given, encoding=encoding if may_be_text(given) else None, spill=spill)
        findings.extend(found)
        return rows

    train = table(parts.pop("train"))
    validation = table(parts.pop("valid")) if "valid" in parts else None
    sets: dict[str, Rows] = {}
    for name, test in [*parts.items(), *_named(tests)]:
        sets[_fresh(f"{name} (test)" if name in ("train", "valid") else name, sets)] = table(test)
    return Sources(train, validation, sets, tuple(findings))


def read_table(source: Any, *, encoding: str | None = None, spill: Path | None = None) -> tuple[Rows, list[Finding]]:
    """Read one file or one object in memory.

    Args:
        source: A path to CSV, TSV, JSON, JSON lines, Parquet or Arrow (text formats also gzipped); a pandas or
            polars frame, datasets.Dataset, Arrow table, list of dicts, dict of lists.
        encoding: Of a text file; None to find out.
        spill: Folder for a memory-mapped copy of a large file; None for a temporary one.

    Raises:
        DataError: the rows cannot be read; the message names the file and row.
        ConfigError: an encoding was named, and this is no text file.
    """
    refuse_idle_encoding(encoding, [source])
    if not isinstance(source, str | Path):
        held: tuple[Rows, list[Finding]] = catalog.find("reader", "objects")(source)
        return held
    path = _existing(source)
    if path.is_dir() or is_packed(path):
        return _one_part(path, encoding, spill)
    reader = reader_for(path)
    try:
        rows, findings = reader(path, ReadOptions(encoding=encoding, spill=spill))
        return rows.beside(path.parent), findings
    except WhetError:
        raise
    except OSError as error:
        raise DataError(
            f"The file cannot be read: {error.strerror or error}.",
            where=str(path),
            fix="check its permissions and the disk that it is on",
        ) from error
    except (EOFError, zlib.error) as error:
        what = str(error).rstrip(".")
        raise DataError(
            f"The file cannot be unpacked to its end: {what}.", where=str(path), fix="copy it again; it is damaged"
        ) from error


def _one_part(path: Path, encoding: str | None, spill: Path | None) -> tuple[Rows, list[Finding]]:
    """The rows of a folder (or a zip of one) that holds no more than one part.

    Raises:
        DataError: it holds several.
    """
    parts, findings = _parts(path, spill)
    if len(parts) > 1:
        what = "A file or a folder of one part is needed here, and this holds " + ", ".join(parts) + "."
        raise DataError(what, where=str(path), fix=_inside(path))
    rows, found = read_table(next(iter(parts.values())), encoding=encoding, spill=spill)
    return rows, [*findings, *found]


def _parts(source: Any, spill: Path | None) -> tuple[dict[str, Any], list[Finding]]:
    """'train' and perhaps 'valid'; all else are test sets."""
    if isinstance(source, str | Path):
        path = _existing(source)
        folder = unpacked(path, spill) if is_packed(path) else path
        return folder_reader_for(folder)(folder) if folder.is_dir() else ({"train": path}, [])
    from whet.data.read_objects import parts_of

    splits = parts_of(source)
    if splits is None:
        return {"train": source}, []
    named = {_part_of(name): rows for name, rows in splits.items()}
    if "train" not in named:
        raise DataError(
            f"There is no split 'train'; there are {', '.join(map(repr, splits))}.",
            where="rows",
            fix="name the training split 'train', or pass one split as the rows and others as tests",
        )
    return named, []


def _part_of(name: str) -> str:
    """The part that a split is, where its name says so; test splits keep their own."""
    part = PARTS.get(name.lower(), name)
    return name if part == "test" else part


def _existing(source: str | Path) -> Path:
    path = Path(source).expanduser()
    if path.exists():
        return path
    folder = path.parent
    siblings = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if not folder.is_dir():
        fix = f"check the path: there is no folder {str(folder)!r}"
    elif near := closest(path.name, siblings):
        fix = "use " + " or ".join(near)
    else:
        fix = "the folder holds " + (", ".join(siblings[:10]) or "nothing")
    raise DataError(f"There is no file {path.name!r}.", where=str(path), fix=fix)


def _inside(folder: Path) -> str:
    if not folder.is_dir():
        return "unpack it, and give one of its parts"
    names = sorted(entry.name for entry in folder.iterdir())[:10]
    return "give one of the files in it: " + ", ".join(names) if names else "give the path of a file"


def _named(tests: Iterable[Any] | Mapping[str, Any]) -> list[tuple[str, Any]]:
    if isinstance(tests, str | Path):
        tests = [tests]
    if isinstance(tests, Mapping):
        return list(tests.items())
    return [(Path(test).name.split(".")[0] if isinstance(test, str | Path) else "test", test) for test in tests]


def _fresh(name: str, taken: Mapping[str, Any]) -> str:
    """A name that no other set has: 'test', then 'test-2', ..."""
    number, fresh = 1, name
    while fresh in taken:
        number += 1
        fresh = f"{name}-{number}"
    return fresh
