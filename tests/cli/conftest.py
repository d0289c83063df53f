"""The command, called in this process, in a folder of its own."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from plain import PLAIN

Command = Callable[..., "Answer"]
QUICK = tuple(word for setting in PLAIN for word in ("--set", setting))


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A disk of a size such as "200k"; the test is skipped where this process may not mount one."""
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@dataclass(frozen=True)
class Answer:
    """What the command left on the terminal."""

    code: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder; nothing of the user's is read or written."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def whet(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """``whet("check", "rows.csv")``: exit code and output."""
    from whet.cli import main

    def call(*words: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["whet", *map(str, words)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = 0 if stop.code is None else int(stop.code)
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return call


def listing(folder: Path) -> set[str]:
    """Every file and folder below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def write_rows(path: Path, rows: int = 80, header: str = "text,label") -> Path:
    """Rows of two classes that a few words tell apart."""
    asked = {"card": "my card number {} was lost on the way", "transfer": "the transfer of {} euros is late"}
    names = list(asked)
    lines = [f"{asked[names[i % 2]].format(i)},{names[i % 2]}" for i in range(rows)]
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path
