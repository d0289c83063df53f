"""Every default, resolved: from what the user named to one Plan, with the rows read, checked and split.

Mistakes are found here, before any weight moves: columns, files, model folder, and one example walked through
every step. Whatever depends on the machine is measured here and written to the Plan.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from whet import catalog
from whet.backbones.source import ModelSource, find_model, transformer_folder
from whet.data.checks import run_checks, view_of
from whet.data.clean import clean
from whet.data.columns import ColumnSummary, describe_columns, require_columns
from whet.data.read import Sources, read
from whet.data.rows import Columns, Finding, Rows, raw_values
from whet.data.split import Split, SplitSettings, split_rows
from whet.earlier import (
    Answers,
    EarlierRun,
    continued,
    find_run,
    growth_findings,
    growth_words,
    named_run,
    refuse_other_record,
    with_rehearsed,
    with_tests,
)
from whet.errors import ConfigError, DataError, ModelError, WhetError, closest
from whet.evaluation.metric import Metric, metric_named
from whet.footprint import all_fitted, fitted_to_memory
from whet.forecast import Speeds, forecast_of
from whet.learners.descent import require_validation
from whet.learners.neural import Pretrained
from whet.modalities.modality import Processor
from whet.payback import with_compiling
from whet.plan import (
    Auto,
    DataPlan,
    EarlierPlan,
    Evaluation,
    ModelPlan,
    Plan,
    build,
    member_of,
    plan_of,
    trackers_of,
)
from whet.rungs import Counts, fit_rungs, needs_valid, usual_valid_share, worth_measuring
from whet.sample import Sample
from whet.tasks.own_loss import plain_task, with_loss
from whet.tasks.task import Growth, State, Task
from whet.training.machine import choose_attention, choose_path, measure_machine, resolve_device
from whet.training.machinery import Machinery
from whet.training.memory import give_back
from whet.training.settings import Training
from whet.trial import Trial

Array = np.ndarray[Any, Any]
LENGTH_ROWS = 64
"""Rows whose usual length decides which attention kernel is the faster one."""
SAMPLE_ROWS = 2000
"""Rows, evenly spread, from which the task is recognised."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run needs beside its Plan: the rows as they were split, and what training rows taught the task."""

    plan: Plan
    split: Split
    columns: Columns
    task: Task
    state: State
    findings: tuple[Finding, ...]
    processor: Processor
    pretrained: Pretrained
    walked: tuple[tuple[str, str], ...]
    scratch: Path
    metric: Metric
    earlier: Answers | None = None


@dataclass(frozen=True, eq=False)
class Objects:
    """What a Python caller gives as objects, which a plan file cannot hold.

    Args:
        rows, valid: In memory, in place of files; tests: likewise, by name or as a list.
        metric: A user's own metric in place of a named one.
        loss: A user's own loss: ``loss(outputs (B, K), targets (B, ...)) -> (B,)``.
    """

    rows: Any = None
    valid: Any = None
    tests: Any = None
    metric: Metric | None = None
    loss: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True, eq=False)
class Checked:
    """Rows after check and split, before any model is chosen.

    Args:
        run: The earlier run that the model is from, if it is from one.
        earlier: That run in the plan; rehearsed: how many rows of an earlier run are in train.
    """

    source: str
    fingerprint: str
    columns: Columns
    modality: str
    task: Task
    split: Split
    findings: tuple[Finding, ...]
    settings: SplitSettings
    run: EarlierRun | None = None
    earlier: EarlierPlan = field(default_factory=EarlierPlan)
    rehearsed: int = 0

    def taught(self) -> tuple[State, Growth | None, tuple[Finding, ...]]:
        """What training rows and an earlier run taught the task, what becomes of that run's head, and every finding."""
        state, found = self.task.prepare(self.split.train, self.columns)
        growth = continued(self.run, self.task, state)
        if self.run is None or growth is None:
            return state, None, (*self.findings, *found)
        return growth.state, growth, (*self.findings, *found, *growth_findings(self.run, growth))


def default_cache() -> Path:
    """Where caches of this user lie, by the convention of the operating system."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "whet"


def check(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Checked:
    """Read, find the columns and the task, clean, split and run every check that needs no model.

    Args:
        wanted: A partial plan.
        objects: Rows and functions that were given as objects.
        scratch: Folder of the sealed targets and of memory-mapped copies.
    """
    found = divide(wanted, objects, scratch)
    checks = run_checks(view_of(found.split, found.columns, found.task.kind, found.settings.separator))
    return with_earlier(replace(found, findings=unique([*found.findings, *checks])), wanted, scratch)


def divide(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Checked:
    """``check`` without the checks, and without rows of an earlier run."""
    run = run_of(wanted)
    data: Mapping[str, Any] = wanted.get("data", {})
    given = objects.rows if objects.rows is not None else data.get("source")
    if given is None:
        raise ConfigError("No rows were named.", where="data.source", fix="give a file: whet finetune rows.csv")
    tests = objects.tests if objects.tests is not None else data.get("tests") or ()
    valid = objects.valid if objects.valid is not None else data.get("valid")
    sources = read(given, tests=tests, valid=valid, encoding=data.get("encoding"), spill=scratch / "rows")
    data = data if run is None else run.columns_of(data, sources.train.names)
    modality = wanted.get("modality") or (None if run is None else run.record["modality"])
    columns, modality = find_columns(sources.train, data, modality)
    require_columns(sources.train, columns)
    task = with_loss(find_task(sources.train, columns, wanted.get("task"), run), objects.loss)
    findings = list(sources.findings)
    sources = clean(sources, columns, several=task.kind == "multi-label")
    findings += [finding for finding in sources.findings if finding not in findings]
    separator = separator_of_task(task, sources.train, columns)
    settings = SplitSettings(
        test_fraction=data.get("test_fraction", 0.2),
        valid_fraction=0.0,
        seed=int(wanted.get("seed", 0)),
        regression=task.kind == "regression",
        separator=separator,
        known=() if run is None else tuple(run.state["labels"]),
    )
    if sources.valid is None:
        learning = len(sources.train) if sources.tests else round(len(sources.train) * (1 - settings.test_fraction))
        share = valid_fraction(data, wanted.get("method"), learning, pairs=len(columns.inputs) > 1)
        settings = replace(settings, valid_fraction=share)
    split = split_rows(sources, columns, settings, sealed_folder=scratch / "sealed")
    findings += list(split.findings)
    name = str(given) if isinstance(given, str | Path) else "rows"
    return Checked(name, fingerprint_of(sources), columns, modality, task, split, unique(findings), settings, run)


def with_earlier(found: Checked, wanted: Mapping[str, Any], scratch: Path) -> Checked:
    """The rows with those of earlier runs: their test rows to judge by, and a share of training rows to rehearse.

    Raises:
        DataError: rows that are to be rehearsed, or that the plan was made with, have gone or changed.
    """
    given = wanted.get("earlier") or {}
    plan = EarlierPlan(rehearse=given.get("rehearse"), share=float(given.get("share") or 0.0))
    run, split, findings, rehearsed = found.run, found.split, list(found.findings), 0
    if run is not None:
        plan = replace(plan, run=str(run.folder), sha256=run.sha256)
        past, why = past_of(run, given.get("fingerprint"), scratch / "earlier")
        if past is not None:
            plan = replace(plan, fingerprint=past.fingerprint)
            split, said = with_tests(split, found.columns, past.split, past.columns, run)
            findings += said
        elif why is not None:
            findings.append(why)
    if plan.rehearse is not None:
        source = named_run(plan.rehearse)
        past = past_rows(source, given.get("rehearsed") or None, scratch / "rehearsed")
        if past.task.kind != found.task.kind:
            raise ConfigError(
                f"The run {source.name!r} is a {past.task.kind}, and this one is a {found.task.kind}: its rows have "
                "nothing to teach here.",
                where="--rehearse",
                fix="name a run of the same kind, or leave --rehearse out",
            )
        settings = replace(past.settings, seed=found.settings.seed)
        split, rehearsed = with_rehearsed(
            split, found.columns, past.split, past.columns, share=plan.share, settings=settings, name=source.name
        )
        plan = replace(plan, rehearse=str(source.folder), rehearsed=past.fingerprint)
        if not rehearsed:
            findings.append(nothing_to_rehearse(source))
    return replace(found, split=split, findings=unique(findings), earlier=plan, rehearsed=rehearsed)


def past_of(run: EarlierRun, known: str | None, scratch: Path) -> tuple[Checked | None, Finding | None]:
    """The rows of the run that the model is from, or a word on why nothing is judged on them.

    Args:
        known: Their fingerprint where a plan states it, empty where they were gone; None to look for them.
    """
    if known == "":
        return None, None
    try:
        return past_rows(run, known, scratch), None
    except WhetError as error:
        if known is not None:
            raise
        message = f"Nothing is judged on the test rows of {run.name}, so forgetting would not show. {error.what}"
        return None, Finding("earlier", "warning", message, error.where, error.fix)


def past_rows(run: EarlierRun, known: str | None, scratch: Path) -> Checked:
    """The rows of an earlier run, divided as they were, with what it rehearsed itself.

    Raises:
        DataError: they are not there any more, or have changed.
    """
    if run.plan is None:
        raise DataError(
            f"Only the model of {run.name} is here, and its rows are not known.",
            where=str(run.folder),
            fix="name the run's folder, where plan.yaml is",
        )
    source, content = run.plan.data.source, run.plan.as_dict()
    if not Path(source).expanduser().exists():
        raise DataError(
            f"The rows of {run.name} are not there any more: {source}.",
            where=str(run.folder),
            fix="put the file back, or run from the folder that it was named from; rows given as objects are not kept",
        )
    found = divide(content, Objects(), scratch)
    if found.fingerprint != run.plan.data.fingerprint or known not in (None, found.fingerprint):
        raise DataError(
            f"The rows of {run.name} have changed since it learnt from them.",
            where=source,
            fix="restore the file as it was then",
        )
    return with_earlier(found, content, scratch)


def nothing_to_rehearse(run: EarlierRun) -> Finding:
    """Every row of the earlier run is among the new ones already."""
    message = f"No row of {run.name} is rehearsed: the new rows hold every one of them already."
    return Finding("earlier", "info", message, str(run.folder), "nothing, or leave --rehearse out")


def run_of(wanted: Mapping[str, Any]) -> EarlierRun | None:
    """The run that the named model is from; None for any other model."""
    name = named_model(wanted.get("model") or {})
    place = None if name is None else Path(name).expanduser()
    return find_run(place) if place is not None and place.is_dir() else None


def fresh_earlier(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What was asked for, without what a plan file resolved about earlier runs."""
    given = wanted.get("earlier") or {}
    return {**wanted, "earlier": {name: given[name] for name in ("rehearse", "share") if name in given}}


def resolve(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Prepared:
    """The whole Plan and everything it needs; trains nothing."""
    wanted = fresh_earlier(wanted)
    checked = check(wanted, objects, scratch)
    cache = cache_folder(wanted)
    model = find_wanted_model(wanted.get("model", {}), cache)
    data = data_plan(wanted, checked)
    pairs = len(checked.columns.inputs) > 1
    modality = catalog.find("modality", checked.modality)()
    processor = modality.processor(transformer_folder(model.folder), max_length=data.max_length, pairs=pairs)
    walked = walk(processor, checked.split.train, checked.columns)
    state, start, findings = checked.taught()
    machinery = find_machinery(wanted, cache)
    method = find_method(wanted, pairs)
    if checked.run is not None:
        wanted = {**wanted, "backbone": checked.run.family(wanted.get("backbone"))}
    backbone = find_backbone(
        wanted, machinery, model, checked.modality, cache, descends=isinstance(method, Auto) or method.epochs > 0,
        length=usual_length(processor, checked.split.train, checked.columns),
    )  # fmt: skip
    training = member_settings(wanted.get("training", {}))
    training = replace(training, schedule=training.schedule or training.optimizer.schedule)
    require_useful(training, method, checked)
    seed = int(wanted.get("seed", 0))
    kept = activations_folder(wanted, cache)
    compiling = machinery.compile
    machinery = replace(machinery, compile="off" if compiling == "auto" else compiling)
    pretrained = Pretrained(backbone, model.folder, processor, machinery, seed, kept, start)
    evaluation = find_evaluation(wanted, checked, state, objects.metric)
    columns, task, split = checked.columns, checked.task, checked.split
    sample = Sample.of(split, columns, task, state, processor, evaluation.baselines)
    trial = Trial(pretrained, checked.modality, task, state, columns, sample.examples, sample.longest)
    speeds = Speeds.measure(trial, sample, split, training)
    valid_rows = 0 if split.valid is None else len(split.valid)
    if isinstance(method, Auto):
        own_loss = plain_task(task) is not task  # a contrast would not heed it
        classes = speeds.outputs if task.kind == "classification" and not own_loss else 0
        counts = Counts(pairs, classes, len(split.train) + valid_rows, valid_rows)
        speeds, fitting = all_fitted(speeds, worth_measuring(method, speeds, training, counts))
    else:
        speeds, fitting = fitted_to_memory(speeds, method)
    training = speeds.training
    if isinstance(method, Auto):
        method = fit_rungs(method, speeds, training, counts)
        require_useful(training, method, checked)
    elif training.epochs is None and method.epochs:
        training = replace(training, epochs=training.passes(method.epochs, speeds.rows))
    if not isinstance(method, Auto) and training.learning_rate is None and method.learning_rate:
        training = replace(training, learning_rate=training.rate(method.learning_rate))
    speeds, compiled = with_compiling(speeds, method, training, compiling)
    machinery = speeds.trial.pretrained.machinery
    pretrained = replace(pretrained, machinery=machinery)
    plan = Plan(
        data=data,
        modality=checked.modality,
        task=plain_task(checked.task),
        model=model_plan(model),
        backbone=backbone,
        method=method,
        training=training,
        evaluation=evaluation,
        machinery=machinery,
        forecast=forecast_of(speeds, method, training, fitting, compiled),
        track=trackers_of(wanted.get("track")),
        earlier=replace(checked.earlier, words=earlier_words(checked, start)),
        cache=None if pretrained.cache is None else str(cache),
        seed=seed,
    )
    give_back()
    metric = objects.metric or metric_named(plan.evaluation.metric, checked.task.kind)
    return Prepared(
        plan, split, columns, task, state, findings, processor, pretrained, walked, scratch, metric,
        earlier_answers(checked, machinery),
    )  # fmt: skip


def earlier_words(checked: Checked, growth: Growth | None) -> str:
    """What earlier runs bring, for the plan."""
    plan = checked.earlier
    return growth_words(growth, checked.rehearsed, plan.share, Path(plan.rehearse or "").name)


def earlier_answers(checked: Checked, machinery: Machinery) -> Answers | None:
    """The model of the earlier run as the judge's baseline; loaded when it is asked."""
    return None if checked.run is None else Answers(checked.run, checked.columns, machinery.device)


def reopen(plan: Plan, objects: Objects, scratch: Path) -> Prepared:
    """The same rows and pieces again for a plan that is already resolved; nothing is measured or decided.

    Raises:
        DataError, ConfigError: the rows or the weights are not those of the plan.
    """
    content = plan.as_dict()
    checked = check(content, objects, scratch)
    if plan.data.fingerprint and checked.fingerprint != plan.data.fingerprint:
        raise DataError(
            "The rows are not those of the plan.",
            where=plan.data.source,
            fix="restore the file, or start a new run without --resume and --plan",
        )
    model = find_model(plan.model.folder, cache=cache_folder(content))
    refuse_other_weights(model, plan.model.sha256)
    refuse_other_record(checked.run, plan.earlier)
    pairs = len(checked.columns.inputs) > 1
    modality = catalog.find("modality", plan.modality)()
    processor = modality.processor(transformer_folder(model.folder), max_length=plan.data.max_length, pairs=pairs)
    require_useful(plan.training, plan.method, checked)
    state, start, findings = checked.taught()
    kept = None if plan.cache is None else Path(plan.cache) / "activations"
    pretrained = Pretrained(plan.backbone, model.folder, processor, plan.machinery, plan.seed, kept, start)
    walked = walk(processor, checked.split.train, checked.columns)
    metric = objects.metric or metric_named(plan.evaluation.metric, checked.task.kind)
    split, columns, task = checked.split, checked.columns, checked.task
    return Prepared(
        plan, split, columns, task, state, findings, processor, pretrained, walked, scratch, metric,
        earlier_answers(checked, plan.machinery),
    )  # fmt: skip


def prepare(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Prepared:
    """Resolve what the user named; a plan that is whole is taken as it is."""
    if is_whole(wanted):
        return reopen(plan_of(wanted), objects, scratch)
    return resolve(wanted, objects, scratch)


def is_whole(wanted: Mapping[str, Any]) -> bool:
    """Whether nothing is left to resolve: every part is there, and the rows and the model are known."""
    parts = {entry.name for entry in fields(Plan)} - {"track", "earlier", "cache", "seed", "format"}
    return parts <= set(wanted) and bool(wanted["data"].get("fingerprint")) and "folder" in wanted["model"]


def find_columns(rows: Rows, data: Mapping[str, Any], modality: str | None) -> tuple[Columns, str]:
    """The columns as named; the input column is inferred where it was not."""
    target = names_of(data.get("target"))
    summaries = describe_columns(rows)
    if not target:
        raise ConfigError(
            "No target was named.",
            where=rows.source,
            fix="name the column to predict, for example --target " + likely_target(summaries),
        )
    inputs = names_of(data.get("inputs"))
    columns = Columns(inputs, target, data.get("group"), data.get("time"))
    require_columns(rows, columns)
    taken = {*target, columns.group, columns.time}
    free = [summary for summary in summaries if summary.name not in taken]
    scored = [
        (catalog.find("modality", name)().recognise(s.kind, s.distinct_share, s.mean_length), s.name, name)
        for name in ([modality] if modality else catalog.members("modality"))
        for s in (free if not inputs else [s for s in summaries if s.name in inputs])
    ]
    best = max(scored, default=(0.0, "", ""))
    if inputs:
        return columns, best[2] or next(iter(catalog.members("modality")))
    if best[0] <= 0:
        listed = ", ".join(f"{s.name} ({s.kind})" for s in summaries)
        raise DataError(
            "No column looks like an input that a model could read.",
            where=f"{rows.source}: {listed}",
            fix="name it with --text COLUMN",
        )
    return replace(columns, inputs=(best[1],)), best[2]


def names_of(value: Any) -> tuple[str, ...]:
    """One name or several as a tuple."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(str(name) for name in value)


def likely_target(summaries: list[ColumnSummary]) -> str:
    """The column that looks most like a target, for a message."""
    named = closest("label", [s.name for s in summaries], 1) if len(summaries) > 1 else []
    few = [s.name for s in summaries if 1 < s.distinct <= max(20, s.rows // 10)]
    return (few or named or [s.name for s in summaries])[0]


def find_task(rows: Rows, columns: Columns, named: Any, run: EarlierRun | None = None) -> Task:
    """The task as named, else the one that suits a sample of the targets best; with an earlier run it must be its own.

    Raises:
        ConfigError: the earlier run is of another kind.
    """
    places = np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE_ROWS, len(rows))).astype(np.int64))
    sampled = rows.select(places)
    if isinstance(named, str) or (named and "name" in named):
        task: Task = member_of("task", named)
        return task if run is None else run.suits(task, columns, sampled, named=True)
    sample = next(sampled.batches(columns.target, SAMPLE_ROWS)).column(0).to_pylist()
    values = [value for value in sample if value not in (None, "")]
    scored = {
        name: catalog.find("task", name)().recognise(values, len(columns.target)) for name in catalog.members("task")
    }
    found: Task = member_of("task", {"name": max(scored, key=lambda name: scored[name]), **(named or {})})
    return found if run is None else run.suits(found, columns, sampled, named=bool(named))


def separator_of_task(task: Task, rows: Rows, columns: Columns) -> str | None:
    """What stands between the labels of one text, for tasks whose state says so."""
    if task.kind != "multi-label":
        return None
    form = task.prepare(rows, columns)[0].get("form", {})
    found = form.get("separator")
    return None if found is None else str(found)


def valid_fraction(data: Mapping[str, Any], method: Any, learning: int, *, pairs: bool) -> float:
    """The share of the rows to learn from that is held out to stop and to choose, where the method has a use for it."""
    if "valid_fraction" in data:
        return float(data["valid_fraction"])
    named, share = method_of(method), usual_valid_share(learning)
    useful = (
        needs_valid(named, round(learning * share), learning, pairs=pairs)
        if isinstance(named, Auto)
        else named.epochs > 0
    )
    return share if useful else 0.0


def fingerprint_of(sources: Sources) -> str:
    """A hash of everything that was read."""
    import xxhash

    digest = xxhash.xxh3_128()
    for rows in (sources.train, sources.valid, *sources.tests.values()):
        if rows is None:
            continue
        digest.update(f"{len(rows)}|{rows.names}".encode())
        for batch in rows.batches(rows.names, 65536):
            digest.update(batch.serialize())
    return digest.hexdigest()


def unique(findings: list[Finding]) -> tuple[Finding, ...]:
    """Each finding once, in order."""
    return tuple(dict.fromkeys(findings))


def cache_folder(wanted: Mapping[str, Any]) -> Path:
    """The cache folder as named, else the user's own."""
    named = wanted.get("cache")
    return Path(named) if named and named != "off" else default_cache()


def activations_folder(wanted: Mapping[str, Any], cache: Path) -> Path | None:
    """Where activations are kept between runs; None when the cache is off."""
    return None if wanted.get("cache") == "off" else cache / "activations"


def find_wanted_model(given: Mapping[str, Any], cache: Path) -> ModelSource:
    """The model as named: a name, a folder or a hub id; one that a plan pinned must still have the same weights."""
    revision = given.get("revision") if given.get("origin") in (None, "hub") else None
    model = find_model(named_model(given), revision=revision, cache=cache)
    refuse_other_weights(model, given.get("sha256"))
    return model


def named_model(given: Mapping[str, Any]) -> str | None:
    """What the model part names: a name, a folder or a hub id; None for the packaged model."""
    moved = given.get("origin") in ("packaged", "hub")  # these are found by name, wherever they lie by now
    name = given.get("name") if moved else given.get("folder") or given.get("name")
    return None if name is None else str(name)


def refuse_other_weights(model: ModelSource, sha256: str | None) -> None:
    """A plan names the weights it was made for.

    Raises:
        ConfigError: these are others.
    """
    if sha256 and model.sha256 != sha256:
        raise ConfigError(
            "The pre-trained weights are not those of the plan.",
            where=str(model.folder),
            fix="restore the model, or name it with --model to take it as it is",
        )


def data_plan(wanted: Mapping[str, Any], checked: Checked) -> DataPlan:
    """The data part, resolved."""
    data = dict(wanted.get("data", {}))
    columns = checked.columns
    return DataPlan(
        source=checked.source,
        fingerprint=checked.fingerprint,
        inputs=columns.inputs,
        target=columns.target,
        tests=tuple(str(test) for test in data.get("tests") or ()),
        valid=None if data.get("valid") is None else str(data["valid"]),
        encoding=data.get("encoding"),
        group=columns.group,
        time=columns.time,
        max_length=data.get("max_length") or (None if checked.run is None else checked.run.record["max_length"]),
        test_fraction=checked.settings.test_fraction,
        valid_fraction=checked.settings.valid_fraction if checked.split.valid is not None else 0.0,
    )


def walk(processor: Processor, rows: Rows, columns: Columns) -> tuple[tuple[str, str], ...]:
    """One example through every step; the step that fails is named."""
    value = raw_values(next(rows.batches(columns.inputs, 1)).columns)[0]
    try:
        steps = processor.walk(value)
        processor.collate(processor.encode([value]).inputs)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"The first training example cannot be turned into tensors: {error}",
            where=f"{rows.place(int(rows.ids[0]))}: {str(value)[:80]!r}",
            fix="look at this row and at the model's tokenizer; --model names another model",
        ) from error
    return tuple(steps)


def usual_length(processor: Processor, rows: Rows, columns: Columns) -> int:
    """The median length of the pieces of a sample."""
    places = np.unique(np.linspace(0, len(rows) - 1, min(LENGTH_ROWS, len(rows))).astype(np.int64))
    batch = next(rows.select(places).batches(columns.inputs, LENGTH_ROWS))
    pieces = next(iter(processor.encode(raw_values(batch.columns)).inputs.values()))
    return int(np.median(pieces.lengths))


def find_machinery(wanted: Mapping[str, Any], cache: Path) -> Machinery:
    """Precision, threads and device: as named, else as measured on this machine; nothing is measured for naught."""
    given = dict(wanted.get("machinery", {}))
    device = resolve_device(str(given.pop("device", "auto")))
    measured: dict[str, Any] = {"device": device}
    if not {"precision", "training_precision", "threads"} <= set(given):
        path = choose_path(measure_machine(cache, device=device), device)
        measured |= {"precision": path.inference, "training_precision": path.training, "threads": path.threads}
    found: Machinery = build(Machinery, measured | given, "machinery")
    return found


def find_backbone(
    wanted: Mapping[str, Any],
    machinery: Machinery,
    model: ModelSource,
    modality: str,
    cache: Path,
    *,
    descends: bool,
    length: int,
) -> Any:
    """The family with its settings; the attention kernel is the faster one at the usual length, as measured."""
    given = wanted.get("backbone") or {}
    settings = {"name": given} if isinstance(given, str) else dict(given)
    if "name" not in settings:
        settings = {"name": find_family(model, modality)} | settings
    settable = {entry.name for entry in fields(catalog.find("backbone", str(settings["name"])))}
    if "attention" in settable - set(settings):
        config = read_shape(model)
        kernel = choose_attention(
            cache,
            heads=config[0],
            head_dim=config[1],
            length=length,
            training=descends,
            dtype=machinery.training_precision if descends else machinery.precision,
            device=machinery.device,
        )
        settings = {**settings, "attention": kernel}
    return member_of("backbone", settings)


def find_family(model: ModelSource, modality: str) -> str:
    """The family that suits a model folder best."""
    scored = {
        name: catalog.find("backbone", name)().recognise(model.folder, modality) for name in catalog.members("backbone")
    }
    best = max(scored, key=lambda name: scored[name])
    if scored[best] <= 0:
        raise ModelError(
            f"No family of models knows how to load this folder for {modality}.",
            where=str(model.folder),
            fix="`whet models` lists what is here; name a family with --set backbone.name=...",
        )
    return best


def read_shape(model: ModelSource) -> tuple[int, int]:
    """Attention heads and the width of each."""
    import json

    config = json.loads((transformer_folder(model.folder) / "config.json").read_text(encoding="utf-8"))
    heads = int(config.get("num_attention_heads") or config.get("n_heads") or 12)
    width = int(config.get("hidden_size") or config.get("dim") or 768)
    return heads, max(1, width // heads)


def member_settings(given: Mapping[str, Any]) -> Training:
    """Training settings from plain values."""
    found: Training = build(Training, dict(given), "training")
    return found


def require_useful(training: Training, method: Any, checked: Checked) -> None:
    """Refuse settings of gradient steps that nothing would read.

    Raises:
        ConfigError: the method takes no steps, or the average chooses by rows that are not there.
    """
    climbs = isinstance(method, Auto)
    if climbs or method.epochs:
        steps = not climbs or any(rung.epochs for rung in method.rungs)
        require_validation(training, checked.split.valid is not None or not steps)
        return
    usual, names = Training(), ("average", "dropout", "mixup", "r_drop", "sampling")
    idle = [f"training.{name}" for name in names if getattr(training, name) != getattr(usual, name)]
    if checked.task.proper() != checked.task:
        idle.append("task.focal_gamma")
    if idle:
        raise ConfigError(
            f"The {catalog.name_of('method', method)} takes no gradient steps, so {idle[0]} has nothing to act on.",
            where=idle[0],
            fix="leave it out, or use --method top-layers, full or auto",
        )


def find_method(wanted: Mapping[str, Any], pairs: bool) -> Any:
    """The method as named, ``auto`` otherwise; the probe is refused for pairs."""
    method = method_of(wanted.get("method"))
    if pairs and not isinstance(method, Auto) and not method.epochs:
        raise ConfigError(
            f"The {catalog.name_of('method', method)} cannot judge pairs: a frozen encoder never learnt to compare.",
            where="method",
            fix="use --method top-layers, full or auto, or join the two texts into one column",
        )
    return method


def method_of(given: Any) -> Any:
    """The method as named; settings without a name are those of ``auto``."""
    return member_of("method", {"name": "auto"} | given if isinstance(given, dict) else given or "auto")


def find_evaluation(wanted: Mapping[str, Any], checked: Checked, state: State, own: Metric | None) -> Evaluation:
    """The deciding metric as named, else the task's; the task's other metrics and baselines beside it."""
    given = dict(wanted.get("evaluation", {}))
    task = checked.task
    metric = own.name if own else given.get("metric") or (None if checked.run is None else checked.run.metric)
    metric = metric or task.default_metric(np.zeros(0), state)
    baselines = task.baselines if given.get("baselines") is None else names_of(given["baselines"])
    continuing = checked.run is not None
    baselines = tuple(
        name for name in baselines if catalog.find("learner", name)().serves(checked.columns, continued=continuing)
    )
    also = names_of(given.get("also")) or tuple(name for name in task.metrics if name != metric)
    for name in also if own is not None else (metric, *also):
        metric_named(name, task.kind)
    return Evaluation(metric=metric, also=also, baselines=baselines)


def model_plan(model: ModelSource) -> ModelPlan:
    """The model part of the plan."""
    return ModelPlan(
        name=model.name,
        folder=str(model.folder),
        origin=model.origin,
        revision=model.revision,
        sha256=model.sha256,
        licence=model.licence,
    )
