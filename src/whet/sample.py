"""A few rows that stand for all: of usual lengths to time, the longest for memory, and what baselines take of them."""

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whet import catalog
from whet.data.rows import Columns, Rows, spread
from whet.data.split import Split
from whet.errors import WhetError
from whet.learners.learner import Learner, Material
from whet.modalities.modality import Processor
from whet.tasks.task import Examples, State, Task
from whet.training.memory import watched_peak
from whet.training.replay import pick

USUAL = 256
"""Rows, evenly spread, that are encoded and timed."""
LONGEST = 256
"""Rows that are encoded to find the longest pieces, by the size of their inputs; and pieces that are kept."""
TRIED_SIZE = 200_000
"""Characters, or whatever inputs are measured in, that a baseline is tried on."""
TIME_POWER, MEMORY_POWER = 0.85, 0.6
"""How a baseline's time and memory grow with its rows: both have a constant part, such as one a class."""


@dataclass(frozen=True)
class BaselineCost:
    """What fitting a baseline on all rows takes."""

    seconds: float
    memory_bytes: int


@dataclass(frozen=True, eq=False)
class Sample:
    """What stands for all rows.

    Args:
        examples: Of usual lengths, encoded; longest: the longest pieces of training and validation rows, longest first.
        answered: The same of whatever rows are answered without gradients, test rows among them.
        token_bytes: Of encoded inputs, a token.
        baselines: Those that have their own way; twins: the methods of those that are one, and second models.
    """

    examples: Examples
    longest: Examples
    answered: Examples
    token_bytes: float
    baselines: tuple[BaselineCost, ...]
    twins: tuple[Any, ...]
    _distinct: dict[str, int] = field(default_factory=dict, repr=False)

    def distinct(self, name: str) -> int:
        """How many different values an input has in examples and longest; asked of those that tables look up."""
        if name not in self._distinct:
            pair = (self.examples.inputs[name], self.longest.inputs[name])
            self._distinct[name] = len(np.unique(np.concatenate([one.compact().values for one in pair])))
        return self._distinct[name]

    @staticmethod
    def of(
        split: Split, columns: Columns, task: Task, state: State, processor: Processor, baselines: tuple[str, ...]
    ) -> "Sample":
        """Encode the rows and try the baselines."""
        usual = spread_rows(split.train, USUAL)
        examples = task.encode(usual, columns, processor, state, targeted=True)
        found = [longest_of(rows, columns, task, state, processor) for rows in (split.train, split.valid) if rows]
        longest = max(found, key=lambda one: int(one.lengths.max(initial=0)))
        tests = [
            longest_of(test.rows, columns, task, state, processor, targeted=False)
            for test in split.tests.values()
            if len(test.rows)
        ]
        learners: list[Learner] = [catalog.find("learner", name)() for name in baselines]
        return Sample(
            examples=examples,
            longest=longest,
            answered=max([longest, *tests], key=lambda one: int(one.lengths.sum())),
            token_bytes=sum(ragged.nbytes for ragged in examples.inputs.values()) / max(1, examples.lengths.sum()),
            baselines=tuple(
                try_baseline(learner, split.train, columns, task, state)
                for learner in learners
                if learner.learns and not learner.method
            ),
            twins=tuple(learner.method or learner for learner in learners if learner.method or not learner.learns),
        )


def spread_rows(rows: Rows, number: int) -> Rows:
    """At most so many rows, evenly spread."""
    return rows.select(spread(len(rows), number))


def longest_of(
    rows: Rows, columns: Columns, task: Task, state: State, processor: Processor, *, targeted: bool = True
) -> Examples:
    """The longest pieces of the largest rows, longest first."""
    some = rows.select(np.sort(np.argsort(-sizes_of(rows, columns), kind="stable")[:LONGEST]))
    examples = task.encode(some, columns, processor, state, targeted=targeted)
    return pick(examples, np.argsort(-examples.lengths, kind="stable")[:LONGEST])


def sizes_of(rows: Rows, columns: Columns) -> np.ndarray[Any, Any]:
    """(N,) how large the inputs of each row are, in characters or whatever counts for their kind."""
    batches = rows.batches(columns.inputs)
    return np.array([size for one in batches for size in columns.modality.sizes(one.columns, rows.folder)], np.int64)


def try_baseline(learner: Learner, rows: Rows, columns: Columns, task: Task, state: State) -> BaselineCost:
    """Fit a baseline on a sample, and say what all rows would take."""
    sizes = sizes_of(rows, columns)
    some = spread_rows(rows, max(1, min(USUAL, int(TRIED_SIZE / max(1.0, float(sizes.mean()))))))
    targets = task.encode_targets(some, columns, state)
    material = Material(task, state, columns, some, targets)
    fit_some(learner, material)  # the first time brings its imports along
    began = time.perf_counter()
    with watched_peak() as peak:
        fit_some(learner, material)
    seconds = time.perf_counter() - began
    times = max(1.0, learner.share(len(rows), int(sizes.sum())) * len(rows) / len(some))
    return BaselineCost(seconds * times**TIME_POWER, int(peak.grown * times**MEMORY_POWER))


def fit_some(learner: Learner, material: Material) -> None:
    """Fit what a sample allows: it may lack what a learner needs, such as a second class."""
    with suppress(WhetError, ValueError, IndexError):
        learner.fit(material)
