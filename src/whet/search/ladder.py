"""The automatic ladder: probe, top blocks, every block; each rung must earn its place.

Rungs are compared on validation rows that stopped nothing. The ladder climbs while the upper 95% bound of the last
gain exceeds half a point, and keeps a rung if the lower 80% bound of its gain is above zero. Which rungs there are,
and how many epochs each has, was fixed in the Plan; no clock chooses here.
"""

import time
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from whet import catalog
from whet.evaluation.compare import gain
from whet.evaluation.metric import Metric, value_of
from whet.learners.fitted import NeuralFitted
from whet.learners.neural import TrainingRows
from whet.plan import Auto, LeftOut, Rung
from whet.report.story import Rung as Told
from whet.report.words import gained
from whet.resolve import Prepared
from whet.run import RunRows, fit_method
from whet.rungs import can_choose, stopping_rows, too_few
from whet.tasks.predictions import Predictions
from whet.tasks.task import Examples, join_examples
from whet.training.draws import numpy_generator
from whet.training.events import Event, Said, Stepped, Stopped
from whet.training.interrupt import listening

CLIMB_POINTS = 0.5
USER = "stopped by the user"


@dataclass(frozen=True, eq=False)
class Climbed:
    """The winner, and what happened on every rung."""

    fitted: NeuralFitted
    rungs: tuple[Told, ...]
    notes: tuple[str, ...]


def climb(prepared: Prepared, rows: RunRows, checkpoints: Path | None) -> Generator[Event, None, Climbed]:
    """Fit rung after rung; return the one that earned its place, refitted on all rows if that is a solved head."""
    auto = prepared.plan.method
    assert isinstance(auto, Auto)
    metric = prepared.metric
    several = len(auto.rungs) > 1
    stopping, choosing = parts_of(rows.valid, prepared.plan.seed) if several else (rows.valid, None)
    told: list[Told] = []
    best: tuple[Rung, NeuralFitted, Predictions] | None = None
    stopped = False
    reason: str | None = None
    for number, rung in enumerate(auto.rungs):
        reason = reason or (None if best is None else why_not(told, rows.train.rows, rows.valid, stopped))
        if reason is not None:
            told.append(not_tried(rung, reason))
            yield Said(stage=told[-1].name, message=f"{told[-1].name} is not tried: {reason}.")
            continue
        began = time.monotonic()
        folder = None if checkpoints is None else checkpoints / f"rung-{number}"
        training = replace(prepared.plan.training, epochs=rung.epochs or None)
        with listening() if best else nullcontext(bool) as asked:  # before the first rung there is nothing to keep
            fitted = yield from unless_asked(
                fit_method(prepared, rung.method, training, TrainingRows(rows.train, stopping, rows.units), folder),
                asked,
            )
            if fitted is None:
                reason = USER
                told.append(not_tried(rung, reason))
                yield Said(stage=told[-1].name, message=f"{told[-1].name} is not tried: {reason}.")
                continue
            answers = yield from on_choosing(fitted, choosing)
            entry = compare_rung(rung, fitted, answers, None if best is None else best[2], metric, prepared.plan.seed)
            stopped = fitted.interrupted or asked()
        told.append(replace(entry, seconds=time.monotonic() - began))
        yield Said(stage=entry.name, message=entry.why)
        if best is None or entry.kept:
            best = (rung, fitted, answers)
    assert best is not None
    told += [not_planned(one) for one in auto.left_out]
    notes: list[str] = []
    winner = best[1]
    if not best[0].epochs and rows.valid is not None:
        everything = join_examples(rows.train, rows.valid)
        units = (
            None if rows.units is None or rows.valid_units is None else np.concatenate([rows.units, rows.valid_units])
        )
        with listening() as asked:
            whole = TrainingRows(everything, None, units)
            refit = fit_method(prepared, best[0].method, prepared.plan.training, whole, None)
            refitted = yield from unless_asked(refit, asked)
            stopped = stopped or asked()
        if refitted is None:
            notes.append("Stopped by the user before the head was fitted again with the validation rows.")
        winner = refitted or winner
    winner.interrupted |= stopped or reason == USER
    tried = sum(entry.score is not None for entry in told)
    if choosing is not None and tried > 1:
        notes.append(f"Best of {tried} rungs, chosen on {choosing.rows:,} rows.")
    return Climbed(winner, tuple(told), tuple(notes))


def unless_asked(
    events: Generator[Event, None, NeuralFitted], asked: Callable[[], bool]
) -> Generator[Event, None, NeuralFitted | None]:
    """A fit to its end; None if the user asked to stop while it had nothing to keep, before or without steps."""
    descended = False
    while True:
        try:
            event = next(events)
        except StopIteration as stop:
            fitted: NeuralFitted = stop.value
            return fitted
        yield event
        descended = descended or isinstance(event, Stepped | Stopped)
        if asked() and not descended:
            events.close()
            return None


def parts_of(valid: Examples | None, seed: int) -> tuple[Examples | None, Examples | None]:
    """Validation rows to stop by, and others to choose by."""
    if valid is None or valid.rows < 2:
        return valid, None
    order = numpy_generator("choose", seed).permutation(valid.rows)
    stopping = stopping_rows(valid.rows)
    return valid.select(np.sort(order[:stopping])), valid.select(np.sort(order[stopping:]))


def on_choosing(fitted: NeuralFitted, choosing: Examples | None) -> Generator[Event, None, Predictions]:
    """Answers for the rows to choose by, with their targets."""
    if choosing is None:
        empty = np.zeros(0, np.int64)
        return Predictions(fitted.task.kind, empty, np.zeros((0, 1)), empty)
    found = yield from fitted.answer(choosing)
    assert choosing.targets is not None
    return found.with_targets(choosing.targets)


def compare_rung(
    rung: Rung, fitted: NeuralFitted, answers: Predictions, before: Predictions | None, metric: Metric, seed: int
) -> Told:
    """What the report says of one rung, and whether it is kept."""
    name = catalog.name_of("method", rung.method)
    score = value_of(metric, answers) if len(answers) else None
    entry = Told(
        name=name, trainable_parameters=fitted.trainable, steps=fitted.steps, seconds=0.0, score=score, kept=True
    )
    if before is None or not len(answers):
        return replace(entry, why=f"{name} is the first rung.")
    found = gain(answers, before, metric, seed)
    point = max(found.point, 1e-12)
    low, high, value = found.low80 / point, found.high95 / point, found.value / point
    if fitted.collapsed:  # a score may still rise where one class is common
        why = f"{name} is not kept: whatever it reads, it answers {fitted.collapsed}."
        return replace(entry, gain=value, gain_low=low, gain_high=high, relative=metric.relative, kept=False, why=why)
    kept = found.low80 > 0
    word = "kept" if kept else "not kept"
    sizes = [gained(one, metric.relative) for one in (value, low, high)]
    base = f" of the {catalog.title('metric', metric.name)} before" if metric.relative else ""
    why = "{} is {}: {}{} on {:,} rows, at least {} (80%), at most {} (95%).".format(
        name, word, sizes[0], base, len(answers), *sizes[1:]
    )
    return replace(entry, gain=value, gain_low=low, gain_high=high, relative=metric.relative, kept=kept, why=why)


def why_not(told: list[Told], train_rows: int, valid: Examples | None, stopped: bool) -> str | None:
    """The reason not to climb on, or None to climb."""
    if stopped:
        return USER
    valid_rows = 0 if valid is None else valid.rows
    if not can_choose(valid_rows):  # the rungs were written by hand
        return too_few(train_rows + valid_rows, valid_rows)
    last = told[-1]
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
