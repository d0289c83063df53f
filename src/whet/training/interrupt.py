"""Signals while there is something to keep.

The first Ctrl-C asks for a stop at the next legal moment, after which the run is judged. A second one, and SIGTERM, end
the process at the next moment at which the state can be saved; a third ends it at once, as does a second where no steps
are being taken.

One listener at a time: who listens inside another's context hears through it, so that all see the same press.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TERMINATED = 143
"""Exit code of a process that SIGTERM ended."""


class Asked:
    """Whether the user asked to stop.

    Attributes:
        stepping: Whether somebody looks at ``leaving`` between updates, with a state that can be saved.
        leaving: What to raise at such a moment, once the state is saved.
    """

    def __init__(self) -> None:
        self.yes = False
        self.stepping = False
        self.leaving: BaseException | None = None

    def __call__(self) -> bool:
        return self.yes


_listening: list[Asked] = []


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM raises SystemExit, so that what is left can be tidied and told; a handler of others stays."""
    own = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if own:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if own:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def end(number: int, frame: FrameType | None) -> None:
    """SIGTERM where no steps are being taken."""
    raise SystemExit(TERMINATED)


@contextmanager
def listening() -> Iterator[Asked]:
    """Inside, signals set flags; outside the main thread nothing is installed."""
    if _listening and threading.current_thread() is threading.main_thread():
        yield _listening[0]
        return
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before, before_term = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: FrameType | None) -> None:
        if not asked.yes:
            asked.yes = True
        elif asked.stepping and asked.leaving is None:
            asked.leaving = KeyboardInterrupt()
        elif callable(before):
            before(number, frame)  # Python's own raises KeyboardInterrupt
        else:
            raise KeyboardInterrupt

    def leave(number: int, frame: FrameType | None) -> None:
        if not asked.stepping:
            end(number, frame)
        asked.leaving = SystemExit(TERMINATED)

    signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGTERM, leave)
    _listening.append(asked)
    try:
        yield asked
    finally:
        _listening.clear()
        if signal.getsignal(signal.SIGINT) is note:  # the one before may have put another in place
            signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, before_term)
