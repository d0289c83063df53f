"""The loop: one stage of gradient steps as a generator of events.

It knows neither task nor method nor model family. Whenever an event is out, ``FitState`` is consistent: closing the
generator there is a legal stop, and saving the state there is a checkpoint. Steps are exact sums: the update
minimises the sum over terms of coefficient x (all sums / all weights) over every micro-batch, times the share that its
examples have: pieces of a long text count as the row they are of.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from whet.backbones.backbone import HeadedModel
from whet.methods.method import RateGroup
from whet.tasks.task import Batch, Term
from whet.training.average import PLAIN, Carried, Ended, NoAverage, Over, Weights, copied
from whet.training.compact import CompactEmbedding
from whet.training.draws import seed_torch
from whet.training.events import Evaluated, Event, Said, Stepped, Stopped
from whet.training.flat import FlatGroup
from whet.training.optimizer import Share, Stepper
from whet.training.precision import Working
from whet.training.settings import Training
from whet.training.trouble import SNAPSHOT, NotFiniteError, still_not_finite, with_gradients

LOWEST, SNAPSHOTS, MOMENTS, BEST, SHARED = "lowest", "snapshot", "moment", "best", "shared"
RETURNED = ("step", "evaluated", "best_loss", "best_step", "worse", "uncounted", "solved")
"""The counters that a run returns to with its snapshot; what went wrong since then it remembers."""
SURE = 2.0
"""Standard errors by which a validation loss must exceed the lowest one for its weights to be passed over."""
NEAR, FEWEST = 0.1, 30
"""They are passed over, too, if it is a tenth higher, or with fewer validation rows than these: a standard error from a
few rows, or of a rise that a few rows carry, says nothing."""
ENOUGH = 20
"""Updates in a row without anything to learn that end a stage, if they are an epoch at least."""


class BatchSource(Protocol):
    """Gives one update's micro-batches; pure in its arguments."""

    @property
    def steps_per_epoch(self) -> int: ...

    def window(self, stage: str, epoch: int, step: int) -> list[Batch]: ...

    def with_inputs(self) -> "BatchSource":
        """The same with every input that the model would read without replay."""
        ...

    def share(self, stage: str, epoch: int, window: list[Batch]) -> float:
        """How much an update counts beside the others of its epoch: 1, unless its examples weigh less or more."""
        ...

    def row_ids(self, batch: Batch) -> list[int]:
        """The ids of a batch's rows, for messages."""
        ...


class Objective(Protocol):
    """What a stage minimises."""

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """(B,) denominators by term, from targets alone."""
        ...

    def __call__(self, batch: Batch) -> list[Term]:
        """Forward and loss terms."""
        ...

    def on(self, model: HeadedModel) -> "Objective":
        """The same, of another model; without replay, unless it is the very model that replays."""
        ...


@dataclass(eq=False)
class FitState:
    """Everything that decides the rest of a stage.

    Args:
        groups: Trainable masters, laid side by side until ``release``.
        optimizer: Steps the groups, in their order, and keeps what it remembers between updates: the moments.
        step: Updates done; evaluated: the step at which validation loss was last measured, -1 if never.
        best: Copies of the trainable masters to be restored, see ``evaluate``; ``best_step`` is their step.
        lowest: (N,) what each validation row adds to the lowest loss, which is ``best_loss``.
        decisions: What was decided outside the plan. A resumed run obeys a stop by the clock; one by the user enters no
            checkpoint, for whoever resumes wants the rest.
        snapshot: Everything as it was at ``snapshot_step``, to return to; ``snapshot_counters`` are its numbers.
        failed: Steps that were not finite; ``slower`` is the factor on the rate since then.
        carried: What the average of the weights carries on.
        started: Whether the stage ended with the weights that it began with; said what its average did.
        uncounted: Steps whose window had no weight at all; they changed nothing.
        solved: Steps in a row, the last one among them, whose training loss left nothing to learn.
        seconds: Spent on the stage until the event that is out, also by runs that this one goes on from.
    """

    groups: tuple[FlatGroup, ...]
    optimizer: Stepper
    step: int = 0
    evaluated: int = -1
    best_loss: float = math.inf
    best_step: int = -1
    worse: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    lowest: Tensor | None = None
    decisions: list[dict[str, Any]] = field(default_factory=list)
    snapshot: dict[str, Tensor] = field(default_factory=dict)
    snapshot_step: int = -1
    snapshot_counters: dict[str, Any] = field(default_factory=dict)
    failed: list[int] = field(default_factory=list)
    slower: float = 1.0
    carried: Carried = field(default_factory=Carried)
    started: bool = False
    said: str = ""
    uncounted: int = 0
    solved: int = 0
    seconds: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """Trainable parameters."""
        return tuple(name for group in self.groups for name in group.names)

    def masters(self) -> dict[str, Tensor]:
        """Trainable parameters by name, as views."""
        return self.by_name(self.wholes())

    def wholes(self) -> Weights:
        """Trainable masters, one tensor a group."""
        return [group.whole.detach() for group in self.groups]

    def gradients(self) -> dict[str, Tensor]:
        """The update's gradients by name, as views."""
        return self.by_name([group.whole.grad for group in self.groups if group.whole.grad is not None])

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name, for a checkpoint; what is still what it was at the snapshot is there once."""
        found, shared = self.moving() | self.chosen(), set(self.shared())
        return found | {f"{SNAPSHOTS}/{n}": t for n, t in self.snapshot.items() if n not in shared}

    def moving(self) -> dict[str, Tensor]:
        """Masters, moments and their average by name."""
        found = {f"master/{n}": p for n, p in self.masters().items()} | self.carried.moving()
        return found | {f"{MOMENTS}/{key}": one for key, one in self.optimizer.tensors().items()}

    def chosen(self) -> dict[str, Tensor]:
        """Best weights, their loss, and the moments to be averaged: replaced by others, but never written to."""
        found = {f"{BEST}/{n}": t for n, t in self.best.items()} | self.carried.chosen()
        return found if self.lowest is None else found | {LOWEST: self.lowest}

    def shared(self) -> list[str]:
        """What the snapshot has in common with the state."""
        chosen = self.chosen()
        return [name for name, tensor in self.snapshot.items() if chosen.get(name) is tensor]

    def counters(self) -> dict[str, Any]:
        """The JSON-able rest."""
        return self.returned() | {
            "decisions": self.decisions,
            "snapshot_step": self.snapshot_step,
            "snapshot_counters": self.snapshot_counters,
            SHARED: self.shared(),
            "failed": self.failed,
            "slower": self.slower,
            "seconds": self.seconds,
        }

    def returned(self) -> dict[str, Any]:
        """The counters that belong to a snapshot."""
        return {name: getattr(self, name) for name in RETURNED}

    def take_snapshot(self) -> None:
        """Keep everything as it is now; what is never written to, without a copy of its own."""
        self.snapshot = {}  # two of them would be the most that a stage holds
        self.snapshot = {name: tensor.detach().clone() for name, tensor in self.moving().items()} | self.chosen()
        self.snapshot_step, self.snapshot_counters = self.step, self.returned()

    @torch.no_grad()
    def return_to_snapshot(self, working: Working) -> None:
        """Become what was kept, and halve the rate from there."""
        self.put_back(working, self.snapshot)
        self.choose(self.snapshot)
        self.count(self.snapshot_counters)
        self.slower /= 2

    @torch.no_grad()
    def restore(self, working: Working, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Become what a checkpoint holds."""
        self.put_back(working, tensors)
        self.choose(tensors)
        chosen, prefix = self.chosen(), f"{SNAPSHOTS}/"
        self.snapshot = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
        self.snapshot |= {name: chosen[name] for name in counters[SHARED]}
        self.count({name: value for name, value in counters.items() if name != SHARED})

    def choose(self, tensors: dict[str, Tensor]) -> None:
        """Best weights, their loss, and the moments to be averaged as ``chosen`` gave them."""
        device, prefix = self.groups[0].whole.device, f"{BEST}/"
        self.best = {key.removeprefix(prefix): t.to(device) for key, t in tensors.items() if key.startswith(prefix)}
        self.lowest = tensors.get(LOWEST)
        self.carried.choose(tensors, device)

    def count(self, counters: dict[str, Any]) -> None:
        """Counters as ``counters`` or ``returned`` gave them."""
        for name, value in counters.items():
            setattr(self, name, value)

    @torch.no_grad()
    def put_back(self, working: Working, tensors: dict[str, Tensor]) -> None:
        """Masters and moments as ``moving`` gave them; no moments where no update was made yet."""
        masters = self.masters()
        for name, master in masters.items():
            master.copy_(tensors[f"master/{name}"])
        self.carried.put_back(tensors, self.groups[0].whole.device)
        pairs = [(key.partition("/"), one) for key, one in tensors.items()]
        self.optimizer.load({key: one for (part, _, key), one in pairs if part == MOMENTS})
        working.push(masters)

    def release(self, working: Working) -> None:
        """Give every master storage of its own again; the state is of no use afterwards."""
        for group in self.groups:
            group.release(working.masters)

    def by_name(self, wholes: Weights) -> dict[str, Tensor]:
        """Views of tensors that lie like the groups."""
        pairs = zip(self.groups, wholes, strict=True)
        return {n: part for group, whole in pairs for n, part in zip(group.names, group.split(whole), strict=True)}


@dataclass(frozen=True, eq=False)
class Budget:
    """How many updates, when to look, and when to end early.

    Args:
        steps: Updates at most.
        every: Updates between evaluations; the last step is always evaluated.
        evaluate: (N,) what each validation row adds to the live model's loss, or None without validation rows.
        settings: Rates, patience, clock.
        asked: Whether the user asked to stop; read between two updates.
        solved: Training loss under which there is nothing left to learn; an epoch of such updates, and ``ENOUGH``, end
            the stage. Minus infinity where no loss says so.
    """

    steps: int
    every: int
    evaluate: Callable[[], Tensor] | None
    settings: Training
    asked: Callable[[], bool] = bool
    solved: float = -math.inf


def start_state(
    working: Working,
    groups: tuple[RateGroup, ...],
    learning_rate: float,
    settings: Training,
    undecayed: frozenset[str] = frozenset(),
    average: NoAverage = PLAIN,
) -> FitState:
    """A stage's state before its first step, with the optimizer that the settings name.

    Args:
        undecayed: Parameters without weight decay beside vectors: embedding tables, the new head.
        average: Begins here.
    """
    every = dict(working.masters.named_parameters())
    unit, apart = settings.optimizer.usual_rate, settings.optimizer.hidden_apart
    tables = embedding_tables(working.masters) if apart else frozenset()

    def kind_of(name: str) -> str:
        if every[name].dim() < 2 or name in undecayed:
            return "still"
        return "hidden" if apart and every[name].dim() == 2 and name not in tables else "decays"

    shares: list[Share] = []
    for group in groups:
        for kind in ("hidden", "decays", "still"):
            names = [name for name in group.names if kind_of(name) == kind]
            if names:
                decay = 0.0 if kind == "still" or group.pull else settings.weight_decay / unit
                flat = FlatGroup.of(working.masters, names, group.pull)
                shares.append(Share(flat, group.scale, learning_rate, decay, kind == "hidden"))
    return FitState(
        groups=tuple(share.flat for share in shares),
        optimizer=settings.optimizer.stepper(shares),
        carried=average.begin([share.flat.whole.detach() for share in shares]),
    )


def embedding_tables(model: nn.Module) -> frozenset[str]:
    """The weights of embedding tables, whole or with the rows that occur."""
    kinds = (nn.Embedding, CompactEmbedding)
    return frozenset(f"{name}.weight" for name, module in model.named_modules() if isinstance(module, kinds))


def fit(
    state: FitState,
    stage: str,
    source: BatchSource,
    objective: Objective,
    *,
    precision: Working,
    budget: Budget,
    seed: int,
    average: NoAverage = PLAIN,
) -> Iterator[Event]:
    """Take steps until the budget, the stop rule or the clock ends the stage; then the model gets what is kept.

    That is the best of what was measured, or what the average makes of it. The state stays as it was after the last
    update, so that a stage resumed at its end comes to the same end.
    """
    began, before_us = time.monotonic(), state.seconds
    reason = "done"

    def spent() -> float:
        return before_us + time.monotonic() - began

    while True:
        if evaluation_due(state, budget):
            with answering(state, precision), holding(state, precision, state.carried.mean):
                found = evaluate(state, stage, budget)
            with answering(state, precision):
                average.measured(state.carried, state.wholes(), state.step, found.loss)
            state.seconds = spent()
            yield found
        if state.step >= budget.steps:
            break
        if (patience_gone(state, budget) or nothing_left(state, source)) and not average.whole:
            reason = "early"
            break
        if (ended := ended_from_outside(state, stage, spent(), budget)) is not None:
            reason = ended
            break
        before = state.step
        if before % SNAPSHOT == 0 and state.snapshot_step != before:
            state.take_snapshot()
        try:
            event: Event = take_step(state, stage, source, objective, precision, budget, seed)
        except NotFiniteError:
            event = after_trouble(state, stage, source, objective, precision, budget, seed)
        if state.step > before:
            average.stepped(state.carried, state.wholes(), state.step, budget.steps)
        state.seconds = spent()
        yield event
    state.optimizer.finish()
    kept = end_average(state, precision, budget, average)
    state.release(precision)
    keep(state, precision, kept)
    if kept.said:
        yield Said(stage=stage, message=kept.said)
    yield Stopped(stage=stage, step=state.step, reason=reason, seconds=spent(), before=before_us)


def take_step(
    state: FitState,
    stage: str,
    source: BatchSource,
    objective: Objective,
    working: Working,
    budget: Budget,
    seed: int,
) -> Stepped:
    """One update.

    Raises:
        NotFiniteError: its loss or gradient is not finite; nothing was applied.
    """
    began = time.monotonic()
    epoch, within = divmod(state.step, source.steps_per_epoch)
    window = source.window(stage, epoch, within)
    totals: dict[str, Tensor] = {}
    for batch in window:
        for name, weights in objective.weights(batch).items():
            totals[name] = totals.get(name, torch.zeros((), dtype=torch.float64)) + weights.double().sum()
    gradients, share = state.gradients(), source.share(stage, epoch, window)
    loss, counts = 0.0, any(totals.values())  # a window without any weight adds nothing to the exact sums
    for number, batch in enumerate(window if counts else ()):
        seed_torch("dropout", seed, stage, state.step, number, 0)
        value = sum_of(objective(batch), totals)
        (value if share == 1.0 else share * value).backward()  # type: ignore[no-untyped-call]
        loss += float(value.detach())
        working.pull_gradients(gradients, add=number > 0)
    if counts:
        rate = budget.settings.rate_factor(state.step, budget.steps)
        update(state, working, rate, budget.settings.clip, loss)
    state.uncounted += not counts
    state.solved = state.solved + 1 if counts and loss < budget.solved else 0
    state.step += 1
    return Stepped(
        stage=stage,
        step=state.step,
        steps=budget.steps,
        epoch=epoch,
        loss=loss,
        learning_rate=max(float(group["lr"]) for group in state.optimizer.param_groups),
        examples=sum(len(batch.index) for batch in window),
        seconds=time.monotonic() - began,
    )


def sum_of(terms: list[Term], totals: dict[str, Tensor]) -> Tensor:
    """A micro-batch's share of the update's loss; a term without any weight in the window has none."""
    parts = [
        term.coefficient * term.sums.sum() / totals[term.name].to(term.sums) for term in terms if totals[term.name]
    ]
    return torch.stack(parts).sum()


def update(state: FitState, working: Working, rate: float, clip: float, loss: float) -> None:
    """Clip the whole gradient, step the masters, cast them into the live model.

    Raises:
        NotFiniteError: the loss or the gradient is not finite.
    """
    gradients = [group.whole.grad for group in state.groups if group.whole.grad is not None]
    norm = norm_of(gradients)
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise NotFiniteError
    if clip > 0:
        clip_gradients(gradients, norm, clip)
    state.optimizer.step(rate * state.slower)
    working.push(state.masters())


def after_trouble(
    state: FitState,
    stage: str,
    source: BatchSource,
    objective: Objective,
    working: Working,
    budget: Budget,
    seed: int,
) -> Event:
    """An update was not finite: return to the snapshot the first time, then take it in float32.

    Raises:
        RunError: it is not finite in float32 either.
    """
    if state.step not in state.failed:
        failed = state.step
        state.failed.append(failed)
        state.return_to_snapshot(working)
        message = f"Update {failed + 1} was not finite: back to update {state.step}, at half the rate from there."
        return Said(stage=stage, message=message)
    exact = Working(working.masters, working.masters)
    with with_gradients(working.masters, state.gradients()):
        same, source = objective.on(working.masters), source.with_inputs()
        try:
            event = take_step(state, stage, source, same, exact, budget, seed)
        except NotFiniteError:
            epoch, within = divmod(state.step, source.steps_per_epoch)
            window = source.window(stage, epoch, within)
            raise still_not_finite(working.masters, window, same, source.row_ids) from None
    working.push(state.masters())
    return event


def norm_of(gradients: list[Tensor]) -> float:
    """The norm of the whole gradient."""
    return float(torch.stack([gradient.dot(gradient) for gradient in gradients]).sum().sqrt())


def clip_gradients(gradients: list[Tensor], norm: float, most: float) -> None:
    """Scale the whole gradient to a norm of at most ``most``; torch's own passes over it even if it is shorter."""
    scale = most / (norm + 1e-6)
    if not scale >= 1.0:
        torch._foreach_mul_(gradients, scale)


def evaluation_due(state: FitState, budget: Budget) -> bool:
    """Whether validation loss must be measured before anything else happens."""
    if budget.evaluate is None or state.evaluated == state.step:
        return False
    return state.step == budget.steps or (state.step > 0 and state.step % budget.every == 0) or state.step == 0


@contextmanager
def answering(state: FitState, working: Working) -> Iterator[None]:
    """Inside, masters and live model are those that answer, which for some optimizers are not those that step."""
    with state.optimizer.answering() as others:
        if others:
            working.push(state.masters())
        yield
    if others:
        working.push(state.masters())


def evaluate(state: FitState, stage: str, budget: Budget) -> Evaluated:
    """Measure validation loss; keep the weights if it is the lowest, or cannot be told from the lowest.

    The later weights are preferred, because their rate has fallen further: validation rows are few, and the lowest of
    many noisy losses is often an early one's luck. Only the start gives way to nothing but a lower loss.
    """
    assert budget.evaluate is not None
    shares = budget.evaluate()
    loss = float(shares.sum())
    state.evaluated = state.step
    lower = loss < state.best_loss
    kept = lower or (state.best_step > 0 and not surely_higher(shares, state.lowest))
    if lower:
        state.best_loss, state.lowest, state.worse = loss, shares, 0
    else:
        state.worse += 1
    if kept:
        state.best_step = state.step
        state.best = {name: tensor.clone() for name, tensor in state.masters().items()}
    return Evaluated(stage=stage, step=state.step, loss=loss, best=kept)


def surely_higher(shares: Tensor, lowest: Tensor | None) -> bool:
    """Whether a loss exceeds the lowest by more than ``SURE`` standard errors of the paired difference; NaN does."""
    if lowest is None:
        return True
    difference, level = shares - lowest, abs(float(lowest.sum()))
    error = float(difference.std()) * len(difference) ** 0.5 if len(difference) >= FEWEST else 0.0
    return not float(difference.sum()) <= min(SURE * error, NEAR * level)


def patience_gone(state: FitState, budget: Budget) -> bool:
    """Whether validation loss has not improved for too long."""
    return budget.settings.patience > 0 and state.worse >= budget.settings.patience


def nothing_left(state: FitState, source: BatchSource) -> bool:
    """Whether updates have long had nothing to learn."""
    return state.solved >= max(ENOUGH, source.steps_per_epoch)


def ended_from_outside(state: FitState, stage: str, seconds: float, budget: Budget) -> str | None:
    """ "clock" or "interrupt" if either ends the stage, after so many seconds or in the run that is being resumed."""
    for decision in state.decisions:
        if decision["stage"] == stage and decision["step"] == state.step:
            return str(decision["reason"])
    limit = budget.settings.most_seconds
    if budget.asked():
        reason, said = "interrupt", "stopped by the user"
    elif limit and seconds > limit:
        reason, said = "clock", "stopped by the clock"
    else:
        return None
    state.decisions.append({"stage": stage, "step": state.step, "reason": reason, "decision": said})
    return reason


def end_average(state: FitState, working: Working, budget: Budget, average: NoAverage) -> Ended:
    """What the average makes of a stage that is over; validation loss is measured as often as it asks."""

    def measure(weights: Weights) -> float:
        assert budget.evaluate is not None
        with holding(state, working, weights):
            return float(budget.evaluate().sum())

    tuned = state.wholes()
    if state.best_step > 0:
        tuned = [torch.cat([state.best[name].reshape(-1) for name in group.names]) for group in state.groups]
    ended = average.end(state.carried, Over(tuned, state.best_step, budget.steps, measure))
    state.started = state.best_step <= 0 if ended.started is None else ended.started
    state.said = ended.said
    return ended


@torch.no_grad()
def keep(state: FitState, working: Working, ended: Ended) -> None:
    """What the average made, else the best weights, else the mean, else the last, into the model alone."""
    last = state.by_name(state.carried.mean or state.wholes())
    chosen = (state.best or last) if ended.weights is None else state.by_name(ended.weights)
    every = dict(working.masters.named_parameters())
    masters = {name: every[name] for name in state.names}
    for name, tensor in chosen.items():
        masters[name].copy_(tensor)
    working.push(masters)


@contextmanager
def holding(state: FitState, working: Working, weights: Weights) -> Iterator[None]:
    """Masters and live model hold other weights meanwhile; none leave them as they are."""
    if not weights:
        yield
        return
    masters = state.wholes()
    own = copied(masters)
    try:
        lay(masters, weights)
        working.push(state.masters())
        yield
    finally:
        lay(masters, own)
        working.push(state.masters())


@torch.no_grad()
def lay(into: Weights, values: Weights) -> None:
    """Copy values over others."""
    torch._foreach_copy_(into, values)
