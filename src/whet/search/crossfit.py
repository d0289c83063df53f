"""How good is a rung where too few rows could be held out? Cross-fitted: every row is answered by a fit without it.

The rows to learn from are cut into a few parts; for each part the method is fitted on the others and answers it. All
answers together score the rung on every row, and rungs are compared on the same parts. What is fitted here is thrown
away: the winner is fitted once more, on all rows. Each fit sees fewer rows than the winner will, so a method that needs
many is judged a little too low.

Source: Stone 1974, "Cross-validatory choice and assessment of statistical predictions", JRSS B 36.
"""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from whet.learners.fitted import NeuralFitted
from whet.learners.neural import TrainingRows
from whet.methods.method import Method
from whet.resolve import Prepared
from whet.run import RunRows, fit_method, together
from whet.tasks.predictions import Kind, Predictions
from whet.tasks.task import Examples
from whet.training.batches import strata_of
from whet.training.events import Event, Said
from whet.training.settings import Training
from whet.training.solve import assign_folds
from whet.training.temperature import WIDE, Expected, best_temperature

Array = np.ndarray[Any, Any]
STOPPING_PARTS = 7
"""Of the rows that a fit sees, one in so many stops and calibrates it, where rows can stop it."""


@dataclass(frozen=True, eq=False)
class Attempt:
    """What fitting a rung came to.

    Args:
        answers: For the rows to choose by, with their targets.
        trainable: Numbers that moved; steps: of all fits.
        collapsed: The one answer that a fit gives whatever it reads, if so.
        fitted: The model; None where the rung was cross-fitted, and the winner has yet to be fitted on all rows.
    """

    answers: Predictions
    trainable: int
    steps: int
    collapsed: str = ""
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
    found: list[Predictions] = []
    trainable, steps, collapsed = 0, 0, ""
    for part in range(int(parts.max()) + 1):
        yield Said(stage="rung", message=f"Part {part + 1} of {folds}: fitted on the others.")
        seen, held = np.flatnonzero(parts != part), np.flatnonzero(parts == part)
        folder = None if checkpoints is None else checkpoints / f"part-{part}"
        fitted = yield from fit_method(prepared, method, training, split(whole, units, seen, method, seed), folder)
        if fitted.interrupted:
            return None
        examples = whole.select(held)
        answers = yield from fitted.answer(examples)
        assert examples.targets is not None
        groups = units[held] if rows.grouped and units is not None else None
        found.append(answers.with_targets(examples.targets, groups))
        trainable, steps = max(trainable, fitted.trainable), steps + fitted.steps
        collapsed = collapsed or fitted.collapsed
    return Attempt(joined(found), trainable, steps, collapsed)


def split(whole: Examples, units: Array | None, seen: Array, method: Method, seed: int) -> TrainingRows:
    """The rows that one fit sees; some of them to stop by, if that is what rows can do."""
    examples, own = whole.select(seen), None if units is None else units[seen]
    assert examples.targets is not None
    if not method.stops:
        return TrainingRows(examples, None, own)
    stops = assign_folds(strata_of(examples.targets), own, STOPPING_PARTS, seed) == 0
    train = np.flatnonzero(~stops)
    return TrainingRows(
        examples.select(train), examples.select(np.flatnonzero(stops)), None if own is None else own[train]
    )


def over_sure(answers: Predictions) -> float:
    """By how much answers of rows that no fit had seen are too sure: what outputs like these are to be divided by."""
    if answers.kind != "classification" or not len(answers):
        return 1.0
    assert answers.targets is not None
    logs = torch.from_numpy(np.log(np.clip(answers.scores, np.finfo(np.float32).tiny, 1.0)))
    targets = torch.from_numpy(answers.targets)
    expected = Expected(spread=WIDE)
    return best_temperature(lambda one: float(cross_entropy(logs / one, targets)), len(targets), expected)[1]


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
