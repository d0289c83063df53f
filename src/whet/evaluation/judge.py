"""How good is it, is it better than cheaper things, and how sure is that? Everything about one test set.

The only code that reads test targets; it fits nothing. Every learner, the model as well as a baseline, comes as
``Predictions`` for the same rows, with targets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from whet import catalog
from whet.evaluation.calibration import reliability
from whet.evaluation.classification import rows_right
from whet.evaluation.compare import compare, point_of, units_of
from whet.evaluation.intervals import Resamples, error_interval, ordered, share_interval, wilson
from whet.evaluation.metric import Array, Metric, targets_of, value_of
from whet.evaluation.per_class import class_scores
from whet.evaluation.records import Judgement, Score
from whet.evaluation.regression import errors
from whet.evaluation.verdict import baseline_title, counted, kept_verdict, verdict_of
from whet.tasks.predictions import Predictions

WORST_ROWS = 20
FEW_ROWS = 100
FEW_GROUPS = 20
CONFUSION_CLASSES = 500  # a larger table is no longer read, and it grows with the square
IDENTICAL = 1e-6


def judge(
    model: Predictions,
    baselines: Mapping[str, Predictions],
    *,
    test: str,
    metric: Metric,
    also: Sequence[Metric] = (),
    seed: int,
    notes: Sequence[str] = (),
    keeps: str | None = None,
    unit: str = "group",
) -> Judgement:
    """Scores with 95% intervals, paired comparisons by ``metric``, and the verdict.

    Args:
        model: The model's answers, with targets, and with units where rows are not independent.
        baselines: Name to answers for the same rows; units and targets are taken from the model's.
        test: How the test set is called.
        metric: What decides. ``also`` are shown beside it, where the rows are enough for them.
        seed: The draws depend on it, on nothing else that is random.
        notes: Sentences from the caller that a reader must know; the judge's own follow.
        keeps: The baseline that the verdict is about; the question then is whether anything of it was lost.
        unit: What a unit is, where there are such: "group", or the noun of an input that is repeated.
    """
    assert len(model) > 0, "judge needs at least one row"
    model = ordered(model)
    resamples = Resamples(model, seed, purpose="judge")
    others = {name: _aligned(baseline, model) for name, baseline in baselines.items()}
    dropped = [name for name, other in others.items() if identical(model, other)]
    rivals = {name: other for name, other in others.items() if name not in dropped}
    beside = [other for other in also if other.name != metric.name]
    metrics = [metric, *(other for other in beside if len(model) >= other.fewest)]
    hidden = [
        f"The {catalog.title('metric', other.name)} is not shown: it needs {other.fewest} test rows."
        for other in beside
        if other not in metrics
    ]
    point = point_of(metric, [value_of(metric, rival) for rival in rivals.values()])
    comparisons = tuple(
        compare(model, rival, metric, name=name, point=point, seed=seed, resamples=resamples)
        for name, rival in rivals.items()
    )
    units, unit = units_of(model), "row" if model.units is None else unit
    never = _one_class(model) if keeps is None else ""
    if never:
        comparisons = tuple(replace(found, rows_needed=None) for found in comparisons)
    return Judgement(
        test=test,
        rows=len(model),
        metric=metric.name,
        labels=model.labels,
        scores={
            name: tuple(score(each, learner, resamples) for each in metrics)
            for name, learner in {"model": model, **others}.items()
        },
        per_class=class_scores(model, resamples),
        confusion=_confusion(model),
        calibration=() if model.kind == "regression" else reliability(model),
        comparisons=comparisons,
        worst=_worst(model),
        dropped=tuple(f"{baseline_title(name)}: its answers are the model's own on every row." for name in dropped),
        notes=(*notes, *_notes(model, resamples, unit), *hidden),
        verdict=verdict_of(comparisons, metric, units, dropped, unit=unit, never=never)
        if keeps is None
        else kept_verdict(comparisons, metric, units, keeps, unit=unit),
    )


def score(metric: Metric, predictions: Predictions, resamples: Resamples) -> Score:
    """One metric with its 95% interval: Wilson for a share of ungrouped rows, else the bootstrap."""
    value = value_of(metric, predictions)
    if metric.proportion and not resamples.grouped:
        interval = wilson(value * len(predictions), len(predictions))
        return Score(metric.name, value, *interval, "wilson", metric.higher_is_better)
    drawn, units, degrees = resamples.values(metric, predictions), resamples.units, resamples.degrees
    if metric.higher_is_better and metric.bounds == (0.0, 1.0):
        interval = share_interval(value, drawn, units=units, degrees=degrees)
    else:
        interval = error_interval(value, drawn, units=units, degrees=degrees, bounds=metric.bounds)
    return Score(metric.name, value, *interval, "bootstrap", metric.higher_is_better)


def identical(model: Predictions, baseline: Predictions) -> bool:
    """Every decision is the same and every score within 1e-6 (numbers: 1e-6 of the largest)."""
    scale = max(1e-300, float(np.abs(model.scores).max())) if model.kind == "regression" else 1.0
    if model.kind != "regression" and not np.array_equal(model.decided, baseline.decided):
        return False
    return bool(np.all(np.abs(model.scores - baseline.scores) <= IDENTICAL * scale))


def _aligned(baseline: Predictions, model: Predictions) -> Predictions:
    """The baseline's answers in the model's order, judged by the same targets and units."""
    baseline = ordered(baseline)
    assert np.array_equal(baseline.row_ids, model.row_ids), "every learner must answer the same rows"
    assert baseline.kind == model.kind, "every learner must answer in the same kind"
    assert baseline.labels == model.labels, "every learner must answer with the same labels"
    return replace(baseline, targets=targets_of(model), units=model.units)


def _one_class(predictions: Predictions) -> str:
    """Why more rows like these settle nothing: they are all of one class, or of none that is known; "" otherwise."""
    if predictions.kind != "classification":
        return ""
    targets = targets_of(predictions)
    known = np.unique(targets[targets >= 0])
    if len(known) > 1 or (len(known) == 1 and np.any(targets < 0)):
        return ""
    only = "of no class that training saw" if not len(known) else f"of one class, {predictions.labels[known[0]]!r}"
    return f"All test rows are {only}: more like them cannot show how well classes are told apart."


def _confusion(predictions: Predictions) -> tuple[tuple[int, ...], ...]:
    """Targets by decisions; rows whose class training never saw are in no row of it. () above 500 classes."""
    classes = len(predictions.labels)
    if predictions.kind != "classification" or classes > CONFUSION_CLASSES:
        return ()
    targets = targets_of(predictions)
    seen = targets >= 0
    flat = np.bincount(targets[seen] * classes + predictions.decided[seen], minlength=classes * classes)
    return tuple(tuple(row) for row in flat.reshape(classes, classes).tolist())


def _worst(predictions: Predictions) -> tuple[int, ...]:
    """Row ids of the surest wrong answers, or of the largest errors, worst first."""
    if predictions.kind == "regression":
        size = np.abs(errors(predictions))
        wrong = size > 0
    else:
        wrong = ~rows_right(predictions)
        size = _sureness(predictions)
    order = np.argsort(-np.where(wrong, size, -np.inf), kind="stable")[: min(WORST_ROWS, int(wrong.sum()))]
    return tuple(int(row) for row in predictions.row_ids[order])


def _sureness(predictions: Predictions) -> Array:
    """(N,) probability of the decided class; multi-label: the largest gap between a probability and the truth."""
    if predictions.kind == "multi-label":
        targets = targets_of(predictions)
        gap = np.where(targets != predictions.decided, np.abs(predictions.scores - targets), 0.0)
        return np.asarray(gap.max(axis=1))
    return np.take_along_axis(predictions.scores, predictions.decided[:, None], axis=1)[:, 0]


def _notes(predictions: Predictions, resamples: Resamples, unit: str) -> list[str]:
    """What a reader of the numbers must know."""
    notes, rows = [], len(predictions)
    if resamples.grouped:
        notes.append(
            f"The {rows:,} test rows belong to {counted(resamples.units, 'group')}; rows of one group are not "
            "independent, so intervals come from drawing whole groups."
            if unit == "group"
            else f"The {rows:,} test rows hold only {counted(resamples.units, f'different {unit}')}; rows of equal "
            f"{unit}s are not independent, so intervals come from drawing them together."
        )
        if resamples.units < FEW_GROUPS:
            notes.append(f"So few {unit}s ({resamples.units:,}) make intervals rough.")
    if rows < FEW_ROWS:
        few = f"{counted(rows, 'test row')} {'is' if rows == 1 else 'are'} few"
        notes.append(f"{few}: intervals are wide, and small differences cannot show.")
    if predictions.kind == "classification":
        notes.extend(_class_notes(predictions))
    return notes


def _class_notes(predictions: Predictions) -> list[str]:
    targets, known = targets_of(predictions), len(predictions.labels)
    notes, unseen = [], int((targets < 0).sum())
    if unseen:
        have = "has" if unseen == 1 else "have"
        notes.append(f"{counted(unseen, 'test row')} {have} a class that training never saw; each counts as wrong.")
    absent = known - len(np.unique(targets[targets >= 0]))
    if absent:
        have = "has" if absent == 1 else "have"
        notes.append(
            f"{absent:,} of the {counted(known, 'class', 'classes')} that the model knows {have} no test row, so "
            "nothing is known there."
        )
    return notes
