"""How much memory may this process take, how much does it hold, and how much did a piece of work need?

What counts is what the kernel counts: resident pages, pages of mapped files among them once they are read.
"""

import gc
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SHARE = 0.85
"""Of the limit that a run may be planned to take: the rest is for what no forecast sees."""
SAMPLED_SECONDS = 0.001
LIMITS = (("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"))
"""Top folders of control groups, version 2 and version 1, and the file that holds a group's limit."""


def memory_bytes() -> int:
    """Memory of this machine, or of the container or control group of this process where that is less."""
    import psutil

    limits = [int(psutil.virtual_memory().total)]
    for path in limit_files():
        with suppress(OSError, ValueError):  # absent, or "max"
            limits.append(int(path.read_text()))
    return min(limits)


def limit_files() -> Iterator[Path]:
    """Where Linux keeps the limits of this process's control group and of those around it, version 2 and version 1.

    Inside a container the group's own name often means nothing, and the top folder is the container's.
    """
    groups = ["/"]
    with suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, kinds, group = line.split(":", 2)
            if number == "0" or "memory" in kinds.split(","):
                groups += [group, *map(str, Path(group).parents)]
    for group in dict.fromkeys(groups):
        for top, name in LIMITS:
            yield Path(top) / group.lstrip("/") / name


def peak_memory_bytes() -> int:
    """The most memory that this process has held at once so far.

    Where Linux tells it, without what the process that started this one held: a program inherits that number.
    """
    with suppress(OSError, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def held_bytes() -> int:
    """Memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def give_back() -> None:
    """Return freed memory to the system, what lately waits for Python's collector included.

    A look at every object takes a quarter of a second once all libraries are loaded, and models need none to go.
    """
    gc.collect(1)
    trim_heap()


def trim_heap() -> None:
    """Return freed memory to the system: the allocator of the C library keeps what it could use again.

    Batches of many shapes leave a heap full of holes, hundreds of megabytes in a few hundred steps.
    """
    import ctypes

    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)


@dataclass(eq=False)
class Peak:
    """The most that was held at once, in bytes, and what was held before."""

    before: int
    highest: int

    @property
    def grown(self) -> int:
        return self.highest - self.before


@contextmanager
def watched_peak() -> Iterator[Peak]:
    """Watch how much memory the work inside needs, starting from nothing that waits to be given back.

    Looks every millisecond, and at the kernel's own peak where that rose.
    """
    give_back()
    held, ever = held_bytes(), peak_memory_bytes()
    peak, done = Peak(held, held), threading.Event()

    def look() -> None:
        while not done.wait(SAMPLED_SECONDS):
            peak.highest = max(peak.highest, held_bytes())

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        risen = peak_memory_bytes()
        peak.highest = max(peak.highest, held_bytes(), risen if risen > ever else 0)


def end_above(most_bytes: int, status: int) -> None:
    """End this process at once, with ``status``, when it holds more than ``most_bytes``."""
    import os

    def look() -> None:
        while held_bytes() <= most_bytes:
            time.sleep(SAMPLED_SECONDS)
        os._exit(status)

    threading.Thread(target=look, daemon=True).start()
