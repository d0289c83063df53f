"""Does a run that is killed and resumed end with the bytes of one that never was? Every method, at random points.

A fault is a function of its seed and number: which method, where the kill falls (a moment of the wall time, or of the
writing of checkpoints, caches, the packaged model or the rest of the folder), how long after it, and whether the
resumed run is killed once more. Times fall differently on every machine; file operations do not.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from faults.moments import AREAS, Death
from faults.server import Ended, Server, environment
from whet import catalog

FAULTS = 60
REAL = 5
"""Faults whose processes are started from the command line, without the fork server."""
PART, STRIDE = 15, 47
"""The part that the tests run: every method, every kind, one of them as real processes."""
KINDS = ("time", *AREAS)
LONGEST_DELAY = 0.004
TRIES = 5
COMMON = {
    "machinery.threads": 1,
    "machinery.precision": "float32",
    "machinery.checkpoint_seconds": 0.005,
    "backbone.attention": "eager",
}
STEPS = {"training.epochs": 3, "training.batch_size": 8}
LOSS = {"training.patience": 3, "training.head_learning_rate": 5.0}
"""Of methods that take steps, and of those that minimise the task's loss."""
OF_METHOD = {"learning_rate": 3e-3, "solve.penalties": [100.0], "solve.folds": 2}
"""So weak a head that steps improve it; set where a method has such a field."""
LADDER = {"data.valid_fraction": 0.4, "method.methods": ["probe", "bias-only", "full"]}
ROWS, LADDER_ROWS = 60, 120
"""The ladder needs rows to choose by."""


class NotEqualError(AssertionError):
    """A resumed run that is not what an undisturbed one is."""


@dataclass(frozen=True)
class Fault:
    """One kill, or two.

    Args:
        number: Of ``FAULTS``.
        kinds: Of each kill: "time" or an area of file operations.
        places: Of each kill, 0 to 1: the share of the undisturbed run's seconds or operations before it.
        delays: Seconds from the operation to the kill; 0 is at once.
        real: Whether the processes are started from the command line.
    """

    seed: int
    number: int
    method: str
    kinds: tuple[str, ...]
    places: tuple[float, ...]
    delays: tuple[float, ...]
    real: bool

    def __str__(self) -> str:
        kills = [f"{kind} {place:.4f} + {delay * 1e3:.2f} ms" for kind, place, delay in self.kills()]
        return f"{self.method}, killed at {', then '.join(kills)}{' (real processes)' if self.real else ''}"

    def kills(self) -> Iterator[tuple[str, float, float]]:
        """Kind, place and delay of each."""
        return zip(self.kinds, self.places, self.delays, strict=True)


@dataclass(frozen=True)
class Outcome:
    """What became of one fault: exit codes of the killed processes, and where the resumed run went on."""

    fault: Fault
    codes: tuple[int, ...]
    resumed: str


@dataclass(eq=False)
class Reference:
    """An undisturbed run of one method: its plan, bytes, files, seconds, and file operations by area."""

    plan: Path
    bytes: dict[str, bytes]
    files: set[str]
    ended: Ended


def methods() -> list[str]:
    """Everything that ``--method`` takes."""
    return [*catalog.members("method"), "auto"]


def faults(seed: int) -> list[Fault]:
    """All of them; each a function of seed and number."""
    names, found, real = methods(), [], 0
    for number in range(FAULTS):
        draw = random.Random(f"{seed}-{number}")
        kind = KINDS[(number // len(names) + number) % len(KINDS)]
        kinds = (kind, draw.choice(KINDS)) if number % 3 == 2 else (kind,)
        is_real = kinds == ("time",) and real < REAL
        real += is_real
        places = tuple(draw.random() for _ in kinds)
        delays = tuple(draw.choice((0.0, draw.uniform(0, LONGEST_DELAY))) for _ in kinds)
        found.append(Fault(seed, number, names[number % len(names)], kinds, places, delays, is_real))
    return found


def part_of(every: list[Fault]) -> list[Fault]:
    """Those that the tests run."""
    return [every[number * STRIDE % len(every)] for number in range(PART)]


@dataclass(eq=False)
class Harness:
    """Tiny rows and a tiny model in a working folder, and what undisturbed runs of them give.

    Args:
        here: An empty folder.
        model: A tiny encoder (``whet.testing.tiny_text_model``).
    """

    here: Path
    model: Path
    server: Server
    _references: dict[str, Reference] = field(default_factory=dict)
    _loading: float | None = None

    def __post_init__(self) -> None:
        write_rows(self.here / "rows.csv", ROWS)
        write_rows(self.here / "rows-auto.csv", LADDER_ROWS)
        (self.here / "logs").mkdir()

    def try_fault(self, fault: Fault) -> Outcome:
        """Kill, resume with the same command, compare.

        Raises:
            NotEqualError: naming what differs.
        """
        reference = self.reference(fault.method)
        name = f"{fault.method}-{fault.number}"
        run, words = self.here / f"run-{name}", self.words_of(reference.plan, name)
        codes: list[int] = []
        for kind, place, delay in fault.kills():
            if (run / "metrics.json").exists():
                break
            resume = ["--resume"] if (run / "plan.yaml").exists() else []
            ended = self.killed([*words, *resume], reference, kind, place, delay, run, name, real=fault.real)
            codes += [ended.code]
        finished = (run / "metrics.json").exists()  # killed as it tidied up; --resume says so, and tidies up
        ended = self.start([*words, "--resume"], name, run=run, real=fault.real)
        if ended.code != (2 if finished else 0):
            raise NotEqualError(f"{fault}: resuming ended with {ended.code}\n{self.log(name)}")
        require_same(reference, run, str(fault))
        outcome = Outcome(fault, tuple(codes), how_resumed(run))
        for path in (run, self.here / f"cache-{name}"):
            shutil.rmtree(path, ignore_errors=True)
        return outcome

    def killed(
        self,
        words: list[str],
        reference: Reference,
        kind: str,
        place: float,
        delay: float,
        run: Path,
        name: str,
        *,
        real: bool,
    ) -> Ended:
        """A process that is killed; one that ends before its kill is run anew, and the kill comes earlier."""
        kept = self.here / f"kept-{name}"
        copy_all(run, kept)
        for _ in range(TRIES):
            if real:
                ended = self.start(words, name, after=place * self.real_seconds(reference), run=run, real=True)
            elif kind == "time" or not reference.ended.operations.get(kind):
                ended = self.start(words, name, after=place * reference.ended.seconds)
            else:
                number = int(place * reference.ended.operations[kind])
                ended = self.start(words, name, death=Death(kind, number, delay))
            if ended.killed:
                break
            if ended.code:
                raise NotEqualError(f"{name}: ended with {ended.code} before its kill\n{self.log(name)}")
            place /= 2
            copy_all(kept, run)
        shutil.rmtree(kept, ignore_errors=True)
        return ended

    def reference(self, method: str) -> Reference:
        """The undisturbed run of a method, made once."""
        if method not in self._references:
            plan = self.here / f"plan-{method}.yaml"
            rows = "rows-auto.csv" if method == "auto" else "rows.csv"
            words = ["plan", rows, "--target", "topic", "--model", str(self.model), "--method", method]
            settings = settings_of(method) | {"cache": str(self.here / "cache-whole")}
            for name, value in settings.items():
                words += ["--set", f"{name}={value}"]
            name = f"{method}-whole"
            ended = self.start([*words, "--out", str(plan)], name)
            assert ended.code == 0, self.log(name)
            ended = self.start(self.words_of(plan, name), name)
            assert ended.code == 0, self.log(name)
            run = self.here / f"run-{name}"
            self._references[method] = Reference(plan, bytes_of(run), files_of(run), ended)
        return self._references[method]

    def real_seconds(self, reference: Reference) -> float:
        """About the seconds from the making of the run folder to the end, in a real process, which loads more."""
        if self._loading is None:
            name = f"{reference.plan.stem.removeprefix('plan-')}-real"
            ended = self.start(self.words_of(reference.plan, name), name, run=self.here / f"run-{name}", real=True)
            assert ended.code == 0, self.log(name)
            require_same(reference, self.here / f"run-{name}", name)
            self._loading = ended.seconds - reference.ended.seconds
        return reference.ended.seconds + self._loading

    def words_of(self, plan: Path, name: str) -> list[str]:
        """The command of one run: the same plan, but for the place of a cache of its own."""
        own = self.here / f"plan-{name}.yaml"
        text = plan.read_text(encoding="utf-8")
        own.write_text(text.replace("/cache-whole", f"/cache-{name}"), encoding="utf-8")
        return ["finetune", "--plan", str(own), "--out", f"run-{name}"]

    def start(
        self,
        words: list[str],
        name: str,
        *,
        after: float | None = None,
        death: Death | None = None,
        run: Path | None = None,
        real: bool = False,
    ) -> Ended:
        """One process to its end."""
        log = self.here / "logs" / f"{name}.txt"
        if not real:
            return self.server.run(words, self.here, log, after=after, death=death)
        assert run is not None
        with log.open("a") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "whet", *words], cwd=self.here, env=environment(), stdout=output, stderr=output
            )
            while not run.exists() and process.poll() is None:  # imports are of no interest
                time.sleep(0.002)
            began = time.monotonic()
            try:
                process.wait(after)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
        return Ended(process.returncode, time.monotonic() - began, {})

    def log(self, name: str) -> str:
        """What the processes of a run printed."""
        return (self.here / "logs" / f"{name}.txt").read_text(errors="replace")[-3000:]


def settings_of(method: str) -> dict[str, Any]:
    """Small and quick; every other method steps in bfloat16."""
    names = methods()
    precision = "bfloat16" if names.index(method) % 2 else "float32"
    settings: dict[str, Any] = COMMON | {"machinery.training_precision": precision}
    if method == "auto":
        return settings | STEPS | LOSS | LADDER | {"method.seconds": 600, "evaluation.baselines": ["majority", "tfidf"]}
    settings |= {"evaluation.baselines": ["majority"]}
    known = {one.name for one in fields(catalog.find("method", method))}
    if not getattr(catalog.find("method", method)(), "epochs", 0):
        return settings
    settings |= STEPS if method == "contrastive" else STEPS | LOSS
    return settings | {f"method.{name}": value for name, value in OF_METHOD.items() if name.partition(".")[0] in known}


def write_rows(path: Path, count: int) -> None:
    """Short texts of three topics."""
    from whet.testing import tiny_rows

    table = tiny_rows("classification", count)[0].table.to_pydict()
    lines = [f"{text},{target}" for text, target in zip(table["text"], table["target"], strict=True)]
    path.write_text("\n".join(["text,topic", *lines]) + "\n", encoding="utf-8")


def bytes_of(run: Path) -> dict[str, bytes]:
    """What must not depend on kills."""
    files = [*(run / "model").rglob("*.safetensors"), run / "predictions.parquet", run / "metrics.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def files_of(run: Path) -> set[str]:
    """Every file and folder of a run."""
    return {str(path.relative_to(run)) for path in run.rglob("*")}


def require_same(reference: Reference, run: Path, what: str) -> None:
    """Equal bytes, and no file more or less."""
    found = bytes_of(run)
    other = sorted(
        name for name in found.keys() | reference.bytes.keys() if found.get(name) != reference.bytes.get(name)
    )
    if other:
        raise NotEqualError(f"{what}: other bytes in {', '.join(other)}")
    if files_of(run) != reference.files:
        raise NotEqualError(f"{what}: other files: {', '.join(sorted(files_of(run) ^ reference.files))}")


def how_resumed(run: Path) -> str:
    """Where a finished run said that it went on."""
    from whet.folder import read_events

    said = [event.get("message", "") for event in read_events(run)]
    words = [one for one in said if one.startswith(("Resumed after step", "There is no checkpoint"))]
    return words[-1] if words else "nothing was there to resume"


def copy_all(source: Path, into: Path) -> None:
    """A folder as it is, in place of another; nothing where there is none."""
    shutil.rmtree(into, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, into)


def new_seed() -> int:
    """A seed that was never tried; failures print it."""
    return int.from_bytes(os.urandom(3), "big")
