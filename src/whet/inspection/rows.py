"""The rows that a model is inspected with: checked and split as a run would, and how the model runs on them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from whet.backbones.source import ModelSource
from whet.checking import Checked, Objects, check, walk
from whet.choices import find_backbone, find_evaluation, find_machinery, find_processor, find_wanted_model, usual_length
from whet.errors import ConfigError
from whet.evaluation.metric import Metric, metric_named
from whet.learners.neural import Pretrained
from whet.tasks.task import Examples, State
from whet.wanted import activations_folder, cache_folder


@dataclass(frozen=True, eq=False)
class ReadyRows:
    """The rows as they were checked and split, what they taught the task, and how the model runs on them.

    Args:
        examples: The training rows, encoded with their targets.
    """

    source: ModelSource
    checked: Checked
    state: State
    examples: Examples
    pretrained: Pretrained
    metric: Metric


def prepared_rows(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> ReadyRows:
    """Check and split as a run would; nothing is held out to stop by, since nothing takes steps.

    Raises:
        WhetError: the rows cannot be used with this model.
    """
    data: dict[str, Any] = {"valid_fraction": 0.0, **wanted.get("data", {})}
    wanted = {**wanted, "data": data}
    checked = check(wanted, objects, scratch)
    columns, train, task = checked.columns, checked.split.train, checked.task
    if len(columns.inputs) > 1:
        raise ConfigError(
            "The blocks of a frozen encoder say nothing about pairs: it never learnt to compare.",
            where=f"{checked.source}: {' and '.join(columns.inputs)}",
            fix="leave --data out to see what the methods train, or join the two texts into one column",
        )
    cache = cache_folder(wanted)
    source = find_wanted_model(wanted.get("model", {}), columns.modality, cache)
    processor = find_processor(columns, source.folder, data.get("max_length"))
    walk(processor, train, columns)
    state, taught = task.prepare(train, columns)
    machinery = find_machinery(wanted, cache)
    family = find_backbone(
        wanted,
        machinery,
        source,
        columns.modality,
        cache,
        descends=False,
        length=usual_length(processor, train, columns),
    )
    seed = int(wanted.get("seed", 0))
    pretrained = Pretrained(family, source.folder, processor, machinery, seed, activations_folder(wanted, cache))
    evaluation = find_evaluation(wanted, checked, state, objects.metric)
    metric = objects.metric or metric_named(evaluation.metric, task.kind)
    examples = task.encode(train, columns, processor, state, targeted=True)
    checked = replace(checked, findings=(*checked.findings, *taught))
    return ReadyRows(source, checked, state, examples, pretrained, metric)
