"""What does a whole process take? Measured from outside, with empty caches: wall, processor time, peak memory.

Imports count, because a user waits for them too. Every process gets a home and a cache folder of its own; what stays
warm is the disk cache of the operating system and Python's compiled modules, for all alike.
"""

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

SILENCED = ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "TRANSFORMERS_CACHE", "TORCH_HOME")


@dataclass(frozen=True)
class Usage:
    """What one process took, its children included.

    Args:
        others: Share of the processor that everything else on the machine took meanwhile, 0 to 1.
    """

    wall: float
    user: float
    system: float
    peak_bytes: int
    others: float


class FailedProcessError(Exception):
    """A measured process ended with an error; the message ends with its last lines."""


def measured(command: list[str], *, home: Path, log: Path) -> Usage:
    """Run one process to its end.

    Args:
        home: Its home; caches lie below. An empty folder means empty caches.
        log: Where its output goes.

    Raises:
        FailedProcessError: it did not end well.
    """
    home.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in SILENCED}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "HF_HUB_OFFLINE": "1"}
    busy, idle = processor_seconds()
    with log.open("w") as output:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            _, status, used = os.wait4(process.pid, 0)
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            raise
        wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_text(errors="replace")[-2000:]
        raise FailedProcessError(f"{' '.join(command)}\nended with {process.returncode}:\n{tail}")
    own = used.ru_utime + used.ru_stime
    busy_after, idle_after = processor_seconds()
    whole = busy_after - busy + idle_after - idle
    others = max(0.0, busy_after - busy - own) / whole if whole > 0 else 0.0
    return Usage(wall, used.ru_utime, used.ru_stime, used.ru_maxrss * 1024, others)


def processor_seconds() -> tuple[float, float]:
    """Seconds in which the machine's processors were busy and idle since it started."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    return sum(times[:]) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0) - idle, idle
