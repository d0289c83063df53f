"""The contract of a tracker: settings that open an observer for one run.

An observer reads events and returns nothing; one that raises is dropped with a word, and the run goes on. Whatever a
tracker writes lies below ``tracks/`` of the run folder, so that a failed run can be swept up without knowing it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from whet.errors import MissingPackageError
from whet.training.events import Event

Order = tuple[int, bool]
"""Where an event of steps stands in its stage: its step, and whether it is the evaluation after it."""


class Observer(Protocol):
    """Reads the events of one run."""

    def __call__(self, event: Event) -> None:
        """Learn of one event."""
        ...

    def close(self) -> None:
        """The run has ended, well or not; called once."""
        ...


class Tracker(Protocol):
    """Settings of one way to follow a run; a frozen dataclass of the catalog's kind "tracker"."""

    def require(self) -> None:
        """Refuse, before anything is read or trained, what cannot work here.

        Raises:
            MissingPackageError: a package is not installed. ConfigError: a setting names nothing.
        """
        ...

    def open(self, folder: Path) -> Observer:
        """Begin to follow a run, or go on with one that is resumed: ``folder`` is its ``tracks/`` and exists.

        Events of a step that was heard of before replace what followed it.
        """
        ...

    def view(self, folder: Path) -> str:
        """The command that shows what was written below ``folder``; empty where there is none."""
        ...


@contextmanager
def opened(trackers: Sequence[Tracker], folder: Path) -> Iterator[list[Observer]]:
    """The observers of one run, closed when it ends."""
    for tracker in trackers:
        tracker.require()
    if trackers:
        folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        stack.callback(forget_empty, folder)
        observers = []
        for tracker in trackers:
            observers.append(tracker.open(folder))
            stack.callback(close_quietly, observers[-1])
        yield observers


def close_quietly(observer: Observer) -> None:
    """Close an observer; one that cannot be closed, as on a full disk, costs no finished run."""
    with suppress(Exception):
        observer.close()


def forget_empty(folder: Path) -> None:
    """Remove a folder that nothing was written to."""
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


def require_package(name: str, what: str, extra: str) -> None:
    """Refuse what needs a package that is not there.

    Args:
        name: As it is imported. what: What needs it. extra: The extra that brings it.

    Raises:
        MissingPackageError: with the line to type.
    """
    if find_spec(name) is None:
        fix = f"pip install 'whet[{extra}]'"
        raise MissingPackageError(f"{what} needs the package {name}.", where="track", fix=fix)
