"""Rows read, checked and split, with those of earlier runs, before any model is chosen.

Mistakes are found here, before any weight moves: files, columns, targets, and one example walked through every step.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from whet.data.checks import run_checks, view_of
from whet.data.clean import clean
from whet.data.columns import describe_columns, require_columns
from whet.data.fingerprints import input_hashes
from whet.data.markers import is_numeric, markers_missing, spoiled_number
from whet.data.read import Sources, read
from whet.data.rehearse import unwritable
from whet.data.rows import Columns, Finding, Rows, raw_values
from whet.data.split import Split, SplitSettings, split_rows
from whet.earlier import (
    EarlierRun,
    Learnt,
    continued,
    find_run,
    groups_learnt,
    growth_findings,
    learnt_from,
    named_run,
    with_rehearsed,
    with_tests,
)
from whet.errors import ConfigError, DataError, WhetError
from whet.evaluation.metric import Metric
from whet.folder import MODEL
from whet.methods.method import serves
from whet.modalities.modality import Processor
from whet.plan import Auto, EarlierPlan
from whet.recognise import doubtful_task, find_columns, find_task, passed_over, require_single, separator_of_task
from whet.rungs import needs_valid, usual_valid_share
from whet.tasks.own_loss import with_loss
from whet.tasks.task import Growth, State, Task
from whet.wanted import method_of, named_model


@dataclass(frozen=True, eq=False)
class Objects:
    """What a Python caller gives as objects, which a plan file cannot hold.

    Args:
        rows, valid: In memory, in place of files; tests: likewise, by name or as a list.
        metric: A user's own metric in place of a named one.
        loss: A user's own loss: ``loss(outputs (B, K), targets (B, ...)) -> (B,)``.
    """

    rows: Any = None
    valid: Any = None
    tests: Any = None
    metric: Metric | None = None
    loss: Callable[[Any, Any], Any] | None = None


@dataclass(frozen=True, eq=False)
class Checked:
    """Rows after check and split, before any model is chosen.

    Args:
        run: The earlier run that the model is from, if it is from one.
        earlier: That run in the plan; rehearsed: how many rows of an earlier run are in train.
        chain: What that run learnt from, and every run before it; gaps: why that is not known of all of them.
    """

    source: str
    fingerprint: str
    columns: Columns
    task: Task
    split: Split
    findings: tuple[Finding, ...]
    settings: SplitSettings
    run: EarlierRun | None = None
    earlier: EarlierPlan = field(default_factory=EarlierPlan)
    rehearsed: int = 0
    chain: tuple[Learnt, ...] = ()
    gaps: tuple[Finding, ...] = ()

    def taught(self) -> tuple[State, Growth | None, tuple[Finding, ...]]:
        """What training rows and an earlier run taught the task, what becomes of that run's head, and every finding."""
        state, found = self.task.prepare(self.split.train, self.columns)
        growth = continued(self.run, self.task, state)
        if self.run is None or growth is None:
            return state, None, (*self.findings, *found)
        return growth.state, growth, (*self.findings, *found, *growth_findings(self.run, growth))


def check(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Checked:
    """Read, find the columns and the task, clean, split and run every check that needs no model.

    Args:
        wanted: A partial plan.
        objects: Rows and functions that were given as objects.
        scratch: Folder of the sealed targets and of memory-mapped copies.
    """
    found = divide(wanted, objects, scratch)
    checks = run_checks(view_of(found.split, found.columns, found.task.kind, found.settings.separator))
    return with_earlier(replace(found, findings=unique([*found.findings, *checks])), wanted, scratch)


def divide(wanted: Mapping[str, Any], objects: Objects, scratch: Path) -> Checked:
    """``check`` without the checks, and without rows of an earlier run."""
    run = run_of(wanted)
    data: Mapping[str, Any] = wanted.get("data", {})
    given = objects.rows if objects.rows is not None else data.get("source")
    if given is None:
        raise ConfigError("No rows were named.", where="data.source", fix="give a file: whet finetune rows.csv")
    tests = objects.tests if objects.tests is not None else data.get("tests") or ()
    valid = objects.valid if objects.valid is not None else data.get("valid")
    sources = read(given, tests=tests, valid=valid, encoding=data.get("encoding"), spill=scratch / "rows")
    data = data if run is None else run.columns_of(data, sources.train.names)
    named = named_model(wanted.get("model") or {})
    missing = named if named is not None and not Path(named).expanduser().exists() else None
    kind = wanted.get("modality") or (None if run is None else run.modality)
    summaries = describe_columns(sources.train)
    columns = find_columns(sources.train, summaries, data, kind, missing)
    require_columns(sources.train, columns)
    task = with_loss(find_task(sources.train, columns, wanted.get("task"), run), objects.loss)
    for rows in (sources.valid, *sources.tests.values()):
        if rows is not None and set(columns.target) <= set(rows.names):
            require_single(task, rows, columns)
    if task.kind == "regression" or (task.kind == "classification" and is_numeric(sources.train, columns)):
        sources = markers_missing(sources, columns)
    spoiled = spoiled_number(sources.train, columns) if task.kind == "classification" else []
    doubts = [] if run is not None or wanted.get("task") else doubtful_task(task, sources.train, columns)
    findings = [*sources.findings, *spoiled, *doubts, *passed_over(sources.train, summaries, columns, data)]
    sources = clean(sources, columns, several=task.kind == "multi-label")
    findings += [finding for finding in sources.findings if finding not in findings]
    separator = separator_of_task(task, sources.train, columns)
    settings = SplitSettings(
        test_fraction=data.get("test_fraction", 0.2),
        valid_fraction=0.0,
        seed=int(wanted.get("seed", 0)),
        regression=task.kind == "regression",
        separator=separator,
        known=(*(() if run is None else run.state["labels"]), *rehearsed_labels(wanted)),
    )
    if sources.valid is None:
        learning = len(sources.train) if sources.tests else round(len(sources.train) * (1 - settings.test_fraction))
        share = valid_fraction(data, wanted.get("method"), learning, pairs=len(columns.inputs) > 1)
        settings = replace(settings, valid_fraction=share)
    try:
        split = split_rows(sources, columns, settings, sealed_folder=scratch / "sealed")
    except DataError as error:
        if not spoiled:
            raise
        raise DataError(f"{error.what} {spoiled[0].message}", spoiled[0].where, spoiled[0].fix) from error
    findings += list(split.findings)
    name = str(given) if isinstance(given, str | Path) else "rows"
    return Checked(name, fingerprint_of(sources, columns), columns, task, split, unique(findings), settings, run)


def rehearsed_labels(wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """Labels that rows to be rehearsed will bring into train; those that only their run's model knows, they do not."""
    name = (wanted.get("earlier") or {}).get("rehearse")
    state: State = {} if name is None else named_run(name).state
    counts = state.get("counts", ())
    return tuple(label for label, count in zip(state.get("labels", ()), counts, strict=False) if count)


def with_earlier(found: Checked, wanted: Mapping[str, Any], scratch: Path) -> Checked:
    """The rows with those of earlier runs: their test rows to judge by, and a share of training rows to rehearse.

    Raises:
        DataError: rows that are to be rehearsed, or that the plan was made with, have gone or changed.
    """
    given = wanted.get("earlier") or {}
    plan = EarlierPlan(rehearse=given.get("rehearse"), share=float(given.get("share") or 0.0))
    run, split, findings, rehearsed = found.run, found.split, list(found.findings), 0
    chain: tuple[Learnt, ...] = ()
    gaps = lost_link(wanted) if run is None else ()
    if run is not None:
        plan = replace(plan, run=str(run.folder), sha256=run.sha256)
        past, why = past_of(run, given.get("fingerprint"), scratch / "earlier")
        if past is not None:
            plan = replace(plan, fingerprint=past.fingerprint)
            learnt = learnt_from(past.split, past.columns), groups_learnt(past.split, past.columns)
            chain, gaps = (Learnt(run.name, *learnt), *past.chain), past.gaps
            split, said = with_tests(split, found.columns, past.split, past.columns, run, chain)
            findings += said
        elif why is not None:
            gaps = (why,)
    findings += gaps
    if plan.rehearse is not None:
        source = named_run(plan.rehearse)
        past = past_rows(source, given.get("rehearsed") or None, scratch / "rehearsed")
        if past.task.kind != found.task.kind:
            raise ConfigError(
                f"The run {source.name!r} is a {past.task.kind}, and this one is a {found.task.kind}: its rows have "
                "nothing to teach here.",
                where="--rehearse",
                fix="name a run of the same kind, or leave --rehearse out",
            )
        settings = replace(past.settings, seed=found.settings.seed)
        separator = found.settings.separator
        split, rehearsed = with_rehearsed(
            split, found.columns, past.split, past.columns,
            share=plan.share, settings=settings, separator=separator, name=source.name,
        )  # fmt: skip
        if separator not in (None, settings.separator):
            refuse_other_separator(separator_of_task(found.task, split.train, found.columns), str(separator))
        plan = replace(plan, rehearse=str(source.folder), rehearsed=past.fingerprint)
        if not rehearsed:
            findings.append(nothing_to_rehearse(source))
    return replace(
        found, split=split, findings=unique(findings), earlier=plan, rehearsed=rehearsed, chain=chain, gaps=gaps
    )


def past_of(run: EarlierRun, known: str | None, scratch: Path) -> tuple[Checked | None, Finding | None]:
    """The rows of the run that the model is from, or a word on why nothing is judged on them.

    Args:
        known: Their fingerprint where a plan states it, empty where they were gone; None to look for them.
    """
    if known == "":
        return None, unknown_rows(run, "They were not there when the plan was made.", "nothing, or plan anew")
    try:
        return past_rows(run, known, scratch), None
    except WhetError as error:
        if known is not None:
            raise
        return None, unknown_rows(run, error.what, error.fix, error.where)


def unknown_rows(run: EarlierRun, why: str, fix: str, where: str = "") -> Finding:
    """What cannot be said without the rows of an earlier run."""
    message = (
        f"Nothing is judged on the test rows of {run.name}, so forgetting would not show, and test rows that it or a "
        f"run before it learnt from are not known. {why}"
    )
    return Finding("earlier", "warning", message, where or str(run.folder), fix)


def lost_link(wanted: Mapping[str, Any]) -> tuple[Finding, ...]:
    """A word where a plan went on from a run whose folder is gone."""
    model = wanted.get("model") or {}
    if isinstance(model, str) or model.get("origin") != "run" or not model.get("folder"):
        return ()
    folder = Path(model["folder"])
    folder = folder.parent if folder.name == MODEL else folder
    message = f"The run {folder.name} is gone, so test rows that it or a run before it learnt from are not known."
    return (Finding("earlier", "warning", message, str(folder), "put the folder back, or judge on rows that are new"),)


def past_rows(run: EarlierRun, known: str | None, scratch: Path) -> Checked:
    """The rows of an earlier run, divided as they were, with what it rehearsed itself.

    Raises:
        DataError: they are not there any more, or have changed.
    """
    if run.plan is None:
        raise DataError(
            f"Only the model of {run.name} is here, and its rows are not known.",
            where=str(run.folder),
            fix="name the run's folder, where plan.yaml is",
        )
    source, content = run.plan.data.source, run.plan.as_dict()
    if not Path(source).expanduser().exists():
        raise DataError(
            f"The rows of {run.name} are not there any more: {source}.",
            where=str(run.folder),
            fix="put the file back, or run from the folder that it was named from; rows given as objects are not kept",
        )
    found = divide(content, Objects(), scratch)
    if found.fingerprint != run.plan.data.fingerprint or known not in (None, found.fingerprint):
        raise DataError(
            f"The rows of {run.name} have changed since it learnt from them, or some were given as objects.",
            where=source,
            fix="restore the file as it was then",
        )
    return with_earlier(found, content, scratch)


def refuse_other_separator(found: str | None, own: str) -> None:
    """Rehearsed labels may hold what would be taken for another separator of all texts.

    Raises:
        ConfigError: it is another than the new rows' own.
    """
    if found != own:
        raise unwritable("Some labels", own)


def nothing_to_rehearse(run: EarlierRun) -> Finding:
    """No row of the earlier run may be drawn."""
    message = f"No row of {run.name} is rehearsed: each is among the new rows already, or of a group that is held out."
    return Finding("earlier", "info", message, str(run.folder), "nothing, or leave --rehearse out")


def run_of(wanted: Mapping[str, Any]) -> EarlierRun | None:
    """The run that the named model is from; None for any other model."""
    name = named_model(wanted.get("model") or {})
    place = None if name is None else Path(name).expanduser()
    return find_run(place) if place is not None and place.is_dir() else None


def valid_fraction(data: Mapping[str, Any], method: Any, learning: int, *, pairs: bool) -> float:
    """The share of the rows to learn from that is held out to stop and to choose, where the method has a use for it."""
    if "valid_fraction" in data:
        return float(data["valid_fraction"])
    named, share = method_of(method), usual_valid_share(learning)
    useful = (
        needs_valid(named, round(learning * share), learning, pairs=pairs)
        if isinstance(named, Auto)
        else serves(named, round(learning * share))
    )
    return share if useful else 0.0


def fingerprint_of(sources: Sources, columns: Columns) -> str:
    """A hash of everything that was read, and of the files that it names."""
    import xxhash

    digest = xxhash.xxh3_128()
    for rows in (sources.train, sources.valid, *sources.tests.values()):
        if rows is None:
            continue
        digest.update(f"{len(rows)}|{rows.names}".encode())
        for batch in rows.batches(rows.names, 65536):
            digest.update(batch.serialize())
        if columns.modality.by_name:
            digest.update(input_hashes(rows, columns).tobytes())
    return digest.hexdigest()


def unique(findings: list[Finding]) -> tuple[Finding, ...]:
    """Each finding once, in order."""
    return tuple(dict.fromkeys(findings))


def walk(processor: Processor, rows: Rows, columns: Columns) -> tuple[tuple[str, str], ...]:
    """One example through every step; the step that fails is named."""
    value = raw_values(rows, columns, next(rows.batches(columns.inputs, 1)))[0]
    try:
        steps = processor.walk(value)
        processor.collate(processor.encode([value]).inputs)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"The first training example cannot be turned into tensors: {error}",
            where=f"{rows.place(int(rows.ids[0]))}: {str(value)[:80]!r}",
            fix="look at this row, and at what the model reads; --model names another model",
        ) from error
    return tuple(steps)
