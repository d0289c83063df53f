"""Is a damaged checkpoint noticed, the one before used, and nothing of the result changed by it?

A run is killed in the midst of its steps; then a file of its newest checkpoint, or of all of them, is cut short,
altered or removed, and the run is resumed.
"""

import random
import shutil
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from faults.harness import Harness, NotEqualError, require_same
from faults.moments import Death

FILES = ("tensors.safetensors", "state.json")
HOWS = ("cut short", "a bit flipped", "a block inverted", "emptied", "removed")
PLACES = 2
BLOCK = 512
METHODS = ("full", "lora")
LATE = 0.85
"""Of the file operations on checkpoints, where the run is killed: its last stage has two checkpoints by then."""


@dataclass(frozen=True)
class Damage:
    """What is done to a file of the newest checkpoint, or of ``every`` one; ``place`` is where in it, 0 to 1."""

    seed: int
    number: int
    method: str
    file: str
    how: str
    every: bool
    place: float

    def __str__(self) -> str:
        which = "every checkpoint" if self.every else "the newest checkpoint"
        return f"{self.method}, {self.file} of {which} {self.how} at {self.place:.4f}"


@dataclass(frozen=True)
class Noticed:
    """What a resumed run said of the damage."""

    damage: Damage
    said: str


def damages(seed: int) -> list[Damage]:
    """Every way, on every file, at random places."""
    found = []
    for number, (how, file, every, _) in enumerate(product(HOWS, FILES, (False, True), range(PLACES))):
        place = random.Random(f"{seed}-damage-{number}").random()
        found.append(Damage(seed, number, METHODS[number % len(METHODS)], file, how, every, place))
    return found


def part_of(every: list[Damage]) -> list[Damage]:
    """Those that the tests run: of one method, so that one run is killed."""
    return [every[number] for number in (0, 10, 12, 22)]


def try_damage(harness: Harness, damage: Damage) -> Noticed:
    """Damage a copy of a half-done run, resume it, compare.

    Raises:
        NotEqualError: the damage was not noticed, or the bytes are others.
    """
    half = half_done(harness, damage.method)
    name = f"half-{damage.method}"
    run = harness.here / f"run-damaged-{damage.method}-{damage.number}"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(half, run)
    newest, before, *older = checkpoints_of(run)
    for folder in (newest, before, *older) if damage.every else (newest,):
        spoil(folder / damage.file, damage)
    words = ["finetune", "--plan", str(harness.here / f"plan-{name}.yaml"), "--out", run.name, "--resume"]
    ended = harness.start(words, name)
    if ended.code:
        raise NotEqualError(f"{damage}: resuming ended with {ended.code}\n{harness.log(name)}")
    said = messages_of(run)
    passed = f"The checkpoint {newest.name} is damaged and was passed over."
    then = f"Resumed after step {int(before.name.removeprefix('step-'))}."
    then = "No checkpoint of this stage is whole, so it starts from its beginning." if damage.every else then
    if passed not in said or then not in said:
        raise NotEqualError(f"{damage}: not said: {passed} {then}; said: {said}")
    require_same(harness.reference(damage.method), run, str(damage))
    shutil.rmtree(run)
    return Noticed(damage, then)


def half_done(harness: Harness, method: str) -> Path:
    """A run of the method that was killed late in its steps, made once."""
    name = f"half-{method}"
    run = harness.here / f"run-{name}"
    if not run.exists():
        reference = harness.reference(method)
        death = Death("checkpoint", int(LATE * reference.ended.operations["checkpoint"]), 0.0)
        ended = harness.start(harness.words_of(reference.plan, name), name, death=death)
        assert ended.killed, harness.log(name)
    return run


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoints of the stage that was under way, newest first; three where the oldest was about to go."""
    stage = max(path.parent for path in run.glob(".work/checkpoints/*/step-*"))
    return sorted(stage.glob("step-*"), reverse=True)


def spoil(path: Path, damage: Damage) -> None:
    """Do it to one file; the line break that ends state.json holds nothing, so it is left out."""
    data = bytearray(path.read_bytes())
    size = len(data.rstrip(b"\n")) if path.suffix == ".json" else len(data)
    place = min(size - 1, int(damage.place * size))
    if damage.how == "removed":
        path.unlink()
        return
    if damage.how == "a bit flipped":
        data[place] ^= 1 << place % 8
    elif damage.how == "a block inverted":
        data[place : min(size, place + BLOCK)] = bytes(255 - one for one in data[place : min(size, place + BLOCK)])
    else:
        data = data[: place if damage.how == "cut short" else 0]
    path.write_bytes(bytes(data))


def messages_of(run: Path) -> list[str]:
    """What a finished run said."""
    from whet.folder import read_events

    return [event["message"] for event in read_events(run) if event["event"] == "said"]
