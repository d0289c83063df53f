"""Ctrl-C while there is something to keep: the first asks for a stop at the next legal moment, the second ends at once.

One listener at a time: who listens inside another's context hears through it, so that all see the same press.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Asked:
    """Whether the user asked to stop."""

    def __init__(self) -> None:
        self.yes = False

    def __call__(self) -> bool:
        return self.yes


_listening: list[Asked] = []


@contextmanager
def listening() -> Iterator[Asked]:
    """Inside, Ctrl-C sets the flag; outside the main thread nothing is installed."""
    if _listening and threading.current_thread() is threading.main_thread():
        yield _listening[0]
        return
    asked = Asked()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: FrameType | None) -> None:
        if not asked.yes:
            asked.yes = True
        elif callable(before):
            before(number, frame)  # Python's own raises KeyboardInterrupt
        else:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    _listening.append(asked)
    try:
        yield asked
    finally:
        _listening.clear()
        if signal.getsignal(signal.SIGINT) is note:  # the one before may have put another in place
            signal.signal(signal.SIGINT, before)
