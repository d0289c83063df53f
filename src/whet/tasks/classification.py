"""One of several classes a row: sentiment, intent, topic.

Softmax cross-entropy. A class that training never saw cannot be predicted; such test rows count as wrong.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from whet.data.markers import whole_numbers
from whet.data.rows import Columns, Finding, Rows
from whet.errors import ConfigError, DataError
from whet.modalities.modality import Processor
from whet.numeric import require_numbers
from whet.tasks.divergence import between_classes
from whet.tasks.encode import encode_rows
from whet.tasks.focal import check_gamma, focus
from whet.tasks.growth import grown_labels
from whet.tasks.labels import label_text, natural_order
from whet.tasks.predictions import Kind, Predictions
from whet.tasks.task import Array, Doubt, Examples, Growth, State, Term

MOST_CLASSES = 10_000
FEWEST_GRADES = 5
"""Different whole numbers from which classes may be grades."""


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Single-label classification.

    Args:
        class_weights: "balanced" weighs each class by (rows / classes / rows of the class); "none" weighs rows alike.
        label_smoothing: Share of the target spread evenly over all classes, 0 to below 1.
        focal_gamma: Examples that are answered well count ``(1 - p) ** gamma``, p being the probability of their class;
            0 is plain cross-entropy, 2 the paper's choice (``whet.tasks.focal``). Of gradient steps alone: a solved
            head has none of it, and weights are compared and calibrated by the plain loss, as this one rewards doubt.
    """

    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    kind: ClassVar[Kind] = "classification"
    tempered: ClassVar[bool] = True
    loss_settings: ClassVar[tuple[str, ...]] = ("label_smoothing", "focal_gamma")
    weight_settings: ClassVar[tuple[str, ...]] = ("class_weights",)
    divergence = staticmethod(between_classes)
    balanceable: ClassVar[bool] = True
    contrastable: ClassVar[bool] = True
    baselines: ClassVar[tuple[str, ...]] = ("majority", "frozen-probe", "earlier")
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro-f1", "log-loss", "calibration-error")

    def __post_init__(self) -> None:
        require_numbers(self, "task")
        if self.class_weights not in ("none", "balanced"):
            raise ConfigError(
                f"class_weights cannot be {self.class_weights!r}.",
                where="task.class_weights",
                fix="choose 'none' or 'balanced'",
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(
                f"label_smoothing cannot be {self.label_smoothing!r}.",
                where="task.label_smoothing",
                fix="use a value from 0 to below 1, such as 0.1",
            )
        check_gamma(self.focal_gamma)

    def recognise(self, values: Sequence[Any], columns: int) -> float:
        """Repeated values in one column."""
        if columns != 1 or any(isinstance(value, list) for value in values):
            return 0.0
        return 1.0

    def doubt(self, values: Sequence[Any]) -> Doubt | None:
        """Several whole numbers could be grades, such as stars, or a quantity."""
        numbers = whole_numbers(values)
        different = len(set(numbers))
        if different < FEWEST_GRADES or len(numbers) < 5 * different:
            return None
        message = f"The target holds {different} different whole numbers, which are taken for names of classes."
        return Doubt("info", message, "if they are a quantity, or grades, add --set task=regression")

    def prepare(self, train: Rows, columns: Columns) -> tuple[State, list[Finding]]:
        """The class names in natural order, and how often each occurs."""
        counts: dict[str, int] = {}
        for batch in train.batches(columns.target):
            tally = batch.column(0).value_counts()
            for value, count in zip(tally.field(0).to_pylist(), tally.field(1).to_pylist(), strict=True):
                label = label_text(value)
                counts[label] = counts.get(label, 0) + count
        labels = natural_order(list(counts))
        if not 2 <= len(labels) <= MOST_CLASSES:
            what = f"it has one value only: {labels[0]!r}" if len(labels) == 1 else f"it has {len(labels):,} values"
            raise DataError(
                f"The target cannot be learnt as classes: {what}.",
                where=f"{train.source}, column {columns.target[0]!r}",
                fix=f"name a target with 2 to {MOST_CLASSES:,} classes; for numbers set task.name=regression",
            )
        return self._state(labels, counts), []

    def encode(self, rows: Rows, columns: Columns, processor: Processor, state: State, *, targeted: bool) -> Examples:
        """Rows to examples; with ``targeted`` their class indices too."""
        return encode_rows(rows, columns, processor, self.encode_targets(rows, columns, state) if targeted else None)

    def encode_targets(self, rows: Rows, columns: Columns, state: State) -> Array:
        """(N,) int64 class indices, -1 for a class that training never saw."""
        index = {label: position for position, label in enumerate(state["labels"])}
        parts = []
        for batch in rows.batches(columns.target):
            coded = batch.column(0).dictionary_encode()
            table = np.array([index.get(label_text(value), -1) for value in coded.dictionary.to_pylist()], np.int64)
            parts.append(table[coded.indices.to_numpy(zero_copy_only=False)])
        return np.concatenate(parts) if parts else np.zeros(0, np.int64)

    def outputs(self, state: State) -> int:
        """One logit a class."""
        return len(state["labels"])

    def default_metric(self, targets: Array, state: State) -> str:
        """Accuracy; macro-F1 if the rarest class is under a third of the commonest."""
        counts = [count for count in state["counts"] if count]
        return "macro-f1" if min(counts) * 3 < max(counts) else "accuracy"

    def weights(self, targets: torch.Tensor, shares: torch.Tensor, state: State) -> dict[str, torch.Tensor]:
        """(B,) class weight times row share; nothing for a class that training never saw."""
        weights = shares * (targets >= 0)
        if state["class_weights"] is not None:
            weights = weights * torch.tensor(state["class_weights"], device=targets.device)[targets.clamp(min=0)]
        return {"cross-entropy": weights}

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor, state: State) -> list[Term]:
        """Cross-entropy of logits (B, K) against class indices (B,).

        Validation rows of a class that training never saw (-1) weigh nothing: no head can make their loss finite.
        """
        weights = self.weights(targets, shares, state)["cross-entropy"].to(outputs.dtype)
        each = functional.cross_entropy(
            outputs, targets.clamp(min=0), reduction="none", label_smoothing=self.label_smoothing
        )
        if self.focal_gamma:
            right = functional.log_softmax(outputs, dim=1).gather(1, targets.clamp(min=0).unsqueeze(1)).squeeze(1)
            each = each * focus(right, self.focal_gamma)
        return [Term("cross-entropy", each * weights, weights)]

    def proper(self) -> "Classification":
        """Without the focus and the smoothing."""
        return replace(self, focal_gamma=0.0, label_smoothing=0.0)

    def solvable(self, targets: Array, state: State) -> tuple[Literal["softmax"], torch.Tensor]:
        """Multinomial logistic regression."""
        return "softmax", torch.from_numpy(targets)

    def tune(self, outputs: Array, targets: Array, state: State) -> State:
        """Nothing to tune: the likeliest class is chosen."""
        return state

    def own_unit(self, state: State) -> tuple[float, float, State]:
        """Logits have no unit."""
        return 1.0, 0.0, state

    def grow(self, state: State, earlier: State) -> Growth:
        """Every class of both, in natural order; a class without a training row weighs nothing."""
        known, before = list(state["labels"]), list(earlier["labels"])
        labels = natural_order(list(dict.fromkeys([*known, *before])))
        counts = dict(zip(known, state["counts"], strict=True))
        return grown_labels(self._state(labels, counts), before)

    def decode(self, outputs: Array, row_ids: Array, state: State) -> Predictions:
        """Softmax of (N, K) logits; the likeliest class."""
        logits = outputs.astype(np.float64)
        scores = np.exp(logits - logits.max(axis=1, keepdims=True))
        scores /= scores.sum(axis=1, keepdims=True)
        return Predictions("classification", row_ids, scores, scores.argmax(axis=1), tuple(state["labels"]))

    def _state(self, labels: list[str], counts: Mapping[str, int]) -> State:
        tallies = [counts.get(label, 0) for label in labels]
        share = sum(tallies) / sum(count > 0 for count in tallies)
        weights = [share / count if count else 1.0 for count in tallies] if self.class_weights == "balanced" else None
        return {"labels": labels, "counts": tallies, "class_weights": weights}
