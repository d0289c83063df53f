"""How fast is it here, and how much memory does it need? A frozen forward and a few real steps of every stage, on a
sample, before anything is fitted.

Steps are taken with a learning rate near zero on a copy of the model that is thrown away. A stage that will be replayed
is timed under replay, so what is measured is what the run will do. Memory is that of a step on the longest rows, with
all that a stage holds beside it: masters, moments, the best weights, the snapshot to return to.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from whet.backbones.backbone import Backbone, Cut
from whet.backbones.cut import FeatureCut
from whet.data.ragged import by_length
from whet.learners.descent import Descent, drawn_head, lowest_cut, moving_blocks, names_of, trained_tables, undecayed
from whet.learners.fitted import NeuralFitted, drain
from whet.learners.neural import Neural
from whet.methods.method import Descend, Solve, Stage
from whet.tasks.task import Examples
from whet.training.compact import compacted
from whet.training.compiling import compiled
from whet.training.loop import Budget, FitState, start_state, take_step
from whet.training.memory import watched_peak
from whet.training.objective import ReplaySource, answers
from whet.training.precision import Working
from whet.training.recompute import recomputed
from whet.training.replay import activations, feed, pick, run_prefix, set_training, to_device
from whet.training.trouble import NotFiniteError

Array = np.ndarray[Any, Any]
TIMED_TOKENS, WARM_TOKENS, LEAST_SECONDS = 2048, 256, 0.5
"""Of a forward: those that are timed, those that prepare kernels before, and the time from which one pass is enough."""
WARM_STEPS, TIMED_STEPS, TIMED_SECONDS = 1, 4, 6.0
"""Steps that prepare kernels; those that are timed after them, at most; and when so much went by, one is enough."""
TIMED_FORWARDS = 3
"""Of unequal blocks, whole and above a cut."""
STILL = 1e-9
"""A learning rate that is none."""


@dataclass(frozen=True)
class StageCost:
    """What one stage of gradient steps takes.

    Args:
        share: Of the method's epochs that the stage takes.
        above: Share of a forward that lies above what it leaves frozen: of equal blocks their share, else as timed.
        trained: Numbers that move, embedding tables whole.
        tables: Of each such table the input that it looks up, its rows and its width.
        remembered: Numbers that the optimizer keeps between updates, by number that moves.
        token_seconds: Of a step, by tokens of training rows.
        replayed: Whether what is frozen is replayed.
        held_bytes: Of what is replayed, a position.
        prepare_seconds: Compiling, before its first steps.
    """

    share: float
    above: float
    trained: int
    tables: tuple[tuple[str, int, int], ...]
    remembered: float
    token_seconds: float
    replayed: bool
    held_bytes: float = 0.0
    prepare_seconds: float = 0.0


@dataclass(frozen=True)
class MethodCost:
    """What a method takes.

    Args:
        descents: Of its stages of gradient steps, in order.
        searches: Solved heads whose penalty is searched for; starts: those with a single one.
        moved: Solved heads on features that moved before, which are computed anew.
        memory_bytes: The most that a learner and its steps held beside what was there before.
        forward_bytes: The same of a frozen forward on the longest rows.
    """

    descents: tuple[StageCost, ...]
    searches: int
    starts: int
    moved: int
    memory_bytes: int = 0
    forward_bytes: int = 0


def frozen(learner: Neural) -> NeuralFitted:
    """A learner's model before anything is fitted, as it answers in a run."""
    return learner.unfitted(learner.backbone, learner.machinery.precision)


def time_forward(fitted: NeuralFitted, examples: Examples) -> float:
    """Tokens a second of the frozen forward on a sample of usual lengths."""
    torch.set_num_threads(fitted.machinery.threads)
    pass_tokens(fitted, examples, WARM_TOKENS)
    first, seconds = pass_tokens(fitted, examples, TIMED_TOKENS)
    if seconds > LEAST_SECONDS:
        return first
    return max(first, pass_tokens(fitted, examples, TIMED_TOKENS)[0])


def pass_tokens(fitted: NeuralFitted, examples: Examples, tokens: int) -> tuple[float, float]:
    """Tokens a second of a forward over so many tokens at least, and the seconds it took."""
    some = pick(examples, timed_index(examples.lengths, tokens))
    began = time.perf_counter()
    drain(run_prefix(fitted.working.live, FeatureCut(), some, fitted.processor, stage="plan", most_tokens=2048))
    seconds = time.perf_counter() - began
    return float(some.lengths.sum()) / seconds, seconds


def timed_index(lengths: Array, tokens: int) -> Array:
    """The first examples that hold so many tokens, again and again where there are few: small batches take longer."""
    times = -(-tokens // max(1, int(lengths.sum())))
    every = np.tile(np.arange(len(lengths)), times)
    return every[: int(np.searchsorted(np.cumsum(lengths[every]), tokens)) + 1]


def measure_method(make: Callable[[], Neural], examples: Examples, longest: Examples, answered: Examples) -> MethodCost:
    """Count a method's solved heads, and take a few steps of every stage that descends.

    Args:
        make: The method's learner, fresh.
        examples: Of usual lengths, to time; longest: the longest there are, longest first, for the memory of a step;
            answered: those for the memory of a forward.

    Raises:
        ConfigError: the method cannot work with this model, task or plan.
    """
    with watched_peak() as forward:
        run_longest(make(), answered)
    with watched_peak() as peak:
        learner = make()
        backbone, stages = learner.stages()
        descents = [(number, stage) for number, stage in enumerate(stages) if isinstance(stage.fit, Descend)]
        solves = [(number, stage.fit) for number, stage in enumerate(stages) if isinstance(stage.fit, Solve)]
        first = min((number for number, _ in descents), default=len(stages))
        searches = sum(len(fit.penalties) > 1 for _, fit in solves)
        costs = tuple(measure_stage(learner, backbone, stage, number, examples, longest) for number, stage in descents)
    return MethodCost(
        descents=costs,
        searches=searches,
        starts=len(solves) - searches,
        moved=sum(number > first for number, _ in solves),
        memory_bytes=peak.grown,
        forward_bytes=forward.grown,
    )


def run_longest(learner: Neural, longest: Examples) -> None:
    """A frozen forward on the longest rows, as many as a run takes at once."""
    fitted, most = frozen(learner), learner.machinery.most_tokens
    some = first_batch(longest, most)
    drain(run_prefix(fitted.working.live, FeatureCut(), some, fitted.processor, stage="plan", most_tokens=most))


def first_batch(longest: Examples, most_tokens: int) -> Examples:
    """The largest batch that is made of some examples without gradients."""
    return pick(longest, next(by_length(longest.lengths, most_tokens)))


def measure_stage(
    learner: Neural, backbone: Backbone, stage: Stage, number: int, examples: Examples, longest: Examples
) -> StageCost:
    """One stage's cost; takes its memory on the way."""
    assert isinstance(stage.fit, Descend)
    descent = replace(learner.descent(stage, number), rate=STILL)
    machinery = learner.machinery
    fitted = learner.unfitted(backbone, machinery.training_precision)
    working = fitted.working
    groups = descent.groups(backbone)
    names = names_of(groups)
    working.trainable(names)
    batch = pick(longest, np.arange(min(descent.training.batch_size, len(longest))))
    forward = first_batch(longest, machinery.most_tokens)
    timed, largest, held_out = (descent.source(fitted, some) for some in (examples, batch, forward))
    if not timed.steps_per_epoch:  # a sample without two rows of any class
        timed.alike = None
    largest.alike = None
    cut = replayed_from(descent.cut(backbone), fitted, (timed, largest, held_out))
    if cut is None:  # views are made anew whenever they are looked at
        timed.shown, largest.shown = descent.views(fitted, timed.examples), descent.views(fitted, largest.examples)
    above = share_above(backbone, lowest_cut(backbone, names), working, timed if cut is not None else None)
    tables = trained_tables(backbone, names)
    with ExitStack() as stack:
        stack.enter_context(drawn_head(working.live))
        stack.enter_context(compacted(working, tables, [examples.inputs, longest.inputs]))
        average = descent.training.average
        state = start_state(working, groups, STILL, descent.training, undecayed(backbone), average)
        holder = stack.enter_context(cut.inject(working.live)) if cut else None
        stack.enter_context(compiled(working.live, backbone.blocks, machinery.compile == "on"))
        stack.enter_context(recomputed(working.live, backbone.blocks, descent.training.gradient_checkpointing))
        objective = descent.objective(fitted, holder)
        set_training(working.live, lowest_cut(backbone, names))
        taking = Stepping(descent, state, objective, working)
        took = taking.some(timed)
        fastest = min(seconds / tokens for seconds, tokens in took[WARM_STEPS:])  # the first one prepares kernels
        for _ in range(2):  # the best weights of a snapshot are others than those since
            state.take_snapshot()
            state.best = {name: tensor.clone() for name, tensor in state.masters().items()}
        taking.seconds(largest, 0)
        answers(working.live, held_out, holder, machinery.most_tokens)
        remembered = state.optimizer.numbers() / sum(len(group) for group in state.groups)
        state.release(working)
    every = dict(backbone.model.named_parameters())
    shapes = [(column, *every[f"{table}.weight"].shape) for table, column in tables.items()]
    return StageCost(
        share=stage.fit.share,
        above=above,
        trained=sum(every[name].numel() for name in names),
        tables=tuple((str(column), int(rows), int(width)) for column, rows, width in shapes),
        remembered=remembered,
        token_seconds=fastest,
        replayed=cut is not None,
        held_bytes=bytes_held(timed) / float(timed.examples.lengths.sum()),
        prepare_seconds=sum(s - fastest * tokens for s, tokens in took) if machinery.compile == "on" else 0.0,
    )


def share_above(backbone: Backbone, cut: Cut | None, working: Working, replayed: ReplaySource | None) -> float:
    """The share of a forward that lies above a cut: that of the blocks where they are equal, else as timed.

    Args:
        replayed: Examples with what crosses the cut; None where nothing is replayed, and blocks are counted.
    """
    blocks, moving = len(backbone.blocks), moving_blocks(backbone, cut)
    sizes = {sum(p.numel() for p in backbone.model.get_submodule(name).parameters()) for name in backbone.blocks}
    if cut is None or replayed is None or len(sizes) < 2:
        return moving / blocks if blocks and moving else 1.0
    index = np.arange(min(replayed.batch_size, len(replayed.examples)))
    live, batch = working.live.eval(), replayed.with_inputs().batch(index)
    device = next(live.parameters()).device
    inputs = to_device(batch.inputs, device)
    with torch.no_grad():
        whole = quickest(lambda: live(**inputs))
        with cut.inject(live) as holder:
            feed(holder, batch, device)
            return min(1.0, quickest(lambda: live(**inputs)) / whole)


def quickest(run: Callable[[], Any]) -> float:
    """Seconds of the quickest of a few runs."""
    found = []
    for _ in range(TIMED_FORWARDS):
        began = time.perf_counter()
        run()
        found.append(time.perf_counter() - began)
    return min(found)


@dataclass(frozen=True, eq=False)
class Stepping:
    """Single steps of a stage."""

    descent: Descent
    state: FitState
    objective: Any
    working: Working

    def some(self, source: ReplaySource) -> list[tuple[float, float]]:
        """Seconds and tokens of the warm steps and of those that are timed."""
        took = [self.seconds(source, step) for step in range(WARM_STEPS + 1)]
        while len(took) < WARM_STEPS + TIMED_STEPS and sum(seconds for seconds, _ in took) < TIMED_SECONDS:
            took.append(self.seconds(source, len(took)))
        return took

    def seconds(self, source: ReplaySource, step: int) -> tuple[float, float]:
        """Take one: its seconds, and the tokens of its rows."""
        name, settings = self.descent.stage.name, self.descent.training
        budget = Budget(steps=100, every=100, evaluate=None, settings=settings)
        place = self.state.step = step % max(1, source.steps_per_epoch)
        index = np.concatenate([batch.index for batch in source.window(name, 0, place)])
        began = time.perf_counter()
        with suppress(NotFiniteError):  # timed all the same
            take_step(self.state, name, source, self.objective, self.working, budget, 0)
        return time.perf_counter() - began, float(source.examples.lengths[index].sum())


def replayed_from(cut: Cut | None, fitted: NeuralFitted, sources: tuple[ReplaySource, ...]) -> Cut | None:
    """Fill the sources' activations; None where the model cannot be cut."""
    if cut is None:
        return None
    live, most = fitted.working.live, fitted.machinery.most_tokens
    try:
        for source in sources:
            found = activations(live, cut, source.examples, fitted.processor, None, stage="plan", most_tokens=most)
            source.cached, source.ragged = [drain(found)], cut.ragged
    except (TypeError, ValueError, AttributeError, RuntimeError, LookupError) as error:  # the run says why
        if out_of_memory(error):
            raise
        for source in sources:
            source.cached = None
        return None
    return cut


def bytes_held(source: ReplaySource) -> int:
    """What is replayed of a source's examples."""
    return sum(ragged.nbytes for view in source.cached or () for ragged in view.values())


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, of the device or of the machine."""
    said = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)
