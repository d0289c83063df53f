"""A folder for each class, or train, valid and test folders of these: the files in them become rows.

Which files count is asked of the kinds of input whose values are files. The class of a file is the name of the topmost
folder that it lies in, however deep.
"""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from whet import catalog
from whet.data.reader import PARTS, reads_folders
from whet.data.rows import Finding, Rows
from whet.data.tables import TARGET
from whet.errors import DataError

CLASS = "label"
"""The column of class names."""
LOOKED_AT = 200
"""Files of a folder that tell whether it is one of inputs."""
_NO_CLASS = ("__MACOSX", "@eaDir")  # what systems put beside files


def suits(folder: Path) -> float:
    """Whether files of inputs lie in folders of classes."""
    parts = part_folders(folder)
    inside = [place for one in (parts.values() if "train" in parts else [folder]) for place in folders_in(one)]
    return 1.0 if any(holds_inputs(place) for place in inside) else 0.0


@reads_folders(suits)
def read_class_folders(folder: Path) -> tuple[dict[str, Any], list[Finding]]:
    """Rows of a file and a class each, by part.

    Raises:
        DataError: there is a single class, or two folders for one part.
    """
    parts = part_folders(folder)
    if "train" not in parts:
        parts = {"train": folder}
    rows: dict[str, Any] = {}
    findings: list[Finding] = []
    for part, place in parts.items():
        rows[part], found = labelled_rows(place, folder.name if len(parts) == 1 else f"{folder.name}/{place.name}")
        findings += found
    return rows, findings


def labelled_rows(folder: Path, source: str) -> tuple[Rows, list[Finding]]:
    """One row a file: where it lies below ``folder``, and its class.

    Raises:
        DataError: files of two kinds of input, or none.
    """
    kind = kind_of_files(folder)
    names, labels, empty, other = [], [], [], Counter[str]()
    for place in folders_in(folder):
        found = list(files_below(place))
        inputs = [path for path in found if kind.held_in(path)]
        other.update(path.suffix.lower() or "no ending" for path in found if not kind.held_in(path))
        if not inputs:
            empty.append(place.name)
        names += [path.relative_to(folder).as_posix() for path in inputs]
        labels += [place.name] * len(inputs)
    loose = [path for path in folder.iterdir() if path.is_file() and kind.held_in(path)]
    one, many = kind.nouns
    findings = []

    def say(message: str, fix: str, count: int) -> None:
        findings.append(Finding("reading", "warning", message, source, fix, count=count))

    if empty:
        what = f"{'Folders' if len(empty) > 1 else 'The folder'} {', '.join(map(repr, empty[:5]))}"
        more = f" and {len(empty) - 5} more" if len(empty) > 5 else ""
        said = f"{what}{more} {'hold' if len(empty) > 1 else 'holds'} no {one}, so there is no such class."
        say(said, f"put {many} into it, or remove it", len(empty))
    if other:
        listed = ", ".join(f"{count:,} {ending}" for ending, count in other.most_common(5))
        count = sum(other.values())
        say(f"{count:,} files among the {many} are none ({listed}) and are left out.", "nothing", count)
    if loose:
        say(
            f"{len(loose):,} {many} lie beside the folders of classes and are left out, first {loose[0].name!r}.",
            "move them into the folder of their class",
            len(loose),
        )
    schema = pa.schema([pa.field(one, pa.string()), pa.field(CLASS, pa.string(), metadata=TARGET)])
    return Rows(pa.table([names, labels], schema=schema), source, folder=folder), findings


def bare_rows(folder: Path, kind: Any, column: str) -> Rows:
    """One row a file, without a class: every file of inputs below a folder.

    Raises:
        DataError: there is none.
    """
    names = [path.relative_to(folder).as_posix() for path in files_below(folder) if kind.held_in(path)]
    if not names:
        raise DataError(f"The folder holds no {kind.nouns[1]}.", where=str(folder), fix="name another folder")
    return Rows(pa.table({column: pa.array(names, pa.string())}), folder.name, folder=folder)


def part_folders(folder: Path) -> dict[str, Path]:
    """The folders of train, valid and test rows, where there are such.

    Raises:
        DataError: two could be one part.
    """
    found: dict[str, Path] = {}
    for place in folders_in(folder):
        part = PARTS.get(place.name.lower())
        if part is not None and part in found:
            raise DataError(
                f"Two folders could be the {part} rows: {found[part].name} and {place.name}.",
                where=str(folder),
                fix="remove one, or name the folder to use",
            )
        if part is not None:
            found[part] = place
    return found


def folders_in(folder: Path) -> list[Path]:
    """Folders right below, by name, without hidden ones."""
    inside = (Path(entry.path) for entry in os.scandir(folder) if entry.is_dir())
    return sorted(place for place in inside if not place.name.startswith(".") and place.name not in _NO_CLASS)


def files_below(folder: Path) -> Iterator[Path]:
    """Files in a folder and below, by name; a folder that links lead to twice is entered once."""
    seen = set()
    for place, inside, files in os.walk(folder, followlinks=True):
        mark = Path(place).stat()
        if (mark.st_dev, mark.st_ino) in seen:
            inside.clear()
            continue
        seen.add((mark.st_dev, mark.st_ino))
        inside[:] = sorted(name for name in inside if not name.startswith(".") and name not in _NO_CLASS)
        yield from (Path(place) / name for name in sorted(files) if not name.startswith("."))


def holds_inputs(folder: Path) -> bool:
    """Whether some file in it or below is an input by itself."""
    some = (path for path, _ in zip(files_below(folder), range(LOOKED_AT), strict=False))
    kinds = input_kinds()
    return any(kind.held_in(path) for path in some for kind in kinds)


def input_kinds() -> list[Any]:
    """The kinds of input whose values are files."""
    kinds = [catalog.find("modality", name)() for name in catalog.members("modality")]
    return [kind for kind in kinds if kind.by_name]


def kind_of_files(folder: Path) -> Any:
    """The kind of input that most files are.

    Raises:
        DataError: none is any.
    """
    kinds = input_kinds()
    counts = Counter(dict.fromkeys(range(len(kinds)), 0))
    for path in files_below(folder):
        counts.update(n for n, kind in enumerate(kinds) if kind.held_in(path))
    best = counts.most_common(1)
    if not best or not best[0][1]:
        known = " or ".join(kind.nouns[1] for kind in kinds)
        raise DataError(f"No file below the folder holds {known}.", where=str(folder), fix="name another folder")
    return kinds[best[0][0]]
