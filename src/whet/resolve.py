"""Every default, resolved: from what the user named to one Plan, with the rows read, checked and split.

Rows are the business of ``checking``, single parts of the Plan that of ``choices``; here they are put together.
Whatever depends on the machine is measured on the way and written to the Plan.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whet.backbones.source import ModelSource, find_model
from whet.checking import Checked, Objects, check, walk
from whet.choices import (
    find_backbone,
    find_evaluation,
    find_machinery,
    find_method,
    find_metric,
    find_processor,
    find_wanted_model,
    member_settings,
    refuse_other_weights,
    require_held_out,
    usual_length,
)
from whet.data.rows import Columns, Finding
from whet.data.split import Split
from whet.doctor.augmentations import AUGMENTATIONS, with_views
from whet.earlier import Answers, growth_words, refuse_other_record
from whet.errors import DataError
from whet.evaluation.metric import Metric
from whet.footprint import all_fitted, fitted_to_memory
from whet.forecast import Speeds, forecast_of
from whet.learners.neural import Pretrained
from whet.modalities.modality import Processor
from whet.payback import with_compiling
from whet.plan import Auto, DataPlan, Forecast, ModelPlan, Plan, plan_of, trackers_of
from whet.rungs import Counts, fit_rungs, worth_measuring
from whet.sample import Sample
from whet.tasks.own_loss import plain_task
from whet.tasks.task import Growth, State, Task, changed
from whet.training.machinery import Machinery
from whet.training.memory import give_back
from whet.training.settings import Training
from whet.trial import Trial
from whet.unread import refuse_unread
from whet.wanted import activations_folder, cache_folder, fresh_earlier, is_whole


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a run needs beside its Plan: the rows as they were split, and what training rows taught the task.

    Args:
        before: Seconds until the plan stood, if it was made before this run; its own forecast counts them otherwise.
    """

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
    before: float | None = None

    @property
    def forecast(self) -> Forecast:
        """What this run will take."""
        return self.plan.forecast if self.before is None else self.plan.forecast.with_before(self.before)


def prepare(wanted: Mapping[str, Any], objects: Objects, scratch: Path, *, began: float | None = None) -> Prepared:
    """Resolve what the user named; a plan that is whole is taken as it is.

    Args:
        began: When the run began, by ``time.monotonic``, for its forecast counts from there; None means now.
    """
    began = time.monotonic() if began is None else began
    if not is_whole(wanted):
        return resolve(wanted, objects, scratch, began)
    prepared = reopen(plan_of(wanted), objects, scratch)
    return replace(prepared, before=time.monotonic() - began)


def resolve(wanted: Mapping[str, Any], objects: Objects, scratch: Path, began: float) -> Prepared:
    """The whole Plan and everything it needs; trains nothing."""
    wanted = fresh_earlier(wanted)
    checked = check(wanted, objects, scratch)
    columns, task, split = checked.columns, checked.task, checked.split
    cache, pairs = cache_folder(wanted), len(columns.inputs) > 1
    model = find_wanted_model(wanted.get("model", {}), columns.modality, cache)
    data = data_plan(wanted, checked)
    processor = find_processor(columns, model.folder, data.max_length)
    walked = walk(processor, split.train, columns)
    state, start, findings = checked.taught()
    method = find_method(wanted, pairs)
    pretrained, compiling = find_pretrained(wanted, checked, model, processor, method, start)
    training = member_settings(wanted.get("training", {}))
    training = replace(training, schedule=training.schedule or training.optimizer.schedule)
    refuse_unread(training, method, checked, pretrained, task.outputs(state))
    require_held_out(training, method, checked)
    if takes_steps(method):
        training, said = with_views(training, task, state, columns, split.train, pretrained)
        findings += said
    asked = " ".join(one.message for one in findings if one.check == AUGMENTATIONS)
    evaluation = find_evaluation(wanted, checked, state, objects.metric)
    metric = find_metric(evaluation.metric, objects.metric, checked, state)
    sample = Sample.of(split, columns, task, state, processor, evaluation.baselines)
    rows = {"examples": sample.examples, "longest": sample.longest, "answered": sample.answered}
    trial = Trial(pretrained, task, state, columns, **rows)
    speeds = Speeds.measure(trial, sample, split, training)
    method, training, speeds, fitting = settled(method, speeds, checked, began)
    speeds, compiled = with_compiling(speeds, method, training, compiling)
    pretrained = replace(pretrained, machinery=speeds.trial.pretrained.machinery)
    plan = Plan(
        data=data,
        modality=columns.modality,
        task=plain_task(task),
        model=model_plan(model),
        backbone=pretrained.family,
        method=method,
        training=training,
        evaluation=evaluation,
        machinery=pretrained.machinery,
        forecast=replace(forecast_of(speeds.with_spent(began), method, training, fitting, compiled), augmenting=asked),
        track=trackers_of(wanted.get("track")),
        earlier=replace(checked.earlier, words=earlier_words(checked, start)),
        cache=None if pretrained.cache is None else str(cache),
        loss=wanted.get("loss"),
        seed=pretrained.seed,
    )
    give_back()
    return Prepared(
        plan, split, columns, task, state, findings, processor, pretrained, walked, scratch, metric,
        earlier_answers(checked, pretrained.machinery),
    )  # fmt: skip


def find_pretrained(
    wanted: Mapping[str, Any],
    checked: Checked,
    model: ModelSource,
    processor: Processor,
    method: Any,
    start: Growth | None,
) -> tuple[Pretrained, str]:
    """The model with its family and the machinery it runs on, not compiled, and what was named of compiling."""
    cache = cache_folder(wanted)
    machinery = find_machinery(wanted, cache)
    if checked.run is not None:
        wanted = {**wanted, "backbone": checked.run.family(wanted.get("backbone"))}
    descends = takes_steps(method)
    length = usual_length(processor, checked.split.train, checked.columns)
    family = find_backbone(wanted, machinery, model, checked.columns.modality, cache, descends=descends, length=length)
    compiling, seed = machinery.compile, int(wanted.get("seed", 0))
    machinery = replace(machinery, compile="off" if compiling == "auto" else compiling)
    kept = activations_folder(wanted, cache) if family.portable else None  # code that no file holds has no key
    return Pretrained(family, model.folder, processor, machinery, seed, kept, start), compiling


def takes_steps(method: Any) -> bool:
    """Whether a method, or a ladder, may take gradient steps."""
    return isinstance(method, Auto) or method.epochs > 0


def settled(method: Any, speeds: Speeds, checked: Checked, began: float) -> tuple[Any, Training, Speeds, str]:
    """Rungs, epochs and rate fixed, batches that fit memory, speeds with these; and how they were made to, in words."""
    if isinstance(method, Auto):
        counts, speeds = counts_of(checked, speeds), speeds.with_spent(began)
        speeds, fitting = all_fitted(speeds, worth_measuring(method, speeds, speeds.training, counts))
        speeds = speeds.with_spent(began)
        method = fit_rungs(method, speeds, speeds.training, counts)
        require_held_out(speeds.training, method, checked)
        return method, speeds.training, speeds, fitting
    speeds, fitting = fitted_to_memory(speeds, method)
    training = speeds.training
    if training.epochs is None and method.epochs:
        training = replace(training, epochs=training.passes(method, speeds.learning_pieces(method)))
    if training.learning_rate is None and method.learning_rate:
        training = replace(training, learning_rate=training.rate(method.learning_rate))
    return method, training, speeds, fitting


def counts_of(checked: Checked, speeds: Speeds) -> Counts:
    """What the ladder's rungs are chosen from."""
    task, valid_rows = checked.task, 0 if checked.split.valid is None else len(checked.split.valid)
    shaped = plain_task(task) is not task or changed(task, task.loss_settings)  # a contrast would not heed it
    classes = speeds.outputs if task.contrastable and not shaped else 0
    rows = len(checked.split.train) + valid_rows
    trained = rows if checked.settings.valid_fraction else len(checked.split.train)
    return Counts(len(checked.columns.inputs) > 1, classes, rows, trained, valid_rows)


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
        max_length=window_of(data, checked),
        test_fraction=checked.settings.test_fraction,
        valid_fraction=checked.settings.valid_fraction if checked.split.valid is not None else 0.0,
    )


def window_of(data: Mapping[str, Any], checked: Checked) -> int | None:
    """Tokens a window as named, 0 too, which is refused; else those of the earlier run."""
    named: int | None = data.get("max_length")
    if named is None and checked.run is not None:
        named = checked.run.record["max_length"]
    return named


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
    processor = find_processor(checked.columns, model.folder, plan.data.max_length)
    state, start, findings = checked.taught()
    kept = None if plan.cache is None or not plan.backbone.portable else Path(plan.cache) / "activations"
    pretrained = Pretrained(plan.backbone, model.folder, processor, plan.machinery, plan.seed, kept, start)
    refuse_unread(plan.training, plan.method, checked, pretrained, checked.task.outputs(state))
    require_held_out(plan.training, plan.method, checked)
    walked = walk(processor, checked.split.train, checked.columns)
    metric = find_metric(plan.evaluation.metric, objects.metric, checked, state)
    split, columns, task = checked.split, checked.columns, checked.task
    return Prepared(
        plan, split, columns, task, state, findings, processor, pretrained, walked, scratch, metric,
        earlier_answers(checked, plan.machinery),
    )  # fmt: skip
