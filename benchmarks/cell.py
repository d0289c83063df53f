"""One cell of the accuracy table: one subsample, every method of whet at its defaults, a line of JSON as each ends.

Each method is a process of its own, as users run it, so that its memory is its own too. A stopped cell goes on where it
stopped. Baselines are left out, since only the methods are compared here.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from samples import WEIGHTED, sample, score, write_rows

METHODS = ("probe", "top-layers", "full", "lora", "contrastive", "auto")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", dest="name", required=True)
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    lines = wanted.out / "methods.jsonl"
    noted = [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
    train, test = sample(wanted.name, wanted.size, wanted.seed)
    write_rows(train, wanted.out / "train.csv")
    write_rows(test, wanted.out / "test.csv")
    for method in wanted.methods.split(","):
        if method not in {one["method"] for one in noted}:
            record = {"set": wanted.name, "size": wanted.size, "seed": wanted.seed, "method": method}
            record |= run(wanted.name, method, wanted.seed, [label for _, label in test], wanted.out)
            with lines.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
    print(json.dumps({"rows": len(train)}))


def run(name: str, method: str, seed: int, targets: list[str], out: Path) -> dict[str, object]:
    """Score, and what was forecast beside what it took."""
    import pyarrow.parquet as pq

    folder = out / method
    shutil.rmtree(folder, ignore_errors=True)
    metric = "macro-f1" if name in WEIGHTED else "accuracy"
    told = ["--target", "label", "--text", "text", "--test", str(out / "test.csv"), "--method", method]
    told += ["--metric", metric, "--seed", str(seed), "--set", "evaluation.baselines=[majority]", "--out", str(folder)]
    with (out / f"{method}.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, "-m", "whet", "finetune", str(out / "train.csv"), *told]
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    table = pq.read_table(folder / "predictions.parquet", columns=["row", "predicted"])
    answers: list[str | None] = [None] * len(targets)
    for row, answer in zip(table.column("row").to_pylist(), table.column("predicted").to_pylist(), strict=True):
        answers[row - 1] = answer
    kept = [place for place, answer in enumerate(answers) if answer is not None]
    value = score(name, [str(answers[place]) for place in kept], [targets[place] for place in kept])
    story = json.loads((folder / "story.json").read_text(encoding="utf-8"))
    shutil.rmtree(folder / "model", ignore_errors=True)
    return {
        "score": value,
        "seconds": story["actual"]["seconds"],
        "forecast": story["forecast_taken"] or story["forecast"]["seconds"],
        "planned": story["forecast"]["seconds"],
        "memory": story["actual"]["memory_bytes"],
        "memory_forecast": story["forecast"]["memory_bytes"],
        "won": story["method"],
        "tested": len(kept),
    }


if __name__ == "__main__":
    main()
