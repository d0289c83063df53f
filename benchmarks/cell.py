"""One cell of the accuracy table: one subsample, every method of whet at its defaults, a line of JSON as each ends.

A stopped cell goes on where it stopped. Baselines are left out, since only the methods are compared here.
"""

import argparse
import json
import shutil
import time
from pathlib import Path

from samples import WEIGHTED, sample, score, write_rows

import whet

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
    """Score, seconds and forecast of one method."""
    import pyarrow.parquet as pq

    folder = out / method
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    result = whet.finetune(
        out / "train.csv",
        "label",
        text="text",
        test=out / "test.csv",
        method=method,
        seed=seed,
        out=folder,
        metric="macro-f1" if name in WEIGHTED else "accuracy",
        settings=["evaluation.baselines=[majority]"],
    )
    seconds = time.monotonic() - began
    table = pq.read_table(folder / "predictions.parquet", columns=["row", "predicted"])
    answers: list[str | None] = [None] * len(targets)
    for row, answer in zip(table.column("row").to_pylist(), table.column("predicted").to_pylist(), strict=True):
        answers[row - 1] = answer
    kept = [place for place, answer in enumerate(answers) if answer is not None]
    value = score(name, [str(answers[place]) for place in kept], [targets[place] for place in kept])
    story = result.story
    shutil.rmtree(folder / "model", ignore_errors=True)
    return {
        "score": value,
        "seconds": seconds,
        "forecast": story.forecast.seconds,
        "won": story.method,
        "tested": len(kept),
    }


if __name__ == "__main__":
    main()
