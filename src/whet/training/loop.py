"""The loop: one stage of gradient steps as a generator of events.

It knows neither task nor method nor model family. Whenever an event is out, ``FitState`` is consistent: closing the
generator there is a legal stop, and saving the state there is a checkpoint. Steps are exact sums: the update
minimises the sum over terms of coefficient x (all sums / all weights) over every micro-batch.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from whet.backbones.backbone import HeadedModel
from whet.methods.method import RateGroup
from whet.tasks.task import Batch, Term
from whet.training.draws import seed_torch
from whet.training.events import Evaluated, Event, Said, Stepped, Stopped
from whet.training.flat import FlatGroup
from whet.training.precision import Working
from whet.training.schedules import rate_at
from whet.training.settings import Training
from whet.training.trouble import SNAPSHOT, NotFiniteError, still_not_finite, with_gradients

COUNT = "step"
"""What AdamW calls the number of its updates; one for each group."""
LOWEST, SNAPSHOTS = "lowest", "snapshot"
SURE = 2.0
"""Standard errors by which a validation loss must exceed the lowest one for its weights to be passed over."""
NEAR, FEWEST = 0.1, 30
"""They are passed over, too, if it is a tenth higher, or with fewer validation rows than these: a standard error from a
few rows, or of a rise that a few rows carry, says nothing."""


class BatchSource(Protocol):
    """Gives one update's micro-batches; pure in its arguments."""

    @property
    def steps_per_epoch(self) -> int: ...

    def window(self, stage: str, epoch: int, step: int) -> list[Batch]: ...

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
        """The same, of another model and without replay."""
        ...


@dataclass(eq=False)
class FitState:
    """Everything that decides the rest of a stage.

    Args:
        groups: Trainable masters, laid side by side until ``release``.
        optimizer: Steps the groups, in their order.
        step: Updates done; evaluated: the step at which validation loss was last measured, -1 if never.
        best: Copies of the trainable masters to be restored, see ``evaluate``; ``best_step`` is their step.
        lowest: (N,) what each validation row adds to the lowest loss, which is ``best_loss``.
        decisions: What was decided outside the plan, such as a stop by the clock; a resumed run obeys them.
        snapshot: Masters and moments as they were at ``snapshot_step``, to return to.
        failed: Steps that were not finite; ``slower`` is the factor on the rate since then.
        uncounted: Steps whose window had no weight at all; they changed nothing.
    """

    groups: tuple[FlatGroup, ...]
    optimizer: torch.optim.Optimizer
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
    failed: list[int] = field(default_factory=list)
    slower: float = 1.0
    uncounted: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Trainable parameters."""
        return tuple(name for group in self.groups for name in group.names)

    def masters(self) -> dict[str, Tensor]:
        """Trainable parameters by name, as views."""
        return self._views([group.whole.detach() for group in self.groups])

    def gradients(self) -> dict[str, Tensor]:
        """The update's gradients by name, as views."""
        return self._views([group.whole.grad for group in self.groups if group.whole.grad is not None])

    def tensors(self) -> dict[str, Tensor]:
        """Masters, moments, best weights and snapshot by name, for a checkpoint."""
        found = self.moving() | {f"best/{n}": t for n, t in self.best.items()}
        found |= {f"{SNAPSHOTS}/{n}": t for n, t in self.snapshot.items()}
        if self.lowest is not None:
            found[LOWEST] = self.lowest
        return found

    def moving(self) -> dict[str, Tensor]:
        """Masters and moments by name."""
        found = {f"master/{n}": p for n, p in self.masters().items()}
        for group in self.groups:
            for key, value in self.optimizer.state.get(group.whole, {}).items():
                parts = [value] if key == COUNT else group.split(value)
                found |= {f"{key}/{name}": part for name, part in zip(group.names, parts, strict=False)}
        return found

    def counters(self) -> dict[str, Any]:
        """The JSON-able rest."""
        return {
            "step": self.step,
            "evaluated": self.evaluated,
            "best_loss": self.best_loss,
            "best_step": self.best_step,
            "worse": self.worse,
            "decisions": self.decisions,
            "snapshot_step": self.snapshot_step,
            "failed": self.failed,
            "slower": self.slower,
            "uncounted": self.uncounted,
        }

    def take_snapshot(self) -> None:
        """Keep masters and moments as they are now."""
        self.snapshot = {name: tensor.detach().clone() for name, tensor in self.moving().items()}
        self.snapshot_step = self.step

    @torch.no_grad()
    def return_to_snapshot(self, working: Working) -> None:
        """Become what was kept, and halve the rate from there."""
        self.put_back(working, self.snapshot)
        self.step, self.slower = self.snapshot_step, self.slower / 2

    @torch.no_grad()
    def restore(self, working: Working, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Become what a checkpoint holds."""
        masters = self.masters()
        self.best = {n: tensors[f"best/{n}"].to(masters[n], copy=True) for n in masters if f"best/{n}" in tensors}
        self.lowest = tensors.get(LOWEST)
        kept = {key.partition("/")[2]: one for key, one in tensors.items() if key.startswith(f"{SNAPSHOTS}/")}
        self.snapshot = {key: one.clone() for key, one in kept.items()}
        self.put_back(working, {key: one for key, one in tensors.items() if not key.startswith(f"{SNAPSHOTS}/")})
        for key, value in counters.items():
            setattr(self, key, value)

    @torch.no_grad()
    def put_back(self, working: Working, tensors: dict[str, Tensor]) -> None:
        """Masters and moments as ``moving`` gave them; no moments where no update was made yet."""
        masters = self.masters()
        for name, master in masters.items():
            master.copy_(tensors[f"master/{name}"])
        keys = {key.partition("/")[0] for key in tensors} - {"master", "best", COUNT, LOWEST}
        self.optimizer.state.clear()
        for group in self.groups if keys else ():
            kept = {key: torch.cat([tensors[f"{key}/{name}"].reshape(-1) for name in group.names]) for key in keys}
            kept[COUNT] = tensors[f"{COUNT}/{group.names[0]}"].clone()
            self.optimizer.state[group.whole] = {key: one.to(group.whole.device) for key, one in kept.items()}
        working.push(masters)

    def release(self, working: Working) -> None:
        """Give every master storage of its own again; the state is of no use afterwards."""
        for group in self.groups:
            group.release(working.masters)

    def _views(self, wholes: list[Tensor]) -> dict[str, Tensor]:
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
    """

    steps: int
    every: int
    evaluate: Callable[[], Tensor] | None
    settings: Training
    asked: Callable[[], bool] = bool


def start_state(
    working: Working,
    groups: tuple[RateGroup, ...],
    learning_rate: float,
    settings: Training,
    undecayed: frozenset[str] = frozenset(),
) -> FitState:
    """A stage's state before its first step: AdamW (arXiv:1711.05101) with bias correction on float32 masters.

    Args:
        undecayed: Parameters without weight decay beside vectors: embedding tables, the new head.
    """
    every = dict(working.masters.named_parameters())
    chosen: list[tuple[list[str], float, bool]] = []
    flat: list[FlatGroup] = []
    for group in groups:
        for decays in (True, False):
            names = [n for n in group.names if (every[n].dim() > 1 and n not in undecayed) == decays]
            if names:
                chosen.append((names, group.scale, decays and not group.pull))
                flat.append(FlatGroup.of(working.masters, names, group.pull))
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [group.whole],
                "lr": learning_rate * scale,
                "scale": scale * learning_rate,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for group, (_, scale, decays) in zip(flat, chosen, strict=True)
        ],
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=True,
    )
    return FitState(groups=tuple(flat), optimizer=optimizer)


def fit(
    state: FitState,
    stage: str,
    source: BatchSource,
    objective: Objective,
    *,
    precision: Working,
    budget: Budget,
    seed: int,
) -> Iterator[Event]:
    """Take steps until the budget, the stop rule or the clock ends the stage; then the best weights are restored."""
    began = time.monotonic()
    reason = "done"
    while True:
        if evaluation_due(state, budget):
            yield evaluate(state, stage, budget)
        if state.step >= budget.steps:
            break
        if patience_gone(state, budget):
            reason = "early"
            break
        if (ended := ended_from_outside(state, stage, began, budget)) is not None:
            reason = ended
            break
        if state.step % SNAPSHOT == 0 and state.snapshot_step != state.step:
            state.take_snapshot()
        try:
            event: Event = take_step(state, stage, source, objective, precision, budget, seed)
        except NotFiniteError:
            event = after_trouble(state, stage, source, objective, precision, budget, seed)
        yield event
    restore_best(state, precision)
    state.release(precision)
    yield Stopped(stage=stage, step=state.step, reason=reason, seconds=time.monotonic() - began)


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
    gradients = state.gradients()
    loss, counts = 0.0, any(totals.values())  # a window without any weight adds nothing to the exact sums
    for number, batch in enumerate(window if counts else ()):
        seed_torch("dropout", seed, stage, state.step, number, 0)
        value = sum_of(objective(batch), totals)
        value.backward()  # type: ignore[no-untyped-call]
        loss += float(value.detach())
        working.pull_gradients(gradients, add=number > 0)
    if counts:
        rate = rate_at(state.step, budget.steps, budget.settings.schedule, budget.settings.warmup)
        update(state, working, rate, budget.settings.clip, loss)
    state.uncounted += not counts
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
    for group in state.optimizer.param_groups:
        group["lr"] = group["scale"] * rate * state.slower
    for flat, group in zip(state.groups, state.optimizer.param_groups, strict=True):
        flat.pull_back(group["lr"])
    state.optimizer.step()
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
        try:
            event = take_step(state, stage, source, objective.on(working.masters), exact, budget, seed)
        except NotFiniteError:
            epoch, within = divmod(state.step, source.steps_per_epoch)
            raise still_not_finite(working.masters, source.window(stage, epoch, within), source.row_ids) from None
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


def ended_from_outside(state: FitState, stage: str, began: float, budget: Budget) -> str | None:
    """ "clock" or "interrupt" if either ends the stage, now or in the run that is being resumed."""
    for decision in state.decisions:
        if decision["stage"] == stage and decision["step"] == state.step:
            return str(decision["reason"])
    limit = budget.settings.most_seconds
    if budget.asked():
        reason, said = "interrupt", "stopped by the user"
    elif limit and time.monotonic() - began > limit:
        reason, said = "clock", "stopped by the clock"
    else:
        return None
    state.decisions.append({"stage": stage, "step": state.step, "reason": reason, "decision": said})
    return reason


@torch.no_grad()
def restore_best(state: FitState, working: Working) -> None:
    """The best weights, where validation loss was measured."""
    masters = state.masters()
    for name, tensor in state.best.items():
        masters[name].copy_(tensor)
    working.push(masters)
