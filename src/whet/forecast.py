"""How long will it take? Measured on this machine, this model and these rows before anything is fitted.

What ``dry_run`` timed on a sample, and the sizes of the rest; the rest is arithmetic.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whet.data.rows import Columns
from whet.data.split import Split
from whet.dry_run import MethodCost, StageCost, time_forward, time_method
from whet.learners.descent import LEAST_GAIN, gain_of_stages
from whet.learners.neural import Neural, Pretrained
from whet.methods.method import Method
from whet.methods.probe import Probe
from whet.plan import Auto, Forecast
from whet.tasks.task import Examples, State, Task
from whet.training.averaging import COPIES, MEASURED
from whet.training.checkpoint import KEPT
from whet.training.settings import Average, Training

SAMPLE_ROWS = 256
START_SHARE = 0.2
"""What the head that steps start from takes of a solve with its penalty chosen."""
SOLVE_RATE = 60e9
"""Floating-point operations a second of the solver, low on purpose."""
NUMBER_BYTES = 4
"""Of a weight, and of whatever else is kept in float32."""
FIXED_SECONDS = 6.0
"""Imports, reading, checks, judging and packaging."""


@dataclass(frozen=True)
class Speeds:
    """What was measured, and the sizes it applies to.

    Args:
        tokens: Of training rows; valid_tokens and test_tokens: of the others.
        learner: Makes the learner of a method, whose stages are timed.
        evaluations: Of the validation rows, an epoch.
        average: Of the weights; it may measure validation loss again at the end, and needs memory.
        sample: Some training rows, encoded.
        forward: Tokens a second of the frozen forward.
    """

    tokens: float
    valid_tokens: float
    test_tokens: float
    rows: int
    outputs: int
    width: int
    pretrained: Pretrained
    learner: Callable[[Method], Neural]
    evaluations: int
    average: Average
    parameters: int
    sample: Examples
    forward: float
    _costs: dict[Method, MethodCost] = field(default_factory=dict, repr=False)

    @staticmethod
    def measure(
        pretrained: Pretrained, task: Task, state: State, columns: Columns, split: Split, training: Training
    ) -> "Speeds":
        """Encode a sample and time a frozen forward; stages are timed when they are asked for."""
        rows = len(split.train)
        places = np.unique(np.linspace(0, rows - 1, min(SAMPLE_ROWS, rows)).astype(np.int64))
        sample = split.train.select(places)
        examples = task.encode(sample, columns, pretrained.processor, state, targeted=True)
        per_row = float(examples.lengths.sum()) / len(sample)
        learner = pretrained.learner(task, state, columns, Probe(), training)
        forward = time_forward(learner, examples)
        model = learner.backbone.model
        return Speeds(
            tokens=per_row * rows,
            valid_tokens=per_row * (0 if split.valid is None else len(split.valid)),
            test_tokens=per_row * sum(len(test.rows) for test in split.tests.values()),
            rows=rows,
            outputs=task.outputs(state),
            width=model.head.in_features,
            pretrained=pretrained,
            learner=lambda method: pretrained.learner(task, state, columns, method, training),
            evaluations=training.evaluations_per_epoch,
            average=training.average,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            sample=examples,
            forward=forward,
        )

    @property
    def features_seconds(self) -> float:
        """Features of every row to learn from."""
        return (self.tokens + self.valid_tokens) / self.forward

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

    def cost(self, method: Method) -> MethodCost:
        """What a method takes; timed once."""
        if method not in self._costs:
            self._costs[method] = time_method(self.learner(method), self.sample)
        return self._costs[method]

    def stages(self, method: Method) -> tuple[StageCost, ...]:
        """What each of its descents takes."""
        return self.cost(method).descents

    def epoch_seconds(self, method: Method) -> float:
        """One pass of gradient steps with its evaluations; under replay only what moves costs."""
        return sum(stage.share * self._stage_epoch(stage) for stage in self.stages(method))

    def _stage_epoch(self, stage: StageCost) -> float:
        return self.tokens * stage.token_seconds + self.evaluations * self._evaluation(stage)

    def _evaluation(self, stage: StageCost) -> float:
        moving = stage.moving / stage.blocks if stage.replayed else 1.0
        return self.valid_tokens / self.forward * moving

    def trained(self, stage: StageCost) -> int:
        """Numbers that a stage moves, an embedding table with the rows that occur: a descent trains no others."""
        idle = sum(max(0, rows - self.distinct(column)) * width for column, rows, width in stage.tables)
        return stage.trained - idle

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
        cost = self.cost(method)
        features = cost.moved + sum(1 - stage.moving / stage.blocks for stage in cost.descents if stage.replayed)
        features += 0.0 if self.pretrained.cache else cost.searches + cost.starts - cost.moved
        solves = (cost.searches + START_SHARE * cost.starts) * self.solve_seconds
        chosen = MEASURED[self.average] * sum(self._evaluation(stage) for stage in cost.descents)
        return solves + chosen + features * self.features_seconds + epochs * self.epoch_seconds(method)


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
    weights = speeds.parameters * NUMBER_BYTES
    found = descents(method, training)
    remembered = max((stage.remembered for one, _ in found for stage in speeds.stages(one)), default=0.0)
    moving = int(weights * (7 + 2 * remembered + COPIES[training.average] if found else 5))
    kept_tokens = speeds.tokens + speeds.valid_tokens
    memory = int(500e6 + moving + kept_tokens * speeds.width * 2)
    kept = sum(checkpoint_bytes(speeds, one, passes) for one, passes in found)
    disk = int(weights + kept_tokens * speeds.width * 2 + speeds.rows * speeds.width * 4 + kept)
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
    machinery = speeds.pretrained.machinery
    between = machinery.checkpoint_seconds
    written = 1 + epochs * speeds.epoch_seconds(method) / between if between else math.inf
    written += epochs / machinery.checkpoint_epochs if machinery.checkpoint_epochs else 0
    numbers = sum(speeds.trained(stage) * state_numbers(stage, speeds.average) for stage in speeds.stages(method))
    return int(NUMBER_BYTES * numbers) * int(min(written, KEPT + 1))


def state_numbers(stage: StageCost, average: Average) -> float:
    """Numbers of a checkpoint by number that moves: master, what the optimizer remembers, the same two again in the
    snapshot, the best so far, and what an average carries."""
    return 2 * (1 + stage.remembered) + 1 + COPIES[average]


def replay_bound(speeds: Speeds, method: Method, training: Training) -> str:
    """The most that replay can gain, in words; nothing where it will not be used."""
    epochs, stages = training.epochs or method.epochs, speeds.stages(method)
    if not stages:
        return ""
    gain = gain_of_stages((stage.blocks, stage.moving, stage.share * epochs) for stage in stages)
    return f"at most {gain:.1f} times faster by replay" if gain >= LEAST_GAIN else ""
