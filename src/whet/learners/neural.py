"""The neural learner: task x backbone x method x loop, as one thing that is fitted to rows and answers.

``fit`` is a generator of events and returns what was fitted. Everything measured or decided beforehand (precision,
batch sizes, replay) comes in; nothing is decided by a clock here.
"""

import copy
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import xxhash
from torch import Tensor

from whet.backbones.backbone import Backbone, Cut, Family, HeadedModel, Holder
from whet.backbones.cut import FeatureCut
from whet.data.ragged import Ragged
from whet.data.rows import Columns, Rows
from whet.errors import ConfigError
from whet.methods.method import Descend, Method, RateGroup, Solve, Stage, within
from whet.modalities.modality import Processor
from whet.tasks.predictions import Predictions
from whet.tasks.task import Batch, Examples, State, Task, Term
from whet.training.batches import Source, by_length, make_batch
from whet.training.cache import ActivationCache
from whet.training.checkpoint import load_checkpoint, save_checkpoint
from whet.training.compact import compacted
from whet.training.draws import numpy_generator
from whet.training.events import Checkpointed, Event, Progressed, Said, Started
from whet.training.interrupt import listening
from whet.training.loop import Budget, FitState, fit, start_state, take_step
from whet.training.precision import Precision, Working, parameter_dict
from whet.training.replay import activations, feed, held_tensors, to_device, verify
from whet.training.settings import Training
from whet.training.solve import assign_folds, solve_head

Array = np.ndarray[Any, Any]
MOST_SOLVED = 100_000
"""Rows that a solved head is fitted on at most, drawn from the seed; said when it applies."""


@dataclass(frozen=True, kw_only=True)
class Machinery:
    """How the arithmetic is done: measured at plan time, never remade.

    Args:
        precision: Of forward passes without gradients; training_precision: of steps.
        most_tokens: Padded positions a batch of inference.
        replay: "auto" where it pays and is verified, or "off".
        most_cache_bytes: A cut whose activations would be larger is not cached.
        checkpoint_seconds: Time between checkpoints of a stage; 0 writes one after every step.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    training_precision: Precision = "float32"
    threads: int = 1
    most_tokens: int = 4096
    replay: Literal["auto", "off"] = "auto"
    most_cache_bytes: int = 4 * 2**30
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        least = {"threads": 1, "most_tokens": 1, "most_cache_bytes": 0, "checkpoint_seconds": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if value < low:
                raise ConfigError(
                    f"{name} cannot be {value}.", where=f"machinery.{name}", fix=f"use {low} or more, or leave it out"
                )


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


@dataclass(eq=False)
class NeuralFitted:
    """A fine-tuned model with all it needs to answer."""

    working: Working
    backbone: Backbone
    task: Task
    state: State
    columns: Columns
    processor: Processor
    machinery: Machinery
    cache: Path | None
    notes: list[str] = field(default_factory=list)
    steps: int = 0
    trainable: int = 0
    features_moved: bool = False
    interrupted: bool = False

    @property
    def model(self) -> HeadedModel:
        """The float32 model, in evaluation mode."""
        return self.working.masters.eval()

    def predict(self, rows: Rows) -> Predictions:
        """Answers for rows, without targets."""
        examples = self.task.encode(rows, self.columns, self.processor, self.state, targeted=False)
        found: Predictions = drain(self.answer(examples))
        return found

    def answer(self, examples: Examples) -> Generator[Event, None, Predictions]:
        """Answers for encoded rows; features that never moved come from the cache."""
        outputs = yield from self.outputs(examples)
        return self.task.decode(outputs, examples.row_ids, self.state)

    def outputs(self, examples: Examples) -> Generator[Event, None, Array]:
        """(N, K) outputs, pieces of a row averaged."""
        live = self.working.live
        cache = None if self.features_moved else feature_cache(self)
        most = self.machinery.most_tokens
        cut = FeatureCut()
        found = yield from activations(live, cut, examples, self.processor, cache, stage="predict", most_tokens=most)
        features = row_features(found["features"], examples)
        with torch.inference_mode():
            head: Tensor = live.head(live.scaler(torch.from_numpy(features).to(live.head.weight.device)))
        return head.float().cpu().numpy()


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
        solved = solve_head(features, wanted, link, outputs, how.penalties, folds, next(iter(weights.values())))
        yield Progressed(stage=stage.name, done=1, total=1, unit="head")
        model = fitted.working.masters
        with torch.no_grad():
            model.scaler.mean.copy_(solved.mean)
            model.scaler.scale.copy_(solved.scale)
            model.head.weight.copy_(solved.weight)
            model.head.bias.copy_(solved.bias)
        fitted.working.push_head()
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
        cut = lowest_cut(backbone, names) if self.machinery.replay == "auto" else None
        source, valid, cut = yield from self._sources(stage, fitted, rows, cut)
        budget = self._budget(source, fitted, valid, cut)
        if cut is not None and not (yield from self._holds(stage, fitted, source, cut, tuple(groups), rate, budget)):
            cut, source.cached = None, None
            if valid is not None:
                valid.cached = None
            budget = self._budget(source, fitted, valid, None)
        folder = None if self.checkpoints is None else self.checkpoints / f"{number}-{stage.name.replace(' ', '-')}"
        every = dict(working.masters.named_parameters())
        fitted.trainable = sum(every[name].numel() for name in names)
        sets = [rows.train.inputs] if rows.valid is None else [rows.train.inputs, rows.valid.inputs]
        with ExitStack() as stack:
            stack.enter_context(compacted(working, trained_tables(backbone, names), sets))
            state = start_state(working, tuple(groups), rate, self.training, table_weights(backbone))
            yield from resume(state, working, folder, stage.name)
            yield Started(stage=stage.name, steps=budget.steps, examples=len(rows.train), note=cut.name if cut else "")
            holder = stack.enter_context(cut.inject(working.live)) if cut else None
            objective = TaskObjective(self.task, fitted.state, working.live, holder)
            set_training_mode(working.live)
            budget = replace(budget, asked=stack.enter_context(listening()))
            events = fit(state, stage.name, source, objective, precision=working, budget=budget, seed=self.seed)
            yield from checkpointed(events, state, working, folder, self.machinery.checkpoint_seconds, stage.name)
        working.live.eval()
        fitted.features_moved = True
        fitted.steps += state.step
        fitted.interrupted = any(decision["reason"] == "interrupt" for decision in state.decisions)
        fitted.notes += [f"{stage.name}: {d['decision']} after step {d['step']}." for d in state.decisions]
        if valid is not None and valid.examples.targets is not None and "thresholds" in fitted.state:
            outputs = yield from fitted.outputs(valid.examples)
            fitted.state = self.task.tune(outputs, valid.examples.targets, fitted.state)

    def _sources(
        self, stage: Stage, fitted: NeuralFitted, rows: TrainingRows, cut: Cut | None
    ) -> Generator[Event, None, tuple["ReplaySource", "ReplaySource | None", Cut | None]]:
        """Batches of training and validation rows, under replay if it is possible, affordable and verified."""
        size, micro = self.training.batch_size, self.training.micro_batch_size or self.training.batch_size
        train = ReplaySource(rows.train, self.processor, size, micro, self.seed)
        valid = None if rows.valid is None else ReplaySource(rows.valid, self.processor, size, micro, self.seed)
        if cut is None:
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
        budget: Budget,
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
            trial = start_state(working, groups, rate, self.training, table_weights(fitted.backbone))
            with cut.inject(working.live) as holder:
                set_training_mode(working.live)
                objective = TaskObjective(self.task, fitted.state, working.live, holder)
                take_step(trial, stage.name, source, objective, working, budget, self.seed)
            verdict = verify(working.live, cut, source.batch(index), loss, seed=self.seed)
            with torch.no_grad():
                for name, parameter in parameter_dict(working.masters, names).items():
                    parameter.copy_(kept[name])
                for name, buffer in working.live.named_buffers():
                    buffer.copy_(buffers[name])
            working.push(names)
        if not verdict.holds:
            yield from say(fitted, stage, f"Replay is off for this model: {verdict.reason}.")
            return False
        fitted.notes.append(f"{stage.name}: replayed from {cut.name}, verified equal bit by bit.")
        return True

    def _budget(
        self, source: "ReplaySource", fitted: NeuralFitted, valid: "ReplaySource | None", cut: Cut | None
    ) -> Budget:
        per_epoch = source.steps_per_epoch
        epochs = self.training.epochs or self.method.epochs
        live, task = fitted.working.live, self.task
        most = self.machinery.most_tokens

        def evaluate() -> float:
            assert valid is not None
            return mean_loss(live, valid, TaskLoss(task, fitted.state), cut, most)

        return Budget(
            steps=per_epoch * epochs,
            every=max(1, per_epoch // self.training.evaluations_per_epoch),
            evaluate=None if valid is None else evaluate,
            settings=self.training,
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


@dataclass(eq=False)
class ReplaySource(Source):
    """Batches that bring their cached activations along, where there are any."""

    cached: Mapping[str, Ragged] | None = None
    ragged: bool = True

    def batch(self, index: Array) -> Batch:
        batch = make_batch(self.examples, self.processor, index)
        if self.cached is None:
            return batch
        return replace(batch, held=held_tensors(self.cached, index, self.ragged))


@dataclass(frozen=True, eq=False)
class TaskLoss:
    """The task's loss of outputs that are already there."""

    task: Task
    state: State

    def __call__(self, outputs: Tensor, batch: Batch) -> list[Term]:
        device = outputs.device
        return self.task.loss(outputs, batch.targets.to(device), batch.weights.to(device), self.state)


@dataclass(frozen=True, eq=False)
class TaskObjective:
    """Forward on the live model, under replay if a holder is given, and the task's loss."""

    task: Task
    state: State
    live: HeadedModel
    holder: Holder | None

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        return self.task.weights(batch.targets, batch.weights, self.state)

    def __call__(self, batch: Batch) -> list[Term]:
        device = next(self.live.parameters()).device
        feed(self.holder, batch, device)
        outputs = self.live(**to_device(batch.inputs, device))
        return TaskLoss(self.task, self.state)(outputs, batch)


def mean_loss(live: HeadedModel, valid: ReplaySource, loss: TaskLoss, cut: Cut | None, most_tokens: int) -> float:
    """Validation loss, weighted as in training; the model is in evaluation mode meanwhile."""
    modes = [(module, module.training) for module in live.modules()]
    live.eval()
    device = next(live.parameters()).device
    holder = live_holder(live)
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    coefficients: dict[str, float] = {}
    with torch.no_grad():
        for index in by_length(valid.examples.lengths, most_tokens):
            batch = valid.batch(index)
            feed(holder if cut else None, batch, device)
            for term in loss(live(**to_device(batch.inputs, device)), batch):
                sums[term.name] = sums.get(term.name, 0.0) + float(term.sums.double().sum())
                weights[term.name] = weights.get(term.name, 0.0) + float(term.weights.double().sum())
                coefficients[term.name] = term.coefficient
    for module, mode in modes:
        module.training = mode
    return sum(coefficients[name] * sums[name] / max(weights[name], 1e-12) for name in sums)


def live_holder(live: HeadedModel) -> Holder | None:
    """The holder of the stand-ins that are in the model now, or None."""
    found = (getattr(module, "holder", None) for module in live.modules() if type(module).__name__ == "StandIn")
    return next((holder for holder in found if isinstance(holder, Holder)), None)


def set_training_mode(live: HeadedModel) -> None:
    """Training mode; what is frozen below a cut has stand-ins already. BatchNorm keeps its statistics."""
    live.train()
    for module in live.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()


def lowest_cut(backbone: Backbone, names: tuple[str, ...]) -> Cut | None:
    """The highest cut that has everything trainable above it, or None if even the stem trains."""
    fitting = [cut for cut in backbone.cuts if not any(within(name, cut.below) for name in names)]
    return fitting[-1] if fitting else None


def table_weights(backbone: Backbone) -> frozenset[str]:
    """Parameter names of the embedding tables."""
    return frozenset(f"{name}.weight" for name in backbone.tables)


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


def row_features(found: Ragged, examples: Examples) -> Array:
    """(N, D) float32: the features of a row's pieces, averaged."""
    pieces = np.ascontiguousarray(found.compact().values).reshape(len(examples), -1)
    if examples.rows == len(examples):
        return pieces if pieces.flags.writeable else pieces.copy()
    features = np.zeros((examples.rows, pieces.shape[1]), np.float32)
    np.add.at(features, examples.row, pieces * examples.piece_weights[:, None])
    return features


def feature_cache(fitted: NeuralFitted) -> ActivationCache | None:
    """The cache of pooled features under the weights as they are now."""
    live = fitted.working.live
    precision = "bfloat16" if next(live.body.parameters()).dtype == torch.bfloat16 else fitted.machinery.precision
    return cut_cache(fitted, FeatureCut(), precision)


def cut_cache(fitted: NeuralFitted, cut: Cut, precision: str) -> ActivationCache | None:
    """The cache of one cut, keyed by everything that could change a value."""
    if fitted.cache is None:
        return None
    import transformers

    config = getattr(getattr(fitted.working.live.body, "encoder", None), "config", None)
    key = ActivationCache.key(
        {
            "weights": weights_hash(fitted.working.masters, cut),
            "cut": cut.name,
            "processor": fitted.processor.fingerprint(),
            "precision": precision,
            "threads": fitted.machinery.threads,
            "tokens": fitted.machinery.most_tokens,
            "attention": getattr(config, "_attn_implementation", ""),
            "versions": [torch.__version__, transformers.__version__],
        }
    )
    return ActivationCache(fitted.cache / key)


def weights_hash(model: HeadedModel, cut: Cut) -> str:
    """A hash of every tensor below a cut."""
    digest = xxhash.xxh3_128()
    for prefix in cut.below:
        for name, tensor in model.get_submodule(prefix).state_dict().items():
            digest.update(f"{prefix}.{name}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


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
    events: Iterator[Event], state: FitState, working: Working, folder: Path | None, seconds: float, stage: str
) -> Iterator[Event]:
    """Pass events on and save the state when enough time has passed; a closed generator saves it too."""
    import time

    last = time.monotonic()
    saved = state.step
    try:
        for event in events:
            yield event
            if folder is not None and state.step > saved and time.monotonic() - last >= seconds:
                path = save_checkpoint(folder, state.step, state.tensors(working), state.counters())
                last, saved = time.monotonic(), state.step
                yield Checkpointed(stage=stage, step=state.step, path=str(path))
        if folder is not None and (state.step > saved or state.decisions):  # a resumed run passes over what has ended
            save_checkpoint(folder, state.step, state.tensors(working), state.counters())
    except GeneratorExit:  # at an event, where the state is whole; Ctrl-C may come in the middle of an update
        if folder is not None and state.step > saved:
            save_checkpoint(folder, state.step, state.tensors(working), state.counters())
        raise


def drain(events: Generator[Event, None, Any]) -> Any:
    """The result of a generator of events nobody listens to."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value
