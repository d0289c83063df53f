"""How long will it take? Measured on this machine, this model and these rows before anything is fitted.

A frozen forward and one training step are timed on a sample; the rest is arithmetic.
"""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whet.backbones.cut import FeatureCut
from whet.data.rows import Columns
from whet.data.split import Split
from whet.learners.fitted import drain
from whet.learners.neural import LEAST_GAIN, Neural, Pretrained, lowest_cut, replay_gain, trained_tables
from whet.methods.full import Full
from whet.methods.method import Descend, Method, RateGroup, within
from whet.plan import Auto, Forecast
from whet.tasks.task import Examples, State, Task
from whet.training.batches import Source
from whet.training.checkpoint import KEPT
from whet.training.compact import compacted
from whet.training.loop import Budget, start_state, take_step
from whet.training.objective import TaskObjective
from whet.training.precision import Working
from whet.training.replay import pick, run_prefix, set_training
from whet.training.settings import Training

SAMPLE_ROWS = 256
TIMED_TOKENS = 4096
START_SHARE = 0.2
"""What the head that steps start from takes of a solve with its penalty chosen."""
SOLVE_RATE = 60e9
"""Floating-point operations a second of the solver, low on purpose."""
STATE_BYTES = 16
"""Of a trained number in a checkpoint: its master, two moments and the best so far, each float32."""
FIXED_SECONDS = 6.0
"""Imports, reading, checks, judging and packaging."""


@dataclass(frozen=True)
class Reach:
    """How deep a method reaches: blocks above what it leaves frozen, all blocks, and what its steps train.

    Embedding tables count with the rows that the tokens at hand touch: a descent trains no others.
    """

    moving: int
    blocks: int
    trained: int


@dataclass(frozen=True)
class Speeds:
    """What was measured, and the sizes it applies to.

    Args:
        tokens: Of training and validation rows; test_tokens: of test rows.
        pretrained: What each method is asked about: how deep it reaches.
        sample: Some training rows, encoded.
        forward: Tokens a second of the frozen forward; step: tokens a second of a full training step, 0 unmeasured.
    """

    tokens: float
    test_tokens: float
    rows: int
    outputs: int
    width: int
    pretrained: Pretrained
    parameters: int
    sample: Examples
    forward: float
    step: float
    _reach: dict[Method, "Reach"] = field(default_factory=dict, repr=False)

    @staticmethod
    def measure(
        pretrained: Pretrained,
        task: Task,
        state: State,
        columns: Columns,
        split: Split,
        method: Any,
        training: Training,
    ) -> "Speeds":
        """Encode a sample, time a frozen forward, and a training step where the method takes any."""
        rows = len(split.train)
        places = np.unique(np.linspace(0, rows - 1, min(SAMPLE_ROWS, rows)).astype(np.int64))
        sample = split.train.select(places)
        examples = task.encode(sample, columns, pretrained.processor, state, targeted=True)
        per_row = float(examples.lengths.sum()) / len(sample)
        learner = pretrained.learner(task, state, columns, method_for_timing(method), training)
        forward = time_forward(learner, examples)
        descends = isinstance(method, Auto) or method.epochs > 0
        step = time_step(learner, examples, training) if descends else 0.0
        model = learner.backbone.model
        valid = 0 if split.valid is None else len(split.valid)
        return Speeds(
            tokens=per_row * (rows + valid),
            test_tokens=per_row * sum(len(test.rows) for test in split.tests.values()),
            rows=rows,
            outputs=task.outputs(state),
            width=model.head.in_features,
            pretrained=pretrained,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            sample=examples,
            forward=forward,
            step=step,
        )

    @property
    def features_seconds(self) -> float:
        return self.tokens / self.forward

    @property
    def solve_seconds(self) -> float:
        """Five folds, about four penalties and 25 iterations each, two products an iteration."""
        rows = min(self.rows, 100_000)
        return 5 * 4 * 25 * 4.0 * rows * self.width * self.outputs / SOLVE_RATE + 0.3

    @property
    def probe_seconds(self) -> float:
        return self.features_seconds + self.solve_seconds

    @property
    def predict_seconds(self) -> float:
        return self.test_tokens / self.forward

    def epoch_seconds(self, method: Method) -> float:
        """One pass of gradient steps; under replay only the moving blocks cost."""
        if not method.epochs:
            return 0.0
        reach = self.reach(method)
        return self.tokens / self.step * min(1.0, reach.moving / reach.blocks + 0.05)

    def reach(self, method: Method) -> Reach:
        """How deep a method reaches; asked once."""
        if method not in self._reach:
            self._reach[method] = self._ask(method)
        return self._reach[method]

    def _ask(self, method: Method) -> Reach:
        backbone = method.prepare(self.pretrained.load(self.outputs))
        descents = [stage for stage in method.stages(backbone) if isinstance(stage.fit, Descend)]
        names = tuple(name for stage in descents for group in stage.groups for name in group.names)
        cut, blocks = lowest_cut(backbone, names), max(1, len(backbone.blocks))
        below = () if cut is None else cut.below
        moving = sum(not within(block, below) for block in backbone.blocks) or blocks
        every = dict(backbone.model.named_parameters())
        trained = sum(every[name].numel() for name in {*names, *backbone.created})
        for table, column in trained_tables(backbone, names).items():
            rows, width = every[f"{table}.weight"].shape
            trained -= max(0, rows - self.distinct(column)) * width
        return Reach(moving, blocks, trained)

    def distinct(self, column: str) -> int:
        """About how many different values an input has: their number grows with the root of its size (Heaps 1978)."""
        values = self.sample.inputs[column].compact().values
        return int(len(np.unique(values)) * max(1.0, self.tokens / len(values)) ** 0.5)

    def rung_seconds(self, method: Method, epochs: float) -> float:
        """A rung with its head, the frozen blocks that it replays, and its passes.

        Features are not in it: they are computed once for all rungs, unless nothing is cached.
        """
        if not method.epochs:
            return self.solve_seconds
        reach = self.reach(method)
        again = 0.0 if self.pretrained.cache else self.features_seconds
        prefix = self.features_seconds * (1 - reach.moving / reach.blocks)
        return START_SHARE * self.solve_seconds + again + prefix + epochs * self.epoch_seconds(method)


def method_for_timing(method: Any) -> Method:
    """The method whose steps are timed: every weight, from which shallower ones follow."""
    return Full() if isinstance(method, Auto) else method


def time_forward(learner: Neural, examples: Examples) -> float:
    """Tokens a second of the frozen forward on a sample of usual lengths."""
    import torch

    torch.set_num_threads(learner.machinery.threads)
    working = Working.of(learner.backbone.model, learner.machinery.precision, torch.device(learner.machinery.device))
    size = int(np.searchsorted(np.cumsum(examples.lengths), TIMED_TOKENS)) + 1
    some = pick(examples, np.arange(min(size, len(examples))))
    best = 0.0
    for _ in range(2):
        began = time.perf_counter()
        drain(run_prefix(working.live, FeatureCut(), some, learner.processor, stage="plan", most_tokens=2048))
        best = max(best, float(some.lengths.sum()) / (time.perf_counter() - began))
    return best


def time_step(learner: Neural, examples: Examples, training: Training) -> float:
    """Tokens a second of training steps of every weight, on batches of usual lengths."""
    import torch

    backbone = learner.method.prepare(learner.backbone)
    stage = next(stage for stage in Full().stages(backbone) if isinstance(stage.fit, Descend))
    groups = (*stage.groups, RateGroup(names=backbone.created))
    names = tuple(name for group in groups for name in group.names)
    working = Working.of(backbone.model, learner.machinery.training_precision, torch.device(learner.machinery.device))
    working.trainable(names)
    size = min(training.batch_size, len(examples))
    source = Source(examples, learner.processor, size, training.micro_batch_size or size, 0)
    budget = Budget(steps=100, every=100, evaluate=None, settings=training)
    best = 0.0
    with compacted(working, trained_tables(backbone, names), [examples.inputs]):
        state = start_state(working, groups, 1e-9, training)
        objective = TaskObjective(learner.task, learner.state, working.live, None)
        set_training(working.live, None)
        for _ in range(min(3, source.steps_per_epoch)):
            index = np.concatenate([b.index for b in source.window("plan", 0, state.step % source.steps_per_epoch)])
            began = time.perf_counter()
            take_step(state, "plan", source, objective, working, budget, 0)
            best = max(best, float(examples.lengths[index].sum()) / (time.perf_counter() - began))
    return best


def forecast_of(speeds: Speeds, method: Any, training: Training) -> Forecast:
    """Seconds, memory and disk of the whole run."""
    parts = {"predict": speeds.predict_seconds, "other": FIXED_SECONDS}
    gain = ""
    if isinstance(method, Auto):
        parts["rungs"] = sum(rung.seconds for rung in method.rungs)
    else:
        parts["features"] = speeds.features_seconds
        parts["fit"] = speeds.rung_seconds(method, training.epochs or method.epochs)
        gain = replay_bound(speeds, method, training)
    weights = speeds.parameters * 4
    moving = weights * (5 if not isinstance(method, Auto) and not method.epochs else 8)
    memory = int(500e6 + moving + speeds.tokens * speeds.width * 2)
    kept = sum(checkpoint_bytes(speeds, one, passes) for one, passes in descents(method, training))
    disk = int(weights + speeds.tokens * speeds.width * 2 + speeds.rows * speeds.width * 4 + kept)
    rounded = {name: round(value, 1) for name, value in parts.items()}
    return Forecast(
        seconds=round(sum(parts.values()), 1), memory_bytes=memory, disk_bytes=disk, parts=rounded, replay_gain=gain
    )


def descents(method: Any, training: Training) -> list[tuple[Method, float]]:
    """The methods of a plan that take steps, with their epochs."""
    if isinstance(method, Auto):
        return [(rung.method, rung.epochs) for rung in method.rungs if rung.epochs]
    return [(method, training.epochs or method.epochs)] if method.epochs else []


def checkpoint_bytes(speeds: Speeds, method: Method, epochs: float) -> int:
    """What the checkpoints of a method take at most: the last one, and those of a long fit with one being written."""
    whole = epochs * speeds.epoch_seconds(method)
    between = speeds.pretrained.machinery.checkpoint_seconds
    written = 1 + whole / between if between else math.inf
    return STATE_BYTES * speeds.reach(method).trained * int(min(written, KEPT + 1))


def replay_bound(speeds: Speeds, method: Method, training: Training) -> str:
    """The most that replay can gain, in words; nothing where it will not be used."""
    epochs = training.epochs or method.epochs
    if not epochs:
        return ""
    reach = speeds.reach(method)
    gain = replay_gain(reach.blocks, reach.moving, epochs)
    return f"at most {gain:.1f} times faster by replay" if gain >= LEAST_GAIN else ""
