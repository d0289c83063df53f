"""How long does ``whet --help`` take, and what does ``import whet`` load? Prints one JSON object."""

import argparse
import json
import subprocess
import sys
import time

RUNS = 10


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--whet", required=True)
    wanted = parser.parse_args()
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        subprocess.run([wanted.whet, "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - began)
    watched = ("torch", "transformers", "sklearn", "pyarrow", "numpy")
    code = f"import whet, sys, json; print(json.dumps([name for name in {watched!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    print(json.dumps({"help": seconds, "loaded": json.loads(done.stdout)}))


if __name__ == "__main__":
    main()
