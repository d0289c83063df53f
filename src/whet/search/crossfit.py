"""How good is a rung where too few rows could be held out? Cross-fitted: every row is answered by a fit without it.

The rows to learn from are cut into a few parts; for each part the method is fitted on the others and answers it. All
answers together score the rung on every row, and rungs are compared on the same parts. What is fitted here is thrown
away: the winner is fitted once more, on all rows. Each fit sees fewer rows than the winner will, so a method that needs
many is judged a little too low.

Source: Stone 1974, "Cross-validatory choice and assessment of statistical predictions", JRSS B 36.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from whet.learners.fitted import NeuralFitted
from whet.learners.neural import TrainingRows
from whet.methods.method import Method
from whet.resolve import Prepared
from whet.run import RunRows, fit_method, together
from whet.tasks.predictions import Kind, Predictions
from whet.tasks.task import Examples
from whet.training.batches import strata_of
from whet.training.events import Event, Said, Stopped
from whet.training.objective import held_out_loss
from whet.training.settings import Training
from whet.training.solve import assign_folds
from whet.training.temperature import WIDE, Expected

Array = np.ndarray[Any, Any]
Fit = TypeVar("Fit")
TINY = float(np.finfo(np.float32).tiny)
STOPPING_PARTS = 7
"""Of the rows that a fit sees, one in so many stops and calibrates it, where rows can stop it."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """What fitting a rung came to.

    Args:
        answers: For the rows to choose by, with their targets.
        trainable: Numbers that moved; steps: of all fits.
        collapsed: The one answer that a fit gives whatever it reads, if so.
        over_sure: What the winner's outputs are to be divided by, as rows that no fit had seen say.
        fitted: The model; None where the rung was cross-fitted, and the winner has yet to be fitted on all rows.
    """

    answers: Predictions
    trainable: int
    steps: int
    collapsed: str = ""
    over_sure: float = 1.0
    fitted: NeuralFitted | None = None

    @property
    def interrupted(self) -> bool:
        """Whether the user ended its steps, with something to show."""
        return self.fitted is not None and self.fitted.interrupted


def cross_fit(
    prepared: Prepared, method: Method, training: Training, rows: RunRows, folds: int, checkpoints: Path | None
) -> Generator[Event, None, Attempt | None]:
    """Answers of a method for every row to learn from; None if the user stopped one of the fits."""
    whole, units = together(rows)
    assert whole.targets is not None
    seed = prepared.plan.seed
    parts = assign_folds(strata_of(whole.targets), units, folds, seed)
    if not parts.any():  # one group holds every row
        return Attempt(nothing(prepared.task.kind), 0, 0)
    found, known = list[Predictions](), list[Predictions]()
    trainable, steps, collapsed = 0, 0, ""
    for part in range(int(parts.max()) + 1):
        yield Said(stage="rung", message=f"Part {part + 1} of {folds}: fitted on the others.")
        seen, held = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        folder = None if checkpoints is None else checkpoints / f"part-{part}"
        fit = fit_method(prepared, method, training, split(whole, units, seen, method, seed), folder)
        fitted = yield from until(fit, stopped_by_user)  # a part with fewer steps is not compared
        if fitted is None or fitted.interrupted:
            return None
        examples = whole.select(held)
        answers = yield from fitted.answer(examples)
        assert examples.targets is not None
        groups = units[held] if rows.grouped and units is not None else None
        found.append(answers.with_targets(examples.targets, groups))
        known.append(found[-1].take(np.flatnonzero(met(examples.targets, whole.targets[seen]))))
        trainable, steps = max(trainable, fitted.trainable), steps + fitted.steps
        collapsed = collapsed or fitted.collapsed
    if not says_how_sure(prepared, method):
        return Attempt(joined(found), trainable, steps, collapsed)
    others = [over_sure(prepared, known[:part] + known[part + 1 :]) for part in range(len(known))]
    surer = [tempered(one, temperature) for one, temperature in zip(found, others, strict=True)]
    return Attempt(joined(surer), trainable, steps, collapsed, over_sure(prepared, known))


def until(events: Generator[Event, None, Fit], over: Callable[[Event], bool]) -> Generator[Event, None, Fit | None]:
    """A fit to its end; None, and it is closed, after an event with which it is over."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as stop:
                fitted: Fit = stop.value
                return fitted
            yield event
            if over(event):
                return None


def stopped_by_user(event: Event) -> bool:
    """Whether the user ended the steps of a fit."""
    return isinstance(event, Stopped) and event.reason == "interrupt"


def says_how_sure(prepared: Prepared, method: Method) -> bool:
    """Whether rows to choose by are the only ones that can say how sure a method's answers may be."""
    known = prepared.task.tempered and prepared.task.kind == "classification"
    return known and method.epochs > 0 and not method.stops


def met(targets: Array, seen: Array) -> Array:
    """(N,) whether the class of a row is one that a fit to rows of these classes can answer."""
    return np.isin(strata_of(targets), strata_of(seen)) & (strata_of(targets) >= 0)


def split(whole: Examples, units: Array | None, seen: Array, method: Method, seed: int) -> TrainingRows:
    """The rows that one fit sees; some of them to stop by, if that is what rows can do."""
    examples, own = whole.select(seen), None if units is None else units[seen]
    assert examples.targets is not None
    if not method.stops or (own is not None and len(np.unique(own)) < 2):
        return TrainingRows(examples, None, own)
    stops = assign_folds(strata_of(examples.targets), own, STOPPING_PARTS, seed) == 0
    train = np.flatnonzero(~stops)
    return TrainingRows(
        examples.select(train), examples.select(np.flatnonzero(stops)), None if own is None else own[train]
    )


def over_sure(prepared: Prepared, parts: list[Predictions]) -> float:
    """What outputs are to be divided by that answer rows which no fit had seen with these probabilities."""
    if not sum(map(len, parts)):
        return 1.0
    answers = joined(parts)
    assert answers.targets is not None
    outputs = torch.from_numpy(np.log(np.clip(answers.scores, TINY, 1.0))).float()
    _, temperature = held_out_loss(prepared.task, prepared.state, outputs, answers.targets, Expected(spread=WIDE))
    return temperature


def tempered(answers: Predictions, temperature: float) -> Predictions:
    """The same decisions, as sure as outputs divided by a temperature are."""
    scores = np.clip(answers.scores, TINY, 1.0) ** (1 / temperature)
    return replace(answers, scores=scores / scores.sum(1, keepdims=True))


def joined(parts: list[Predictions]) -> Predictions:
    """The answers of all parts as one."""
    first = parts[0]
    targets = [part.targets for part in parts if part.targets is not None]
    units = [part.units for part in parts if part.units is not None]
    return Predictions(
        first.kind,
        np.concatenate([part.row_ids for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.decided for part in parts]),
        first.labels,
        np.concatenate(targets),
        np.concatenate(units) if units else None,
    )


def nothing(kind: Kind) -> Predictions:
    """Answers for no row, where there is none to choose by."""
    empty = np.zeros(0, np.int64)
    return Predictions(kind, empty, np.zeros((0, 1)), empty)
