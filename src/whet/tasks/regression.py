"""One number a row: a score, a price, a severity.

Squared error on the standardised target; answers come back in the target's own unit.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from whet.data.markers import is_marker, whole_numbers
from whet.data.rows import Columns, Finding, Rows
from whet.errors import DataError
from whet.modalities.modality import Processor
from whet.tasks.divergence import between_numbers
from whet.tasks.encode import encode_rows
from whet.tasks.predictions import Kind, Predictions
from whet.tasks.task import Array, Doubt, Examples, Growth, State, Term

MOST_CLASS_NUMBERS = 200
"""Different whole numbers up to which they may be names of classes."""
FARTHEST_MEAN = 1e3
"""A mean, in spreads, beyond which float32 weights in the target's own unit would round its answers."""
FEWEST_VALUES = 20
"""A column with no more different values than this is taken for classes, unless the plan says otherwise."""


@dataclass(frozen=True, kw_only=True)
class Regression:
    """Regression of one number."""

    kind: ClassVar[Kind] = "regression"
    tempered: ClassVar[bool] = False
    loss_settings: ClassVar[tuple[str, ...]] = ()
    weight_settings: ClassVar[tuple[str, ...]] = ()
    divergence = staticmethod(between_numbers)
    balanceable: ClassVar[bool] = False
    contrastable: ClassVar[bool] = False
    baselines: ClassVar[tuple[str, ...]] = ("majority", "frozen-probe", "earlier")
    metrics: ClassVar[tuple[str, ...]] = ("rmse", "mae", "r2", "spearman")

    def recognise(self, values: Sequence[Any], columns: int) -> float:
        """One column of numbers, many of them different or not whole; infinite ones are refused later, by their row."""
        given = [value for value in values if value is not None and not is_marker(value)]
        numbers = [number for value in given if (number := number_of(value)) is not None]
        if columns != 1 or not numbers or any(number_of(value) is None and not infinite(value) for value in given):
            return 0.0
        distinct = len(set(numbers))
        return 2.0 if distinct > FEWEST_VALUES and distinct > 0.02 * len(numbers) else 0.0

    def doubt(self, values: Sequence[Any]) -> Doubt | None:
        """Whole numbers, few and often repeated, could be names of classes."""
        numbers = whole_numbers(values)
        different = len(set(numbers))
        if not 0 < different <= MOST_CLASS_NUMBERS or len(numbers) < 5 * different:
            return None
        message = f"The target holds {different} different whole numbers, which are taken for a quantity."
        return Doubt("warning", message, "if they are names of classes, add --set task=classification")

    def prepare(self, train: Rows, columns: Columns) -> tuple[State, list[Finding]]:
        """Mean and spread of the target, by which it is standardised."""
        targets = self.encode_targets(train, columns, {})
        if not len(targets) or targets.min() == targets.max():
            raise DataError(
                f"Every training row has the same target, {targets[0] if len(targets) else 'none'}.",
                where=f"{train.source}, column {columns.target[0]!r}",
                fix="name a target that varies",
            )
        state = {"labels": [], "mean": float(targets.mean()), "scale": float(targets.std())}
        return state, []

    def encode(self, rows: Rows, columns: Columns, processor: Processor, state: State, *, targeted: bool) -> Examples:
        """Rows to examples; with ``targeted`` their numbers too."""
        return encode_rows(rows, columns, processor, self.encode_targets(rows, columns, state) if targeted else None)

    def encode_targets(self, rows: Rows, columns: Columns, state: State) -> Array:
        """(N,) float64 in the target's own unit: float32 would make large numbers alike."""
        found = np.empty(len(rows), np.float64)
        position = 0
        for batch in rows.batches(columns.target):
            for value in batch.column(0).to_pylist():
                number = number_of(value)
                if number is None:
                    raise DataError(
                        f"The target is not a {'finite ' if infinite(value) else ''}number: {value!r}.",
                        where=rows.place(int(rows.ids[position]), columns.target[0]),
                        fix="correct the row, or leave the target empty to have it left out"
                        + ("" if state else "; names of classes need --set task.name=classification"),
                    )
                found[position] = number
                position += 1
        return found

    def outputs(self, state: State) -> int:
        """One value."""
        return 1

    def default_metric(self, targets: Array, state: State) -> str:
        """Root mean squared error."""
        return "rmse"

    def weights(self, targets: torch.Tensor, shares: torch.Tensor, state: State) -> dict[str, torch.Tensor]:
        """(B,) row share."""
        return {"squared-error": shares}

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor, state: State) -> list[Term]:
        """Squared error of (B, 1) outputs against standardised targets (B,)."""
        wanted = ((targets - state["mean"]) / state["scale"]).to(outputs.dtype)
        weights = shares.to(outputs.dtype)
        return [Term("squared-error", (outputs.squeeze(1) - wanted) ** 2 * weights, weights)]

    def proper(self) -> "Regression":
        """Itself."""
        return self

    def solvable(self, targets: Array, state: State) -> tuple[Literal["identity"], torch.Tensor]:
        """Ridge regression of the standardised target."""
        wanted = (targets - state["mean"]) / state["scale"]
        return "identity", torch.from_numpy(wanted.astype(np.float32)).unsqueeze(1)

    def tune(self, outputs: Array, targets: Array, state: State) -> State:
        """Nothing to tune."""
        return state

    def own_unit(self, state: State) -> tuple[float, float, State]:
        """Spread and mean of the target, unless it lies so far from zero that float32 would lose its differences."""
        if abs(state["mean"]) > FARTHEST_MEAN * state["scale"]:
            return 1.0, 0.0, state
        return state["scale"], state["mean"], {**state, "mean": 0.0, "scale": 1.0}

    def grow(self, state: State, earlier: State) -> Growth:
        """The new rows' mean and spread; outputs in the earlier unit are turned into it."""
        matrix = np.array([[earlier["scale"] / state["scale"]]])
        return Growth(state, matrix, np.array([(earlier["mean"] - state["mean"]) / state["scale"]]))

    def decode(self, outputs: Array, row_ids: Array, state: State) -> Predictions:
        """(N, 1) standardised outputs to the target's own unit."""
        values = outputs.astype(np.float64) * state["scale"] + state["mean"]
        return Predictions("regression", row_ids, values, values[:, 0])


def infinite(value: Any) -> bool:
    """Whether a value reads as an infinite number."""
    try:
        return not isinstance(value, bool) and math.isinf(float(value))
    except (TypeError, ValueError, OverflowError):
        return False


def number_of(value: Any) -> float | None:
    """A finite number, or None; text is read with a point, commas between thousands are not guessed."""
    if isinstance(value, bool) or value is None or (isinstance(value, str) and "_" in value):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
