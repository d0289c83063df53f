"""What does replay gain, of what it can gain at most? Stages of gradient steps with and without it, side by side.

A stage's seconds include filling its cache and both verifications. Prints one JSON object.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import whet
from whet.learners.descent import moving_blocks, replay_gain
from whet.learners.fitted import NeuralFitted
from whet.methods import TopLayers
from whet.methods.method import Descend
from whet.training.precision import Working
from whet.training.settings import Training

ROUNDS = 3
LONG = 10
"""Epochs from which one round says enough."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("train", "test"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--target", required=True)
    parser.add_argument("--count", type=int, required=True, help="top blocks that train")
    parser.add_argument("--epochs", type=int, required=True)
    wanted = parser.parse_args()
    prepared = whet.plan(
        wanted.train,
        wanted.target,
        text=wanted.text,
        test=wanted.test,
        method="top-layers",
        settings=["data.valid_fraction=0"],
    )
    rounds = ROUNDS if wanted.epochs < LONG else 1
    found = [seconds_of(prepared, wanted.count, wanted.epochs) for _ in range(rounds)]
    print(json.dumps({"count": wanted.count, "epochs": wanted.epochs, "rounds": found}))


def seconds_of(prepared: Any, count: int, epochs: int) -> dict[str, float]:
    """With and without replay, and the bound of their ratio."""
    replayed, bound = one_stage(prepared, count, epochs, "auto")
    plain, _ = one_stage(prepared, count, epochs, "off")
    return {"replayed": replayed, "plain": plain, "bound": bound}


def one_stage(prepared: Any, count: int, epochs: int, replay: str) -> tuple[float, float]:
    """Seconds of the stage on a fresh model with an empty cache, and the bound."""
    method, training = TopLayers(count=count), Training(epochs=float(epochs))
    learner = prepared.pretrained.learner(prepared.task, prepared.state, prepared.columns, method, training)
    learner = replace(learner, machinery=replace(learner.machinery, replay=replay), cache=None)
    torch.set_num_threads(learner.machinery.threads)
    examples = prepared.task.encode(
        prepared.split.train, prepared.columns, prepared.processor, prepared.state, targeted=True
    )
    backbone, stages = learner.stages()
    number, stage = next((n, one) for n, one in enumerate(stages) if isinstance(one.fit, Descend))
    machinery = learner.machinery
    working = Working.of(backbone.model, machinery.training_precision, torch.device(machinery.device))
    fitted = NeuralFitted(
        working, backbone, learner.task, learner.state, learner.columns, learner.processor, machinery, None
    )
    descent = learner.descent(stage, number)
    began = time.perf_counter()
    for _ in descent.run(fitted, examples, None):
        pass
    seconds = time.perf_counter() - began
    if replay == "auto" and not any("replayed" in note for note in fitted.notes):
        raise SystemExit(f"replay did not hold: {fitted.notes}")
    cut = descent.cut(backbone) if replay == "auto" else None
    moving = moving_blocks(backbone, cut)
    return seconds, replay_gain(len(backbone.blocks), moving, float(epochs))


if __name__ == "__main__":
    main()
