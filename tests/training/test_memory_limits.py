"""How much memory is held, how much work needs, and the end of a process that takes too much."""

import subprocess
import sys

import numpy as np

from whet.training.memory import SHARE, give_back, held_bytes, memory_bytes, peak_memory_bytes, watched_peak

BLOCK = 64 * 2**20


def test_a_peak_is_seen_though_the_memory_is_gone_when_the_work_ends() -> None:
    with watched_peak() as peak:
        np.ones(BLOCK, np.uint8).sum()
    assert BLOCK * 0.9 < peak.grown < BLOCK * 2
    with watched_peak() as small:
        np.ones(BLOCK // 8, np.uint8).sum()
    assert small.grown < BLOCK / 2  # a later peak is its own, not the process's


def test_what_is_held_is_less_than_the_peak_and_that_less_than_there_is() -> None:
    give_back()
    assert 0 < held_bytes() <= peak_memory_bytes() < memory_bytes()
    assert 0 < SHARE < 1


def test_a_process_ends_itself_when_it_holds_more_than_it_may() -> None:
    code = (
        "import time, numpy as np\n"
        "from whet.training.memory import end_above, held_bytes\n"
        f"end_above(held_bytes() + {BLOCK}, 86)\n"
        f"kept = [np.ones({BLOCK}, np.uint8) for _ in range(4)]\n"
        "time.sleep(60)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 86
