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

from whet.methods.method import RateGroup
from whet.tasks.task import Batch, Term
from whet.training.draws import seed_torch
from whet.training.events import Evaluated, Event, Stepped, Stopped
from whet.training.precision import Working, parameter_dict
from whet.training.settings import Training


class BatchSource(Protocol):
    """Gives one update's micro-batches; pure in its arguments."""

    @property
    def steps_per_epoch(self) -> int: ...

    def window(self, stage: str, epoch: int, step: int) -> list[Batch]: ...


class Objective(Protocol):
    """What a stage minimises."""

    def weights(self, batch: Batch) -> dict[str, Tensor]:
        """(B,) denominators by term, from targets alone."""
        ...

    def __call__(self, batch: Batch) -> list[Term]:
        """Forward and loss terms."""
        ...


@dataclass(eq=False)
class FitState:
    """Everything that decides the rest of a stage, together with the masters of ``names``.

    Args:
        names: Trainable parameters, in the order of ``groups``.
        step: Updates done; evaluated: the step at which validation loss was last measured, -1 if never.
        best: Copies of the trainable masters at the lowest validation loss.
        decisions: What was decided outside the plan, such as a stop by the clock; a resumed run obeys them.
    """

    names: tuple[str, ...]
    optimizer: torch.optim.Optimizer
    step: int = 0
    evaluated: int = -1
    best_loss: float = math.inf
    best_step: int = -1
    worse: int = 0
    best: dict[str, Tensor] = field(default_factory=dict)
    decisions: list[dict[str, Any]] = field(default_factory=list)

    def tensors(self, working: Working) -> dict[str, Tensor]:
        """Masters, moments and best weights by name, for a checkpoint."""
        found = {f"master/{n}": p for n, p in parameter_dict(working.masters, self.names).items()}
        found |= {f"best/{n}": t for n, t in self.best.items()}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name, parameter in zip(self.names, parameters, strict=True):
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"{key}/{name}"] = value
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
        }

    @torch.no_grad()
    def restore(self, working: Working, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Become what a checkpoint holds."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name, parameter in zip(self.names, parameters, strict=True):
            parameter.copy_(tensors[f"master/{name}"])
            moments = {k.partition("/")[0]: v for k, v in tensors.items() if k.partition("/")[2] == name}
            kept = {k: v.clone() for k, v in moments.items() if k not in ("master", "best")}
            if kept:
                self.optimizer.state[parameter] = kept
            if "best" in moments:
                self.best[name] = moments["best"].clone()
        for key, value in counters.items():
            setattr(self, key, value)
        working.push(self.names)


@dataclass(frozen=True, eq=False)
class Budget:
    """How many updates, when to look, and when to end early.

    Args:
        steps: Updates at most.
        every: Updates between evaluations; the last step is always evaluated.
        evaluate: Mean validation loss of the live model, or None without validation rows.
        settings: Rates, patience, clock.
        asked: Whether the user asked to stop; read between two updates.
    """

    steps: int
    every: int
    evaluate: Callable[[], float] | None
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
        undecayed: Parameters without weight decay beside vectors and the new head, such as embedding tables.
    """
    every = dict(working.masters.named_parameters())
    chosen = []
    for group in groups:
        for decays in (True, False):
            names = [n for n in group.names if (every[n].dim() > 1 and n not in undecayed) == decays]
            if names:
                chosen.append((names, group.scale, decays and not names[0].startswith("head.")))
    optimizer = torch.optim.AdamW(
        [
            {
                "params": [every[name] for name in names],
                "lr": learning_rate * scale,
                "scale": scale * learning_rate,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for names, scale, decays in chosen
        ],
        betas=(0.9, 0.999),
        eps=1e-8,
        fused=True,
    )
    return FitState(names=tuple(name for names, _, _ in chosen for name in names), optimizer=optimizer)


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
            yield evaluate(state, stage, precision, budget)
        if state.step >= budget.steps:
            break
        if patience_gone(state, budget):
            reason = "early"
            break
        if (ended := ended_from_outside(state, stage, began, budget)) is not None:
            reason = ended
            break
        yield take_step(state, stage, source, objective, precision, budget, seed)
    restore_best(state, precision)
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
    """One update."""
    began = time.monotonic()
    epoch, within = divmod(state.step, source.steps_per_epoch)
    window = source.window(stage, epoch, within)
    totals: dict[str, Tensor] = {}
    for batch in window:
        for name, weights in objective.weights(batch).items():
            totals[name] = totals.get(name, torch.zeros((), dtype=torch.float64)) + weights.double().sum()
    gradients: dict[str, Tensor] = {}
    loss = 0.0
    for number, batch in enumerate(window):
        seed_torch("dropout", seed, stage, state.step, number, 0)
        value = sum_of(objective(batch), totals)
        value.backward()  # type: ignore[no-untyped-call]
        loss += float(value.detach())
        if not working.shared:
            working.pull_gradients(state.names, gradients)
    rate = rate_at(state.step, budget.steps, budget.settings)
    update(state, working, gradients, rate, budget.settings.clip)
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
    """A micro-batch's share of the update's loss."""
    parts = [term.coefficient * term.sums.sum() / totals[term.name].to(term.sums) for term in terms]
    return torch.stack(parts).sum()


def update(state: FitState, working: Working, gradients: dict[str, Tensor], rate: float, clip: float) -> None:
    """Clip the whole gradient, step the masters, cast them into the live model."""
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    if not working.shared:
        for name, parameter in zip(state.names, parameters, strict=True):
            parameter.grad = gradients.get(name)
    if clip > 0:
        torch.nn.utils.clip_grad_norm_(parameters, clip, foreach=True)
    for group in state.optimizer.param_groups:
        group["lr"] = group["scale"] * rate
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    working.push(state.names)


def rate_at(step: int, steps: int, settings: Training) -> float:
    """The schedule's factor on the peak rate for one step."""
    warm = max(1, round(settings.warmup * steps)) if settings.warmup > 0 else 0
    if step < warm:
        return (step + 1) / (warm + 1)
    done = (step - warm) / max(1, steps - warm)
    if settings.schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    return 1.0 - done if settings.schedule == "linear" else 1.0


def evaluation_due(state: FitState, budget: Budget) -> bool:
    """Whether validation loss must be measured before anything else happens."""
    if budget.evaluate is None or state.evaluated == state.step:
        return False
    return state.step == budget.steps or (state.step > 0 and state.step % budget.every == 0) or state.step == 0


def evaluate(state: FitState, stage: str, working: Working, budget: Budget) -> Evaluated:
    """Measure validation loss; keep the weights if it is the lowest."""
    assert budget.evaluate is not None
    loss = budget.evaluate()
    state.evaluated = state.step
    better = loss < state.best_loss
    if better:
        state.best_loss, state.best_step, state.worse = loss, state.step, 0
        masters = parameter_dict(working.masters, state.names)
        state.best = {name: tensor.detach().clone() for name, tensor in masters.items()}
    else:
        state.worse += 1
    return Evaluated(stage=stage, step=state.step, loss=loss, best=better)


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
    """The weights with the lowest validation loss, where it was measured."""
    masters = parameter_dict(working.masters, state.names)
    for name, tensor in state.best.items():
        masters[name].copy_(tensor)
    working.push(state.names)
