"""What was measured so far: one line of JSON a process, so that a killed benchmark loses one at most."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Note:
    """One finished process.

    Args:
        usage: Wall, user and system seconds, peak bytes, and the share that others took (``processes.Usage``).
        detail: What it left behind, as far as the tables need it.
        machine: Processor, what of it the kernels use, and cores.
    """

    part: str
    number: int
    usage: dict[str, float]
    detail: dict[str, Any]
    commit: str
    date: str
    machine: str = ""

    @property
    def wall(self) -> float:
        return self.usage["wall"]

    @property
    def processor(self) -> float:
        """User and system seconds."""
        return self.usage["user"] + self.usage["system"]


class Notes:
    """The file of notes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self._notes = [Note(**json.loads(line)) for line in lines]

    def of(self, part: str) -> list[Note]:
        """Every run of one part."""
        return [note for note in self._notes if note.part == part]

    def all(self) -> list[Note]:
        """Every run of every part, in the order in which they ended."""
        return list(self._notes)

    def forget(self, kinds: Iterable[str]) -> None:
        """Take out the parts that begin with one of these words."""
        gone = set(kinds)
        kept = [note for note in self._notes if note.part.split("/")[0] not in gone]
        if kept == self._notes:
            return
        self._notes = kept
        lines = "".join(json.dumps(asdict(note)) + "\n" for note in kept)
        beside = self._path.with_name(f".{self._path.name}.part")
        beside.write_text(lines, encoding="utf-8")
        beside.replace(self._path)

    def add(self, note: Note) -> None:
        """One more, at once on disk."""
        self._notes.append(note)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(note)) + "\n")
