"""How fast is it here? A frozen forward and a few real steps of every stage, on a sample, before anything is fitted.

Steps are taken with a learning rate near zero on a copy of the model that is thrown away. A stage that will be replayed
is timed under replay, so what is measured is what the run will do.
"""

import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace

import numpy as np

from whet.backbones.backbone import Backbone, Cut
from whet.backbones.cut import FeatureCut
from whet.learners.descent import drawn_head, lowest_cut, moving_blocks, names_of, trained_tables, undecayed
from whet.learners.fitted import NeuralFitted, drain
from whet.learners.neural import Neural
from whet.methods.method import Descend, Solve, Stage
from whet.tasks.task import Examples
from whet.training.compact import compacted
from whet.training.loop import Budget, start_state, take_step
from whet.training.objective import ReplaySource
from whet.training.precision import Working
from whet.training.replay import activations, pick, run_prefix, set_training
from whet.training.trouble import NotFiniteError

TIMED_TOKENS = 4096
WARM_STEPS, TIMED_STEPS = 1, 4
STILL = 1e-9
"""A learning rate that is none."""


@dataclass(frozen=True)
class StageCost:
    """What one stage of gradient steps takes.

    Args:
        share: Of the method's epochs that the stage takes.
        moving: Blocks above what it leaves frozen, of ``blocks`` in all.
        trained: Numbers that move, embedding tables whole.
        tables: Of each such table the input that it looks up, its rows and its width.
        remembered: Numbers that the optimizer keeps between updates, by number that moves.
        token_seconds: Of a step, by tokens of training rows.
        replayed: Whether what is frozen is replayed.
    """

    share: float
    moving: int
    blocks: int
    trained: int
    tables: tuple[tuple[str, int, int], ...]
    remembered: float
    token_seconds: float
    replayed: bool


@dataclass(frozen=True)
class MethodCost:
    """What a method takes.

    Args:
        descents: Of its stages of gradient steps, in order.
        searches: Solved heads whose penalty is searched for; starts: those with a single one.
        moved: Solved heads on features that moved before, which are computed anew.
    """

    descents: tuple[StageCost, ...]
    searches: int
    starts: int
    moved: int


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


def time_method(learner: Neural, examples: Examples) -> MethodCost:
    """Count a method's solved heads, and take a few steps of every stage that descends.

    Raises:
        ConfigError: the method cannot work with this model, task or plan.
    """
    backbone, stages = learner.stages()
    descents = [(number, stage) for number, stage in enumerate(stages) if isinstance(stage.fit, Descend)]
    solves = [(number, stage.fit) for number, stage in enumerate(stages) if isinstance(stage.fit, Solve)]
    first = min((number for number, _ in descents), default=len(stages))
    searches = sum(len(fit.penalties) > 1 for _, fit in solves)
    return MethodCost(
        descents=tuple(time_stage(learner, backbone, stage, number, examples) for number, stage in descents),
        searches=searches,
        starts=len(solves) - searches,
        moved=sum(number > first for number, _ in solves),
    )


def time_stage(learner: Neural, backbone: Backbone, stage: Stage, number: int, examples: Examples) -> StageCost:
    """One stage's cost."""
    import torch

    assert isinstance(stage.fit, Descend)
    descent = replace(learner.descent(stage, number), rate=STILL)
    machinery = learner.machinery
    working = Working.of(backbone.model, machinery.training_precision, torch.device(machinery.device))
    fitted = NeuralFitted(
        working, backbone, learner.task, learner.state, learner.columns, learner.processor, machinery, None
    )
    groups = descent.groups(backbone)
    names = names_of(groups)
    working.trainable(names)
    source = descent.source(fitted, examples)
    if not source.steps_per_epoch:  # a sample without two rows of any class
        source.alike = None
    cut = replayed_from(descent.cut(backbone), fitted, source)
    tables = trained_tables(backbone, names)
    with ExitStack() as stack:
        stack.enter_context(drawn_head(working.live))
        stack.enter_context(compacted(working, tables, [examples.inputs]))
        state = start_state(working, groups, STILL, descent.training, undecayed(backbone))
        holder = stack.enter_context(cut.inject(working.live)) if cut else None
        objective = descent.objective(fitted, holder)
        set_training(working.live, lowest_cut(backbone, names))
        budget = Budget(steps=100, every=100, evaluate=None, settings=descent.training)
        fastest = np.inf  # the first step of a shape prepares kernels, which later ones find
        for step in range(WARM_STEPS + TIMED_STEPS):
            place = state.step = step % max(1, source.steps_per_epoch)
            index = np.concatenate([batch.index for batch in source.window(stage.name, 0, place)])
            began = time.perf_counter()
            with suppress(NotFiniteError):  # timed all the same
                take_step(state, stage.name, source, objective, working, budget, 0)
            if step >= WARM_STEPS:
                fastest = min(fastest, (time.perf_counter() - began) / float(examples.lengths[index].sum()))
        remembered = state.optimizer.numbers() / sum(len(group) for group in state.groups)
        state.release(working)
    every = dict(backbone.model.named_parameters())
    blocks = max(1, len(backbone.blocks))
    shapes = [(column, *every[f"{table}.weight"].shape) for table, column in tables.items()]
    return StageCost(
        share=stage.fit.share,
        moving=moving_blocks(backbone, lowest_cut(backbone, names)) or blocks,
        blocks=blocks,
        trained=sum(every[name].numel() for name in names),
        tables=tuple((str(column), int(rows), int(width)) for column, rows, width in shapes),
        remembered=remembered,
        token_seconds=float(fastest),
        replayed=cut is not None,
    )


def replayed_from(cut: Cut | None, fitted: NeuralFitted, source: ReplaySource) -> Cut | None:
    """Fill the source's activations; None where the model cannot be cut."""
    if cut is None:
        return None
    live, most = fitted.working.live, fitted.machinery.most_tokens
    try:
        found = activations(live, cut, source.examples, fitted.processor, None, stage="plan", most_tokens=most)
        source.cached, source.ragged = drain(found), cut.ragged
    except (TypeError, ValueError, AttributeError, RuntimeError, LookupError):  # the run says why; it is only slower
        return None
    return cut
