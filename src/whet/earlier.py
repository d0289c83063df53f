"""An earlier run that a run goes on from: what its model knows, whether new rows suit it, and its rows among the new.

A folder that holds ``whet.json`` (a run's, or its ``model/``) continues: body and head are the start. Any other model
starts with a new head. Nothing here reads or divides files of rows; ``checking`` does, in the same way for both runs.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from whet import catalog
from whet.backbones.weights import RECORD
from whet.data.clean import counted, some
from whet.data.fingerprints import group_codes, input_hashes, is_in
from whet.data.rehearse import draw_share, in_columns, with_rows
from whet.data.rows import Columns, Finding, Rows
from whet.data.split import Split, SplitSettings, TestSet, strata_of
from whet.deploy.predictor import Predictor, modality_of, read_record
from whet.errors import ConfigError, DataError, ModelError
from whet.folder import MODEL, PLAN, refuse_unfinished
from whet.modalities.modality import Modality
from whet.plan import EarlierPlan, Plan
from whet.tasks.predictions import Predictions
from whet.tasks.task import Growth, State, Task

Array = np.ndarray[Any, Any]
FADING = "still answers {0}, but what it knows of {0} may fade"


@dataclass(frozen=True, eq=False)
class EarlierRun:
    """A packaged model, and the plan of the run that made it.

    Args:
        folder: Of the run, or of its model where nothing else is there.
        model: The folder with ``whet.json``; record: what that states.
        plan: None where there is none.
    """

    folder: Path
    model: Path
    record: Mapping[str, Any]
    plan: Plan | None

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def sha256(self) -> str:
        """A hash of what the model is said to answer; its weights are hashed elsewhere."""
        text = json.dumps(self.record, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def task(self) -> Task:
        task: Task = catalog.find("task", self.record["task"]["name"])(**self.record["task"]["settings"])
        return task

    @property
    def state(self) -> State:
        return dict(self.record["state"])

    @property
    def modality(self) -> Modality:
        """What it reads."""
        return modality_of(self.model)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self.record["columns"]["inputs"])

    @property
    def target(self) -> tuple[str, ...]:
        return tuple(self.record["columns"]["target"])

    @property
    def base(self) -> str:
        """The pre-trained model that the first of a chain of runs began with; this run's name where it is not known."""
        if self.plan is None:
            return self.name
        folder = Path(self.plan.model.folder)
        before = find_run(folder) if self.plan.model.origin == "run" and folder.is_dir() else None
        if before is not None:
            return before.base
        return self.plan.model.name if self.plan.model.origin != "folder" else folder.name

    @property
    def metric(self) -> str | None:
        """What judged it, where that has a name."""
        name = None if self.plan is None else self.plan.evaluation.metric
        return name if name in catalog.members("metric") else None

    def columns_of(self, data: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        """The data part with the columns that this run read, where none are named and the new rows have them too."""
        own = {"inputs": self.inputs, "target": self.target}
        return dict(data) | {
            part: columns for part, columns in own.items() if not data.get(part) and set(columns) <= set(names)
        }

    def family(self, given: Any) -> dict[str, Any]:
        """The family and its settings as this run had them, but for the attention kernel, which this machine chooses.

        Raises:
            ConfigError: another family or another kind of head is asked for.
        """
        asked = {"name": given} if isinstance(given, str) else dict(given or {})
        settings = {key: value for key, value in self.record["family"]["settings"].items() if key != "attention"}
        own = {"name": self.record["family"]["name"], **settings}
        for part in ("name", "head"):
            if part in asked and asked[part] != own.get(part):
                raise ConfigError(
                    f"The model of the run {self.name!r} has the {part} {own.get(part)!r}, not {asked[part]!r}.",
                    where=f"backbone.{part}",
                    fix="leave it out to go on from this run, or start from a pre-trained model",
                )
        return own | asked

    def suits(self, task: Task, columns: Columns, some_rows: Rows, *, named: bool) -> Task:
        """The task of a run that goes on from this one.

        Args:
            task: What the new rows look like, or what was named.

        Raises:
            ConfigError: it is of another kind, or the number of inputs differs.
        """
        if len(columns.inputs) != len(self.inputs):
            given = counted(len(columns.inputs), "input column", "input columns")
            raise ConfigError(
                f"The run {self.name!r} reads {counted(len(self.inputs), 'text', 'texts')} a row, and {given} "
                f"{'is' if len(columns.inputs) == 1 else 'are'} named: {', '.join(map(repr, columns.inputs))}.",
                where="model",
                fix="name as many with --text, in the same order, or start from a pre-trained model",
            )
        if task.kind == self.task.kind:
            return task if named else self.task
        if not named and self._knows(some_rows, columns):
            return self.task
        raise ConfigError(
            f"The run {self.name!r} is a {self.task.kind}, and the target {', '.join(map(repr, columns.target))} is "
            f"taken for a {task.kind}: a head for one cannot go on as a head for the other.",
            where="model",
            fix=f"name another --target, add --set task.name={self.record['task']['name']} if the target is meant so, "
            "or start from a pre-trained model",
        )

    def _knows(self, rows: Rows, columns: Columns) -> bool:
        """Whether one of these rows has a label of this run; never where one column stands against several."""
        if self.task.kind == "regression" or len(columns.target) != len(self.target):
            return False
        try:
            found = self.task.encode_targets(rows, columns, self.state)
        except DataError:
            return False
        return bool((found > 0).any() or (found.ndim == 1 and (found >= 0).any()))


@dataclass(frozen=True, eq=False)
class Answers:
    """The earlier model as a learner that was fitted long ago, for rows with the columns of the new run."""

    run: EarlierRun
    columns: Columns
    device: str

    @cached_property
    def predictor(self) -> Predictor:
        return Predictor.load(self.run.model, device=self.device)

    def predict(self, rows: Rows) -> Predictions:
        return self.predictor.answer(in_columns(rows, self.columns, self.predictor.columns))


def find_run(place: Path) -> EarlierRun | None:
    """The run in a folder, or the one that a model folder belongs to; None if whet packaged nothing there.

    Raises:
        RunError: the run never finished, so there is no model.
        ModelError: ``whet.json`` is damaged or of a later whet.
    """
    inside = place / MODEL
    model = place if (place / RECORD).is_file() else inside
    if not (model / RECORD).is_file():
        refuse_unfinished(place)
        return None
    run = model.resolve().parent if (model.resolve().parent / PLAN).is_file() else model.resolve()
    plan = Plan.read(run / PLAN) if (run / PLAN).is_file() else None
    return EarlierRun(run, model.resolve(), read_record(model), plan)


def named_run(name: str) -> EarlierRun:
    """The run whose rows are to be rehearsed.

    Raises:
        ConfigError: it is no run, or has no plan.
    """
    found = find_run(Path(name).expanduser())
    if found is None or found.plan is None:
        raise ConfigError(
            f"There is no run in {name!r}" + ("." if found is None else ", only a model: its rows are not known."),
            where="--rehearse",
            fix="name a run folder; `whet runs` lists those that are here",
        )
    return found


def continued(run: EarlierRun | None, task: Task, state: State) -> Growth | None:
    """The state that knows what the earlier run knew too, and what becomes of its head; None without such a run."""
    return None if run is None else task.grow(state, run.state)


def growth_findings(run: EarlierRun, growth: Growth) -> list[Finding]:
    """What is new to the earlier model, and what it knows that no row teaches any more."""
    known = len(growth.matrix[0])
    found = []
    if growth.added:
        many = counted(len(growth.added), "class is", "classes are")
        found.append(
            Finding(
                "earlier",
                "info",
                f"{many} new to the model of {run.name}: {some(list(growth.added))}. The head grows by as many rows; "
                "the earlier model misses their test rows.",
                where=str(run.folder),
                fix="nothing, if they are meant to be new; otherwise spell them as the earlier run did",
                count=len(growth.added),
            )
        )
    if growth.absent:
        many = f"{len(growth.absent):,} of the {known:,} classes that the model of {run.name} knows"
        have = "has" if len(growth.absent) == 1 else "have"
        found.append(
            Finding(
                "earlier",
                "warning",
                f"{many} {have} no row to learn from: {some(list(growth.absent))}. The model "
                + FADING.format("it" if len(growth.absent) == 1 else "them")
                + ".",
                where=str(run.folder),
                fix="mix rows of the earlier run in with --rehearse RUN 0.2, and look at the verdict on its test rows",
                count=len(growth.absent),
            )
        )
    return found


def growth_words(growth: Growth | None, rehearsed: int, share: float, name: str) -> str:
    """What an earlier run brings, in a few words for the plan."""
    words = []
    if growth is not None and growth.state.get("labels"):
        words.append(
            f"a head of {len(growth.matrix[0])} classes" + f" and {len(growth.added)} new" * bool(growth.added)
        )
        words += [f"{len(growth.absent)} of them without new rows"] if growth.absent else []
    elif growth is not None:
        words.append("its head")
    if rehearsed:
        words.append(f"{rehearsed:,} rows of {name} rehearsed ({share:.0%} of its training rows)")
    return " · ".join(words)


def refuse_other_record(run: EarlierRun | None, plan: EarlierPlan) -> None:
    """A plan names the earlier model that it was made for.

    Raises:
        ModelError: what the model is said to answer has changed.
    """
    if plan.run is not None and (run is None or run.sha256 != plan.sha256):
        raise ModelError(
            "The model of the earlier run is not that of the plan.",
            where=plan.run,
            fix="restore the run, or start a new one without --resume and --plan",
        )


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a run learnt from, and its name.

    Shapes:
        hashes: (N,) uint64 of the inputs; groups: (G,) int64 codes of the groups, where rows had any.
    """

    run: str
    hashes: Array
    groups: Array = field(default_factory=lambda: np.zeros(0, np.int64))


def learnt_from(split: Split, columns: Columns) -> Array:
    """(N,) uint64: hashes of every input that is no test row."""
    return np.concatenate([input_hashes(rows, columns) for rows in (split.train, split.valid) if rows is not None])


def groups_learnt(split: Split, columns: Columns) -> Array:
    """(G,) int64: codes of the groups that have a row that is no test row."""
    return groups_of([rows for rows in (split.train, split.valid) if rows is not None], columns)


def groups_held(split: Split, columns: Columns) -> Array:
    """(G,) int64: codes of the groups that have a validation or test row."""
    units = [test.units for test in split.tests.values() if test.units is not None]
    held = np.unique(np.concatenate([groups_of([split.valid] if split.valid is not None else [], columns), *units]))
    return held[held >= 0]


def groups_of(parts: Sequence[Rows], columns: Columns) -> Array:
    """(G,) int64: codes of the groups of some rows; those without a group have no part in it."""
    codes = [group_codes(rows, columns) for rows in parts if columns.group is not None and columns.group in rows.names]
    found = np.unique(np.concatenate([np.zeros(0, np.int64), *codes]))
    return found[found >= 0]


def with_tests(
    split: Split, columns: Columns, past: Split, own: Columns, run: EarlierRun, chain: Sequence[Learnt]
) -> tuple[Split, list[Finding]]:
    """The split with the test sets of an earlier run, and what the two runs have seen of each other's test rows.

    Args:
        past: The earlier run's rows, divided as they were; own: its columns.
        chain: What it learnt from, and every run before it: the model has seen all of that.
    """
    ours, our_groups = learnt_from(split, columns), groups_learnt(split, columns)
    tests, findings = dict[str, TestSet](), list[Finding]()
    for name, test in split.tests.items():
        hashes, leaked = input_hashes(test.rows, columns), test.leaked
        for one in chain:
            seen = is_in(hashes, one.hashes)
            text = f"a text that {one.run} learnt from: the model has seen them"
            group = f"a group that {one.run} learnt from: the model has seen others of it"
            findings += seen_finding(name, test.rows, seen, text)
            findings += seen_finding(name, test.rows, of_groups(test, one.groups), group)
            leaked = np.union1d(leaked, test.rows.ids[seen])
        tests[name] = replace(test, leaked=leaked)
    for name, test in past.tests.items():
        rows = in_columns(test.rows, own, columns)
        seen = is_in(input_hashes(rows, columns), ours)
        called = name if test.origin else f"{name} of {run.name}"
        while called in tests:
            called += "*"
        findings += seen_finding(called, rows, seen, "a text that is also in the new train or valid")
        group = "a group that is also in the new train or valid"
        findings += seen_finding(called, rows, of_groups(test, our_groups), group)
        leaked = np.union1d(test.leaked, rows.ids[seen])
        form = test.form if test.origin else run.state.get("form")
        tests[called] = replace(test, name=called, rows=rows, leaked=leaked, origin=test.origin or run.name, form=form)
    how = f"{split.how} Judged on the test rows of {run.name} too."
    return replace(split, tests=tests, how=how), findings


def of_groups(test: TestSet, groups: Array) -> Array:
    """(N,) bool: which test rows are of these groups; none where they have no groups."""
    return np.zeros(len(test.rows), bool) if test.units is None else np.isin(test.units, groups)


def seen_finding(name: str, rows: Rows, seen: Array, what: str) -> list[Finding]:
    """A word on test rows whose text or group was learnt from."""
    ids = rows.ids[seen]
    if not len(ids):
        return []
    return [
        Finding(
            "leakage",
            "warning",
            f"{len(ids):,} of {len(rows):,} rows of {name} have {what}.",
            where=rows.place(int(ids[0])),
            fix="remove them from one side; the score of these rows is too good to be true",
            count=len(ids),
        )
    ]


def with_rehearsed(
    split: Split,
    columns: Columns,
    past: Split,
    own: Columns,
    *,
    share: float,
    settings: SplitSettings,
    separator: str | None,
    name: str,
) -> tuple[Split, int]:
    """The split with a share of an earlier run's training rows at the end of its own; how many there are.

    Rows whose text is anywhere among the new rows are left out: twice in train, or on both sides of the split, they
    would do harm. So are rows of groups that are held out. Test and validation rows stay what they were.

    Args:
        settings: How the earlier rows were divided; separator: what stands between the labels of one new text.

    Raises:
        ConfigError: the rows cannot be laid under each other.
    """
    if (
        len(own.inputs) != len(columns.inputs)
        or len(own.target) != len(columns.target)
        or (len(columns.target) > 1 and own.target != columns.target)
    ):
        raise ConfigError(
            f"The rows of the run {name!r} have other columns ({', '.join((*own.inputs, *own.target))}) than the new "
            f"ones ({', '.join((*columns.inputs, *columns.target))}).",
            where="--rehearse",
            fix="rehearse a run with as many inputs and the same target, or leave --rehearse out",
        )
    parts = [split.train, *([split.valid] if split.valid is not None else [])]
    taken = [input_hashes(rows, columns) for rows in (*parts, *(test.rows for test in split.tests.values()))]
    strata = strata_of(past.train, own, settings)
    barred = np.zeros(len(past.train), bool)
    if columns.group and own.group:
        barred = np.isin(group_codes(past.train, own), groups_held(split, columns))
    drawn = draw_share(past.train, own, strata, share, settings.seed, np.concatenate(taken), barred)
    if not len(drawn):
        return split, 0
    drawn_valid = split.valid is not None and split.valid.table is split.train.table
    separators = (separator, settings.separator)
    train, *more = with_rows(parts if drawn_valid else parts[:1], past.train.select(drawn), own, columns, separators)
    valid = more[0] if drawn_valid else split.valid
    everything = train.at(np.concatenate([train.ids, more[-1].ids]))
    but = ", but none of a group that is held out" if barred.any() else ""
    how = f"{split.how} Train has {len(drawn):,} rows of {name} besides, {share:.0%} of each class{but}."
    return replace(split, train=everything, valid=valid, how=how), len(drawn)
