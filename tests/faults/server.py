"""The command, again and again, in processes that need not load anything: ``python -m faults.server``.

A fork server: it imports what a run needs, runs no tensor operation (threads of a parallel region do not survive a
fork), and forks one child for each job that comes in as a line of JSON. A child runs ``whet`` as its own process would,
in its own folder, and may be told to die at one of its own file operations (``faults.moments``).
"""

import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from faults.moments import Death, Moments

ROOT = Path(__file__).resolve().parents[2]
PRELOADED = (
    "torch", "transformers.models.bert.modeling_bert", "transformers.models.auto.modeling_auto", "peft", "peft.mapping",
    "tokenizers", "safetensors.torch", "sklearn.linear_model", "sklearn.feature_extraction.text", "scipy.optimize",
    "pyarrow.parquet", "pyarrow.compute", "yaml", "rich.console", "rich.progress",
)  # fmt: skip


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (minus the signal that ended it), seconds, and its file operations by area."""

    code: int
    seconds: float
    operations: dict[str, int]

    @property
    def killed(self) -> bool:
        return self.code < 0


class Server:
    """Children with the imports behind them, one at a time."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-m", "faults.server"], stdin=pipe, stdout=pipe, text=True, env=environment()
        )
        self._answer()

    def run(
        self, words: Sequence[str], here: Path, log: Path, *, after: float | None = None, death: Death | None = None
    ) -> Ended:
        """``whet`` with these words to its end; killed ``after`` so many seconds, or at a moment of its own."""
        assert self._process.stdin is not None
        counted = log.with_suffix(".operations")
        counted.unlink(missing_ok=True)
        job = {"words": list(words), "here": str(here), "log": str(log), "counted": str(counted)}
        began = time.monotonic()
        self._process.stdin.write(json.dumps(job | {"death": None if death is None else asdict(death)}) + "\n")
        self._process.stdin.flush()
        child = int(self._answer())
        if after is not None and not select.select([self._process.stdout], [], [], after)[0]:
            with suppress(ProcessLookupError):  # it may have ended just now
                os.kill(child, signal.SIGKILL)
        code = int(self._answer())
        seconds = time.monotonic() - began
        return Ended(code, seconds, json.loads(counted.read_text()) if counted.exists() else {})

    def close(self) -> None:
        """End the server; no child is left by then."""
        self._process.communicate()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the fork server ended"
        return json.loads(line)


def environment() -> dict[str, str]:
    """Of every process: no network, one thread, and the sources."""
    paths = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def serve() -> None:
    """Answer every job with the child's number, and with its exit code once it has ended."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    preload()

    def say(what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    say("ready")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            answers.close()
            become(json.loads(line))
        say(child)
        say(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def preload() -> None:
    """Everything that a run imports; nothing of it computes anything yet."""
    import whet

    for module in pkgutil.walk_packages(whet.__path__, "whet."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    for name in PRELOADED:
        import_module(name)


def become(job: dict[str, Any]) -> NoReturn:
    """The command, in this process; what it prints goes to the log."""
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.chdir(job["here"])
    moments = Moments(None if job["death"] is None else Death(**job["death"]))
    sys.argv = ["whet", *job["words"]]
    sys.addaudithook(moments)
    code = 70
    try:
        from whet.cli import main

        main()
        code = 0
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:  # noqa: BLE001 - a defect of the command; the log has it
        import traceback

        traceback.print_exc()
    finally:
        moments.death = None
        Path(job["counted"]).write_text(json.dumps(moments.counts))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
