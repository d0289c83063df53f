"""Every step and every evaluation as a row of ``tracks/log.csv``, for a spreadsheet or a frame. Needs no package."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from whet.atomic import written
from whet.trackers.tracker import Order
from whet.training.events import Evaluated, Event, Fitting, Stepped

NAME = "log.csv"
COLUMNS = (
    *("fit", "method", "stage", "event", "step", "epoch"),
    *("loss", "learning_rate", "valid_loss", "examples", "seconds"),
)
STEP, EVALUATION = "step", "evaluation"


@dataclass(frozen=True)
class CsvLog:
    """One row a step and one an evaluation, written as they happen; solved heads have neither.

    Columns: ``fit`` counts the fits of a run from 1 (``auto`` has one a rung) and ``method`` is what each fitted;
    ``stage``, ``event`` ("step" or "evaluation"), ``step`` and ``epoch`` say when; ``loss`` is the mean of the
    update's examples, ``valid_loss`` that of the validation rows; ``examples`` and ``seconds`` are those of the update.
    """

    def require(self) -> None:
        """Nothing is needed."""

    def open(self, folder: Path) -> "CsvRows":
        return CsvRows(folder / NAME)

    def view(self, folder: Path) -> str:
        return ""

    def account(self, folder: Path) -> None:
        """The curves of a report are made of the events themselves."""


class CsvRows:
    """The file, open for more rows; it is made with the first one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None
        self._fit, self._method = 0, ""
        self._last: dict[tuple[str, str], Order] = {}
        if path.exists():
            self._keep(lambda _: True)  # without the torn row of a killed run
            for row in whole_rows(path):
                self._last[row[0], row[2]] = order_of(row)

    def __call__(self, event: Event) -> None:
        if isinstance(event, Fitting):
            self._fit, self._method = self._fit + 1, event.stage
        elif isinstance(event, Stepped):
            rest = (event.epoch, event.loss, event.learning_rate, "", event.examples, event.seconds)
            self._write(event, STEP, event.step, rest)
        elif isinstance(event, Evaluated):
            self._write(event, EVALUATION, event.step, ("", "", "", event.loss, "", ""))

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, event: Event, kind: str, step: int, rest: tuple[object, ...]) -> None:
        row = [str(value) for value in (self._fit, self._method, event.stage, kind, step, *rest)]
        place, order = (row[0], event.stage), order_of(row)
        if order <= self._last.get(place, (-1, False)):  # the run went on from before: what followed did not happen
            self.close()
            self._keep(lambda old: (old[0], old[2]) != place or order_of(old) < order)
        self._last[place] = order
        if self._file is None:
            new = not self.path.exists()
            self._file = self.path.open("a", encoding="utf-8", newline="")
            if new:
                csv.writer(self._file).writerow(COLUMNS)
        csv.writer(self._file).writerow(row)
        self._file.flush()

    def _keep(self, wanted: Callable[[list[str]], bool]) -> None:
        """Write the file anew with some of its rows."""
        with written(self.path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(row for row in whole_rows(self.path) if wanted(row))


def whole_rows(path: Path) -> Iterator[list[str]]:
    """The rows of a log without its header and without what a killed run wrote by halves."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = (line for line in file if line.endswith("\n"))
        yield from (row for row in csv.reader(lines) if len(row) == len(COLUMNS) and row[4].isdigit())


def order_of(row: list[str]) -> Order:
    """Where a row stands in its stage."""
    return int(row[4]), row[3] == EVALUATION
