"""Every default, resolved: from what the user named to one Plan, with the rows read, checked and split.

Mistakes are found here, before any weight moves: columns, files, model folder, and one example walked through
every step. Whatever depends on the machine is measured here and written to the Plan.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
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
from whet.errors import ConfigError, DataError, ModelError, closest
from whet.evaluation.metric import Metric, metric_named
from whet.footprint import all_fitted, fitted_to_memory
from whet.forecast import Speeds, forecast_of
from whet.learners.neural import Pretrained
from whet.modalities.modality import Processor
from whet.plan import Auto, DataPlan, Evaluation, ModelPlan, Plan, build, member_of, plan_of
from whet.rungs import fit_rungs, needs_valid, usual_valid_share, worth_measuring
from whet.sample import Sample
from whet.tasks.own_loss import plain_task, with_loss
from whet.tasks.task import State, Task
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
    """Rows after check and split, before any model is chosen."""

    source: str
    fingerprint: str
    columns: Columns
    modality: str
    task: Task
    split: Split
    findings: tuple[Finding, ...]
    settings: SplitSettings


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
    data: Mapping[str, Any] = wanted.get("data", {})
    given = objects.rows if objects.rows is not None else data.get("source")
    if given is None:
        raise ConfigError("No rows were named.", where="data.source", fix="give a file: whet finetune rows.csv")
    tests = objects.tests if objects.tests is not None else data.get("tests") or ()
    valid = objects.valid if objects.valid is not None else data.get("valid")
    sources = read(given, tests=tests, valid=valid, encoding=data.get("encoding"), spill=scratch / "rows")
    columns, modality = find_columns(sources.train, data, wanted.get("modality"))
    require_columns(sources.train, columns)
    task = with_loss(find_task(sources.train, columns, wanted.get("task")), objects.loss)
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
    )
    if sources.valid is None:
        learning = len(sources.train) if sources.tests else round(len(sources.train) * (1 - settings.test_fraction))
        share = valid_fraction(data, wanted.get("method"), learning, pairs=len(columns.inputs) > 1)
        settings = replace(settings, valid_fraction=share)
    split = split_rows(sources, columns, settings, sealed_folder=scratch / "sealed")
    findings += list(split.findings) + run_checks(view_of(split, columns, task.kind, separator))
    name = str(given) if isinstance(given, str | Path) else "rows"
    return Checked(name, fingerprint_of(sources), columns, modality, task, split, unique(findings), settings)


def resolve(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Prepared:
    """The whole Plan and everything it needs; trains nothing."""
    checked = check(wanted, objects, scratch)
    cache = cache_folder(wanted)
    model = find_wanted_model(wanted.get("model", {}), cache)
    data = data_plan(wanted, checked)
    pairs = len(checked.columns.inputs) > 1
    modality = catalog.find("modality", checked.modality)()
    processor = modality.processor(transformer_folder(model.folder), max_length=data.max_length, pairs=pairs)
    walked = walk(processor, checked.split.train, checked.columns)
    state, taught = checked.task.prepare(checked.split.train, checked.columns)
    machinery = find_machinery(wanted, cache)
    method = find_method(wanted, pairs)
    backbone = find_backbone(
        wanted, machinery, model, checked.modality, cache, descends=isinstance(method, Auto) or method.epochs > 0,
        length=usual_length(processor, checked.split.train, checked.columns),
    )  # fmt: skip
    training = member_settings(wanted.get("training", {}))
    seed = int(wanted.get("seed", 0))
    pretrained = Pretrained(backbone, model.folder, processor, machinery, seed, activations_folder(wanted, cache))
    evaluation = find_evaluation(wanted, checked, state, objects.metric)
    columns, task, split = checked.columns, checked.task, checked.split
    sample = Sample.of(split, columns, task, state, processor, evaluation.baselines)
    trial = Trial(pretrained, checked.modality, task, state, columns, sample.examples, sample.longest)
    speeds = Speeds.measure(trial, sample, split, training)
    valid_rows = 0 if split.valid is None else len(split.valid)
    if isinstance(method, Auto):
        speeds, fitting = all_fitted(speeds, worth_measuring(method, pairs=pairs, valid_rows=valid_rows))
    else:
        speeds, fitting = fitted_to_memory(speeds, method)
    training, machinery = speeds.training, speeds.trial.pretrained.machinery
    pretrained = replace(pretrained, machinery=machinery)
    if isinstance(method, Auto):
        learning = len(split.train) + valid_rows
        method = fit_rungs(method, speeds, training, pairs=pairs, learning_rows=learning, valid_rows=valid_rows)
    elif training.epochs is None and method.epochs:
        training = replace(training, epochs=training.passes(method.epochs, speeds.rows))
    if not isinstance(method, Auto) and training.learning_rate is None and method.learning_rate:
        training = replace(training, learning_rate=method.learning_rate)
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
        forecast=forecast_of(speeds, method, training, fitting),
        cache=None if pretrained.cache is None else str(cache),
        seed=seed,
    )
    give_back()
    findings = (*checked.findings, *taught)
    metric = objects.metric or metric_named(plan.evaluation.metric, checked.task.kind)
    return Prepared(plan, split, columns, task, state, findings, processor, pretrained, walked, scratch, metric)


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
    pairs = len(checked.columns.inputs) > 1
    modality = catalog.find("modality", plan.modality)()
    processor = modality.processor(transformer_folder(model.folder), max_length=plan.data.max_length, pairs=pairs)
    state, taught = checked.task.prepare(checked.split.train, checked.columns)
    kept = None if plan.cache is None else Path(plan.cache) / "activations"
    pretrained = Pretrained(plan.backbone, model.folder, processor, plan.machinery, plan.seed, kept)
    walked = walk(processor, checked.split.train, checked.columns)
    findings = (*checked.findings, *taught)
    metric = objects.metric or metric_named(plan.evaluation.metric, checked.task.kind)
    split, columns, task = checked.split, checked.columns, checked.task
    return Prepared(plan, split, columns, task, state, findings, processor, pretrained, walked, scratch, metric)


def prepare(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Prepared:
    """Resolve what the user named; a plan that is whole is taken as it is."""
    if is_whole(wanted):
        return reopen(plan_of(wanted), objects, scratch)
    return resolve(wanted, objects, scratch)


def is_whole(wanted: Mapping[str, Any]) -> bool:
    """Whether nothing is left to resolve: every part is there, and the rows and the model are known."""
    parts = {entry.name for entry in fields(Plan)} - {"cache", "seed", "format"}
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


def find_task(rows: Rows, columns: Columns, named: Any) -> Task:
    """The task as named, else the one that suits a sample of the targets best."""
    if isinstance(named, str) or (named and "name" in named):
        task: Task = member_of("task", named)
        return task
    places = np.unique(np.linspace(0, len(rows) - 1, min(SAMPLE_ROWS, len(rows))).astype(np.int64))
    sample = next(rows.select(places).batches(columns.target, SAMPLE_ROWS)).column(0).to_pylist()
    values = [value for value in sample if value not in (None, "")]
    scored = {
        name: catalog.find("task", name)().recognise(values, len(columns.target)) for name in catalog.members("task")
    }
    found: Task = member_of("task", {"name": max(scored, key=lambda name: scored[name]), **(named or {})})
    return found


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
    useful = needs_valid(named, round(learning * share), pairs=pairs) if isinstance(named, Auto) else named.epochs > 0
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
    origin = given.get("origin")
    moved = origin in ("packaged", "hub")  # these are found by name, wherever they lie by now
    name = given.get("name") if moved else given.get("folder") or given.get("name")
    revision = given.get("revision") if origin in (None, "hub") else None
    model = find_model(None if name is None else str(name), revision=revision, cache=cache)
    refuse_other_weights(model, given.get("sha256"))
    return model


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
        max_length=data.get("max_length"),
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
    metric = own.name if own else given.get("metric") or task.default_metric(np.zeros(0), state)
    baselines = task.baselines if given.get("baselines") is None else names_of(given["baselines"])
    baselines = tuple(name for name in baselines if catalog.find("learner", name)().serves(checked.columns))
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
