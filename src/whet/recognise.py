"""Which columns are read, as what kind of input, and what is predicted? Recognised by the rows where nobody says so."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from whet import catalog
from whet.data.columns import ColumnSummary, require_columns
from whet.data.rows import Columns, Finding, Rows, spread
from whet.data.tables import is_list, stated_target
from whet.data.times import parse_times
from whet.earlier import EarlierRun
from whet.errors import ConfigError, DataError, closest
from whet.plan import member_of
from whet.tasks.task import Task
from whet.wanted import names_of

SAMPLE_ROWS = 2000
"""Rows, evenly spread, from which the task is recognised."""
MOST_INPUTS = 2
SHARE_OF_BEST = 0.25
LEAST_LENGTH = 20
"""A column that suits a quarter as well as the chosen input, and is as long as a short sentence, may be one too."""


def find_columns(
    rows: Rows, summaries: list[ColumnSummary], data: Mapping[str, Any], modality: Any, missing: str | None = None
) -> Columns:
    """The columns as named; the input column and what it is read as are inferred where they were not.

    Args:
        summaries: Of all columns (``describe_columns``).
        modality: Its name, a mapping of name and settings, or itself; None to find out.
        missing: What was named to start from, and is no folder.

    Raises:
        DataError: a named column is not there, or no column is like an input.
        ConfigError: no target is named, or more inputs than a pair.
    """
    target = names_of(data.get("target") or stated_target(rows.table.schema))
    if not target:
        unknown = f"; there is no run {missing!r} that would know it" if missing else ""
        raise ConfigError(
            "No target was named.",
            where=rows.source,
            fix=f"name the column to predict, for example --target {likely_target(summaries)}{unknown}",
        )
    inputs = names_of(data.get("inputs"))
    if len(inputs) > MOST_INPUTS:
        raise ConfigError(
            f"A model reads one column or a pair of them, not {len(inputs)}.",
            where=f"{rows.source}: {', '.join(inputs)}",
            fix="join columns into one",
        )
    columns = Columns(inputs, target, data.get("group"), data.get("time"))
    require_columns(rows, columns)
    taken = {*target, columns.group, columns.time}
    free = [summary for summary in summaries if summary.name not in taken]
    named = [modality] if modality else list(catalog.members("modality"))
    kinds = [member_of("modality", one) if isinstance(one, str | Mapping) else one for one in named]
    scored = [
        (kind.recognise(summary), summary.name, kind)
        for kind in kinds
        for summary in (free if not inputs else [s for s in summaries if s.name in inputs])
    ]
    best = max(scored, key=lambda one: one[:2], default=(0.0, "", kinds[0]))
    if inputs:
        return replace(columns, modality=best[2])
    if best[0] <= 0:
        if columns.time is not None:
            parse_times(rows, columns.time)  # where it holds none, that is what went wrong
        listed = ", ".join(f"{s.name} ({s.kind})" for s in summaries)
        raise DataError(
            "No column looks like an input that a model could read.",
            where=f"{rows.source}: {listed}",
            fix="name it with --text COLUMN",
        )
    return replace(columns, inputs=(best[1],), modality=best[2])


def likely_target(summaries: list[ColumnSummary]) -> str:
    """The column that looks most like a target, for a message."""
    named = closest("label", [s.name for s in summaries], 1) if len(summaries) > 1 else []
    few = [s.name for s in summaries if 1 < s.distinct <= max(20, s.rows // 10)]
    return (few or named or [s.name for s in summaries])[0]


def find_task(rows: Rows, columns: Columns, named: Any, run: EarlierRun | None = None) -> Task:
    """The task as named, else the one that suits a sample of the targets best; with an earlier run it must be its own.

    Raises:
        ConfigError: the earlier run is of another kind, or the task takes no such targets.
    """
    sampled = rows.select(spread(len(rows), SAMPLE_ROWS))
    if isinstance(named, str) or (named and "name" in named):
        task: Task = member_of("task", named)
        require_single(task, rows, columns)
        return task if run is None else run.suits(task, columns, sampled, named=True)
    sample = next(sampled.batches(columns.target, SAMPLE_ROWS)).column(0).to_pylist()
    values = [value for value in sample if value not in (None, "")]
    scored = {
        name: catalog.find("task", name)().recognise(values, len(columns.target)) for name in catalog.members("task")
    }
    found: Task = member_of("task", {"name": max(scored, key=lambda name: scored[name]), **(named or {})})
    return found if run is None else run.suits(found, columns, sampled, named=bool(named))


def doubtful_task(task: Task, rows: Rows, columns: Columns) -> list[Finding]:
    """A word where the targets suit another task as well, for where nobody named one."""
    if len(columns.target) > 1:
        return []
    sampled = rows.select(spread(len(rows), SAMPLE_ROWS)).values(columns.target[0])
    doubt = task.doubt(sampled)
    if doubt is None:
        return []
    where = f"{rows.source}, column {columns.target[0]!r}"
    return [Finding("task", doubt.level, doubt.message, where, doubt.fix)]


def passed_over(rows: Rows, summaries: list[ColumnSummary], columns: Columns, data: Mapping[str, Any]) -> list[Finding]:
    """A word on a column that could be the input as well as the one that was chosen."""
    if names_of(data.get("inputs")):
        return []
    taken = {*columns.inputs, *columns.target, columns.group, columns.time}
    score = columns.modality.recognise
    best = max(score(one) for one in summaries if one.name in columns.inputs)
    free = [one for one in summaries if one.name not in taken and one.mean_length >= LEAST_LENGTH]
    others = [one.name for one in free if score(one) >= SHARE_OF_BEST * best]
    if not others:
        return []
    listed = ", ".join(map(repr, others[:3])) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    many = columns.modality.nouns[1]
    held = f"{listed} {'holds' if len(others) == 1 else 'hold'} {many} too, and only {columns.inputs[0]!r} is read."
    fix = f"--text {columns.inputs[0]} if that is right, --text with another column, or twice for a pair of {many}"
    return [Finding("columns", "warning", held, rows.source, fix, count=len(others))]


def require_single(task: Task, rows: Rows, columns: Columns) -> None:
    """Refuse several targets a row for a task that learns one.

    Raises:
        ConfigError: there are several columns, or the column holds lists.
    """
    several = len(columns.target) > 1
    if task.kind == "multi-label" or not (several or is_list(rows.table.schema.field(columns.target[0]).type)):
        return
    what = f"{len(columns.target)} target columns" if several else f"lists in {columns.target[0]!r}"
    raise ConfigError(
        f"A {task.kind} has one target a row, and there are {what}.",
        where=f"{rows.source}, task.name",
        fix="name one column that holds single values; labels are learnt where every file holds lists of them",
    )


def separator_of_task(task: Task, rows: Rows, columns: Columns) -> str | None:
    """What stands between the labels of one text, for tasks whose state says so."""
    if task.kind != "multi-label":
        return None
    form = task.prepare(rows, columns)[0].get("form", {})
    found = form.get("separator")
    return None if found is None else str(found)
