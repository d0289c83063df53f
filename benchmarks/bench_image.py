"""Image classification beside its peers, in one run: ``make bench-image``, or ``python benchmarks/bench_image.py``.

Whole processes from empty caches, on repeated splits of three sets with one real backbone; and images a second of full
tuning with two shapes that have random weights, for speed alone. Each finished process is noted, so that a stopped
benchmark goes on where it stopped.
"""

import argparse
import json
import shutil
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import image_results
from bench_engine import machine
from bench_text import HERE, ROOT, commit, run_detail, warm_disk_cache, whet_command
from image_splits import DATA, split
from notes import Note, Notes
from processes import FailedProcessError, measured

MODEL = DATA.parent / "models" / "mobilenet-v2-imagenet"
SETS = ("cifar10_subset", "flowers", "brain_mri")
CONTENDERS = ("a", "b", "c", "auto", "d", "e-frozen", "e-full")
SPLITS = 10
FEWER, LONG_SECONDS = 3, 600
"""Splits where a peer's run takes so long."""
SHAPES = ("resnet-18", "vit-small")
SHAPE_ROWS = 320
"""Pictures of which images a second are timed."""
TOP = 2
"""Blocks that (b) trains: those behind the last change of resolution."""
BOUND_EPOCHS = (5, 40)


@dataclass(frozen=True)
class Bench:
    """Where things lie."""

    work: Path
    notes: Notes

    def run(self, part: str, number: int) -> None:
        """One process of one part, and a note about it."""
        print(f"{datetime.now(UTC):%H:%M:%S}  {part}, run {number + 1}", flush=True)
        folder = self.work / "runs" / f"{part.replace('/', '-')}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        usage = measured(self.command(part, folder), home=folder / "home", log=folder / "log.txt")
        date = f"{datetime.now(UTC):%Y-%m-%d %H:%M}"
        self.notes.add(Note(part, number, asdict(usage), self.detail(part, folder), commit(), date, machine()))
        for name in ("home", "out/model", "trainer"):
            shutil.rmtree(folder / name, ignore_errors=True)

    def command(self, part: str, folder: Path) -> list[str]:
        """The command line of one part: contender/set/seed, speed/contender/shape, or bound/epochs."""
        kind, *rest = part.split("/")
        if kind == "speed":
            contender, shape = rest
            data, model = self.few(), shaped(self.work, shape)
            if contender == "whet":
                more = ["--method", "full", "--set", "training.epochs=1", "--views", "1"]
                return self.whet(data, model, folder, [*more, "--set", "evaluation.baselines=[majority]"])
            limit = ["--limit-steps", "40" if contender == "trainer" else "10"]
            batch = ["--batch", "8" if contender == "trainer" else "32"]
            told = ["--data", str(data), "--model", str(model), "--out", str(folder)]
            return [sys.executable, str(HERE / "peers" / "image_trainer.py"), *told, *batch, *limit]
        if kind == "bound":
            told = ["--train", str(split(SETS[0], 0, self.work)), "--model", str(MODEL), "--count", str(TOP)]
            return [sys.executable, str(HERE / "replay_share.py"), *told, "--epochs", rest[0], "--views", "4"]
        data = split(rest[0], int(rest[1]), self.work)
        methods = {
            "a": ["--method", "probe"],
            "b": ["--method", "top-layers", "--set", f"method.count={TOP}", "--views", "4"],
            "c": ["--method", "full"],
            "auto": [],
        }
        if kind in methods:
            return self.whet(data, MODEL, folder, [*methods[kind], "--seed", rest[1]])
        told = ["--data", str(data), "--model", str(MODEL), "--out", str(folder)]
        if kind == "d":
            return [sys.executable, str(HERE / "peers" / "image_trainer.py"), *told]
        return [
            sys.executable,
            str(HERE / "peers" / "image_loop.py"),
            *told,
            *(["--frozen"] if kind == "e-frozen" else []),
        ]

    def whet(self, data: Path, model: Path, folder: Path, more: list[str]) -> list[str]:
        """``whet finetune`` on one split."""
        return [whet_command(), "finetune", str(data), "--model", str(model), *more, "--out", str(folder / "out")]

    def few(self) -> Path:
        """A few pictures of every class, for speed alone."""
        found = self.work / "few"
        if not found.exists():
            source = split(SETS[0], 0, self.work)
            for part, each in (("train", SHAPE_ROWS // 10), ("test", 4)):
                for folder in sorted((source / part).iterdir()):
                    (found / part / folder.name).mkdir(parents=True)
                    for path in sorted(folder.iterdir())[:each]:
                        shutil.copyfile(path, found / part / folder.name / path.name)
        return found

    def detail(self, part: str, folder: Path) -> dict[str, Any]:
        """What a finished process left behind, as far as the tables need it."""
        kind, *rest = part.split("/")
        if kind == "bound":
            last = [line for line in (folder / "log.txt").read_text().splitlines() if line.startswith("{")]
            return dict(json.loads(last[-1]))
        found: dict[str, Any] = {}
        if (folder / "out" / "story.json").exists():
            found = run_detail(folder / "out")
        elif (folder / "result.json").exists():
            found = dict(json.loads((folder / "result.json").read_text(encoding="utf-8")))
        if kind != "speed":
            found |= scored(folder, split(rest[0], int(rest[1]), self.work))
        return found


def scored(folder: Path, data: Path) -> dict[str, Any]:
    """Right answers by test file, as a string of 0 and 1 in the order of class and name."""
    files = [path for path in sorted((data / "test").glob("*/*")) if path.is_file()]
    if (folder / "answers.json").exists():
        answers = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
        right = [answers[f"{path.parent.name}/{path.name}"] == path.parent.name for path in files]
    else:
        import pyarrow.parquet as pq

        table = pq.read_table(folder / "out" / "predictions.parquet", columns=["row", "target", "predicted"])
        rows = {row["row"]: row["target"] == row["predicted"] for row in table.to_pylist()}
        right = [rows.get(number + 1, False) for number in range(len(files))]
        assert len(rows) == len(files), f"{len(rows)} of {len(files)} test pictures were answered"
    return {"accuracy": sum(right) / len(right), "right": "".join("01"[one] for one in right), "tested": len(files)}


def shaped(work: Path, shape: str) -> Path:
    """A transformers folder of this shape with random weights."""
    folder = work / shape
    if folder.exists():
        return folder
    from transformers import ResNetConfig, ResNetForImageClassification, ViTConfig, ViTForImageClassification

    beside = folder.with_name(f".{shape}.part")
    if shape == "resnet-18":
        config = ResNetConfig(
            embedding_size=64, hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic"
        )
        ResNetForImageClassification(config).save_pretrained(beside)
    else:
        small = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
        ViTForImageClassification(small).save_pretrained(beside)
    processor = {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 224, "width": 224},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    }  # fmt: skip
    (beside / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    beside.rename(folder)
    return folder


def main() -> None:
    wanted = options()
    work = HERE / ".work" / "image"
    if wanted.fresh:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(work, Notes(work / "notes.jsonl"))
    target = HERE / "RESULTS.md"
    failed: list[str] = []
    if not wanted.report:
        warm_disk_cache()
        for part, number in pending(wanted):
            if any(note.number == number for note in bench.notes.of(part)) or enough(bench.notes, part):
                continue
            try:
                bench.run(part, number)
            except (FailedProcessError, OSError, KeyError, ValueError, IndexError) as error:
                failed.append(part)
                print(f"{part} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            image_results.write(target, bench.notes)
    image_results.write(target, bench.notes)
    print(f"Results: {target.relative_to(ROOT)}")
    if failed:
        raise SystemExit(f"Failed, and tried again by the same command: {', '.join(failed)}")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help=f"of {', '.join((*CONTENDERS, 'speed', 'bound'))}, with commas")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--runs", type=int, default=3, help="runs of each part of the speeds")
    parser.add_argument("--fresh", action="store_true", help="forget what is noted and start again")
    parser.add_argument("--report", action="store_true", help="run nothing; write RESULTS.md from what is noted")
    return parser.parse_args()


def pending(wanted: argparse.Namespace) -> list[tuple[str, int]]:
    """(part, run number) of everything that is wanted; contenders alternate."""
    only = {name for name in wanted.only.split(",") if name}
    found = [
        (f"{contender}/{name}/{seed}", 0)
        for seed in range(wanted.splits)
        for name in wanted.sets.split(",")
        for contender in CONTENDERS
        if not only or contender in only
    ]
    if not only or "speed" in only:
        speeds = ("whet", "trainer", "trainer-32")
        found += [(f"speed/{one}/{shape}", n) for n in range(wanted.runs) for shape in SHAPES for one in speeds]
    if not only or "bound" in only:
        found += [(f"bound/{epochs}", 0) for epochs in BOUND_EPOCHS]
    return found


def enough(notes: Notes, part: str) -> bool:
    """Whether a split is one too many, because a peer takes long on that set."""
    kind, *rest = part.split("/")
    if kind not in CONTENDERS or int(rest[1]) < FEWER:
        return False
    peers = [note for peer in ("d", "e-frozen", "e-full") for note in notes.of(f"{peer}/{rest[0]}/0")]
    return any(note.wall > LONG_SECONDS for note in peers)


if __name__ == "__main__":
    main()
