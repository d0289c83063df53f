"""A run that is ended from outside says how to go on; one that is taken up again must be what it was."""

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from whet.cli import app
from whet.folder import read_events

from .conftest import QUICK, Command, mounted, write_rows

LONG = (
    "training.epochs=30",
    "training.patience=0",
    "machinery.checkpoint_seconds=0",
    "evaluation.baselines=[majority]",
)
SECONDS = 120.0


def words_of(model: Path, out: str = "run", *more: str) -> list[str]:
    words = ["finetune", "rows.csv", "--target", "label", "--model", str(model), "--method", "bias-only", "--out", out]
    return [*words, *QUICK, *(word for setting in LONG for word in ("--set", setting)), *more]


def started(words: list[str], here: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "XDG_CACHE_HOME": str(here.parent / "cache"), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "whet", *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=here, env=environment, stdout=pipe, stderr=pipe, text=True)


def wait_for_checkpoints(process: "subprocess.Popen[str]", run: Path) -> None:
    end = time.monotonic() + SECONDS
    while len(list(run.glob(".work/checkpoints/*/step-*"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no checkpoint was written in time"
        time.sleep(0.002)


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    _, err = process.communicate(timeout=SECONDS)
    assert "Traceback" not in err, err
    return process.returncode, err


def bytes_of(run: Path) -> dict[str, bytes]:
    files = [*(run / "model").rglob("*.safetensors"), run / "predictions.parquet", run / "metrics.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the run ends with if nothing happens to it."""
    here = tmp_path_factory.mktemp("whole")
    write_rows(here / "rows.csv")
    words = words_of(tiny_model)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("XDG_CACHE_HOME", str(here / "cache"))
        app(words, standalone_mode=False)
    return bytes_of(here / "run")


@pytest.fixture(scope="module")
def killed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a run that was killed after some checkpoints."""
    here = tmp_path_factory.mktemp("killed")
    write_rows(here / "rows.csv")
    shutil.copytree(tiny_model, here / "model")
    process = started(words_of(Path("model")), here)
    wait_for_checkpoints(process, here / "run")
    process.kill()
    process.communicate()
    return here


# Ended from outside: a usable checkpoint, a code that is not zero, and the command on the last line


def terminate(process: "subprocess.Popen[str]", here: Path) -> None:
    process.terminate()


def fill_the_disk(process: "subprocess.Popen[str]", here: Path) -> None:
    with (here / "disk" / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def limit_files(process: "subprocess.Popen[str]", here: Path) -> None:
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))


@pytest.fixture
def disk(here: Path) -> Iterator[Path]:
    """A small disk of its own, where this process may mount one."""
    with mounted(here / "disk", "8m") as place:
        yield place


def assert_goes_on(
    what: Callable[["subprocess.Popen[str]", Path], None], code: int, out: str, here: Path, model: Path, whet: Command
) -> None:
    """End a run so; the command on its last line then gives what an undisturbed run gives."""
    write_rows(here / "rows.csv")
    process = started(words_of(model, out), here)
    wait_for_checkpoints(process, here / out)
    what(process, here)
    returned, err = ended(process)
    assert returned == code, err
    assert not (here / out / "metrics.json").exists()
    words = shlex.split(err.splitlines()[-1])
    assert words == ["whet", *words_of(model, out), "--resume"]
    (here / "disk" / "filler").unlink(missing_ok=True)
    answer = whet(*words[1:])
    assert answer.code == 0, answer.err
    assert any("Resumed after step" in event.get("message", "") for event in read_events(here / out))


@pytest.mark.parametrize(
    ("what", "code"),
    [(terminate, 143), (limit_files, 2)],
    ids=lambda one: getattr(one, "__name__", one),
)
def test_a_run_that_is_ended_keeps_its_steps_and_says_how_to_go_on(
    what: Callable[["subprocess.Popen[str]", Path], None],
    code: int,
    here: Path,
    tiny_model: Path,
    whet: Command,
    whole: dict[str, bytes],
) -> None:
    assert_goes_on(what, code, "run", here, tiny_model, whet)
    assert bytes_of(here / "run") == whole


def test_a_disk_that_fills_up_ends_a_run_that_can_go_on(
    disk: Path, here: Path, tiny_model: Path, whet: Command, whole: dict[str, bytes]
) -> None:
    assert_goes_on(fill_the_disk, 2, "disk/run", here, tiny_model, whet)
    assert bytes_of(disk / "run") == whole


def test_a_run_that_is_terminated_before_its_first_step_leaves_nothing(here: Path, tiny_model: Path) -> None:
    write_rows(here / "rows.csv")
    process = started(words_of(tiny_model), here)
    while not list(here.glob("run/.work/*")):  # the rows are being divided
        assert process.poll() is None
        time.sleep(0.002)
    process.terminate()
    code, err = ended(process)
    if not err.splitlines()[-1].endswith("--resume"):  # steps are sometimes taken before the signal comes
        assert err.splitlines()[-2:] == ["Terminated.", "Nothing was worth keeping yet; the same command starts anew."]
        assert {path.name for path in here.iterdir()} == {"rows.csv"}
    assert code == 143


# Taken up again: refused with what differs, and nothing is harmed


def alter_rows(here: Path) -> tuple[str, ...]:
    path = here / "rows.csv"
    path.write_text(path.read_text().replace("late", "soon"))
    return ()


def alter_plan(here: Path) -> tuple[str, ...]:
    path = here / "run" / "plan.yaml"
    path.write_text(path.read_text().replace("batch_size: 32", "batch_size: 16"))
    return ()


def alter_request(here: Path) -> tuple[str, ...]:
    return ("--set", "training.clip=0.5")


def alter_version(here: Path) -> tuple[str, ...]:
    path = here / "run" / ".work" / "request.json"
    content = json.loads(path.read_text())
    content["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(content))
    return ()


def alter_format(here: Path) -> tuple[str, ...]:
    path = here / "run" / "plan.yaml"
    path.write_text(path.read_text().replace("format: 1", "format: 99"))
    return ()


def alter_note(here: Path) -> tuple[str, ...]:
    (here / "run" / ".work" / "request.json").write_text("{}")
    return ()


ALTERED: dict[Callable[[Path], tuple[str, ...]], str] = {
    alter_rows: "The rows are not those of the plan",
    alter_plan: "was changed after it began, in training.batch_size: 32, now 16",
    alter_request: "started with another training.clip: not given, now 0.5",
    alter_version: "started with torch 1.0, and this is torch",
    alter_format: "format 99",
    alter_note: "missing, damaged, or of another version",
}


@pytest.mark.parametrize("alter", ALTERED, ids=lambda alter: alter.__name__)
def test_a_run_that_is_not_what_it_was_is_refused_with_what_differs(
    alter: Callable[[Path], tuple[str, ...]], killed: Path, here: Path, whet: Command
) -> None:
    shutil.copytree(killed, here, dirs_exist_ok=True)
    more = alter(here)
    before = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    answer = whet(*words_of(Path("model"), "run", *more), "--resume")
    assert answer.code == 2
    assert ALTERED[alter] in answer.err
    assert not answer.err.rstrip().endswith("--resume")
    after = {path: path.read_bytes() for path in (here / "run").rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if "sealed" not in path.parts} == {
        path: data for path, data in before.items() if "sealed" not in path.parts
    }


def test_other_weights_are_refused(killed: Path, here: Path, whet: Command) -> None:
    shutil.copytree(killed, here, dirs_exist_ok=True)
    path = killed / "model" / "model.safetensors"  # the plan names the folder wherever the command is given
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    answer = whet(*words_of(Path("model")), "--resume")
    path.write_bytes(whole)
    assert answer.code == 2
    assert "The pre-trained weights are not those of the plan" in answer.err


@pytest.mark.parametrize(
    "words",
    [
        ("predict", "run", "a text"),
        ("evaluate", "run", "rows.csv"),
        ("inspect", "run"),
        ("report", "run"),
        ("finetune", "rows.csv", "--target", "label", "--model", "run"),
        ("finetune", "rows.csv", "--target", "label", "--rehearse", "run", "0.2"),
    ],
    ids=" ".join,
)
def test_an_unfinished_run_is_called_so_wherever_a_finished_one_is_needed(
    words: tuple[str, ...], killed: Path, here: Path, whet: Command
) -> None:
    shutil.copytree(killed, here, dirs_exist_ok=True)
    answer = whet(*words)
    assert answer.code == 2
    assert "There is no finished run here.\n  where: run\n" in answer.err
    assert "--resume finishes one" in answer.err
