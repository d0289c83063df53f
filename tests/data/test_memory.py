"""A file larger than memory can be read, cleaned and split: what is kept of a row is counted in bytes."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from measure_memory import measure, write_rows


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read the way Linux reports it")
def test_splitting_keeps_at_most_45_bytes_a_row(tmp_path: Path) -> None:
    peaks = []
    for count in (200_000, 1_000_000):
        write_rows(tmp_path / f"{count}.csv", count)
        peaks.append(measure(tmp_path / f"{count}.csv", "split")[1])
    assert (peaks[1] - peaks[0]) / 800_000 < 45
