"""Which learning rate suits a method on these rows? Steps at rates that rise from far too low to far too high.

Source: Smith 2017, "Cyclical Learning Rates for Training Neural Networks", arXiv:1506.01186, section 3.3, with the
exponential rise that fastai made common. Steps are those of the plan: its method, batches and optimizer, with the
method's relative rates; nothing of them is kept. Losses are smoothed over their neighbours on both sides rather than
over the past alone, which would show the lowest one at too high a rate.
"""

import copy
import math
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch

from whet.backbones.backbone import Backbone
from whet.errors import RunError
from whet.learners.descent import lowest_cut, names_of, trained_tables, undecayed
from whet.learners.fitted import NeuralFitted
from whet.learners.neural import Neural, TrainingRows
from whet.methods.method import Descend, Solve, Stage
from whet.tasks.task import Examples
from whet.training.compact import compacted
from whet.training.events import Event, Started, Stopped
from whet.training.loop import Budget, start_state, take_step
from whet.training.replay import set_training
from whet.training.trouble import NotFiniteError

FIRST, LAST, STEPS = 1e-7, 10.0, 100
"""The rates tried, each a fifth higher than the one before."""
GROWN = 4.0
"""The rise ends where the loss, averaged over the last few steps, is so many times its lowest."""
RECENT = 0.8
"""Share of that average which each step keeps."""
FEWEST = 10
"""Steps before the rise may end, so that one odd batch does not end it."""
WIDTH = 3.0
"""Standard deviation of the smoothing, in steps."""
MOST = 2.0
"""Times the mean of the first losses that one counts in it at most: a batch that blew up would hide how its neighbours
fell."""
BACK = 10.0
"""The suggestion is so many times below the rate with the lowest loss, where steps are about to spoil the weights."""
LEAST_FALL = 0.05
"""A fall of the loss by a smaller share says nothing."""


@dataclass(frozen=True)
class RateCurve:
    """Loss against learning rate.

    Args:
        method: Catalog name; optimizer: likewise; stage: whose steps were taken.
        rates: (N,) of the top group, rising; losses: (N,) of the batch that met each rate, before its update.
        batch_size: Examples a step.
        usual: The rate that a plan with this method and optimizer takes.
        ended: Why there are no more rates: "rates" were all tried, the loss "grew", or was "not finite".
    """

    method: str
    optimizer: str
    stage: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    batch_size: int
    usual: float
    ended: Literal["rates", "grew", "not finite"]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """(N,) losses, each with its neighbours: a Gaussian mean over a few steps on either side."""
        place = np.arange(len(self.losses))
        losses = np.asarray(self.losses)
        losses = np.minimum(losses, MOST * abs(losses[:FEWEST].mean()))
        weights = np.exp(-0.5 * ((place[:, None] - place[None, :]) / WIDTH) ** 2)
        return tuple(float(one) for one in weights @ losses / weights.sum(1))

    @property
    def lowest(self) -> float:
        """The rate at which the smoothed loss is lowest."""
        return self.rates[int(np.argmin(self.smoothed))]

    @property
    def steepest(self) -> float:
        """The rate at which the smoothed loss falls fastest, up to its lowest."""
        smoothed = np.asarray(self.smoothed)
        falls = np.gradient(smoothed)[: max(1, int(smoothed.argmin()))] if len(smoothed) > 1 else np.zeros(1)
        return self.rates[int(falls.argmin())]

    @property
    def suggestion(self) -> float:
        """A tenth of the rate with the lowest loss, to two digits; never outside the rates tried."""
        return float(f"{max(self.lowest / BACK, self.rates[0]):.2g}")

    @property
    def fell(self) -> bool:
        """Whether the loss fell enough for the suggestion to mean something."""
        return min(self.smoothed) < (1 - LEAST_FALL) * self.smoothed[0]


def find_rate(learner: Neural, rows: TrainingRows, method: str, optimizer: str) -> Generator[Event, None, RateCurve]:
    """Take the steps on a copy of the learner's model; what the learner holds stays as it is.

    Args:
        method: The catalog names of the learner's method and optimizer, for the curve.
    """
    torch.set_num_threads(learner.machinery.threads)
    learner = replace(learner, backbone=replace(learner.backbone, model=copy.deepcopy(learner.backbone.model)))
    backbone, stages = learner.stages()
    number = widest(stages, backbone)
    fitted = learner.unfitted(backbone, learner.machinery.training_precision)
    for before in stages[:number]:
        if isinstance(before.fit, Solve):
            yield from learner.solve(before, before.fit, fitted, rows)
    rates, losses, ended = yield from rise(learner, stages[number], number, fitted, rows.train)
    training = learner.training
    return RateCurve(
        method=method,
        optimizer=optimizer,
        stage=stages[number].name,
        rates=tuple(rates),
        losses=tuple(losses),
        batch_size=training.batch_size,
        usual=replace(training, learning_rate=None).rate(learner.method.learning_rate),
        ended=ended,
    )


def widest(stages: list[Stage], backbone: Backbone) -> int:
    """The place of the stage of gradient steps that moves most numbers: of a gradual method, the last."""
    every = dict(backbone.model.named_parameters())
    sizes = {
        number: sum(every[name].numel() for name in names_of(stage.groups))
        for number, stage in enumerate(stages)
        if isinstance(stage.fit, Descend)
    }
    return max(sizes, key=lambda number: sizes[number])


def rise(
    learner: Neural, stage: Stage, number: int, fitted: NeuralFitted, train: Examples
) -> Generator[Event, None, tuple[list[float], list[float], Literal["rates", "grew", "not finite"]]]:
    """A step at each rate with its loss, and why there are no more.

    Raises:
        RunError: not even the first one's loss is finite.
    """
    descent, working, backbone = learner.descent(stage, number), fitted.working, fitted.backbone
    groups = descent.groups(backbone)
    names = names_of(groups)
    working.trainable(names)
    source = descent.source(fitted, train)
    descent.require_steps(source)
    settings = replace(learner.training, schedule="constant", warmup=0.0)
    budget = Budget(steps=STEPS, every=STEPS, evaluate=None, settings=settings)
    rates: list[float] = []
    losses: list[float] = []
    recent = Recent(stage.solved)
    ended: Literal["rates", "grew", "not finite"] = "rates"
    began = time.monotonic()
    with ExitStack() as stack:
        stack.enter_context(compacted(working, trained_tables(backbone, names), [train.inputs]))
        state = start_state(working, groups, 1.0, settings, undecayed(backbone))
        objective = descent.objective(fitted, None)
        set_training(working.live, lowest_cut(backbone, names))
        yield Started(stage=stage.name, steps=STEPS, examples=len(train))
        for rate in np.geomspace(FIRST, LAST, STEPS).tolist():
            state.optimizer.peak(rate)
            try:
                step = take_step(state, stage.name, source, objective, working, budget, learner.seed)
            except NotFiniteError as error:
                if not losses:
                    raise RunError(
                        "The loss is not finite before any step was taken, so no rate can be compared.",
                        where=f"stage {stage.name!r}",
                        fix="look at the rows with `whet check`, or try another model",
                    ) from error
                ended = "not finite"
                break
            rates.append(rate)
            losses.append(step.loss)
            yield step
            if recent.grown(step.loss) and len(losses) >= FEWEST:
                ended = "grew"
                break
        state.release(working)
    yield Stopped(stage=stage.name, step=state.step, reason="done", seconds=time.monotonic() - began)
    return rates, losses, ended


class Recent:
    """A mean of losses in which each counts less with every step, and its lowest so far.

    Args:
        solved: A loss under which there is nothing left to learn, so that it cannot have grown either.
    """

    def __init__(self, solved: float = -math.inf) -> None:
        self.total, self.weight, self.lowest, self.solved = 0.0, 0.0, math.inf, solved

    def grown(self, loss: float) -> bool:
        """Take a loss in; says whether the mean is so far above its lowest that higher rates tell nothing."""
        self.total, self.weight = RECENT * self.total + loss, RECENT * self.weight + 1
        mean = self.total / self.weight
        self.lowest = min(self.lowest, mean)
        return mean > GROWN * max(self.lowest, self.solved)
