"""Model, family, method, precision and metrics of a run: as they were named, else found by what is there or measured.

Each function answers for one part of a Plan, and refuses what could not work with the others.
"""

import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from whet import catalog
from whet.backbones.source import ModelSource, find_model
from whet.checking import Checked
from whet.data.rows import Columns, Rows, raw_values, spread
from whet.errors import ConfigError, ModelError
from whet.evaluation.metric import Metric, metric_named, value_of
from whet.learners.descent import require_validation
from whet.modalities.modality import Modality, Processor
from whet.modalities.model_folder import read_json, transformer_folder
from whet.plan import Auto, Evaluation, build, member_of
from whet.tasks.task import State
from whet.training.machine import choose_attention, choose_path, measure_machine, resolve_device
from whet.training.machinery import Machinery
from whet.training.settings import Training
from whet.wanted import method_of, named_model, names_of

TRIED_ROWS = 32
"""On which a metric of the user's own is tried."""
LENGTH_ROWS = 64
"""Rows whose usual length decides which attention kernel is the faster one."""


def find_wanted_model(given: Mapping[str, Any], modality: Modality, cache: Path) -> ModelSource:
    """The model as named: a name, a folder or a hub id; one that a plan pinned must still have the same weights.

    Raises:
        ConfigError: none is named, and none comes along for this kind of input.
        ModelError: there is no such model, or it is damaged.
    """
    revision = given.get("revision") if given.get("origin") in (None, "hub") else None
    name = named_model(given) or modality.model
    if name is None:
        raise ConfigError(
            f"No model is named, and none for {modality.nouns[1]} comes along.",
            where="model",
            fix="name the folder or the hub id of a pre-trained model with --model; `whet models` lists what is here",
        )
    model = find_model(name, revision=revision, cache=cache)
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


def find_processor(columns: Columns, folder: Path, max_length: int | None) -> Processor:
    """What turns inputs into tensors for the model in ``folder``.

    Raises:
        ConfigError: windows are named for what is read whole, or none of that length can work.
        ModelError: the folder does not say how values become tensors.
    """
    processor: Processor = columns.modality.processor(folder, max_length=max_length, pairs=len(columns.inputs) > 1)
    if max_length is not None and processor.record().get("max_length") is None:
        one, many = columns.modality.nouns
        raise ConfigError(
            f"{many.capitalize()} have no windows, so a length of {max_length} has nothing to say.",
            where="data.max_length",
            fix=f"leave --max-length out: a {one} is read whole",
        )
    return processor


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
    modality: Modality,
    cache: Path,
    *,
    descends: bool,
    length: int,
) -> Any:
    """The family with its settings; the attention kernel is the faster one at the usual length, as measured."""
    given = wanted.get("backbone") or {}
    settings = {"name": given} if isinstance(given, str) else dict(given)
    if "name" not in settings:
        settings = {"name": find_family(model, [modality])} | settings
    settable = {entry.name for entry in fields(catalog.find("backbone", str(settings["name"])))}
    settings |= shared_settings(settings, settable, modality)
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


def shared_settings(settings: Mapping[str, Any], settable: Set[str], modality: Modality) -> dict[str, Any]:
    """Settings that a family and a kind of input have in common, such as how many channels there are: the input's.

    Raises:
        ConfigError: both are named, and differ.
    """
    named = {entry.name: getattr(modality, entry.name) for entry in fields(modality)}  # type: ignore[arg-type]
    shared = {name: value for name, value in named.items() if name in settable and value is not None}
    for name in set(named) & settable:
        if settings.get(name) not in (None, named[name]):
            raise ConfigError(
                f"backbone.{name} is {settings[name]!r}, and modality.{name} is {named[name]!r}.",
                where=f"backbone.{name}",
                fix="name it once, in modality",
            )
    elsewhere = {one.name for name in catalog.members("backbone") for one in fields(catalog.find("backbone", name))}
    idle = [name for name in sorted(set(named) & (elsewhere - settable)) if named[name] is not None]
    if idle:
        raise ConfigError(
            f"Models of the family {settings['name']!r} cannot follow modality.{idle[0]}, which is {named[idle[0]]!r}.",
            where=f"modality.{idle[0]}",
            fix="leave it out",
        )
    return shared


def find_family(model: ModelSource, modalities: Sequence[Modality]) -> str:
    """The family that suits a model folder best, for one of these kinds of input."""
    kinds = [catalog.name_of("modality", modality) for modality in modalities]
    families = {name: catalog.find("backbone", name)() for name in catalog.members("backbone")}
    scored = {name: max(family.recognise(model.folder, kind) for kind in kinds) for name, family in families.items()}
    best = max(scored, key=lambda name: scored[name])
    if scored[best] <= 0:
        raise ModelError(
            f"No family of models knows how to load this folder for {' or '.join(kinds)}.",
            where=str(model.folder),
            fix="`whet models` lists what is here; name a family with --set backbone.name=...",
        )
    return best


def read_shape(model: ModelSource) -> tuple[int, int]:
    """Attention heads and the width of each."""
    config = read_json(transformer_folder(model.folder) / "config.json")
    stated = (
        config.get("num_attention_heads") or config.get("n_heads"),
        config.get("hidden_size") or config.get("dim"),
    )
    heads, width = (
        int(value) if isinstance(value, int) else usual for value, usual in zip(stated, (12, 768), strict=True)
    )
    return heads, max(1, width // heads)


def usual_length(processor: Processor, rows: Rows, columns: Columns) -> int:
    """The median length of the pieces of a sample."""
    places = spread(len(rows), LENGTH_ROWS)
    batch = next(rows.select(places).batches(columns.inputs, LENGTH_ROWS))
    return int(np.median(processor.encode(raw_values(rows, columns, batch)).lengths))


def member_settings(given: Mapping[str, Any]) -> Training:
    """Training settings from plain values."""
    found: Training = build(Training, dict(given), "training")
    return found


def require_held_out(training: Training, method: Any, checked: Checked) -> None:
    """Refuse an average that chooses by rows that are not there.

    Raises:
        ConfigError: nothing is held out, and steps are taken.
    """
    if training.average.validates and not isinstance(method, Auto) and method.epochs and not method.stops:
        raise ConfigError(
            f"The {catalog.name_of('method', method)} method has no validation loss, and "
            f"{catalog.name_of('average', training.average)!r} chooses by it.",
            where="training.average",
            fix="use a mean of updates, such as ema, or another method",
        )
    steps = any(one.epochs for one in (method.rungs if isinstance(method, Auto) else (method,)))
    require_validation(training, checked.split.valid is not None or not steps)


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


def find_evaluation(wanted: Mapping[str, Any], checked: Checked, state: State, own: Metric | None) -> Evaluation:
    """The deciding metric as named, else the task's; the task's other metrics and baselines beside it."""
    given = dict(wanted.get("evaluation", {}))
    task = checked.task
    metric = own.name if own else given.get("metric") or (None if checked.run is None else checked.run.metric)
    metric = metric or task.default_metric(np.zeros(0), state)
    baselines = usual_baselines(checked) if given.get("baselines") is None else names_of(given["baselines"])
    continuing = checked.run is not None
    refuse_no_earlier(names_of(given.get("baselines")), continuing=continuing)
    baselines = tuple(
        name for name in baselines if catalog.find("learner", name)().serves(checked.columns, continued=continuing)
    )
    also = names_of(given.get("also")) or tuple(name for name in task.metrics if name != metric)
    for name in also if own is not None else (metric, *also):
        metric_named(name, task.kind)
    return Evaluation(metric=metric, also=also, baselines=baselines)


def refuse_no_earlier(baselines: Sequence[str], *, continuing: bool) -> None:
    """The model of an earlier run can be beaten only where there is one.

    Raises:
        ConfigError: it is named, and the model is no run's.
    """
    earlier = [name for name in baselines if catalog.find("learner", name).earlier]
    if earlier and not continuing:
        raise ConfigError(
            f"evaluation.baselines names {earlier[0]!r}, and the model to start from is of no earlier run.",
            where="evaluation.baselines",
            fix="leave it out, or go on from an earlier run with --model RUN",
        )


def usual_baselines(checked: Checked) -> tuple[str, ...]:
    """What the task names, and what is made for this kind of input, in the catalog's order."""
    modality = catalog.name_of("modality", checked.columns.modality)
    every = catalog.members("learner").items()
    return tuple(name for name, member in every if name in checked.task.baselines or member.modality == modality)


def find_metric(name: str, own: Metric | None, checked: Checked, state: State) -> Metric:
    """What decides: the user's own metric, tried on a few rows before anything is fitted, or the named one.

    Raises:
        ConfigError: the user's own fails, or gives no number.
    """
    task, train = checked.task, checked.split.train
    if own is None:
        return metric_named(name, task.kind)
    some = train.select(np.arange(min(TRIED_ROWS, len(train))))
    outputs = np.random.default_rng(0).normal(size=(len(some), task.outputs(state))).astype(np.float32)
    answers = task.decode(outputs, some.ids, state)
    with warnings.catch_warnings(action="ignore"):  # of made-up answers
        value_of(own, answers.with_targets(task.encode_targets(some, checked.columns, state), None))
    return own
