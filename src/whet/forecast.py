"""How long will it take, and how much memory and disk? Measured on this machine, this model and these rows, before
anything is fitted.

What ``dry_run`` measured on a sample, and the sizes of the rest; the rest is arithmetic.
"""

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any

from whet.data.split import Split
from whet.dry_run import MethodCost, StageCost, frozen, time_forward
from whet.errors import MachineError
from whet.learners.descent import LEAST_GAIN, MOST_EVALUATIONS, gain_of_stages, lowest_cut, moving_blocks, names_of
from whet.learners.fitted import cached_share
from whet.learners.neural import Neural
from whet.methods.method import Descend, Method, learning_rows
from whet.methods.probe import Probe
from whet.plan import Auto, Forecast
from whet.sample import Sample
from whet.tasks.encode import SPILL_BYTES
from whet.training.average import NoAverage
from whet.training.checkpoint import KEPT
from whet.training.memory import SHARE, give_back, held_bytes
from whet.training.settings import Training
from whet.trial import Trial, limit_bytes

START_SHARE = 0.2
"""What the head that steps start from takes of a solve with its penalty chosen."""
SOLVE_RATE = 60e9
"""Floating-point operations a second of the solver, low on purpose."""
NUMBER_BYTES = 4
"""Of a weight, and of whatever else is kept in float32."""
BESIDE_BYTES = 8
"""Of a trained number in memory beside what is in its checkpoint: its gradient and the working weights."""
AFTER_SECONDS, PACKED_RATE = 0.7, 3e7
"""Judging without baselines, and the report; numbers a second that are packaged: written, hashed, loaded, compared."""
LATE_BYTES = 70 * 2**20
"""What judging and reporting import and draw, and what a run keeps here and there."""
SHAPE_BYTES = 6 * 2**20
"""What the libraries keep for each new shape of a batch, prepared kernels and holes in the heap among it."""
SOLVED_COPIES, SOLVED_OUTPUTS = 3, 15
"""Of the features while a head is solved, and of its outputs for every row: one a fold and penalty that is compared."""


@dataclass(frozen=True)
class Speeds:
    """What was measured, and the sizes it applies to.

    Args:
        tokens: Of training rows; valid_tokens and test_tokens: of the others.
        rows: Training rows; valid: validation rows.
        pieces: Of training and validation rows.
        trial: What steps are tried on.
        training: The settings under which they are.
        parameters: Of the model.
        forward: Tokens a second of the frozen forward.
        held: Bytes that this process held once the model was loaded.
        known: Share of the rows to learn from whose features an earlier run left in the cache.
        spent: Seconds that the run has taken: imports, reading, checks and planning.
    """

    tokens: float
    valid_tokens: float
    test_tokens: float
    pieces: float
    rows: int
    valid: int
    outputs: int
    width: int
    sample: Sample
    trial: Trial
    training: Training
    parameters: int
    forward: float
    held: int
    known: float = 0.0
    spent: float = 0.0
    _costs: dict[Any, MethodCost | None] = field(default_factory=dict, repr=False)
    _forwards: dict[Method, float] = field(default_factory=dict, repr=False)

    @staticmethod
    def measure(trial: Trial, sample: Sample, split: Split, training: Training) -> "Speeds":
        """Time a frozen forward; methods are tried when they are asked for."""
        examples, rows = sample.examples, len(split.train)
        per_row = float(examples.lengths.sum()) / examples.rows
        learner = trial.learner(Probe(), training)
        fitted = frozen(learner)
        forward, known = time_forward(fitted, examples), cached_share(fitted, examples)
        model = learner.backbone.model
        width, parameters = model.head.in_features, sum(parameter.numel() for parameter in model.parameters())
        del learner, model, fitted
        give_back()
        valid = 0 if split.valid is None else len(split.valid)
        return Speeds(
            tokens=per_row * rows,
            valid_tokens=per_row * valid,
            test_tokens=per_row * sum(len(test.rows) for test in split.tests.values()),
            pieces=len(examples) / examples.rows * (rows + valid),
            rows=rows,
            valid=valid,
            outputs=trial.task.outputs(trial.state),
            width=width,
            sample=sample,
            trial=trial,
            training=training,
            parameters=parameters,
            forward=forward,
            held=held_bytes(),
            known=known,
        )

    @property
    def features_seconds(self) -> float:
        """Features of every row to learn from."""
        return (self.tokens + self.valid_tokens) / self.forward

    @property
    def fresh_seconds(self) -> float:
        """Features of rows to learn from that no earlier run left in the cache."""
        return (1 - self.known) * self.features_seconds

    @property
    def solve_seconds(self) -> float:
        """Five folds, about four penalties and 25 iterations each, two products an iteration."""
        rows = min(self.rows, 100_000)
        return 5 * 4 * 25 * 4.0 * rows * self.width * self.outputs / SOLVE_RATE + 0.3

    @property
    def probe_seconds(self) -> float:
        """A probe where nothing is cached."""
        return self.features_seconds + self.solve_seconds

    @property
    def predict_seconds(self) -> float:
        return self.test_tokens / self.forward

    @property
    def after_seconds(self) -> float:
        """What follows the fit and the answers: judging without baselines, packaging, the report."""
        return AFTER_SECONDS + self.parameters / PACKED_RATE

    @property
    def cached(self) -> bool:
        """Whether features of the frozen model are computed once for all that ask for them."""
        return self.trial.pretrained.cache is not None

    @property
    def limit(self) -> int:
        """What a run may take of memory, in bytes."""
        return int(SHARE * limit_bytes(self.trial.pretrained.machinery))

    def with_spent(self, began: float) -> "Speeds":
        """The same, with what a run has taken that began then (``time.monotonic``)."""
        return replace(self, spent=time.monotonic() - began)

    def under(self, training: Training, **machinery: Any) -> "Speeds":
        """The same with other batches, or other machinery, under which nothing is known to be cached."""
        pretrained = self.trial.pretrained
        other = replace(pretrained.machinery, **machinery)
        known = self.known if other == pretrained.machinery else 0.0
        pretrained = replace(pretrained, machinery=other)
        return replace(self, training=training, trial=replace(self.trial, pretrained=pretrained), known=known)

    def tried(self, method: Method) -> MethodCost | None:
        """What a method takes, None where a step could not be taken; tried once."""
        key = (method, self.training, self.trial.pretrained.machinery)
        if key not in self._costs:
            self._costs[key] = self.trial.cost(method, self.training)
        return self._costs[key]

    def cost(self, method: Method) -> MethodCost:
        """What a method takes.

        Raises:
            MachineError: it does not fit memory.
        """
        found = self.tried(method)
        if found is None or memory_of(self, method) > self.limit:
            fix = "choose smaller batches or a smaller --model"
            raise MachineError("Its steps do not fit memory.", where="memory", fix=fix)
        return found

    def stages(self, method: Method) -> tuple[StageCost, ...]:
        """What each of its descents takes."""
        return self.cost(method).descents

    def epoch_seconds(self, method: Method) -> float:
        """One pass of gradient steps with its evaluations; under replay only what moves costs."""
        usual, tokens = self.training.evaluations_per_epoch if method.stops else 0, self.passed_tokens(method)
        return sum(
            stage.share * (tokens * self.token_seconds(stage) + usual * self._evaluation(stage))
            for stage in self.stages(method)
        )

    def learning_rows(self, method: Method) -> int:
        """Rows that gradient steps pass over."""
        return learning_rows(method, self.rows, self.valid)

    def learning_pieces(self, method: Method) -> int:
        """Examples of these: each window of a long text is one."""
        return round(self.pieces * self.learning_rows(method) / max(1, self.rows + self.valid))

    def passed_tokens(self, method: Method) -> float:
        """Tokens of these."""
        return self.tokens * self.learning_rows(method) / max(1, self.rows)

    def steps_seconds(self, method: Method, epochs: float) -> float:
        """So many passes of gradient steps, with the evaluations that they really have."""
        found = 0.0
        for stage in self.stages(method):
            passes = stage.share * epochs
            evaluations = 0.0
            if method.stops:
                evaluations = min(MOST_EVALUATIONS, passes * self.training.evaluations_per_epoch)
                evaluations += 2 + self.training.average.evaluations  # start, calibration, what an average asks for
            found += passes * self.passed_tokens(method) * self.token_seconds(stage) + evaluations * self._evaluation(
                stage
            )
        return found

    def _evaluation(self, stage: StageCost) -> float:
        return self.valid_tokens / self.forward * (stage.above if self.replays(stage) else 1.0)

    def replays(self, stage: StageCost) -> bool:
        """Whether the run will replay what is frozen: it was when it was tried, and all of it fits the cache."""
        most = self.trial.pretrained.machinery.most_cache_bytes
        return stage.replayed and replayed_bytes(self, stage) <= most

    def token_seconds(self, stage: StageCost) -> float:
        """Of a step, by tokens: as it was timed, with what is frozen where the run will not replay that."""
        added = (1 - stage.above) / self.forward if stage.replayed and not self.replays(stage) else 0.0
        return stage.token_seconds + added

    def trained(self, stage: StageCost) -> int:
        """Numbers that a stage moves, an embedding table with the rows that occur: a descent trains no others."""
        idle = sum(max(0, rows - self.distinct(column, rows)) * width for column, rows, width in stage.tables)
        return stage.trained - idle

    def distinct(self, column: str, most: int) -> int:
        """About how many different values an input has: their number grows with the root of its size (Heaps 1978)."""
        sample = self.sample
        found, values = sample.distinct(column), int(sample.examples.lengths.sum() + sample.longest.lengths.sum())
        return min(most, int(found * max(1.0, self.tokens / values) ** 0.5))

    def rung_seconds(self, method: Method, epochs: float) -> float:
        """A rung with its head, the frozen blocks that it replays, and its passes.

        Features are not in it: they are computed once for all rungs, unless nothing is cached.
        """
        if not method.epochs:
            return self.solve_seconds
        cost = self.cost(method)
        frozen = sum(1 - stage.above for stage in cost.descents if self.replays(stage))
        features = cost.moved + (0.0 if self.cached else cost.searches + cost.starts - cost.moved)
        solves = (cost.searches + START_SHARE * cost.starts) * self.solve_seconds
        passes = sum(stage.prepare_seconds for stage in cost.descents)
        passes += self.steps_seconds(method, epochs) if epochs else 0.0
        viewed = frozen * (self.viewed_tokens + self.valid_tokens) / self.forward
        return solves + features * self.features_seconds + viewed + passes

    @property
    def viewed_tokens(self) -> float:
        """Tokens of training rows in all views that are replayed."""
        return self.tokens * (self.training.views or 1)

    def certain_seconds(self, method: Method, epochs: float) -> float:
        """What so many passes of gradient steps certainly take, from no step: three frozen forwards of what moves.

        Raises:
            ConfigError: the method cannot work with this model, task or plan.
        """
        if method not in self._forwards:  # asked more than once, and every learner is a copy of the model
            self._forwards[method] = forwards_of(self.trial.learner(method, self.training))
        return epochs * self._forwards[method] * self.tokens / self.forward

    def judge_seconds(self, method: Any) -> float:
        """The baselines of the judge; one that is the method itself is not fitted again."""
        found = sum(one.seconds for one in self.sample.baselines)
        for twin in self.sample.twins:
            if twin != method:
                found += self.solve_seconds  # about what loading a second model takes, where nothing is solved
                found += 0.0 if self.cached else self.features_seconds + self.predict_seconds
        return found


def forwards_of(learner: Neural) -> float:
    """A pass of a method's gradient steps in forwards of the whole model, at the least: three of what moves."""
    backbone, stages = learner.stages()
    blocks, found = max(1, len(backbone.blocks)), 0.0
    for stage in stages:
        if isinstance(stage.fit, Descend):
            names = (*names_of(stage.groups), *backbone.created)
            moving = moving_blocks(backbone, lowest_cut(backbone, names)) or blocks
            found += 3 * stage.fit.share * moving / blocks
    return found


def forecast_of(speeds: Speeds, method: Any, training: Training, fitting: str = "", compiling: str = "") -> Forecast:
    """Seconds, memory and disk of the whole run."""
    parts = {"predict": speeds.predict_seconds, "baselines": speeds.judge_seconds(method)}
    parts |= {"before": speeds.spent, "after": speeds.after_seconds, "features": speeds.fresh_seconds}
    bound, sooner = 0.0, 0.0
    if isinstance(method, Auto):
        fits = max(1, method.folds or 0)
        for number, rung in enumerate(method.rungs):
            start = fits * speeds.rung_seconds(rung.method, 0)
            passes = fits * speeds.steps_seconds(rung.method, rung.epochs) if rung.epochs else 0.0
            parts |= {f"start of rung {number + 1}": start, f"steps of rung {number + 1}": passes}
            sooner += start + passes if number > 1 else 0.0
    else:
        epochs = training.epochs or method.epochs
        parts["start"] = speeds.rung_seconds(method, 0)
        parts["steps"] = speeds.steps_seconds(method, epochs) if method.epochs else 0.0
        bound = replay_bound(speeds, method, training)
    chosen = [rung.method for rung in method.rungs] if isinstance(method, Auto) else [method]
    each = [checkpoint_bytes(speeds, one, passes) for one, passes in descents(method, training)]
    kept = sum(each)
    if isinstance(method, Auto) and method.folds:  # those of every part stay, beside those of the last fit
        kept = method.folds * kept + max(each, default=0)
    in_run = int(speeds.parameters * NUMBER_BYTES + kept)
    in_cache = cache_bytes(speeds, chosen) if speeds.cached else 0
    seconds = sum(parts.values())
    return Forecast(
        seconds=round(seconds, 1),
        least_seconds=round(seconds - sooner, 1) if sooner else 0.0,
        memory_bytes=max(memory_of(speeds, one, after=number > 0) for number, one in enumerate(chosen)),
        disk_bytes=in_run + in_cache,
        run_disk_bytes=in_run,
        parts={name: round(value, 1) for name, value in parts.items() if value},
        replay_gain=round(bound, 3),
        fitting=fitting,
        compiling=compiling,
    )


def memory_of(speeds: Speeds, method: Method, *, after: bool = False) -> int:
    """The most that the process holds while a method is fitted and judged, or how it was held to find that out.

    Args:
        after: Whether the model of an earlier rung is kept meanwhile.
    """
    cost = speeds.tried(method)
    assert cost is not None
    machinery = speeds.trial.pretrained.machinery
    weights = speeds.parameters * (4 + 2 * ("bfloat16" in (machinery.precision, machinery.training_precision)))
    features = int(speeds.pieces * speeds.width * 4)
    every = (speeds.tokens, speeds.valid_tokens, speeds.test_tokens)
    encoded = sum(min(int(speeds.sample.token_bytes * part), SPILL_BYTES) for part in every)
    solving = features * SOLVED_COPIES + int(speeds.rows * speeds.outputs * 4 * SOLVED_OUTPUTS)
    steps = cost.memory_bytes if cost.descents else 0
    steps += max((extra_bytes(speeds, stage) for stage in cost.descents), default=0)
    passing = max(0, cost.forward_bytes - weights)
    twin = weights + max(solving, 2 * passing) if any(one != method for one in speeds.sample.twins) else 0
    judging = weights + features + max([twin, *(one.memory_bytes for one in speeds.sample.baselines)])
    most = max(steps, weights + solving, features + cost.forward_bytes, judging)
    return speeds.held + LATE_BYTES + encoded + most + shape_bytes(speeds) + (weights if after else 0)


def shape_bytes(speeds: Speeds) -> int:
    """What shapes of batches leave behind: one a length, and no more than there are updates."""
    lengths = speeds.sample.examples.lengths
    return SHAPE_BYTES * min(len(set(lengths.tolist())), math.ceil(speeds.pieces / speeds.training.batch_size))


def extra_bytes(speeds: Speeds, stage: StageCost) -> int:
    """What a stage holds of all rows beside what it held of the sample: rows of its tables, what is replayed."""
    dry = stage.trained - sum(max(0, r - speeds.sample.distinct(c)) * width for c, r, width in stage.tables)
    average = speeds.training.average
    held = NUMBER_BYTES * state_numbers(stage, average) + BESIDE_BYTES
    tables = int(max(0, speeds.trained(stage) - dry) * held)
    later = NUMBER_BYTES * average.copies * speeds.trained(stage) if average.gathered else 0
    return tables + later + (replayed_bytes(speeds, stage) if speeds.replays(stage) else 0)


def cache_bytes(speeds: Speeds, methods: list[Method]) -> int:
    """What methods leave in the cache: features, and the activations of every cut that is replayed."""
    stages = [stage for method in methods for stage in speeds.stages(method) if speeds.replays(stage)]
    cuts = {stage.above: replayed_bytes(speeds, stage) for stage in stages}
    return int(speeds.pieces * speeds.width * NUMBER_BYTES) + sum(cuts.values())


def replayed_bytes(speeds: Speeds, stage: StageCost) -> int:
    """What a stage replays of all rows that it learns from or is stopped by."""
    return int(stage.held_bytes * (speeds.viewed_tokens + speeds.valid_tokens))


def descents(method: Any, training: Training) -> list[tuple[Method, float]]:
    """The methods of a plan that take steps, with their epochs."""
    if isinstance(method, Auto):
        return [(rung.method, rung.epochs) for rung in method.rungs if rung.epochs]
    return [(method, training.epochs or method.epochs)] if method.epochs else []


def checkpoint_bytes(speeds: Speeds, method: Method, epochs: float) -> int:
    """What the checkpoints of a method take at most: the last one, and those of a long fit with one being written."""
    machinery, average = speeds.trial.pretrained.machinery, speeds.training.average
    between = machinery.checkpoint_seconds
    written = 1 + epochs * speeds.epoch_seconds(method) / between if between else math.inf
    written += epochs / machinery.checkpoint_epochs if machinery.checkpoint_epochs else 0
    numbers = sum(speeds.trained(stage) * state_numbers(stage, average) for stage in speeds.stages(method))
    return int(NUMBER_BYTES * numbers) * int(min(written, KEPT + 1))


def state_numbers(stage: StageCost, average: NoAverage) -> float:
    """Numbers of a checkpoint by number that moves: master, what the optimizer remembers, the same two again in the
    snapshot, the best so far and that of the snapshot, and what an average carries."""
    return 2 * (1 + stage.remembered + 1) + average.copies


def replay_bound(speeds: Speeds, method: Method, training: Training) -> float:
    """The most that replay can gain; 0 where it will not be used."""
    epochs, stages = training.epochs or method.epochs, speeds.stages(method)
    if not any(map(speeds.replays, stages)):
        return 0.0
    gain = gain_of_stages(((one.above, one.share * epochs) for one in stages), training.views or 1)
    return gain if gain >= LEAST_GAIN else 0.0
