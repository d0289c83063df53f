"""The story of a finished run, gathered for report, card and terminal. Formats nothing, decides nothing."""

import json
import math
import platform
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from whet import catalog
from whet.backbones.backbone import Meaning
from whet.checking import Checked
from whet.data.rows import Columns, Finding, Rows, raw_values
from whet.data.split import Split
from whet.evaluation.records import Judgement
from whet.folder import MODEL, TRACKS, read_events
from whet.learners.fitted import NeuralFitted
from whet.methods.method import Method, learning_rows
from whet.plan import Auto, Forecast, Plan
from whet.report.story import Cost, CurvePoint, DataFacts, Example, InputWords, ModelFacts, Roles, Story
from whet.resolve import Prepared
from whet.tasks.predictions import Predictions
from whet.trackers.tracker import Tracker, accounts_of
from whet.training.machine import processor_name
from whet.training.memory import peak_memory_bytes

TEXT_LENGTH = 500
SCATTER_POINTS = 2000
PACKAGES = ("whet", "torch", "transformers", "numpy", "pyarrow", "scikit-learn")


def tell(
    prepared: Prepared,
    fitted: NeuralFitted,
    rows: Any,
    judgements: tuple[Judgement, ...],
    judged: dict[str, Predictions],
    *,
    folder: Path,
    command: str,
    rungs: tuple[Any, ...],
    notes: tuple[str, ...],
) -> Story:
    """Everything a reader needs to know of one run."""
    plan = prepared.plan
    return Story(
        name=folder.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        task=prepared.task.kind,
        data=data_facts(prepared),
        model=model_facts(prepared, fitted, folder),
        method=method_name(prepared, rungs),
        summary=method_summary(prepared, rungs),
        folder=shown(folder),
        labels=tuple(prepared.state.get("labels", ())),
        plan=plan.as_dict(),
        forecast=forecast_cost(prepared.forecast),
        forecast_taken=seconds_of_steps(prepared, fitted, rows, rungs),
        actual=Cost(memory_bytes=peak_memory_bytes(), disk_bytes=size_of(folder)),
        rungs=rungs,
        curve=curve_of(folder),
        notes=(*window_notes(rows), *notes, *dict.fromkeys(fitted.notes)),
        interrupted=fitted.interrupted,
        judgements=judgements,
        examples=examples_of(prepared, judgements, judged),
        scatter=scatter_of(judged),
        accounts=accounts_of(trackers_by_name(plan), folder / TRACKS),
        views=views_of(plan, folder),
        machine=machine_line(prepared),
        versions={name: version(name) for name in (*PACKAGES, *plan.modality.packages)},
    )


def forecast_cost(forecast: Forecast) -> Cost:
    """A forecast as people are told it."""
    return Cost(
        seconds=forecast.seconds,
        least_seconds=forecast.least_seconds or None,
        memory_bytes=forecast.memory_bytes,
        disk_bytes=forecast.disk_bytes,
    )


def seconds_of_steps(prepared: Prepared, fitted: NeuralFitted, rows: Any, rungs: tuple[Any, ...]) -> float:
    """What the forecast says of the steps that were taken: an early end shortens a run, and is no fault of it."""
    plan, parts = prepared.plan, dict(prepared.forecast.parts)

    def an_epoch(method: Method) -> int:
        seen = learning_rows(method, rows.train.rows, 0 if rows.valid is None else rows.valid.rows)
        steps: int = math.ceil(len(rows.train) * seen / rows.train.rows / plan.training.batch_size)
        return steps

    if not isinstance(plan.method, Auto):
        epochs = plan.training.epochs or plan.method.epochs
        parts["steps"] = parts.get("steps", 0.0) * share_taken(fitted.steps, an_epoch(plan.method) * epochs)
        return round(sum(parts.values()), 1)
    for number, (planned, told) in enumerate(zip(plan.method.rungs, rungs, strict=False), start=1):
        start, steps = f"start of rung {number}", f"steps of rung {number}"
        parts[steps] = parts.get(steps, 0.0) * share_taken(told.steps, an_epoch(planned.method) * planned.epochs)
        parts[start] = parts.get(start, 0.0) if told.trainable_parameters else 0.0
    return round(sum(parts.values()), 1)


def share_taken(steps: int, planned: float) -> float:
    """The share of the planned steps that was taken."""
    return min(1.0, steps / planned) if planned else 0.0


def data_facts(prepared: Prepared) -> DataFacts:
    """Where the rows came from and how they were divided."""
    labels, counts = prepared.state.get("labels", []), prepared.state.get("counts", [])
    facts = split_facts(prepared.split, prepared.plan.data.source, prepared.columns, prepared.findings)
    return replace(facts, class_counts=dict(zip(labels, counts, strict=False)), task=prepared.task.kind)


def checked_facts(checked: Checked) -> DataFacts:
    """The same for rows that were only checked."""
    state, _ = checked.task.prepare(checked.split.train, checked.columns)
    counts = dict(zip(state.get("labels", []), state.get("counts", []), strict=False))
    facts = split_facts(checked.split, checked.source, checked.columns, checked.findings)
    return replace(facts, class_counts=counts, task=checked.task.kind)


def split_facts(split: Split, source: str, columns: Columns, findings: tuple[Finding, ...]) -> DataFacts:
    """Names and sizes of every part."""
    sizes = {"train": len(split.train)}
    if split.valid is not None:
        sizes["valid"] = len(split.valid)
    sizes |= {name: len(test.rows) for name, test in split.tests.items()}
    modality, roles = columns.modality, Roles(columns.inputs, columns.target, columns.group, columns.time)
    one, many = modality.nouns
    words = InputWords(one, many, example_of(columns), modality.hub_task)
    return DataFacts(
        source=Path(source).name, columns=roles, rows=sizes, split=split.how, findings=findings, words=words
    )


def example_of(columns: Columns) -> tuple[str, ...]:
    """The inputs of a new row, as one may be given to the tuned model."""
    modality = columns.modality
    return (modality.example, f"another {modality.nouns[0]}")[: len(columns.inputs)]


def model_facts(prepared: Prepared, fitted: NeuralFitted, folder: Path) -> ModelFacts:
    """What the run started from, and how what it left is loaded."""
    meaning = Meaning(prepared.task.kind, tuple(fitted.state.get("labels") or ()))
    plan = prepared.plan
    run = None if prepared.earlier is None else prepared.earlier.run
    name = plan.model.name if plan.model.origin != "folder" else Path(plan.model.folder).name
    return ModelFacts(
        name=name if run is None else run.name,
        base="" if run is None else run.base,
        revision=plan.model.revision or "",
        sha256=plan.model.sha256,
        licence=plan.model.licence or "",
        parameters=sum(parameter.numel() for parameter in fitted.working.masters.parameters()),
        loading=plan.backbone.library,
        python=plan.backbone.python(f"{shown(folder)}/{MODEL}", example_of(prepared.columns), meaning),
        window=prepared.processor.record().get("max_length"),
    )


def method_name(prepared: Prepared, rungs: tuple[Any, ...]) -> str:
    """The method, for ``auto`` the rung that won."""
    method = prepared.plan.method
    if not isinstance(method, Auto):
        return catalog.name_of("method", method)
    kept = [rung.name for rung in rungs if rung.kept]
    return f"auto: {kept[-1]}" if kept else "auto"


def method_summary(prepared: Prepared, rungs: tuple[Any, ...]) -> str:
    """One sentence about the method."""
    name = method_name(prepared, rungs).removeprefix("auto: ")
    return catalog.members("method")[name].summary if name in catalog.members("method") else ""


def window_notes(rows: Any) -> tuple[str, ...]:
    """What was pooled or lost of long inputs."""
    counted = rows.train.counted
    windowed, lost = counted.get("windowed", 0), counted.get("tokens lost", 0)
    if not windowed:
        return ()
    many = "1 training row is" if windowed == 1 else f"{windowed:,} training rows are"
    text = f"{many} longer than the model's window; overlapping windows are pooled."
    return (
        text
        + (
            f" About {lost:,} tokens of the longest texts were left out: a text has at most so many windows."
            if lost
            else ""
        ),
    )


def examples_of(
    prepared: Prepared, judgements: tuple[Judgement, ...], judged: dict[str, Predictions]
) -> tuple[Example, ...]:
    """The worst rows of every test set, and the rows that findings point at."""
    found: list[Example] = []
    for judgement in judgements:
        predictions = judged[judgement.test]
        rows = prepared.split.tests[judgement.test].rows
        place = {int(row): position for position, row in enumerate(predictions.row_ids)}
        for row_id in judgement.worst:
            position = place[row_id]
            found.append(worst_example(prepared, judgement.test, rows, predictions, position))
    split = prepared.split
    parts = {"": split.train, "valid": split.valid} | {name: test.rows for name, test in split.tests.items()}
    pointed = dict.fromkeys((one.part, row) for one in prepared.findings for row in one.row_ids[:3])
    for part, row_id in list(pointed)[:40]:
        table = parts.get(part)
        if table is not None and row_id in table.ids:
            row = table.at(np.array([row_id]))
            text, small = text_of(prepared, row), thumbnail_of(prepared, row)
            found.append(Example(source=part, row_id=row_id, text=text, thumbnail=small))
    return tuple(found)


def worst_example(prepared: Prepared, test: str, rows: Rows, predictions: Predictions, position: int) -> Example:
    """One test row whose answer was most clearly wrong."""
    assert predictions.targets is not None
    decided, target = predictions.decided[position], predictions.targets[position]
    confidence = None
    if predictions.kind == "classification":
        confidence = float(predictions.scores[position, int(decided)])
    row = rows.select(np.array([position]))
    return Example(
        source=test,
        row_id=int(predictions.row_ids[position]),
        text=text_of(prepared, row),
        thumbnail=thumbnail_of(prepared, row),
        target=words(predictions, target),
        predicted=words(predictions, decided),
        confidence=confidence,
    )


def words(predictions: Predictions, value: Any) -> tuple[str, ...]:
    """One target or decision as labels or a number."""
    if predictions.kind == "classification":
        return (predictions.labels[int(value)],) if value >= 0 else ("a class that training never saw",)
    if predictions.kind == "multi-label":
        return tuple(predictions.labels[k] for k in np.flatnonzero(value))
    return (f"{float(value):.6g}",)


def text_of(prepared: Prepared, row: Rows) -> str:
    """One row's input, shortened."""
    texts = [row.values(name)[0] for name in prepared.columns.inputs]
    text = " | ".join("" if value is None else str(value) for value in texts)
    return text if len(text) <= TEXT_LENGTH else text[:TEXT_LENGTH] + "…"


def thumbnail_of(prepared: Prepared, row: Rows) -> str:
    """One row's input as a small picture, where its kind has any."""
    columns = prepared.columns
    found: str = columns.modality.thumbnail(raw_values(row, columns, next(row.batches(columns.inputs, 1)))[0])
    return found


def curve_of(folder: Path) -> tuple[CurvePoint, ...]:
    """Training and validation loss by step, from the event log; at most about 200 training points a stage.

    Where a stage was fitted several times, as by a cross-fit, these are the points of the last fit; what a killed run
    did after the checkpoint that it was resumed from did not happen.
    """
    points: dict[tuple[str, int], dict[str, float]] = {}
    begun: set[str] = set()
    for event in read_events(folder):
        kind, stage, step = event["event"], event.get("stage", ""), event.get("step", 0)
        if kind == "fitting":
            begun = set()
        if kind not in ("stepped", "evaluated"):
            continue
        if stage not in begun:
            begun.add(stage)
            points = {place: losses for place, losses in points.items() if place[0] != stage or place[1] < step}
        if kind == "evaluated":
            points.setdefault((stage, step), {})["valid_loss"] = event["loss"]
        elif step % max(1, event["steps"] // 200) == 0:
            points.setdefault((stage, step), {})["train_loss"] = event["loss"]
    return tuple(CurvePoint(stage=stage, step=step, **losses) for (stage, step), losses in points.items())


def trackers_by_name(plan: Plan) -> dict[str, Tracker]:
    """The trackers as the catalog names them."""
    return {catalog.name_of("tracker", tracker): tracker for tracker in plan.track}


def views_of(plan: Plan, folder: Path) -> dict[str, str]:
    """How to look at what each tracker wrote."""
    place = Path(shown(folder)) / TRACKS
    every = {name: tracker.view(place) for name, tracker in trackers_by_name(plan).items()}
    return {name: command for name, command in every.items() if command}


def scatter_of(judged: dict[str, Predictions]) -> dict[str, tuple[tuple[float, float], ...]]:
    """Targets and predictions of regressions, evenly thinned."""
    found = {}
    for test, predictions in judged.items():
        if predictions.kind == "regression" and predictions.targets is not None:
            step = max(1, len(predictions) // SCATTER_POINTS)
            pairs = zip(predictions.targets[::step].tolist(), predictions.decided[::step].tolist(), strict=True)
            found[test] = tuple((float(target), float(value)) for target, value in pairs)
    return found


def machine_line(prepared: Prepared) -> str:
    """Processor, threads and precision."""
    machinery = prepared.plan.machinery
    return (
        f"{processor_name()}, {machinery.threads} threads, {machinery.device}, "
        f"{machinery.precision} inference, {machinery.training_precision} training, {platform.system()}"
    )


def shown(folder: Path) -> str:
    """A folder as commands name it: relative where it lies below the working folder."""
    try:
        return str(folder.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(folder)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def read_story(folder: Path) -> dict[str, Any]:
    """The record that a finished run left."""
    found: dict[str, Any] = json.loads((folder / "story.json").read_text(encoding="utf-8"))
    return found
