"""Laws of whole runs: killed and resumed, said twice, sealed targets, no network, stopped by hand."""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from plain import PLAIN
from whet import api
from whet.data.targets import opens
from whet.errors import ConfigError, DataError, RunError
from whet.run import RunRows
from whet.testing import tiny_text_model
from whet.training.events import Checkpointed
from whet.training.settings import Training

ENOUGH = "data.valid_fraction=0.4"
"""So that the few rows of these tests can choose between rungs."""
STEPPED = (*PLAIN, "training.epochs=12", "training.patience=0", "machinery.checkpoint_seconds=0")
"""A few dozen steps, each with a checkpoint."""


def write_topics(path: Path, rows: int = 120, seed: int = 0) -> Path:
    from whet.testing import tiny_rows

    table = tiny_rows("classification", rows, seed=seed)[0].table.to_pydict()
    lines = [f"{text},{target}" for text, target in zip(table["text"], table["target"], strict=True)]
    path.write_text("\n".join(["text,topic", *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with 120 rows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_topics(tmp_path / "rows.csv")
    return tmp_path


def bytes_of(run: Path) -> dict[str, bytes]:
    """What must not depend on kills, time or place."""
    files = [*(run / "model").rglob("*.safetensors"), run / "predictions.parquet", run / "metrics.json"]
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def command(model: Path, out: str, method: str = "top-layers", settings: tuple[str, ...] = STEPPED) -> list[str]:
    words = ["finetune", "rows.csv", "--target", "topic", "--model", str(model), "--method", method, "--out", out]
    return words + [word for setting in settings for word in ("--set", setting)]


def started(words: list[str], here: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "whet", *words],
        cwd=here,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(ready: Callable[[], bool], process: "subprocess.Popen[str]", seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "the run did not get there in time"
        time.sleep(0.002)


def events_of(run: Path) -> list[dict[str, Any]]:
    path = run / "events.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def steps_of(run: Path) -> int:
    return sum(event["event"] == "stepped" for event in events_of(run))


def again(model: Path, out: str, **more: Any) -> api.Result:
    """The same run in this process."""
    wanted: dict[str, Any] = {"method": "top-layers", "settings": STEPPED, **more}
    return api.finetune("rows.csv", "topic", model=model, out=out, **wanted)


@pytest.fixture(scope="module")
def never_killed(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_topics(folder / "rows.csv")
        again(tiny_model, "run")
    return bytes_of(folder / "run")


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "as the plan is written": lambda run: (run / "plan.yaml").exists(),
    "after some steps": lambda run: steps_of(run) >= 7,
    "while baselines are fitted": lambda run: any(
        event["event"] == "said" and "baseline" in event["message"] for event in events_of(run)
    ),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_resumes_to_the_same_bytes(
    moment: str, here: Path, tiny_model: Path, never_killed: dict[str, bytes]
) -> None:
    process = started(command(tiny_model, "run"), here)
    wait_until(lambda: MOMENTS[moment](here / "run"), process)
    process.kill()
    process.communicate()
    assert not (here / "run" / "metrics.json").exists()
    again(tiny_model, "run", resume=True)
    assert bytes_of(here / "run") == never_killed
    assert not (here / "run" / ".work").exists()
    resumed = [event["message"] for event in events_of(here / "run") if event["event"] == "said"]
    words = "from the beginning" if moment == "as the plan is written" else "Resumed after step"
    assert any(words in message for message in resumed), resumed


def test_a_run_that_is_terminated_saves_its_state_first(
    here: Path, tiny_model: Path, never_killed: dict[str, bytes]
) -> None:
    rare = tuple(one for one in STEPPED if "checkpoint_seconds" not in one)
    settings = (*rare, "machinery.checkpoint_seconds=3600")
    process = started(command(tiny_model, "run", settings=settings), here)
    wait_until(lambda: steps_of(here / "run") >= 3, process)
    process.terminate()
    _, err = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in err) == (143, False)
    assert err.splitlines()[-1] == shlex.join(["whet", *command(tiny_model, "run", settings=settings), "--resume"])
    assert list((here / "run").rglob("step-*/tensors.safetensors"))
    again(tiny_model, "run", resume=True, settings=settings)
    assert bytes_of(here / "run") == never_killed
    assert any("Resumed after step" in event.get("message", "") for event in events_of(here / "run"))


def test_what_a_killed_run_was_writing_does_not_stand_in_the_way(
    here: Path, tiny_model: Path, never_killed: dict[str, bytes]
) -> None:
    stop_after(8, here, tiny_model)
    (here / "run" / "model.new" / "0_Transformer").mkdir(parents=True)
    (here / "run" / ".predictions.parquet.part").write_bytes(b"torn")
    again(tiny_model, "run", resume=True)
    assert bytes_of(here / "run") == never_killed
    assert not (here / "run" / "model.new").exists()


class _Killed(BaseException):
    """Ends a run in this process as a kill would, at a step."""


def stop_after(steps: int, here: Path, model: Path, **more: Any) -> None:
    """A run that ends after some steps and leaves its folder."""

    def stop(event: Any) -> None:
        if type(event).__name__ == "Stepped" and event.step == steps:
            raise _Killed

    with pytest.raises(_Killed):
        again(model, "run", observers=[stop], **more)


def test_resume_refuses_another_seed_or_other_rows_and_says_which(here: Path, tiny_model: Path) -> None:
    stop_after(4, here, tiny_model)
    with pytest.raises(RunError, match="another seed: not given, now 1"):
        again(tiny_model, "run", resume=True, seed=1)
    with pytest.raises(RunError, match=r"another training\.epochs: 12, now 13"):
        again(tiny_model, "run", resume=True, settings=(*STEPPED, "training.epochs=13"))
    rows = (here / "rows.csv").read_text()
    (here / "rows.csv").write_text(rows + "one more row,billing\n")
    with pytest.raises(DataError, match="rows are not those of the plan"):
        again(tiny_model, "run", resume=True)
    (here / "rows.csv").write_text(rows)
    with pytest.raises(RunError, match="--resume"):
        again(tiny_model, "run")
    again(tiny_model, "run", resume=True)  # nothing above did any harm


def test_resume_and_a_plan_file_refuse_a_run_without_the_functions_it_began_with(here: Path, tiny_model: Path) -> None:
    def far(outputs: Any, targets: Any) -> Any:
        return (outputs - 7).square().sum(1) + 0 * targets

    def accuracy(targets: Any, decided: Any) -> float:  # as one that whet has
        return float((targets == decided).mean())

    stop_after(4, here, tiny_model, loss=far, metric=accuracy)
    for given, what in (
        ({"metric": accuracy}, "loss: '.*far', now not given"),
        ({"loss": far, "metric": "accuracy"}, "metric function: '.*accuracy', now not given"),
        ({"loss": accuracy, "metric": accuracy}, "loss: '.*far', now '"),
    ):
        with pytest.raises(RunError, match=f"started with another {what}"):
            again(tiny_model, "run", resume=True, **given)
    result = again(tiny_model, "run", resume=True, loss=far, metric=accuracy)
    plan = here / "run" / "plan.yaml"
    assert result.story.plan["loss"] == api.Plan.read(plan).loss == far.__qualname__
    for call in (api.plan, api.finetune, api.find_rate):
        with pytest.raises(ConfigError, match=r"a loss of its own, '.*far'") as raised:
            call(plan=plan)
        assert raised.value.args[1] == "loss"
    assert api.plan(plan=plan, loss=far, metric=accuracy).plan == api.Plan.read(plan)
    assert api.plan(plan=plan, settings=["loss=null"]).plan.loss is None
    assert api.check(plan=plan).columns.target == ("topic",)


def test_a_metric_function_beside_a_plan_file_is_named_in_the_plan(here: Path, tiny_model: Path) -> None:
    def exact(targets: Any, decided: Any) -> float:
        return float((targets == decided).mean())

    api.write_plan(api.plan("rows.csv", "topic", model=tiny_model, method="probe", settings=PLAIN), here / "plan.yaml")
    found = api.plan(plan="plan.yaml", metric=exact)
    assert found.plan.evaluation.metric == found.metric.name == "exact"
    api.write_plan(found, here / "exact.yaml")
    with pytest.raises(ConfigError, match="exact"):
        api.plan(plan="exact.yaml")


def test_resuming_an_empty_folder_starts_and_says_so(here: Path, tiny_model: Path) -> None:
    said: list[str] = []
    (here / "run").mkdir()
    again(
        tiny_model,
        "run",
        method="probe",
        settings=PLAIN,
        resume=True,
        observers=[lambda event: said.append(getattr(event, "message", ""))],
    )
    assert any("from the beginning" in message for message in said)


def test_the_same_command_twice_gives_the_same_bytes(
    here: Path, tiny_model: Path, never_killed: dict[str, bytes]
) -> None:
    again(tiny_model, "run")
    assert bytes_of(here / "run") == never_killed
    again(tiny_model, "other", seed=1)
    assert bytes_of(here / "other") != never_killed


def test_a_cache_that_is_there_changes_no_byte(here: Path, tiny_model: Path) -> None:
    cached = (*(setting for setting in STEPPED if setting != "cache=off"), f"cache={here / 'cache'}")
    for out in ("cold", "warm"):
        again(tiny_model, out, settings=cached)
    assert bytes_of(here / "cold") == bytes_of(here / "warm")


# Test targets


def sealed(here: Path) -> list[Path]:
    return sorted((here / "run" / ".work" / "sealed").glob("*.arrow"))


def test_sealed_targets_are_opened_once_for_each_test_set(here: Path, tiny_model: Path) -> None:
    write_topics(here / "first.csv", 30, seed=1)
    write_topics(here / "second.csv", 30, seed=2)
    before = opens()
    result = again(tiny_model, "run", method="auto", settings=(*PLAIN, ENOUGH), test=["first.csv", "second.csv"])
    assert opens() - before == 2
    assert list(result.verdicts) == ["first", "second"]


def test_targets_replaced_by_garbage_fail_in_judge_and_nowhere_before(here: Path, tiny_model: Path) -> None:
    messages: list[str] = []

    def spoil(prepared: Any) -> None:
        assert [test.rows.names for test in prepared.split.tests.values()] == [["text"]]
        assert len(sealed(here)) == 1
        for path in sealed(here):
            path.write_bytes(b"garbage")

    observers = [lambda event: messages.append(getattr(event, "message", ""))]
    with pytest.raises(DataError, match="sealed test targets") as caught:
        again(tiny_model, "run", method="probe", settings=PLAIN, on_plan=spoil, observers=observers)
    assert "judge_all" in [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert sum("baseline" in message for message in messages) == 2  # all that is fitted was fitted


def test_other_test_targets_give_the_same_model(here: Path, tiny_model: Path) -> None:
    path = write_topics(here / "test.csv", 40, seed=3)
    header, *lines = path.read_text().splitlines()
    models = []
    for out in ("right", "wrong"):
        again(tiny_model, out, settings=STEPPED, test="test.csv")
        models.append([file.read_bytes() for file in sorted((here / out / "model").rglob("*.safetensors"))])
        targets = np.roll([line.rpartition(",")[2] for line in lines], 1)
        texts = [line.rpartition(",")[0] for line in lines]
        turned = [f"{text},{target}" for text, target in zip(texts, targets, strict=True)]
        path.write_text("\n".join([header, *turned]) + "\n")
    assert models[0] == models[1]
    assert (here / "right" / "metrics.json").read_bytes() != (here / "wrong" / "metrics.json").read_bytes()


def test_the_packaged_encoder_needs_no_network(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: object, **more: object) -> None:
        raise AssertionError(f"the network was asked: {words}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    result = api.finetune("rows.csv", "topic", method="probe", out="run", settings=PLAIN)
    assert result.metrics["accuracy"] > 0.9
    assert api.load("run").predict(["my password is locked"]) == ["access"]


# Ctrl-C

LONG = (*PLAIN, "training.epochs=4000", "training.patience=0", "training.learning_rate=1e-4")


@pytest.mark.parametrize("method", ["full", "auto"])
def test_ctrl_c_keeps_the_best_so_far_and_still_judges(here: Path, tiny_model: Path, method: str) -> None:
    words = command(tiny_model, "run", method, (*LONG, ENOUGH) if method == "auto" else LONG)
    process = started([*words, *(["--time", "1h"] if method == "auto" else [])], here)
    wait_until(lambda: steps_of(here / "run") >= 20, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert "report" in out
    assert "stopped by you" in out
    story = json.loads((here / "run" / "story.json").read_text(encoding="utf-8"))
    assert story["interrupted"]
    said = [*story["notes"], *(rung["why"] for rung in story["rungs"])]
    assert any("stopped by the user" in text for text in said)
    assert api.load(here / "run").predict(["my password is locked"])
    again = started([*words, "--resume"], here)
    _, err = again.communicate(timeout=120)
    assert again.returncode == 2
    assert "nothing to resume" in err


def test_a_second_ctrl_c_ends_at_once_and_the_run_can_be_resumed(here: Path, tiny_model: Path) -> None:
    words = command(tiny_model, "run", "full", LONG)
    process = started(words, here)
    wait_until(lambda: steps_of(here / "run") >= 20, process)
    for _ in range(200):  # the second one must come before the loop has seen the first
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    assert process.returncode in (0, 130), err
    if process.returncode == 130:
        kept = (here / "run").exists()
        assert err.rstrip().endswith("--resume" if kept else "starts anew.")
        assert not (here / "run" / "metrics.json").exists()
        process = started([*words, "--resume"], here)
        wait_until(lambda: steps_of(here / "run") >= 30, process)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        assert process.returncode == 0


# Plans


def test_a_plan_file_gives_the_plan_it_holds(here: Path, tiny_model: Path) -> None:
    settings = (*PLAIN, "training.epochs=3", "training.batch_size=8", "data.test_fraction=0.3", "method.count=2")
    prepared = api.plan("rows.csv", "topic", model=tiny_model, method="top-layers", settings=settings, seed=5)
    assert (prepared.plan.training.epochs, prepared.plan.training.batch_size) == (3, 8)
    assert (prepared.plan.data.test_fraction, prepared.plan.method.count, prepared.plan.seed) == (0.3, 2, 5)
    api.write_plan(prepared, here / "plan.yaml")
    api.finetune(plan="plan.yaml", out="run")
    assert (here / "run" / "plan.yaml").read_bytes() == (here / "plan.yaml").read_bytes()


def test_a_plan_of_the_ladder_keeps_its_rungs(here: Path, tiny_model: Path) -> None:
    prepared = api.plan("rows.csv", "topic", model=tiny_model, settings=(*PLAIN, ENOUGH), time="30s")
    api.write_plan(prepared, here / "plan.yaml")
    assert api.plan(plan="plan.yaml").plan == prepared.plan
    assert len(prepared.plan.method.rungs) > 1


def test_what_is_named_beside_a_plan_file_is_resolved_again(here: Path, tiny_model: Path) -> None:
    api.write_plan(api.plan("rows.csv", "topic", model=tiny_model, method="probe", settings=PLAIN), here / "plan.yaml")
    deeper = api.plan(plan="plan.yaml", method="top-layers", settings=["method.count=1"]).plan
    assert deeper.method.count == 1
    assert deeper.forecast.parts != api.plan(plan="plan.yaml").plan.forecast.parts
    assert api.plan(plan="plan.yaml", model=str(tiny_model)).plan.model.folder == str(tiny_model)
    assert api.plan(plan="plan.yaml", method="auto", time="20s").plan.method.rungs
    write_topics(here / "more.csv", 60, seed=4)
    assert api.plan("more.csv", plan="plan.yaml").plan.data.source == "more.csv"
    with pytest.raises(ConfigError, match="--time"):
        api.plan(plan="plan.yaml", time="20s")


def test_what_planning_filled_in_is_found_anew_for_another_method_optimizer_or_other_rows(
    here: Path, tiny_model: Path
) -> None:
    def fresh(source: str = "rows.csv", method: str = "full", *settings: str) -> Training:
        return api.plan(source, "topic", model=tiny_model, method=method, settings=(*PLAIN, *settings)).plan.training

    first = api.plan("rows.csv", "topic", model=tiny_model, method="full", settings=PLAIN)
    api.write_plan(first, here / "plan.yaml")
    for name in ("sgd", "schedule-free"):
        setting = f"training.optimizer={name}"
        assert api.plan(plan="plan.yaml", settings=[setting]).plan.training == fresh("rows.csv", "full", setting)
    assert api.plan(plan="plan.yaml", method="bias-only").plan.training == fresh("rows.csv", "bias-only")
    write_topics(here / "more.csv", 600, seed=4)
    rows = [{"text": f"row {i} of {i % 3}", "topic": "abc"[i % 3]} for i in range(90)]
    assert fresh("more.csv").epochs != first.plan.training.epochs
    assert api.plan("more.csv", plan="plan.yaml").plan.training == fresh("more.csv")
    assert api.plan(rows, plan="plan.yaml").plan.training.epochs != first.plan.training.epochs
    least = api.plan(plan="plan.yaml", settings=["training.least_steps=9"]).plan.training
    assert least == fresh("rows.csv", "full", "training.least_steps=9")


def test_what_a_user_named_in_a_plan_is_kept_for_another_method_or_other_rows(here: Path, tiny_model: Path) -> None:
    settings = ("training.epochs=3", "training.learning_rate=1e-3", "training.schedule=cosine")
    first = api.plan("rows.csv", "topic", model=tiny_model, method="full", settings=(*PLAIN, *settings)).plan
    first.write(here / "plan.yaml")
    write_topics(here / "more.csv", 600, seed=4)
    assert api.plan("more.csv", plan="plan.yaml").plan.training == first.training
    assert api.plan(plan="plan.yaml", method="bias-only").plan.training == first.training
    for training in (Training(epochs=3, learning_rate=2e-4), None):
        named = ["training.learning_rate=2e-4", "training.epochs=3"] if training is None else []
        found = api.plan(plan="plan.yaml", method="bias-only", training=training, settings=named).plan.training
        assert (found.epochs, found.learning_rate) == (3, 2e-4)


def test_a_model_that_is_set_beside_a_plan_file_is_taken(here: Path, tiny_model: Path) -> None:
    other = tiny_text_model(here / "other", seed=5)
    api.write_plan(api.plan("rows.csv", "topic", model=tiny_model, method="probe", settings=PLAIN), here / "plan.yaml")
    for setting in (f"model.name={other}", f"model.folder={other}"):
        found = api.plan(plan="plan.yaml", settings=[setting]).plan.model
        assert found == api.plan("rows.csv", "topic", model=other, method="probe", settings=PLAIN).plan.model
    same = api.plan(plan="plan.yaml", settings=["model.name=" + api.Plan.read(here / "plan.yaml").model.name]).plan
    assert same.model.folder == str(tiny_model)


# The ladder


def climbed(here: Path, model: Path, folds: int, *settings: str) -> api.Result:
    write_topics(here / "rows.csv", 400)
    found = ("data.valid_fraction=0.4", "training.patience=0", f"method.folds={folds}", *settings)
    return again(model, "run", method="auto", time="120s", settings=(*PLAIN, *found))


@pytest.mark.parametrize("folds", [0, 3])
def test_the_ladder_keeps_a_deeper_rung_that_wins(here: Path, tiny_model: Path, folds: int) -> None:
    result = climbed(here, tiny_model, folds, "training.learning_rate=3e-3", "training.epochs=20")
    probe, _, full = result.story.rungs
    assert (probe.name, probe.gain, full.name, full.kept) == ("probe", None, "full", True)
    assert full.gain_low is not None
    assert full.gain_low > 0
    assert result.story.method == "auto: full"
    assert full.rows == (320 if folds else 86)
    assert any("Best of 3 rungs" in note for note in result.story.notes)


def test_the_ladder_stays_where_deeper_rungs_change_nothing(here: Path, tiny_model: Path) -> None:
    result = climbed(here, tiny_model, 0, "training.learning_rate=1e-12", "training.epochs=2")
    probe, top, full = result.story.rungs
    assert probe.kept
    assert (top.kept, top.gain, full.kept, full.gain) == (False, 0.0, False, 0.0)
    assert result.story.method == "auto: probe"


@pytest.mark.parametrize(("gain_high", "climbs"), [(0.4, False), (0.6, True), (None, True)])
def test_the_ladder_climbs_while_half_a_point_is_possible(
    tiny_model: Path, gain_high: float | None, climbs: bool
) -> None:
    from whet.modalities.text import Text
    from whet.plan import Auto
    from whet.report.story import Rung
    from whet.search.ladder import why_not
    from whet.tasks.classification import Classification
    from whet.testing import tiny_rows

    last = Rung(
        name="top-layers", trainable_parameters=1, steps=1, seconds=1.0, rows=66, gain_high=gain_high, kept=True
    )
    task, (rows, columns) = Classification(), tiny_rows("classification", 100)
    processor = Text().processor(tiny_model, max_length=None, pairs=False)
    some = task.encode(rows, columns, processor, task.prepare(rows, columns)[0], targeted=True)
    held, nothing = RunRows(some, some, None, None), RunRows(some, None, None, None)
    assert (why_not(Auto(seconds=1.0, folds=0), [last], held, False) is None) == climbs
    assert (why_not(Auto(seconds=1.0, folds=3), [last], nothing, False) is None) == climbs
    assert why_not(Auto(seconds=1.0, folds=0), [last], nothing, False) is not None
    assert "of one group" in str(why_not(Auto(seconds=1.0, folds=3), [replace(last, rows=0)], nothing, False))
    assert "stop" in str(why_not(Auto(seconds=1.0, folds=0), [last], held, True))


@pytest.mark.parametrize(("methods", "winner"), [("[probe, full]", "probe"), ("[]", "contrastive")])
def test_too_few_rows_to_choose_by_hold_nothing_out_and_end_at_one_rung(
    here: Path, tiny_model: Path, methods: str, winner: str
) -> None:
    settings = (*PLAIN, "method.folds=0", f"method.methods={methods}")
    result = again(tiny_model, "run", method="auto", time="120s", settings=settings)
    assert result.story.data.rows == {"train": 96, "test": 24}
    assert [rung["method"]["name"] for rung in result.story.plan["method"]["rungs"]] == [winner]
    first, *others = result.story.rungs
    assert first.kept
    assert first.name == winner
    assert all(
        "too few rows to choose by (10 of the 14 that could be held out; 20 are needed)" in rung.why
        for rung in others
        if rung.name != "top-layers"
    )


@pytest.mark.parametrize(("rows", "folds"), [(60, 3), (120, 3), (120, 0)])
def test_no_planned_rung_lacks_rows_to_compare_it_by(here: Path, tiny_model: Path, rows: int, folds: int) -> None:
    write_topics(here / "rows.csv", rows)
    settings = (*PLAIN, "training.epochs=2", ENOUGH, *(() if folds else ("method.folds=0",)))
    result = again(tiny_model, "run", method="auto", time="120s", settings=settings)
    planned = result.story.plan["method"]
    assert planned["folds"] == folds
    names = [rung["method"]["name"] for rung in planned["rungs"]]
    assert names == ["probe", "contrastive", "full"]
    reasons = {rung.name: rung.why for rung in result.story.rungs}
    assert not any("too few rows" in why for why in reasons.values())
    assert all("contrastive takes its place" in reasons[name] for name in reasons.keys() - set(names))


def test_a_single_rung_of_steps_stops_by_all_validation_rows(here: Path, tiny_model: Path) -> None:
    settings = (*PLAIN, "training.epochs=1", "method.methods=[top-layers, full]", "method.folds=0")
    again(tiny_model, "run", method="auto", settings=settings)
    again(tiny_model, "alone", method="top-layers", settings=(*PLAIN, "training.epochs=1"))
    assert bytes_of(here / "run") == bytes_of(here / "alone")


def test_a_plan_taken_for_another_method_holds_rows_out_anew(here: Path, tiny_model: Path) -> None:
    settings = (*PLAIN, "method.folds=0")
    api.write_plan(api.plan("rows.csv", "topic", model=tiny_model, settings=settings), here / "plan.yaml")
    assert api.plan(plan="plan.yaml").plan.data.valid_fraction == 0.0
    assert api.plan(plan="plan.yaml", method="full").plan.data.valid_fraction == 0.15
    write_topics(here / "more.csv", 600, seed=4)
    assert len(api.plan("more.csv", plan="plan.yaml").plan.method.rungs) > 1
    none = api.plan(plan="plan.yaml", method="full", settings=["data.valid_fraction=0"]).plan
    assert none.data.valid_fraction == 0.0


def test_checkpoints_take_the_space_that_was_forecast(here: Path, tiny_model: Path) -> None:
    sizes: list[int] = []

    def weigh(event: Any) -> None:
        if isinstance(event, Checkpointed):
            sizes.append(sum(path.stat().st_size for path in Path(event.path).parent.rglob("*") if path.is_file()))

    settings = (*PLAIN, "training.epochs=2", "machinery.checkpoint_seconds=0")
    prepared = api.plan("rows.csv", "topic", model=tiny_model, method="full", settings=settings)
    again(tiny_model, "run", method="full", settings=settings, observers=[weigh])
    kept = prepared.plan.forecast.disk_bytes
    assert max(sizes) < kept < 4 * max(sizes)


def test_rungs_beyond_the_budget_are_left_out_with_the_reason(here: Path, tiny_model: Path) -> None:
    plan = api.plan("rows.csv", "topic", model=tiny_model, settings=(*PLAIN, ENOUGH), time="1s").plan
    assert [type(rung.method).__name__ for rung in plan.method.rungs] == ["Probe"]
    assert len(plan.method.left_out) == 2
    assert all(" s " in one.why for one in plan.method.left_out)
