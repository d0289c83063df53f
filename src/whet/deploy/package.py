"""A fine-tuned model as a folder that loads without whet, proved equal before it gets its name (law 8).

The layout is the family's own (``whet.backbones``); ``whet.json`` beside it says what plain loading cannot know:
the task and its state, the columns, thresholds, windows, and the hash of every other file. Nothing in it depends
on the time or the place, so the same model gives the same bytes.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from whet import catalog
from whet.backbones.backbone import Family, HeadedModel, Meaning
from whet.backbones.source import hash_other_files, hash_weights
from whet.backbones.weights import RECORD
from whet.data.rows import Columns
from whet.deploy.predictor import FORMAT, Predictor, matmul_precision, run
from whet.errors import ModelError, RunError
from whet.modalities.modality import Processor
from whet.tasks.task import State, Task

TOLERANCE = 1e-4
"""Largest difference between live and reloaded outputs, relative to the largest output."""


def package(
    model: HeadedModel,
    *,
    family: Family,
    source: Path,
    folder: Path,
    task: Task,
    state: State,
    columns: Columns,
    max_length: int | None = None,
    pairs: bool = False,
    extra: Mapping[str, Any] | None = None,
    check: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Write a model folder beside its place, reload it, compare, and only then give it its name.

    Args:
        model: The float32 model as it was trained; its outputs for a regression are standardised.
        source: Root folder of the pre-trained model, whose tokenizer and modules are taken over.
        folder: Must not exist yet.
        max_length: Tokens a window, None for the model's own.
        extra: Further things to record, JSON-able, under "extra".
        check: A few raw values on which the reloaded model must answer as the live one.

    Raises:
        RunError: the folder exists already, or cannot be written.
        ModelError: the reloaded model does not answer as the live one; nothing is left behind.
    """
    if folder.exists():
        raise RunError("The model folder exists already.", where=str(folder), fix="choose another run folder")
    beside = folder.with_name(folder.name + ".new")
    processor = columns.modality.processor(source, max_length=max_length, pairs=pairs)
    pieces = processor.record()
    window = pieces.get("max_length")
    scale, shift, kept = task.own_unit(state)
    packaged, labels = in_unit(model, scale, shift), tuple(kept.get("labels") or ())
    try:
        if beside.exists():
            shutil.rmtree(beside)
        beside.mkdir(parents=True)
        family.save(packaged, beside, source=source, meaning=Meaning(task.kind, labels), max_length=window)
        record = {
            "format": FORMAT,
            "whet": version("whet"),
            "task": {"name": catalog.name_of("task", task), "settings": settings_of(task)},
            "state": kept,
            "id2label": {str(place): label for place, label in enumerate(labels or columns.target)},
            "columns": {"inputs": list(columns.inputs), "target": list(columns.target)},
            "modality": {
                "name": catalog.name_of("modality", columns.modality),
                "settings": settings_of(columns.modality),
            },
            "family": {"name": catalog.name_of("backbone", family), "settings": settings_of(family)},
            "max_length": window,
            "truncation": pieces,
            "pairs": pairs,
            "weights": hash_weights(beside),
            "files": hash_other_files(beside),
            "extra": dict(extra or {}),
        }
        text = json.dumps(record, indent=2, ensure_ascii=False, sort_keys=True)
        (beside / RECORD).write_text(text + "\n", encoding="utf-8")
        prove_equal(model, processor, Predictor.load(beside), (scale, shift), check)
        beside.rename(folder)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"The model cannot be written: {getattr(error, 'strerror', None) or error}.",
            where=str(folder),
            fix="free some space, or choose another place with --out",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def in_unit(model: HeadedModel, scale: float, shift: float) -> HeadedModel:
    """The model with a scale and a shift of its outputs folded into its head, so that plain loading has them too."""
    if (scale, shift) == (1.0, 0.0):
        return model
    unit = HeadedModel(model.body, model.head.in_features, model.head.out_features)
    unit.to(model.head.weight.device)
    unit.scaler.load_state_dict(model.scaler.state_dict())
    with torch.no_grad():
        unit.head.weight.copy_(model.head.weight.double() * scale)
        unit.head.bias.copy_(model.head.bias.double() * scale + shift)
    return unit


def prove_equal(
    model: HeadedModel,
    processor: Processor,
    predictor: Predictor,
    unit: tuple[float, float],
    values: Sequence[tuple[str, ...]],
) -> None:
    """Law 8: live and reloaded model answer alike, in the unit (scale, shift taken out) that the live one learnt in.

    Raises:
        ModelError: they differ by more than ``TOLERANCE``, or an answer is not a finite number.
    """
    if not values:
        return
    modes = {module: module.training for module in model.modules()}
    model.eval()
    with matmul_precision("highest"):
        live = run(model, processor, values).astype(np.float64)
    for module, training in modes.items():
        module.training = training
    scale, shift = unit
    reloaded = (predictor.outputs(values).astype(np.float64) - shift) / scale
    furthest = np.abs(live - reloaded).max() / max(np.abs(live).max(), 1e-6)
    if not furthest <= TOLERANCE:  # also where one of them is no number
        raise ModelError(
            f"The packaged model does not answer as the live one: outputs differ by {furthest:.1e}, relative.",
            where=f"{len(values)} examples compared after reloading",
            fix="check that the disk is sound and try again; report it if it comes back",
        )


def settings_of(thing: Any) -> dict[str, Any]:
    """The settings of a dataclass, as JSON can hold them."""
    return dict(asdict(thing))
