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
from whet.learners.fitted import NeuralFitted
from whet.methods import TopLayers
from whet.methods.method import Descend
from whet.training.precision import Working

ROUNDS = 3
LONG = 10
"""Epochs from which one round says enough."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True, help="a file of rows, or a folder of pictures")
    parser.add_argument("--test", type=Path)
    parser.add_argument("--text")
    parser.add_argument("--target")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--count", type=int, required=True, help="top blocks that train")
    parser.add_argument("--epochs", type=int, required=True)
    wanted = parser.parse_args()
    prepared = whet.plan(
        wanted.train,
        wanted.target,
        text=wanted.text,
        test=wanted.test,
        model=wanted.model,
        method=TopLayers(count=wanted.count),
        settings=["data.valid_fraction=0", f"training.epochs={wanted.epochs}", f"training.views={wanted.views}"],
    )
    rounds = ROUNDS if wanted.epochs < LONG else 1
    found = [seconds_of(prepared) for _ in range(rounds)]
    print(json.dumps({"count": wanted.count, "epochs": wanted.epochs, "rounds": found}))


def seconds_of(prepared: Any) -> dict[str, float]:
    """With and without replay, and the bound of their ratio that the plan prints."""
    replayed, plain = one_stage(prepared, "auto"), one_stage(prepared, "off")
    return {"replayed": replayed, "plain": plain, "bound": prepared.plan.forecast.replay_gain}


def one_stage(prepared: Any, replay: str) -> float:
    """Seconds of the stage on a fresh model with an empty cache."""
    plan = prepared.plan
    learner = prepared.pretrained.learner(prepared.task, prepared.state, prepared.columns, plan.method, plan.training)
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
    began = time.perf_counter()
    for _ in learner.descent(stage, number).run(fitted, examples, None):
        pass
    seconds = time.perf_counter() - began
    if replay == "auto" and not any("replayed" in note for note in fitted.notes):
        raise SystemExit(f"replay did not hold: {fitted.notes}")
    return seconds


if __name__ == "__main__":
    main()
