"""The automatic ladder: probe, top blocks, every block; each rung must earn its place.

Rungs are compared on validation rows that stopped nothing, or cross-fitted where those would be too few. The ladder
climbs while the upper 95% bound of the last gain exceeds half a point, and keeps a rung if the lower 80% bound of its
gain is above zero. One that trials showed to gain where rows are so few is kept unless they show, by the same bound,
that it is worse. Which rungs there are, and how many epochs each has, was fixed in the Plan; no clock chooses here.
"""

import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from whet import catalog
from whet.evaluation.compare import gain
from whet.evaluation.metric import Metric, value_of
from whet.learners.fitted import NeuralFitted
from whet.learners.neural import TrainingRows
from whet.plan import Auto, LeftOut, Rung
from whet.report.story import Rung as Told
from whet.report.words import duration, gained, metric_value, plural, times
from whet.resolve import Prepared
from whet.run import RunRows, fit_method, to_learn, unstopped
from whet.rungs import can_choose, stopping_rows, too_few
from whet.search.crossfit import Attempt, Fit, cross_fit, met, nothing, over_sure, says_how_sure, until
from whet.tasks.predictions import Predictions
from whet.tasks.task import Examples
from whet.training.draws import numpy_generator
from whet.training.events import Event, Said, Stepped, Stopped
from whet.training.interrupt import listening

Array = np.ndarray[Any, Any]
CLIMB_POINTS = 0.5
USER = "stopped by the user"


@dataclass(frozen=True, eq=False)
class Climbed:
    """The winner, and what happened on every rung."""

    fitted: NeuralFitted
    rungs: tuple[Told, ...]
    notes: tuple[str, ...]


def climb(prepared: Prepared, rows: RunRows, checkpoints: Path | None) -> Generator[Event, None, Climbed]:
    """Try rung after rung; return the one that earned its place, fitted on all rows if none was held out for it."""
    auto = prepared.plan.method
    assert isinstance(auto, Auto)
    compared = not auto.folds and len(auto.rungs) > 1
    held = parts_of(rows, prepared.plan.seed) if compared else Held(rows.valid, units=rows.valid_units)
    told: list[Told] = []
    best: tuple[Rung, Attempt] | None = None
    stopped = False
    reason: str | None = None
    for number, rung in enumerate(auto.rungs):
        reason = reason or (None if best is None else why_not(auto, told, rows, stopped))
        if reason is None:
            began = time.monotonic()
            folder = None if checkpoints is None else checkpoints / f"rung-{number}"
            with listening() if best else nullcontext(bool) as asked:  # before the first rung nothing could be kept
                earlier: list[float] = []
                fit = heard(try_rung(prepared, rung, rows, held, folder), earlier)
                attempt = yield from unless_asked(fit, asked)
                if attempt is None and best is None:  # a first rung in parts, of which none is whole
                    raise KeyboardInterrupt
                reason = USER if attempt is None else None
                stopped = asked() or (attempt is not None and attempt.interrupted)
        if reason is not None:
            told.append(not_tried(rung, reason))
            yield Said(stage=told[-1].name, message=f"{told[-1].name} is not tried: {reason}.")
            continue
        assert attempt is not None
        spent = Spent(sum(earlier) + time.monotonic() - began, told[0] if told else None)
        before = None if best is None else best[1].answers
        if best is not None and (best[0].epochs or attempt.interrupted):  # trials were of whole fits against the head
            rung = replace(rung, trusted=False)
        told.append(compare_rung(rung, attempt, before, prepared.metric, prepared.plan.seed, spent))
        yield Said(stage=told[-1].name, message=told[-1].why)
        if best is None or told[-1].kept:
            best = (rung, attempt)
    assert best is not None
    told += [not_planned(one) for one in auto.left_out]
    winner, notes, asked_again = yield from fit_winner(prepared, *best, rows, checkpoints)
    winner.interrupted |= stopped or asked_again or reason == USER
    tried = sum(entry.score is not None for entry in told)
    if tried > 1:
        chosen = f"{told[0].rows:,} rows"
        notes.append(
            f"Best of {tried} rungs, chosen on {chosen}, each answered by fits that had not seen it."
            if auto.folds
            else f"Best of {tried} rungs, chosen on {chosen}."
        )
    return Climbed(winner, tuple(told), tuple(notes))


def try_rung(
    prepared: Prepared, rung: Rung, rows: RunRows, held: "Held", folder: Path | None
) -> Generator[Event, None, Attempt | None]:
    """Fit a rung and answer the rows to choose by; None if the user stopped it with nothing to show."""
    assert isinstance(prepared.plan.method, Auto)
    training, folds = replace(prepared.plan.training, epochs=rung.epochs or None), prepared.plan.method.folds
    if folds:
        return (yield from cross_fit(prepared, rung.method, training, rows, folds, folder))
    learning = TrainingRows(rows.train, held.stopping, rows.units)
    if rung.epochs:
        learning = to_learn(replace(rows, valid=held.stopping, valid_units=held.units), rung.method)
    fitted = yield from fit_method(prepared, rung.method, training, learning, folder)
    answers = yield from on_choosing(fitted, held.choosing, held.groups)
    surer = 1.0
    if learning.valid is None and answers.targets is not None and says_how_sure(prepared, rung.method):
        assert rows.train.targets is not None
        surer = over_sure(prepared, [answers.take(np.flatnonzero(met(answers.targets, rows.train.targets)))])
    return Attempt(answers, fitted.trainable, fitted.steps, fitted.collapsed, surer, fitted)


def fit_winner(
    prepared: Prepared, rung: Rung, attempt: Attempt, rows: RunRows, checkpoints: Path | None
) -> Generator[Event, None, tuple[NeuralFitted, list[str], bool]]:
    """The model of the rung that won, what is to be said of it, and whether the user asked to stop meanwhile."""
    training = replace(prepared.plan.training, epochs=rung.epochs or None)
    if attempt.fitted is not None and (rung.epochs or rows.valid is None):
        return as_sure_as_told(attempt.fitted, attempt), [], False
    if rung.epochs:
        folder = None if checkpoints is None else checkpoints / "winner"
        # held-out rows of a method that they cannot stop could only say how sure it may be, and every row has said so
        learning = to_learn(rows, rung.method) if rung.method.stops else unstopped(rows)
        fitted = yield from fit_method(prepared, rung.method, training, learning, folder)
        return as_sure_as_told(fitted, attempt), [], False
    fit = fit_method(prepared, rung.method, training, to_learn(rows, rung.method), None)
    if attempt.fitted is None:
        return (yield from fit), [], False
    with listening() as asked:
        refitted = yield from unless_asked(fit, asked)
        stopped = asked()
    if refitted is None:
        return attempt.fitted, ["Stopped by the user before the head was fitted again with the validation rows."], True
    return refitted, [], stopped


def as_sure_as_told(fitted: NeuralFitted, attempt: Attempt) -> NeuralFitted:
    """The same answers, as sure as rows that no fit had seen say; one that was stopped is not what they speak of."""
    if fitted.features_moved and not fitted.interrupted:
        fitted.working.divide_head(attempt.over_sure)
    return fitted


def unless_asked(events: Generator[Event, None, Fit], asked: Callable[[], bool]) -> Generator[Event, None, Fit | None]:
    """A fit to its end; None if the user asked to stop while it had nothing to keep, before or without steps."""
    descended = False

    def over(event: Event) -> bool:
        nonlocal descended
        descended = descended or isinstance(event, Stepped | Stopped)
        return asked() and not descended

    return until(events, over)


def heard(events: Generator[Event, None, Fit], earlier: list[float]) -> Generator[Event, None, Fit | None]:
    """A fit to its end; seconds of its stages in runs that this one goes on from are added to ``earlier``."""

    def note(event: Event) -> bool:
        if isinstance(event, Stopped):
            earlier.append(event.before)
        return False

    return until(events, note)


@dataclass(frozen=True, eq=False)
class Held:
    """Validation rows to stop by, with (M,) their units, others to choose by, and (N,) the groups of these, if any."""

    stopping: Examples | None
    choosing: Examples | None = None
    groups: Array | None = None
    units: Array | None = None


def parts_of(rows: RunRows, seed: int) -> Held:
    """Validation rows in two: whole units, so that no group and no text is on both sides."""
    valid = rows.valid
    if valid is None:
        return Held(None)
    own = np.arange(valid.rows) if rows.valid_units is None else rows.valid_units
    sizes, unit = np.unique(own, return_counts=True)[1], np.unique(own, return_inverse=True)[1]
    if len(sizes) < 2:
        return Held(valid, units=rows.valid_units)
    order = numpy_generator("choose", seed).permutation(len(sizes))
    reached = np.cumsum(sizes[order])[:-1]  # the last unit is left to choose by
    stops = order[: 1 + int(np.abs(reached - stopping_rows(valid.rows)).argmin())]
    ends, chooses = np.flatnonzero(np.isin(unit, stops)), np.flatnonzero(~np.isin(unit, stops))
    groups = own[chooses] if rows.grouped else None
    units = None if rows.valid_units is None else own[ends]
    return Held(valid.select(ends), valid.select(chooses), groups, units)


def on_choosing(
    fitted: NeuralFitted, choosing: Examples | None, groups: Array | None = None
) -> Generator[Event, None, Predictions]:
    """Answers for the rows to choose by, with their targets and groups."""
    if choosing is None:
        return nothing(fitted.task.kind)
    found = yield from fitted.answer(choosing)
    assert choosing.targets is not None
    return found.with_targets(choosing.targets, groups)


@dataclass(frozen=True)
class Spent:
    """What a rung took, and the first rung, in whose time that is counted; None for the first one itself."""

    seconds: float
    first: Told | None

    @property
    def cost(self) -> float | None:
        return None if self.first is None else self.seconds / max(self.first.seconds, 1e-9)

    def words(self) -> str:
        """'in 3.1 s', 'for 62 s, 20x the time of probe'."""
        if self.first is None or self.cost is None:
            return f"in {duration(self.seconds)}"
        return f"for {duration(self.seconds)}, {times(self.cost)} the time of {self.first.name}"


def compare_rung(
    rung: Rung, attempt: Attempt, before: Predictions | None, metric: Metric, seed: int, spent: Spent
) -> Told:
    """What the report says of one rung, and whether it is kept."""
    name, answers = catalog.name_of("method", rung.method), attempt.answers
    score = value_of(metric, answers) if len(answers) else None
    entry = Told(
        name=name,
        trainable_parameters=attempt.trainable,
        steps=attempt.steps,
        seconds=spent.seconds,
        score=score,
        rows=len(answers),
        cost=spent.cost,
        kept=True,
    )
    if before is None or not len(answers):
        known = "" if score is None else f" {metric_value(metric.name, score)} on {plural(len(answers), 'row')},"
        return replace(entry, why=f"{name}:{known} {spent.words()}; the first rung.")
    found = gain(answers, before, metric, seed)
    point = max(found.point, 1e-12)
    low, high, value = found.low80 / point, found.high95 / point, found.value / point
    if attempt.collapsed:  # a score may still rise where one class is common
        why = f"{name} is not kept: whatever it reads, it answers {attempt.collapsed}."
        return replace(entry, gain=value, gain_low=low, gain_high=high, relative=metric.relative, kept=False, why=why)
    kept = found.low80 > 0
    word = "kept" if kept else "not kept"
    if rung.trusted and not kept and gain(before, answers, metric, seed).low80 <= 0:
        kept, word = True, "kept, for it gained in trials with as few rows, and these do not show that it is worse"
    sizes = [gained(one, metric.relative) for one in (value, low, high)]
    base = f" of the {catalog.title('metric', metric.name)} before" if metric.relative else ""
    sure = f"at least {sizes[1]} with 80%, at most {sizes[2]} with 95% confidence"
    why = f"{name}: {sizes[0]}{base} on {plural(len(answers), 'row')} ({sure}), {spent.words()}; {word}."
    return replace(entry, gain=value, gain_low=low, gain_high=high, relative=metric.relative, kept=kept, why=why)


def why_not(auto: Auto, told: list[Told], rows: RunRows, stopped: bool) -> str | None:
    """The reason not to climb on, or None to climb."""
    if stopped:
        return USER
    valid_rows = 0 if rows.valid is None else rows.valid.rows
    if not auto.folds and not can_choose(valid_rows):  # the rungs were written by hand
        return too_few(rows.train.rows + valid_rows, valid_rows)
    last = told[-1]
    if not last.rows:
        return "every row that could be held out is of one group, so nothing can be chosen by them"
    if last.gain_high is not None and last.gain_high <= CLIMB_POINTS:
        most = gained(last.gain_high, last.relative)
        return f"{last.name} can have gained at most {most}, so more depth is not worth its time"
    return None


def not_tried(rung: Rung, reason: str) -> Told:
    """A rung that was not climbed."""
    name = catalog.name_of("method", rung.method)
    return Told(name=name, trainable_parameters=0, steps=0, seconds=0.0, why=f"Not tried: {reason}.")


def not_planned(one: LeftOut) -> Told:
    """A method that became no rung."""
    why = f"Not tried: {one.why}" + (f"; {one.hint}." if one.hint else ".")
    return Told(name=one.name, trainable_parameters=0, steps=0, seconds=0.0, why=why)
