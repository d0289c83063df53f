"""Tiny fits of the neural learner, and their bytes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save

from whet.backbones.text_encoder import TextEncoder
from whet.catalog import find
from whet.learners.fitted import NeuralFitted
from whet.learners.neural import Neural, Pretrained, TrainingRows
from whet.methods.method import Method, Solve
from whet.methods.top_layers import TopLayers
from whet.modalities.text import Text
from whet.tasks.predictions import Kind
from whet.testing import tiny_rows
from whet.training.machinery import Machinery
from whet.training.settings import Training

QUICK = Solve(penalties=(100.0,), folds=2)
"""So weak a head that steps improve it; else the best weights would be those before the first step."""
TOP = TopLayers(2, learning_rate=3e-3, epochs=2, solve=QUICK)


def made(
    folder: Path,
    *,
    kind: Kind = "classification",
    method: Method = TOP,
    dropout: float = 0.0,
    training: Training | None = None,
    rows: int = 28,
    valid: int = 10,
    checkpoints: Path | None = None,
    cache: Path | None = None,
    seed: int = 0,
    **machinery: Any,
) -> tuple[Neural, TrainingRows]:
    """A learner and the rows to fit it to; nothing has run yet."""
    every, columns = tiny_rows(kind, rows + valid)
    train, held = every.select(np.arange(rows)), every.select(np.arange(rows, rows + valid))
    task = find("task", kind)()
    state, _ = task.prepare(train, columns)
    processor = Text().processor(folder, max_length=None, pairs=False)
    pretrained = Pretrained(TextEncoder(dropout=dropout), folder, processor, Machinery(**machinery), seed, cache)
    learner = pretrained.learner(task, state, columns, method, training or Training(batch_size=8), checkpoints)
    encoded = [task.encode(some, columns, processor, state, targeted=True) for some in (train, held)]
    return learner, TrainingRows(encoded[0], encoded[1] if valid else None)


def needs(optimizer: str) -> None:
    """Skip where the optional package of an optimizer is not installed."""
    if optimizer == "schedule-free":
        pytest.importorskip("schedulefree", reason="schedule-free needs pip install 'whet[schedule-free]'")


def drained(learner: Neural, rows: TrainingRows) -> tuple[NeuralFitted, list[Any]]:
    """What was fitted, and every event."""
    events, running = [], learner.fit(rows)
    while True:
        try:
            events.append(next(running))
        except StopIteration as stop:
            return stop.value, events


def moments_of(learner: Neural, rows: TrainingRows, running: Path) -> tuple[NeuralFitted, list[Any], dict[str, Path]]:
    """What was fitted, every event, and a copy of the checkpoints for each moment at which the fit might be killed.

    Args:
        running: The learner's folder of checkpoints. Moments are named by what lay there; in the first nothing did.
    """
    events, moments, fit = [], dict[str, Path](), learner.fit(rows)
    while True:
        try:
            events.append(next(fit))
        except StopIteration as stop:
            return stop.value, events, moments
        kept = " ".join(f"{path.name} {path.stat().st_ino}" for path in sorted(running.glob("*/*")))
        if kept not in moments:
            moments[kept] = running.with_name(f"moment-{len(moments)}")
            shutil.copytree(running, moments[kept]) if kept else moments[kept].mkdir()


def bytes_of(fitted: NeuralFitted) -> bytes:
    """Final weights as safetensors, the answers to some rows, and the number of steps."""
    tensors = {name: tensor.detach().clone().contiguous() for name, tensor in fitted.model.state_dict().items()}
    unseen, columns = tiny_rows(fitted.task.kind, 12, seed=7)
    return save(tensors) + fitted.predict(unseen.without(columns.target)).scores.tobytes() + str(fitted.steps).encode()
