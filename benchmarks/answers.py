"""Answers of every contender for the same test rows, and how they differ, with whet's own paired intervals."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whet.evaluation.compare import compare
from whet.evaluation.intervals import Interval, wilson
from whet.evaluation.metric import metric_named
from whet.evaluation.records import Comparison
from whet.tasks.predictions import Predictions

Array = np.ndarray[Any, Any]
NOT_WORSE = -0.01
"""Not worse means: the lower 95% bound of the paired accuracy difference lies above this."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Class numbers in sorted label order.

    Shapes:
        rows: (N,) place of each row in the test file; answers, targets: (N,).
    """

    rows: Array
    answers: Array
    targets: Array

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.answers == self.targets))

    @property
    def interval(self) -> Interval:
        """Wilson's 95% interval of the accuracy."""
        return wilson(float(np.sum(self.answers == self.targets)), len(self.rows))


@dataclass(frozen=True, eq=False)
class TestFile:
    """What is right, and which number each label has."""

    names: list[str]
    targets: Array

    @staticmethod
    def read(train: Path, test: Path, target: str) -> "TestFile":
        """Labels of both files; numbers follow from those of training, sorted."""
        names = sorted(set(column(train, target)))
        place = {name: number for number, name in enumerate(names)}
        return TestFile(names, np.array([place[label] for label in column(test, target)]))

    def from_peer(self, path: Path) -> Answers:
        """Of the file that a peer saved."""
        answers = np.load(path)["answers"]
        return Answers(np.arange(len(self.targets)), answers, self.targets)

    def from_run(self, folder: Path) -> Answers:
        """Of a whet run folder with one test set."""
        import pyarrow.parquet as pq

        place = {name: number for number, name in enumerate(self.names)}
        table = pq.read_table(folder / "predictions.parquet", columns=["row", "predicted", "target"])
        rows = table.column("row").to_numpy() - 1
        answers = np.array([place[str(name)] for name in table.column("predicted").to_pylist()])
        found = Answers(rows, answers, self.targets[rows])
        told = [place[str(name)] for name in table.column("target").to_pylist()]
        assert np.array_equal(told, found.targets), "a run's rows are not those of the test file"
        return found


def column(path: Path, name: str) -> list[str]:
    """One column of a CSV or TSV."""
    with path.open(newline="", encoding="utf-8") as file:
        dialect = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix == ".tsv" else {}
        return [row[name] for row in csv.DictReader(file, **dialect)]


def difference(ours: Answers, theirs: Answers) -> Comparison:
    """Ours minus theirs in accuracy on the rows that both answered, with the paired 95% interval."""
    common = np.intersect1d(ours.rows, theirs.rows)
    sides = []
    for side in (ours, theirs):
        chosen = np.flatnonzero(np.isin(side.rows, common))
        none = np.zeros((len(chosen), 0))
        sides.append(
            Predictions("classification", side.rows[chosen], none, side.answers[chosen], (), side.targets[chosen])
        )
    return compare(*sides, metric_named("accuracy", "classification"), name="peer", point=0.01, seed=0)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file with one JSON object a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
