"""One Plan, from rows to a run folder: check and plan lie behind us, fit, judge and package happen here.

Reads top to bottom as the story of one run. Everything is a generator of events, so that whoever runs it can
show, log or stop it; the result comes with the last one.
"""

import shutil
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from whet import catalog
from whet.atomic import written
from whet.data.fingerprints import judged_units, row_units
from whet.data.rehearse import with_rows
from whet.data.rows import Rows, raw_values
from whet.data.split import TestSet
from whet.data.targets import ROW_ID, open_targets
from whet.deploy.package import package
from whet.deploy.predict_file import plain
from whet.deploy.predictor import Predictor
from whet.evaluation.judge import judge
from whet.evaluation.metric import metric_named
from whet.evaluation.records import Judgement
from whet.folder import MODEL, WORK, EventLog, write_json
from whet.learners.fitted import NeuralFitted
from whet.learners.learner import Material
from whet.learners.neural import TrainingRows
from whet.methods.method import Method, serves
from whet.report.card import render_card
from whet.report.html import write_report
from whet.report.story import Story, as_record
from whet.report.words import plural
from whet.resolve import Prepared
from whet.shipped import shipped_words
from whet.tasks.own_loss import plain_task
from whet.tasks.predictions import Predictions
from whet.tasks.task import Examples, join_examples
from whet.telling import tell, window_notes
from whet.training.events import Event, Fitting, Judged, Said
from whet.training.memory import give_back
from whet.training.settings import Training

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class RunRows:
    """Training and validation rows, encoded; rows of one unit (group, equal input) stay together in folds.

    Args:
        grouped: Whether units are groups that the user named: then intervals draw them whole, else single rows.
    """

    train: Examples
    valid: Examples | None
    units: Array | None
    valid_units: Array | None
    grouped: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a run ended with."""

    story: Story
    judgements: tuple[Judgement, ...]
    fitted: NeuralFitted
    predictions: Mapping[str, Predictions]
    folder: Path


@dataclass
class Clock:
    """Seconds of each part, in order."""

    parts: dict[str, float] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)

    @staticmethod
    def since(began: float | None) -> "Clock":
        """One that began then; now, if None."""
        return Clock() if began is None else Clock(began=began, _last=began)

    def resume(self, seconds: float) -> None:
        """What the run took before it was resumed belongs to it."""
        if seconds:
            self.began -= seconds
            self.parts["before it was resumed"] = seconds

    def mark(self, part: str) -> None:
        """What passed since the last mark belongs to ``part``."""
        now = time.monotonic()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._last = now


def run(prepared: Prepared, folder: Path, *, command: str, clock: Clock) -> Generator[Event, None, Outcome]:
    """Fit the plan's one method, judge it once, package it."""
    rows = yield from encode(prepared, clock)
    method, training = prepared.plan.method, prepared.plan.training
    learning = to_learn(rows, method)
    if rows.valid is not None and learning.valid is None:
        held = plural(rows.valid.rows, "validation row")
        idle = "could stop nothing and say little" if method.epochs else "could stop no steps, for none are taken"
        yield Said(stage="fit", message=f"{held} {idle}: the model learns from them too.")
    fitted = yield from fit_method(prepared, method, training, learning, folder / WORK / "checkpoints")
    clock.mark("fit")
    return (yield from finish(prepared, fitted, rows, folder, command=command, clock=clock))


def encode(prepared: Prepared, clock: Clock) -> Generator[Event, None, RunRows]:
    """Training and validation rows to examples with targets; says what was pooled or lost."""
    task, split, columns = prepared.task, prepared.split, prepared.columns
    train = task.encode(split.train, columns, prepared.processor, prepared.state, targeted=True)
    valid = None
    if split.valid is not None:
        valid = task.encode(split.valid, columns, prepared.processor, prepared.state, targeted=True)
    units = row_units(split.train, prepared.columns)
    valid_units = None if split.valid is None else row_units(split.valid, prepared.columns)
    rows = RunRows(train, valid, units, valid_units, grouped=columns.group is not None)
    for note in window_notes(rows):
        yield Said(stage="encode", message=note)
    give_back()
    clock.mark("encode")
    return rows


def to_learn(rows: RunRows, method: Method) -> TrainingRows:
    """Training rows, and validation rows to stop by; all together where these stop nothing and would say little."""
    if serves(method, 0 if rows.valid is None else rows.valid.rows):
        return TrainingRows(rows.train, rows.valid, rows.units)
    return unstopped(rows)


def unstopped(rows: RunRows) -> TrainingRows:
    """All rows together, none to stop by."""
    everything, units = together(rows)
    return TrainingRows(everything, None, units)


def together(rows: RunRows) -> tuple[Examples, Array | None]:
    """Training and validation rows, and their units."""
    if rows.valid is None:
        return rows.train, rows.units
    units = None
    if rows.units is not None and rows.valid_units is not None:
        units = np.concatenate([rows.units, rows.valid_units])
    return join_examples(rows.train, rows.valid), units


def fit_method(
    prepared: Prepared, method: Method, training: Training, rows: TrainingRows, checkpoints: Path | None
) -> Generator[Event, None, NeuralFitted]:
    """One method on a fresh copy of the pre-trained model."""
    give_back()
    yield Fitting(stage=catalog.name_of("method", method))
    learner = prepared.pretrained.learner(
        prepared.task, prepared.state, prepared.columns, method, training, checkpoints
    )
    return (yield from learner.fit(rows))


def finish(
    prepared: Prepared,
    fitted: NeuralFitted,
    rows: RunRows,
    folder: Path,
    *,
    command: str,
    clock: Clock,
    rungs: tuple[Any, ...] = (),
    notes: tuple[str, ...] = (),
) -> Generator[Event, None, Outcome]:
    """Judge the fitted model on every test set, package it, and write the report."""
    give_back()
    write_model(prepared, fitted, folder)
    clock.mark("package")
    answers = {}
    for name, test in prepared.split.tests.items():
        answers[name] = yield from predict_test(prepared, fitted, test)
    notes = (*notes, *(words for words in [shipped(prepared, fitted, answers)] if words))
    clock.mark("predict")
    rivals = yield from fit_baselines(prepared, fitted, answers, clock)
    judgements, judged = judge_all(prepared, answers, rivals)
    clock.mark("judge")
    yield Judged(stage="judge", scores=scores_of(judgements))
    story = tell(prepared, fitted, rows, judgements, judged, folder=folder, command=command, rungs=rungs, notes=notes)
    seconds = time.monotonic() - clock.began
    actual = replace(story.actual, seconds=seconds)
    story = replace(story, parts=dict(clock.parts), seconds=seconds, actual=actual)
    write_folder(folder, story, judged)
    return Outcome(story, judgements, fitted, judged, folder)


def write_model(prepared: Prepared, fitted: NeuralFitted, folder: Path) -> None:
    """The packaged model; refused if it does not answer as the live one does."""
    shutil.rmtree(folder / MODEL, ignore_errors=True)  # of a run that was killed after packaging
    train, columns = prepared.split.train, prepared.columns
    package(
        fitted.model,
        family=prepared.plan.backbone,
        source=prepared.pretrained.folder,
        folder=folder / MODEL,
        task=plain_task(prepared.task),
        state=fitted.state,
        columns=columns,
        max_length=prepared.plan.data.max_length,
        pairs=len(columns.inputs) > 1,
        check=raw_values(train, columns, next(train.batches(columns.inputs, 4))),
    )


def predict_test(prepared: Prepared, fitted: NeuralFitted, test: TestSet) -> Generator[Event, None, Predictions]:
    """Answers for one test set, whose targets are out of reach."""
    examples = prepared.task.encode(test.rows, prepared.columns, prepared.processor, fitted.state, targeted=False)
    answers = yield from fitted.answer(examples)
    return replace(answers, units=test.units)


def shipped(prepared: Prepared, fitted: NeuralFitted, answers: Mapping[str, Predictions]) -> str:
    """How far the package answers as the model that is judged, tried on the first test set.

    By the float32 model that was packaged: that the package answers as it does was made sure of when it was written.
    """
    name, test = next(iter(prepared.split.tests.items()), ("", None))
    precision = prepared.plan.machinery.precision
    model = Predictor(
        fitted.model, prepared.processor, plain_task(prepared.task), fitted.state, prepared.columns, record={}
    )
    return "" if test is None else shipped_words(model, precision, test, answers[name])


def fit_baselines(
    prepared: Prepared, fitted: NeuralFitted, answers: Mapping[str, Predictions], clock: Clock
) -> Generator[Event, None, dict[str, dict[str, Predictions]]]:
    """Answers of every baseline for every test set: baseline -> test -> predictions."""
    rows, targets, units = learning_rows(prepared)
    material = Material(
        prepared.task, prepared.state, prepared.columns, rows, targets, prepared.plan.seed, prepared.pretrained, units,
        prepared.earlier,
    )  # fmt: skip
    found: dict[str, dict[str, Predictions]] = {}
    for name in prepared.plan.evaluation.baselines:
        learner = catalog.find("learner", name)()
        if learner.is_model(fitted, material):
            found[name] = dict(answers)
            continue
        yield Said(stage="judge", message=f"Fitting the baseline {catalog.title('learner', name)}.")
        baseline = learner.fit(material)
        found[name] = {test: baseline.predict(part.rows) for test, part in prepared.split.tests.items()}
        clock.mark(f"baseline {name}")
    return found


def learning_rows(prepared: Prepared) -> tuple[Rows, Array, Array]:
    """Every row that is not a test row, with targets and units: baselines need none to stop by.

    Where validation rows are of another table, only inputs are laid under each other: a target may be written in two
    ways, and both are understood by themselves.
    """
    rows, valid, columns = prepared.split.train, prepared.split.valid, prepared.columns
    parts = [rows]
    if valid is not None and valid.table is rows.table:
        rows = rows.at(np.sort(np.concatenate([rows.ids, valid.ids])))
        parts = [rows]
    elif valid is not None:
        parts, inputs = [rows, valid], replace(columns, target=(), group=None, time=None)
        first, second = with_rows([rows], valid, inputs, inputs)
        rows = first.at(np.concatenate([first.ids, second.ids]))
    targets = [prepared.task.encode_targets(part, columns, prepared.state) for part in parts]
    return rows, np.concatenate(targets), np.concatenate([row_units(part, prepared.columns) for part in parts])


def judge_all(
    prepared: Prepared, answers: Mapping[str, Predictions], rivals: Mapping[str, Mapping[str, Predictions]]
) -> tuple[tuple[Judgement, ...], dict[str, Predictions]]:
    """The only place where test targets are opened."""
    evaluation, task = prepared.plan.evaluation, prepared.task
    also = [metric_named(name, task.kind) for name in evaluation.also]
    judgements, judged, before = [], {}, earlier_model(rivals)
    for name, test in prepared.split.tests.items():
        table = open_targets(test.sealed)
        assert np.array_equal(table.column(ROW_ID).to_numpy(), test.rows.ids), "sealed targets of other rows"
        written = {} if test.form is None else {"form": dict(test.form)}  # by an earlier run, perhaps in another way
        columns, state = replace(prepared.columns, target=test.target), {**prepared.state, **written}
        targets = task.encode_targets(Rows(table, test.rows.source), columns, state)
        units, unit = judged_units(test.rows, columns, test.units)
        judged[name] = answers[name].with_targets(targets, units)
        others = {learner: by_test[name].with_targets(targets, units) for learner, by_test in rivals.items()}
        notes = []
        if len(test.leaked):
            notes.append(f"{len(test.leaked):,} test rows have the same input as a training row.")
        notes += unknown_to_earlier(prepared, targets)
        judgements.append(
            judge(
                judged[name],
                others,
                test=name,
                metric=prepared.metric,
                also=also,
                seed=prepared.plan.seed,
                notes=notes,
                keeps=before if test.origin else None,
                unit=unit,
            )
        )
    return tuple(judgements), judged


def scores_of(judgements: tuple[Judgement, ...]) -> dict[str, dict[str, float]]:
    """The model's own scores: test set -> metric -> value."""
    return {one.test: {score.metric: score.value for score in one.scores["model"]} for one in judgements}


def earlier_model(baselines: Iterable[str]) -> str | None:
    """The baseline that is what the run goes on from, if one of them is."""
    return next((name for name in baselines if catalog.find("learner", name).earlier), None)


def unknown_to_earlier(prepared: Prepared, targets: Array) -> list[str]:
    """A word on test rows that the earlier model had to miss."""
    growth = prepared.pretrained.start
    if growth is None or not growth.added or earlier_model(prepared.plan.evaluation.baselines) is None:
        return []
    new = [prepared.state["labels"].index(label) for label in growth.added]
    missed = int((np.isin(targets, new) if targets.ndim == 1 else targets[:, new].any(axis=1)).sum())
    if not missed:
        return []
    rows = "1 test row has" if missed == 1 else f"{missed:,} test rows have"
    return [f"{rows} a class that the earlier model does not know; its answers miss them."]


def write_folder(folder: Path, story: Story, judged: Mapping[str, Predictions]) -> None:
    """Predictions, model card, report, and last of all the metrics, which mark the run as finished."""
    write_predictions(folder / "predictions.parquet", judged)
    write_report(story, folder / "report.html")
    (folder / "README.md").write_text(render_card(story), encoding="utf-8")
    write_json(folder / "story.json", as_record(story))
    metrics: dict[str, Any] = {name: account.record for name, account in story.accounts.items() if account.record}
    metrics |= {
        judgement.test: {
            "verdict": asdict(judgement.verdict),
            "scores": {who: [asdict(score) for score in scores] for who, scores in judgement.scores.items()},
            "comparisons": [asdict(comparison) for comparison in judgement.comparisons],
        }
        for judgement in story.judgements
    }
    write_json(folder / "metrics.json", plain(metrics))


def write_predictions(path: Path, judged: Mapping[str, Predictions]) -> None:
    """Every test row's target, decision and scores, one row each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"classification": pa.string(), "multi-label": pa.list_(pa.string()), "regression": pa.float64()}
    tables = []
    for test, found in judged.items():
        assert found.targets is not None
        kind = kinds[found.kind]
        tables.append(
            pa.table(
                {
                    "test": pa.array([test] * len(found), pa.string()),
                    "row": pa.array(found.row_ids + 1),
                    "target": pa.array(readable(found, found.targets), kind),
                    "predicted": pa.array(readable(found, found.decided), kind),
                    "scores": pa.array(list(found.scores.astype(np.float64)), pa.list_(pa.float64())),
                }
            )
        )
    with written(path) as beside:
        pq.write_table(pa.concat_tables(tables), beside)


def readable(predictions: Predictions, values: Array) -> list[Any]:
    """Class names, lists of labels, or numbers."""
    if predictions.kind == "classification":
        return [predictions.labels[int(v)] if v >= 0 else None for v in values]
    if predictions.kind == "multi-label":
        return [[predictions.labels[k] for k in np.flatnonzero(row)] for row in values]
    return [float(value) for value in values]


def listened(events: Generator[Event, None, Any], folder: Path, observers: list[Any]) -> Any:
    """Run to the end; every event goes to the log and to the observers."""
    log = EventLog(folder / "events.jsonl")
    try:
        return observed(events, [log, *observers])
    finally:
        log.close()


def observed(events: Generator[Event, None, Any], observers: Sequence[Any]) -> Any:
    """Run to the end; every event goes to the observers. One that raises is dropped with a word."""
    import sys

    listeners = list(observers)
    try:
        while True:
            event = next(events)
            for listener in list(listeners):
                try:
                    listener(event)
                except Exception as error:  # noqa: BLE001 - an observer must never stop a run
                    listeners.remove(listener)
                    who = getattr(listener, "__name__", type(listener).__name__)
                    words = f"The observer {who} failed and was dropped: {type(error).__name__}: {error}"
                    print(words, file=sys.stderr)
    except StopIteration as stop:
        return stop.value
    finally:
        events.close()
