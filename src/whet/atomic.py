"""A file is there whole or not at all, whenever a process is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A hidden name beside ``path`` to write to.

    When the block ends the file is flushed to disk and renamed; when it fails, nothing of it stays and what ``path``
    held before is untouched. The name ends in ``.part``, by which the rest of a killed process is known.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
