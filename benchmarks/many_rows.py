"""How much memory do 2 million short rows take? Checked, split and tokenised, per row above a fixed base.

Writes files of about 50 bytes a row to a temporary folder and takes each through every step in a process of its own.
Mapped pages count. Prints one JSON object.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COUNTS = (500_000, 2_000_000)


def write_rows(path: Path, count: int) -> None:
    """``count`` rows of about 50 bytes in 20 classes, one in fifty of them a repetition."""
    with path.open("w") as file:
        file.write("text,label\n")
        for number in range(count):
            file.write(f"please look at order {number % (count - count // 50):08d} for me,class {number * 7 % 20}\n")


def walk(path: Path) -> None:
    """All steps on one file; prints the peak after each and the seconds it took."""
    import resource

    from whet.backbones.source import find_model
    from whet.data import read_csv
    from whet.data.checks import run_checks, view_of
    from whet.data.clean import clean
    from whet.data.read import read
    from whet.data.rows import Columns
    from whet.data.split import SplitSettings, split_rows
    from whet.modalities.text import Text
    from whet.tasks import encode

    read_csv.STREAM_BYTES = 2**20  # both sizes go the way of large files
    columns, steps = Columns(("text",), ("label",)), {}
    began = time.perf_counter()

    def mark(name: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        steps[name] = {"seconds": time.perf_counter() - began, "peak": peak}

    with tempfile.TemporaryDirectory() as folder:
        mark("imports")
        sources = clean(read(path, spill=Path(folder)), columns)
        split = split_rows(sources, columns, SplitSettings(), sealed_folder=Path(folder) / "sealed")
        mark("read and split")
        run_checks(view_of(split, columns, "classification"))
        mark("check")
        model = find_model(None, cache=Path(folder) / "cache")
        processor = Text().processor(model.folder, max_length=None, pairs=False)
        encode.SPILL_BYTES = 0  # both sizes go the way of many rows
        kept = [encode.encode_rows(split.train, columns, processor, None)]
        kept += [encode.encode_rows(test.rows, columns, processor, None) for test in split.tests.values()]
        mark("tokenise")
        steps["tokenise"]["rows"] = sum(examples.rows for examples in kept)
    print(json.dumps(steps))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--walk", type=Path, help="one file, in this process")
    parser.add_argument("--counts", type=int, nargs=2, default=COUNTS)
    wanted = parser.parse_args()
    if wanted.walk:
        walk(wanted.walk)
        return
    small, large = wanted.counts
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in (small, large):
            path = Path(folder) / "rows.csv"
            write_rows(path, count)
            command = [sys.executable, __file__, "--walk", str(path)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[count] = json.loads(done.stdout)
            size = path.stat().st_size / count
    per_row = {
        step: (found[large][step]["peak"] - found[small][step]["peak"]) / (large - small) for step in found[large]
    }
    print(json.dumps({"counts": [small, large], "row_bytes": size, "steps": found, "per_row": per_row}))


if __name__ == "__main__":
    main()
