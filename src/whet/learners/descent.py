"""One stage of gradient steps: what trains, on which rows, replayed from where, resumed, calibrated.

The loop below takes steps and knows none of this; the learner above puts stages one after the other.
"""

import math
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whet.backbones.backbone import Backbone, Cut, HeadedModel, Holder
from whet.backbones.cut import FeatureCut
from whet.backbones.precisions import Precision
from whet.catalog import name_of
from whet.data.rows import spread
from whet.errors import ConfigError, RunError
from whet.learners.fitted import NeuralFitted, cut_cache
from whet.methods.method import FEWEST_CONTRASTED, RateGroup, Stage, within
from whet.tasks.task import Examples, Task
from whet.training.batches import strata_of
from whet.training.checkpoint import load_checkpoint, save_checkpoint
from whet.training.compact import compacted
from whet.training.compiling import compiled
from whet.training.draws import numpy_generator
from whet.training.events import Checkpointed, Event, Said, Started, Stopped
from whet.training.interrupt import Asked, listening
from whet.training.loop import Budget, FitState, Objective, fit, start_state, take_step
from whet.training.machinery import Machinery
from whet.training.memory import trim_heap
from whet.training.movement import hashes, listed, never_moved, strays
from whet.training.objective import FeatureObjective, ReplaySource, TaskLoss, TaskObjective, answers, held_out_loss
from whet.training.precision import Working, parameter_dict
from whet.training.recompute import recomputed
from whet.training.regularise import Regularised
from whet.training.replay import Verdict, activations, set_training, verify
from whet.training.settings import Training
from whet.training.temperature import EXPECTED, Expected
from whet.training.trouble import NotFiniteError
from whet.training.views import views_of

Array = np.ndarray[Any, Any]
MOST_EVALUATIONS = 20
"""Of a stage: with few rows validation loss is noisy, and patience would end a stage after a handful of updates."""
LOOKED_AT = 256
"""Training rows whose answers are looked at after a stage without validation rows."""
LEAST_GAIN = 1.02
"""A cache that could not make a stage so many times faster is not filled."""
TRIAL_FAILED = "the first update is not finite, so nothing could be compared after it"


@dataclass(frozen=True, eq=False)
class Descent:
    """One stage of gradient steps, ready to run on a model.

    Args:
        epochs: Passes over the training rows at most.
        rate: Peak learning rate of the top group.
        checkpoints: Folder of this stage's checkpoints, or None.
    """

    stage: Stage
    epochs: float
    rate: float
    training: Training
    machinery: Machinery
    seed: int
    checkpoints: Path | None = None

    def run(self, fitted: NeuralFitted, train: Examples, valid: Examples | None) -> Generator[Event, None, bool]:
        """Take the steps; returns False where the start was better than every step, and the model is what it was."""
        stage, working, backbone = self.stage, fitted.working, fitted.backbone
        groups = self.groups(backbone)
        names = names_of(groups)
        working.trainable(names)
        watched = valid if stage.objective is None else None
        average = self.training.average
        require_validation(self.training, watched is not None)
        source, held_out, cut = yield from self._verified(fitted, train, watched)
        every = dict(working.masters.named_parameters())
        fitted.trainable = max(fitted.trainable, sum(every[name].numel() for name in names))
        sets = [train.inputs] if watched is None else [train.inputs, watched.inputs]
        before = hashes(working)
        with ExitStack() as stack:
            stack.enter_context(compacted(working, trained_tables(backbone, names), sets))
            state = start_state(working, groups, self.rate, self.training, undecayed(backbone), average)
            yield from resume(state, working, self.checkpoints, stage.name)
            steps = self.steps(source)
            yield Started(stage=stage.name, steps=steps, examples=len(train), note=cut.name if cut else "")
            holder = stack.enter_context(cut.inject(working.live)) if cut else None
            stack.enter_context(compiled(working.live, backbone.blocks, self.machinery.compile == "on"))
            stack.enter_context(recomputed(working.live, backbone.blocks, self.training.gradient_checkpointing))
            objective = self.objective(fitted, holder)
            set_training(working.live, lowest_cut(backbone, names))
            asked = stack.enter_context(listening())
            budget = self._budget(fitted, source, held_out, holder, asked=asked)
            events = fit(
                state,
                stage.name,
                source,
                objective,
                precision=working,
                budget=budget,
                seed=self.seed,
                average=average,
            )
            due = Due(self.machinery.checkpoint_seconds, source.steps_per_epoch * self.machinery.checkpoint_epochs)
            yield from checkpointed(events, state, self.checkpoints, due, stage.name, asked)
            moved = held_out is None or not state.started
            if held_out is not None and (moved or fitted.features_moved):
                calibrate(fitted, held_out, holder)
            fitted.interrupted |= asked()  # also after its last update, where no decision is left to make
        working.live.eval()
        yield from self._look_back(fitted, state, before, hashes(working))
        if held_out is None and stage.objective is None:
            some = train.select(spread(train.rows, LOOKED_AT))
            most = self.machinery.most_tokens
            fitted.look(answers(working.live, self.source(fitted, some), None, most).cpu().numpy(), some)
        self._note(fitted, state)
        return moved and state.step > 0

    def _note(self, fitted: NeuralFitted, state: FitState) -> None:
        """What a stage that is over adds to the account of the fit."""
        name = self.stage.name
        fitted.steps += state.step
        fitted.interrupted |= any(decision["reason"] == "interrupt" for decision in state.decisions)
        fitted.notes += [f"{name}: {d['decision']} after step {d['step']}." for d in state.decisions]
        fitted.notes += [f"{name}: {state.said}"] if state.said else []
        if state.failed:
            updates = ", ".join(str(step + 1) for step in state.failed)
            fitted.notes.append(f"{name}: not finite, and not applied: update {updates}; the rate was halved.")

    def _look_back(
        self,
        fitted: NeuralFitted,
        state: FitState,
        before: dict[str, tuple[int, ...]],
        after: dict[str, tuple[int, ...]],
    ) -> Iterator[Event]:
        """Say what moved though nothing trains it, what trains and never moved, and updates that had no target.

        Raises:
            RunError: no gradient reached anything.
        """
        stage, backbone = self.stage, fitted.backbone
        moved = strays(before, after, (*state.names, *backbone.created))
        if moved:
            fitted.features_moved = True  # what was computed and kept before may not be what the model computes now
            message = f"Frozen, and moved all the same: {listed(moved)}. The model changes them whenever it runs."
            yield from say(fitted, stage, message)
        idle = never_moved(state, before, after, stage.still)
        if idle and len(idle) == len(state.names):
            raise RunError(
                f"No gradient reached anything that the stage {stage.name!r} trains.",
                where=listed(idle),
                fix="look at the loss, which does not depend on them, or at training.freeze",
            )
        if idle:
            message = f"Trainable, but no gradient ever reached them: {listed(idle)}. Name them in training.freeze."
            yield from say(fitted, stage, message)
        if state.uncounted:
            message = f"{state.uncounted} of {state.step} updates had no target that counts, and changed nothing."
            yield from say(fitted, stage, message)

    def groups(self, backbone: Backbone) -> tuple[RateGroup, ...]:
        """The stage's groups, with the new head's where it trains."""
        head = (RateGroup(names=backbone.created, scale=self.training.head_learning_rate),) if self.stage.head else ()
        return (*self.stage.groups, *head)

    def objective(self, fitted: NeuralFitted, holder: Holder | None) -> Objective:
        """What the steps minimise: the task's loss, unless the stage has one of features."""
        if self.stage.objective is not None:
            return FeatureObjective(self.stage.objective, fitted.working.live, holder)
        plain = TaskObjective(fitted.task, fitted.state, fitted.working.live, holder)
        if self.training.mixup or self.training.r_drop:
            return Regularised(plain, self.training.r_drop)
        return plain

    def source(self, fitted: NeuralFitted, examples: Examples) -> ReplaySource:
        """Batches of these rows."""
        size = self.training.batch_size
        alike = None if self.stage.objective is None else examples.targets
        even = None
        if self.training.sampling == "balanced" and examples.targets is not None:
            even = strata_of(examples.targets)
        return ReplaySource(
            examples,
            fitted.processor,
            size,
            self.training.micro_batch_size or size,
            self.seed,
            alike=alike,
            even=even,
            mixup=self.training.mixup,
        )

    def views(self, fitted: NeuralFitted, examples: Examples) -> tuple[Examples, ...]:
        """Training examples as epochs look at them in turn; nothing where they look at them as they are."""
        training, modality = self.training, fitted.columns.modality
        count = views_seen(training.views, self.epochs)
        return views_of(examples, modality, training.augment or (), count, self.seed)

    def steps(self, source: ReplaySource) -> int:
        """Updates at most."""
        return max(1, round(source.steps_per_epoch * self.epochs))

    def require_steps(self, source: ReplaySource) -> None:
        """Refuse rows of which no batch can be made.

        Raises:
            ConfigError: no class has two rows, and the stage compares those of one class.
        """
        if not source.steps_per_epoch:
            raise ConfigError(
                f"No class has two rows, so the stage {self.stage.name!r} has nothing to compare.",
                where="method",
                fix="add rows, or use the method 'probe'",
            )

    def every(self, source: ReplaySource) -> int:
        """Updates between two evaluations; of many short epochs not each is evaluated."""
        usual = source.steps_per_epoch // self.training.evaluations_per_epoch
        return max(1, usual, self.steps(source) // MOST_EVALUATIONS)

    def cut(self, backbone: Backbone) -> Cut | None:
        """Where replay would cut, if it is wanted and can gain."""
        found = lowest_cut(backbone, names_of(self.groups(backbone))) if self.machinery.replay == "auto" else None
        if found is None:
            return None
        blocks = len(backbone.blocks)
        if not blocks:
            return found
        gain = replay_gain(moving_blocks(backbone, found) / blocks, self.epochs, self.training.views or 1)
        return None if gain < LEAST_GAIN else found

    def _sources(
        self, fitted: NeuralFitted, train_rows: Examples, valid_rows: Examples | None
    ) -> Generator[Event, None, tuple[ReplaySource, ReplaySource | None, Cut | None]]:
        """Batches of training and validation rows, under replay if it is possible and affordable."""
        train = self.source(fitted, train_rows)
        train.shown = self.views(fitted, train_rows)
        valid = None if valid_rows is None else self.source(fitted, valid_rows)
        cut = self.cut(fitted.backbone)
        if cut is None:
            return train, valid, None
        sources = [train] if valid is None else [train, valid]
        precision = self.machinery.training_precision
        need = sum(
            max(1, len(source.shown)) * cache_bytes(fitted.backbone, cut, source.examples, precision)
            for source in sources
        )
        if need > self.machinery.most_cache_bytes:
            yield from say(fitted, self.stage, f"Replay is off: its cache would take {need / 2**30:.1f} GiB.")
            return train, valid, None
        cache = cut_cache(fitted, cut, precision)
        most, live, name = self.machinery.most_tokens, fitted.working.live, self.stage.name
        try:
            for source in sources:
                cached = []
                for examples in source.shown or (source.examples,):
                    found = yield from activations(
                        live, cut, examples, fitted.processor, cache, stage=name, most_tokens=most
                    )
                    cached.append(found)
                source.cached, source.ragged = cached, cut.ragged
        except (TypeError, ValueError, AttributeError, RuntimeError, LookupError) as error:  # whatever a model raises
            reason = " ".join(str(error).split("\n", 1)[0].split())
            message = f"Replay is off for this model: what crosses the cut cannot be kept ({reason})."
            yield from say(fitted, self.stage, message)
            train.cached = None
            return train, valid, None
        return train, valid, cut

    def _verified(
        self, fitted: NeuralFitted, train_rows: Examples, valid_rows: Examples | None
    ) -> Generator[Event, None, tuple[ReplaySource, ReplaySource | None, Cut | None]]:
        """The same, under replay only where it is verified.

        Raises:
            ConfigError: no batch can be made of the training rows.
        """
        train, valid, cut = yield from self._sources(fitted, train_rows, valid_rows)
        self.require_steps(train)
        if cut is None or (yield from self._holds(fitted, train, cut, self.groups(fitted.backbone))):
            return train, valid, cut
        for source in (train, valid):
            if source is not None:
                source.cached = None
        return train, valid, None

    def _holds(
        self, fitted: NeuralFitted, source: ReplaySource, cut: Cut, groups: tuple[RateGroup, ...]
    ) -> Generator[Event, None, bool]:
        """Verify replay before the stage and again after one trial update, which is taken back."""
        loss = TaskLoss(fitted.task, fitted.state)
        number = len(source.examples)
        index = np.sort(numpy_generator("verify", self.seed).permutation(number)[: min(8, number)])

        last = max(0, len(source.shown) - 1)

        def look() -> Verdict:
            with drawn_head(fitted.working.live):
                batch = source.with_inputs().batch(index, last)
                return verify(fitted.working.live, cut, batch, loss, seed=self.seed)

        verdict = look()
        if verdict.holds:
            with tried(fitted.working, names_of(groups)):
                verdict = look() if self._trial(fitted, source, cut, groups) else Verdict(False, TRIAL_FAILED)
        if not verdict.holds:
            yield from say(fitted, self.stage, f"Replay is off for this model: {verdict.reason}.")
            return False
        fitted.notes.append(f"{self.stage.name}: replayed from {cut.name}, verified equal bit by bit.")
        return True

    def _trial(self, fitted: NeuralFitted, source: ReplaySource, cut: Cut, groups: tuple[RateGroup, ...]) -> bool:
        """Take the stage's first update under replay; False if it is not finite, and then nothing is applied."""
        working = fitted.working
        state = start_state(working, groups, self.rate, self.training, undecayed(fitted.backbone))
        try:
            with cut.inject(working.live) as holder:
                set_training(working.live, cut)
                budget = self._budget(fitted, source, None, None)
                take_step(state, self.stage.name, source, self.objective(fitted, holder), working, budget, self.seed)
        except NotFiniteError:
            return False
        finally:
            state.release(working)
        return True

    def _budget(
        self,
        fitted: NeuralFitted,
        source: ReplaySource,
        valid: ReplaySource | None,
        holder: Holder | None,
        asked: Callable[[], bool] = bool,
    ) -> Budget:
        live, task, most = fitted.working.live, fitted.task, self.machinery.most_tokens

        def evaluate() -> torch.Tensor:
            assert valid is not None
            assert valid.examples.targets is not None
            trim_heap()
            return held_out_loss(task, fitted.state, answers(live, valid, holder, most), valid.examples.targets)[0]

        return Budget(
            steps=self.steps(source),
            every=self.every(source),
            evaluate=None if valid is None else evaluate,
            settings=self.training,
            asked=asked,
            solved=self.stage.solved,
        )


def calibrate(fitted: NeuralFitted, valid: ReplaySource, holder: Holder | None, expected: Expected = EXPECTED) -> None:
    """Fold the best temperature into the head and tune what else the task decides by, both on validation rows.

    Args:
        expected: What is expected of the temperature before any row is seen.
    """
    targets = valid.examples.targets
    assert targets is not None
    outputs = answers(fitted.working.live, valid, holder, fitted.machinery.most_tokens)
    _, temperature = held_out_loss(fitted.task, fitted.state, outputs, targets, expected)
    fitted.working.divide_head(temperature)
    tempered = (outputs / temperature).cpu().numpy()
    fitted.state = fitted.task.tune(tempered, targets, fitted.state)
    fitted.look(tempered, valid.examples)


def require_possible(stage: Stage, task: Task, training: Training) -> None:
    """Refuse a stage that cannot work with the task or the plan.

    Raises:
        ConfigError: naming what does not go together.
    """
    if training.sampling == "balanced" and not task.balanceable:
        raise ConfigError(
            f"Balanced sampling draws every class equally often, and a {task.kind} has none.",
            where="training.sampling",
            fix="leave it out",
        )
    if training.r_drop and task.divergence is None:
        raise ConfigError(
            f"R-Drop compares two answers, and how far those of a {task.kind} differ is not known.",
            where="training.r_drop",
            fix="leave it out",
        )
    if stage.objective is None:
        return
    for name, why in (("mixup", "mixes losses of the task"), ("r_drop", "compares answers of the head")):
        if getattr(training, name):
            raise ConfigError(
                f"The stage {stage.name!r} has a loss of features alone, and {name} {why}.",
                where=f"training.{name}",
                fix="leave it out, or use another method",
            )
    if training.sampling == "balanced":
        raise ConfigError(
            f"The stage {stage.name!r} makes its batches of pairs of one class, so they cannot be drawn evenly.",
            where="training.sampling",
            fix="leave it out, or use another method",
        )
    if training.average.validates:
        raise ConfigError(
            f"The stage {stage.name!r} has no validation loss to choose by, and "
            f"{name_of('average', training.average)!r} chooses by it.",
            where="training.average",
            fix="use a mean of updates, such as ema, or another method",
        )
    if not task.contrastable:
        raise ConfigError(
            f"The stage {stage.name!r} contrasts classes, and a {task.kind} has none.",
            where="method",
            fix="use the method 'full' or 'lora'",
        )
    if training.batch_size < FEWEST_CONTRASTED:
        raise ConfigError(
            f"The stage {stage.name!r} tells pairs of a batch apart, and {training.batch_size} examples are not two.",
            where="training.batch_size",
            fix=f"use {FEWEST_CONTRASTED} or more; 32 is usual",
        )
    if training.micro_batch_size not in (None, training.batch_size):
        raise ConfigError(
            f"The stage {stage.name!r} compares the examples of a batch, so a batch cannot be taken in parts.",
            where="training.micro_batch_size",
            fix="leave it out, or choose a smaller training.batch_size",
        )


def require_validation(training: Training, validated: bool) -> None:
    """Refuse an average that chooses by validation loss where no validation rows are held out.

    Raises:
        ConfigError: naming it.
    """
    if training.average.validates and not validated:
        raise ConfigError(
            f"{name_of('average', training.average)!r} chooses by validation loss, and no validation rows are held "
            "out.",
            where="training.average",
            fix="hold some out with --valid FILE or --set data.valid_fraction=0.15, or use a mean of updates (ema)",
        )


@contextmanager
def tried(working: Working, names: tuple[str, ...]) -> Iterator[None]:
    """What is done inside to the named parameters and to the buffers of the live model is taken back at the end."""
    kept = {name: p.detach().clone() for name, p in parameter_dict(working.masters, names).items()}
    buffers = {name: buffer.clone() for name, buffer in working.live.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameter_dict(working.masters, names).items():
                parameter.copy_(kept[name])
            for name, buffer in working.live.named_buffers():
                buffer.copy_(buffers[name])
        working.push(kept)


@contextmanager
def drawn_head(model: HeadedModel) -> Iterator[None]:
    """A head that is still zero gets random weights meanwhile: through zeros no difference could be seen."""
    head = model.head.weight
    if head.any():
        yield
        return
    head.data.copy_(torch.randn(head.shape, generator=torch.Generator().manual_seed(0)))
    try:
        yield
    finally:
        head.data.zero_()


def names_of(groups: tuple[RateGroup, ...]) -> tuple[str, ...]:
    """Every parameter of some groups."""
    return tuple(name for group in groups for name in group.names)


def replay_gain(moving: float, epochs: float, views: int = 1) -> float:
    """How many times faster replay can be at most: E(1 + 2m) / (V(1 - m) + 3mE), a backward being two forwards.

    Args:
        moving: The share m of a forward that lies above the cut: k / n for the top k of n equal blocks.
        views: How many views V of each example are run through what is frozen.
    """
    return gain_of_stages([(moving, epochs)], views)


def gain_of_stages(stages: Iterable[tuple[float, float]], views: int = 1) -> float:
    """The same bound for several stages after each other, each (moving share, epochs)."""
    every = list(stages)
    plain = sum(epochs * (1 + 2 * moving) for moving, epochs in every)
    return plain / sum(views_seen(views, epochs) * (1 - moving) + 3 * moving * epochs for moving, epochs in every)


def views_seen(views: int | None, epochs: float) -> int:
    """How many views so many epochs look at: one each."""
    return min(views or 1, math.ceil(epochs))


def moving_blocks(backbone: Backbone, cut: Cut | None) -> int:
    """How many blocks lie above a cut; without one, all."""
    below = () if cut is None else cut.below
    return sum(not within(block, below) for block in backbone.blocks)


def lowest_cut(backbone: Backbone, names: tuple[str, ...]) -> Cut | None:
    """The highest cut that has everything trainable above it, or None if even the stem trains."""
    fitting = [cut for cut in backbone.cuts if not any(within(name, cut.below) for name in names)]
    return fitting[-1] if fitting else None


def undecayed(backbone: Backbone) -> frozenset[str]:
    """Parameters without weight decay beside vectors: embedding tables, and what the task created."""
    return frozenset(f"{name}.weight" for name in backbone.tables) | set(backbone.created)


def trained_tables(backbone: Backbone, names: tuple[str, ...]) -> dict[str, str]:
    """The embedding tables among the trainable parameters."""
    return {name: column for name, column in backbone.tables.items() if f"{name}.weight" in names}


def cache_bytes(backbone: Backbone, cut: Cut, examples: Examples, precision: Precision) -> int:
    """What the activations of some examples take."""
    places = int(examples.lengths.sum()) if cut.ragged else len(examples)
    whole = isinstance(cut, FeatureCut) or precision != "bfloat16"  # features are float32 in any precision
    return places * cut.numbers(backbone.model) * (4 if whole else 2)


def say(fitted: NeuralFitted, stage: Stage, message: str) -> Iterator[Event]:
    """Tell the user now, and again in the report."""
    fitted.notes.append(f"{stage.name}: {message}")
    yield Said(stage=stage.name, message=message)


def resume(state: FitState, working: Working, folder: Path | None, stage: str) -> Iterator[Event]:
    """Continue from the newest whole checkpoint of the stage, if there is one; damaged ones are said and deleted.

    A damaged one that stayed would count as one of those that are kept.
    """
    if folder is None:
        return
    found, damaged = load_checkpoint(folder)
    for path in damaged:
        yield Said(stage=stage, message=f"The checkpoint {path.name} is damaged and was passed over.")
        shutil.rmtree(path, ignore_errors=True)
    if found is not None:
        state.restore(working, *found)
        yield Said(stage=stage, message=f"Resumed after step {state.step}.")
    elif damaged:
        yield Said(stage=stage, message="No checkpoint of this stage is whole, so it starts from its beginning.")


@dataclass(frozen=True)
class Due:
    """When the next checkpoint is due: after so many seconds, or so many steps (0 is never)."""

    seconds: float
    steps: float

    def now(self, passed: float, step: int, saved: int) -> bool:
        """Whether it is, ``passed`` seconds after the one of step ``saved``."""
        return passed >= self.seconds or (self.steps > 0 and step // self.steps > saved // self.steps)


def checkpointed(
    events: Iterator[Event], state: FitState, folder: Path | None, due: Due, stage: str, asked: Asked
) -> Iterator[Event]:
    """Pass events on and save the state when it is due, and when the process is told to end.

    A closed generator saves it too.
    """
    import time

    last = time.monotonic()
    saved = state.step

    def whole() -> bool:
        """Whether there is a new state to go on from: the end after a stop by the user is none, and is not kept."""
        return folder is not None and not any(decision["reason"] == "interrupt" for decision in state.decisions)

    def save() -> Checkpointed:
        nonlocal last, saved
        assert folder is not None
        path = save_checkpoint(folder, state.step, state.tensors(), state.counters())
        last, saved = time.monotonic(), state.step
        return Checkpointed(stage=stage, step=state.step, path=str(path))

    def leave_if_told() -> None:
        if asked.leaving is not None:
            if whole() and state.step > saved:
                save()
            raise asked.leaving

    asked.stepping = True
    try:
        for event in events:
            if isinstance(event, Stopped):  # whoever hears of a stop by the user may close this generator
                leave_if_told()
            yield event
            leave_if_told()
            is_due = asked() or due.now(time.monotonic() - last, state.step, saved)
            if whole() and state.step > saved and is_due:
                yield save()
        if whole() and (state.step > saved or state.decisions):  # a resumed run passes over what has ended
            save()
    except GeneratorExit:  # at an event, where the state is whole; Ctrl-C may come in the middle of an update
        if whole() and state.step > saved:
            save()
        raise
    finally:
        asked.stepping = False
