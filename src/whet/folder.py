"""One run's folder: made, locked, written to line by line, and found again.

Two runs never write into one folder: an advisory lock is held while a run lives and vanishes with its process.
"""

import errno
import fcntl
import json
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from whet.atomic import written
from whet.backbones.weights import RECORD
from whet.data.rows import Finding
from whet.errors import MachineError, RunError
from whet.report.words import size
from whet.training.events import Event, as_record

PLAN, EVENTS, METRICS, MODEL = "plan.yaml", "events.jsonl", "metrics.json", "model"
WORK, TRACKS, PARTS = ".work", "tracks", "parts.json"
RUNS = Path("runs")
"""Where runs lie that nobody names a folder for."""
LEFT = {PLAN, EVENTS, WORK, TRACKS, ".lock", MODEL, "predictions.parquet", "report.html", "README.md", "story.json"}
"""What an unfinished run may leave, and a resumed one takes up again."""
NOTHING_TO_RESUME = "there was no checkpoint yet to go on from"
NOTHING_KEPT = "Nothing was worth keeping yet; the same command starts anew."


def choose_folder(out: Path | None, name: str, resume: bool, parent: Path = RUNS) -> Path:
    """The folder of a run: as named, else the next free number under ``runs/``.

    Raises:
        RunError: it holds other things, or a finished run.
    """
    if out is None:
        taken = [path for path in parent.glob(f"{name}-*") if path.name.removeprefix(f"{name}-").isdecimal()]
        taken = sorted(taken, key=lambda path: (len(path.name), path.name))
        unfinished = [path for path in taken if is_unfinished(path)]
        out = unfinished[-1] if resume and unfinished else parent / f"{name}-{next_number(taken, name)}"
    if ".." in out.parts:  # a folder that is not there yet would make the whole lead elsewhere
        out = out.resolve()
    if out.exists() and not out.is_dir():
        raise RunError("The output is a file, not a folder.", where=str(out), fix="choose another --out")
    present = {path.name for path in out.iterdir()} if out.exists() else set()
    ours = LEFT if PLAN in present else {WORK, ".lock"}
    foreign = {name for name in present - ours if not is_partial(name)}
    if (out / METRICS).exists():
        sweep(out)
        raise RunError(
            "This folder holds a finished run" + ("; there is nothing to resume." if resume else "."),
            where=str(out),
            fix="look at it with whet report, or choose another --out"
            + ("; a run that was stopped with Ctrl-C ended with the best until then" if resume else ""),
        )
    if foreign:
        raise RunError(
            f"The output folder is not empty: it holds {sorted(foreign)[0]!r}.",
            where=str(out),
            fix="choose an empty or new folder with --out",
        )
    if (out / PLAN).exists() and not resume:
        if (out / ".lock").exists():
            with locked(out):  # or another run is still at it
                pass
        raise RunError(
            "This folder holds an unfinished run.", where=str(out), fix="add --resume to go on, or choose another --out"
        )
    return out


def make_folder(folder: Path, *, new: bool = False) -> list[Path]:
    """Make the folder with its parents; which of them were not there before, deepest first.

    Raises:
        RunError: it cannot be written.
        FileExistsError: it is to be ``new``, and another run has made it meanwhile.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(exist_ok=not new)
        (folder / WORK).mkdir(exist_ok=True)
    except OSError as error:
        if new and isinstance(error, FileExistsError) and folder.is_dir():
            raise
        remove_empty(made)
        raise RunError(
            f"The run folder cannot be written: {error.strerror}.",
            where=str(folder),
            fix="choose a folder you may write to with --out",
        ) from error
    return made


def require_space(folder: Path, run_bytes: int, cache: Path | None, cache_bytes: int) -> list[Finding]:
    """Refuse a run whose folder will not hold what is forecast; a word where only its cache will not fit beside it.

    Args:
        run_bytes: What the run folder will hold; cache_bytes: what the cache will hold, at most.
        cache: Its folder; None keeps nothing.

    Raises:
        MachineError: the run folder's file system has less free.
    """
    place, free = nearest(folder), shutil.disk_usage(nearest(folder)).free
    if run_bytes > free:
        raise MachineError(
            f"The run will write about {size(run_bytes)} and {size(free)} are free.",
            where=str(folder),
            fix="free some space, or choose a place on a larger disk with --out",
        )
    if cache is None:
        return []
    other = nearest(cache)
    shared = place.stat().st_dev == other.stat().st_dev
    free = (free - run_bytes) if shared else shutil.disk_usage(other).free
    if cache_bytes <= free:
        return []
    beside = " beside the run" if shared else ""
    message = f"The cache may take {size(cache_bytes)}, and {size(free)} are free for it{beside}."
    fix = "free some space, or keep none with --set cache=off" + ("" if shared else "; without it the run needs memory")
    return [Finding("disk", "warning", message, str(cache), fix)]


def nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    place = folder.absolute()
    return next(one for one in (place, *place.parents) if one.exists())


def is_partial(name: str) -> bool:
    """Whether a killed run was writing this file or folder."""
    return name == f"{MODEL}.new" or (name.startswith(".") and name.endswith(".part"))


def next_number(taken: list[Path], name: str) -> int:
    """One more than the largest number in use."""
    return 1 + max((int(path.name.removeprefix(f"{name}-")) for path in taken), default=0)


def taken_before(folder: Path, began: float) -> float:
    """Seconds that the run in a folder had taken before it was resumed, as far as its log tells; notes that it goes on.

    Args:
        began: Wall-clock time at which this part of it began.
    """
    note, log, seconds = folder / WORK / PARTS, folder / EVENTS, 0.0
    with suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(note.read_text(encoding="utf-8"))
        seconds = float(told["seconds"])
        seconds += max(0.0, log.stat().st_mtime - float(told["began"]))
    write_json(note, {"seconds": seconds, "began": began})
    return seconds


def is_unfinished(folder: Path) -> bool:
    """Whether a run began here and did not end."""
    return (folder / PLAN).exists() and not (folder / METRICS).exists()


def refuse_unfinished(folder: Path) -> None:
    """Where a run began and made no model yet, nothing can answer.

    Raises:
        RunError: with how to finish it.
    """
    begun = is_unfinished(folder) or (folder / WORK).is_dir()
    if begun and not any((place / RECORD).is_file() for place in (folder, folder / MODEL)):
        raise no_finished_run(folder)


def no_finished_run(folder: Path) -> RunError:
    """What is said of a folder without a finished run."""
    return RunError(
        "There is no finished run here.", where=str(folder), fix="`whet runs` lists runs; --resume finishes one"
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process.

    Raises:
        RunError: another process holds it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunError(
                "Another run is writing into this folder.",
                where=str(folder),
                fix="wait for it, or choose another --out",
            ) from error
        yield
    (folder / ".lock").unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what a run that was killed at its very end did not come to remove; not while it is still at it."""
    if (folder / WORK).exists() or (folder / ".lock").exists():
        with suppress(RunError, OSError), locked(folder):  # which removes its own file
            shutil.rmtree(folder / WORK, ignore_errors=True)


@contextmanager
def run_folder(out: Path | None, name: str, resume: bool, parent: Path = RUNS) -> Iterator[tuple[Path, list[Path]]]:
    """The folder of a run, chosen, made, held and cleared of what a killed run was writing; what ``make_folder`` says.

    Of runs that begin at once each gets a number of its own: the one that another has taken meanwhile is passed over.

    Raises:
        RunError: it is not free, or cannot be written.
    """
    made = None
    while made is None:
        folder = choose_folder(out, name, resume, parent)
        numbered = out is None and not (resume and is_unfinished(folder))
        with suppress(FileExistsError):
            made = make_folder(folder, new=numbered)
    with locked(folder):
        remove([path for path in folder.iterdir() if is_partial(path.name)])
        yield folder, made


class EventLog:
    """Events as lines of JSON, flushed one by one."""

    def __init__(self, path: Path) -> None:
        torn = path.exists() and not path.read_bytes().endswith(b"\n")  # what a killed run was writing
        self._file = path.open("a", encoding="utf-8")
        if torn:
            self._file.write("\n")

    def __call__(self, event: Event) -> None:
        self._file.write(json.dumps(as_record(event), ensure_ascii=False) + "\n")
        self._file.flush()

    def close(self) -> None:
        with suppress(OSError):  # what a full disk did not take; the run itself says so
            self._file.close()


def read_events(folder: Path) -> list[dict[str, Any]]:
    """The whole lines of a run's event log."""
    path = folder / EVENTS
    if not path.exists():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # the last line of a killed run may be torn
    return found


def write_json(path: Path, content: Any) -> None:
    """JSON, whole or not at all."""
    with written(path) as beside, beside.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")


def unwritable(error: OSError, folder: Path, kept: bool) -> MachineError:
    """A disk's refusal during a run, in the form of every other error.

    Args:
        kept: Whether a checkpoint is there to go on from.
    """
    again = "go on with --resume" if kept else "give the same command again; " + NOTHING_TO_RESUME
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return MachineError(
        "The disk is full." if full else f"A file cannot be used: {error.strerror or error}.",
        where=str(error.filename or folder),
        fix=f"free some space, then {again}" if full else "check the path and your rights to it",
    )


def how_to_go_on(folder: Path, command: str) -> str:
    """What was kept, and as its last line the command that goes on with it; without a command, the call."""
    kept = f"What was done until now is kept in {folder}. To go on:"
    if not command:
        return f"{kept}\nthe same call with out={str(folder)!r} and resume=True"
    words = shlex.split(command)
    words += [] if any(word == "--out" or word.startswith("--out=") for word in words) else ["--out", str(folder)]
    words += [] if "--resume" in words else ["--resume"]
    return f"{kept}\n{shlex.join(words)}"


def has_checkpoint(folder: Path) -> bool:
    """Whether an unfinished run left something that took long and can be taken up again."""
    return any((folder / WORK).glob("checkpoints/**/state.json"))


def discard(folder: Path, made: list[Path]) -> None:
    """After a failure with nothing worth keeping: leave nothing of ours behind.

    Args:
        made: What ``make_folder`` said it made.
    """
    remove([path for path in folder.iterdir() if path.name in LEFT or is_partial(path.name)])
    remove_empty(made)


def remove(places: list[Path]) -> None:
    """Files and whole folders."""
    for place in places:
        if place.is_dir():
            shutil.rmtree(place, ignore_errors=True)
        else:
            place.unlink(missing_ok=True)


def remove_empty(folders: list[Path]) -> None:
    """Remove those folders, deepest first, that hold nothing."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
