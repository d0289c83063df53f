"""Any number of labels a row: tags, topics, toxicity kinds.

Targets come as a list column, as one string with a separator, or as several 0/1 columns. Each label is a
decision of its own: sigmoid, binary cross-entropy, and a threshold that out-of-fold scores may move.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional

from whet.data.rows import Columns, Finding, Rows
from whet.data.targets import FALSE, SEPARATORS, TRUE, is_label
from whet.errors import DataError
from whet.modalities.modality import Processor
from whet.numeric import require_numbers
from whet.tasks.divergence import between_labels
from whet.tasks.encode import encode_rows
from whet.tasks.focal import check_gamma, focus
from whet.tasks.growth import grown_labels
from whet.tasks.labels import label_text, natural_order
from whet.tasks.predictions import Kind, Predictions
from whet.tasks.task import Array, Doubt, Examples, Growth, State, Term


@dataclass(frozen=True, kw_only=True)
class MultiLabel:
    """Multi-label classification.

    Args:
        focal_gamma: Decisions that are right count ``(1 - p) ** gamma``, p being the probability of what is so; see
            ``Classification``.
    """

    focal_gamma: float = 0.0
    kind: ClassVar[Kind] = "multi-label"
    tempered: ClassVar[bool] = True
    loss_settings: ClassVar[tuple[str, ...]] = ("focal_gamma",)
    weight_settings: ClassVar[tuple[str, ...]] = ()
    divergence = staticmethod(between_labels)
    balanceable: ClassVar[bool] = True
    contrastable: ClassVar[bool] = False
    baselines: ClassVar[tuple[str, ...]] = ("majority", "frozen-probe", "earlier")
    metrics: ClassVar[tuple[str, ...]] = ("micro-f1", "macro-f1", "exact-match", "log-loss", "calibration-error")

    def __post_init__(self) -> None:
        require_numbers(self, "task")
        check_gamma(self.focal_gamma)

    def recognise(self, values: Sequence[Any], columns: int) -> float:
        """Lists, several 0/1 columns, or strings that are clearly joined from few parts."""
        if columns > 1 or any(isinstance(value, list) for value in values):
            return 3.0
        return 2.0 if separator_of([value for value in values if isinstance(value, str)]) else 0.0

    def doubt(self, values: Sequence[Any]) -> Doubt | None:
        """Several labels a row are nothing else."""
        return None

    def prepare(self, train: Rows, columns: Columns) -> tuple[State, list[Finding]]:
        """The label names, how often each occurs, and how they are written."""
        form = {"columns": list(columns.target)} if len(columns.target) > 1 else self._form(train, columns)
        counts: Counter[str] = Counter()
        for batch in train.batches(columns.target):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                counts.update(self._labels(row, form, train, columns))
        labels = list(columns.target) if "columns" in form else natural_order(list(counts))
        usable = [label for label in labels if 0 < counts[label] < len(train)]
        if not usable:
            raise DataError(
                "No label occurs in some rows and is absent from others, so there is nothing to tell apart.",
                where=f"{train.source}, column {', '.join(map(repr, columns.target))}",
                fix="check that the target holds labels (a list, or text with ';', '|' or ',' between labels)",
            )
        state = {"labels": labels, "counts": [counts[label] for label in labels], "form": form}
        return {**state, "thresholds": [0.5] * len(labels)}, []

    def encode(self, rows: Rows, columns: Columns, processor: Processor, state: State, *, targeted: bool) -> Examples:
        """Rows to examples; with ``targeted`` their label vectors too."""
        return encode_rows(rows, columns, processor, self.encode_targets(rows, columns, state) if targeted else None)

    def encode_targets(self, rows: Rows, columns: Columns, state: State) -> Array:
        """(N, K) float32 of 0 and 1; labels that training never saw are left out."""
        index = {label: position for position, label in enumerate(state["labels"])}
        found = np.zeros((len(rows), len(index)), np.float32)
        position = 0
        for batch in rows.batches(columns.target):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                for label in self._labels(row, state["form"], rows, columns):
                    if label in index:
                        found[position, index[label]] = 1.0
                position += 1
        return found

    def outputs(self, state: State) -> int:
        """One logit a label."""
        return len(state["labels"])

    def default_metric(self, targets: Array, state: State) -> str:
        """Micro-F1."""
        return "micro-f1"

    def weights(self, targets: torch.Tensor, shares: torch.Tensor, state: State) -> dict[str, torch.Tensor]:
        """(B,) row share times number of labels: the mean is over decisions."""
        return {"binary-cross-entropy": shares * len(state["labels"])}

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor, state: State) -> list[Term]:
        """Binary cross-entropy of logits (B, K) against 0/1 targets (B, K)."""
        each = functional.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")
        if self.focal_gamma:
            each = each * focus(-each, self.focal_gamma)
        weights = self.weights(targets, shares, state)["binary-cross-entropy"].to(outputs.dtype)
        return [Term("binary-cross-entropy", each.sum(1) * shares.to(outputs.dtype), weights)]

    def proper(self) -> "MultiLabel":
        """Without the focus."""
        return replace(self, focal_gamma=0.0)

    def solvable(self, targets: Array, state: State) -> tuple[Literal["sigmoid"], torch.Tensor]:
        """One logistic regression a label."""
        return "sigmoid", torch.from_numpy(targets)

    def tune(self, outputs: Array, targets: Array, state: State) -> State:
        """Each label's threshold becomes the one with the best F1 on held-out scores."""
        logits = outputs.astype(np.float64)
        found = np.array([best_threshold(logits[:, k], targets[:, k] > 0.5) for k in range(logits.shape[1])])
        tuned = 0.5 * (1.0 + np.tanh(0.5 * found))
        rowless = (
            np.array(state.get("counts", [1] * len(found))) == 0
        )  # nothing is known of it but what an earlier model knew
        return {**state, "thresholds": np.where(rowless, state["thresholds"], tuned).tolist()}

    def own_unit(self, state: State) -> tuple[float, float, State]:
        """Logits have no unit."""
        return 1.0, 0.0, state

    def grow(self, state: State, earlier: State) -> Growth:
        """Every label of both, as the new rows write them; a label without a row keeps its threshold."""
        known, before = list(state["labels"]), list(earlier["labels"])
        more = [label for label in before if label not in known]
        labels = [*known, *more] if "columns" in state["form"] else natural_order([*known, *more])
        counts = dict(zip(known, state["counts"], strict=True))
        decided = dict(zip(before, earlier["thresholds"], strict=True))
        grown = {**state, "labels": labels, "counts": [counts.get(label, 0) for label in labels]}
        return grown_labels({**grown, "thresholds": [decided.get(label, 0.5) for label in labels]}, before)

    def decode(self, outputs: Array, row_ids: Array, state: State) -> Predictions:
        """Sigmoid of (N, K) logits; labels at or above their threshold."""
        scores = 0.5 * (1.0 + np.tanh(0.5 * outputs.astype(np.float64)))
        decided = scores >= np.array(state["thresholds"])
        return Predictions("multi-label", row_ids, scores, decided, tuple(state["labels"]))

    def _form(self, train: Rows, columns: Columns) -> dict[str, Any]:
        sample = next(train.batches(columns.target)).column(0).to_pylist()
        if any(isinstance(value, list) for value in sample):
            return {"list": True}
        texts = [str(value) for value in sample if value is not None]
        commonest = max(SEPARATORS, key=lambda separator: sum(separator in text for text in texts))
        return {"separator": separator_of(texts) or commonest}

    def _labels(self, row: tuple[Any, ...], form: dict[str, Any], rows: Rows, columns: Columns) -> set[str]:
        if "columns" in form:
            return {name for name, value in zip(form["columns"], row, strict=True) if self._is_true(value, name, rows)}
        value = row[0]
        if value is None or isinstance(value, list):
            return {label_text(one) for one in value or [] if is_label(one)}
        text = label_text(value)
        if "list" in form:  # of a file without lists, where a label stands by itself
            return {text} if is_label(value) else set()
        return {part.strip() for part in text.split(form["separator"]) if is_label(part)}

    def _is_true(self, value: Any, column: str, rows: Rows) -> bool:
        text = "" if value is None else label_text(value).strip().lower()
        if text not in TRUE and text not in FALSE:
            raise DataError(
                f"A label column must hold 0 and 1, found {value!r}.",
                where=f"{rows.source}, column {column!r}",
                fix="use 0/1, true/false or yes/no, or name one column that lists the labels",
            )
        return text in TRUE


def best_threshold(logits: Array, wanted: Array) -> float:
    """The threshold on (N,) logits with the best F1; 0 where a label has fewer than 5 positive rows."""
    if wanted.sum() < 5:
        return 0.0
    order = np.argsort(-logits, kind="stable")
    hits = np.cumsum(wanted[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + wanted.sum())
    last = np.append(logits[order][:-1] > logits[order][1:], True)  # a threshold cannot part equal logits
    place = int(np.argmax(np.where(last, f1, -1.0)))
    below = logits[order][place + 1] if place + 1 < len(order) else logits[order][place] - 2.0
    return float(0.5 * (logits[order][place] + below))


def separator_of(values: list[str]) -> str | None:
    """The separator by which a sample of strings is joined from few, repeated parts; None if it is not.

    A comma stands inside many names ("Austin, TX", "Tea, green"), whose parts keep their place; labels do not.
    """
    distinct = set(values)
    for separator in SEPARATORS:
        split = [[part.strip() for part in value.split(separator) if part.strip()] for value in distinct]
        parts = Counter(part for one in split for part in one)
        joined = sum(len(one) > 1 for one in split)
        places = {(part, place) for one in split for place, part in enumerate(one)}
        moving = sum(count > 1 for count in Counter(part for part, _ in places).values())
        if separator == "," and 3 * moving < len(parts):
            continue
        if joined >= 0.2 * len(distinct) and parts and sum(parts.values()) >= 1.5 * len(parts):
            return separator
    return None
