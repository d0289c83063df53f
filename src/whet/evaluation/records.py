"""What judge found, as frozen records that a report, a plan file or a program can read.

Everything here becomes JSON with ``dataclasses.asdict``; nothing here computes.
"""

from dataclasses import dataclass
from typing import Literal

Answer = Literal["better", "not better", "cannot tell", "not worse", "forgets"]
"""The last two are said of an earlier run's test rows."""


@dataclass(frozen=True)
class Score:
    """One metric of one learner on one test set, with its 95% interval."""

    metric: str
    value: float
    low: float
    high: float
    interval: Literal["wilson", "bootstrap"]
    higher_is_better: bool


@dataclass(frozen=True)
class ClassScore:
    """Precision, recall and F1 of one class or label, each with its 95% interval; ``rows`` is its support."""

    label: str
    rows: int
    precision: Score
    recall: Score
    f1: Score


@dataclass(frozen=True)
class Comparison:
    """The model against one baseline on the same test rows.

    ``difference`` is model minus baseline, turned so that more is better, with its paired 95% interval.
    ``point`` is what one point means here: 0.01, or, where the metric is ``relative``, 1% of the best baseline's error.
    ``model_only_right`` and ``baseline_only_right`` count rows (whole rows for multi-label; 0 for regression);
    ``mcnemar_p`` is the exact two-sided p of those counts, shown and never deciding, None for regression.
    ``rows_needed`` is the number of test rows that would settle a difference of one point.
    """

    baseline: str
    metric: str
    difference: float
    low: float
    high: float
    point: float
    model_only_right: int
    baseline_only_right: int
    mcnemar_p: float | None
    answer: Answer
    rows_needed: int | None
    relative: bool = False


@dataclass(frozen=True)
class Verdict:
    """The answer to "is it better?", in one word and one sentence.

    ``against`` names the baseline that decided (for "not better" and "cannot tell"), None for "better".
    ``sentence`` reads on its own, for example
    "Better: 2.1 points of accuracy above the best baseline, tfidf (95% interval 0.9 to 3.3)."
    """

    answer: Answer
    metric: str
    against: str | None
    sentence: str
    rows_needed: int | None


@dataclass(frozen=True)
class Judgement:
    """Everything judge says about one test set.

    ``scores`` maps a learner ("model", then each baseline) to its scores, the chosen metric first.
    ``confusion`` (classification): rows are targets, columns are decisions, in the order of ``labels``.
    ``calibration`` (classification, multi-label): (mean confidence, share right, rows) a bin.
    ``worst`` lists row ids whose prediction was most confidently wrong (regression: largest errors), worst first.
    ``dropped`` names baselines whose answers are identical to the model's, with the reason.
    ``notes`` are sentences a reader must know (few rows, unseen classes, groups as units ...).
    """

    test: str
    rows: int
    metric: str
    labels: tuple[str, ...]
    scores: dict[str, tuple[Score, ...]]
    per_class: tuple[ClassScore, ...]
    confusion: tuple[tuple[int, ...], ...]
    calibration: tuple[tuple[float, float, int], ...]
    comparisons: tuple[Comparison, ...]
    worst: tuple[int, ...]
    dropped: tuple[str, ...]
    notes: tuple[str, ...]
    verdict: Verdict
