"""Convex heads, solved: softmax and one-versus-rest logistic regression, and ridge regression.

All folds of a penalty are solved as one batched tensor program; penalties follow each other from strong to weak,
each starting from the last one's solution; the walk begins in the middle and goes downhill, because held-out loss
has one valley. (Preconditioning by the diagonal of the Hessian on principal axes took more steps, not fewer.)

L-BFGS: Liu and Nocedal 1989, "On the limited memory BFGS method for large scale optimization".
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from whet.training.temperature import best_temperature

CHUNK = 2048
SMALL = 2 * 10**7
"""Products an evaluation below which one thread is enough."""
HISTORY = 8
ROUGH, FINE = 1e-2, 1e-3
"""Tolerances while penalties are compared, where it moves held-out loss by a thousandth, and of the head that is kept,
whose probabilities it moves by a thousandth instead of a hundredth, for a third more of its iterations."""
SURE = 2.0
"""Standard errors of a paired difference of held-out losses."""


Link = Literal["softmax", "sigmoid", "identity"]
Head = tuple[Tensor, Tensor]
"""Weights (K, D) and biases (K,) of a linear head on features as they come."""
Change = tuple[Tensor, Tensor, Tensor]
"""A step (A, D, K), the change of the gradient along it, and one over their inner product (A,), 0 if unusable."""


@dataclass(frozen=True, eq=False)
class Solved:
    """A fitted linear head and what cross-validation said.

    Shapes, D features, K outputs, N rows:
        mean, scale: (D,) standardisation, ``(x - mean) * scale``.
        weight: (K, D), bias: (K,), for standardised features.
        held_out: (N, K) outputs for each row by heads that did not see it.
        penalties: chosen penalty, one for all outputs or one an output.
        path: (penalty, mean held-out loss) of those tried, strongest first.
        iterations: L-BFGS iterations in all.
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    held_out: Tensor
    penalties: tuple[float, ...]
    path: tuple[tuple[float, float], ...]
    iterations: int


def solve_head(
    features: Tensor,
    targets: Tensor,
    link: Link,
    outputs: int,
    penalties: tuple[float, ...],
    folds: np.ndarray[Any, Any],
    row_weights: Tensor | None = None,
    *,
    calibrate: bool = False,
    prior: Head | None = None,
) -> Solved:
    """Fit a linear head; the penalty follows from held-out loss.

    Args:
        features: (N, D) float32.
        targets: softmax (N,) int64; sigmoid (N, K) of 0 and 1; identity (N, 1).
        outputs: K.
        penalties: Strongest first; loss is a mean over rows plus ``penalty / 2 * |weight|^2``.
        folds: (N,) number of the fold that holds each row out.
        row_weights: (N,) weight of each row in the loss, or None.
        calibrate: Divide the outputs of a softmax or sigmoid head by the temperature with the lowest held-out loss.
            A softmax head's penalty is then the one whose loss is lowest at its best temperature, where that is
            surely lower (by ``SURE`` standard errors of the paired difference) than at the penalty with the lowest
            loss as it is: with few rows a class, temperatures are too loose to choose by.
        prior: Where the penalty pulls to, in place of zero: the head of an earlier model, whose answers stay where
            the rows say nothing else. An output without a single row (a class that is not among these) stays as it
            is there, and the others are solved beside it.

    Source of the prior: Kuzborskij and Orabona 2013, "Stability and Hypothesis Transfer Learning", ICML.
    """
    with few_threads(len(features) * features.shape[1] * outputs * (int(folds.max()) + 1)):
        return _solve_head(features, targets, link, outputs, penalties, folds, row_weights, calibrate, prior)


@contextmanager
def few_threads(products: int) -> Iterator[None]:
    """One thread for small problems, where waking others costs more than they do."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if products < SMALL else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _solve_head(
    features: Tensor,
    targets: Tensor,
    link: Link,
    outputs: int,
    penalties: tuple[float, ...],
    folds: np.ndarray[Any, Any],
    row_weights: Tensor | None,
    calibrate: bool,
    prior: Head | None,
) -> Solved:
    calibrate = calibrate and link != "identity"
    points, mean, scale = standardise(features)
    weights = torch.ones(len(features)) if row_weights is None else row_weights.float()
    problem = Problem(points, targets, link, outputs, None if prior is None else standardised(prior, mean, scale))
    number = int(folds.max()) + 1
    held = torch.from_numpy(folds.astype(np.int64))
    masks = torch.stack([(held != fold) * weights for fold in range(number)])
    tried: dict[int, Tried] = {}
    iterations = 0
    start = problem.start(number)
    while (place := next_penalty(tried, len(penalties), separate=link == "sigmoid")) is not None:
        near = min(tried, key=lambda other: abs(other - place), default=None)
        begin = start if near is None else tried[near].heads
        heads, steps = problem.solve(masks, torch.full((number, outputs), penalties[place]), begin)
        iterations += steps
        held_out = problem.held_out(heads, held)
        loss = problem.loss_per_output(held_out, weights)
        refined = problem.refined(held_out, weights) if calibrate and link == "softmax" else None
        tried[place] = Tried(heads, held_out, loss, refined)
    order = sorted(tried)
    columns = chosen_penalties([tried[place] for place in order], weights).expand(outputs)
    pick = torch.tensor(penalties)[order][columns]
    every = torch.arange(outputs)
    held_out = torch.stack([tried[place].held_out for place in order])[columns, :, every].T.contiguous()
    warm = (
        torch.stack([tried[place].heads for place in order])[columns, :, :, every]
        .permute(1, 2, 0)
        .mean(0, keepdim=True)
    )
    final, steps = problem.solve(weights.unsqueeze(0), pick.unsqueeze(0), warm.contiguous(), tolerance=FINE)
    found = tried[order[int(columns[0])]].refined  # None for labels, whose penalties differ
    if calibrate and found is None:
        found = problem.refined(held_out, weights)
    temperature = found.temperature if found else 1.0
    return Solved(
        mean,
        scale,
        final[0, :-1].T.contiguous() / temperature,
        final[0, -1] / temperature,
        held_out / temperature,
        tuple(float(p) for p in (pick if link == "sigmoid" else pick[:1])),
        tuple((penalties[place], float(tried[place].loss.mean())) for place in order),
        iterations + steps,
    )


@dataclass(frozen=True, eq=False)
class Refined:
    """Held-out loss at the temperature at which it is lowest, and that of each row, (N,) float64."""

    loss: float
    temperature: float
    rows: Tensor


@dataclass(frozen=True, eq=False)
class Tried:
    """One penalty: every fold's head (F, D + 1, K), held-out outputs (N, K), and their loss (1,) or (K,)."""

    heads: Tensor
    held_out: Tensor
    loss: Tensor
    refined: Refined | None = None


def chosen_penalties(tried: list[Tried], weights: Tensor) -> Tensor:
    """Place of the penalty to keep, (1,) or one an output (K,); see ``solve_head``."""
    plain = torch.stack([one.loss for one in tried]).argmin(0)
    refined = [one.refined for one in tried if one.refined is not None]
    if not refined:
        return plain
    best = min(range(len(refined)), key=lambda place: refined[place].loss)
    share = (weights / weights.sum()).double()
    gained = refined[int(plain)].rows - refined[best].rows
    mean = (gained * share).sum()
    error = ((gained - mean) ** 2 * share**2).sum().sqrt()
    return torch.tensor([best]) if mean > SURE * error else plain


def next_penalty(tried: dict[int, Tried], number: int, *, separate: bool) -> int | None:
    """The next place on the penalty scale to try, or None when the valley is found.

    Starts in the middle and walks towards lower loss, one place at a time; ``separate`` outputs (one penalty each)
    have valleys of their own, so their whole scale is tried. Loss at the best temperature has a valley of its own too.
    """
    if not tried:
        return 0 if separate else number // 2
    best = min(tried, key=lambda place: float(tried[place].loss.mean()))
    refined = {place: one.refined.loss for place, one in tried.items() if one.refined is not None}
    other = min(refined, key=lambda place: refined[place], default=best)
    wanted = range(number) if separate else (best + 1, best - 1, other + 1, other - 1)
    return next((place for place in wanted if 0 <= place < number and place not in tried), None)


def standardise(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, D + 1) standardised features with a column of ones at the end, their mean (D,) and scale (D,)."""
    mean = features.double().mean(0).float() if len(features) < 20_000 else features.mean(0)
    points = torch.empty(len(features), features.shape[1] + 1)
    torch.sub(features, mean, out=points[:, :-1])
    deviation = (points[:, :-1] ** 2).mean(0).sqrt()
    noise = 1e-7 + 1e-6 * mean.abs()  # a constant feature deviates by its rounding
    scale = torch.where(deviation > noise, 1.0 / deviation.clamp(min=1e-7), 0.0)
    points[:, :-1] *= scale
    points[:, -1] = 1.0
    return points, mean, scale


def standardised(head: Head, mean: Tensor, scale: Tensor) -> Tensor:
    """(D + 1, K) the head for standardised features, its bias last: the same answers to the features it is for."""
    weight, bias = (part.double() for part in head)
    wide = scale.double()
    inner = torch.where(wide > 0, weight / wide.clamp(min=1e-300), 0.0)
    return torch.cat([inner, (bias + weight @ mean.double()).unsqueeze(1)], dim=1).T.float().contiguous()


def with_rows(targets: Tensor, link: Link, outputs: int) -> Tensor:
    """(K,) 1 for outputs that some row has as its target, 0 for the others; of numbers every one."""
    if link == "softmax":
        return (torch.bincount(targets, minlength=outputs) > 0).float()
    return (targets > 0).any(0).float() if link == "sigmoid" else torch.ones(outputs)


class Problem:
    """Penalised losses of H heads over the same points, with their gradients.

    Args:
        prior: (D + 1, K) where penalties pull to, and where an output without rows stays; None is zero, with a bias
            that is free.
    """

    def __init__(self, points: Tensor, targets: Tensor, link: Link, outputs: int, prior: Tensor | None = None) -> None:
        self.points = points
        self.targets = targets
        self.link = link
        self.outputs = outputs
        self.free_bias = prior is None
        self.prior = torch.zeros(points.shape[1], outputs) if prior is None else prior
        self.moving = torch.ones(outputs) if prior is None else with_rows(targets, link, outputs)

    def start(self, heads: int) -> Tensor:
        """(H, D + 1, K) the prior."""
        return self.prior.expand(heads, -1, -1).contiguous()

    def solve(self, masks: Tensor, penalties: Tensor, start: Tensor, *, tolerance: float = ROUGH) -> tuple[Tensor, int]:
        """Minimise every head's loss; a head without rows stays at the prior, which is zero unless there is one.

        Shapes:
            masks: (H, N) row weights a head; penalties: (H, K); start: (H, D + 1, K).
        """
        if self.link == "identity":
            return self._ridge(masks, penalties), 1
        ridge = penalties.unsqueeze(1).repeat(1, self.points.shape[1], 1)
        if self.free_bias:
            ridge[:, -1] = 1e-6  # but for what keeps it finite
        share = masks / masks.sum(1, keepdim=True).clamp(min=1e-12)

        def evaluate(heads: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
            return self._loss(heads, share[which], ridge[which])

        return minimise(evaluate, start, tolerance=tolerance)

    def held_out(self, heads: Tensor, held: Tensor) -> Tensor:
        """(N, K) outputs of each row by the head of the fold that held it out."""
        found = torch.empty(len(self.points), self.outputs)
        for fold in range(len(heads)):
            rows = held == fold
            found[rows] = self.points[rows] @ heads[fold]
        return found

    def loss_per_output(self, outputs: Tensor, weights: Tensor) -> Tensor:
        """Mean loss of (N, K) outputs: (1,) for softmax and identity, (K,) for sigmoid."""
        share = weights / weights.sum()
        return (self.row_losses(outputs).double() * share.unsqueeze(1)).sum(0)

    def row_losses(self, outputs: Tensor) -> Tensor:
        """Loss of each row of (N, K) outputs: (N, 1) for softmax, (N, K) otherwise."""
        if self.link == "softmax":
            return torch.nn.functional.cross_entropy(outputs, self.targets, reduction="none").unsqueeze(1)
        if self.link == "sigmoid":
            wanted = self.targets.float()
            return torch.nn.functional.binary_cross_entropy_with_logits(outputs, wanted, reduction="none")
        return (outputs - self.targets) ** 2

    def refined(self, outputs: Tensor, weights: Tensor) -> Refined:
        """Held-out loss of (N, K) outputs at their best temperature."""
        rows = float(weights.sum() ** 2 / (weights**2).sum())  # as many of equal weight would say as much
        loss, temperature = best_temperature(
            lambda one: float(self.loss_per_output(outputs / one, weights).mean()), rows
        )
        return Refined(loss, temperature, self.row_losses(outputs / temperature).double().mean(1))

    def _loss(self, heads: Tensor, share: Tensor, ridge: Tensor) -> tuple[Tensor, Tensor]:
        count, width, outputs = heads.shape
        flat = heads.permute(1, 0, 2).reshape(width, count * outputs)
        total = torch.zeros(count, dtype=torch.float64)
        gradient = torch.zeros_like(flat)
        for begin in range(0, len(self.points), CHUNK):
            part = slice(begin, begin + CHUNK)
            points = self.points[part]
            logits = (points @ flat).view(-1, count, outputs)
            losses, residual = self._residual(logits, self.targets[part])
            mask = share[:, part].T
            total += (losses.double() * mask).sum(0)
            residual *= mask.unsqueeze(2)
            gradient.addmm_(points.T, residual.view(-1, count * outputs))
        away = heads - self.prior
        grown = (gradient.view(width, count, outputs).permute(1, 0, 2) + ridge * away) * self.moving
        return total + 0.5 * (ridge * away * away).double().sum((1, 2)), grown.contiguous()

    def _residual(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss (n, H) and its derivative by the logits (n, H, K), in place of the logits."""
        if self.link == "sigmoid":
            wanted = targets.unsqueeze(1).float()
            losses = (torch.nn.functional.softplus(logits) - logits * wanted).sum(2)
            return losses, logits.sigmoid_().sub_(wanted)
        index = targets.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
        peak = logits.amax(2, keepdim=True)
        logits -= peak
        right = logits.gather(2, index).squeeze(2)
        logits.exp_()
        mass = logits.sum(2, keepdim=True)
        losses = mass.squeeze(2).log() - right
        logits /= mass
        logits.scatter_add_(2, index, torch.full_like(right, -1.0).unsqueeze(2))
        return losses, logits

    def _ridge(self, masks: Tensor, penalties: Tensor) -> Tensor:
        heads = []
        points, targets, prior = self.points.double(), self.targets.double(), self.prior.double()
        for mask, penalty in zip(masks.double(), penalties.double(), strict=True):
            share = (mask / mask.sum().clamp(min=1e-12)).unsqueeze(1)
            gram = points.T @ (points * share)
            ridge = torch.full((points.shape[1],), float(penalty[0]), dtype=torch.float64)
            if self.free_bias:
                ridge[-1] = 1e-12  # but for what keeps it defined
            wanted = points.T @ (targets * share) + ridge.unsqueeze(1) * prior
            heads.append(torch.linalg.solve(gram + torch.diag(ridge), wanted))
        return torch.stack(heads).float()


def minimise(
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    *,
    tolerance: float = ROUGH,
    most: int = 200,
) -> tuple[Tensor, int]:
    """Batched L-BFGS: every head has its own history, step and end; those that are done cost nothing more.

    Args:
        evaluate: (heads (A, D, K), which (A,)) -> losses (A,) float64, gradients (A, D, K).
        start: (H, D, K).
        tolerance: A head is done when its squared gradient falls below ``tolerance**2`` times its loss.
    """
    heads = start.clone()
    which = torch.arange(len(heads))
    losses, gradients = evaluate(heads, which)
    changes: list[Change] = []
    taken = 0
    for taken in range(1, most + 1):  # noqa: B007 - returned
        going = (gradients * gradients).double().sum((1, 2)) > tolerance**2 * losses.clamp(min=1e-3)
        which, losses, gradients, changes = keep(going, which, losses, gradients, changes)
        if not len(which):
            break
        direction = two_loop(gradients, changes)
        slope = (direction * gradients).double().sum((1, 2))
        current = heads[which]
        moved, new_losses, new_gradients, stuck = line_search(evaluate, current, which, losses, direction, slope)
        step, bend = moved - current, new_gradients - gradients
        inner = (step * bend).sum((1, 2))
        rate = torch.where(inner > 1e-10 * (bend * bend).sum((1, 2)), 1.0 / inner.clamp(min=1e-30), 0.0)
        heads[which] = moved
        changes = [*changes[-HISTORY + 1 :], (step, bend, rate)]
        which, losses, gradients, changes = keep(~stuck, which, new_losses, new_gradients, changes)
    return heads, taken


def keep(
    chosen: Tensor, which: Tensor, losses: Tensor, gradients: Tensor, changes: list[Change]
) -> tuple[Tensor, Tensor, Tensor, list[Change]]:
    """Only the heads that go on."""
    if bool(chosen.all()):
        return which, losses, gradients, changes
    left = [(step[chosen], bend[chosen], rate[chosen]) for step, bend, rate in changes]
    return which[chosen], losses[chosen], gradients[chosen], left


def two_loop(gradients: Tensor, changes: list[Change]) -> Tensor:
    """The L-BFGS direction (Nocedal and Wright 2006, algorithm 7.4), a head at a time along the first axis."""
    direction = -gradients
    factors = []
    for step, bend, rate in reversed(changes):
        factor = rate * (step * direction).sum((1, 2))
        direction = direction - factor.view(-1, 1, 1) * bend
        factors.append(factor)
    if changes:
        _, bend, rate = changes[-1]
        fit = torch.where(rate > 0, 1.0 / (rate * (bend * bend).sum((1, 2))).clamp(min=1e-30), 1.0)
        direction = direction * fit.view(-1, 1, 1)
    for (step, bend, rate), factor in zip(changes, reversed(factors), strict=True):
        back = rate * (bend * direction).sum((1, 2))
        direction = direction + (factor - back).view(-1, 1, 1) * step
    return direction


def line_search(
    evaluate: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    current: Tensor,
    which: Tensor,
    losses: Tensor,
    direction: Tensor,
    slope: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Halve each head's step until its loss falls enough (Armijo); a head whose loss cannot fall is stuck."""
    size = torch.ones(len(which))
    moved = current + direction
    new_losses, new_gradients = evaluate(moved, which)
    for _ in range(20):
        poor = ~(new_losses <= losses + 1e-4 * size.double() * slope + 1e-9 * losses.abs())
        if not bool(poor.any()):
            break
        size[poor] *= 0.5
        moved[poor] = current[poor] + size[poor].view(-1, 1, 1) * direction[poor]
        new_losses[poor], new_gradients[poor] = evaluate(moved[poor], which[poor])
    stuck = ~(new_losses < losses - 1e-12)
    worse = ~(new_losses <= losses)
    if bool(worse.any()):
        moved[worse] = current[worse]
    return moved, new_losses, new_gradients, stuck


def assign_folds(strata: np.ndarray[Any, Any], units: np.ndarray[Any, Any] | None, number: int, seed: int) -> Any:
    """(N,) fold of each row: rows of one stratum spread evenly; rows of one unit stay together."""
    from whet.training.draws import numpy_generator

    draw = numpy_generator("folds", seed)
    if units is None:
        units = np.arange(len(strata))
    _, first, unit = np.unique(units, return_index=True, return_inverse=True)
    order = draw.permutation(len(first))
    order = order[np.argsort(strata[first][order], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % min(number, len(first))
    return fold[unit]
