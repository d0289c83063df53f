"""When does a process die? At one of its own file operations, or so many microseconds after it.

Python announces every file that it opens, renames or removes before it does so (audit events, PEP 578). They are
counted by area, so that a kill can be placed within the writing of checkpoints, caches, the packaged model or the rest.
"""

import os
import signal
from dataclasses import dataclass
from typing import Any

AREAS = {"checkpoint": "/.work/checkpoints", "cache": "/cache-", "package": "/model", "folder": "/run-"}
"""Where an operation belongs: the first whose mark is in its path."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGING = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "os.utime")


@dataclass(frozen=True)
class Death:
    """Before operation ``number`` (from 0) of an area, or ``delay`` seconds later, in the midst of something."""

    area: str
    number: int
    delay: float


class Moments:
    """An audit hook that counts operations by area, and dies at one of them."""

    def __init__(self, death: Death | None) -> None:
        self.death = death
        self.counts = dict.fromkeys(AREAS, 0)
        self._last = "folder"

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if not isinstance(args[2], int) or not args[2] & WRITING:
                return
        elif event not in CHANGING:
            return
        area = self.area_of(args[0])
        if area is None:
            return
        number = self.counts[area]
        self.counts[area] = number + 1
        if self.death is not None and (area, number) == (self.death.area, self.death.number):
            self.die(self.death.delay)

    def area_of(self, path: Any) -> str | None:
        """Of a path; names without a folder belong to what was touched last: the files of a tree that is removed."""
        text = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if text and "/" not in text:
            return self._last
        found = next((name for name, mark in AREAS.items() if mark in f"/{text}"), None)
        self._last = found or self._last
        return found

    def die(self, delay: float) -> None:
        """At once, or by an alarm that nobody handles: nothing is flushed, closed or tidied in either case."""
        if delay <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, delay)
