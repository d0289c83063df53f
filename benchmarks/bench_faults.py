"""Is a run that is killed and resumed the run that was not? ``make bench-faults``, or this file with --help.

Sixty kills at random points over every method, and damaged checkpoints, each compared byte by byte with an undisturbed
run of the same plan (``tests/faults``, which the tests share). Each is noted under ``.work/faults`` when it is over, so
an interrupted benchmark goes on where it stopped, with the seed that it began with.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "src")]

import results  # noqa: E402 - the engine lies with the tests
from bench_text import commit  # noqa: E402
from notes import Note, Notes  # noqa: E402

from faults import damage, harness  # noqa: E402
from faults.server import Server  # noqa: E402

WORK = ROOT / "benchmarks" / ".work" / "faults"
KILL, DAMAGE, SECTION = "kill", "damage", "faults/all"


def main() -> None:
    wanted = options()
    if wanted.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    only = {name for name in wanted.only.split(",") if name}
    if only:
        (WORK / "only.jsonl").unlink(missing_ok=True)
    notes = Notes(WORK / ("only.jsonl" if only else "notes.jsonl"))
    if not wanted.report:
        run(notes, wanted.seed, only)
    if not only:
        write(ROOT / "benchmarks" / "RESULTS.md", notes)
    failed = [f"{note.part}-{note.number}" for note in notes.all() if not note.detail["equal"]]
    if failed:
        raise SystemExit(f"Not equal: {', '.join(failed)}; {notes.all()[0].detail['seed']} is the seed.")


def run(notes: Notes, seed: int | None, only: set[str]) -> None:
    """Everything that is wanted and not noted yet."""
    if seed is None:
        seed = int(notes.all()[0].detail["seed"]) if notes.all() else harness.new_seed()
    print(f"seed {seed}", flush=True)
    from whet.testing import tiny_text_model

    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        here = Path(place)
        model = tiny_text_model(here / "tiny")
        (here / "work").mkdir()
        server = Server()
        tiny = harness.Harness(here / "work", model, server)
        for part, number, trial in trials(tiny, seed):
            known = any((note.number, note.detail["seed"]) == (number, seed) for note in notes.of(part))
            if f"{part}-{number}" in only or (not only and not known):
                detail = trial() | {"seed": seed}
                print(f"{datetime.now(UTC):%H:%M:%S}  {part}-{number}  {detail['what']}: {detail['end']}", flush=True)
                notes.add(Note(part, number, {}, detail, commit(), f"{datetime.now(UTC):%Y-%m-%d %H:%M}"))
        server.close()


def trials(tiny: harness.Harness, seed: int) -> list[tuple[str, int, Callable[[], dict[str, Any]]]]:
    """Part, number, and what to call for a note about it."""
    found: list[tuple[str, int, Callable[[], dict[str, Any]]]] = []
    found += [(KILL, fault.number, lambda fault=fault: killed(tiny, fault)) for fault in harness.faults(seed)]
    found += [(DAMAGE, one.number, lambda one=one: damaged(tiny, one)) for one in damage.damages(seed)]
    return found


def killed(tiny: harness.Harness, fault: harness.Fault) -> dict[str, Any]:
    """One fault, as a note."""
    what = {"what": str(fault), "method": fault.method, "kinds": fault.kinds, "real": fault.real}
    try:
        outcome = tiny.try_fault(fault)
    except AssertionError as error:
        return what | {"equal": False, "end": str(error), "kills": 0, "resumed": ""}
    kills = sum(code < 0 for code in outcome.codes)
    return what | {"equal": True, "end": f"equal; {outcome.resumed}", "kills": kills, "resumed": outcome.resumed}


def damaged(tiny: harness.Harness, one: damage.Damage) -> dict[str, Any]:
    """One damaged checkpoint, as a note."""
    what = {"what": str(one), "how": one.how, "file": one.file, "every": one.every}
    try:
        noticed = damage.try_damage(tiny, one)
    except AssertionError as error:
        return what | {"equal": False, "end": str(error)}
    return what | {"equal": True, "end": f"equal; {noticed.said}"}


def write(path: Path, notes: Notes) -> None:
    """The section of RESULTS.md; the others stay as they are."""
    if not notes.all():
        return
    text = path.read_text(encoding="utf-8") if path.exists() else results.HEAD
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(results.placed(text, SECTION, section(notes), [SECTION]), encoding="utf-8")
    beside.replace(path)


def section(notes: Notes) -> str:
    """What was killed and damaged, and whether anything differed."""
    kills, damages, every = notes.of(KILL), notes.of(DAMAGE), notes.all()
    equal = sum(note.detail["equal"] for note in every)
    lines = [
        "## Killed and resumed, damaged and resumed",
        "",
        f"Seed {every[0].detail['seed']}; {', '.join(dict.fromkeys(note.commit for note in every))}; "
        f"{every[-1].date} (UTC). {len(kills)} faults of {harness.FAULTS}, "
        f"{sum(note.detail['real'] for note in kills)} of them in processes started from the command line, and "
        f"{len(damages)} damaged checkpoints: {equal} of {len(every)} gave the bytes of an undisturbed run (model, "
        "predictions, metrics, names of files). Tiny encoder and rows, every other method in bfloat16.",
        "",
        results.row("method", "faults", "kills", *harness.KINDS, "from a checkpoint", "equal"),
        *results.rule(5 + len(harness.KINDS)),
    ]
    for method in dict.fromkeys(note.detail["method"] for note in kills):
        own = [note.detail for note in kills if note.detail["method"] == method]
        kinds = [sum(kind in one["kinds"] for one in own) for kind in harness.KINDS]
        resumed = sum(one["resumed"].startswith("Resumed") for one in own)
        same = f"{sum(one['equal'] for one in own)} of {len(own)}"
        lines.append(results.row(method, len(own), sum(one["kills"] for one in own), *kinds, resumed, same))
    lines += [
        "",
        results.row("damage", "file", "the newest: the one before", "all: from the beginning"),
        *results.rule(4),
    ]
    for how in damage.HOWS:
        for file in damage.FILES:
            own = [note.detail for note in damages if (note.detail["how"], note.detail["file"]) == (how, file)]
            parts = [[one["equal"] for one in own if one["every"] == all_of_them] for all_of_them in (False, True)]
            lines.append(results.row(how, file, *(f"{sum(part)} of {len(part)} equal" for part in parts)))
    return "\n".join(lines)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, help="of every fault; a new one unless a benchmark is gone on with")
    parser.add_argument("--only", default="", help="such as kill-7,damage-3; nothing is written to RESULTS.md")
    parser.add_argument("--fresh", action="store_true", help="forget what is noted and start again")
    parser.add_argument("--report", action="store_true", help="run nothing; write RESULTS.md from what is noted")
    return parser.parse_args()


if __name__ == "__main__":
    main()
