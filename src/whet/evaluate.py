"""A packaged model judged again, on rows that it has not seen."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from whet import catalog
from whet.checking import past_rows
from whet.data.clean import clean
from whet.data.fingerprints import group_codes, input_hashes, judged_units
from whet.data.markers import are_numbers, is_marker, markers_missing
from whet.data.read import Sources, read_table
from whet.data.rows import Columns, Rows
from whet.data.split import unseen_classes
from whet.data.targets import require_lists
from whet.deploy.predictor import Predictor
from whet.earlier import Learnt, find_run, learnt_from
from whet.errors import ConfigError, WhetError
from whet.evaluation.judge import judge
from whet.evaluation.metric import metric_named
from whet.evaluation.records import Judgement
from whet.folder import PLAN
from whet.plan import Plan
from whet.recognise import require_single


def evaluate_rows(
    folder: Path, source: Any, *, metric: str | None, seed: int, encoding: str | None = None
) -> Judgement:
    """Scores with intervals on new rows; no baselines are refitted, so there is no comparison.

    Raises:
        DataError: the rows lack the model's columns or targets.
    """
    predictor = Predictor.load(folder)
    plan = plan_of_run(folder)
    rows, read = read_table(source, encoding=encoding)
    group = plan.data.group if plan is not None and plan.data.group in rows.names else None
    columns = replace(predictor.columns, group=group)
    task, state = predictor.task, predictor.state
    several = task.kind == "multi-label"
    sources = Sources(rows, None, {}, ())
    numbers = task.kind == "classification" and are_numbers(predictor.labels)
    numbers = numbers and not any(map(is_marker, predictor.labels))  # which an estimator's classes may be
    if set(columns.target) <= set(rows.names):
        require_single(task, rows, columns)
        sources = markers_missing(sources, columns) if task.kind == "regression" or numbers else sources
    cleaned = clean(sources, columns, several=several)
    rows = cleaned.train
    name = metric or (None if plan is None else plan.evaluation.metric)
    notes = [finding.message for finding in (*read, *cleaned.findings)]
    if task.kind != "regression":
        separator = state["form"].get("separator") if several else None
        if several and "list" in state["form"]:
            require_lists(rows, columns, set(predictor.labels))
        unseen = unseen_classes(rows.source, rows, columns, separator, set(predictor.labels))
    if several:  # the judge speaks of classes itself
        notes += [finding.message for finding in unseen]
    if name is None or (metric is None and name not in catalog.members("metric")):
        if name is not None:
            notes.append(f"The run was judged by {name}, a function that is not saved; the task's own metric is used.")
        name = task.default_metric(np.zeros(0), state)
    targets = task.encode_targets(rows, columns, state)
    units, unit = judged_units(rows, columns, group_codes(rows, columns) if group else None)
    answers = predictor.answer(rows).with_targets(targets, units)
    notes += [*seen_before(rows, columns, folder), "Baselines are not fitted again, so nothing is compared here."]
    also = [metric_named(other, task.kind) for other in task.metrics if other != name]
    named = metric_named(name, task.kind)
    return judge(answers, {}, test=rows.source, metric=named, also=also, seed=seed, notes=notes, unit=unit)


def plan_of_run(folder: Path) -> Plan | None:
    """The plan of a run; None where there is none, or it cannot be read: a model can be judged without."""
    try:
        return Plan.read(folder / PLAN)
    except ConfigError:
        return None


def seen_before(rows: Rows, columns: Columns, folder: Path) -> list[str]:
    """A warning if the model learnt from rows like these, or a word that this cannot be told."""
    hashes = input_hashes(rows, columns)
    try:
        run = find_run(folder)
        if run is None:
            return []
        with TemporaryDirectory(prefix="whet-") as scratch:
            past = past_rows(run, None, Path(scratch))
            chain = [Learnt(run.name, learnt_from(past.split, past.columns)), *past.chain]
    except WhetError as error:
        return [f"Whether the model learnt from these rows cannot be told. {error.what}"]
    seen = [(one.run, int(np.isin(hashes, one.hashes).sum())) for one in chain]
    gaps = ["Whether a run before it learnt from these rows cannot be told: its rows are gone."] if past.gaps else []
    return gaps + [
        f"{count:,} of {len(rows):,} rows have the same input as a row that the run {name} learnt from: the score is "
        "too good to be true."
        for name, count in seen
        if count
    ]
