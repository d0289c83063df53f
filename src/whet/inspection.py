"""What is in a model, what would each method train of it, and in which block do the rows' answers show?

Nothing is trained but convex heads. Methods are asked through their contract, each on a fresh copy of the model,
because some insert modules or rewrite weights.
"""

import copy
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from statistics import NormalDist
from typing import Any

import torch

from whet import catalog
from whet.backbones.backbone import Backbone, Cut
from whet.backbones.source import ModelSource, stored_types, transformer_folder
from whet.checking import Checked, Objects, check, walk
from whet.choices import (
    find_backbone,
    find_evaluation,
    find_family,
    find_machinery,
    find_method,
    find_wanted_model,
    member_settings,
    usual_length,
)
from whet.data.fingerprints import row_units
from whet.errors import ConfigError, ModelError, WhetError
from whet.evaluation.intervals import Resamples, ordered
from whet.evaluation.judge import score
from whet.evaluation.metric import Metric, metric_named
from whet.evaluation.records import Score
from whet.learners.block_probe import Readings, read_blocks
from whet.learners.descent import LEAST_GAIN, gain_of_stages, lowest_cut, moving_blocks, require_possible
from whet.learners.neural import Pretrained, stages_of
from whet.methods.method import Descend, Method, Solve, Stage, within
from whet.plan import member_of
from whet.report.inspected import (
    BlockProbe,
    BlockScore,
    Crossing,
    Inspection,
    MethodFacts,
    Part,
    Problem,
    Suggestion,
    Weights,
)
from whet.report.words import metric_name, metric_value
from whet.tasks.task import State
from whet.telling import checked_facts
from whet.training.events import Event
from whet.training.settings import Training
from whet.wanted import activations_folder, cache_folder

OF_MODEL = ("model", "backbone", "modality", "training")
OF_ROWS = ("data", "task", "machinery", "evaluation", "cache", "seed")
"""Parts of a plan that say something of the model, and of the rows."""
OUTPUTS = 2
"""Width of the head that is counted where no rows say how many classes there are."""
TOP = ("--method", "top-layers", "--set", "method.count={}")
NONE = ("--method", "probe")
"""Words that try a suggestion: train so many blocks from the top, or none."""


@dataclass(frozen=True, eq=False)
class ReadyRows:
    """The rows as they were checked and split, what they taught the task, and how the model runs on them."""

    checked: Checked
    state: State
    pretrained: Pretrained
    metric: Metric


def inspect_model(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Generator[Event, None, Inspection]:
    """Look at the model as named, and with rows also into its blocks.

    Args:
        wanted: A partial plan; without rows it has no part "data".
        objects: Rows and functions that were given as objects.
        scratch: Folder of the sealed targets.

    Raises:
        WhetError: there is no such model, or the rows cannot be used; a method that cannot work is part of the answer.
    """
    source = find_wanted_model(wanted.get("model", {}), cache_folder(wanted))
    training = member_settings(wanted.get("training", {}))
    rows = prepared_rows(wanted, objects, source, scratch) if "data" in wanted or objects.rows is not None else None
    if rows is None:
        family = member_of("backbone", named_family(wanted, source))
        backbone = family.load(source.folder, outputs=OUTPUTS, seed=0)
    else:
        family = rows.pretrained.family
        backbone = rows.pretrained.load(rows.checked.task.outputs(rows.state))
    found = Inspection(
        weights=weights_of(source, backbone, catalog.name_of("backbone", family)),
        outputs=backbone.model.head.out_features,
        parameters=sum(parameter.numel() for parameter in backbone.model.parameters()),
        parts=parts_of(backbone),
        cuts=tuple(crossing(backbone, cut) for cut in backbone.cuts),
        methods=tuple(method_facts(name, backbone, training, rows) for name in catalog.members("method")),
        notes=() if backbone.blocks else (
            "No chain of equal blocks was found: the model can be frozen or trained as a whole, and nothing between.",
        ),
    )  # fmt: skip
    if rows is None:
        return found
    probe = yield from probe_blocks(rows, backbone)
    return replace(found, data=checked_facts(rows.checked), probe=probe)


def refuse_unread(wanted: Mapping[str, Any], named: Sequence[str], *, with_rows: bool) -> None:
    """Refuse what would have no effect.

    Args:
        wanted: The partial plan; named: arguments that say something of rows, where they were given.

    Raises:
        ConfigError: a method's settings, or settings of rows without rows.
    """
    parts = [part for part in wanted if part not in OF_MODEL]
    if with_rows:
        named, parts = [], [part for part in parts if part not in OF_ROWS]
    if not named and not parts:
        return
    if named or parts[0] in OF_ROWS:
        raise ConfigError(
            f"Without rows, {(named or parts)[0]!r} has nothing to say.",
            where="inspect",
            fix="add --data FILE, and the column to predict with --target",
        )
    raise ConfigError(
        f"Inspecting shows every method at its defaults, so {parts[0]!r} has nothing to say.",
        where="inspect",
        fix="leave it out; `whet plan` shows a single method with your settings",
    )


def named_family(wanted: Mapping[str, Any], source: ModelSource) -> dict[str, Any]:
    """The family's name and settings as given, else the first that loads the folder for any kind of input.

    Raises:
        ModelError: no family does.
    """
    given = wanted.get("backbone") or {}
    settings = {"name": given} if isinstance(given, str) else dict(given)
    kinds = [wanted["modality"]] if "modality" in wanted else list(catalog.members("modality"))
    refused: ModelError | None = None
    for kind in kinds if "name" not in settings else ():
        try:
            return {"name": find_family(source, kind)} | settings
        except ModelError as error:
            refused = refused or error
    if refused is not None:
        raise refused
    return settings


def prepared_rows(wanted: Mapping[str, Any], objects: Objects, source: ModelSource, scratch: Path) -> ReadyRows:
    """Check and split as a run would; nothing is held out to stop by, since nothing takes steps.

    Raises:
        WhetError: the rows cannot be used with this model.
    """
    data = {"valid_fraction": 0.0} | dict(wanted.get("data", {}))
    wanted = {**wanted, "data": data}
    checked = check(wanted, objects, scratch)
    columns, train, task = checked.columns, checked.split.train, checked.task
    if len(columns.inputs) > 1:
        raise ConfigError(
            "The blocks of a frozen encoder say nothing about pairs: it never learnt to compare.",
            where=f"{checked.source}: {' and '.join(columns.inputs)}",
            fix="leave --data out to see what the methods train, or join the two texts into one column",
        )
    cache, length = cache_folder(wanted), data.get("max_length")
    processor = catalog.find("modality", checked.modality)().processor(
        transformer_folder(source.folder), max_length=length, pairs=False
    )
    walk(processor, train, columns)
    state, taught = task.prepare(train, columns)
    machinery = find_machinery(wanted, cache)
    family = find_backbone(
        wanted,
        machinery,
        source,
        checked.modality,
        cache,
        descends=False,
        length=usual_length(processor, train, columns),
    )
    seed = int(wanted.get("seed", 0))
    pretrained = Pretrained(family, source.folder, processor, machinery, seed, activations_folder(wanted, cache))
    evaluation = find_evaluation(wanted, checked, state, objects.metric)
    metric = objects.metric or metric_named(evaluation.metric, task.kind)
    return ReadyRows(replace(checked, findings=(*checked.findings, *taught)), state, pretrained, metric)


def weights_of(source: ModelSource, backbone: Backbone, family: str) -> Weights:
    """Provenance, and what lies on disk."""
    return Weights(
        name=source.name,
        origin=source.origin,
        folder=str(source.folder),
        revision=source.revision,
        licence=source.licence,
        sha256=source.sha256,
        architecture=source.architecture,
        bytes=source.bytes,
        stored=stored_types(source.folder),
        family=family,
        pooling=backbone.pooling,
        features=backbone.model.head.in_features,
    )


def parts_of(backbone: Backbone) -> tuple[Part, ...]:
    """Every parameter once, by the part it belongs to, from input to output."""
    kinds: list[tuple[str, str]] = [(name, "stem") for name in backbone.stem]
    kinds += [(name, "block") for name in backbone.blocks]
    kinds += [(name, "tail") for name in backbone.tail]
    held: dict[tuple[str, str], list[str]] = {kind: [] for kind in kinds}
    loose: dict[tuple[str, str], list[str]] = {}
    every = dict(backbone.model.named_parameters())
    for name in every:
        if name in backbone.created and name.startswith("head."):
            continue
        owner = next((kind for kind in kinds if within(name, (kind[0],))), None)
        if owner is None:  # lies in no module of its own, or the model has no chain
            loose.setdefault((".".join(name.split(".")[:3]), "stem"), []).append(name)
        else:
            held[owner].append(name)
    head = [name for name in every if name in backbone.created and name.startswith("head.")]
    parts = {**loose, **held, ("head", "head"): head}
    unused = set(backbone.unused)
    return tuple(
        Part(name, kind, count(every, names), count(every, [one for one in names if one in unused]))  # type: ignore[arg-type]
        for (name, kind), names in parts.items()
        if names
    )


def count(parameters: Mapping[str, torch.Tensor], names: Sequence[str]) -> int:
    """Numbers in the named parameters."""
    return sum(parameters[name].numel() for name in names)


def crossing(backbone: Backbone, cut: Cut) -> Crossing:
    """One cut: what could be frozen below, and how much crosses, as found by trying."""
    every = dict(backbone.model.named_parameters())
    below = count(every, [name for name in every if within(name, cut.below)])
    if not backbone.example:
        return Crossing(cut.name, below, None, cut.ragged)
    with torch.inference_mode():
        tensors = cut.capture(backbone.model, backbone.example).values()
    sides = [tensor.shape[2 if cut.ragged else 1 :] for tensor in tensors]
    return Crossing(cut.name, below, sum(prod(side) for side in sides), cut.ragged)


def method_facts(name: str, pristine: Backbone, training: Training, rows: ReadyRows | None) -> MethodFacts:
    """What a method would train, or why it cannot work here."""
    summary = catalog.members("method")[name].summary
    backbone = replace(pristine, model=copy.deepcopy(pristine.model))
    try:
        method: Method = find_method({"method": name}, pairs=False)
        prepared, stages = stages_of(method, backbone, training)
        for stage in stages if rows is not None else ():
            require_possible(stage, rows.checked.task, training)  # type: ignore[union-attr]
    except WhetError as error:
        return MethodFacts(name=name, summary=summary, problem=Problem(error.what, error.where, error.fix))
    epochs = epochs_of(method, training, None if rows is None else len(rows.checked.split.train))
    every = dict(prepared.model.named_parameters())
    moved = {one for stage in stages for one in trained_names(stage, prepared)}
    trained = count(every, sorted(moved))
    return MethodFacts(
        name=name,
        summary=summary,
        parameters=trained,
        share=trained / sum(parameter.numel() for parameter in every.values()),
        moving=sum(any(within(one, (block,)) for one in moved) for block in prepared.blocks),
        blocks=len(prepared.blocks),
        epochs=epochs,
        replay_gain=replay_of(stages, prepared, epochs),
    )


def epochs_of(method: Method, training: Training, rows: int | None) -> float:
    """The passes of a method over so many rows: more than its own where they are few.

    A plan holds some rows out to stop by, and may then have a few more.
    """
    if not method.epochs:
        return 0.0
    return float(training.epochs or method.epochs) if rows is None else training.passes(method.epochs, rows)


def trained_names(stage: Stage, backbone: Backbone) -> set[str]:
    """Every parameter that a stage moves; a solved head is that head alone."""
    if isinstance(stage.fit, Solve):
        return {name for name in backbone.created if name.startswith("head.")}
    names = {name for group in stage.groups for name in group.names}
    return names | set(backbone.created) if stage.head else names


def replay_of(stages: Sequence[Stage], backbone: Backbone, epochs: float) -> float | None:
    """The bound of what replay gains over all stages of steps; None where it gains nothing."""
    blocks = len(backbone.blocks)
    steps = [(stage, stage.fit) for stage in stages if isinstance(stage.fit, Descend)]
    if not blocks or not steps:
        return None
    cuts = [lowest_cut(backbone, tuple(trained_names(stage, backbone))) for stage, _ in steps]
    parts = [
        (blocks, moving_blocks(backbone, cut), fit.share * epochs) for cut, (_, fit) in zip(cuts, steps, strict=True)
    ]
    gain = gain_of_stages(parts)
    return gain if gain >= LEAST_GAIN else None


def probe_blocks(rows: ReadyRows, backbone: Backbone) -> Generator[Event, None, BlockProbe]:
    """A score behind every block, and the cut that follows from them."""
    checked, metric = rows.checked, rows.metric
    train, columns, processor = checked.split.train, checked.columns, rows.pretrained.processor
    examples = checked.task.encode(train, columns, processor, rows.state, targeted=True)
    units, grouped = row_units(train, columns), columns.group is not None
    found: Readings = yield from read_blocks(
        rows.pretrained, checked.task, rows.state, examples, units, Solve(), grouped=grouped
    )
    answers = [ordered(head.answers) for head in (found.without, *found.heads)]
    resamples = Resamples(answers[0], rows.pretrained.seed, purpose="inspect")
    without, *scores = [score(metric, one, resamples) for one in answers]
    names = block_names(len(backbone.blocks))
    blocks = tuple(
        BlockScore(names[depth], depth, one, standard_error(one))
        for depth, one in zip(found.depths, scores, strict=True)
    )
    suggestion, notes = suggested(blocks, without, metric), list(found.notes)
    if suggestion is None and len(blocks) > 1:
        notes.append("No block tells surely more than a head that sees no features, so no cut is suggested.")
    if checked.task.kind == "multi-label":
        notes.append("Thresholds were chosen on these same answers, so every score is a little too high.")
    return BlockProbe(
        metric=metric.name,
        rows=found.rows,
        folds=found.folds,
        without=without,
        blocks=blocks,
        suggestion=suggestion,
        notes=tuple(notes),
    )


def block_names(blocks: int) -> list[str]:
    """What stands behind each depth, for people."""
    if not blocks:
        return ["features"]
    return ["before block 1", *(f"block {depth} of {blocks}" for depth in range(1, blocks + 1))]


def standard_error(found: Score) -> float:
    """Half the 95% interval in the normal's standard deviations."""
    return (found.high - found.low) / 2 / NormalDist().inv_cdf(0.975)


def suggested(blocks: Sequence[BlockScore], without: Score, metric: Metric) -> Suggestion | None:
    """The one-standard-error rule: the lowest depth that is no further than that from the best.

    Source: Breiman et al. 1984, "Classification and Regression Trees", section 3.4, where it prunes trees.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    able = [block for block in blocks if block.score.value == block.score.value]
    if len(able) < 2:
        return None
    best = max(able, key=lambda block: sign * block.score.value)
    surely = best.score.low if sign > 0 else -best.score.high
    if surely <= sign * without.value:
        return None
    least = sign * best.score.value - best.standard_error
    chosen = next(block for block in able if sign * block.score.value >= least)
    top = blocks[-1].depth
    train = top - chosen.depth
    options = tuple(word.format(train) for word in TOP) if train else NONE
    return Suggestion(
        depth=chosen.depth, train=train, best=best.depth, sentence=reason_of(chosen, best, top), options=options
    )


def reason_of(chosen: BlockScore, best: BlockScore, top: int) -> str:
    """Why the cut lies there, in a sentence or two."""
    metric, error = chosen.score.metric, metric_value(chosen.score.metric, best.standard_error)
    value = metric_value(metric, chosen.score.value)
    if chosen.depth == 0:
        frozen = "Only what lies before block 1 can stay frozen"
    else:
        blocks = "Block 1" if chosen.depth == 1 else f"Blocks 1 to {chosen.depth}"
        frozen = f"{f'All {top} blocks' if chosen.depth == top else f'{blocks} of {top}'} can stay frozen"
    if best.depth == 0:
        return f"{frozen}: no block adds to the {metric_name(metric)} that is read there ({value})."
    if chosen.depth == best.depth:
        place = "the last one" if chosen.depth == top else chosen.name
        why = f"{metric_name(metric)} is best behind {place} ({value}), by more than one standard error ({error})"
        return f"{frozen}: {why} over everything below."
    where = chosen.name if chosen.depth == 0 else f"behind {chosen.name}"
    return (
        f"{frozen}: {metric_name(metric)} {where} ({value}) lies within one standard error ({error}) of the best, "
        f"{metric_value(metric, best.score.value)} behind {best.name}."
    )
