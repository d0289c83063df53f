"""The neural learner: task x backbone x method x loop, as one thing that is fitted to rows and answers.

``fit`` is a generator of events and returns what was fitted. Everything measured or decided beforehand (precision,
batch sizes, replay) comes in; nothing is decided by a clock here.
"""

import copy
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whet.backbones.backbone import Backbone, Family, HeadedModel
from whet.backbones.cut import FeatureCut
from whet.backbones.dropout import drops, with_dropout
from whet.backbones.precisions import Precision
from whet.data.rows import Columns
from whet.errors import ConfigError, DataError, ModelError
from whet.learners.descent import Descent, calibrate, require_possible, say
from whet.learners.fitted import NeuralFitted, feature_cache, row_features
from whet.methods.freeze import without_frozen
from whet.methods.method import Descend, InPlace, Method, Solve, Stage
from whet.modalities.modality import Processor
from whet.tasks.collapse import advice
from whet.tasks.task import Examples, Growth, State, Task
from whet.training.batches import make_batch, strata_of
from whet.training.draws import numpy_generator
from whet.training.events import Event, Progressed, Said, Started
from whet.training.machinery import Machinery
from whet.training.objective import ReplaySource
from whet.training.precision import Working
from whet.training.replay import activations, pick, to_device
from whet.training.settings import Training
from whet.training.solve import Head, Solved, assign_folds, solve_head
from whet.training.temperature import Expected

Array = np.ndarray[Any, Any]
CHECKED = 8
"""Examples whose answers are compared before and after a method finishes."""
MERGED = 1e-3
"""Largest difference of such answers, by the largest of them."""
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
        start: How the head of an earlier run was carried into the backbone's; None for a new head.
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
    start: Growth | None = None

    def fit(self, rows: TrainingRows) -> Generator[Event, None, NeuralFitted]:
        """Every stage of the method in order; resumes from the newest whole checkpoint where there is one."""
        torch.set_num_threads(self.machinery.threads)
        backbone, stages = self.stages()
        descends = any(stage.descends for stage in stages)
        precision = self.machinery.training_precision if descends else self.machinery.precision
        fitted = self.unfitted(backbone, precision)
        if not self.method.starts_equal:
            fitted.notes.append("The method changes the model before its first step, as it declares.")
        rows = yield from self._counted(fitted, rows, stages[0])
        for number, stage in enumerate(stages):
            if isinstance(stage.fit, Solve):
                if not (fitted.interrupted and fitted.solved and not fitted.features_moved):
                    yield from self.solve(stage, stage.fit, fitted, rows)
            elif not fitted.interrupted:  # a head is still solved on what the steps before a stop made of the features
                yield from self._descend(stage, fitted, rows, number)
        if isinstance(stages[-1].fit, Solve) and fitted.features_moved:
            self._calibrate(fitted, rows.valid, stages[-1].temperature)
        if fitted.collapsed:
            yield from say(fitted, stages[-1], advice(fitted.collapsed, self.task.kind, fitted.steps > 0))
        fitted.working.live.eval()
        if not isinstance(self.method, InPlace):
            some = pick(rows.train, np.arange(min(CHECKED, len(rows.train))))
            before = masters_answers(backbone, some, self.processor)
            finished = self.method.finish(backbone)
            require_equal(before, masters_answers(finished, some, self.processor))
            fitted.backbone = finished
        if not isinstance(self.method, InPlace) or precision != self.machinery.precision:
            fitted.working = self._working(fitted.backbone, self.machinery.precision)
        return fitted

    def unfitted(self, backbone: Backbone, precision: Precision) -> NeuralFitted:
        """A backbone, as the method prepared it or not, before anything is fitted."""
        working = self._working(backbone, precision)
        fitted = NeuralFitted(
            working, backbone, self.task, self.state, self.columns, self.processor, self.machinery, self.cache
        )
        fitted.starts_equal = self.method.starts_equal
        if self.method.starts_equal and self.start is not None:
            head = backbone.model.head
            fitted.prior = (head.weight.detach().cpu().clone(), head.bias.detach().cpu().clone())
        return fitted

    def _working(self, backbone: Backbone, precision: Precision) -> Working:
        return Working.of(backbone.model, precision, torch.device(self.machinery.device))

    def _calibrate(self, fitted: NeuralFitted, valid: Examples | None, usual: float) -> None:
        """Say how sure a head may be whose features were moved by the rows that it was solved on.

        Without rows that were held out, trials say it: the temperature is the usual one.
        """
        if valid is not None:
            size = self.training.batch_size
            calibrate(fitted, ReplaySource(valid, self.processor, size, size, self.seed), None, Expected.around(usual))
        elif self.task.tempered:
            fitted.working.divide_head(usual)

    def _counted(self, fitted: NeuralFitted, rows: TrainingRows, stage: Stage) -> Generator[Event, None, TrainingRows]:
        """The rows, without validation rows of which none counts.

        Raises:
            DataError: no training row counts, so every loss would be zero by zero.
        """
        if not self._counts(rows.train):
            raise DataError(
                "No training row counts: every target is masked or weighs nothing.",
                where=f"{rows.train.rows:,} training rows",
                fix="look at the targets, and at the weights that the task gives them",
            )
        if rows.valid is None or self._counts(rows.valid):
            return rows
        message = "No validation row has a target that counts, so nothing stops the steps early."
        yield from say(fitted, stage, message)
        return replace(rows, valid=None)

    def _counts(self, examples: Examples) -> bool:
        """Whether any target has a weight."""
        assert examples.targets is not None
        weights = self.task.weights(torch.from_numpy(examples.targets), torch.ones(examples.rows), self.state)
        return any(bool((one != 0).any()) for one in weights.values())

    def _weighing(self, rows: TrainingRows) -> TrainingRows:
        """Without training rows that weigh nothing: a class that training never saw has no column, and is no class."""
        targets = rows.train.targets
        assert targets is not None
        shares = next(iter(self.task.weights(torch.from_numpy(targets), torch.ones(len(targets)), self.state).values()))
        if bool((shares > 0).all()):
            return rows
        known = np.flatnonzero(shares.numpy() > 0)
        return replace(rows, train=rows.train.select(known), units=None if rows.units is None else rows.units[known])

    def stages(self) -> tuple[Backbone, list[Stage]]:
        """The prepared model and what is fitted in order, without what the plan freezes.

        Raises:
            ConfigError: the method cannot work with this model, task or plan.
        """
        backbone, stages = stages_of(self.method, self.backbone, self.training)
        for stage in stages:
            require_possible(stage, self.task, self.training)
        descends = any(stage.descends for stage in stages)
        if descends and self.training.r_drop and not drops(backbone.model):
            raise ConfigError(
                "R-Drop compares two forwards that drop differently, and this model drops nothing.",
                where="training.r_drop",
                fix="add --set training.dropout=0.1, or leave it out",
            )
        return backbone, stages

    def solve(self, stage: Stage, how: Solve, fitted: NeuralFitted, rows: TrainingRows) -> Generator[Event, None, None]:
        """A stage that solves the head on the features as they are."""
        given, rows = rows.train.rows, self._weighing(rows)
        examples, targets, units = rows.train, rows.train.targets, rows.units
        assert targets is not None
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
        yield Progressed(stage=stage.name, done=0, total=1, unit="head")
        prior = None if fitted.features_moved else fitted.prior
        solved = solved_on(features, targets, units, how, self.task, self.state, self.seed, prior=prior)
        yield Progressed(stage=stage.name, done=1, total=1, unit="head")
        model = fitted.working.masters
        with torch.no_grad():
            model.scaler.mean.copy_(solved.mean)
            model.scaler.scale.copy_(solved.scale)
            model.head.weight.copy_(solved.weight)
            model.head.bias.copy_(solved.bias)
        fitted.working.push_head()
        fitted.solved, fitted.solved_rows = how, given
        told = fitted.features_moved and self.task.tempered  # by these rows the head may be as sure as it likes
        held_out = solved.held_out.numpy() / (stage.temperature if told else 1.0)
        fitted.state = self.task.tune(held_out, targets, self.state)
        fitted.look(held_out, examples)
        fitted.trainable = max(fitted.trainable, sum(p.numel() for p in model.head.parameters()))

    def _descend(
        self, stage: Stage, fitted: NeuralFitted, rows: TrainingRows, number: int
    ) -> Generator[Event, None, None]:
        still = not fitted.features_moved
        if stage.objective is not None:
            rows = self._weighing(rows)
        moved = yield from self.descent(stage, number).run(fitted, rows.train, rows.valid)
        if not moved and still:
            why = "No step lowered the validation loss" if fitted.steps else "No step was taken"
            features = "untouched features" if fitted.untouched else "features as the method first made them"
            yield from say(fitted, stage, f"{why}: the head is solved on {features}.")
            yield from self.solve(stage, Solve(), fitted, rows)
            return
        fitted.features_moved |= moved
        if moved and rows.valid is None:
            fitted.state = self.state  # what was tuned on the head before the steps says nothing about the one after

    def descent(self, stage: Stage, number: int) -> Descent:
        """A stage of gradient steps with the plan's settings."""
        assert isinstance(stage.fit, Descend)
        folder = None if self.checkpoints is None else self.checkpoints / f"{number}-{stage.name.replace(' ', '-')}"
        return Descent(
            stage=stage,
            epochs=stage.fit.share * (self.training.epochs or self.method.epochs),
            rate=self.training.rate(self.method.learning_rate),
            training=self.training,
            machinery=self.machinery,
            seed=self.seed,
            checkpoints=folder,
        )


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A pre-trained model on disk and how to run it; every learner made from it starts from the same weights.

    Args:
        start: The folder holds the model of an earlier run, whose head grows like this; None starts with a new head.
    """

    family: Family
    folder: Path
    processor: Processor
    machinery: Machinery
    seed: int
    cache: Path | None = None
    start: Growth | None = None
    _loaded: dict[tuple[int, float | None], Backbone] = field(default_factory=dict, repr=False)

    def load(self, outputs: int, dropout: float | None = None) -> Backbone:
        """A fresh copy of the model with a head of ``outputs``; the folder is read once for each dropout."""
        key = (outputs, dropout)
        if key not in self._loaded:
            family: Family = with_dropout(self.family, dropout)
            self._loaded[key] = family.load(self.folder, outputs=outputs, seed=self.seed)
            if self.start is not None:
                carry_head(self.family.reload(self.folder), self._loaded[key].model, self.start)
        pristine = self._loaded[key]
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
        training = training or Training()
        return Neural(
            task=task,
            state=state,
            columns=columns,
            backbone=self.load(task.outputs(state), training.dropout),
            processor=self.processor,
            method=method,
            training=training,
            machinery=self.machinery,
            seed=self.seed,
            cache=self.cache,
            checkpoints=checkpoints,
            start=self.start,
        )


def stages_of(method: Method, backbone: Backbone, training: Training) -> tuple[Backbone, list[Stage]]:
    """The prepared model and what a method fits in order, without what the plan freezes.

    Raises:
        ConfigError: the method cannot work with this model or plan.
    """
    prepared = method.prepare(backbone)
    return prepared, without_frozen(method.stages(prepared), prepared, training.freeze)


def solved_on(
    features: torch.Tensor,
    targets: Array,
    units: Array | None,
    how: Solve,
    task: Task,
    state: State,
    seed: int,
    prior: Head | None = None,
) -> Solved:
    """A head for the task, solved on features (N, D) of rows with targets (N, ...); rows of one unit share a fold."""
    link, wanted = task.solvable(targets, state)
    weights = task.weights(torch.from_numpy(targets), torch.ones(len(targets)), state)
    folds = assign_folds(strata_of(targets), units, how.folds, seed)
    calibrate = how.calibrate and task.tempered
    row_weights = next(iter(weights.values()))
    return solve_head(
        features, wanted, link, task.outputs(state), how.penalties, folds, row_weights, calibrate=calibrate, prior=prior
    )


@torch.no_grad()
def carry_head(earlier: HeadedModel, model: HeadedModel, growth: Growth) -> None:
    """The head of ``earlier`` in that of ``model``, so that it answers what ``growth`` makes of the earlier answers."""
    matrix, shift = torch.from_numpy(growth.matrix), torch.from_numpy(growth.shift)
    model.head.weight.copy_(matrix @ earlier.head.weight.double())
    model.head.bias.copy_(matrix @ earlier.head.bias.double() + shift)


@torch.no_grad()
def masters_answers(backbone: Backbone, examples: Examples, processor: Processor) -> Array:
    """(N, K) float32 outputs of the masters for a few examples."""
    model = backbone.model.eval()
    batch = make_batch(replace(examples, targets=None), processor, np.arange(len(examples)))
    found: Array = model(**to_device(batch.inputs, next(model.parameters()).device)).float().cpu().numpy()
    return found


def require_equal(before: Array, after: Array) -> None:
    """Merging must keep every answer.

    Raises:
        ModelError: it does not, but for rounding.
    """
    far = float(np.abs(after - before).max()) / max(1.0, float(np.abs(before).max()))
    if not far <= MERGED:
        raise ModelError(
            f"Merging what the method inserted changes answers by {far:.1e} of the largest.",
            where="method",
            fix="choose another method or another kind of adapter; a merge that is not equal is refused",
        )
