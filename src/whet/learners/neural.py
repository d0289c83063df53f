"""The neural learner: task x backbone x method x loop, as one thing that is fitted to rows and answers.

``fit`` is a generator of events and returns what was fitted. Everything measured or decided beforehand (precision,
batch sizes, replay) comes in; nothing is decided by a clock here.
"""

import copy
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whet.backbones.backbone import Backbone, Cut, Family, Holder
from whet.backbones.cut import FeatureCut
from whet.backbones.precisions import Precision
from whet.data.rows import Columns
from whet.learners.fitted import NeuralFitted, cut_cache, feature_cache, row_features
from whet.methods.method import Descend, Method, RateGroup, Solve, Stage, within
from whet.modalities.modality import Processor
from whet.tasks.task import Examples, State, Task
from whet.training.checkpoint import load_checkpoint, save_checkpoint
from whet.training.compact import compacted
from whet.training.draws import numpy_generator
from whet.training.events import Checkpointed, Event, Progressed, Said, Started
from whet.training.interrupt import listening
from whet.training.loop import Budget, FitState, fit, start_state, take_step
from whet.training.machinery import Machinery
from whet.training.objective import ReplaySource, TaskLoss, TaskObjective, answers, held_out_loss
from whet.training.precision import Working, parameter_dict
from whet.training.replay import activations, set_training, verify
from whet.training.settings import Training
from whet.training.solve import assign_folds, solve_head

Array = np.ndarray[Any, Any]
LEAST_GAIN = 1.02
"""A cache that could not make a stage so many times faster is not filled."""
MOST_SOLVED = 100_000
"""Rows that a solved head is fitted on at most, drawn from the seed; said when it applies."""


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Encoded rows to learn from.

    Args:
        units: (N,) rows of one unit (group, equal input) stay in one fold of a cross-validation.
        valid: Rows that stop a descent; None trains to the end.
    """

    train: Examples
    valid: Examples | None
    units: Array | None = None


@dataclass(frozen=True, eq=False)
class Neural:
    """What is fitted: a loaded backbone under a method.

    Args:
        backbone: Fresh from its folder; its model becomes the fitted one.
        cache: Folder of activation caches, or None to keep nothing.
        checkpoints: Folder of this fit's checkpoints, or None.
    """

    task: Task
    state: State
    columns: Columns
    backbone: Backbone
    processor: Processor
    method: Method
    training: Training
    machinery: Machinery
    seed: int
    cache: Path | None = None
    checkpoints: Path | None = None

    def fit(self, rows: TrainingRows) -> Generator[Event, None, NeuralFitted]:
        """Every stage of the method in order; resumes from the newest whole checkpoint where there is one."""
        torch.set_num_threads(self.machinery.threads)
        backbone = self.method.prepare(self.backbone)
        stages = self.method.stages(backbone)
        descends = any(isinstance(stage.fit, Descend) for stage in stages)
        precision = self.machinery.training_precision if descends else self.machinery.precision
        working = Working.of(backbone.model, precision, torch.device(self.machinery.device))
        fitted = NeuralFitted(
            working, backbone, self.task, self.state, self.columns, self.processor, self.machinery, self.cache
        )
        for number, stage in enumerate(stages):
            if isinstance(stage.fit, Solve):
                yield from self._solve(stage, stage.fit, fitted, rows)
            else:
                yield from self._descend(stage, fitted, rows, number)
            if fitted.interrupted:
                break
        working.live.eval()
        finished = self.method.finish(backbone)
        if finished is not backbone:
            fitted.backbone = finished
            fitted.working = Working.of(finished.model, precision, torch.device(self.machinery.device))
        return fitted

    def _solve(
        self, stage: Stage, how: Solve, fitted: NeuralFitted, rows: TrainingRows
    ) -> Generator[Event, None, None]:
        examples = rows.train
        targets, units = examples.targets, rows.units
        assert targets is not None
        shares = next(iter(self.task.weights(torch.from_numpy(targets), torch.ones(len(targets)), self.state).values()))
        if not bool((shares > 0).all()):  # classes that training never saw weigh nothing and have no column
            known = np.flatnonzero(shares.numpy() > 0)
            examples, targets = examples.select(known), targets[known]
            units = None if units is None else units[known]
        if examples.rows > MOST_SOLVED:
            chosen = np.sort(numpy_generator("sample", self.seed).permutation(examples.rows)[:MOST_SOLVED])
            examples, targets = examples.select(chosen), targets[chosen]
            units = None if units is None else units[chosen]
            message = f"The head is solved on {MOST_SOLVED:,} of {rows.train.rows:,} rows, drawn from the seed."
            fitted.notes.append(message)
            yield Said(stage=stage.name, message=message)
        yield Started(stage=stage.name, steps=0, examples=len(examples))
        cache = None if fitted.features_moved else feature_cache(fitted)
        most = self.machinery.most_tokens
        found = yield from activations(
            fitted.working.live, FeatureCut(), examples, self.processor, cache, stage=stage.name, most_tokens=most
        )
        features = torch.from_numpy(row_features(found["features"], examples))
        link, wanted = self.task.solvable(targets, self.state)
        weights = self.task.weights(torch.from_numpy(targets), torch.ones(len(targets)), self.state)
        folds = assign_folds(strata_of(targets), units, how.folds, self.seed)
        outputs = self.task.outputs(self.state)
        yield Progressed(stage=stage.name, done=0, total=1, unit="head")
        calibrate = how.calibrate and self.task.tempered
        solved = solve_head(
            features, wanted, link, outputs, how.penalties, folds, next(iter(weights.values())), calibrate=calibrate
        )
        yield Progressed(stage=stage.name, done=1, total=1, unit="head")
        model = fitted.working.masters
        with torch.no_grad():
            model.scaler.mean.copy_(solved.mean)
            model.scaler.scale.copy_(solved.scale)
            model.head.weight.copy_(solved.weight)
            model.head.bias.copy_(solved.bias)
        fitted.working.push_head()
        fitted.solved = how
        fitted.state = self.task.tune(solved.held_out.numpy(), targets, self.state)
        fitted.trainable = max(fitted.trainable, sum(p.numel() for p in model.head.parameters()))

    def _descend(
        self, stage: Stage, fitted: NeuralFitted, rows: TrainingRows, number: int
    ) -> Generator[Event, None, None]:
        working, backbone = fitted.working, fitted.backbone
        rate = self.training.learning_rate or self.method.learning_rate
        groups = list(stage.groups)
        if stage.head:
            groups.append(RateGroup(names=backbone.created, scale=self.training.head_learning_rate))
        names = tuple(name for group in groups for name in group.names)
        working.trainable(names)
        frozen = lowest_cut(backbone, names)
        cut = frozen if self.machinery.replay == "auto" else None
        source, valid, cut = yield from self._sources(stage, fitted, rows, cut)
        if cut is not None and not (yield from self._holds(stage, fitted, source, cut, tuple(groups), rate)):
            cut, source.cached = None, None
            if valid is not None:
                valid.cached = None
        folder = None if self.checkpoints is None else self.checkpoints / f"{number}-{stage.name.replace(' ', '-')}"
        every = dict(working.masters.named_parameters())
        fitted.trainable = sum(every[name].numel() for name in names)
        sets = [rows.train.inputs] if rows.valid is None else [rows.train.inputs, rows.valid.inputs]
        with ExitStack() as stack:
            stack.enter_context(compacted(working, trained_tables(backbone, names), sets))
            state = start_state(working, tuple(groups), rate, self.training, undecayed(backbone))
            yield from resume(state, working, folder, stage.name)
            steps = self._steps(source)
            yield Started(stage=stage.name, steps=steps, examples=len(rows.train), note=cut.name if cut else "")
            holder = stack.enter_context(cut.inject(working.live)) if cut else None
            objective = TaskObjective(self.task, fitted.state, working.live, holder)
            set_training(working.live, frozen)
            budget = self._budget(source, fitted, valid, holder, asked=stack.enter_context(listening()))
            events = fit(state, stage.name, source, objective, precision=working, budget=budget, seed=self.seed)
            yield from checkpointed(events, state, folder, self.machinery.checkpoint_seconds, stage.name)
            if valid is not None and (state.best_step > 0 or fitted.features_moved):
                self._calibrate(fitted, valid, holder)
        working.live.eval()
        fitted.steps += state.step
        fitted.interrupted |= any(decision["reason"] == "interrupt" for decision in state.decisions)
        fitted.notes += [f"{stage.name}: {d['decision']} after step {d['step']}." for d in state.decisions]
        if state.best_step == 0 and not fitted.features_moved:
            why = "No step lowered the validation loss" if state.step else "No step was taken"
            yield from say(fitted, stage, f"{why}: the head is solved on untouched features.")
            yield from self._solve(stage, Solve(), fitted, rows)
            return
        fitted.features_moved = True

    def _calibrate(self, fitted: NeuralFitted, valid: ReplaySource, holder: Holder | None) -> None:
        """Fold the best temperature into the head and tune what else the task decides by, both on validation rows."""
        targets = valid.examples.targets
        assert targets is not None
        outputs = answers(fitted.working.live, valid, holder, self.machinery.most_tokens)
        _, temperature = held_out_loss(self.task, fitted.state, outputs, targets)
        fitted.working.divide_head(temperature)
        fitted.state = self.task.tune((outputs / temperature).cpu().numpy(), targets, fitted.state)

    def _sources(
        self, stage: Stage, fitted: NeuralFitted, rows: TrainingRows, cut: Cut | None
    ) -> Generator[Event, None, tuple["ReplaySource", "ReplaySource | None", Cut | None]]:
        """Batches of training and validation rows, under replay if it is possible, affordable and verified."""
        size, micro = self.training.batch_size, self.training.micro_batch_size or self.training.batch_size
        train = ReplaySource(rows.train, self.processor, size, micro, self.seed)
        valid = None if rows.valid is None else ReplaySource(rows.valid, self.processor, size, micro, self.seed)
        if cut is None:
            return train, valid, None
        blocks = len(fitted.backbone.blocks)
        moving = sum(not within(block, cut.below) for block in fitted.backbone.blocks)
        if blocks and replay_gain(blocks, moving, self._epochs) < LEAST_GAIN:
            return train, valid, None
        need = cache_bytes(fitted.backbone, cut, rows, self.machinery.training_precision)
        if need > self.machinery.most_cache_bytes:
            yield from say(fitted, stage, f"Replay is off: its cache would take {need / 2**30:.1f} GiB.")
            return train, valid, None
        cache = cut_cache(fitted, cut, self.machinery.training_precision)
        most = self.machinery.most_tokens
        live = fitted.working.live
        sources = [train] if valid is None else [train, valid]
        try:
            for source in sources:
                source.cached = yield from activations(
                    live, cut, source.examples, self.processor, cache, stage=stage.name, most_tokens=most
                )
                source.ragged = cut.ragged
        except (TypeError, ValueError, AttributeError, RuntimeError, LookupError) as error:  # whatever a model raises
            reason = " ".join(str(error).split("\n", 1)[0].split())
            yield from say(
                fitted, stage, f"Replay is off for this model: what crosses the cut cannot be kept ({reason})."
            )
            train.cached = None
            return train, valid, None
        return train, valid, cut

    def _holds(
        self,
        stage: Stage,
        fitted: NeuralFitted,
        source: "ReplaySource",
        cut: Cut,
        groups: tuple[RateGroup, ...],
        rate: float,
    ) -> Generator[Event, None, bool]:
        """Verify replay before the stage and again after one trial update, which is taken back."""
        working, loss = fitted.working, TaskLoss(self.task, fitted.state)
        number = len(source.examples)
        index = np.sort(numpy_generator("verify", self.seed).permutation(number)[: min(8, number)])
        names = tuple(name for group in groups for name in group.names)
        verdict = verify(working.live, cut, source.batch(index), loss, seed=self.seed)
        if verdict.holds:
            kept = {name: p.detach().clone() for name, p in parameter_dict(working.masters, names).items()}
            buffers = {name: buffer.clone() for name, buffer in working.live.named_buffers()}
            trial = start_state(working, groups, rate, self.training, undecayed(fitted.backbone))
            with cut.inject(working.live) as holder:
                set_training(working.live, cut)
                objective = TaskObjective(self.task, fitted.state, working.live, holder)
                budget = self._budget(source, fitted, None, None)
                take_step(trial, stage.name, source, objective, working, budget, self.seed)
            verdict = verify(working.live, cut, source.batch(index), loss, seed=self.seed)
            trial.release(working)
            with torch.no_grad():
                for name, parameter in parameter_dict(working.masters, names).items():
                    parameter.copy_(kept[name])
                for name, buffer in working.live.named_buffers():
                    buffer.copy_(buffers[name])
            working.push(kept)
        if not verdict.holds:
            yield from say(fitted, stage, f"Replay is off for this model: {verdict.reason}.")
            return False
        fitted.notes.append(f"{stage.name}: replayed from {cut.name}, verified equal bit by bit.")
        return True

    @property
    def _epochs(self) -> float:
        return self.training.epochs or self.method.epochs

    def _steps(self, source: ReplaySource) -> int:
        return max(1, round(source.steps_per_epoch * self._epochs))

    def _budget(
        self,
        source: ReplaySource,
        fitted: NeuralFitted,
        valid: ReplaySource | None,
        holder: Holder | None,
        asked: Callable[[], bool] = bool,
    ) -> Budget:
        per_epoch = source.steps_per_epoch
        live, task = fitted.working.live, self.task
        most = self.machinery.most_tokens

        def evaluate() -> torch.Tensor:
            assert valid is not None
            assert valid.examples.targets is not None
            return held_out_loss(task, fitted.state, answers(live, valid, holder, most), valid.examples.targets)[0]

        return Budget(
            steps=self._steps(source),
            every=max(1, per_epoch // self.training.evaluations_per_epoch),
            evaluate=None if valid is None else evaluate,
            settings=self.training,
            asked=asked,
        )


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pre-trained model on disk and how to run it; every learner made from it starts from the same weights."""

    family: Family
    folder: Path
    processor: Processor
    machinery: Machinery
    seed: int
    cache: Path | None = None
    _loaded: dict[int, Backbone] = field(default_factory=dict, repr=False)

    def load(self, outputs: int) -> Backbone:
        """A fresh copy of the model with a head of ``outputs``; the folder is read once."""
        if outputs not in self._loaded:
            self._loaded[outputs] = self.family.load(self.folder, outputs=outputs, seed=self.seed)
        pristine = self._loaded[outputs]
        return replace(pristine, model=copy.deepcopy(pristine.model))

    def learner(
        self,
        task: Task,
        state: State,
        columns: Columns,
        method: Method,
        training: Training | None = None,
        checkpoints: Path | None = None,
    ) -> Neural:
        """A fresh copy of the model under a method."""
        return Neural(
            task=task,
            state=state,
            columns=columns,
            backbone=self.load(task.outputs(state)),
            processor=self.processor,
            method=method,
            training=training or Training(),
            machinery=self.machinery,
            seed=self.seed,
            cache=self.cache,
            checkpoints=checkpoints,
        )


def replay_gain(blocks: int, moving: int, epochs: float) -> float:
    """How many times faster replay can be at most: E(n + 2k) / ((n - k) + 3kE), a backward being two forwards."""
    return epochs * (blocks + 2 * moving) / ((blocks - moving) + 3 * moving * epochs)


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


def cache_bytes(backbone: Backbone, cut: Cut, rows: TrainingRows, precision: Precision) -> int:
    """What the activations of all training and validation rows take."""
    width = backbone.model.head.in_features
    if not cut.ragged:
        tokens = len(rows.train) + (len(rows.valid) if rows.valid else 0)
        return tokens * width * 4
    tokens = int(rows.train.lengths.sum()) + (int(rows.valid.lengths.sum()) if rows.valid else 0)
    return tokens * width * (2 if precision == "bfloat16" else 4)


def strata_of(targets: Array) -> Array:
    """(N,) what folds are balanced by: the class, the rarest label, or nothing."""
    if targets.dtype == np.int64:
        return targets
    if targets.ndim == 2:
        frequency = targets.sum(0)
        return np.where(targets.any(1), np.where(targets > 0, frequency, np.inf).argmin(1), -1)
    return np.zeros(len(targets), np.int64)


def say(fitted: NeuralFitted, stage: Stage, message: str) -> Iterator[Event]:
    """Tell the user now, and again in the report."""
    fitted.notes.append(f"{stage.name}: {message}")
    yield Said(stage=stage.name, message=message)


def resume(state: FitState, working: Working, folder: Path | None, stage: str) -> Iterator[Event]:
    """Continue from the newest whole checkpoint of the stage, if there is one."""
    found = load_checkpoint(folder) if folder is not None and folder.exists() else None
    if found is None:
        return
    tensors, counters, damaged = found
    for name in damaged:
        yield Said(stage=stage, message=f"The checkpoint {name} is damaged and was passed over.")
    state.restore(working, tensors, counters)
    yield Said(stage=stage, message=f"Resumed after step {state.step}.")


def checkpointed(
    events: Iterator[Event], state: FitState, folder: Path | None, seconds: float, stage: str
) -> Iterator[Event]:
    """Pass events on and save the state when enough time has passed; a closed generator saves it too."""
    import time

    last = time.monotonic()
    saved = state.step
    try:
        for event in events:
            yield event
            if folder is not None and state.step > saved and time.monotonic() - last >= seconds:
                path = save_checkpoint(folder, state.step, state.tensors(), state.counters())
                last, saved = time.monotonic(), state.step
                yield Checkpointed(stage=stage, step=state.step, path=str(path))
        if folder is not None and (state.step > saved or state.decisions):  # a resumed run passes over what has ended
            save_checkpoint(folder, state.step, state.tensors(), state.counters())
    except GeneratorExit:  # at an event, where the state is whole; Ctrl-C may come in the middle of an update
        if folder is not None and state.step > saved:
            save_checkpoint(folder, state.step, state.tensors(), state.counters())
        raise
