"""What is happening right now? Observers that read the events of a fit and tell it, one way each.

Each is a context manager and a callable that takes one event and returns nothing.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, TextIO

from whet.report.track import Track
from whet.training.events import Event, Milestone, Said, as_record

if TYPE_CHECKING:
    from rich.console import Console

Clock = Callable[[], float]


class Observer(Protocol):
    """Reads events, returns nothing; open while a run is under way."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
    def __call__(self, event: Event) -> None: ...


class Quiet:
    """Says nothing; the base of the others."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, event: Event) -> None:
        return None


class JsonEvents(Quiet):
    """One JSON object a line, for machines. A number that is not finite becomes null, as JSON knows no other."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __call__(self, event: Event) -> None:
        self.stream.write(json.dumps(_finite(as_record(event)), allow_nan=False) + "\n")
        self.stream.flush()


class PlainProgress(Quiet):
    """Lines for a file or a pipe: at most one every ``every_seconds`` while a stage runs, one when it ends."""

    def __init__(self, stream: TextIO, every_seconds: float = 2.0, clock: Clock = time.monotonic) -> None:
        self.stream = stream
        self.every_seconds = every_seconds
        self.clock = clock
        self._tracks: dict[str, Track] = {}
        self._last = -math.inf

    def __call__(self, event: Event) -> None:
        if isinstance(event, Said):
            self._say(said_words(event))
        if isinstance(event, Said | Milestone):
            return
        now = self.clock()
        track = follow(self._tracks, event, now)
        if track.finished:
            self._say(track.summary())
            del self._tracks[event.stage]
        elif now - self._last >= self.every_seconds and track.words():
            self._last = now
            self._say(f"{track.name}: {track.words()}")

    def _say(self, text: str) -> None:
        from whet.report.lines import fit_encoding

        self.stream.write(fit_encoding(text, self.stream.encoding or "utf-8") + "\n")
        self.stream.flush()


class LiveProgress(Quiet):
    """One live line a stage, with a bar; it makes way for a line that stays when the stage ends."""

    def __init__(self, console: "Console", clock: Clock = time.monotonic) -> None:
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

        columns = [
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}", markup=False, style="dim"),
        ]
        self.clock = clock
        self._bars = Progress(*columns, console=console, transient=True, refresh_per_second=5)
        self._tracks: dict[str, Track] = {}
        self._tasks: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Said):
            self._say(said_words(event), "")
        if isinstance(event, Said | Milestone):
            return
        track = follow(self._tracks, event, self.clock())
        if track.finished:
            self._end(event.stage, track)
            return
        if event.stage not in self._tasks:
            self._tasks[event.stage] = self._bars.add_task(track.name, total=None, words="")
        total = track.total or None
        self._bars.update(self._tasks[event.stage], completed=track.done, total=total, words=track.words())

    def _end(self, stage: str, track: Track) -> None:
        del self._tracks[stage]
        task = self._tasks.pop(stage, None)
        if task is not None:
            self._bars.remove_task(task)
        self._say(track.summary(), "✓" if track.reason in ("done", "early") else "!")

    def _say(self, text: str, icon: str) -> None:
        from whet.report.terminal import show

        show([[(f"  {icon} " if icon else "    ", "green"), (text, "" if icon else "dim")]], self._bars.console)


def choose(*, quiet: bool = False, as_json: bool = False, stream: TextIO | None = None) -> Observer:
    """The observer for a command line: JSON on stdout, silence, a live line on a terminal, or plain lines."""
    if as_json:
        return JsonEvents(stream or sys.stdout)
    if quiet:
        return Quiet()
    target = stream or sys.stderr
    if not target.isatty():
        return PlainProgress(target)
    from rich.console import Console

    return LiveProgress(Console(file=target))


def follow(tracks: dict[str, Track], event: Event, now: float) -> Track:
    """The track of the event's stage, made when it is new, with this event told to it."""
    track = tracks.setdefault(event.stage, Track(event.stage, now))
    track.take(event, now)
    return track


def said_words(event: Said) -> str:
    from whet.report.words import one_line

    return one_line(event.message, 2000)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
