"""Ctrl-C while steps are taken: the first asks the loop to stop between two updates, the second ends at once."""

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


@contextmanager
def listening() -> Iterator[Asked]:
    """Inside, Ctrl-C sets the flag; outside the main thread nothing is installed."""
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
    try:
        yield asked
    finally:
        if signal.getsignal(signal.SIGINT) is note:  # the one before may have put another in place
            signal.signal(signal.SIGINT, before)
