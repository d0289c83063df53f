"""The contract of a tracker: settings that open an observer for one run.

An observer reads events and returns nothing; one that raises is dropped with a word, and the run goes on. Whatever a
tracker writes lies below ``tracks/`` of the run folder, so that a failed run can be swept up without knowing it. What
it found out itself it may add to the story of the run, as an ``Account``; terminal, report and card know no more of it.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

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


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One thing that was found out, for people: ``name`` "carbon", ``words`` "0.19 g CO2e (world average)"."""

    name: str
    words: str


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a tracker adds to the story of a run: in the terminal, the report, the model card and ``metrics.json``.

    Args:
        figures: In the order to tell them, at least one.
        estimated: Whether they are estimates, which is then said wherever they are; how: how they were had, in words.
        record: The same as plain values, units in their names; goes to ``metrics.json`` under the tracker's name.
    """

    figures: tuple[Figure, ...]
    estimated: bool = False
    how: str = ""
    record: dict[str, Any] = field(default_factory=dict)


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

    def account(self, folder: Path) -> Account | None:
        """What a finished run's story gains from what was written below ``folder``; None where that is nothing."""
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


def accounts_of(trackers: Mapping[str, Tracker], folder: Path) -> dict[str, Account]:
    """The accounts of those trackers, by name, that have one; a tracker that raises costs no finished run.

    Args:
        folder: ``tracks/`` of the run.
    """
    found: dict[str, Account] = {}
    for name, tracker in trackers.items():
        try:
            account = tracker.account(folder)
        except Exception as error:  # noqa: BLE001 - as for an observer
            print(f"The tracker {name} failed to give its account: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        if account is not None:
            found[name] = account
    return found


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
