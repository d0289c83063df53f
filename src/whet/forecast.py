"""How long will it take? Measured on this machine, this model and these rows before anything is fitted.

A frozen forward and one training step are timed on a sample; the rest is arithmetic. The budget of the automatic
ladder is turned into epochs here, once, so that no clock decides anything during fit.
"""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from whet import catalog
from whet.backbones.cut import FeatureCut
from whet.data.rows import Columns
from whet.data.split import Split
from whet.errors import ConfigError
from whet.learners.fitted import drain
from whet.learners.neural import LEAST_GAIN, Neural, Pretrained, lowest_cut, replay_gain, trained_tables
from whet.methods.full import Full
from whet.methods.method import Descend, Method, RateGroup, within
from whet.plan import Auto, Forecast, Rung, member_of
from whet.tasks.task import Examples, State, Task
from whet.training.batches import Source
from whet.training.compact import compacted
from whet.training.loop import Budget, start_state, take_step
from whet.training.objective import TaskObjective
from whet.training.precision import Working
from whet.training.replay import pick, run_prefix, set_training
from whet.training.settings import Training

SAMPLE_ROWS = 256
TIMED_TOKENS = 4096
FEWEST_EPOCHS = 2
"""A rung that could not make so many passes is left out."""
START_SHARE = 0.2
"""What the head that steps start from takes of a solve with its penalty chosen."""
GOOD_EPOCHS = 4
"""Passes that the deepest rung should have before a shallower one beneath it gets any time."""
SHARE = 0.35
"""Of what is left, at most, for a rung that a deeper one can still follow."""
MARGIN = 1.15
"""Forecasts are for a quiet machine; so much more is reserved when rungs are fixed."""
SOLVE_RATE = 60e9
"""Floating-point operations a second of the solver, low on purpose."""
FIXED_SECONDS = 6.0
"""Imports, reading, checks, judging and packaging."""


@dataclass(frozen=True)
class Speeds:
    """What was measured, and the sizes it applies to.

    Args:
        tokens: Of training and validation rows; test_tokens: of test rows.
        pretrained: What each method is asked about: how deep it reaches.
        forward: Tokens a second of the frozen forward; step: tokens a second of a full training step, 0 unmeasured.
    """

    tokens: float
    test_tokens: float
    rows: int
    outputs: int
    width: int
    pretrained: Pretrained
    parameters: int
    forward: float
    step: float
    _moving: dict[Method, tuple[int, int]] = field(default_factory=dict, repr=False)

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
        moving, blocks = self.moving_blocks(method)
        return self.tokens / self.step * min(1.0, moving / blocks + 0.05)

    def moving_blocks(self, method: Method) -> tuple[int, int]:
        """How many blocks lie above what a method leaves frozen, and how many there are."""
        if method not in self._moving:
            self._moving[method] = self._count_blocks(method)
        return self._moving[method]

    def _count_blocks(self, method: Method) -> tuple[int, int]:
        backbone = method.prepare(self.pretrained.load(self.outputs))
        descents = [stage for stage in method.stages(backbone) if isinstance(stage.fit, Descend)]
        names = tuple(name for stage in descents for group in stage.groups for name in group.names)
        cut, blocks = lowest_cut(backbone, names), max(1, len(backbone.blocks))
        below = () if cut is None else cut.below
        return sum(not within(block, below) for block in backbone.blocks) or blocks, blocks

    def rung_seconds(self, method: Method, epochs: float) -> float:
        """A rung with its head, the frozen blocks that it replays, and its passes.

        Features are not in it: they are computed once for all rungs, unless nothing is cached.
        """
        if not method.epochs:
            return self.solve_seconds
        moving, blocks = self.moving_blocks(method)
        again = 0.0 if self.pretrained.cache else self.features_seconds
        prefix = self.features_seconds * (1 - moving / blocks)
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


def fit_rungs(auto: Auto, speeds: Speeds, training: Training, pairs: bool) -> Auto:
    """Fix the rungs and their epochs from the budget; by default ten probes, and at least two minutes."""
    methods: list[Method] = [member_of("method", name) for name in auto.methods]
    methods = [method for method in methods if method.epochs or not pairs]
    left_out: list[str] = []
    for method in list(methods):
        try:
            speeds.epoch_seconds(method)
        except ConfigError as error:  # such as top-layers for a model without a chain of blocks
            methods.remove(method)
            left_out.append(f"{catalog.name_of('method', method)}: {str(error.args[0]).rstrip('.')}")
    if not methods:
        raise ConfigError(
            "No method of the ladder can judge pairs: a frozen encoder never learnt to compare them.",
            where="method.methods",
            fix="add top-layers or full",
        )
    seconds = auto.seconds or max(120.0, 10 * speeds.probe_seconds)
    left = seconds - FIXED_SECONDS - speeds.predict_seconds - speeds.features_seconds
    rungs: list[Rung] = []
    for position, method in enumerate(methods):
        name = catalog.name_of("method", method)
        if not method.epochs:
            left -= speeds.solve_seconds
            rungs.append(Rung(method=method, epochs=0, seconds=round(speeds.probe_seconds, 1)))
            continue
        share = share_of(methods[position + 1 :], left, speeds, training)
        wanted = training.epochs or method.epochs
        start = speeds.rung_seconds(method, 0)
        passes = max(0.0, share / MARGIN - start) / max(speeds.epoch_seconds(method), 1e-9)
        epochs = min(wanted, int(passes * 10) / 10)
        if epochs < min(FEWEST_EPOCHS, wanted) and rungs:
            least = least_seconds(speeds, method, training)
            left_out.append(
                f"{name}: takes about {least:,.0f} s, and {max(share, 0):,.0f} s are left for it; --time gives more"
            )
            continue
        epochs = max(epochs, 1.0)
        took = speeds.rung_seconds(method, epochs)
        left -= took * MARGIN
        rungs.append(Rung(method=method, epochs=epochs, seconds=round(took, 1)))
    return replace(auto, seconds=round(seconds, 1), rungs=tuple(rungs), left_out=tuple(left_out))


def share_of(deeper: list[Method], left: float, speeds: Speeds, training: Training) -> float:
    """What a rung may take of the seconds left: everything if no deeper one fits, else what that one can spare."""
    within_reach = [method for method in deeper if least_seconds(speeds, method, training) <= left]
    if not within_reach:
        return left
    last = within_reach[-1]
    reserved = MARGIN * speeds.rung_seconds(last, min(GOOD_EPOCHS, training.epochs or last.epochs))
    return min(SHARE * left, left - reserved)


def least_seconds(speeds: Speeds, method: Method, training: Training) -> float:
    """What a rung takes with the fewest epochs that are worth it."""
    return MARGIN * speeds.rung_seconds(method, min(FEWEST_EPOCHS, training.epochs or method.epochs))


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
    disk = int(weights + speeds.tokens * speeds.width * 2 + speeds.rows * speeds.width * 4)
    rounded = {name: round(value, 1) for name, value in parts.items()}
    return Forecast(
        seconds=round(sum(parts.values()), 1), memory_bytes=memory, disk_bytes=disk, parts=rounded, replay_gain=gain
    )


def replay_bound(speeds: Speeds, method: Method, training: Training) -> str:
    """The most that replay can gain, in words; nothing where it will not be used."""
    epochs = training.epochs or method.epochs
    if not epochs:
        return ""
    k, n = speeds.moving_blocks(method)
    gain = replay_gain(n, k, epochs)
    return f"at most {gain:.1f} times faster by replay" if gain >= LEAST_GAIN else ""
