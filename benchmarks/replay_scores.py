"""Does a model score the same whether what is frozen was replayed or run again? Both whole runs of one seed.

Cached values come from batches of other shapes than those of the steps, so weights differ by rounding; scores must not.
Prints one JSON object.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from samples import sample, write_rows

SET, SIZE = "trec", 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    train, test = sample(SET, SIZE, wanted.seed)
    write_rows(train, wanted.out / "train.csv")
    write_rows(test, wanted.out / "test.csv")
    found = {replay: score(wanted.out, wanted.seed, replay) for replay in ("auto", "off")}
    print(json.dumps({"seed": wanted.seed, "tested": len(test), **found}))


def score(out: Path, seed: int, replay: str) -> float:
    """Test accuracy of one run."""
    folder = out / replay
    told = ["--target", "label", "--text", "text", "--test", str(out / "test.csv"), "--method", "top-layers"]
    told += ["--seed", str(seed), "--set", f"machinery.replay={replay}", "--set", "evaluation.baselines=[majority]"]
    with (out / f"{replay}.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "whet", "finetune", str(out / "train.csv"), *told, "--out", str(folder)]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    story = json.loads((folder / "story.json").read_text(encoding="utf-8"))
    replayed = any("replayed from" in note for note in story["notes"])
    if replayed != (replay == "auto"):
        raise SystemExit(f"replay is {replay}, and the run says: {story['notes']}")
    scores = story["judgements"][0]["scores"]["model"]
    return float(next(one["value"] for one in scores if one["metric"] == "accuracy"))


if __name__ == "__main__":
    main()
