"""Peak memory of read, clean, check and split on a CSV of short rows, per row above a fixed base.

Run it as ``python tests/data/measure_memory.py``: it writes files of 0.5 and 2 million rows of about 50 bytes to a
temporary folder and takes each through every step in a process of its own. Mapped pages count.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SMALL, LARGE = 500_000, 2_000_000


def write_rows(path: Path, count: int) -> None:
    """``count`` rows of about 50 bytes in 20 classes, a few of them equal."""
    with path.open("w") as file:
        file.write("text,label\n")
        for number in range(count):
            file.write(f"please look at order {number % (count - count // 50):08d} for me,class {number * 7 % 20}\n")


def walk(path: Path, stage: str) -> None:
    """All steps on one file; prints seconds and peak bytes."""
    from whet.data import read_csv
    from whet.data.checks import run_checks, view_of
    from whet.data.clean import clean
    from whet.data.read import read
    from whet.data.rows import Columns
    from whet.data.split import SplitSettings, split_rows

    read_csv.STREAM_BYTES = 2**20  # both sizes go the way of large files
    columns = Columns(("text",), ("label",))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        sources = clean(read(path, spill=Path(folder)), columns)
        if stage != "clean":
            split = split_rows(sources, columns, SplitSettings(), sealed_folder=Path(folder) / "sealed")
            if stage == "all":
                run_checks(view_of(split, columns, "classification"))
    seconds = time.perf_counter() - start
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def measure(path: Path, stage: str = "all") -> tuple[float, int]:
    """Seconds and peak bytes of ``walk`` in a fresh process."""
    command = [sys.executable, __file__, str(path), stage]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, peak = done.stdout.split()
    return float(seconds), int(peak)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for stage in ("clean", "split", "all"):
            peaks = []
            for count in (SMALL, LARGE):
                path = Path(folder) / f"{count}.csv"
                if not path.exists():
                    write_rows(path, count)
                seconds, peak = measure(path, stage)
                peaks.append(peak)
                size = path.stat().st_size / count
                print(f"{stage}: {count:,} rows of {size:.0f} bytes: {seconds:.1f} s, {peak / 2**20:.0f} MiB")
            print(f"{stage}: {(peaks[1] - peaks[0]) / (LARGE - SMALL):.1f} bytes a row")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        walk(Path(sys.argv[1]), sys.argv[2])
    else:
        main()
